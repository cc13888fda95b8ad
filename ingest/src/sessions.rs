//! The list of a listener's sessions, for the API: who is there, and ending one.
//!
//! Each listener (RTMP, RTSP, SRT, ...) keeps one list and gives each session a place in it, which
//! it leaves when it is dropped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::half_open::{HalfOpen, Place};
use crate::name::StreamName;

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Neither yet.
    Idle,
    /// It watches a stream.
    Read,
    /// It writes one.
    Publish,
}

impl SessionState {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Read => "read",
            Self::Publish => "publish",
        }
    }
}

/// One session at one moment.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Unique, in the form of a UUID.
    pub id: String,
    /// `rtmp`, `rtsp`, `srt`, ...
    pub protocol: &'static str,
    /// The peer.
    pub remote: SocketAddr,
    /// When it was accepted.
    pub created: SystemTime,
    /// What it does.
    pub state: SessionState,
    /// The stream that it writes or watches.
    pub stream: Option<StreamName>,
    /// The user name that it gave, or empty.
    pub user: String,
    /// The query of its URL without credentials, or empty.
    pub query: String,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
}

/// The sessions of a listener. Cloning shares them.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    protocol: &'static str,
    open: Mutex<HashMap<String, Arc<Entry>>>,
    idle: HalfOpen,
}

struct Entry {
    id: String,
    protocol: &'static str,
    remote: SocketAddr,
    created: SystemTime,
    role: Mutex<Role>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    cancel: CancellationToken,
}

/// What a session turned out to be.
struct Role {
    state: SessionState,
    stream: Option<StreamName>,
    user: String,
    query: String,
}

impl Sessions {
    /// An empty list of a listener that speaks `protocol` and limits its sessions itself.
    pub fn new(protocol: &'static str) -> Self {
        Self::with_room(protocol, usize::MAX)
    }

    /// An empty list of which so many may be idle: then the oldest idle one ends for a newcomer.
    pub(crate) fn with_room(protocol: &'static str, idle: usize) -> Self {
        let shared = Shared { protocol, open: Mutex::default(), idle: HalfOpen::new(idle) };
        Self { shared: Arc::new(shared) }
    }

    /// All sessions, the oldest first.
    pub fn list(&self) -> Vec<SessionStatus> {
        let mut list: Vec<_> = self.shared.open.lock().values().map(|e| e.status()).collect();
        list.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.cmp(&b.id)));
        list
    }

    /// One session.
    pub fn get(&self, id: &str) -> Option<SessionStatus> {
        self.shared.open.lock().get(id).map(|entry| entry.status())
    }

    /// Ends a session; false when there is none of that id.
    pub fn kick(&self, id: &str) -> bool {
        let entry = self.shared.open.lock().get(id).cloned();
        entry.is_some_and(|entry| {
            entry.cancel.cancel();
            true
        })
    }

    /// How many there are, and how many of them neither publish nor read yet.
    pub fn counts(&self) -> (usize, usize) {
        (self.shared.open.lock().len(), self.shared.idle.count())
    }

    /// A place for a session that has just come, unless there are `max` that all publish or read.
    /// `cancel` is cancelled to end it. Where there is no room an idle one ends for it, which the
    /// answer's second half says.
    pub(crate) fn admit(
        &self,
        remote: SocketAddr,
        cancel: CancellationToken,
        max: usize,
    ) -> Option<(Open, bool)> {
        let crowded = self.counts().0 >= max;
        if crowded && !self.shared.idle.push_out(None) {
            return None;
        }
        let (open, gave_way) = self.enter(remote, cancel);
        Some((open, crowded || gave_way))
    }

    /// A place for a session that has just come. `cancel` is cancelled to end it.
    pub fn open(&self, remote: SocketAddr, cancel: CancellationToken) -> Open {
        self.enter(remote, cancel).0
    }

    fn enter(&self, remote: SocketAddr, cancel: CancellationToken) -> (Open, bool) {
        let let_go = cancel.clone();
        let (idle, gave_way) = self.shared.idle.enter(remote.ip(), move || let_go.cancel());
        let entry = Arc::new(Entry {
            id: new_id(),
            remote,
            created: SystemTime::now(),
            protocol: self.shared.protocol,
            role: Mutex::new(Role {
                state: SessionState::Idle,
                stream: None,
                user: String::new(),
                query: String::new(),
            }),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            cancel,
        });
        self.shared.open.lock().insert(entry.id.clone(), Arc::clone(&entry));
        (Open { sessions: self.clone(), entry, idle, timer: None }, gave_way)
    }
}

impl Entry {
    fn status(&self) -> SessionStatus {
        let role = self.role.lock();
        SessionStatus {
            id: self.id.clone(),
            protocol: self.protocol,
            remote: self.remote,
            created: self.created,
            state: role.state,
            stream: role.stream.clone(),
            user: role.user.clone(),
            query: role.query.clone(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// A session's place in the list; dropping it takes it off.
pub struct Open {
    sessions: Sessions,
    entry: Arc<Entry>,
    idle: Place,
    /// Ends it.
    timer: Option<tokio::task::AbortHandle>,
}

impl Open {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.entry.id
    }

    /// The peer.
    pub fn remote(&self) -> SocketAddr {
        self.entry.remote
    }

    /// Cancelled when the session was kicked or the node stops.
    pub fn cancel(&self) -> &CancellationToken {
        &self.entry.cancel
    }

    /// Whether it was cancelled to make room for a newcomer.
    pub(crate) fn gave_way(&self) -> bool {
        !self.idle.leave()
    }

    /// Ends the session after `lifetime`, if there is one.
    pub fn limit(&mut self, lifetime: Option<Duration>) {
        let Some(lifetime) = lifetime else { return };
        let cancel = self.entry.cancel.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(lifetime).await;
            cancel.cancel();
        });
        self.timer = Some(timer.abort_handle());
    }

    /// Counts bytes that came from the peer.
    pub fn received(&self, bytes: u64) {
        self.entry.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that went to the peer.
    pub fn sent(&self, bytes: u64) {
        self.entry.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what goes to the peer in another task than the session's own.
    pub(crate) fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.entry))
    }

    /// The session publishes or reads from now on, as `user`. Of the URL's `query` what may be a
    /// credential is left out.
    pub fn begin(&mut self, state: SessionState, stream: StreamName, user: &str, query: &str) {
        let mut role = self.entry.role.lock();
        role.state = state;
        role.stream = Some(stream);
        user.clone_into(&mut role.user);
        role.query = without_secrets(query);
        drop(role);
        self.idle.leave();
    }
}

/// The counter of bytes that go to a session's peer.
pub(crate) struct Meter(Arc<Entry>);

impl Meter {
    /// Counts bytes that went to it.
    pub(crate) fn sent(&self, bytes: u64) {
        self.0.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
        self.sessions.shared.open.lock().remove(&self.entry.id);
    }
}

/// Keys of a query whose values are credentials.
const SECRETS: [&str; 7] = ["user", "pass", "password", "token", "jwt", "signature", "sig"];

/// A URL's query without what may be a credential.
pub fn without_secrets(query: &str) -> String {
    let kept = query.split('&').filter(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        !SECRETS.iter().any(|secret| key.eq_ignore_ascii_case(secret))
    });
    kept.collect::<Vec<_>>().join("&")
}

/// A random id in the form of a UUID (RFC 9562, version 4), as tools for this API expect.
pub fn new_id() -> String {
    let mut id = rand::random::<u128>();
    id = (id & !(0xF << 76)) | (0x4 << 76);
    id = (id & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_listed_as_what_it_is_until_it_goes_and_shows_no_secret() {
        let sessions = Sessions::new("rtsp");
        let cancel = CancellationToken::new();
        let mut open = sessions.open(SocketAddr::from(([127, 0, 0, 1], 5)), cancel.clone());
        assert_eq!(sessions.counts(), (1, 1));
        let name = StreamName::parse("cam").unwrap();
        open.begin(SessionState::Read, name.clone(), "tom", "a=1&pass=x&Token=y&b=2");
        assert_eq!(sessions.counts(), (1, 0));
        let listed = sessions.get(open.id()).unwrap();
        assert_eq!(
            (listed.protocol, listed.stream, listed.user.as_str()),
            ("rtsp", Some(name), "tom")
        );
        assert_eq!(listed.query, "a=1&b=2");
        assert!(sessions.kick(open.id()) && cancel.is_cancelled());
        drop(open);
        assert!(sessions.list().is_empty());
    }

    #[test]
    fn an_idle_session_ends_for_a_newcomer_and_one_that_works_does_not() {
        let sessions = Sessions::with_room("rtmp", 2);
        let come = || {
            let cancel = CancellationToken::new();
            let admitted = sessions.admit(SocketAddr::from(([127, 0, 0, 1], 5)), cancel.clone(), 3);
            admitted.map(|(open, pushed)| (open, pushed, cancel))
        };
        let (mut first, _, _first) = come().unwrap();
        let name = StreamName::parse("cam").unwrap();
        first.begin(SessionState::Publish, name.clone(), "", "");
        let (mut second, pushed, gone) = come().unwrap();
        assert!(!pushed && !second.gave_way());
        second.begin(SessionState::Read, name.clone(), "", "");
        let (third, pushed, ended) = come().unwrap();
        assert!(!pushed);
        let (mut fourth, pushed, _fourth) = come().unwrap();
        assert!(pushed && ended.is_cancelled() && third.gave_way(), "three are the most");
        assert!(!gone.is_cancelled() && !fourth.gave_way());
        drop(third);
        fourth.begin(SessionState::Read, name, "", "");
        assert!(come().is_none(), "all three work");
    }
}
