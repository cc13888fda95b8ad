//! A server on free ports, clips, and the programs that send and take them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ingest::StreamName;
use ingest::auth::{Access, Action, Grant, Open, Refusal, Request, SharedAccess};
use ingest::hub::{Hub, Limits, Reader, Start};
use ingest::rtsp::{Config, Counters, Server};
use ingest::sessions::Sessions;
use ingest::views::HubViews;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pictures of a clip of two seconds.
pub(crate) const PICTURES: usize = 50;

pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) addr: SocketAddr,
    pub(crate) sessions: [Sessions; 2],
    pub(crate) counters: Arc<Counters>,
    pub(crate) udp: (u16, u16),
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_access(change, Arc::new(Open)).await
    }

    pub(crate) async fn with_access(
        change: impl FnOnce(&mut Config),
        access: SharedAccess,
    ) -> Self {
        logging();
        let free: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = Config { addr: free, udp: Some(free), ..Config::default() };
        change(&mut config);
        let hub = Hub::new(Limits::default());
        let counters = Arc::new(Counters::default());
        let views = Arc::new(HubViews::new(hub.clone()).waiting(PATIENCE));
        let server =
            Server::bind(config, hub.clone(), access, views, Arc::clone(&counters)).await.unwrap();
        let (addr, sessions) = (server.local_addr(), server.sessions());
        let udp = server.udp_ports().unwrap_or_default();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { hub, addr, sessions, counters, udp, shutdown, task }
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("rtsp://{}/{rest}", self.addr)
    }

    pub(crate) async fn reader(&self, stream: &str) -> Reader {
        let name = StreamName::parse(stream).unwrap();
        let reader = self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await;
        reader.expect("the stream comes")
    }

    /// Waits until there are so many connections.
    pub(crate) async fn connected(&self, count: usize) {
        let wait = async {
            while self.sessions[0].list().len() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the connections come and go");
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
    }
}

/// Lets in whoever has the password `secret` of `tom`.
pub(crate) struct Password;

impl Access for Password {
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        Box::pin(async move {
            if request.password == "secret" && request.user == "tom" {
                return Ok(Grant::of(&request));
            }
            let reason = "wrong credentials".into();
            Err(Refusal { reason, ask_credentials: true })
        })
    }

    fn passwords(&self, _: Action) -> Vec<(String, String)> {
        vec![("tom".into(), "secret".into())]
    }
}

/// Passes one connection after the other on to a server and notes what clients say.
pub(crate) struct Listening {
    pub(crate) addr: SocketAddr,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Listening {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, said) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let notes = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let notes = Arc::clone(&notes);
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await.unwrap();
                    let (mut from_server, mut to_server) = server.into_split();
                    let (mut from_client, mut to_client) = client.into_split();
                    tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                    });
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                        notes.lock().extend_from_slice(&bytes[..count]);
                        if to_server.write_all(&bytes[..count]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { addr, said }
    }

    /// How often a client said this.
    pub(crate) fn heard(&self, words: &str) -> usize {
        self.said.lock().windows(words.len()).filter(|said| *said == words.as_bytes()).count()
    }
}

/// Prints the server's log when `MILLSTREAM_TEST_LOG` holds a filter.
fn logging() {
    static STARTED: std::sync::Once = std::sync::Once::new();
    STARTED.call_once(|| {
        if let Ok(filter) = std::env::var("MILLSTREAM_TEST_LOG") {
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        }
    });
}

/// FFmpeg of the system.
pub(crate) const FFMPEG_5: &str = "/usr/bin/ffmpeg";

/// FFmpeg 9, which the Python environment of the tests has.
pub(crate) fn ffmpeg_9() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let python = std::env::var_os("MILLSTREAM_TEST_PYTHON")
            .map_or_else(|| root.join(".deps/python/bin/python"), |path| root.join(path));
        assert!(python.exists(), "Python is missing at {}: run ./x test", python.display());
        let code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
        let said = std::process::Command::new(python).args(["-c", code]).output().unwrap();
        let path = String::from_utf8(said.stdout).unwrap().trim().to_owned();
        assert!(Path::new(&path).exists(), "FFmpeg 9 is missing: run ./x test");
        path
    })
}

fn command(program: &str, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts a program; it ends with the returned handle.
pub(crate) fn spawn(program: &str, line: &str) -> Child {
    command(program, line).spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Waits for a program to end well and answers what it said.
pub(crate) async fn finished(child: Child, line: &str) -> String {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{line} does not end")).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) async fn run(program: &str, line: &str) -> String {
    finished(spawn(program, line), line).await
}

/// A clip of 50 pictures and two seconds of sound, of which only the first picture is a key.
pub(crate) async fn clip(dir: &Path, name: &str, codecs: &str) -> PathBuf {
    let path = dir.join(format!("{name}.mkv"));
    let line = format!(
        "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 \
         -t 2 -pix_fmt yuv420p -g 1000 {codecs} {}",
        path.display()
    );
    run(ffmpeg_9(), &line).await;
    path
}

/// The sums in the sixth column of `framemd5`; those of side data, the time of arrival say, are
/// behind it.
fn sums(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(',').nth(5)).map(|sum| sum.trim().to_owned()).collect()
}

/// Sums of the decoded pictures and of the coded frames of sound at `input`, which may be a file
/// or an address with options in front.
pub(crate) struct Sums {
    pub(crate) pictures: Vec<String>,
    pub(crate) sounds: Vec<String>,
}

/// Begins to read `input` with `ffmpeg`; [`Taking::sums`] has the result.
pub(crate) fn take(ffmpeg: &str, dir: &Path, input: &str) -> Taking {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let files = ["pictures", "sounds"].map(|kind| dir.join(format!("{kind}{number}")));
    let line = format!(
        "-v warning -y {input} -map 0:v? -fps_mode passthrough -f framemd5 {} -map 0:a? -c:a copy \
         -f framemd5 {}",
        files[0].display(),
        files[1].display()
    );
    Taking { child: spawn(ffmpeg, &line), line, files }
}

pub(crate) struct Taking {
    child: Child,
    line: String,
    files: [PathBuf; 2],
}

impl Taking {
    pub(crate) async fn sums(self) -> Sums {
        finished(self.child, &self.line).await;
        let [pictures, sounds] =
            self.files.map(|file| sums(&std::fs::read_to_string(file).unwrap_or_default()));
        Sums { pictures, sounds }
    }
}

/// Whether `part` is found in `whole` in one piece.
pub(crate) fn is_within(part: &[String], whole: &[String]) -> bool {
    !part.is_empty() && whole.windows(part.len()).any(|window| window == part)
}
