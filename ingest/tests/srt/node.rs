//! A server to be tested, and what tests do with it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ingest::StreamName;
use ingest::auth::{Action, Open, SharedAccess};
use ingest::hub::{Hub, Item, Limits, Reader, Start};
use ingest::mpegts::Fanout;
use ingest::srt::{Config, Connections, Counters, Server, StreamRules};
use ingest::views::HubViews;
use pipeline::TrackKind;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PUBLISH_SECRET: &str = "publishers-passphrase";
pub(crate) const READ_SECRET: &str = "readers-passphrase";

/// A server with its hub.
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) fanout: Fanout,
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Connections,
    pub(crate) counters: Arc<Counters>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Streams whose name begins with `secret` are encrypted.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_access(change, Arc::new(Open)).await
    }

    /// With somebody else who says who may do what.
    pub(crate) async fn with_access(
        change: impl FnOnce(&mut Config),
        access: SharedAccess,
    ) -> Self {
        let mut config = Config { addr: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        change(&mut config);
        let hub = Hub::new(Limits::default());
        let counters = Arc::new(Counters::default());
        let shutdown = CancellationToken::new();
        let views = Arc::new(HubViews::new(hub.clone()));
        let fanout = Fanout::new(views, shutdown.clone());
        let rules = Arc::new(|name: &StreamName, action| {
            let secret = if action == Action::Publish { PUBLISH_SECRET } else { READ_SECRET };
            let passphrase = name.as_str().starts_with("secret").then(|| secret.to_owned());
            StreamRules { passphrase, latency: None }
        });
        let server =
            Server::bind(config, hub.clone(), access, fanout.clone(), rules, Arc::clone(&counters))
                .unwrap();
        let (addr, connections) = (server.local_addr(), server.connections());
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { hub, fanout, addr, connections, counters, shutdown, task }
    }

    pub(crate) async fn reader(&self, stream: &str) -> Reader {
        let name = StreamName::parse(stream).unwrap();
        self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await.expect("the stream comes")
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
        assert!(self.connections.sessions().list().is_empty());
    }
}

pub(crate) async fn run(program: &str, line: &str) -> std::process::Output {
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
}

/// 100 pictures with B-frames, and sound.
pub(crate) async fn clip(path: &Path) {
    clip_of(path, 4).await;
}

/// The same, 25 pictures a second.
pub(crate) async fn clip_of(path: &Path, seconds: u32) {
    let line = format!(
        "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -t {seconds} -c:v libx264 -preset veryfast -pix_fmt yuv420p -g 25 -bf 2 -c:a aac \
         -f mpegts {}",
        path.display()
    );
    let output = run("ffmpeg", &line).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Pictures that a reader gets until the end.
pub(crate) async fn pictures(mut reader: Reader) -> usize {
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
