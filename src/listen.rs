//! Shells that accept connections for the node's HTTP faces.
//!
//! One port answers both plain HTTP and HTTPS where that is wanted: the first byte of a TLS
//! connection is 0x16 (RFC 8446 5.1), which begins no HTTP request. A connection that has made no
//! request yet gives way to newcomers when there are too many of its kind, and one that stands still
//! ends: before its first request, within a head or a body, or without taking what it asked for.

mod slow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ingest::half_open::{HalfOpen, Place};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::{Instrument as _, debug, warn};

/// Connections of one listener at the same time.
const CONNECTIONS_MAX: usize = 4096;

/// Of these, connections that have made no request yet.
const HALF_OPEN_MAX: usize = 1024;

/// How long a connection that gives way may take to go.
const WAY_LIMIT: Duration = Duration::from_secs(1);

/// How long a client may take for its TLS handshake or its first byte.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take until its first request, and for the head of each.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long the body of a request of people may stand still: longer than a publisher has for a whole
/// segment, who gets an answer of its own. Other nodes have no limit here: what they send is live.
const BODY_LIMIT: Duration = Duration::from_secs(40);

/// How long a client may take nothing of what is sent to it.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// What a listener bears.
#[derive(Clone, Copy)]
struct Limits {
    connections: usize,
    half_open: usize,
    handshake: Duration,
    head: Duration,
    body: Duration,
    write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            half_open: HALF_OPEN_MAX,
            handshake: HANDSHAKE_LIMIT,
            head: HEAD_LIMIT,
            body: BODY_LIMIT,
            write: WRITE_LIMIT,
        }
    }
}

/// What a listener speaks.
#[derive(Clone)]
pub enum Speaks {
    /// Plain HTTP only.
    Http,
    /// TLS only.
    Tls(Arc<rustls::ServerConfig>),
    /// Whatever the client begins with.
    Both(Arc<rustls::ServerConfig>),
}

/// What the HTTP listeners of a node count.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections turned away since there were too many.
    pub refused: AtomicU64,
    /// Connections without a request ended to make room for newcomers.
    pub gave_way: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Serves `router` on `listener` until `shutdown`, then lets requests end.
pub async fn serve(
    listener: TcpListener,
    speaks: Speaks,
    router: Router,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) {
    serve_within(Limits::default(), listener, speaks, router, counters, shutdown).await;
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    speaks: Speaks,
    router: Router,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let room = Room {
        all: Arc::new(Semaphore::new(limits.connections)),
        half_open: HalfOpen::new(limits.half_open),
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: others must end first.
                warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(permit) = room.permit(&counters).await else {
            count(&counters.refused);
            debug!(%peer, "refused: too many connections");
            continue;
        };
        count(&counters.connections);
        let over = CancellationToken::new();
        let let_go = over.clone();
        let (place, gave_way) = room.half_open.enter(peer.ip(), move || let_go.cancel());
        if gave_way {
            count(&counters.gave_way);
        }
        let guest = Guest { peer, place: Arc::new(place), router: router.clone(), limits };
        let (speaks, shutdown) = (speaks.clone(), shutdown.clone());
        let span = tracing::debug_span!("http", %peer);
        tasks.spawn(
            async move {
                let life = connection(stream, guest, speaks, shutdown);
                match over.run_until_cancelled(life).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => debug!(error, "connection ended"),
                    None => debug!("connection without a request gave way to a newcomer"),
                }
                drop(permit);
            }
            .instrument(span),
        );
    }
    tasks.close();
    tasks.wait().await;
}

/// For how many there is room at one listener.
struct Room {
    all: Arc<Semaphore>,
    half_open: HalfOpen,
}

impl Room {
    /// Room for one more, that of a half-open connection if need be.
    async fn permit(&self, counters: &Counters) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() {
            return Some(permit);
        }
        if !self.half_open.push_out(None) {
            return None;
        }
        count(&counters.gave_way);
        let freed = Arc::clone(&self.all).acquire_owned();
        tokio::time::timeout(WAY_LIMIT, freed).await.ok()?.ok()
    }
}

/// Who connected, and what answers.
struct Guest {
    peer: SocketAddr,
    /// Until the first request.
    place: Arc<Place>,
    router: Router,
    limits: Limits,
}

async fn connection(
    stream: TcpStream,
    guest: Guest,
    speaks: Speaks,
    shutdown: CancellationToken,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let limits = guest.limits;
    let body = (!matches!(speaks, Speaks::Tls(_))).then_some(limits.body);
    let tls = match speaks {
        Speaks::Http => None,
        Speaks::Tls(config) => Some(config),
        Speaks::Both(config) => {
            let mut first = [0];
            let peeked = tokio::time::timeout(limits.handshake, stream.peek(&mut first)).await;
            match peeked {
                Ok(Ok(1)) if first[0] == 0x16 => Some(config),
                Ok(Ok(1)) => None,
                _ => return Err("no first byte".into()),
            }
        }
    };
    let stream = slow::Taking::new(stream, limits.write);
    match tls {
        None => http(stream, guest, body, shutdown).await,
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            let stream = tokio::time::timeout(limits.handshake, handshake)
                .await
                .map_err(|_| "TLS handshake took too long".to_owned())?
                .map_err(|error| error.to_string())?;
            // A certificate authority that looked for a proof: the handshake was all (RFC 8737 3).
            if stream.get_ref().1.alpn_protocol() == Some(crate::acme::ACME_TLS) {
                return Ok(());
            }
            http(stream, guest, body, shutdown).await
        }
    }
}

/// Serves requests, whose bodies may stand still for `body`, if there is a limit.
async fn http<S>(
    stream: S,
    guest: Guest,
    body: Option<Duration>,
    shutdown: CancellationToken,
) -> Result<(), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let Guest { peer, place, router, limits } = guest;
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        place.leave();
        asks.store(true, Ordering::Relaxed);
        let mut request = request.map(|incoming| slow::body(incoming, body));
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    // Also of those who say too little to tell which HTTP they speak.
    let nothing_asked = async move {
        tokio::time::sleep(limits.head).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    // Live video must not wait for window updates.
    trickle::tune_connection(&mut builder);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result.map_err(|error| error.to_string()),
        () = nothing_asked => return Err("no request in time".into()),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
