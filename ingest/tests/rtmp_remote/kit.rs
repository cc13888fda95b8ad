//! Servers, programs and clips for the tests beside this file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ingest::StreamName;
use ingest::auth::{Open, SharedAccess};
use ingest::hub::{Hub, Item, Limits, Reader, Start};
use ingest::rtmp::{Config, Counters, Server};
use ingest::sessions::Sessions;
use ingest::views::HubViews;
use pipeline::{Packet, TrackKind, Tracks};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Pictures of a clip, at 25 a second.
pub(crate) const PICTURES: usize = 50;

/// A certificate for this machine, in both forms that servers and clients need.
pub(crate) struct Certificate {
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pub(crate) pem: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Self { chain: made.cert.der().clone(), key, pem: made.cert.pem() }
    }

    pub(crate) fn server(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], self.key.clone_key());
        Arc::new(config.unwrap())
    }
}

/// A running server.
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) addr: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    pub(crate) sessions: Sessions,
    _stop: DropGuard,
}

impl Node {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_access(change, Arc::new(Open)).await
    }

    pub(crate) async fn with_access(
        change: impl FnOnce(&mut Config),
        access: SharedAccess,
    ) -> Self {
        let mut config = Config { addr: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        change(&mut config);
        let hub = Hub::new(Limits::default());
        let counters = Arc::new(Counters::default());
        let views = Arc::new(HubViews::new(hub.clone()));
        let server = Server::bind(config, hub.clone(), access, views, counters.clone());
        let server = server.await.unwrap();
        let (addr, sessions) = (server.local_addr(), server.sessions());
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone()));
        Self { hub, addr, counters, sessions, _stop: stop.drop_guard() }
    }

    pub(crate) fn url(&self, scheme: &str, rest: &str) -> String {
        format!("{scheme}://{}/{rest}", self.addr)
    }

    pub(crate) async fn reader(&self, stream: &str) -> Reader {
        reader(&self.hub, stream).await
    }
}

/// Reads a stream that comes.
pub(crate) async fn reader(hub: &Hub, stream: &str) -> Reader {
    let name = StreamName::parse(stream).unwrap();
    hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await.expect("the stream comes")
}

/// FFmpeg of the system, an old one.
pub(crate) fn ffmpeg() -> PathBuf {
    "/usr/bin/ffmpeg".into()
}

/// FFmpeg 9; `./x test` installs it.
pub(crate) fn ffmpeg_9() -> PathBuf {
    let python = std::env::var("MILLSTREAM_TEST_PYTHON").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../.deps/python/bin/python").to_owned()
    });
    let code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    let said = std::process::Command::new(python).args(["-c", code]).output();
    let said = said.expect("Python with imageio-ffmpeg is missing: run ./x test");
    String::from_utf8(said.stdout).unwrap().trim().into()
}

/// GStreamer's launcher.
pub(crate) fn gst_launch() -> PathBuf {
    "/usr/bin/gst-launch-1.0".into()
}

pub(crate) fn command(program: &Path, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub(crate) async fn run(program: &Path, line: &str) -> Output {
    let output = command(program, line).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap()
}

pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A clip of [`PICTURES`] with B-frames and two seconds of sound.
pub(crate) async fn clip(path: &Path) {
    let line = format!(
        "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -t 2 -pix_fmt yuv420p -g 25 -c:v libx264 -preset veryfast -sc_threshold 0 -bf 2 -c:a aac \
         -f flv {}",
        path.display()
    );
    let output = run(&ffmpeg(), &line).await;
    assert!(output.status.success(), "{}", words(&output));
}

/// Sends a clip in real time, over and over, until it is dropped.
pub(crate) fn publish_forever(path: &Path, url: &str) -> Child {
    let line = format!("-v error -re -stream_loop -1 -i {} -c copy -f flv {url}", path.display());
    command(&ffmpeg(), &line).spawn().unwrap()
}

/// Everything that a reader gets until the end: the last tracks and all packets.
pub(crate) async fn read_all(mut reader: Reader) -> (Arc<Tracks>, Vec<Packet>) {
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

/// Presentation times of the pictures in milliseconds, in decoding order.
pub(crate) fn shown(packets: &[Packet]) -> Vec<i64> {
    let pictures = packets.iter().filter(|packet| packet.kind == TrackKind::Video);
    pictures.map(|packet| packet.pts.as_millis()).collect()
}
