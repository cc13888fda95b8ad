//! One publisher: its segments in order, read, and shown in their time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use super::file::{File, Kind};
use super::order::Order;
use super::traffic::{Closed, Traffic};
use super::{Server, Shared};
use crate::auth::{Grant, Request};
use crate::mp4::{self, Mp4Error};
use crate::name::StreamName;
use crate::paced::{self, PIECES_WAITING, Piece};
use crate::remote::{Sink, Status};
use crate::sessions::{self, SessionState};

/// Segments that wait to be shown, beside the one that is. A publisher that sends more waits.
const SEGMENTS_WAITING: usize = 2;

/// How long a fragment waits for its init segment, which may come over another connection.
const INIT_WAIT: Duration = Duration::from_secs(3);

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
    /// Those before it are still to be shown, or still on their way.
    #[error("segments come faster than they are shown")]
    TooFast,
    /// The stream was ended, or is somebody else's.
    #[error("the stream has ended")]
    Over,
}

impl From<Closed> for Refused {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Full => Self::TooFast,
            Closed::Over => Self::Over,
        }
    }
}

/// One publisher.
pub(super) struct Session {
    pub(super) who: Who,
    intake: Mutex<Intake>,
    order: AsyncMutex<Order>,
    /// Whether an init segment was taken, for the fragments that wait for it.
    has_init: watch::Sender<bool>,
    open: sessions::Open,
    done: CancellationToken,
}

/// What comes in, and where it goes.
struct Intake {
    traffic: Traffic,
    /// `None` once no more is taken.
    segments: Option<mpsc::Sender<Vec<Piece>>>,
}

/// A request that brings a segment, until it is answered.
pub(super) struct Flying(Arc<Session>);

impl Flying {
    /// Hands over the segment, which is taken within `limit` or refused. One that was taken before
    /// is passed over.
    pub(super) async fn land(
        self,
        file: &File<'_>,
        bytes: Bytes,
        limit: Duration,
    ) -> Result<(), Refused> {
        self.0.open.received(bytes.len() as u64);
        let taken = tokio::time::timeout(limit, self.0.take(file, bytes)).await;
        taken.unwrap_or(Err(Refused::TooFast))
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.traffic(|traffic| traffic.landed(Instant::now()));
    }
}

impl Session {
    /// Begins a stream.
    pub(super) fn begin(
        server: &Server,
        remote: SocketAddr,
        request: &Request,
        grant: &Grant,
    ) -> Arc<Self> {
        let shared = &server.shared;
        let done = shared.stop.child_token();
        let mut open = shared.sessions.open(remote, done.clone());
        open.limit(grant.lifetime);
        open.begin(SessionState::Publish, grant.name.clone(), &request.user, &request.query);
        let (segments, waiting) = mpsc::channel(SEGMENTS_WAITING);
        let traffic = Traffic::new(Instant::now());
        let session = Arc::new(Self {
            who: Who::of(request),
            intake: Mutex::new(Intake { traffic, segments: Some(segments) }),
            order: AsyncMutex::default(),
            has_init: watch::Sender::new(false),
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
            this.run(sink, waiting, server.shared.config.idle).await;
            this.cut();
            forget(&server.shared, &asked, &this);
            info!("HTTP publisher has gone");
        };
        shared.tasks.spawn_on(work.instrument(span), &shared.runtime);
        session
    }

    /// Whether it takes more segments.
    pub(super) fn is_open(&self) -> bool {
        !self.done.is_cancelled() && self.traffic(|traffic| traffic.is_open())
    }

    /// A request that brings a segment sets out; only so many do at a time.
    pub(super) fn set_out(this: &Arc<Self>) -> Result<Flying, Refused> {
        this.traffic(Traffic::set_out)?;
        Ok(Flying(Arc::clone(this)))
    }

    /// Reads a segment and has it shown, when it has its turn.
    async fn take(&self, file: &File<'_>, bytes: Bytes) -> Result<(), Refused> {
        let init = file.kind == Kind::Mp4 && mp4::find(&bytes, b"moov").is_some();
        if file.kind == Kind::Mp4 && !init {
            self.init_came().await?;
        }
        let segments = self.intake.lock().segments.clone().ok_or(Refused::Over)?;
        // First the place, then the reading, which moves everything on: what finds no place may
        // come again.
        let place = segments.reserve().await.map_err(|_| Refused::Over)?;
        let mut order = self.order.lock().await;
        if init {
            order.init(&bytes).map_err(|error| Refused::Unreadable(error.to_string()))?;
            self.has_init.send_replace(true);
            return Ok(());
        }
        let read = order.read(file.kind, file.name, bytes).map_err(Refused::Unreadable)?;
        if let Some(pieces) = read {
            self.traffic(Traffic::taken);
            place.send(pieces);
        }
        Ok(())
    }

    /// Waits until there is an init segment, and holds up nobody meanwhile.
    async fn init_came(&self) -> Result<(), Refused> {
        let mut has_init = self.has_init.subscribe();
        let came = tokio::time::timeout(INIT_WAIT, has_init.wait_for(|has| *has)).await;
        came.map(drop)
            .map_err(|_| Refused::Unreadable("fragments came before their init segment".into()))
    }

    /// No more segments come but those on their way. What waits is still shown.
    pub(super) fn end(&self) {
        self.traffic(Traffic::end);
    }

    /// Ends it at once, whatever waits: somebody else has its place.
    pub(super) fn cut(&self) {
        self.traffic(Traffic::close);
        self.done.cancel();
    }

    /// Looks at what comes in, or changes it. When no more is taken, what waits is the last.
    fn traffic<T>(&self, look: impl FnOnce(&mut Traffic) -> T) -> T {
        let mut intake = self.intake.lock();
        let seen = look(&mut intake.traffic);
        if !intake.traffic.is_open() {
            intake.segments = None;
        }
        seen
    }

    /// Shows what comes, until the end of it or until it is told to stop.
    async fn run(&self, sink: Sink, waiting: mpsc::Receiver<Vec<Piece>>, idle: Duration) {
        let (pieces, read) = mpsc::channel::<Result<Piece, Mp4Error>>(PIECES_WAITING);
        let publisher = ("http", self.open.remote().to_string());
        let played = paced::play(read, "reading segments", publisher, &sink, &self.done);
        // The player ends when it has shown what the others gave it.
        let fed = async {
            tokio::join!(self.forward(waiting, pieces), self.end_in_silence(idle));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = played => if let Err(error) = ended {
                warn!(%error, "HTTP publisher ended");
            },
            () = fed => {}
        }
    }

    /// Gives the player one segment after the other.
    async fn forward(
        &self,
        mut waiting: mpsc::Receiver<Vec<Piece>>,
        pieces: mpsc::Sender<Result<Piece, Mp4Error>>,
    ) {
        while let Some(segment) = waiting.recv().await {
            for piece in segment {
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
            self.traffic(|traffic| traffic.shown(Instant::now()));
        }
    }

    /// Ends the stream when nothing has come for a while.
    async fn end_in_silence(&self, idle: Duration) {
        loop {
            let silence = self.traffic(|traffic| traffic.silence(Instant::now()));
            let rest = idle.saturating_sub(silence);
            if rest.is_zero() {
                info!("no segment for {idle:?}");
                return self.end();
            }
            tokio::time::sleep(rest).await;
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
