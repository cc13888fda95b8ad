//! The thread that owns a socket and all sessions on it.
//!
//! One loop waits for datagrams, orders of HTTP handlers, packets of streams and deadlines, and
//! calls the session concerned. Sessions touch nothing outside of it, so workers on further sockets
//! of the same port share no locks; what they tell each other is in [`super::strays`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rtc_srtp::crypto::RTCCryptoProvider;
use tokio::sync::mpsc;

use super::Config;
use super::channels::Question;
use super::counters::{Counters, add};
use super::dtls::Identity;
use super::end::{End, Patience};
use super::links;
use super::messages::{Answer, Messages, NoMessages, Speaker};
use super::mux::{Key, Mux};
use super::order::Command;
use super::session::{Io, Media, Session};
use super::socket::{Inbox, Port};
use super::status::SessionStatus;
use super::strays::{Note, Others};
use super::stream::Stream;
use super::timers::Timers;
use crate::hub::{Hub, Item};
use crate::name::StreamName;
use crate::views::Views;

/// Packets and wishes that wait for the worker. Readers wait when it is full and are then told by
/// the hub what they missed.
const EVENTS_MAX: usize = 256;

/// Of each kind of work so much is done before the others get their turn.
pub(super) const TURN: usize = 64;

/// How often a publisher is asked whether it was replaced.
const CLOSED_EVERY: Duration = Duration::from_millis(100);

/// What streams tell the worker.
pub(crate) enum Event {
    /// The next item of a stream, and when it was written unless that is long past.
    Feed { stream: u64, item: Item, written: Option<Instant> },
    /// A key picture is wanted of a publisher: of the stream, or of one of its renditions.
    KeyWanted(Key, Option<usize>),
    /// Which smaller renditions a stream has.
    Renditions(u64, Arc<[StreamName]>),
    /// The next item of a smaller rendition.
    Rendition {
        stream: u64,
        /// Counts from one; zero is the stream itself.
        place: usize,
        item: Item,
    },
    /// A datagram of a TCP connection.
    Arrived { link: u32, datagram: Vec<u8> },
    /// A TCP connection has ended.
    Hangup { link: u32 },
    /// The node's answer to a message of a data channel.
    Answer { key: Key, channel: u32, answer: Option<Answer> },
    /// A stream has a publisher again, or not any more.
    Presence(u64, bool),
    /// A session has to make room for a newcomer unless its handshake is through.
    GiveWay(Key),
}

/// Who answers messages of data channels, and where.
pub(crate) struct Answers {
    pub(crate) messages: Arc<dyn Messages>,
    /// `None` is the thread of the media.
    pub(crate) runtime: Option<tokio::runtime::Handle>,
}

/// What a worker is made with.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) identity: Arc<Identity>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) views: Arc<dyn Views>,
    pub(crate) messages: Arc<OnceLock<Answers>>,
    pub(crate) hub: Hub,
    pub(crate) local: SocketAddr,
    /// The listener for connections, which one worker has.
    pub(crate) tcp: Option<std::net::TcpListener>,
}

/// One socket and its sessions.
pub(crate) struct Worker {
    pub(super) port: Port,
    pub(super) settings: Settings,
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
    pub(super) patience: Patience,
    pub(super) mux: Mux,
    pub(super) timers: Timers,
    pub(super) sessions: HashMap<Key, Box<Session>>,
    pub(super) secrets: HashMap<String, Key>,
    pub(super) others: Others,
    pub(super) streams: HashMap<u64, Stream>,
    /// By the name that viewers ask for and that of the form which they get.
    pub(super) names: HashMap<(StreamName, StreamName), u64>,
    pub(super) next: u64,
    pub(super) events: mpsc::Sender<Event>,
    /// Room for the viewers of the frame that is being sent.
    pub(super) audience: Vec<Key>,
    pub(super) buffer: Vec<u8>,
    pub(super) rtcp: Vec<u8>,
    /// What the session that was called last asks.
    pub(super) questions: Vec<Question>,
}

impl Worker {
    /// Serves until [`Command::Stop`] or until all senders of commands are gone.
    pub(super) async fn serve(
        port: Port,
        settings: Settings,
        others: Others,
        commands: mpsc::Receiver<Command>,
        notes: mpsc::Receiver<Note>,
    ) {
        let mut settings = settings;
        if let Some(listener) = settings.tcp.take() {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let counters = Arc::clone(&settings.counters);
                    tokio::spawn(links::accept(listener, others.again(), counters));
                }
                Err(error) => tracing::error!(%error, "no ICE-TCP"),
            }
        }
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        Self::new(port, settings, others, events).run(commands, inbox, notes).await;
    }

    fn new(port: Port, settings: Settings, others: Others, events: mpsc::Sender<Event>) -> Self {
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
            others,
            streams: HashMap::new(),
            names: HashMap::new(),
            next: 0,
            events,
            audience: Vec::new(),
            buffer: Vec::with_capacity(65_536),
            rtcp: Vec::with_capacity(1500),
            questions: Vec::new(),
        }
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<Event>,
        mut notes: mpsc::Receiver<Note>,
    ) {
        let mut inbox = Inbox::new(&self.port);
        let mut closed_at = Instant::now() + CLOSED_EVERY;
        loop {
            let wake = self.timers.next().unwrap_or(closed_at).min(closed_at);
            tokio::select! {
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
                Some(note) = notes.recv() => {
                    let mut next = Some(note);
                    let mut left = TURN;
                    while let Some(note) = next {
                        self.note(note);
                        left -= 1;
                        next = if left > 0 { notes.try_recv().ok() } else { None };
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

    /// Calls a session. One that gives way ends alone.
    pub(super) fn with(
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
            questions: &mut self.questions,
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
                if !self.questions.is_empty() {
                    self.ask(key);
                }
            }
            Err(end) => {
                self.questions.clear();
                self.end(now, key, end);
            }
        }
    }

    /// Passes the questions of a session on. It lets only a few wait at a time.
    fn ask(&mut self, key: Key) {
        let Some(session) = self.sessions.get(&key) else { return };
        let facts = &session.open;
        let (messages, runtime) = match self.settings.messages.get() {
            Some(answers) => (Arc::clone(&answers.messages), answers.runtime.clone()),
            None => (Arc::new(NoMessages) as Arc<dyn Messages>, None),
        };
        let runtime = runtime.unwrap_or_else(tokio::runtime::Handle::current);
        for Question { channel, text } in self.questions.drain(..) {
            let from = Speaker {
                stream: facts.stream.clone(),
                role: facts.role,
                may_steer: facts.may_steer,
            };
            let (messages, events) = (Arc::clone(&messages), self.events.clone());
            runtime.spawn(async move {
                // A handler that gives way owes an answer: the session counts those that wait.
                let answer = AssertUnwindSafe(async { messages.message(from, text).await });
                let answer = answer.catch_unwind().await.ok().flatten();
                // Without a worker nobody waits any more.
                let _ = events.send(Event::Answer { key, channel, answer }).await;
            });
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
                let key = self.by_id(&id);
                if let Some(key) = key {
                    self.end(Instant::now(), key, End::Kicked);
                }
                let _ = reply.send(key.is_some());
            }
            Command::Layer { secret, rid, reply } => {
                let _ = reply.send(self.choose(&secret, rid));
            }
            Command::List(reply) => {
                let local = self.settings.local;
                let mut list: Vec<(Key, SessionStatus)> = self
                    .sessions
                    .iter()
                    .map(|(key, session)| (*key, session.status(local)))
                    .collect();
                list.sort_by_key(|(key, _)| *key);
                let _ = reply.send(list.into_iter().map(|(_, status)| status).collect());
            }
            #[cfg(test)]
            Command::Break { id, reply } => {
                if let Some(key) = self.by_id(&id) {
                    self.with(Instant::now(), key, |_, _, _| panic!("as a test wants it"));
                }
                let _ = reply.send(());
            }
            Command::Stop => {}
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
