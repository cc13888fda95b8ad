//! One session of the paying side.
//!
//! Told of frames sent and returned, of receipts and of budget; drained by [`SessionSender::poll`].

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frames::{FrameBook, Return};
use super::signing::BUDGET_RETRY;
use super::tickets::OpenTickets;
use super::{LeaveReason, SenderConfig, SenderCounters, SenderTerms};
use crate::broker::Head;
use crate::price::{FrameRate, PictureSize, PricePerPixel, Wei};
use crate::set::{Expected, Set, SetRefusal};
use crate::ticket::TicketSigner;
use crate::wire::receipt::{RECEIPT_BYTES_MAX, RefusalCode};
use crate::wire::{Frames, Receipt, Record, Resend};

/// PTS of the ticket that goes ahead of the first frame.
const BEFORE_FIRST_FRAME: i64 = i64::MIN;
/// Sets that unsettled tickets may belong to.
const SETS_KEPT: usize = 3;

/// What the session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderOutput {
    /// Write these bytes to the pay channel as they are, whole within a segment.
    Pay(Bytes),
    /// Take a budget block of so many wei durably (G1), then call [`SessionSender::budget_taken`]
    /// or [`SessionSender::budget_refused`]. At most one is asked for at a time.
    TakeBudget(Wei),
    /// Leave this recipient.
    Leave(LeaveReason),
}

/// The sender's half of one session.
pub struct SessionSender {
    pub(super) config: SenderConfig,
    pub(super) terms: SenderTerms,
    pub(super) former_size: PictureSize,
    pub(super) signer: Arc<dyn TicketSigner>,
    pub(super) sets: VecDeque<Set>,
    pub(super) nonce: u32,
    pub(super) released: Wei,
    pub(super) refused: Wei,
    pub(super) earned: Wei,
    pub(super) signed: u64,
    pub(super) tickets: OpenTickets,
    pub(super) refusals: HashSet<(u32, u32)>,
    pub(super) frames: FrameBook,
    pub(super) frames_sent: u64,
    pub(super) frames_returned: u64,
    pub(super) frames_bad: u64,
    pub(super) forgiven: u64,
    pub(super) lost_at: VecDeque<Instant>,
    pub(super) bad_at: VecDeque<Instant>,
    pub(super) held_back: u64,
    pub(super) receipts: Frames,
    pub(super) told: Receipt,
    pub(super) last_receipt: Instant,
    pub(super) budget: Wei,
    pub(super) budget_asked: bool,
    pub(super) budget_retry: Option<Instant>,
    pub(super) left: bool,
    pub(super) outputs: VecDeque<SenderOutput>,
}

impl SessionSender {
    /// Begins to pay on `set`. The first budget block is asked for at once and the first ticket
    /// follows its grant: send it before the first frame, for nothing is admitted before it.
    ///
    /// # Errors
    /// The set is not what was agreed.
    pub fn new(
        now: Instant,
        config: SenderConfig,
        terms: SenderTerms,
        signer: Arc<dyn TicketSigner>,
        set: Set,
    ) -> Result<Self, SetRefusal> {
        let mut session = Self {
            former_size: terms.size,
            signer,
            sets: VecDeque::new(),
            nonce: 0,
            released: Wei::ZERO,
            refused: Wei::ZERO,
            earned: Wei::ZERO,
            signed: 0,
            tickets: OpenTickets::default(),
            refusals: HashSet::new(),
            frames: FrameBook::default(),
            frames_sent: 0,
            frames_returned: 0,
            frames_bad: 0,
            forgiven: 0,
            lost_at: VecDeque::new(),
            bad_at: VecDeque::new(),
            held_back: 0,
            receipts: Frames::new(RECEIPT_BYTES_MAX),
            told: Receipt::default(),
            last_receipt: now,
            budget: Wei::ZERO,
            budget_asked: false,
            budget_retry: None,
            left: false,
            outputs: VecDeque::new(),
            config,
            terms,
        };
        if session.config.loop_hint > Duration::ZERO {
            session.frames.loop_time.add(session.config.loop_hint);
        }
        session.check(&set)?;
        session.sets.push_back(set);
        session.pump(now, BEFORE_FIRST_FRAME);
        Ok(session)
    }

    /// A frame goes out. Call it once for each, before or after writing it.
    pub fn frame_sent(&mut self, now: Instant, pts: i64) {
        self.frames_sent += 1;
        let fee = self.set().fee;
        self.frames.sent(now, pts, fee);
        self.pump(now, pts);
    }

    /// A frame came back. `good`: it decoded and has the promised size. It earns once, and only
    /// if this PTS was sent.
    pub fn frame_returned(&mut self, now: Instant, pts: i64, good: bool) {
        match self.frames.returned(now, pts) {
            Return::Fresh(fee) if good => {
                self.frames_returned += 1;
                self.earned = self.earned.saturating_add(fee);
            }
            Return::Fresh(_) => self.bad_frame(now),
            Return::Unknown if good => {}
            Return::Unknown => self.frames_bad += 1,
        }
        self.pump(now, pts);
    }

    /// The picture changes: sets for the new size are taken from now on, those for the old still.
    pub fn resize(&mut self, size: PictureSize, fps: FrameRate) {
        if size != self.terms.size {
            self.former_size = std::mem::replace(&mut self.terms.size, size);
        }
        self.terms.fps = fps;
    }

    /// A new price was agreed on.
    pub fn reprice(&mut self, price: PricePerPixel) {
        self.terms.price = price;
    }

    /// Our own view of the chain, for the check of the next set.
    pub fn see(&mut self, head: Head) {
        self.terms.head = Some(head);
    }

    /// The first frames up to `until` only warm up a standby's decoder: tell it, and do not report
    /// them by [`SessionSender::frame_sent`]. Before the first frame that counts.
    pub fn preroll(&mut self, until: i64) {
        self.outputs.push_back(SenderOutput::Pay(Record::Preroll { until }.encode()));
    }

    /// Tickets of an earlier session with the same recipient, which crashed before settling them:
    /// sent once more without credit, so that a winner among them is kept.
    pub fn resend(&mut self, tickets: Vec<Resend>) {
        for ticket in tickets {
            self.outputs.push_back(SenderOutput::Pay(Record::Resend(ticket).encode()));
        }
    }

    /// Tickets that no receipt settled, for [`SessionSender::resend`] of the next session.
    pub fn unsettled(&self) -> Vec<Resend> {
        self.tickets.as_resends(&self.sets.iter().collect::<Vec<_>>())
    }

    /// Bytes of the receipts channel in any cut.
    ///
    /// # Errors
    /// Why we leave; the same comes out of [`SessionSender::poll`].
    pub fn receipt_bytes(&mut self, now: Instant, bytes: &[u8]) -> Result<(), LeaveReason> {
        self.receipts.push(bytes);
        loop {
            let receipt = match self
                .receipts
                .next_frame()
                .and_then(|frame| frame.map(|frame| Receipt::decode(&frame)).transpose())
            {
                Ok(Some(receipt)) => receipt,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.leave(error.into())),
            };
            self.receipt(now, receipt).map_err(|reason| self.leave(reason))?;
        }
    }

    /// The receipts channel lost a segment: what follows begins with a whole receipt.
    pub fn receipt_gap(&mut self) {
        self.receipts.restart();
    }

    /// The block that was asked for is taken.
    pub fn budget_taken(&mut self, now: Instant, block: Wei) {
        self.budget = self.budget.saturating_add(block);
        self.budget_asked = false;
        let pts =
            if self.signed == 0 { BEFORE_FIRST_FRAME } else { self.told.seen_pts.unwrap_or(0) };
        self.pump(now, pts);
    }

    /// The operator's ceiling allows no further block: what is left is spent, then we leave.
    pub fn budget_refused(&mut self, now: Instant) {
        if self.budget < self.set().fee {
            self.leave(LeaveReason::Budget);
        }
        self.budget_asked = false;
        self.budget_retry = Some(now + BUDGET_RETRY);
    }

    /// Does what is due. Call at [`SessionSender::next_timeout`].
    pub fn tick(&mut self, now: Instant) {
        if self.left {
            return;
        }
        self.frames.sweep(now, self.told.seen_pts);
        self.forgive(now);
        while let Some(bytes) = self.tickets.resend(now, self.resend_after()) {
            self.outputs.push_back(SenderOutput::Pay(bytes));
        }
        let silence_max = self.config.silence_max;
        if self.tickets.waiting_since().is_some_and(|since| {
            now.saturating_duration_since(since.max(self.last_receipt)) >= silence_max
        }) {
            self.leave(LeaveReason::Silence(silence_max));
        }
        self.pump(now, self.told.seen_pts.unwrap_or(0));
    }

    /// When [`SessionSender::tick`] is next needed.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.left {
            return None;
        }
        let resend = self.tickets.next_resend(self.resend_after());
        let silent = self
            .tickets
            .waiting_since()
            .map(|since| since.max(self.last_receipt) + self.config.silence_max);
        [resend, silent, self.frames.oldest()].into_iter().flatten().min()
    }

    /// The next wish.
    pub fn poll(&mut self) -> Option<SenderOutput> {
        self.outputs.pop_front()
    }

    /// The counts so far.
    pub fn snapshot(&self) -> SenderCounters {
        let frames_at_risk = self.frames_at_risk();
        SenderCounters {
            signed: self.signed,
            settled: self.tickets.settled,
            refused: self.tickets.refused,
            open: self.tickets.len(),
            resent: self.tickets.resent,
            frames_sent: self.frames_sent,
            frames_returned: self.frames_returned,
            frames_bad: self.frames_bad,
            frames_missing: self.frames.missing,
            held_back: self.held_back,
            released: self.released,
            earned: self.earned,
            credited: self.told.credit,
            debited: self.told.debit,
            at_risk: self.released.saturating_sub(self.earned),
            limit: self.set().fee.saturating_mul(u64::from(frames_at_risk)),
            frames_at_risk,
            recipient_frames_at_risk: self.told.frames_at_risk,
            budget_left: self.budget,
            loop_p99_us: self.frames.loop_time.p99().as_micros() as u64,
        }
    }

    /// The set in use.
    pub fn set(&self) -> &Set {
        // There is one from the first moment on: `new` puts it in, `take_set` only adds.
        self.sets.back().expect("a session has a set")
    }

    /// Kg: rule 3 with the measured loop, less what the recipient runs ahead on its own.
    pub(super) fn frames_at_risk(&self) -> u32 {
        if let Some(fixed) = self.config.frames_at_risk {
            return fixed.max(1);
        }
        let fps = self.terms.fps;
        let loop_time = self.frames.loop_time.p99().min(self.config.at_risk_max);
        let needed = u32::try_from(fps.frames_ceil(loop_time) + 2).unwrap_or(u32::MAX);
        needed.saturating_sub(self.told.frames_at_risk).max(fps.default_frames_at_risk())
    }

    fn resend_after(&self) -> Duration {
        self.config.resend_after.max(self.frames.loop_time.p99() * 2)
    }

    fn check(&self, set: &Set) -> Result<(), SetRefusal> {
        let size_known = set.size == self.terms.size || set.size == self.former_size;
        if !size_known {
            return Err(SetRefusal::Size(set.size));
        }
        set.check(&Expected {
            recipient: self.terms.recipient,
            sender: self.signer.address(),
            session: self.terms.session,
            price: self.terms.price,
            face_value_max: self.config.face_value_max,
            head: self.terms.head,
            ledger_round_hash: self.config.ledger_round_hash,
        })
    }

    fn receipt(&mut self, now: Instant, mut receipt: Receipt) -> Result<(), LeaveReason> {
        if receipt.credit > self.released {
            return Err(LeaveReason::FalseReceipt("credit"));
        }
        self.last_receipt = now;
        for set in &receipt.sets {
            if set.serial == self.set().serial && set.settled > self.nonce {
                return Err(LeaveReason::FalseReceipt("a nonce"));
            }
            self.tickets.settle(set.serial, set.settled);
        }
        for refusal in &receipt.refused {
            let fresh = self.refusals.insert((refusal.serial, refusal.nonce));
            let for_good = matches!(refusal.code, RefusalCode::UnknownSet | RefusalCode::SealedSet);
            if for_good && let Some(fee) = self.tickets.refuse(refusal.serial, refusal.nonce) {
                self.refused = self.refused.saturating_add(fee);
            }
            // A refusal for the moment (rate, window) is answered by the same bytes in time.
            if fresh && self.refusals.len() > self.config.refusals_max as usize {
                return Err(LeaveReason::Refused(self.refusals.len() as u32));
            }
        }
        if let Some(next) = receipt.next_set.take() {
            self.take_set(*next)?;
        }
        self.told = receipt;
        self.frames.sweep(now, self.told.seen_pts);
        self.forgive(now);
        let pts = self.told.seen_pts.unwrap_or(0);
        self.pump(now, pts);
        Ok(())
    }

    fn take_set(&mut self, next: Set) -> Result<(), LeaveReason> {
        if next.serial <= self.set().serial {
            return Ok(());
        }
        if next.epoch != self.set().epoch {
            return Err(LeaveReason::FalseReceipt("an epoch"));
        }
        self.check(&next)?;
        self.sets.push_back(next);
        self.nonce = 0;
        if self.sets.len() > SETS_KEPT {
            self.sets.pop_front();
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, reason: LeaveReason) -> LeaveReason {
        if !self.left {
            self.left = true;
            self.outputs.push_back(SenderOutput::Leave(reason.clone()));
        }
        reason
    }
}
