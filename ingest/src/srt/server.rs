//! The listener: one socket for all sessions, handshakes, and the list of who is there.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span, warn};

use super::accept::{Door, Knock, Wish};
use super::admit::{Task, admit};
use super::connection::{Connection, Ended, Terms};
use super::handshake::Reject;
use super::link::{DATAGRAMS_WAITING, Link, Shown, now};
use super::session::{self, SessionError};
use super::stats::Statistics;
use super::strikes::Strikes;
use super::wire;
use super::{Config, Counters, Rules, add};
use crate::auth::SharedAccess;
use crate::hub::Hub;
use crate::mpegts::{Fanout, Feed};
use crate::sessions::{Open, SessionStatus, Sessions};

/// Room for a datagram; longer ones are no SRT and cut off.
const DATAGRAM_ROOM: usize = 2048;

/// What the socket is asked to keep for us in bytes, as far as the system allows.
const SOCKET_BYTES: usize = 8 << 20;

/// Pause after the system refused to receive.
const RECEIVE_PAUSE: Duration = Duration::from_millis(10);

/// A listener that is bound and waits to be run.
pub struct Server {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) hub: Hub,
    pub(super) fanout: Fanout,
    pub(super) access: SharedAccess,
    pub(super) rules: Rules,
    counters: Arc<Counters>,
    connections: Connections,
    socket: Arc<UdpSocket>,
    door: Door,
    pub(super) table: Mutex<Table>,
    pub(super) strikes: Mutex<Strikes>,
    /// Passphrases are tried one after the other: a flood of callers takes one core at most.
    pub(super) trying: Semaphore,
    tasks: TaskTracker,
}

/// Who is there, by what packets say.
#[derive(Default)]
pub(super) struct Table {
    /// Sessions by our socket id.
    pub(super) sessions: HashMap<u32, Place>,
    /// Callers by address and their socket id, with the answer they got; none while it is being
    /// looked for.
    callers: HashMap<(SocketAddr, u32), Option<Vec<u8>>>,
    /// Sessions and handshakes by address.
    per_ip: HashMap<IpAddr, usize>,
    handshakes: usize,
}

pub(super) struct Place {
    remote: SocketAddr,
    datagrams: mpsc::Sender<BytesMut>,
}

/// The list of a server's connections with their figures. Cloning shares it.
#[derive(Clone)]
pub struct Connections {
    sessions: Sessions,
    shown: Arc<Mutex<HashMap<String, Shown>>>,
}

impl Connections {
    fn new() -> Self {
        Self { sessions: Sessions::new("srt"), shown: Arc::default() }
    }

    /// Who is there and what they do.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// All connections, the oldest first, with their figures of the last quarter of a second.
    pub fn list(&self) -> Vec<(SessionStatus, Statistics)> {
        let with = |status: SessionStatus| {
            let figures = self.statistics(&status.id);
            (status, figures.unwrap_or_default())
        };
        self.sessions.list().into_iter().map(with).collect()
    }

    /// One connection's figures.
    pub fn statistics(&self, id: &str) -> Option<Statistics> {
        self.shown.lock().get(id).map(|shown| *shown.lock())
    }
}

impl Server {
    /// Binds the socket. Nothing is answered before [`Self::run`].
    ///
    /// # Errors
    /// The system's, when the address cannot be had.
    pub fn bind(
        config: Config,
        hub: Hub,
        access: SharedAccess,
        fanout: Fanout,
        rules: Rules,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let socket = Arc::new(open_socket(config.addr)?);
        let local_addr = socket.local_addr()?;
        let door = Door::new(now(), &rand::random(), rand::random_range(1..1 << 30));
        let connections = Connections::new();
        let (table, tasks) = (Mutex::default(), TaskTracker::new());
        let shared = Shared {
            config,
            hub,
            fanout,
            access,
            rules,
            counters,
            connections,
            socket,
            door,
            table,
            strikes: Mutex::default(),
            trying: Semaphore::new(1),
            tasks,
        };
        Ok(Self { local_addr, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its connections, for listing and ending them. The handle outlives the server.
    pub fn connections(&self) -> Connections {
        self.shared.connections.clone()
    }

    /// Serves until `shutdown`, then ends all sessions and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        info!(addr = %self.local_addr, "SRT listens");
        let shared = &self.shared;
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(DATAGRAM_ROOM);
            let received = tokio::select! {
                () = shutdown.cancelled() => break,
                received = shared.socket.recv_buf_from(&mut buffer) => received,
            };
            match received {
                Ok((_, from)) => {
                    let datagram = buffer.split();
                    let taken = AssertUnwindSafe(|| shared.datagram(from, datagram, &shutdown));
                    if std::panic::catch_unwind(taken).is_err() {
                        warn!(peer = %from, "SRT datagram caused a panic");
                    }
                }
                Err(error) => {
                    debug!(%error, "SRT cannot receive");
                    tokio::time::sleep(RECEIVE_PAUSE).await;
                }
            }
        }
        shared.tasks.close();
        shared.tasks.wait().await;
    }
}

pub(super) fn open_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    // What the system does not allow it leaves out; the protocol repairs what then is lost.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

impl Shared {
    fn datagram(
        self: &Arc<Self>,
        from: SocketAddr,
        datagram: BytesMut,
        shutdown: &CancellationToken,
    ) {
        add(&self.counters.bytes_in, datagram.len() as u64);
        match wire::destination(&datagram) {
            Some(0) => match self.door.handle(now(), from, &datagram) {
                Knock::Noise => add(&self.counters.ignored, 1),
                Knock::Answer(answer) => self.answer(from, &answer),
                Knock::Wish(wish) => self.wish(wish, shutdown),
            },
            Some(socket) => {
                let table = self.table.lock();
                // Only who shook hands may speak for a session.
                match table.sessions.get(&socket).filter(|place| place.remote == from) {
                    None => add(&self.counters.ignored, 1),
                    Some(place) => {
                        if place.datagrams.try_send(datagram).is_err() {
                            add(&self.counters.dropped, 1);
                        }
                    }
                }
            }
            None => add(&self.counters.ignored, 1),
        }
    }

    /// Sends an answer of the handshake; one that the socket does not take now is asked for again.
    fn answer(&self, to: SocketAddr, answer: &[u8]) {
        if self.socket.try_send_to(answer, to).is_ok() {
            add(&self.counters.bytes_out, answer.len() as u64);
        }
    }

    fn wish(self: &Arc<Self>, wish: Arc<Wish>, shutdown: &CancellationToken) {
        let peer = wish.peer();
        let mut table = self.table.lock();
        match table.callers.get(&peer) {
            Some(Some(answer)) => return self.answer(peer.0, answer),
            Some(None) => return,
            None => {}
        }
        let of_ip = table.per_ip.get(&peer.0.ip()).copied().unwrap_or(0);
        let full = if table.handshakes >= self.config.handshakes_max {
            Some(Reject::Backlog)
        } else if table.callers.len() >= self.config.sessions_max
            || of_ip >= self.config.per_ip_max
            || (wish.encrypts() && self.strikes.lock().out(now(), peer.0.ip()))
        {
            Some(Reject::Overload)
        } else {
            None
        };
        if let Some(reject) = full {
            drop(table);
            add(&self.counters.refused, 1);
            debug!(peer = %peer.0, %reject, "SRT caller refused");
            return self.answer(peer.0, &wish.refuse(reject));
        }
        table.callers.insert(peer, None);
        *table.per_ip.entry(peer.0.ip()).or_default() += 1;
        table.handshakes += 1;
        drop(table);
        let guest = Guest { shared: Arc::clone(self), peer, shaking: true, socket: None };
        let cancel = shutdown.child_token();
        let open = self.connections.sessions.open(peer.0, cancel);
        let span =
            info_span!("srt", session = %open.id(), peer = %peer.0, stream = tracing::field::Empty);
        self.tasks.spawn(run(guest, open, wish).instrument(span));
    }
}

/// A caller's place in the table; dropping it takes it off.
struct Guest {
    shared: Arc<Shared>,
    peer: (SocketAddr, u32),
    /// Its handshake is not over.
    shaking: bool,
    socket: Option<u32>,
}

impl Guest {
    /// The handshake is over with this answer; from here on datagrams come in.
    fn enter(&mut self, socket: u32, answer: Vec<u8>) -> mpsc::Receiver<BytesMut> {
        let (datagrams, receiver) = mpsc::channel(DATAGRAMS_WAITING);
        let mut table = self.shared.table.lock();
        table.sessions.insert(socket, Place { remote: self.peer.0, datagrams });
        table.callers.insert(self.peer, Some(answer));
        table.handshakes -= usize::from(std::mem::take(&mut self.shaking));
        self.socket = Some(socket);
        receiver
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        table.callers.remove(&self.peer);
        table.handshakes -= usize::from(self.shaking);
        if let Some(socket) = self.socket {
            table.sessions.remove(&socket);
        }
        let ip = self.peer.0.ip();
        if let Some(count) = table.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                table.per_ip.remove(&ip);
            }
        }
    }
}

/// Runs a caller's session to its end and logs how it ended.
async fn run(guest: Guest, open: Open, wish: Arc<Wish>) {
    let shared = Arc::clone(&guest.shared);
    let id = open.id().to_owned();
    let serve = async {
        let (guest, mut open) = (guest, open);
        match admit(&shared, &mut open, &wish).await {
            Ok((terms, task)) => session(&shared, guest, open, &wish, terms, task).await,
            Err((reject, reason)) => {
                add(&shared.counters.refused, 1);
                warn!(%reject, %reason, "SRT caller refused");
                shared.answer(wish.peer().0, &wish.refuse(reject));
            }
        }
    };
    if AssertUnwindSafe(serve).catch_unwind().await.is_err() {
        add(&shared.counters.failed, 1);
        warn!("SRT session caused a panic");
    }
    shared.connections.shown.lock().remove(&id);
}

/// The life of an established connection.
async fn session(
    shared: &Arc<Shared>,
    mut guest: Guest,
    open: Open,
    wish: &Wish,
    (mut terms, answer): (Terms, Vec<u8>),
    task: Task,
) {
    let (remote, start) = (wish.peer().0, now());
    // The answer says that the clock is zero.
    terms.epoch = start;
    let datagrams = guest.enter(terms.local, answer.clone());
    let shown = Shown::default();
    shared.connections.shown.lock().insert(open.id().to_owned(), Arc::clone(&shown));
    let connection = Connection::new(start, terms);
    let mut link = Link::new(connection, Arc::clone(&shared.socket), remote, datagrams, shown);
    link.show();
    shared.answer(remote, &answer);
    add(&shared.counters.connections, 1);
    let (latency_in, latency_out) = link.latencies();
    let counters = &shared.counters;
    let count = |link: &mut Link| {
        let (_, sent) = session::account(link, Some(&open));
        add(&counters.bytes_out, sent);
    };
    let ended = match task {
        Task::Publish(writer) => {
            info!(latency_ms = latency_in.as_millis() as u64, "SRT publisher accepted");
            let mut feed = Feed::new(start, writer, shared.config.idle_timeout);
            session::publish(&mut link, &mut feed, open.cancel(), |link, _| count(link)).await
        }
        Task::Read(mut reader) => {
            info!(latency_ms = latency_out.as_millis() as u64, "SRT reader accepted");
            session::read(&mut link, &mut reader, open.cancel(), count).await
        }
    };
    link.close().await;
    session::account(&mut link, Some(&open));
    let stats = link.statistics();
    add(&counters.lost, stats.packets_received_drop);
    add(&counters.resent, stats.packets_retrans);
    add(&counters.skipped, stats.outbound_frames_discarded);
    match ended {
        Ok(()) | Err(SessionError::Ended(Ended::Shutdown)) => info!("SRT session closed"),
        Err(reason @ (SessionError::Cancelled | SessionError::Replaced)) => {
            info!(%reason, "SRT session ended");
        }
        Err(reason) => {
            add(&counters.failed, 1);
            warn!(%reason, "SRT session failed");
        }
    }
}
