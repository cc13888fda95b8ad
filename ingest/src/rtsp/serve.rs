//! From an accepted socket to a connection that runs, and how it ended.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connection::Connection;
use super::error::Error;
use super::{Shared, add};
use crate::sessions::Open;

/// Runs a connection to its end and logs how it ended.
pub(super) async fn accept(
    shared: Arc<Shared>,
    open: Open,
    socket: TcpStream,
    acceptor: Option<TlsAcceptor>,
    shutdown: CancellationToken,
) {
    // Readers' frames go out as they are, not when the next one fills the packet.
    let ready = socket.set_nodelay(true).map_err(Error::from);
    let counters = Arc::clone(&shared.counters);
    let ended = match (ready, acceptor) {
        (Err(error), _) => Err(error),
        (Ok(()), None) => run(shared, open, socket, shutdown).await,
        (Ok(()), Some(acceptor)) => {
            let limit = shared.config.command_timeout;
            let cancel = open.cancel().clone();
            let handshake = tokio::select! {
                () = cancel.cancelled() => return,
                handshake = tokio::time::timeout(limit, acceptor.accept(socket)) => handshake,
            };
            match handshake {
                Ok(Ok(stream)) => run(shared, open, stream, shutdown).await,
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Error::Stalled { what: "TLS handshake", limit }),
            }
        }
    };
    match ended {
        Ok(()) => info!("RTSP connection closed"),
        Err(Error::Refused(reason)) => warn!(%reason, "RTSP client refused"),
        Err(reason @ Error::GaveWay) => debug!(%reason, "RTSP connection ended"),
        Err(reason @ (Error::Kicked | Error::Replaced | Error::Stopping | Error::Changed)) => {
            info!(%reason, "RTSP connection ended");
        }
        Err(reason) => {
            add(&counters.failed, 1);
            warn!(%reason, "RTSP connection failed");
        }
    }
}

async fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(
    shared: Arc<Shared>,
    open: Open,
    socket: S,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let mut connection = Connection::new(shared, open, socket, shutdown);
    let ended = AssertUnwindSafe(connection.serve()).catch_unwind().await;
    ended.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(ToString::to_string);
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Panicked(words.unwrap_or_default()))
    })
}
