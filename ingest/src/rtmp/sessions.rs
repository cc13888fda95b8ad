//! The list of a server's connections, for the API: who is there, and ending one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::name::StreamName;

/// What a connection does.
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

/// One connection at one moment.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Unique, in the form of a UUID.
    pub id: String,
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
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
}

/// The connections of a server. Cloning shares them.
#[derive(Clone, Default)]
pub struct Sessions {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<HashMap<String, Arc<Entry>>>,
    idle: AtomicUsize,
}

struct Entry {
    id: String,
    remote: SocketAddr,
    created: SystemTime,
    role: Mutex<(SessionState, Option<StreamName>, String)>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    cancel: CancellationToken,
}

impl Sessions {
    /// All connections, the oldest first.
    pub fn list(&self) -> Vec<SessionStatus> {
        let mut list: Vec<_> = self.shared.open.lock().values().map(|e| e.status()).collect();
        list.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.id.cmp(&b.id)));
        list
    }

    /// One connection.
    pub fn get(&self, id: &str) -> Option<SessionStatus> {
        self.shared.open.lock().get(id).map(|entry| entry.status())
    }

    /// Ends a connection; false when there is none of that id.
    pub fn kick(&self, id: &str) -> bool {
        let entry = self.shared.open.lock().get(id).cloned();
        entry.is_some_and(|entry| {
            entry.cancel.cancel();
            true
        })
    }

    /// All connections, and those of them that are idle.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.shared.open.lock().len(), self.shared.idle.load(Ordering::Relaxed))
    }

    pub(super) fn open(&self, remote: SocketAddr, cancel: CancellationToken) -> Open {
        let entry = Arc::new(Entry {
            id: new_id(),
            remote,
            created: SystemTime::now(),
            role: Mutex::new((SessionState::Idle, None, String::new())),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            cancel,
        });
        self.shared.idle.fetch_add(1, Ordering::Relaxed);
        self.shared.open.lock().insert(entry.id.clone(), Arc::clone(&entry));
        Open { sessions: self.clone(), entry, idle: true }
    }
}

impl Entry {
    fn status(&self) -> SessionStatus {
        let (state, stream, user) = self.role.lock().clone();
        SessionStatus {
            id: self.id.clone(),
            remote: self.remote,
            created: self.created,
            state,
            stream,
            user,
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// A connection's place in the list; dropping it takes it off.
pub(super) struct Open {
    sessions: Sessions,
    entry: Arc<Entry>,
    idle: bool,
}

impl Open {
    pub(super) fn id(&self) -> &str {
        &self.entry.id
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.entry.remote
    }

    /// Cancelled when the connection was kicked or the node stops.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.entry.cancel
    }

    pub(super) fn received(&self, bytes: u64) {
        self.entry.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.entry.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn begin(&mut self, state: SessionState, stream: StreamName, user: String) {
        *self.entry.role.lock() = (state, Some(stream), user);
        self.leave_idle();
    }

    fn leave_idle(&mut self) {
        if std::mem::take(&mut self.idle) {
            self.sessions.shared.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.leave_idle();
        self.sessions.shared.open.lock().remove(&self.entry.id);
    }
}

/// A random id in the form of a UUID (RFC 9562, version 4), as tools for this API expect.
fn new_id() -> String {
    let mut id = rand::random::<u128>();
    id = (id & !(0xF << 76)) | (0x4 << 76);
    id = (id & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
