//! The SRT server with real clients: ffmpeg publishes and reads.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ingest::StreamName;
use ingest::auth::{Action, Open};
use ingest::hub::{Hub, Item, Limits, Reader, Start};
use ingest::mpegts::Fanout;
use ingest::srt::{Config, Connections, Counters, Server};
use ingest::views::HubViews;
use pipeline::TrackKind;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

const PUBLISH_SECRET: &str = "publishers passphrase";
const READ_SECRET: &str = "readers passphrase";

struct Node {
    hub: Hub,
    addr: SocketAddr,
    connections: Connections,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Streams whose name begins with `secret` are encrypted.
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { addr: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        change(&mut config);
        let hub = Hub::new(Limits::default());
        let counters = Arc::new(Counters::default());
        let shutdown = CancellationToken::new();
        let views = Arc::new(HubViews::new(hub.clone()));
        let fanout = Fanout::new(views, shutdown.clone());
        let passphrases = Arc::new(|name: &StreamName, action| {
            let secret = if action == Action::Publish { PUBLISH_SECRET } else { READ_SECRET };
            name.as_str().starts_with("secret").then(|| secret.to_owned())
        });
        let server = Server::bind(
            config,
            hub.clone(),
            Arc::new(Open),
            fanout,
            passphrases,
            Arc::clone(&counters),
        )
        .unwrap();
        let (addr, connections) = (server.local_addr(), server.connections());
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { hub, addr, connections, counters, shutdown, task }
    }

    async fn reader(&self, stream: &str) -> Reader {
        let name = StreamName::parse(stream).unwrap();
        self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await.expect("the stream comes")
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
        assert!(self.connections.sessions().list().is_empty());
    }
}

async fn run(program: &str, line: &str) -> std::process::Output {
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
}

/// 100 pictures with B-frames, and sound.
async fn clip(path: &Path) {
    let line = format!(
        "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -t 4 -c:v libx264 -preset veryfast -pix_fmt yuv420p -g 25 -bf 2 -c:a aac -f mpegts {}",
        path.display()
    );
    let output = run("ffmpeg", &line).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Pictures that a reader gets until the end.
async fn pictures(mut reader: Reader) -> usize {
    let mut count = 0;
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("the stream goes on") {
            Item::Packet(packet) if packet.kind == TrackKind::Video => count += 1,
            Item::Lagged(lost) => panic!("{lost} packets lost"),
            Item::End => return count,
            _ => {}
        }
    }
}

async fn ffmpeg_publishes(stream: &str, options: &str) {
    let node = Node::start(|config| {
        config.default_stream = Some(StreamName::parse("encoder").unwrap());
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    clip(&path).await;
    let line = format!(
        "-v error -re -i {} -c copy -f mpegts srt://{}?{options}&linger=2",
        path.display(),
        node.addr
    );
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    let count = pictures(node.reader(stream).await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(count, 100);
    assert_eq!(node.counters.snapshot().lost, 0);
    node.stop().await;
}

#[tokio::test]
async fn ffmpeg_publishes_by_the_colon_spelling() {
    ffmpeg_publishes("studio/cam", "streamid=publish:studio/cam").await;
}

#[tokio::test]
async fn ffmpeg_publishes_by_the_access_control_spelling() {
    ffmpeg_publishes("cam", "streamid=#!::m=publish,r=cam").await;
}

#[tokio::test]
async fn ffmpeg_publishes_without_stream_id_to_the_default_stream() {
    ffmpeg_publishes("encoder", "pkt_size=1316").await;
}

#[tokio::test]
async fn ffmpeg_publishes_encrypted() {
    ffmpeg_publishes_with_passphrase(PUBLISH_SECRET, 100).await;
}

#[tokio::test]
async fn ffmpeg_with_a_wrong_passphrase_is_refused() {
    ffmpeg_publishes_with_passphrase("not the passphrase", 0).await;
}

async fn ffmpeg_publishes_with_passphrase(passphrase: &str, wanted: usize) {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    clip(&path).await;
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-re", "-i"]).arg(&path);
    command.args(["-c", "copy", "-f", "mpegts", "-passphrase", passphrase, "-pbkeylen", "32"]);
    command.arg(format!("srt://{}?streamid=publish:secret&linger=2", node.addr)).kill_on_drop(true);
    let push = tokio::spawn(async move {
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
    });
    if wanted > 0 {
        assert_eq!(pictures(node.reader("secret").await).await, wanted);
    }
    let output = push.await.unwrap();
    assert_eq!(output.status.success(), wanted > 0);
    assert_eq!(node.counters.snapshot().refused > 0, wanted == 0);
    node.stop().await;
}

#[tokio::test]
async fn ffmpeg_reads_what_ffmpeg_publishes() {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let (path, got) = (dir.path().join("clip.ts"), dir.path().join("got.ts"));
    clip(&path).await;
    let line = format!(
        "-v error -re -stream_loop 1 -i {} -c copy -f mpegts srt://{}?streamid=publish:cam",
        path.display(),
        node.addr
    );
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    drop(node.reader("cam").await);
    let line = format!(
        "-v error -y -i srt://{}?streamid=read:cam -t 3 -c copy -f mpegts {}",
        node.addr,
        got.display()
    );
    let output = run("ffmpeg", &line).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = format!(
        "-v error -count_frames -select_streams v -show_entries stream=nb_read_frames \
         -of csv=p=0 {}",
        got.display()
    );
    let probed = run("ffprobe", &line).await;
    // A transport stream's picture is listed once more with its program.
    let text = String::from_utf8_lossy(&probed.stdout).into_owned();
    let digits = text.split(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty());
    let frames: u32 = digits.and_then(|word| word.parse().ok()).expect("frames are counted");
    assert!((70..=80).contains(&frames), "{frames} frames in 3 s");
    push.abort();
    node.stop().await;
}

#[tokio::test]
async fn a_reader_of_no_stream_is_refused() {
    let node = Node::start(|_| {}).await;
    let line = format!("-v error -i srt://{}?streamid=read:nothing -f null -", node.addr);
    assert!(!run("ffmpeg", &line).await.status.success());
    assert_eq!(node.counters.snapshot().refused, 1);
    node.stop().await;
}
