//! Where payment and engine meet: which frame may enter the graph.
//!
//! Called for each frame from the engine's threads. What a gateway had delivered by another
//! orchestrator is decoded and goes no further; everything else must be covered by tickets, unless
//! the work costs nothing.

use std::time::Instant;

use parking_lot::Mutex;
use payments::{FrameRate, PictureSize, RecipientCounters, SessionRecipient};
use pipeline::run::{Dropped, Gate, Waker};
use pipeline::{Pts, Size};
use tokio::sync::Notify;

/// The gate of one session.
pub(crate) struct Admission {
    skip_until: Option<Pts>,
    frame_rate: FrameRate,
    account: Option<Mutex<Account>>,
    waker: Mutex<Option<Waker>>,
    /// The account may want something done.
    moved: Notify,
}

struct Account {
    session: SessionRecipient,
    size: Size,
}

impl Admission {
    /// A gate that lets nothing through up to `skip_until`; with a session, nothing that is not
    /// paid for.
    pub(crate) fn new(
        skip_until: Option<Pts>,
        frame_rate: FrameRate,
        session: Option<SessionRecipient>,
    ) -> Self {
        let account = session.map(|session| {
            let PictureSize { width, height } = session.terms().size;
            Mutex::new(Account { session, size: Size::new(width, height) })
        });
        Self { skip_until, frame_rate, account, waker: Mutex::new(None), moved: Notify::new() }
    }

    /// The last frame that another delivered.
    pub(crate) fn skip_until(&self) -> Option<Pts> {
        self.skip_until
    }

    /// How the engine is told that a waiting frame may be asked about again.
    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    /// Does something with the account; the engine then asks again about a frame that waits.
    /// `None` where nothing is paid.
    pub(crate) fn account<T>(
        &self,
        act: impl FnOnce(&mut SessionRecipient, Instant) -> T,
    ) -> Option<T> {
        let result = act(&mut self.account.as_ref()?.lock().session, Instant::now());
        self.moved.notify_one();
        if let Some(waker) = &*self.waker.lock() {
            waker.wake();
        }
        Some(result)
    }

    /// What the account wants done next, and when to look again.
    pub(crate) fn poll(&self) -> (Option<payments::RecipientOutput>, Option<Instant>) {
        let Some(account) = &self.account else { return (None, None) };
        let mut account = account.lock();
        let now = Instant::now();
        if account.session.next_timeout().is_some_and(|at| at <= now) {
            account.session.tick(now);
        }
        (account.session.poll(), account.session.next_timeout())
    }

    /// Resolves when the account may want something done.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Counters of the account.
    pub(crate) fn counters(&self) -> Option<RecipientCounters> {
        self.account.as_ref().map(|account| account.lock().session.snapshot())
    }

    /// Tells the account of a frame, unless it is one that another delivered.
    fn tell(&self, pts: Pts, act: impl FnOnce(&mut SessionRecipient, Instant)) {
        let Some(account) = &self.account else { return };
        if self.skip_until.is_some_and(|until| pts <= until) {
            return;
        }
        act(&mut account.lock().session, Instant::now());
        self.moved.notify_one();
    }
}

impl Gate for Admission {
    fn admit(&self, pts: Pts, size: Size) -> bool {
        if self.skip_until.is_some_and(|until| pts <= until) {
            return false;
        }
        let Some(account) = &self.account else { return true };
        let now = Instant::now();
        let mut account = account.lock();
        if account.size != size
            && let Some(picture) = PictureSize::new(size.width, size.height)
        {
            account.size = size;
            account.session.resize(now, picture, self.frame_rate);
        }
        let admitted = account.session.admit(now, pts.0) == payments::Admit::Admitted;
        drop(account);
        self.moved.notify_one();
        admitted
    }

    fn returned(&self, pts: Pts, _: usize) {
        self.tell(pts, |session, now| session.returned(now, pts.0));
    }

    fn dropped(&self, pts: Pts, _: Dropped) {
        self.tell(pts, |session, now| session.dropped(now, pts.0));
    }
}
