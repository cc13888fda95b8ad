//! The RTMP server with real clients: ffmpeg, ffprobe and GStreamer; and with bad ones beside them.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ingest::auth::{Access, Action, Grant, Open, Refusal, Request, SharedAccess};
use ingest::hub::{Hub, Item, Limits, Reader, Start};
use ingest::rtmp::{Config, Counters, Server, SessionState, Sessions};
use ingest::{StreamName, hub};
use pipeline::{Codec, Packet, TrackKind, Tracks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of C0, C1 and C2 of a plain handshake.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;

struct Node {
    hub: Hub,
    addr: SocketAddr,
    sessions: Sessions,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_access(change, Arc::new(Open)).await
    }

    async fn with_access(change: impl FnOnce(&mut Config), access: SharedAccess) -> Self {
        let mut config = Config { addr: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        change(&mut config);
        let hub = Hub::new(Limits::default());
        let counters = Arc::new(Counters::default());
        let views = Arc::new(ingest::views::HubViews::new(hub.clone()));
        let server =
            Server::bind(config, hub.clone(), access, views, Arc::clone(&counters)).await.unwrap();
        let (addr, sessions) = (server.local_addr(), server.sessions());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { hub, addr, sessions, counters, shutdown, task }
    }

    fn url(&self, rest: &str) -> String {
        format!("rtmp://{}/{rest}", self.addr)
    }

    async fn reader(&self, stream: &str) -> Reader {
        let name = StreamName::parse(stream).unwrap();
        self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await.expect("the stream comes")
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
    }
}

fn command(program: &str, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(program: &str, line: &str) -> std::process::Output {
    let output = command(program, line).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap()
}

/// A clip of 60 pictures and 2.4 s of sound; `more` are encoder options.
async fn clip(path: &Path, more: &str) {
    let line = format!(
        "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -t 2.4 -c:v libx264 -preset veryfast -pix_fmt yuv420p {more} -c:a aac -f flv {}",
        path.display()
    );
    let output = run("ffmpeg", &line).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Presentation and decoding time in milliseconds, and whether it is a key.
type Facts = (i64, i64, bool);

/// What ffprobe finds at `url`: the facts of the picture packets and of the sound packets.
async fn probe(url: &str) -> (Vec<Facts>, Vec<Facts>) {
    let line = format!(
        "-v error -show_entries packet=codec_type,pts,dts,flags -of csv=print_section=0 {url}"
    );
    let output = run("ffprobe", &line).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let fields: Vec<_> = line.split(',').collect();
        let [kind, pts, dts, flags, ..] = fields[..] else { continue };
        let (Ok(pts), Ok(dts)) = (pts.parse(), dts.parse()) else { continue };
        let facts = (pts, dts, flags.starts_with('K'));
        match kind {
            "video" => video.push(facts),
            "audio" => audio.push(facts),
            // Metadata, which ffprobe calls a subtitle.
            _ => {}
        }
    }
    (video, audio)
}

/// Everything that a reader gets until the end: the last tracks and all packets.
async fn read_all(mut reader: Reader) -> (Arc<Tracks>, Vec<Packet>) {
    let (mut tracks, mut packets) = (None, Vec::new());
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("the stream goes on") {
            Item::Tracks(now) => tracks = Some(now),
            Item::Packet(packet) => packets.push(packet),
            Item::Lagged(count) => panic!("{count} packets lost"),
            Item::End => return (tracks.expect("tracks"), packets),
        }
    }
}

fn facts(packets: &[Packet], kind: TrackKind) -> Vec<Facts> {
    let of_kind = packets.iter().filter(|packet| packet.kind == kind);
    of_kind.map(|p| (p.pts.as_millis(), p.dts.as_millis(), p.key)).collect()
}

fn assert_canonical(tracks: &Tracks, packets: &[Packet]) {
    let video = tracks.video.as_ref().expect("a picture");
    assert_eq!((video.codec, video.size.width, video.size.height), (Codec::H264, 320, 180));
    for packet in packets.iter().filter(|packet| packet.kind == TrackKind::Video) {
        assert_eq!(packet.data[..4], [0, 0, 0, 1]);
        if packet.key {
            assert!(packet.data.starts_with(&video.parameter_sets));
        }
    }
    let audio = tracks.audio.as_ref().expect("a sound");
    assert_eq!((audio.codec, audio.sample_rate), (Codec::Aac, 48_000));
}

/// ffmpeg pushes a clip in real time; every picture must come out with its own times.
async fn ffmpeg_publishes(more: &str, reordered: bool) {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    clip(&path, more).await;
    let (video, audio) = probe(&path.display().to_string()).await;
    assert_eq!(video.len(), 60);
    assert_eq!(video.iter().any(|(pts, dts, _)| pts != dts), reordered);

    let line =
        format!("-v error -re -copyts -i {} -c copy -f flv {}", path.display(), node.url("cam"));
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    let (tracks, packets) = read_all(node.reader("cam").await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_canonical(&tracks, &packets);
    assert_eq!(facts(&packets, TrackKind::Video), video);
    let heard = facts(&packets, TrackKind::Audio);
    assert!(heard.len() + 5 > audio.len() && audio.ends_with(&heard), "{heard:?} {audio:?}");
    assert_eq!(node.counters.snapshot().media_errors, 0);
    assert_eq!(node.counters.snapshot().clock_jumps, 0);
    node.stop().await;
}

#[tokio::test]
async fn ffmpeg_publishes_without_b_frames() {
    ffmpeg_publishes("-tune zerolatency -g 250", false).await;
}

#[tokio::test]
async fn ffmpeg_publishes_with_b_frames() {
    ffmpeg_publishes("-bf 3 -g 250", true).await;
}

/// GStreamer pushes live sources and writes the same to a file, which is what must come out.
async fn gstreamer_publishes(sink: &str) {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sent.flv");
    let line = format!(
        "-q flvmux name=m streamable=true ! tee name=t ! queue ! {sink} \
         t. ! queue ! filesink location={} \
         videotestsrc num-buffers=60 is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 \
         ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=250 ! h264parse ! m. \
         audiotestsrc num-buffers=110 is-live=true ! audio/x-raw,rate=48000,channels=2 \
         ! avenc_aac ! aacparse ! m.",
        path.display()
    )
    .replace("LOCATION", &node.url("studio/cam"));
    let push = tokio::spawn(async move { run("gst-launch-1.0", &line).await });
    let (tracks, packets) = read_all(node.reader("studio/cam").await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_canonical(&tracks, &packets);
    let (video, audio) = probe(&path.display().to_string()).await;
    assert_eq!(video.len(), 60);
    assert_eq!(facts(&packets, TrackKind::Video), video);
    let heard = facts(&packets, TrackKind::Audio);
    assert!(heard.len() > 90 && audio.ends_with(&heard), "{heard:?} {audio:?}");
    assert_eq!(node.counters.snapshot().media_errors, 0);
    assert_eq!(node.counters.snapshot().clock_jumps, 0);
    node.stop().await;
}

#[tokio::test]
async fn gstreamer_rtmp2sink_publishes() {
    gstreamer_publishes("rtmp2sink location=LOCATION").await;
}

#[tokio::test]
async fn gstreamer_rtmpsink_publishes() {
    gstreamer_publishes("rtmpsink location=LOCATION").await;
}

/// A stream that goes on until it is dropped, pushed by ffmpeg.
struct Live {
    _child: tokio::process::Child,
}

async fn live(node: &Node, rest: &str) -> Live {
    let line = format!(
        "-v error -re -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -c:a aac -f flv {}",
        node.url(rest)
    );
    Live { _child: command("ffmpeg", &line).spawn().unwrap() }
}

/// The next `count` pictures of a live stream follow each other without a gap.
async fn assert_untouched(reader: &mut Reader, count: usize) {
    let mut last = None;
    let mut seen = 0;
    while seen < count {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("the stream goes on") {
            Item::Packet(packet) if packet.kind == TrackKind::Video => {
                let time = packet.dts.as_millis();
                assert!(
                    last.is_none_or(|last| (35..=45).contains(&(time - last))),
                    "{last:?} {time}"
                );
                last = Some(time);
                seen += 1;
            }
            Item::End => panic!("the stream ended"),
            Item::Lagged(count) => panic!("{count} lost"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn ffprobe_and_ffmpeg_play_from_us() {
    let node = Node::start(|_| {}).await;
    let _live = live(&node, "cam").await;
    let mut reader = node.reader("cam").await;
    assert_untouched(&mut reader, 30).await;
    let (video, audio) = probe(&format!("-read_intervals %+2 {}", node.url("cam"))).await;
    assert!(video.len() >= 25 && audio.len() >= 40, "{} {}", video.len(), audio.len());
    assert!(video[0].2, "it begins with a key picture");
    assert_eq!(video[0].1, 0, "its time begins at zero");
    assert!(video.windows(2).all(|pair| pair[0].1 < pair[1].1));

    // Decoded, every picture is whole.
    let line = format!("-v error -xerror -i {} -t 1 -f null -", node.url("cam"));
    let output = run("ffmpeg", &line).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && words.is_empty(), "{words}");

    let absent = run("ffmpeg", &format!("-v error -i {} -f null -", node.url("nobody"))).await;
    assert!(!absent.status.success());
    let states: Vec<_> = node.sessions.list().iter().map(|session| session.state).collect();
    assert_eq!(states, [SessionState::Publish]);
    node.stop().await;
}

#[tokio::test]
async fn a_source_with_b_frames_is_played_with_its_times() {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    clip(&path, "-bf 3 -g 250").await;
    let (source, _) = probe(&path.display().to_string()).await;
    let line =
        format!("-v error -re -copyts -i {} -c copy -f flv {}", path.display(), node.url("cam"));
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    drop(node.reader("cam").await);
    let (video, _) = probe(&node.url("cam")).await;
    push.await.unwrap();
    let first = source[0].1;
    let wanted: Vec<_> =
        source.iter().map(|(pts, dts, key)| (pts - first, dts - first, *key)).collect();
    assert_eq!(video, wanted);
    node.stop().await;
}

/// Lets in who knows the password, and everybody to read.
struct Password;

impl Access for Password {
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        assert_eq!(request.protocol, "rtmp");
        let known = request.user == "me" && request.password == "secret";
        let answer = if known || request.action == Action::Read {
            Ok(Grant::of(&request))
        } else {
            Err(Refusal { reason: "wrong password".into(), ask_credentials: true })
        };
        Box::pin(std::future::ready(answer))
    }
}

/// One second of ffmpeg; what it says when it fails.
async fn short_push(node: &Node, rest: &str) -> Result<(), String> {
    let line = format!(
        "-v error -re -f lavfi -i testsrc2=size=320x180:rate=25 -t 1 -c:v libx264 \
         -preset ultrafast -f flv {}",
        node.url(rest)
    );
    let output = run("ffmpeg", &line).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(words) }
}

#[tokio::test]
async fn only_those_who_may_publish_and_only_under_fit_names() {
    let node = Node::with_access(|_| {}, Arc::new(Password)).await;
    short_push(&node, "cam?user=me&pass=secret").await.unwrap();
    short_push(&node, "cam/key?user=me&pass=secret").await.unwrap();
    let words = short_push(&node, "cam?user=me&pass=guess").await.unwrap_err();
    assert!(words.contains("not allowed"), "{words}");
    short_push(&node, "cam").await.unwrap_err();
    let words = short_push(&node, "cam-out?user=me&pass=secret").await.unwrap_err();
    assert!(words.contains("-out"), "{words}");
    short_push(&node, "v3?user=me&pass=secret").await.unwrap_err();
    assert_eq!(node.counters.snapshot().refused, 4);
    assert!(node.hub.list().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_second_publisher_is_refused_and_the_first_goes_on() {
    let node = Node::start(|_| {}).await;
    let _live = live(&node, "cam").await;
    let mut reader = node.reader("cam").await;
    assert_untouched(&mut reader, 5).await;
    let words = short_push(&node, "cam").await.unwrap_err();
    assert!(words.contains("cannot be published"), "{words}");
    assert_untouched(&mut reader, 10).await;
    node.stop().await;
}

#[tokio::test]
async fn a_second_publisher_takes_over_where_that_is_set() {
    let node = Node::start(|config| config.take_over = true).await;
    let mut first = live(&node, "cam").await;
    let reader = node.reader("cam").await;
    let before = node.sessions.list()[0].id.clone();
    let push = short_push(&node, "cam");
    let (taken, _) = tokio::join!(push, read_all(reader));
    taken.unwrap();
    let ended = tokio::time::timeout(PATIENCE, first._child.wait()).await;
    assert!(ended.is_ok(), "the first client's connection was closed");
    assert!(node.sessions.get(&before).is_none());
    node.stop().await;
}

#[tokio::test]
async fn nobody_takes_over_without_the_right_to_publish() {
    let node = Node::with_access(|config| config.take_over = true, Arc::new(Password)).await;
    let _live = live(&node, "cam?user=me&pass=secret").await;
    let mut reader = node.reader("cam").await;
    for query in ["", "?user=me&pass=guess", "?user=me", "?token=secret"] {
        short_push(&node, &format!("cam{query}")).await.unwrap_err();
    }
    assert_untouched(&mut reader, 10).await;
    assert_eq!(node.counters.snapshot().refused, 4);
    node.stop().await;
}

#[tokio::test]
async fn a_kicked_publisher_leaves_and_the_server_goes_on() {
    let node = Node::start(|_| {}).await;
    let _live = live(&node, "cam").await;
    let reader = node.reader("cam").await;
    let sessions = node.sessions.list();
    let [session] = &sessions[..] else { panic!("one session") };
    assert_eq!(
        (session.state, session.stream.as_ref().unwrap().as_str()),
        (SessionState::Publish, "cam")
    );
    assert_eq!(session.id.len(), 36);
    assert!(node.sessions.kick(&session.id) && !node.sessions.kick("nobody"));
    read_all(reader).await;
    short_push(&node, "cam").await.unwrap();
    node.stop().await;
}

/// Reads until the server closes.
async fn until_closed(socket: &mut TcpStream) {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
    let _ = read.expect("the server closes");
}

#[tokio::test]
async fn bad_clients_end_themselves_alone() {
    let node = Node::start(|config| {
        config.handshake_timeout = Duration::from_millis(300);
        config.command_timeout = Duration::from_millis(300);
    })
    .await;
    let _live = live(&node, "cam").await;
    let mut reader = node.reader("cam").await;
    assert_untouched(&mut reader, 5).await;

    let mut greeting = vec![3];
    greeting.resize(HANDSHAKE_BYTES, 0);
    let after = |bytes: &[u8]| [&greeting, bytes].concat();
    let cases: [(&str, Vec<u8>); 8] = [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("an encrypted handshake", vec![6; HANDSHAKE_BYTES]),
        ("half a handshake", greeting[..1000].to_vec()),
        ("a handshake and silence", greeting.clone()),
        ("chunk size zero", after(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("a message of 16 MiB", after(&[3, 0, 0, 0, 255, 255, 255, 20, 0, 0, 0, 0])),
        ("AMF that is none", after(&[3, 0, 0, 0, 0, 0, 2, 20, 0, 0, 0, 0, 0x7F, 0x7F])),
        ("media at once", after(&[4, 0, 0, 0, 0, 0, 2, 9, 1, 0, 0, 0, 0x17, 0])),
    ];
    let count = cases.len() as u64;
    for (what, bytes) in cases {
        let failed = node.counters.snapshot().failed;
        let mut socket = TcpStream::connect(node.addr).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        until_closed(&mut socket).await;
        assert_eq!(node.counters.snapshot().failed, failed + 1, "{what}");
    }
    assert_eq!(node.counters.snapshot().failed, count);
    assert_untouched(&mut reader, 10).await;
    assert_eq!(node.sessions.list().len(), 1);
    node.stop().await;
}

/// A message of at most 128 bytes, as one chunk.
fn chunk(id: u8, kind: u8, stream: u8, data: &[u8]) -> Vec<u8> {
    let head = [id, 0, 0, 0, 0, 0, data.len() as u8, kind, stream, 0, 0, 0];
    [&head[..], data].concat()
}

/// A text as AMF.
fn amf_text(text: &str) -> Vec<u8> {
    [&[2, 0, text.len() as u8][..], text.as_bytes()].concat()
}

/// A command with its number, and values that are AMF already.
fn amf_command(name: &str, number: f64, values: &[u8]) -> Vec<u8> {
    [&amf_text(name)[..], &[0], &number.to_be_bytes(), values].concat()
}

/// A publisher of `app` played by hand, once it may send media.
async fn by_hand(node: &Node, app: &str) -> TcpStream {
    let mut greeting = vec![3_u8];
    greeting.resize(HANDSHAKE_BYTES, 0);
    let facts = [&[3_u8, 0, 3][..], b"app", &amf_text(app), &[0, 0, 9]].concat();
    let publish = [&[5_u8][..], &amf_text(""), &amf_text("live")].concat();
    let said = [
        greeting,
        chunk(3, 20, 0, &amf_command("connect", 1.0, &facts)),
        chunk(3, 20, 0, &amf_command("createStream", 2.0, &[5])),
        chunk(3, 20, 1, &amf_command("publish", 3.0, &publish)),
    ];
    let mut socket = TcpStream::connect(node.addr).await.unwrap();
    socket.write_all(&said.concat()).await.unwrap();
    let started = async {
        let (mut answers, wanted) = (Vec::<u8>::new(), b"NetStream.Publish.Start");
        while !answers.windows(wanted.len()).any(|bytes| bytes == wanted) {
            assert!(socket.read_buf(&mut answers).await.unwrap() > 0, "the server closes");
        }
    };
    tokio::time::timeout(PATIENCE, started).await.expect("it may publish");
    socket
}

#[tokio::test]
async fn a_hundred_broken_messages_in_a_row_end_a_publisher_and_fewer_do_not() {
    let node = Node::start(|_| {}).await;
    let mut socket = by_hand(&node, "broken").await;
    // H.264 that is cut off before it says what follows.
    let broken = chunk(4, 9, 1, &[0x17]);
    socket.write_all(&broken.repeat(99)).await.unwrap();
    let counted = async {
        while node.counters.snapshot().media_errors < 99 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("all are counted");
    assert_eq!((node.sessions.list().len(), node.counters.snapshot().failed), (1, 0));
    socket.write_all(&broken).await.unwrap();
    until_closed(&mut socket).await;
    assert_eq!(node.counters.snapshot().failed, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_thousand_half_open_connections_leave_a_live_stream_untouched() {
    let node = Node::start(|config| config.handshake_timeout = PATIENCE).await;
    let _live = live(&node, "cam").await;
    let mut reader = node.reader("cam").await;
    let idle_max = Config::default().idle_connections_max;
    let mut open = Vec::new();
    for index in 0..1000_usize {
        let mut socket = TcpStream::connect(node.addr).await.unwrap();
        // The server may have closed it already: then it gave way.
        let _ = socket.write_all(&vec![3; 1 + index % HANDSHAKE_BYTES]).await;
        open.push(socket);
        if index.is_multiple_of(100) {
            assert_untouched(&mut reader, 5).await;
        }
    }
    assert_untouched(&mut reader, 25).await;
    let gave_way = (1000 - idle_max) as u64;
    tokio::time::timeout(PATIENCE, async {
        while node.counters.snapshot().gave_way < gave_way {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the oldest make room");
    assert_eq!(node.counters.snapshot().refused, 0);
    assert_eq!(node.hub.list().len(), 1);
    // Who means it gets in all the same.
    short_push(&node, "during").await.unwrap();
    // Those who leave make room again.
    drop(open);
    tokio::time::timeout(PATIENCE, async {
        while node.sessions.list().len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("they are gone");
    short_push(&node, "other").await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn stopping_ends_everybody_and_frees_the_name() {
    let node = Node::start(|_| {}).await;
    let _live = live(&node, "cam").await;
    let mut reader = node.reader("cam").await;
    assert_untouched(&mut reader, 3).await;
    let hub: hub::Hub = node.hub.clone();
    node.stop().await;
    assert!(hub.list().is_empty());
}
