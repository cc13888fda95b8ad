//! WebRTC for publishers (WHIP, RFC 9725) and viewers (WHEP): all sessions on one UDP and one TCP
//! port, on as many cores as there are.
//!
//! A [`Server`] owns a few workers, each a thread with a socket of its own on the one UDP port. HTTP
//! handlers negotiate an answer and hand the finished session to the worker with the fewest; from
//! then on nobody else touches it, so packets meet no lock. Sessions are ICE-lite: the peer checks, we answer, and nothing but an authenticated
//! check ever tells us an address. The media cores are in [`crate::rtp`]; this module is transport.
//!
//! ```text
//! http ──► answer ──► worker ─┬─ mux: ufrag, address ──► session ─┬─ dtls, srtp
//!      admission              ├─ strays: other workers            ├─ viewer    (hub ► RTP)
//!                             ├─ links: ICE-TCP                   ├─ publisher (RTP ► hub)
//!                             ├─ timers                           └─ channels ─ sctp
//!                             ├─ feeds: one reader per stream and rendition
//!                             └─ questions ──► messages
//! ```
//!
//! [`client`] is the other way round: streams of ours pushed to WHIP servers, and streams pulled from
//! WHEP servers, each with a session of its own.
//!
//! Data channels beside media carry [`Messages`] and what graphs say about pictures. Refused: more than one picture and one sound,
//! media without BUNDLE and rtcp-mux, certificates without a fingerprint in the offer.

mod admission;
mod answer;
mod channels;
mod client;
mod counters;
mod dtls;
mod end;
mod events;
mod formats;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod ice;
mod layer;
mod lifecycle;
mod line;
mod links;
mod messages;
mod mux;
mod order;
mod outlet;
mod publisher;
mod receive;
mod renditions;
mod results;
mod sctp;
mod sdp;
mod servers;
mod session;
mod socket;
mod srtp;
mod status;
mod strays;
mod stream;
mod stun;
mod timers;
mod video;
mod viewer;
mod worker;
mod workers;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::auth::SharedAccess;
use crate::hub::Hub;

pub use crate::views::{HubViews, ViewError, Views};
pub use client::{pull, push};
pub use counters::{Counters, Histogram, HistogramSnapshot};
pub use messages::{Answer, LABEL, Messages, NoMessages, Speaker};
pub use sdp::SdpError;
pub use servers::{IceServer, Login};
pub use status::{SessionState, SessionStatus};

/// Workers where the number of cores decides: beyond that one port is no bottleneck.
const WORKERS_AUTO_MAX: usize = 16;

/// How WebRTC is served.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one UDP address of all media. Port 0 takes any free one.
    pub udp: SocketAddr,
    /// Whether the TCP port of the same number carries media too, for peers behind firewalls.
    pub tcp: bool,
    /// Threads that share the sessions, each with a socket of its own; 0 is one for each core, 16
    /// at most.
    pub workers: u8,
    /// Whether each of several threads stays on a core of its own.
    pub pin: bool,
    /// Further host names or addresses that reach `udp` from outside, for the candidates.
    pub advertised: Vec<String>,
    /// Servers named to clients in `Link` headers (RFC 9725 4.6).
    pub ice_servers: Vec<IceServer>,
    /// Origins whose pages may use the routes; `*` is any.
    pub origins: Vec<String>,
    /// Sessions at the same time.
    pub sessions_max: usize,
    /// Sessions at the same time from one address, or one /64 of IPv6.
    pub sessions_per_ip_max: usize,
    /// Sessions that have not finished their handshake at the same time. Beyond that the oldest of
    /// them ends for each newcomer, as it does where the limits above are reached.
    pub handshakes_max: usize,
    /// How long a session may take from the POST to the end of its DTLS handshake.
    pub handshake_timeout: Duration,
    /// How long a session lives without an authenticated check of its peer (RFC 7675: 30 s).
    pub consent_timeout: Duration,
    /// How long a publisher may be silent altogether before its name is free again.
    pub publisher_timeout: Duration,
    /// How long viewers are kept when their stream's publisher goes, in case it comes back.
    pub rejoin_timeout: Duration,
    /// How often a publisher is asked for a key frame while something needs cuts; `None` is never
    /// unless somebody asks.
    pub key_interval: Option<Duration>,
    /// Whether a second publisher of a name replaces the first instead of being refused.
    pub take_over: bool,
}

impl Default for Config {
    /// Loopback on 8189, UDP and TCP, one thread; 10,000 sessions, 256 of them in handshake, 128 from one address; 10 s for
    /// the handshake, 30 s of consent, 10 s for silent publishers and for rejoining, key frames
    /// every 2 s.
    fn default() -> Self {
        Self {
            udp: SocketAddr::from(([127, 0, 0, 1], 8189)),
            tcp: true,
            workers: 1,
            pin: true,
            advertised: Vec::new(),
            ice_servers: Vec::new(),
            origins: vec!["*".into()],
            sessions_max: 10_000,
            sessions_per_ip_max: 128,
            handshakes_max: 256,
            handshake_timeout: Duration::from_secs(10),
            consent_timeout: Duration::from_secs(30),
            publisher_timeout: Duration::from_secs(10),
            rejoin_timeout: Duration::from_secs(10),
            key_interval: Some(Duration::from_secs(2)),
            take_over: false,
        }
    }
}

/// WebRTC on one port. Clones share it; the threads end with [`Self::run`] or when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    hub: Hub,
    access: SharedAccess,
    views: Arc<dyn Views>,
    messages: Arc<OnceLock<worker::Answers>>,
    admission: Arc<admission::Admission>,
    workers: workers::Workers,
    identity: Arc<dtls::Identity>,
    candidates: Vec<SocketAddr>,
    local: SocketAddr,
    /// Of what no worker sees, and each worker's own.
    counters: Counters,
    of_workers: Vec<Arc<Counters>>,
}

impl Server {
    /// Binds the port, makes a certificate and starts the threads that serve both.
    ///
    /// # Errors
    /// The address cannot be bound, an advertised name cannot be resolved, or a thread cannot be
    /// started.
    pub fn start(
        config: Config,
        hub: Hub,
        access: SharedAccess,
        views: Arc<dyn Views>,
    ) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = match config.workers {
            0 => cores.min(WORKERS_AUTO_MAX) as u8,
            count => count.min(strays::WORKERS_MAX),
        };
        let socket::Bound { udp, tcp, local } = socket::bind(config.udp, count, config.tcp)?;
        let candidates = ice::candidates(local, &config.advertised)?;
        let identity = Arc::new(dtls::Identity::generate()?);
        let messages = Arc::new(OnceLock::new());
        let limits = admission::Limits {
            sessions: config.sessions_max,
            from_address: config.sessions_per_ip_max,
            handshakes: config.handshakes_max,
        };
        let mut workers = workers::Workers::new();
        let mut of_workers = Vec::new();
        let mut tcp = tcp;
        for (socket, (others, notes)) in udp.into_iter().zip(strays::Others::of(count)) {
            let counters = Arc::new(Counters::default());
            of_workers.push(Arc::clone(&counters));
            let settings = worker::Settings {
                config: config.clone(),
                identity: Arc::clone(&identity),
                counters,
                views: Arc::clone(&views),
                messages: Arc::clone(&messages),
                hub: hub.clone(),
                local,
                tcp: tcp.take(),
            };
            workers.start(socket, (others, notes), settings, config.pin && count > 1)?;
        }
        tracing::info!(%local, ?candidates, workers = count, tcp = config.tcp, "webrtc is served");
        let shared = Shared {
            admission: admission::Admission::new(limits, count),
            config,
            hub,
            access,
            views,
            messages,
            workers,
            identity,
            candidates,
            local,
            counters: Counters::default(),
            of_workers,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Has messages of data channels answered, in the runtime that this is called in, so that no
    /// answer keeps media waiting. Until then they are refused; whoever comes second is not heard.
    pub fn answer_messages(&self, messages: Arc<dyn Messages>) {
        let runtime = tokio::runtime::Handle::try_current().ok();
        if self.shared.messages.set(worker::Answers { messages, runtime }).is_err() {
            tracing::warn!("messages of data channels are answered already");
        }
    }

    /// The UDP address that carries all media.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// The routes of RFC 9725 for every stream: `POST` and `OPTIONS` on `/{stream}/whip` and
    /// `/{stream}/whep`, `PATCH` and `DELETE` on the session below them. Other paths are answered
    /// with 404, so this is meant as another router's fallback; serve it with
    /// [`axum::extract::ConnectInfo`] of the peer, else limits for each address see one address.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone())
    }

    /// Whether a path belongs to [`Self::router`], for routers that have pages of streams besides.
    pub fn serves(path: &str) -> bool {
        http::Route::parse(path).is_some()
    }

    /// Figures for metrics, those of all threads together.
    pub fn counters(&self) -> Counters {
        let sum = Counters::default();
        sum.merge(&self.shared.counters);
        self.shared.of_workers.iter().for_each(|counters| sum.merge(counters));
        sum
    }

    /// All sessions at this moment, oldest first.
    pub async fn sessions(&self) -> Vec<SessionStatus> {
        self.shared.workers.list().await
    }

    /// Ends a session by the id that [`Self::sessions`] shows; false when there is none.
    pub async fn kick(&self, id: &str) -> bool {
        self.shared.workers.kick(id).await
    }

    /// Waits for `shutdown`, then tells all peers goodbye and stops the threads.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        shutdown.await;
        self.shared.workers.stop().await;
    }
}

/// Which side of a stream a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends media to us: WHIP.
    Publisher,
    /// Gets media from us: WHEP.
    Viewer,
}

impl Role {
    /// The last segment of the route.
    pub const fn route(self) -> &'static str {
        match self {
            Self::Publisher => "whip",
            Self::Viewer => "whep",
        }
    }
}

/// An IPv4 address is one whether or not the socket is IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
