//! How it stands with a remote end: told by the attempt, read by API and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

/// What a remote end does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody needs it: an on-demand source without viewers, a push without its stream.
    Idle,
    /// An attempt is being made.
    Connecting,
    /// Media flows.
    Running,
    /// The last attempt failed or ended; the next one is waited for.
    Waiting,
    /// It is over and is not tried again.
    Stopped,
}

impl State {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }
}

/// The state and the counters of one remote end, over all its attempts. Cloning shares them.
#[derive(Clone)]
pub struct Status {
    shared: Arc<Shared>,
}

struct Shared {
    bytes: AtomicU64,
    packets: AtomicU64,
    dropped: AtomicU64,
    retries: AtomicU64,
    told: Mutex<Told>,
}

struct Told {
    state: State,
    since: SystemTime,
    last_error: Option<String>,
}

/// A [`Status`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it does.
    pub state: State,
    /// Since when it does that.
    pub since: SystemTime,
    /// Bytes sent to, or received from, the other side.
    pub bytes: u64,
    /// Coded pictures and sound frames sent or received.
    pub packets: u64,
    /// Packets of the stream left out because the other side was too slow.
    pub dropped: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Why the last attempt that failed did so; forgotten when an attempt succeeds.
    pub last_error: Option<String>,
}

impl Default for Status {
    fn default() -> Self {
        let told = Told { state: State::Idle, since: SystemTime::now(), last_error: None };
        let zero = || AtomicU64::new(0);
        Self {
            shared: Arc::new(Shared {
                bytes: zero(),
                packets: zero(),
                dropped: zero(),
                retries: zero(),
                told: Mutex::new(told),
            }),
        }
    }
}

impl Status {
    /// The connection stands and media is about to flow.
    pub fn connected(&self) {
        self.enter(State::Running);
        self.shared.told.lock().last_error = None;
    }

    /// Counts what crossed the wire.
    pub fn count(&self, bytes: u64, packets: u64) {
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.packets.fetch_add(packets, Ordering::Relaxed);
    }

    /// Counts packets that were left out, [`Item::Lagged`](crate::hub::Item::Lagged) say.
    pub fn dropped(&self, packets: u64) {
        self.shared.dropped.fetch_add(packets, Ordering::Relaxed);
    }

    /// Another attempt begins after one that ended.
    pub fn retried(&self) {
        self.shared.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt failed.
    pub fn failed(&self, error: &super::Error) {
        self.shared.told.lock().last_error = Some(error.to_string());
    }

    /// It does something else from now on.
    pub fn enter(&self, state: State) {
        let mut told = self.shared.told.lock();
        if told.state != state {
            told.state = state;
            told.since = SystemTime::now();
        }
    }

    /// What it does.
    pub fn state(&self) -> State {
        self.shared.told.lock().state
    }

    /// Everything at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let told = self.shared.told.lock();
        Snapshot {
            state: told.state,
            since: told.since,
            bytes: get(&self.shared.bytes),
            packets: get(&self.shared.packets),
            dropped: get(&self.shared.dropped),
            retries: get(&self.shared.retries),
            last_error: told.last_error.clone(),
        }
    }
}
