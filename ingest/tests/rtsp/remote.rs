//! Streams pulled from cameras and pushed to other servers: gst-rtsp-server, ffmpeg as a server, and
//! ourselves.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ingest::StreamName;
use ingest::hub::{Hub, Item, Limits, Start};
use ingest::remote::{Ended, Error, Options, Sink, State, Status, Target, Transport};
use ingest::rtsp::{pull, push};
use pipeline::{Codec, TrackKind};
use tempfile::tempdir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::harness::*;

/// A hub with an end that writes into it, or reads from it.
struct Far {
    hub: Hub,
    status: Status,
    stop: CancellationToken,
    task: JoinHandle<Result<Ended, Error>>,
}

impl Far {
    fn pulling(url: &str, transport: Transport) -> Self {
        let hub = Hub::new(Limits::default());
        let (status, stop) = (Status::default(), CancellationToken::new());
        let name = StreamName::parse("pulled").unwrap();
        let sink = Sink::new(hub.clone(), name, false, status.clone());
        let (target, until) = (Target::parse(url).unwrap(), stop.clone());
        let options = Options { transport, ..Options::default() };
        let task = tokio::spawn(async move { pull(&target, &options, &sink, &until).await });
        Self { hub, status, stop, task }
    }

    fn pushing(hub: &Hub, stream: &str, url: &str) -> Self {
        let (status, stop) = (Status::default(), CancellationToken::new());
        let name = StreamName::parse(stream).unwrap();
        let reader = hub.subscribe(&name, Start::LastKey).unwrap();
        let (target, until) = (Target::for_push(url).unwrap(), stop.clone());
        let told = status.clone();
        let task =
            tokio::spawn(
                async move { push(&target, &Options::default(), reader, &told, &until).await },
            );
        Self { hub: hub.clone(), status, stop, task }
    }

    /// Codecs of picture and sound, once so many frames of both have come.
    async fn frames(&self, wanted: usize) -> [Option<Codec>; 2] {
        let name = StreamName::parse("pulled").unwrap();
        let reader = self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await;
        let mut reader = reader.expect("the stream comes");
        let (mut codecs, mut counts, mut last) = ([None, None], [0; 2], [i64::MIN; 2]);
        while counts.iter().any(|count| *count < wanted) {
            match tokio::time::timeout(PATIENCE, reader.next()).await.expect("frames come") {
                Item::Tracks(tracks) => {
                    codecs = [
                        tracks.video.as_ref().map(|track| track.codec),
                        tracks.audio.as_ref().map(|track| track.codec),
                    ];
                }
                Item::Packet(packet) => {
                    let at = usize::from(packet.kind == TrackKind::Audio);
                    assert!(packet.dts.0 > last[at], "times rise");
                    last[at] = packet.dts.0;
                    counts[at] += 1;
                }
                Item::Lagged(count) => panic!("{count} lost"),
                Item::End => panic!("the stream has ended after {counts:?}"),
            }
        }
        assert_eq!(self.status.state(), State::Running);
        assert!(self.status.snapshot().bytes > 1000);
        codecs
    }

    async fn ended(self) -> Result<Ended, Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap()
    }

    async fn stopped(self) {
        self.stop.cancel();
        assert!(matches!(self.ended().await, Ok(Ended::Stopped)));
    }
}

/// A camera on gst-rtsp-server that asks for passwords in this way, and where it is.
async fn camera(method: &str) -> (Child, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rtsp/camera.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(method).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    let port = port.expect("gir1.2-gst-rtsp-server-1.0 and python3-gi are missing: run ./x test");
    (child, format!("127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_camera_is_pulled_with_its_password_proven_over_tcp_and_udp() {
    let (_camera, place) = camera("digest").await;
    let url = format!("rtsp://admin:secret@{place}/cam");
    for transport in [Transport::Tcp, Transport::Udp, Transport::Automatic] {
        let far = Far::pulling(&url, transport);
        assert_eq!(far.frames(25).await, [Some(Codec::H264), Some(Codec::G711A)]);
        far.stopped().await;
    }
    for wrong in ["admin:wrong@", ""] {
        let far = Far::pulling(&format!("rtsp://{wrong}{place}/cam"), Transport::Tcp);
        let error = far.ended().await.unwrap_err();
        assert!(matches!(error, Error::Refused { what: "DESCRIBE", .. }), "{error}");
        assert!(!error.to_string().contains("wrong@"), "{error}");
    }
}

#[tokio::test]
async fn a_camera_is_pulled_with_its_password_sent() {
    let (_camera, place) = camera("basic").await;
    let url = format!("rtsp://admin:secret@{place}");
    for (path, codecs) in
        [("hevc", [Codec::Hevc, Codec::Aac]), ("opus", [Codec::H264, Codec::Opus])]
    {
        for transport in [Transport::Tcp, Transport::Udp] {
            let far = Far::pulling(&format!("{url}/{path}"), transport);
            assert_eq!(far.frames(25).await, codecs.map(Some));
            far.stopped().await;
        }
    }
}

#[tokio::test]
async fn what_ffmpeg_publishes_here_is_pulled_from_here_and_its_end_is_the_end() {
    let (node, dir) = (Node::with_access(|_| {}, Arc::new(Password)).await, tempdir().unwrap());
    for (codecs, wanted) in [
        ("-c:v libx264 -preset veryfast -bf 2 -c:a aac", [Codec::H264, Codec::Aac]),
        (
            "-c:v libx265 -preset ultrafast -x265-params log-level=error -c:a libopus",
            [Codec::Hevc, Codec::Opus],
        ),
    ] {
        let clip = clip(dir.path(), wanted[0].name(), codecs).await;
        let url = format!("rtsp://tom:secret@{}/cam", node.addr);
        let line = format!(
            "-v warning -re -stream_loop -1 -i {} -c copy -f rtsp -rtsp_transport tcp {url}",
            clip.display()
        );
        let sending = spawn(FFMPEG_5, &line);
        drop(node.reader("cam").await);
        let far = Far::pulling(&url, Transport::Automatic);
        assert_eq!(far.frames(40).await, wanted.map(Some));
        drop(sending);
        assert!(far.ended().await.is_ok_and(|ended| ended == Ended::ByPeer));
        node.connected(0).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_source_that_is_away_or_silent_leaves_the_name_free() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = closed.local_addr().unwrap();
    drop(closed);
    let far = Far::pulling(&format!("rtsp://{addr}/cam"), Transport::Automatic);
    let hub = far.hub.clone();
    assert!(far.ended().await.is_err());
    assert!(hub.list().is_empty());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (status, stop) = (Status::default(), CancellationToken::new());
    let name = StreamName::parse("pulled").unwrap();
    let sink = Sink::new(hub.clone(), name, false, status);
    let url = format!("rtsp://{}/cam", silent.local_addr().unwrap());
    let limit = Duration::from_millis(200);
    let options = Options { connect_timeout: limit, ..Options::default() };
    let ended = pull(&Target::parse(&url).unwrap(), &options, &sink, &stop).await;
    assert!(matches!(ended, Err(Error::Timeout { .. })), "{ended:?}");
    assert!(hub.list().is_empty());
}

#[tokio::test]
async fn a_server_that_says_junk_or_nothing_ends_the_attempt_alone() {
    let node = Node::start(|_| {}).await;
    let (talk, hub) = talking(&node).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsp://{}/far", server.local_addr().unwrap());
    let long = [b"RTSP/1.0 200 OK\r\nX: ".to_vec(), vec![b'x'; 20_000]].concat();
    let junk: [&[u8]; 4] = [
        b"\x15\x03\x03\0\x02\x02\x28",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 99999999999\r\n\r\n",
        &long,
    ];
    for bytes in junk {
        for pushes in [true, false] {
            let far = match pushes {
                true => Far::pushing(&hub, "cam", &url),
                false => Far::pulling(&url, Transport::Tcp),
            };
            let (mut socket, _) = server.accept().await.unwrap();
            // Some of it may stay unread.
            let _ = socket.write_all(bytes).await;
            let _ = socket.shutdown().await;
            let error = far.ended().await.unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{error}");
        }
    }
    let name = StreamName::parse("cam").unwrap();
    let reader = hub.subscribe(&name, Start::LastKey).unwrap();
    let limit = Duration::from_millis(200);
    let options = Options { connect_timeout: limit, ..Options::default() };
    let (status, stop) = (Status::default(), CancellationToken::new());
    let ended = push(&Target::for_push(&url).unwrap(), &options, reader, &status, &stop).await;
    assert!(matches!(ended, Err(Error::Timeout { .. })), "{ended:?}");
    assert!(!talk.is_finished(), "the publisher goes on");
    talk.abort();
    node.stop().await;
}

/// Publishes sound by hand until it is aborted, so that there is something to push.
async fn talking(node: &Node) -> (JoinHandle<()>, Hub) {
    const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
    let (mut client, _) = Client::publish(node.addr, "cam", TCP).await;
    client.sound().await;
    drop(node.reader("cam").await);
    let talk = tokio::spawn(async move {
        for _ in 0..100_000 {
            client.sound().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    (talk, node.hub.clone())
}

#[tokio::test]
async fn a_stream_is_pushed_with_a_password_that_is_proven() {
    let here = Node::start(|_| {}).await;
    let there = Node::with_access(|_| {}, Arc::new(Password)).await;
    let between = Listening::before(there.addr).await;
    let (talk, hub) = talking(&here).await;
    let url = format!("rtsp://tom:secret@{}/far", between.addr);
    let far = Far::pushing(&hub, "cam", &url);
    let mut reader = there.reader("far").await;
    let mut packets = 0;
    while packets < 50 {
        match tokio::time::timeout(PATIENCE, reader.next()).await.unwrap() {
            Item::Tracks(tracks) => {
                assert_eq!(tracks.audio.as_ref().unwrap().codec, Codec::G711A);
            }
            Item::Packet(packet) => packets += usize::from(packet.data.len() == 160),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(far.status.state(), State::Running);
    assert!(far.status.snapshot().packets >= 50);
    assert!(between.heard("Authorization: Digest") >= 1);
    assert_eq!(between.heard("Authorization: Basic"), 0);
    talk.abort();
    assert!(far.ended().await.is_ok_and(|ended| ended == Ended::StreamOver));
    there.connected(0).await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_push_that_is_refused_says_why_and_no_secret() {
    let here = Node::start(|_| {}).await;
    let there = Node::with_access(|_| {}, Arc::new(Password)).await;
    let (talk, hub) = talking(&here).await;
    for credentials in ["tom:hidden@", ""] {
        let far = Far::pushing(&hub, "cam", &format!("rtsp://{credentials}{}/far", there.addr));
        let error = far.ended().await.unwrap_err();
        assert!(matches!(error, Error::Refused { what: "ANNOUNCE", .. }), "{error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
    let far = Far::pushing(&hub, "cam", &format!("rtsp://tom:secret@{}/far", there.addr));
    drop(there.reader("far").await);
    far.stopped().await;
    there.connected(0).await;
    talk.abort();
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn ffmpeg_as_a_server_takes_what_is_pushed_to_it() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    let codecs = "-c:v libx264 -preset veryfast -bf 0 -c:a aac";
    let clip = clip(dir.path(), "pushed", codecs).await;
    for ffmpeg in [FFMPEG_5, ffmpeg_9()] {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = free.local_addr().unwrap();
        drop(free);
        let url = format!("rtsp://{place}/far");
        let line = format!(
            "-v error -rtsp_flags listen -listen_timeout 60 -i {url} -map 0 -frames:v 50 -f null -"
        );
        let mut taking = spawn(ffmpeg, &line);
        let more = "-c copy -f rtsp -rtsp_transport tcp";
        let publish =
            format!("-re -stream_loop -1 -i {} {more} {}", clip.display(), node.url("cam"));
        let sending = spawn(FFMPEG_5, &publish);
        drop(node.reader("cam").await);
        // It may not listen yet, and ends with the connection that is closed then.
        while taking.try_wait().unwrap().is_none() {
            let _ = Far::pushing(&node.hub, "cam", &url).ended().await;
        }
        finished(taking, &line).await;
        drop(sending);
        node.connected(0).await;
    }
    node.stop().await;
}
