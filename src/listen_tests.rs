//! A listener and clients that are slow, deaf or too many.

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::DropGuard;

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What stands still may do so for that long.
const SOON: Duration = Duration::from_millis(500);

/// Nothing is limited but what a test names.
const FREE: Limits = Limits {
    connections: 100,
    half_open: 100,
    handshake: PATIENCE,
    head: PATIENCE,
    body: PATIENCE,
    write: PATIENCE,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

struct Node {
    address: SocketAddr,
    counters: Arc<Counters>,
    _stop: DropGuard,
}

impl Node {
    async fn start(limits: Limits) -> Self {
        Self::speaking(Speaks::Http, limits).await
    }

    async fn speaking(speaks: Speaks, limits: Limits) -> Self {
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/length", post(length))
            .route("/much", get(async || Body::from(vec![0_u8; 64 << 20])));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (counters, stop) = (Arc::<Counters>::default(), CancellationToken::new());
        let (counts, until) = (Arc::clone(&counters), stop.clone());
        tokio::spawn(serve_within(limits, listener, speaks, router, counts, until));
        Self { address, counters, _stop: stop.drop_guard() }
    }

    /// A client that says this.
    async fn says(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // It may be turned away already.
        let _ = stream.write_all(bytes).await;
        stream
    }

    /// What is answered to this by the time that the connection ends.
    async fn answer(&self, bytes: &[u8]) -> String {
        end_of(self.says(bytes).await).await
    }

    /// Asks until it is served.
    async fn until_served(&self) {
        let served = async {
            while !self.answer(GET).await.ends_with("here") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.expect("there is room again");
    }
}

async fn length(body: Bytes) -> String {
    body.len().to_string()
}

/// What comes until the node closes the connection.
async fn end_of(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let ended = tokio::time::timeout(PATIENCE / 2, stream.read_to_end(&mut said)).await;
    // A reset is an end too.
    let _ = ended.expect("the connection stays open");
    String::from_utf8_lossy(&said).into_owned()
}

fn tls() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.unwrap())
}

#[tokio::test]
async fn who_says_nothing_or_half_a_hello_is_closed_in_time() {
    // The beginning of a record of 512 bytes.
    let half = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    for speaks in [Speaks::Tls(tls()), Speaks::Both(tls())] {
        let both = matches!(speaks, Speaks::Both(_));
        let node = Node::speaking(speaks, Limits { handshake: SOON, ..FREE }).await;
        for says in [&b""[..], half] {
            end_of(node.says(says).await).await;
        }
        if both {
            assert!(node.answer(GET).await.ends_with("here"), "without TLS");
        }
    }
}

#[tokio::test]
async fn who_asks_nothing_or_half_a_head_is_closed_in_time_and_others_are_served_meanwhile() {
    let node = Node::start(Limits { head: SOON, ..FREE }).await;
    let silent = node.says(b"").await;
    // As much as HTTP/2 begins with as well.
    let unclear = node.says(b"PRI").await;
    let half = node.says(b"GET / HTTP/1.1\r\nHost: h\r\nX-Sl").await;
    let mut dripping = node.says(b"GET / HTTP/1.1\r\nX: ").await;
    let drips = tokio::spawn(async move {
        // Bytes that trickle in do not put the end off.
        while dripping.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SOON / 10).await;
        }
    });
    assert!(node.answer(GET).await.ends_with("here"), "meanwhile");
    for stream in [silent, unclear, half] {
        end_of(stream).await;
    }
    tokio::time::timeout(PATIENCE, drips).await.expect("dripping ends").unwrap();
    assert_eq!(node.counters.refused.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_connection_that_asked_before_may_wait_for_a_long_answer() {
    let router = Router::new().route(
        "/",
        get(async || {
            tokio::time::sleep(SOON * 3).await;
            "here"
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { head: SOON, body: SOON, write: SOON, ..FREE };
    let stop = CancellationToken::new();
    let (counters, until) = (Arc::default(), stop.clone());
    tokio::spawn(serve_within(limits, listener, Speaks::Http, router, counters, until));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    assert!(end_of(stream).await.ends_with("here"));
    stop.cancel();
}

#[tokio::test]
async fn a_head_of_more_than_64_kib_is_refused() {
    let node = Node::start(FREE).await;
    let with = |bytes: usize| {
        let padding = "x".repeat(bytes);
        format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX: {padding}\r\n\r\n")
    };
    assert!(node.answer(with(32 << 10).as_bytes()).await.ends_with("here"));
    let said = node.answer(with(200 << 10).as_bytes()).await;
    // What was not read may reset the connection before the answer is seen.
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
}

#[tokio::test]
async fn a_body_may_be_slow_but_not_stand_still() {
    let node = Node::start(Limits { body: SOON * 2, ..FREE }).await;
    let head =
        b"POST /length HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 6\r\n\r\n";
    let mut slow = node.says(head).await;
    for _ in 0..6 {
        tokio::time::sleep(SOON / 2).await;
        slow.write_all(b"x").await.unwrap();
    }
    assert!(end_of(slow).await.ends_with("\r\n6"), "slower than the limit as a whole");
    let still = node.says(&[&head[..], b"xxx"].concat()).await;
    let said = end_of(still).await;
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_and_its_place_is_free() {
    let node = Node::start(Limits { connections: 1, write: SOON, ..FREE }).await;
    let mut deaf = node.says(b"GET /much HTTP/1.1\r\nHost: h\r\n\r\n").await;
    // The answer has begun: nobody is half-open any more.
    let mut first = [0; 1];
    tokio::time::timeout(PATIENCE, deaf.read_exact(&mut first)).await.unwrap().unwrap();
    node.until_served().await;
    drop(deaf);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_unless_one_is_half_open() {
    let node = Node::start(Limits { connections: 1, ..FREE }).await;
    let mut works = node.says(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        let read = tokio::time::timeout(PATIENCE, works.read_buf(&mut answer)).await;
        assert!(read.unwrap().unwrap() > 0, "it is served");
    }
    assert_eq!(node.answer(GET).await, "", "there is no room");
    assert_eq!(node.counters.refused.load(Ordering::Relaxed), 1);
    drop(works);
    node.until_served().await;
    let silent = loop {
        // The one before may still be on its way out.
        let (refused, accepted) = (&node.counters.refused, &node.counters.connections);
        let before = (refused.load(Ordering::Relaxed), accepted.load(Ordering::Relaxed));
        let silent = node.says(b"").await;
        while before == (refused.load(Ordering::Relaxed), accepted.load(Ordering::Relaxed)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if accepted.load(Ordering::Relaxed) > before.1 {
            break silent;
        }
    };
    assert!(node.answer(GET).await.ends_with("here"), "who says nothing gives way");
    assert_eq!(node.counters.gave_way.load(Ordering::Relaxed), 1);
    end_of(silent).await;
}
