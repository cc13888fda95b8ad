//! One publisher: its segments in order, read, and shown in their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use super::file::Kind;
use super::{Server, Shared};
use crate::auth::{Grant, Request};
use crate::mp4::Mp4Error;
use crate::name::StreamName;
use crate::paced::{self, PIECES_WAITING, Piece};
use crate::remote::{Sink, Status};
use crate::segment::{Form, Open};
use crate::sessions::{self, SessionState};

/// Segments that wait to be shown, beside the one that is. A publisher that sends more waits.
const SEGMENTS_WAITING: usize = 2;

/// How long a fragment waits for its init segment, which may come over another connection.
const INIT_WAIT: Duration = Duration::from_secs(3);

/// How long the end waits for segments on their way.
const LANDING_MAX: Duration = Duration::from_secs(3);

/// How often a session looks whether segments still come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who publishes: a request of somebody else is asked about anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    ip: std::net::IpAddr,
    user: String,
    password: String,
    token: String,
}

impl Who {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            ip: request.ip,
            user: request.user.clone(),
            password: request.password.clone(),
            token: request.token.clone(),
        }
    }
}

/// Why a segment is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It cannot be read, or there is nothing in it.
    #[error("{0}")]
    Unreadable(String),
    /// Those before it are still to be shown.
    #[error("segments come faster than they are shown")]
    TooFast,
    /// The stream was ended, or is somebody else's.
    #[error("the stream has ended")]
    Over,
}

/// One publisher.
pub(super) struct Session {
    pub(super) who: Who,
    order: AsyncMutex<Order>,
    /// Wakes fragments that wait for an init segment.
    init: Notify,
    /// Requests that bring something.
    flying: AtomicUsize,
    /// Wakes who waits for them.
    landed: Notify,
    /// `None` once the end was said.
    segments: Mutex<Option<mpsc::Sender<Vec<Piece>>>>,
    touched: Mutex<Instant>,
    open: sessions::Open,
    done: CancellationToken,
}

/// A request that brings something, until it is answered.
pub(super) struct Flying(Arc<Session>);

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.flying.fetch_sub(1, Ordering::AcqRel);
        self.0.landed.notify_waiters();
    }
}

/// What goes on from segment to segment.
#[derive(Default)]
struct Order {
    open: Open,
    newest: Option<u64>,
}

impl Session {
    /// Begins a stream.
    pub(super) fn begin(
        server: &Server,
        remote: std::net::SocketAddr,
        request: &Request,
        grant: &Grant,
    ) -> Arc<Self> {
        let shared = &server.shared;
        let done = shared.stop.child_token();
        let mut open = shared.sessions.open(remote, done.clone());
        open.limit(grant.lifetime);
        open.begin(SessionState::Publish, grant.name.clone(), &request.user, &request.query);
        let (segments, waiting) = mpsc::channel(SEGMENTS_WAITING);
        let session = Arc::new(Self {
            who: Who::of(request),
            order: AsyncMutex::default(),
            init: Notify::new(),
            flying: AtomicUsize::new(0),
            landed: Notify::new(),
            segments: Mutex::new(Some(segments)),
            touched: Mutex::new(Instant::now()),
            open,
            done,
        });
        let take_over = grant.take_over.unwrap_or(shared.config.take_over);
        let hub = shared.hub.clone();
        let sink = Sink::new(hub, grant.name.clone(), take_over, Status::default());
        let (this, server, asked) = (Arc::clone(&session), server.clone(), request.name.clone());
        let span = info_span!("http push", stream = %grant.name, %remote);
        let work = async move {
            info!("HTTP publisher accepted");
            this.run(sink, waiting, &server.shared, remote.to_string()).await;
            this.done.cancel();
            forget(&server.shared, &asked, &this);
            info!("HTTP publisher has gone");
        };
        shared.tasks.spawn_on(work.instrument(span), &shared.runtime);
        session
    }

    /// Whether it takes more segments.
    pub(super) fn is_open(&self) -> bool {
        !self.done.is_cancelled() && self.segments.lock().is_some()
    }

    /// Takes a segment; false for one that it has.
    pub(super) async fn segment(
        &self,
        kind: Kind,
        number: Option<u64>,
        bytes: Bytes,
        limit: Duration,
    ) -> Result<bool, Refused> {
        self.touch();
        self.open.received(bytes.len() as u64);
        if kind == Kind::Mp4 && self.init(&bytes).await? {
            return Ok(true);
        }
        let mut order = self.order.lock().await;
        if number.is_some() && number == order.newest {
            return Ok(false);
        }
        let again = number.zip(order.newest).is_some_and(|(number, newest)| number < newest);
        let pieces = order.read(kind, again, bytes)?;
        let to = self.segments.lock().clone().ok_or(Refused::Over)?;
        let sent = tokio::time::timeout(limit, to.send(pieces)).await;
        self.touch();
        match sent {
            Ok(Ok(())) => {
                order.newest = number.or(order.newest);
                Ok(true)
            }
            Ok(Err(_)) => Err(Refused::Over),
            Err(_) => Err(Refused::TooFast),
        }
    }

    /// Takes an init segment; false for fragments, once theirs is there.
    async fn init(&self, bytes: &[u8]) -> Result<bool, Refused> {
        let come = async {
            loop {
                let mut wake = std::pin::pin!(self.init.notified());
                wake.as_mut().enable();
                let mut order = self.order.lock().await;
                if order.open.init(bytes).is_ok() {
                    self.init.notify_waiters();
                    return true;
                }
                if order.open.has_init() {
                    return false;
                }
                drop(order);
                wake.await;
            }
        };
        let missing = || Refused::Unreadable("fragments came before their init segment".into());
        tokio::time::timeout(INIT_WAIT, come).await.map_err(|_| missing())
    }

    /// A request that brings something.
    pub(super) fn flying(this: &Arc<Self>) -> Flying {
        this.flying.fetch_add(1, Ordering::AcqRel);
        Flying(Arc::clone(this))
    }

    /// No more segments come but those on their way: each has a connection of its own, and the word
    /// of the end may be faster. What waits is still shown.
    pub(super) async fn end(&self) {
        let landed = async {
            loop {
                let mut landed = std::pin::pin!(self.landed.notified());
                landed.as_mut().enable();
                if self.flying.load(Ordering::Acquire) == 0 {
                    return;
                }
                landed.await;
            }
        };
        let _ = tokio::time::timeout(LANDING_MAX, landed).await;
        self.close();
    }

    /// As [`Self::end`], at once.
    pub(super) fn close(&self) {
        self.segments.lock().take();
    }

    pub(super) fn touch(&self) {
        *self.touched.lock() = Instant::now();
    }

    async fn run(
        &self,
        sink: Sink,
        mut waiting: mpsc::Receiver<Vec<Piece>>,
        shared: &Shared,
        remote: String,
    ) {
        let (pieces, read) = mpsc::channel::<Result<Piece, Mp4Error>>(PIECES_WAITING);
        let forward = async move {
            while let Some(segment) = waiting.recv().await {
                for piece in segment {
                    if pieces.send(Ok(piece)).await.is_err() {
                        return;
                    }
                }
            }
        };
        let silence = async {
            let mut look = tokio::time::interval(LOOK_EVERY);
            loop {
                look.tick().await;
                if self.touched.lock().elapsed() > shared.config.idle {
                    return;
                }
            }
        };
        let publisher = ("http", remote);
        let played = paced::play(read, "reading segments", publisher, &sink, &self.done);
        // The player ends when it has shown what the forwarder gave it, or when it is told to.
        let forward = async {
            forward.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = played => if let Err(error) = ended {
                warn!(%error, "HTTP publisher ended");
            },
            () = forward => {}
            () = silence => info!("no segment for {:?}", shared.config.idle),
        }
    }
}

impl Order {
    /// What is in a segment.
    fn read(&mut self, kind: Kind, again: bool, bytes: Bytes) -> Result<Vec<Piece>, Refused> {
        if again {
            self.open.begin_again();
        }
        let form = if kind == Kind::Mp4 { Form::Fragments } else { Form::Ts };
        let mut pieces = Vec::new();
        let read = self.open.segment(form, bytes, &mut pieces);
        read.map_err(|error| Refused::Unreadable(error.to_string()))?;
        match pieces.iter().any(|piece| matches!(piece, Piece::Packet(_))) {
            true => Ok(pieces),
            false => {
                let what = "no picture and no sound was found in the segment";
                Err(Refused::Unreadable(what.into()))
            }
        }
    }
}

/// Takes a session off the list, unless another has its place.
fn forget(shared: &Shared, asked: &StreamName, session: &Arc<Session>) {
    let mut open = shared.open.lock();
    if open.get(asked).is_some_and(|known| Arc::ptr_eq(known, session)) {
        open.remove(asked);
    }
}
