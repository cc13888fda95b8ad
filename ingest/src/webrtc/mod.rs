//! WebRTC for publishers (WHIP, RFC 9725) and viewers (WHEP): all sessions on one UDP port.
//!
//! A [`Server`] owns the socket and a thread that serves it. HTTP handlers negotiate an answer and
//! hand the finished session to that thread; from then on nobody else touches it, so packets meet
//! no lock. Sessions are ICE-lite: the peer checks, we answer, and nothing but an authenticated
//! check ever tells us an address. The media cores are in [`crate::rtp`]; this module is transport.
//!
//! ```text
//! http ──► answer ──► worker ─┬─ mux: ufrag, address ──► session ─┬─ dtls, srtp
//!                             ├─ timers                           ├─ viewer    (hub ► RTP)
//!                             ├─ feeds: one reader per stream     ├─ publisher (RTP ► hub)
//!                             └─ questions ──► messages           └─ channels ─ sctp
//! ```
//!
//! Data channels beside media carry [`Messages`]. Refused: more than one picture and one sound,
//! media without BUNDLE and rtcp-mux, certificates without a fingerprint in the offer.

mod answer;
mod channels;
mod counters;
mod credentials;
mod dtls;
mod end;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod ice;
mod lifecycle;
mod line;
mod messages;
mod mux;
mod order;
mod publisher;
mod sctp;
mod sdp;
mod session;
mod socket;
mod srtp;
mod status;
mod stream;
mod stun;
mod timers;
mod viewer;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::auth::SharedAccess;
use crate::hub::Hub;

pub use crate::views::{HubViews, ViewError, Views};
pub use counters::{Counters, Histogram, HistogramSnapshot};
pub use messages::{LABEL, Messages, NoMessages, Speaker};
pub use sdp::SdpError;
pub use status::{SessionState, SessionStatus};

/// Orders from HTTP handlers that wait for the worker; a full queue makes them wait.
const COMMANDS_MAX: usize = 256;

/// How WebRTC is served.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one UDP address of all media. Port 0 takes any free one.
    pub udp: SocketAddr,
    /// Further host names or addresses that reach `udp` from outside, for the candidates.
    pub advertised: Vec<String>,
    /// `stun:` and `turn:` URLs named to clients in `Link` headers (RFC 9725 4.6).
    pub ice_servers: Vec<String>,
    /// Origins whose pages may use the routes; `*` is any.
    pub origins: Vec<String>,
    /// Sessions at the same time.
    pub sessions_max: usize,
    /// Sessions at the same time from one address.
    pub sessions_per_ip_max: usize,
    /// Sessions that have not finished their handshake at the same time.
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
    /// Loopback on 8189; 10,000 sessions, 256 of them in handshake, 128 from one address; 10 s for
    /// the handshake, 30 s of consent, 10 s for silent publishers and for rejoining, key frames
    /// every 2 s.
    fn default() -> Self {
        Self {
            udp: SocketAddr::from(([127, 0, 0, 1], 8189)),
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

/// WebRTC on one UDP port. Clones share it; the thread ends with [`Self::run`] or when the last
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
    commands: mpsc::Sender<order::Command>,
    identity: Arc<dtls::Identity>,
    candidates: Vec<SocketAddr>,
    local: SocketAddr,
    counters: Arc<Counters>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Server {
    /// Binds the port, makes a certificate and starts the thread that serves both.
    ///
    /// # Errors
    /// The address cannot be bound, an advertised name cannot be resolved, or the thread cannot
    /// be started.
    pub fn start(
        config: Config,
        hub: Hub,
        access: SharedAccess,
        views: Arc<dyn Views>,
    ) -> io::Result<Self> {
        let (socket, local) = socket::bind(config.udp)?;
        let candidates = ice::candidates(local, &config.advertised)?;
        let identity = Arc::new(dtls::Identity::generate()?);
        let counters = Arc::new(Counters::default());
        let messages = Arc::new(OnceLock::new());
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let settings = worker::Settings {
            config: config.clone(),
            identity: Arc::clone(&identity),
            counters: Arc::clone(&counters),
            views: Arc::clone(&views),
            messages: Arc::clone(&messages),
            hub: hub.clone(),
            local,
        };
        let thread = worker::spawn(socket, inbox, settings)?;
        tracing::info!(%local, ?candidates, "webrtc is served");
        let thread = Mutex::new(Some(thread));
        let shared = Shared {
            config,
            hub,
            access,
            views,
            messages,
            commands,
            identity,
            candidates,
            local,
            counters,
            thread,
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

    /// Figures for metrics, live.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// All sessions at this moment.
    pub async fn sessions(&self) -> Vec<SessionStatus> {
        let (reply, answer) = oneshot::channel();
        if self.shared.commands.send(order::Command::List(reply)).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Ends a session by the id that [`Self::sessions`] shows; false when there is none.
    pub async fn kick(&self, id: &str) -> bool {
        let (reply, answer) = oneshot::channel();
        let kick = order::Command::Kick { id: id.to_owned(), reply };
        self.shared.commands.send(kick).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Waits for `shutdown`, then tells all peers goodbye and stops the thread.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        shutdown.await;
        let _ = self.shared.commands.send(order::Command::Stop).await;
        let thread = self.shared.thread.lock().take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
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
