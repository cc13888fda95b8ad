//! Shells that accept connections for the node's HTTP faces.
//!
//! One port answers both plain HTTP and HTTPS where that is wanted: the first byte of a TLS
//! connection is 0x16 (RFC 8446 5.1), which begins no HTTP request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::{Instrument as _, debug, warn};

/// Connections of one listener at the same time.
const CONNECTIONS_MAX: usize = 4096;

/// How long a client may take for its TLS handshake or its first byte.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take for the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

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

/// Serves `router` on `listener` until `shutdown`, then lets requests end.
pub async fn serve(
    listener: TcpListener,
    speaks: Speaks,
    router: Router,
    shutdown: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            debug!(%peer, "refused: too many connections");
            continue;
        };
        let (speaks, router, shutdown) = (speaks.clone(), router.clone(), shutdown.clone());
        let span = tracing::debug_span!("http", %peer);
        tasks.spawn(
            async move {
                if let Err(error) = connection(stream, peer, speaks, router, shutdown).await {
                    debug!(error, "connection ended");
                }
                drop(permit);
            }
            .instrument(span),
        );
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    speaks: Speaks,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let tls = match speaks {
        Speaks::Http => None,
        Speaks::Tls(config) => Some(config),
        Speaks::Both(config) => {
            let mut first = [0];
            let peeked = tokio::time::timeout(HANDSHAKE_LIMIT, stream.peek(&mut first)).await;
            match peeked {
                Ok(Ok(1)) if first[0] == 0x16 => Some(config),
                Ok(Ok(1)) => None,
                _ => return Err("no first byte".into()),
            }
        }
    };
    match tls {
        None => http(stream, peer, router, shutdown).await,
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            let stream = tokio::time::timeout(HANDSHAKE_LIMIT, handshake)
                .await
                .map_err(|_| "TLS handshake took too long".to_owned())?
                .map_err(|error| error.to_string())?;
            http(stream, peer, router, shutdown).await
        }
    }
}

async fn http<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    // Live video must not wait for window updates.
    trickle::tune_connection(&mut builder);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result.map_err(|error| error.to_string()),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(|error| error.to_string())
}
