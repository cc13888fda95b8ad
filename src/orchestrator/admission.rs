//! Where payment and engine meet: which frame may enter the graph.
//!
//! Called for each frame from the engine's threads. What a gateway had delivered by another
//! orchestrator is decoded and goes no further; everything else must be covered by tickets.

use parking_lot::Mutex;
use pipeline::run::{Dropped, Gate, Waker};
use pipeline::{Pts, Size};

/// The gate of one session.
pub struct Admission {
    skip_until: Option<Pts>,
    waker: Mutex<Option<Waker>>,
}

impl Admission {
    /// A gate that lets nothing through up to `skip_until`.
    pub fn new(skip_until: Option<Pts>) -> Self {
        Self { skip_until, waker: Mutex::new(None) }
    }

    /// The last frame that another delivered.
    pub fn skip_until(&self) -> Option<Pts> {
        self.skip_until
    }

    /// How the engine is told that a waiting frame may be asked about again.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    /// Has the engine ask again.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake();
        }
    }
}

impl Gate for Admission {
    fn admit(&self, pts: Pts, _: Size) -> bool {
        self.skip_until.is_none_or(|until| pts > until)
    }

    fn returned(&self, _: Pts, _: usize) {}

    fn dropped(&self, _: Pts, _: Dropped) {}
}
