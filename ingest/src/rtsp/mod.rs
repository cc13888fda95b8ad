//! RTSP: publishers and readers on port 8554, with TLS on 8322; media interleaved on the connection
//! or as datagrams on one pair of ports.
//!
//! This file, [`connection`], [`serve`] and [`udp`] are the shell for clients, [`pull`], [`push`] and
//! [`line`] that for other servers. What is said and what it means is decided in the cores beside
//! them, which do no input or output: [`framing`], [`session`] and [`call`] for the conversation,
//! [`receiver`] and [`sender`] for media. Whatever a peer does ends its own
//! connection at most, with a reason in the log.

mod announce;
mod call;
mod challenge;
mod connection;
pub(crate) mod decode_times;
mod describe;
mod digest;
mod error;
mod framing;
pub(crate) mod fuzz;
mod line;
mod pull;
mod push;
mod receiver;
mod reply;
mod sender;
mod serve;
mod session;
mod sound;
mod transport;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pipeline::Codec;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, warn};

pub use announce::SdpError;
pub use error::Error;
pub use framing::FramingError;
pub use pull::pull;
pub use push::push;
pub use receiver::MediaError;
pub use session::SessionError;

use crate::auth::SharedAccess;
use crate::counters::{add, counters};
use crate::hub::Hub;
use crate::sessions::Sessions;
use crate::views::{Takes, Views};
use udp::Ports;

/// Pause after the system refused to accept, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What RTSP readers take.
pub const TAKES: Takes = Takes {
    label: "RTSP",
    video: &[Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Vp8],
    audio: &[Codec::Aac, Codec::Opus, Codec::Mp3, Codec::G711U, Codec::G711A],
    reordering: true,
};

/// What a server listens on and how much it takes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub addr: SocketAddr,
    /// Where to listen for TLS, and with which certificate.
    pub tls: Option<(SocketAddr, Arc<rustls::ServerConfig>)>,
    /// Where RTP datagrams come and go; RTCP has the port behind it. `None` takes TCP only.
    pub udp: Option<SocketAddr>,
    /// For the handshake of TLS, for the next request of a client that does not publish or read
    /// yet, and for the question whether that is allowed.
    pub command_timeout: Duration,
    /// Between two packets of a publisher.
    pub idle_timeout: Duration,
    /// For a reader, or a client that waits for an answer, to take what was sent to it.
    pub write_timeout: Duration,
    /// Writing for so long shows that a reader is too slow: it goes on at the next key picture.
    pub slow_after: Duration,
    /// Whether a second publisher of a name replaces the first; it is refused otherwise.
    pub take_over: bool,
    /// Whether passwords may be proven by digest, where the node knows them.
    pub digest: bool,
    /// Connections at the same time, those of TLS counted apart.
    pub connections_max: usize,
    /// Of these, connections that neither publish nor read yet. Beyond that the oldest of them ends
    /// for each newcomer.
    pub idle_connections_max: usize,
}

impl Default for Config {
    /// Loopback on port 8554, datagrams on 8000 and 8001, no TLS; 10 s for requests, media and
    /// writing, 1 s for slow readers; 1,000 connections, 256 of them idle; a second publisher is
    /// refused.
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 8554)),
            tls: None,
            udp: Some(SocketAddr::from(([127, 0, 0, 1], 8000))),
            command_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            slow_after: Duration::from_secs(1),
            take_over: false,
            digest: true,
            connections_max: 1000,
            idle_connections_max: 256,
        }
    }
}

counters! {
    /// Connections accepted.
    connections,
    /// Connections, publishers and readers turned away: limits, credentials, names, second
    /// publishers.
    refused,
    /// Idle connections ended to make room for newcomers.
    gave_way,
    /// Connections ended by an error.
    failed,
    /// Bytes received, datagrams included.
    bytes_in,
    /// Bytes sent, datagrams included.
    bytes_out,
    /// Packets of publishers that could not be used.
    media_errors,
    /// Datagrams of strangers, and those that a session or the system did not take in time.
    datagrams_dropped,
    /// Frames that readers lost by being slow.
    lagged,
}

/// Listeners that are bound and wait to be run.
pub struct Server {
    plain: (TcpListener, SocketAddr),
    tls: Option<(TcpListener, SocketAddr, TlsAcceptor)>,
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
    tls_sessions: Sessions,
    ports: Option<Ports>,
}

impl Server {
    /// Binds the listeners. Nothing is accepted before [`Self::run`].
    ///
    /// # Errors
    /// The system's, when an address cannot be had; its text names it.
    pub async fn bind(
        config: Config,
        hub: Hub,
        access: SharedAccess,
        views: Arc<dyn Views>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let named = |what: &'static str, address: SocketAddr| {
            move |error: io::Error| {
                io::Error::new(error.kind(), format!("{what} {address}: {error}"))
            }
        };
        let plain = TcpListener::bind(config.addr).await.map_err(named("tcp", config.addr))?;
        let plain = (plain.local_addr()?, plain);
        let tls = match &config.tls {
            Some((address, tls)) => {
                let listener = TcpListener::bind(address).await.map_err(named("tcp", *address))?;
                let local = listener.local_addr()?;
                Some((listener, local, TlsAcceptor::from(Arc::clone(tls))))
            }
            None => None,
        };
        let ports = config.udp.map(|address| {
            Ports::bind(address, Arc::clone(&counters)).map_err(named("udp", address))
        });
        let ports = ports.transpose()?;
        let sessions = Sessions::with_room("rtsp", config.idle_connections_max);
        let tls_sessions = Sessions::with_room("rtsps", config.idle_connections_max);
        let shared = Shared { config, hub, access, views, counters, sessions, tls_sessions, ports };
        Ok(Self { plain: (plain.1, plain.0), tls, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.plain.1
    }

    /// Where it listens for TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|(_, local, _)| *local)
    }

    /// The ports of RTP and RTCP.
    pub fn udp_ports(&self) -> Option<(u16, u16)> {
        self.shared.ports.as_ref().map(Ports::numbers)
    }

    /// Its connections without and with TLS, for listing and ending them. The handles outlive the
    /// server.
    pub fn sessions(&self) -> [Sessions; 2] {
        [self.shared.sessions.clone(), self.shared.tls_sessions.clone()]
    }

    /// Accepts connections until `shutdown`, then ends them all and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let tls = self.tls.as_ref().map(|(_, local, _)| *local);
        info!(addr = %self.plain.1, ?tls, udp = ?self.udp_ports(), "RTSP listens");
        if let Some(ports) = &self.shared.ports {
            tasks.spawn(ports.clone().run(shutdown.clone()));
        }
        loop {
            let with_tls = async {
                match &self.tls {
                    Some((listener, ..)) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            let (accepted, acceptor) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.plain.0.accept() => (accepted, None),
                accepted = with_tls => (accepted, self.tls.as_ref().map(|tls| tls.2.clone())),
            };
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer, acceptor, &shutdown, &tasks),
                Err(error) => {
                    warn!(%error, "RTSP cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.plain);
        drop(self.tls);
        tasks.close();
        tasks.wait().await;
    }

    fn admit(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        acceptor: Option<TlsAcceptor>,
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let Shared { config, counters, sessions, tls_sessions, .. } = &*self.shared;
        let sessions = if acceptor.is_some() { tls_sessions } else { sessions };
        let admitted = sessions.admit(peer, shutdown.child_token(), config.connections_max);
        let Some((open, pushed)) = admitted else {
            add(&counters.refused, 1);
            warn!(%peer, max = config.connections_max, "RTSP connection refused: too many");
            return;
        };
        add(&counters.connections, 1);
        add(&counters.gave_way, pushed.into());
        let span = tracing::info_span!(
            "rtsp",
            session = %open.id(),
            %peer,
            stream = tracing::field::Empty
        );
        let shared = Arc::clone(&self.shared);
        let run = serve::accept(shared, open, socket, acceptor, shutdown.clone());
        tasks.spawn(run.instrument(span));
    }
}
