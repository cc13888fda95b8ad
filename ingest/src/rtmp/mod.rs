//! RTMP: publishers and viewers on port 1935, and on 1936 the same in TLS (RTMPS).
//!
//! This file and [`connection`] are the shell: a listener, and one task and one log span for each
//! connection, and one task for many viewers ([`audience`]); [`client`] calls other servers. What is said and what it means is decided in the cores
//! beside it, which do no input or output. Whatever a peer does ends its own connection at most, with
//! a reason in the log.

mod amf;
mod audience;
mod capabilities;
mod carrier;
mod chunk;
mod client;
mod clock;
mod connection;
mod error;
mod flv;
pub(crate) mod flv_file;
pub(crate) mod fuzz;
mod handshake;
mod lane;
mod outbox;
mod play;
mod publish;
mod session;
mod socket;
mod units;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, warn};

pub use crate::sessions::{SessionState, SessionStatus, Sessions};
pub use amf::AmfError;
pub use chunk::ChunkError;
pub use client::{pull, push, takes};
pub use error::Error;
pub use flv::MediaError;
pub use handshake::HandshakeError;

use crate::auth::SharedAccess;
use crate::counters::{add, counters};
use crate::hub::Hub;
use crate::views::Views;
use audience::Audiences;

/// Pause after the system refused to accept, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server listens on and how much it takes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub addr: SocketAddr,
    /// From accepting a connection to the end of its handshake, that of TLS included.
    pub handshake_timeout: Duration,
    /// From the handshake to `publish` or `play`, and for the question whether that is allowed.
    pub command_timeout: Duration,
    /// Between two media messages of a publisher.
    pub idle_timeout: Duration,
    /// For a viewer, or a client that waits for an answer, to take what was sent to it.
    pub write_timeout: Duration,
    /// How long a viewer waits for a stream that is not there.
    pub play_wait: Duration,
    /// How long a viewer's packets may wait for the next ones, so that fewer writes carry them.
    pub merge: Duration,
    /// Whether a second publisher of a name replaces the first; it is refused otherwise.
    pub take_over: bool,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Of these, connections that neither publish nor play yet. Beyond that the oldest of them ends
    /// for each newcomer, so that idle ones lock nobody out.
    pub idle_connections_max: usize,
    /// Bytes of one message, at most 16 MiB - 1.
    pub message_bytes_max: usize,
    /// With what to serve RTMPS; RTMP without.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for Config {
    /// Loopback on port 1935; 10 s for handshake, command and writing, 20 s between media, 2 s for
    /// a stream to appear; 1,000 connections, 256 of them idle; messages of 10 MiB; a second
    /// publisher is refused.
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 1935)),
            handshake_timeout: Duration::from_secs(10),
            command_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(10),
            play_wait: Duration::from_secs(2),
            merge: Duration::ZERO,
            take_over: false,
            connections_max: 1000,
            idle_connections_max: 256,
            message_bytes_max: 10 << 20,
            tls: None,
        }
    }
}

counters! {
    /// Connections accepted.
    connections,
    /// Connections, publishers and viewers turned away: limits, credentials, names, second
    /// publishers.
    refused,
    /// Idle connections ended to make room for newcomers.
    gave_way,
    /// Connections ended by an error.
    failed,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
    /// Media messages that could not be used.
    media_errors,
    /// Jumps of publishers' clocks that were repaired.
    clock_jumps,
    /// Messages of publishers' further tracks that could not be used: broken, of a codec that is not
    /// taken, or of more tracks than are carried.
    further_tracks,
}

/// A listener that is bound and waits to be run.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections of a server use.
struct Shared {
    config: Config,
    hub: Hub,
    access: SharedAccess,
    views: Arc<dyn Views>,
    counters: Arc<Counters>,
    sessions: Sessions,
    /// `rtmp` or `rtmps`.
    protocol: &'static str,
    audiences: Audiences,
}

impl Server {
    /// Binds the listener. Nothing is accepted before [`Self::run`].
    ///
    /// # Errors
    /// The system's, when the address cannot be had.
    pub async fn bind(
        config: Config,
        hub: Hub,
        access: SharedAccess,
        views: Arc<dyn Views>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(config.addr).await?;
        let local_addr = listener.local_addr()?;
        let protocol = if config.tls.is_some() { "rtmps" } else { "rtmp" };
        let sessions = Sessions::with_room(protocol, config.idle_connections_max);
        let audiences = Audiences::default();
        let shared = Shared { config, hub, access, views, counters, sessions, protocol, audiences };
        let shared = Arc::new(shared);
        Ok(Self { listener, local_addr, shared })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its connections, for listing and ending them. The handle outlives the server.
    pub fn sessions(&self) -> Sessions {
        self.shared.sessions.clone()
    }

    /// Accepts connections until `shutdown`, then ends them all and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        info!(addr = %self.local_addr, protocol = self.shared.protocol, "RTMP listens");
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer, &shutdown, &tasks),
                Err(error) => {
                    warn!(%error, "RTMP cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }

    fn admit(
        &self,
        socket: tokio::net::TcpStream,
        peer: SocketAddr,
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let Shared { config, counters, sessions, .. } = &*self.shared;
        let admitted = sessions.admit(peer, shutdown.child_token(), config.connections_max);
        let Some((session, pushed)) = admitted else {
            add(&counters.refused, 1);
            warn!(%peer, max = config.connections_max, "RTMP connection refused: too many");
            return;
        };
        add(&counters.connections, 1);
        add(&counters.gave_way, pushed.into());
        let span = tracing::info_span!(
            "rtmp",
            session = %session.id(),
            %peer,
            stream = tracing::field::Empty
        );
        let shared = Arc::clone(&self.shared);
        tasks.spawn(connection::run(shared, session, socket, shutdown.clone()).instrument(span));
    }
}
