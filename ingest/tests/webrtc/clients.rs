//! FFmpeg publishes and aiortc watches; `./x test` installs both. Without them these tests fail and say so.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::harness::Node;

/// Python with aiortc and FFmpeg 9.
fn python() -> PathBuf {
    let named = std::env::var_os("MILLSTREAM_TEST_PYTHON").filter(|value| !value.is_empty());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/python/bin/python");
    let path = named.map_or(own, PathBuf::from);
    assert!(path.exists(), "Python with aiortc is missing at {}: run ./x test", path.display());
    path
}

async fn ffmpeg(python: &Path) -> PathBuf {
    let code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    let output = Command::new(python).args(["-c", code]).output().await.unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

async fn serve(node: &Node) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = node.server.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn publish(ffmpeg: &Path, url: &str, flags: &[&str]) -> Child {
    let source = ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-f", "lavfi", "-i"];
    let coding = "-pix_fmt yuv420p -c:v libx264 -profile:v baseline -preset ultrafast -tune \
                  zerolatency -g 30 -c:a libopus -ar 48000 -ac 2 -f whip";
    Command::new(ffmpeg)
        .args(["-hide_banner", "-loglevel", "warning", "-re"])
        .args(source)
        .arg("sine=r=48000")
        .args(coding.split_whitespace())
        .args(flags)
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

const WATCH: &str = r#"
import asyncio, sys, aiohttp
from aiortc import RTCPeerConnection, RTCSessionDescription
async def main(url, wanted):
    pc = RTCPeerConnection()
    got = {"video": 0, "audio": 0}
    done = asyncio.Event()
    async def read(track):
        last = None
        while True:
            frame = await track.recv()
            assert last is None or frame.pts > last, (track.kind, last, frame.pts)
            last = frame.pts
            got[track.kind] += 1
            if min(got.values()) >= wanted: done.set()
    tasks = []
    pc.on("track", lambda track: tasks.append(asyncio.ensure_future(read(track))))
    pc.addTransceiver("video", direction="recvonly")
    pc.addTransceiver("audio", direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    async with aiohttp.ClientSession() as http:
        sdp = {"Content-Type": "application/sdp"}
        async with http.post(url, data=pc.localDescription.sdp, headers=sdp) as answer:
            text = await answer.text()
            assert answer.status == 201, text
            location = answer.headers["Location"]
        await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
        await asyncio.wait_for(done.wait(), 20)
        from urllib.parse import urljoin
        async with http.delete(urljoin(url, location)) as answer:
            assert answer.status == 200
    print("got", got["video"], got["audio"])
    await pc.close()
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"#;

const ASK: &str = r#"
import asyncio, sys, aiohttp
from urllib.parse import urljoin
from aiortc import RTCPeerConnection, RTCSessionDescription
async def main(url):
    pc = RTCPeerConnection()
    pc.addTransceiver("video", direction="recvonly")
    channel = pc.createDataChannel("millstream")
    other = pc.createDataChannel("chat")
    heard, opened, closed = asyncio.Queue(), asyncio.Event(), asyncio.Event()
    channel.on("open", opened.set)
    channel.on("message", heard.put_nowait)
    other.on("close", closed.set)
    await pc.setLocalDescription(await pc.createOffer())
    async with aiohttp.ClientSession() as http:
        sdp = {"Content-Type": "application/sdp"}
        async with http.post(url, data=pc.localDescription.sdp, headers=sdp) as answer:
            text = await answer.text()
            assert answer.status == 201, text
            location = answer.headers["Location"]
        await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
        await asyncio.wait_for(opened.wait(), 10)
        await asyncio.wait_for(closed.wait(), 10)
        for length in (0, 1, 1000, 65536 - len("cam viewer true ")):
            channel.send("x" * length)
            answer = await asyncio.wait_for(heard.get(), 10)
            assert answer == "cam viewer true " + "x" * length, answer[:100]
        channel.close()
        again = pc.createDataChannel("millstream")
        again.on("message", heard.put_nowait)
        opened.clear()
        again.on("open", opened.set)
        await asyncio.wait_for(opened.wait(), 10)
        again.send("again")
        assert await asyncio.wait_for(heard.get(), 10) == "cam viewer true again"
        async with http.delete(urljoin(url, location)) as answer:
            assert answer.status == 200
    await pc.close()
asyncio.run(main(sys.argv[1]))
"#;

#[tokio::test]
async fn aiortc_asks_on_a_data_channel() {
    let python = python();
    let node = Node::new();
    node.server.answer_messages(std::sync::Arc::new(crate::channels::Echo));
    let address = serve(&node).await;
    let _source = node.publish("cam");
    let asker = Command::new(&python)
        .args(["-c", ASK, &format!("http://{address}/cam/whep")])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), asker).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    node.until_empty().await;
}

async fn ffmpeg_to_aiortc(flags: &[&str]) {
    let python = python();
    let node = Node::new();
    let address = serve(&node).await;
    let publisher = publish(&ffmpeg(&python).await, &format!("http://{address}/cam/whip"), flags);
    node.until("FFmpeg publishes", |_| node.hub.list().iter().any(|s| s.frames > 5)).await;
    let watcher = Command::new(&python)
        .args(["-c", WATCH, &format!("http://{address}/cam/whep"), "60"])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), watcher).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    node.until("the viewer is gone", |sessions| sessions.len() == 1).await;
    drop(publisher);
}

#[tokio::test]
async fn ffmpeg_publishes_as_dtls_server_and_aiortc_watches() {
    ffmpeg_to_aiortc(&[]).await;
}

#[tokio::test]
async fn ffmpeg_publishes_as_dtls_client_and_aiortc_watches() {
    ffmpeg_to_aiortc(&["-whip_flags", "dtls_active"]).await;
}
