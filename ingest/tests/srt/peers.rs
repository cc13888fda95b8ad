//! Other implementations of SRT publish and read: srt-live-transmit and GStreamer on Debian's libsrt
//! 1.5.1, and FFmpeg 9 with a newer one of its own; plain and encrypted, in both spellings of the
//! stream id.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::node::{Node, PATIENCE, PUBLISH_SECRET, READ_SECRET, clip, pictures, run};

/// Pictures that a reader has to get.
const WANTED: u64 = 50;

/// Runs a line of the shell; it is killed when it is dropped.
fn spawn(program: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().expect("the program is missing: run ./x test")
}

fn ffmpeg_9() -> PathBuf {
    let python = std::env::var("MILLSTREAM_TEST_PYTHON").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../.deps/python/bin/python").to_owned()
    });
    let code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    let said = std::process::Command::new(python).args(["-c", code]).output();
    let said = said.expect("Python with imageio-ffmpeg is missing: run ./x test");
    String::from_utf8(said.stdout).unwrap().trim().into()
}

/// Options for a passphrase, as they are put behind an address.
fn secret(stream: &str, passphrase: &str) -> String {
    let with = || format!("&passphrase={passphrase}&pbkeylen=24");
    if stream.starts_with("secret") { with() } else { String::new() }
}

/// Waits until a file holds so many pictures.
async fn until_pictures(path: &Path, count: u64) {
    let filled = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let line = format!(
                "-v quiet -count_frames -select_streams v:0 -show_entries stream=nb_read_frames \
                 -of csv=p=0 {}",
                path.display()
            );
            let probed = run("ffprobe", &line).await;
            let text = String::from_utf8_lossy(&probed.stdout).into_owned();
            let digits = text.split(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty());
            if digits.and_then(|word| word.parse().ok()) >= Some(count) {
                return;
            }
        }
    };
    let came = tokio::time::timeout(PATIENCE, filled).await;
    assert!(came.is_ok(), "{count} pictures never came to {}", path.display());
}

/// A publisher that goes on until it is dropped.
async fn publisher(node: &Node, dir: &Path, stream: &str) -> tokio::task::JoinHandle<()> {
    let path = dir.join("published.ts");
    clip(&path).await;
    let line = format!(
        "-v error -re -stream_loop 50 -i {} -c copy -f mpegts srt://{}?streamid=publish:{stream}{}",
        path.display(),
        node.addr,
        secret(stream, PUBLISH_SECRET)
    );
    let push = tokio::spawn(async move {
        let args: Vec<&str> = line.split(' ').collect();
        let _ = spawn(Path::new("ffmpeg"), &args).wait().await;
    });
    drop(node.reader(stream).await);
    push
}

/// A program reads a stream into a file.
async fn reads(stream: &str, reader: impl FnOnce(&Node, &Path) -> Child) {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let push = publisher(&node, dir.path(), stream).await;
    let got = dir.path().join("got.ts");
    let mut player = reader(&node, &got);
    until_pictures(&got, WANTED).await;
    let listed = node.connections.list();
    let figures = listed.iter().find(|(status, _)| status.state.as_str() == "read").unwrap().1;
    assert!(figures.packets_sent_unique > 50 && figures.packets_received_ack > 0, "{figures:?}");
    player.kill().await.unwrap();
    push.abort();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srt_live_transmit_publishes() {
    live_transmit_publishes("cam", "publish:cam").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srt_live_transmit_publishes_encrypted_by_access_control() {
    live_transmit_publishes("secret", "#!::m=publish,r=secret").await;
}

/// ffmpeg plays a clip in real time into srt-live-transmit's input.
async fn live_transmit_publishes(stream: &str, id: &str) {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    clip(&path).await;
    let url = format!("srt://{}?streamid={id}{}", node.addr, secret(stream, PUBLISH_SECRET));
    let mut transmit = spawn(Path::new("srt-live-transmit"), &["-a:no", "file://con", &url]);
    let mut input = transmit.stdin.take().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let feed = tokio::spawn(async move {
        // Four seconds of clip in four seconds.
        for part in bytes.chunks(bytes.len().div_ceil(200)) {
            input.write_all(part).await.unwrap();
            input.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Its last packets are on their way for the latency.
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    let reader = node.reader(stream).await;
    let count = tokio::spawn(pictures(reader));
    feed.await.unwrap();
    transmit.kill().await.unwrap();
    // It sends 1,316 bytes at a time: the last ones of the file stay in it.
    let count = count.await.unwrap();
    assert!((90..=100).contains(&count), "{count} pictures of 100");
    assert_eq!(node.counters.snapshot().lost, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srt_live_transmit_reads() {
    reads("cam", |node, path| live_transmit_reads(node, path, "cam", "read:cam")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn srt_live_transmit_reads_encrypted_by_access_control() {
    reads("secret", |node, path| live_transmit_reads(node, path, "secret", "#!::r=secret")).await;
}

fn live_transmit_reads(node: &Node, path: &Path, stream: &str, id: &str) -> Child {
    let url = format!("srt://{}?streamid={id}{}", node.addr, secret(stream, READ_SECRET));
    let mut command = Command::new("srt-live-transmit");
    command.args(["-a:no", &url, "file://con"]).stdin(Stdio::null());
    command.stdout(std::fs::File::create(path).unwrap()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().expect("srt-tools are missing: run ./x test")
}

/// GStreamer's options of the same.
fn gstreamer_secret(stream: &str, passphrase: &str) -> String {
    let with = || format!("passphrase={passphrase} pbkeylen=24");
    if stream.starts_with("secret") { with() } else { String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_srtsink_publishes() {
    gstreamer_publishes("cam", "publish:cam").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_srtsink_publishes_encrypted_by_access_control() {
    gstreamer_publishes("secret", "#!::m=publish,r=secret").await;
}

async fn gstreamer_publishes(stream: &str, id: &str) {
    let node = Node::start(|_| {}).await;
    let line = format!(
        "-q mpegtsmux name=m alignment=7 ! srtsink uri=srt://{} streamid={id} {} \
         wait-for-connection=true \
         videotestsrc num-buffers=75 is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 \
         ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=25 ! h264parse ! m. \
         audiotestsrc num-buffers=140 is-live=true ! audio/x-raw,rate=48000,channels=2 \
         ! avenc_aac ! aacparse ! m.",
        node.addr,
        gstreamer_secret(stream, PUBLISH_SECRET)
    );
    let push = tokio::spawn(async move { run("gst-launch-1.0", &line).await });
    let count = pictures(node.reader(stream).await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What it had not sent when it ended is lost: it does not linger.
    assert!((50..=75).contains(&count), "{count} pictures of 75");
    assert_eq!(node.counters.snapshot().lost, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_srtsrc_reads() {
    reads("cam", |node, path| gstreamer_reads(node, path, "cam", "read:cam")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_srtsrc_reads_encrypted_by_access_control() {
    reads("secret", |node, path| gstreamer_reads(node, path, "secret", "#!::r=secret")).await;
}

fn gstreamer_reads(node: &Node, path: &Path, stream: &str, id: &str) -> Child {
    let line = format!(
        "-q srtsrc uri=srt://{} streamid={id} {} ! filesink buffer-mode=unbuffered location={}",
        node.addr,
        gstreamer_secret(stream, READ_SECRET),
        path.display()
    );
    spawn(Path::new("gst-launch-1.0"), &line.split_whitespace().collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_9_publishes_and_reads_h264() {
    ffmpeg_9_publishes("cam", "publish:cam", "-c:v libx264 -preset veryfast -c:a aac").await;
    reads("cam", |node, path| ffmpeg_9_reads(node, path, "cam", "read:cam")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_9_publishes_and_reads_encrypted_by_access_control() {
    let encoders = "-c:v libx264 -preset veryfast -c:a aac";
    ffmpeg_9_publishes("secret", "%23!::m=publish,r=secret", encoders).await;
    reads("secret", |node, path| ffmpeg_9_reads(node, path, "secret", "%23!::r=secret")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_9_publishes_hevc_with_opus() {
    let encoders = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25 \
                    -c:a libopus";
    ffmpeg_9_publishes("cam", "publish:cam", encoders).await;
}

async fn ffmpeg_9_publishes(stream: &str, id: &str, encoders: &str) {
    let node = Node::start(|_| {}).await;
    let line = format!(
        "-v error -re -f lavfi -i testsrc2=size=320x180:rate=25 \
         -re -f lavfi -i sine=sample_rate=48000 -t 3 {encoders} -pix_fmt yuv420p -g 25 \
         -f mpegts srt://{}?streamid={id}&linger=2{}",
        node.addr,
        secret(stream, PUBLISH_SECRET)
    );
    let program = ffmpeg_9();
    let push = tokio::spawn(async move { run(program.to_str().unwrap(), &line).await });
    let count = pictures(node.reader(stream).await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It closes without waiting for what is still on its way.
    assert!((65..=75).contains(&count), "{count} pictures of 75");
    assert_eq!(node.counters.snapshot().lost, 0);
    node.stop().await;
}

fn ffmpeg_9_reads(node: &Node, path: &Path, stream: &str, id: &str) -> Child {
    let line = format!(
        "-v error -y -i srt://{}?streamid={id}{} -c copy -flush_packets 1 -f mpegts {}",
        node.addr,
        secret(stream, READ_SECRET),
        path.display()
    );
    spawn(&ffmpeg_9(), &line.split_whitespace().collect::<Vec<_>>())
}
