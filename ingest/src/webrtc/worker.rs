//! The thread that owns a socket and all sessions on it.
//!
//! One loop waits for datagrams, orders of HTTP handlers, packets of streams and deadlines, and
//! calls the session concerned. Sessions touch nothing outside of it, so more workers on further
//! sockets of the same port need no locks between them; our user name fragments already say which
//! worker a session is on.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_srtp::crypto::RTCCryptoProvider;
use tokio::sync::{mpsc, oneshot};

use super::answer::Agreed;
use super::counters::{Counters, add, sub};
use super::dtls::Identity;
use super::ice::{Credentials, Ice, Path};
use super::mux::{Content, Key, Mux};
use super::publisher::Publisher;
use super::sdp::Offer;
use super::session::{End, Facts, Io, Media, Patience, Session};
use super::socket::{Inbox, Port, Send as _};
use super::status::SessionStatus;
use super::stream::{self, Stream};
use super::stun::Check;
use super::timers::Timers;
use super::viewer::Viewer;
use super::views::Views;
use super::{Config, Role, canonical};
use crate::hub::{Hub, Item, KeyRequests, Reader, Writer};
use crate::name::StreamName;

/// Packets and wishes that wait for the worker. Readers wait when it is full and are then told by
/// the hub what they missed.
const EVENTS_MAX: usize = 256;

/// Of each kind of work so much is done before the others get their turn.
const TURN: usize = 64;

/// How often a publisher is asked whether it was replaced.
const CLOSED_EVERY: Duration = Duration::from_millis(100);

/// What the worker is told by HTTP handlers.
pub(crate) enum Command {
    Open(Box<Open>, oneshot::Sender<Result<(), OpenError>>),
    Patch(Box<Patch>, oneshot::Sender<Result<PatchAnswer, PatchError>>),
    Close { role: Role, secret: String, reply: oneshot::Sender<bool> },
    Kick { id: String, reply: oneshot::Sender<bool> },
    List(oneshot::Sender<Vec<SessionStatus>>),
    Stop,
}

/// A session that was answered.
pub(crate) struct Open {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) etag: String,
    pub(crate) role: Role,
    pub(crate) stream: StreamName,
    pub(crate) requested_from: SocketAddr,
    pub(crate) user_agent: String,
    pub(crate) agreed: Agreed,
    pub(crate) credentials: Credentials,
    pub(crate) media: OpenMedia,
}

/// Where a session's packets go to or come from.
pub(crate) enum OpenMedia {
    View(Reader),
    Publish(Writer),
}

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("this node serves {0} WebRTC sessions, its limit")]
    Sessions(usize),
    #[error("{0} sessions are in their handshake, the limit")]
    Handshakes(usize),
    #[error("this address has {0} WebRTC sessions, the limit")]
    FromAddress(usize),
    #[error("the session could not be set up: {0}")]
    Failed(String),
}

/// A fragment for a session.
pub(crate) struct Patch {
    pub(crate) role: Role,
    pub(crate) secret: String,
    /// `None` for `*`.
    pub(crate) etag: Option<String>,
    pub(crate) fragment: Offer,
}

/// What came of a fragment.
pub(crate) enum PatchAnswer {
    Trickled,
    Restarted { credentials: Credentials, etag: String, mids: Vec<(String, Option<String>)> },
}

/// Why a fragment was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("no such session")]
    NoSession,
    #[error("the entity tag is not that of the session")]
    EntityTag,
    #[error("the fragment has a new a=ice-ufrag without a=ice-pwd")]
    NoPassword,
}

/// What streams tell the worker.
pub(crate) enum Event {
    /// The next item of a stream, and when it was written unless that is long past.
    Feed { stream: u64, item: Item, written: Option<Instant> },
    KeyWanted(Key),
}

/// What a worker is made with.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) identity: Arc<Identity>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) views: Arc<dyn Views>,
    pub(crate) hub: Hub,
    pub(crate) local: SocketAddr,
}

/// Starts the thread. It ends at [`Command::Stop`] or when all senders of commands are gone.
pub(crate) fn spawn(
    socket: std::net::UdpSocket,
    commands: mpsc::Receiver<Command>,
    settings: Settings,
) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = {
        let _entered = runtime.enter();
        Port::new(socket)?
    };
    std::thread::Builder::new().name("webrtc-0".into()).spawn(move || {
        runtime.block_on(async move {
            let (events, inbox) = mpsc::channel(EVENTS_MAX);
            Worker::new(port, settings, events).run(commands, inbox).await;
        });
    })
}

struct Worker {
    port: Port,
    settings: Settings,
    provider: Arc<dyn RTCCryptoProvider>,
    patience: Patience,
    mux: Mux,
    timers: Timers,
    sessions: HashMap<Key, Box<Session>>,
    secrets: HashMap<String, Key>,
    handshakes: usize,
    streams: HashMap<u64, Stream>,
    names: HashMap<StreamName, u64>,
    next: u64,
    events: mpsc::Sender<Event>,
    /// Room for the viewers of the frame that is being sent.
    audience: Vec<Key>,
    buffer: Vec<u8>,
    rtcp: Vec<u8>,
}

impl Worker {
    fn new(port: Port, settings: Settings, events: mpsc::Sender<Event>) -> Self {
        Self {
            port,
            provider: settings.identity.provider(),
            patience: Patience {
                handshake: settings.config.handshake_timeout,
                consent: settings.config.consent_timeout,
                silence: settings.config.publisher_timeout,
            },
            settings,
            mux: Mux::default(),
            timers: Timers::default(),
            sessions: HashMap::new(),
            secrets: HashMap::new(),
            handshakes: 0,
            streams: HashMap::new(),
            names: HashMap::new(),
            next: 0,
            events,
            audience: Vec::new(),
            buffer: Vec::with_capacity(65_536),
            rtcp: Vec::with_capacity(1500),
        }
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<Event>,
    ) {
        let mut inbox = Inbox::new(&self.port);
        let mut closed_at = Instant::now() + CLOSED_EVERY;
        loop {
            let wake = self.timers.next().unwrap_or(closed_at).min(closed_at);
            tokio::select! {
                biased;
                _ = self.port.readable() => self.receive(&mut inbox),
                event = events.recv() => {
                    // The worker holds a sender itself, so there is always an event to come.
                    let mut next = event;
                    let mut left = TURN;
                    while let Some(event) = next {
                        self.event(event);
                        left -= 1;
                        next = if left > 0 { events.try_recv().ok() } else { None };
                    }
                }
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => return self.stop(),
                    Some(command) => self.command(command),
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            if now >= closed_at {
                closed_at = now + CLOSED_EVERY;
                self.end_replaced(now);
            }
            self.expire(now);
        }
    }

    fn receive(&mut self, inbox: &mut Inbox) {
        let wildcard = self.settings.local.ip().is_unspecified();
        for _ in 0..TURN {
            if !self.port.receive(inbox) {
                return;
            }
            let now = Instant::now();
            for (path, datagram) in inbox.datagrams(wildcard) {
                add(&self.settings.counters.datagrams_received, 1);
                let content = Content::of(datagram);
                let known = match content {
                    Content::Stun => self.check(now, path, datagram),
                    _ => match self.mux.by_address(&path.remote) {
                        Some(key) => {
                            self.datagram(now, key, content, datagram);
                            true
                        }
                        None => false,
                    },
                };
                if !known {
                    add(&self.settings.counters.datagrams_dropped, 1);
                }
            }
        }
    }

    /// Answers a connectivity check; false for one that is not for a session of ours.
    fn check(&mut self, now: Instant, path: Path, datagram: &[u8]) -> bool {
        let Some(mut check) = Check::parse(datagram) else { return false };
        let Some(key) = self.mux.by_fragment(check.ours()) else { return false };
        let Some(session) = self.sessions.get_mut(&key) else { return false };
        let crypto = self.provider.crypto();
        let password = session.ice.password(check.ours(), check.theirs()).map(str::to_owned);
        let Some(password) = password else { return false };
        let Some(verified) = check.verify(&password, crypto) else { return false };
        if verified.role_conflict {
            if let Some(answer) = check.conflict(&password, crypto) {
                self.port.send(path, &answer, answer.len());
            }
            return true;
        }
        if !self.mux.may_hold(now, &path.remote, key) {
            return false;
        }
        self.mux.hold(now, path.remote, key);
        if let Some(answer) = check.success(canonical(path.remote), &password, crypto) {
            self.port.send(path, &answer, answer.len());
        }
        let nominated = verified.nominated;
        let mut noted = Default::default();
        self.with(now, key, |session, io, _| {
            let (change, begun) = session.verified(io, check.ours(), path, nominated);
            noted = change;
            begun
        });
        if let Some(address) = noted.forgotten {
            self.mux.release(&address, key);
        }
        if let Some(fragment) = noted.retired {
            self.mux.remove_fragment(&fragment);
        }
        true
    }

    fn datagram(&mut self, now: Instant, key: Key, content: Content, datagram: &[u8]) {
        let before = self.is_connected(key);
        self.with(now, key, |session, io, stream| {
            io.path = session.ice.selected();
            session.datagram(io, stream, content, datagram)
        });
        if !before && self.is_connected(key) {
            self.handshakes -= 1;
        }
    }

    fn is_connected(&self, key: Key) -> bool {
        self.sessions.get(&key).is_some_and(|session| session.is_connected())
    }

    /// Calls a session. One that gives way ends alone.
    fn with(
        &mut self,
        now: Instant,
        key: Key,
        call: impl FnOnce(&mut Session, &mut Io<'_>, Option<&Stream>) -> Result<(), End>,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let stream = match &session.media {
            Media::Viewer(viewer) => self.streams.get(&viewer.stream),
            Media::Publisher(_) => None,
        };
        self.rtcp.clear();
        let mut io = Io {
            now,
            out: &mut self.port,
            path: None,
            buffer: &mut self.buffer,
            rtcp: &mut self.rtcp,
            counters: &self.settings.counters,
            provider: &self.provider,
        };
        let result = catch_unwind(AssertUnwindSafe(|| call(session, &mut io, stream)));
        let result = result.unwrap_or_else(|_| {
            add(&self.settings.counters.sessions_panicked, 1);
            Err(End::Panicked)
        });
        match result {
            Ok(()) => {
                let next = session.next_timeout(now);
                self.timers.arm(key, &mut session.queued, next);
            }
            Err(end) => self.end(now, key, end),
        }
    }

    fn expire(&mut self, now: Instant) {
        for _ in 0..TURN {
            let Some((at, key)) = self.timers.pop(now) else { return };
            let mine = self.sessions.get_mut(&key).is_some_and(|session| session.queued.clear(at));
            if mine {
                self.with(now, key, |session, io, _| session.timeout(io));
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::KeyWanted(key) => self.with(now, key, |session, io, _| {
                session.want_key();
                session.timeout(io)
            }),
            Event::Feed { stream: number, item, written } => {
                let Some(stream) = self.streams.get_mut(&number) else { return };
                match item {
                    Item::Tracks(tracks) => stream.set_tracks(tracks),
                    Item::Packet(packet) => {
                        if let Some(frame) = stream.packet(&packet) {
                            self.frame(now, number, &frame);
                            if let Some(written) = written {
                                self.settings.counters.write_to_sent.record(written.elapsed());
                            }
                        }
                    }
                    Item::Lagged(count) => {
                        add(&self.settings.counters.frames_skipped, count);
                        tracing::warn!(stream = %stream.name, count, "webrtc lags behind a stream");
                    }
                    Item::End => {
                        for key in stream.viewers.clone() {
                            self.end(now, key, End::StreamGone);
                        }
                    }
                }
            }
        }
    }

    fn frame(
        &mut self,
        now: Instant,
        number: u64,
        frame: &Arc<crate::rtp::frame::FramePackets>,
    ) {
        let Some(stream) = self.streams.get(&number) else { return };
        // A session that gives way leaves the stream's list, so a copy is walked over.
        let mut viewers = std::mem::take(&mut self.audience);
        viewers.extend_from_slice(&stream.viewers);
        for &key in &viewers {
            self.with(now, key, |session, io, _| {
                session.frame(io, frame);
                Ok(())
            });
        }
        viewers.clear();
        self.audience = viewers;
    }

    fn command(&mut self, command: Command) {
        // Who asked may have gone meanwhile: then nobody hears the answer, and that is all.
        match command {
            Command::Open(open, reply) => {
                let _ = reply.send(self.open(*open));
            }
            Command::Patch(patch, reply) => {
                let _ = reply.send(self.patch(*patch));
            }
            Command::Close { role, secret, reply } => {
                let key = self.by_secret(role, &secret);
                if let Some(key) = key {
                    self.end(Instant::now(), key, End::Deleted);
                }
                let _ = reply.send(key.is_some());
            }
            Command::Kick { id, reply } => {
                let found = self.sessions.iter().find(|(_, session)| session.open.id == id);
                let key = found.map(|(key, _)| *key);
                if let Some(key) = key {
                    self.end(Instant::now(), key, End::Kicked);
                }
                let _ = reply.send(key.is_some());
            }
            Command::List(reply) => {
                let local = self.settings.local;
                let mut list: Vec<(Key, SessionStatus)> =
                    self.sessions.iter().map(|(key, session)| (*key, session.status(local))).collect();
                list.sort_by_key(|(key, _)| *key);
                let _ = reply.send(list.into_iter().map(|(_, status)| status).collect());
            }
            Command::Stop => {}
        }
    }

    fn open(&mut self, open: Open) -> Result<(), OpenError> {
        let config = &self.settings.config;
        let ip = open.requested_from.ip().to_canonical();
        let refused = if self.sessions.len() >= config.sessions_max {
            Some(OpenError::Sessions(self.sessions.len()))
        } else if self.handshakes >= config.handshakes_max {
            Some(OpenError::Handshakes(self.handshakes))
        } else if self.mux.count(&ip) >= config.sessions_per_ip_max {
            Some(OpenError::FromAddress(self.mux.count(&ip)))
        } else {
            None
        };
        if let Some(refused) = refused {
            add(&self.settings.counters.sessions_refused, 1);
            return Err(refused);
        }
        let now = Instant::now();
        let (client, print) = (open.agreed.dtls_client, open.agreed.fingerprint.clone());
        let dtls = self.settings.identity.association(client, print);
        let dtls = dtls.map_err(|error| OpenError::Failed(error.to_string()))?;
        let key = Key(self.number());
        let facts = Facts::of(&open);
        let media = match open.media {
            OpenMedia::View(reader) => {
                let number = self.watch(&facts.stream, reader, key);
                add(&self.settings.counters.viewers, 1);
                Media::Viewer(Box::new(Viewer::new(&open.agreed, number)))
            }
            OpenMedia::Publish(writer) => {
                let wishes = self.forward_wishes(key, writer.key_requests());
                add(&self.settings.counters.publishers, 1);
                let interval = self.settings.config.key_interval;
                Media::Publisher(Box::new(Publisher::new(&open.agreed, writer, interval, wishes)))
            }
        };
        self.mux.add_fragment(&open.credentials.ufrag, key);
        self.mux.add_ip(ip);
        self.handshakes += 1;
        self.secrets.insert(facts.secret.clone(), key);
        let ice = Ice::new(now, open.credentials, open.agreed.ufrag.clone());
        let mut session =
            Session::new(now, facts, ice, dtls, &open.agreed, media, self.patience);
        let next = session.next_timeout(now);
        self.timers.arm(key, &mut session.queued, next);
        self.sessions.insert(key, Box::new(session));
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds a viewer to its stream, which is read once for all of them.
    fn watch(&mut self, name: &StreamName, reader: Reader, key: Key) -> u64 {
        let known = self.names.get(name).copied();
        let number = known.unwrap_or_else(|| {
            let number = self.number();
            let source = reader.name().clone();
            let feed = tokio::spawn(stream::feed(
                number,
                name.clone(),
                reader,
                Arc::clone(&self.settings.views),
                self.settings.config.rejoin_timeout,
                self.events.clone(),
            ));
            let hub = self.settings.hub.clone();
            let stream = Stream::new(name.clone(), source, hub, feed.abort_handle());
            self.streams.insert(number, stream);
            self.names.insert(name.clone(), number);
            number
        });
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.viewers.push(key);
        }
        number
    }

    /// Carries readers' wishes to the publisher's session, which ends it.
    fn forward_wishes(&self, key: Key, mut requests: KeyRequests) -> tokio::task::AbortHandle {
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            loop {
                requests.next().await;
                if events.send(Event::KeyWanted(key)).await.is_err() {
                    return;
                }
            }
        });
        task.abort_handle()
    }

    fn by_secret(&self, role: Role, secret: &str) -> Option<Key> {
        let key = *self.secrets.get(secret)?;
        self.sessions.get(&key).is_some_and(|session| session.open.role == role).then_some(key)
    }

    fn patch(&mut self, patch: Patch) -> Result<PatchAnswer, PatchError> {
        let key = self.by_secret(patch.role, &patch.secret).ok_or(PatchError::NoSession)?;
        let session = self.sessions.get_mut(&key).ok_or(PatchError::NoSession)?;
        if patch.etag.is_some_and(|tag| tag != session.open.etag) {
            return Err(PatchError::EntityTag);
        }
        let first = patch.fragment.sections.first();
        let transport = match first {
            Some(section) => patch.fragment.transport(section),
            None => patch.fragment.session.clone(),
        };
        let Some(theirs) = transport.ufrag.filter(|ufrag| !session.ice.is_theirs(ufrag)) else {
            // A lite agent has no use for candidates: it answers checks from wherever they come.
            return Ok(PatchAnswer::Trickled);
        };
        if transport.password.is_none() {
            return Err(PatchError::NoPassword);
        }
        let credentials = Credentials::generate(0);
        let retired = session.ice.restart(credentials.clone(), theirs);
        session.open.etag = super::ice::secret()[..16].to_owned();
        let (etag, mids) = (session.open.etag.clone(), session.open.mids.clone());
        self.mux.add_fragment(&credentials.ufrag, key);
        if let Some(retired) = retired {
            self.mux.remove_fragment(&retired);
        }
        Ok(PatchAnswer::Restarted { credentials, etag, mids })
    }

    fn end_replaced(&mut self, now: Instant) {
        let closed = |session: &Session| match &session.media {
            Media::Publisher(publisher) => publisher.is_closed(),
            Media::Viewer(_) => false,
        };
        let keys: Vec<Key> =
            self.sessions.iter().filter(|(_, s)| closed(s)).map(|(key, _)| *key).collect();
        for key in keys {
            self.end(now, key, End::Replaced);
        }
    }

    fn end(&mut self, now: Instant, key: Key, end: End) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        if end != End::Panicked {
            self.rtcp.clear();
            let mut io = Io {
                now,
                out: &mut self.port,
                path: None,
                buffer: &mut self.buffer,
                rtcp: &mut self.rtcp,
                counters: &self.settings.counters,
                provider: &self.provider,
            };
            let _ = catch_unwind(AssertUnwindSafe(|| session.goodbye(&mut io)));
        }
        for fragment in session.ice.fragments() {
            self.mux.remove_fragment(fragment);
        }
        for address in session.ice.addresses() {
            self.mux.release(address, key);
        }
        self.mux.remove_ip(&session.open.requested_from.ip().to_canonical());
        self.secrets.remove(&session.open.secret);
        if !session.is_connected() {
            self.handshakes -= 1;
        }
        match &session.media {
            Media::Publisher(_) => sub(&self.settings.counters.publishers),
            Media::Viewer(viewer) => {
                sub(&self.settings.counters.viewers);
                self.unwatch(viewer.stream, key);
            }
        }
        tracing::info!(
            session = %session.open.id,
            stream = %session.open.stream,
            role = session.open.role.route(),
            reason = %end,
            "webrtc session ended"
        );
    }

    fn unwatch(&mut self, number: u64, key: Key) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.viewers.retain(|viewer| *viewer != key);
        if stream.viewers.is_empty() {
            self.names.remove(&stream.name);
            self.streams.remove(&number);
        }
    }

    fn stop(&mut self) {
        let now = Instant::now();
        let keys: Vec<Key> = self.sessions.keys().copied().collect();
        for key in keys {
            self.end(now, key, End::Stopping);
        }
    }
}
