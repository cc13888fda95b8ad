//! A flood of half-open connections, to every port of a node at once.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::play::play;
use crate::programs::{PATIENCE, ffmpeg};
use crate::push::{LIVE, Push};
use crate::{peer, soak};

/// Half-open connections that each port has at the same time, or as many as it keeps.
const FLOOD: usize = 1000;

/// The same for ports of HTTP, each of which keeps 1,024.
const HTTP_FLOOD: usize = 1400;

/// How often the flood swells again, and by how many at each port.
const WAVE: Duration = Duration::from_millis(500);
const WAVE_CONNECTIONS: usize = 20;
const WAVE_OFFERS: usize = 10;

/// Offers that are on their way at the same time.
const OFFERS_AT_A_TIME: usize = 8;

/// What a stranger says before it falls silent.
#[derive(Clone, Copy)]
enum Says {
    Nothing,
    /// The beginning of a text protocol's request.
    Request,
    /// The beginning of TLS: a record of 512 bytes of which 111 come.
    HalfHello,
}

impl Says {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Request => b"GET / HT".to_vec(),
            Self::HalfHello => {
                let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
                hello.resize(111, 7);
                hello
            }
        }
    }
}

/// The strangers at one port.
struct Crowd {
    port: SocketAddr,
    says: &'static [Says],
    /// How many there are at the same time.
    most: usize,
    open: VecDeque<TcpStream>,
    came: usize,
}

impl Crowd {
    fn new(port: Option<SocketAddr>, says: &'static [Says]) -> Self {
        Self { port: port.unwrap(), says, most: FLOOD, open: VecDeque::new(), came: 0 }
    }

    /// At a port of HTTP.
    fn of_http(port: Option<SocketAddr>, says: &'static [Says]) -> Self {
        Self { most: HTTP_FLOOD, ..Self::new(port, says) }
    }

    /// So many more, and no more than a flood in all.
    async fn swell(&mut self, count: usize) {
        // Whom the node let go is forgotten, so that this process has files left.
        self.open.retain(|socket| socket.try_read(&mut [0; 64]).is_err_and(waits));
        for _ in 0..count {
            let mut socket = TcpStream::connect(self.port).await.unwrap();
            let says = self.says[self.came % self.says.len()];
            // It may have been let go already.
            let _ = socket.write_all(&says.bytes()).await;
            self.came += 1;
            self.open.push_back(socket);
            if self.open.len() > self.most {
                self.open.pop_front();
            }
        }
    }
}

fn waits(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// First requests of SRT callers that are never concluded; each is answered with a cookie.
async fn srt_inductions(port: SocketAddr, count: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(port).await.unwrap();
    let (mut answer, mut answered) = ([0; 1500], 0);
    for number in 0..count as u32 {
        // A handshake (draft-sharabayko-srt-01, 3.2.1): version 4, extension 2, MTU, window, induction.
        let mut words = vec![0x8000_0000, 0, 0, 0, 4, 2, 1000, 1500, 8192, 1, number + 1, 0];
        words.resize(16, 0);
        let datagram: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        socket.send(&datagram).await.unwrap();
        while socket.try_recv(&mut answer).is_ok() {
            answered += 1;
        }
    }
    let rest = async {
        while answered == 0 {
            socket.recv(&mut answer).await.unwrap();
            answered += 1;
        }
    };
    tokio::time::timeout(PATIENCE, rest).await.expect("an answer to a first request");
}

/// Offers of viewers and publishers who never come.
async fn offers(node: &Running, next: &AtomicU32, count: usize) {
    let offer = |_| async {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (path, body) = match number % 2 {
            0 => ("steady/whep".to_owned(), soak::OFFER.to_owned()),
            _ => (format!("flood{number}/whip"), soak::OFFER.replace("recvonly", "sendonly")),
        };
        let post = node.client.post(node.http(&path)).header("content-type", "application/sdp");
        let answer = post.body(body).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{path}: {}", answer.text().await.unwrap());
    };
    let all = futures_util::stream::iter(0..count).map(offer);
    all.buffer_unordered(OFFERS_AT_A_TIME).for_each(async |()| {}).await;
}

/// ffmpeg as a viewer that goes on until it is dropped, and the cards that it saw.
struct Viewer {
    _child: Child,
    numbers: Arc<Mutex<Vec<u16>>>,
}

impl Viewer {
    fn start(url: &str) -> Self {
        let card = Card::SMALL;
        let mut command = Command::new(ffmpeg());
        command.args(["-v", "error", "-nostdin", "-i", url, "-map", "0:v", "-fps_mode"]);
        command.args(["passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (mut pictures, numbers) =
            (child.stdout.take().unwrap(), Arc::<Mutex<Vec<u16>>>::default());
        let seen = Arc::clone(&numbers);
        tokio::spawn(async move {
            let mut luma = vec![0; card.width * card.height];
            while pictures.read_exact(&mut luma).await.is_ok() {
                let read = card.read(|row| &luma[row * card.width..]);
                seen.lock().push(read.expect("a card that can be read").number);
            }
        });
        Self { _child: child, numbers }
    }

    /// Waits until it has seen so many more.
    async fn until_more(&self, count: usize) -> Vec<u16> {
        let (wanted, end) = (self.numbers.lock().len() + count, Instant::now() + PATIENCE);
        loop {
            let numbers = self.numbers.lock().clone();
            if numbers.len() >= wanted {
                return numbers;
            }
            assert!(Instant::now() < end, "{} of {wanted} pictures came", numbers.len());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_every_port_costs_viewers_nothing_and_keeps_nobody_out() {
    let _alone = alone().await;
    // Both ends of all connections are in this process.
    millstream::raise_file_limit();
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.playback.enabled = true;
    })
    .await;
    let steady = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("steady"));
    node.until_pictures("steady", 30).await;
    let viewer = Viewer::start(&node.rtmp("steady"));
    viewer.until_more(30).await;

    let ports = node.node.addresses();
    let tcp: &[Says] = &[Says::Nothing, Says::Request];
    let tls: &[Says] = &[Says::Nothing, Says::HalfHello];
    let both: &[Says] = &[Says::Nothing, Says::Request, Says::HalfHello];
    let mut crowds = vec![
        Crowd::new(ports.rtmp, tcp),
        Crowd::new(ports.rtmps, tls),
        Crowd::new(ports.rtsp, tcp),
        Crowd::new(ports.rtsps, tls),
        Crowd::of_http(ports.http, both),
        Crowd::new(ports.webrtc, &[Says::Nothing]),
        Crowd::of_http(ports.playback, both),
        Crowd::of_http(ports.admin, tcp),
        Crowd::of_http(ports.metrics, tcp),
        Crowd::of_http(ports.orchestrator, tls),
    ];
    let (srt, next) = (ports.srt.unwrap(), AtomicU32::new(0));
    for crowd in &mut crowds {
        crowd.swell(crowd.most).await;
        crowd.swell(0).await;
        println!("{}: {} stay open", crowd.port, crowd.open.len());
    }
    srt_inductions(srt, FLOOD).await;
    offers(&node, &next, FLOOD).await;
    viewer.until_more(30).await;

    // The flood goes on, and who means it gets in all the same: at each port.
    let over = AtomicBool::new(false);
    let flood = async {
        while !over.load(Ordering::Relaxed) {
            for crowd in &mut crowds {
                crowd.swell(WAVE_CONNECTIONS).await;
            }
            srt_inductions(srt, WAVE_CONNECTIONS).await;
            offers(&node, &next, WAVE_OFFERS).await;
            sleep(WAVE).await;
        }
    };
    let guests = async {
        let fresh = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("fresh"));
        let sealed = Push::rtmp(Card::SMALL, LIVE, &node.rtmps("sealed"));
        let by_rtsp = Push::rtsp(Card::SMALL, LIVE, "tcp", &node.rtsp("by_rtsp"));
        let by_srt = Push::srt(Card::SMALL, LIVE, &node.srt("publish:by_srt"));
        for stream in ["fresh", "sealed", "by_rtsp", "by_srt"] {
            node.until_pictures(stream, 10).await;
        }
        let rtsps = format!("rtsps://{}/steady?tcp", ports.rtsps.unwrap());
        for url in [node.rtmp("fresh"), node.rtsp("sealed"), node.srt("read:fresh"), rtsps] {
            let (numbers, _) = play(ffmpeg(), &url, 30).await;
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{url}: {numbers:?}");
        }
        let watcher = peer::watch(&node.http("fresh/whep")).await;
        watcher.until_cards(None, 30).await;
        watcher.finish().await;
        // HLS, recordings, peers, the API and metrics answer, in TLS where they have it.
        let anyone = millstream::peer_http_client().unwrap();
        let secure =
            |port: Option<SocketAddr>, path: &str| format!("https://{}/{path}", port.unwrap());
        for url in [
            node.http("steady/index.m3u8"),
            secure(ports.http, "steady/index.m3u8"),
            node.playback("list?path=steady"),
            secure(ports.orchestrator, ""),
            node.admin("v1/status"),
            node.metrics("healthz"),
        ] {
            let answer = anyone.get(&url).timeout(PATIENCE).send().await;
            assert!(answer.is_ok(), "{url}: {answer:?}");
        }
        for push in [fresh, sealed, by_rtsp, by_srt] {
            push.finish().await;
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(flood, guests);

    let numbers = viewer.until_more(30).await;
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    let status = node.status().await;
    assert_eq!(find(&status, "steady").unwrap()["lagged"], 0, "{status:#}");
    let parts = node.node.parts();
    let (rtmp, rtsp) = (&parts.rtmp.as_ref().unwrap().1, &parts.rtsp.as_ref().unwrap().1);
    let counted = [
        ("rtmp", rtmp.snapshot().gave_way, rtmp.snapshot().refused),
        ("rtsp", rtsp.snapshot().gave_way, rtsp.snapshot().refused),
        (
            "webrtc",
            parts.webrtc.as_ref().unwrap().counters().gave_way.load(Ordering::Relaxed),
            parts.webrtc.as_ref().unwrap().counters().sessions_refused.load(Ordering::Relaxed),
        ),
    ];
    // Those of HTTP that the node did not let go in time went by themselves.
    let http =
        (parts.http.gave_way.load(Ordering::Relaxed), parts.http.refused.load(Ordering::Relaxed));
    println!("gave way, refused: {counted:?}, http {http:?}; {} pictures seen", numbers.len());
    assert!(http.0 > 300 && http.1 == 0, "http: {http:?}");
    for (protocol, gave_way, refused) in counted {
        assert!(gave_way > 1000 && refused == 0, "{protocol}: {gave_way} {refused}");
    }
    drop((crowds, viewer));
    steady.finish().await;
    node.until_idle().await;
    node.stop().await;
}
