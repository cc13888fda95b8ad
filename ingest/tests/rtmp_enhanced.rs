//! Enhanced RTMP with FFmpeg 9: every codec published and played, MP3 as it always was, and what a
//! client gets that has not announced a codec.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ingest::StreamName;
use ingest::auth::Open;
use ingest::hub::{Hub, Item, Limits, Reader, Start};
use ingest::rtmp::{Config, Counters, Server};
use ingest::views::HubViews;
use pipeline::{Codec, Packet, TrackKind, Tracks};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(90);

/// Pictures of a clip, at 25 a second.
const PICTURES: usize = 50;

struct Node {
    hub: Hub,
    addr: SocketAddr,
    counters: Arc<Counters>,
    _stop: tokio_util::sync::DropGuard,
}

impl Node {
    async fn start() -> Self {
        let config = Config { addr: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let hub = Hub::new(Limits::default());
        let counters = Arc::new(Counters::default());
        let views = Arc::new(HubViews::new(hub.clone()));
        let server = Server::bind(config, hub.clone(), Arc::new(Open), views, counters.clone());
        let server = server.await.unwrap();
        let addr = server.local_addr();
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone()));
        Self { hub, addr, counters, _stop: stop.drop_guard() }
    }

    fn url(&self) -> String {
        format!("rtmp://{}/cam", self.addr)
    }

    async fn reader(&self) -> Reader {
        let name = StreamName::parse("cam").unwrap();
        self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await.expect("the stream comes")
    }
}

/// FFmpeg 9, which speaks enhanced RTMP; `./x test` installs it.
fn ffmpeg_9() -> PathBuf {
    let python = std::env::var("MILLSTREAM_TEST_PYTHON").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../.deps/python/bin/python").to_owned()
    });
    let code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    let said = std::process::Command::new(python).args(["-c", code]).output();
    let said = said.expect("Python with imageio-ffmpeg is missing: run ./x test");
    String::from_utf8(said.stdout).unwrap().trim().into()
}

fn command(program: &Path, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(program: &Path, line: &str) -> Output {
    let output = command(program, line).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap()
}

/// A clip of [`PICTURES`] and two seconds of sound by these encoders, made before it is sent.
async fn clip(path: &Path, encoders: &str) {
    let line = format!(
        "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -t 2 -pix_fmt yuv420p -g 25 {encoders} -f matroska {}",
        path.display()
    );
    let output = run(&ffmpeg_9(), &line).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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

/// A publisher that goes on until it is dropped.
fn publish_forever(path: &Path, url: &str) -> Child {
    let line = format!("-v error -re -stream_loop -1 -i {} -c copy -f flv {url}", path.display());
    command(&ffmpeg_9(), &line).spawn().unwrap()
}

/// FFmpeg 9 publishes a clip, every picture of which must come out; then it plays the same from us
/// and decodes it without an error.
async fn in_and_out(encoders: &str, video: Codec, audio: Codec, names: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    clip(&path, encoders).await;
    let node = Node::start().await;
    let line = format!("-v error -re -i {} -c copy -f flv {}", path.display(), node.url());
    let push = tokio::spawn(async move { run(&ffmpeg_9(), &line).await });
    let (tracks, packets) = read_all(node.reader().await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (picture, sound) = (tracks.video.clone().unwrap(), tracks.audio.clone().unwrap());
    assert_eq!((picture.codec, picture.size.width, picture.size.height), (video, 320, 180));
    assert_eq!((sound.codec, sound.sample_rate), (audio, 48_000));
    let pictures: Vec<_> = packets.iter().filter(|p| p.kind == TrackKind::Video).collect();
    assert_eq!(pictures.len(), PICTURES);
    let keys: Vec<_> = (0..PICTURES).filter(|index| pictures[*index].key).collect();
    assert_eq!(keys, [0, 25]);
    let mut shown: Vec<_> = pictures.iter().map(|p| p.pts.as_millis()).collect();
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| (39..=41).contains(&(pair[1] - pair[0]))), "{shown:?}");
    assert!(pipeline::video::Description::of(&picture).is_ok());
    assert_eq!(node.counters.snapshot().media_errors, 0);

    let _live = publish_forever(&path, &node.url());
    node.reader().await;
    let line = format!(
        "-v info -rtmp_enhanced_codecs hvc1,av01,vp09,Opus,fLaC -i {} -t 1 -f null -",
        node.url()
    );
    let output = run(&ffmpeg_9(), &line).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for name in names {
        assert!(said.contains(name), "no {name} in {said}");
    }
    assert!(!said.to_lowercase().contains("error"), "{said}");
    assert_eq!(node.counters.snapshot().media_errors, 0);
}

#[tokio::test]
async fn ffmpeg_9_publishes_and_plays_hevc_with_aac() {
    let encoders = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:\
                    min-keyint=25:scenecut=0:bframes=2 -c:a aac";
    in_and_out(encoders, Codec::Hevc, Codec::Aac, ["Video: hevc", "Audio: aac"]).await;
}

#[tokio::test]
async fn ffmpeg_9_publishes_and_plays_av1_with_opus() {
    let encoders = "-c:v libsvtav1 -preset 12 -svtav1-params scd=0 -c:a libopus";
    in_and_out(encoders, Codec::Av1, Codec::Opus, ["Video: av1", "Audio: opus"]).await;
}

#[tokio::test]
async fn ffmpeg_9_publishes_and_plays_vp9_with_flac() {
    let encoders = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 \
                    -c:a flac -sample_fmt s16";
    in_and_out(encoders, Codec::Vp9, Codec::Flac, ["Video: vp9", "Audio: flac"]).await;
}

#[tokio::test]
async fn ffmpeg_9_publishes_and_plays_h264_with_mp3() {
    let encoders = "-c:v libx264 -preset veryfast -sc_threshold 0 -c:a libmp3lame";
    in_and_out(encoders, Codec::H264, Codec::Mp3, ["Video: h264", "Audio: mp3"]).await;
}

#[tokio::test]
async fn ac_3_ends_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    clip(&path, "-c:v libx264 -preset veryfast -c:a ac3").await;
    let node = Node::start().await;
    let line = format!("-v error -re -i {} -c copy -f flv {}", path.display(), node.url());
    let output = run(&ffmpeg_9(), &line).await;
    assert!(!output.status.success());
    let counted = node.counters.snapshot();
    assert_eq!((counted.failed, counted.media_errors), (1, 1), "the first of its messages ends it");
}
