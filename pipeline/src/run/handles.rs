//! Handles on a running engine that do not keep it running.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Shared;
use super::encode::Waiting;
use crate::frame::Frame;

/// Hands decoded frames to an [`Engine`](super::Engine), from anywhere. Does nothing once the engine is gone.
#[derive(Clone)]
pub struct Feed(Weak<Shared>);

impl Feed {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// As [`Engine::push_frame`](super::Engine::push_frame).
    pub fn push(&self, frame: Frame) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.counts.packets.fetch_add(1, Ordering::Relaxed);
        let (queue, decode) = Default::default();
        let waiting = Waiting { frame, queue, decode, decoded: Instant::now(), refused: None };
        if let Some((pts, why)) = shared.slot.put(waiting, false) {
            shared.dropped(pts, why);
        }
    }
}

/// Has the gate of an [`Engine`] asked again, from anywhere. Does nothing once the engine is gone.
#[derive(Clone)]
pub struct Waker(Weak<Shared>);

impl Waker {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// As [`Engine::wake`](super::Engine::wake).
    pub fn wake(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.slot.wake();
        }
    }
}
