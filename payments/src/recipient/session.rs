//! One session of the working side: which frames are admitted, which tickets count.
//!
//! Fed by two hands: the frame path ([`SessionRecipient::admit`], [`SessionRecipient::returned`],
//! [`SessionRecipient::dropped`], a few comparisons each) and the pay channel
//! ([`SessionRecipient::pay_bytes`]). Drained by [`SessionRecipient::poll`]. Rules by number are
//! those of per-frame-payments.md.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use parking_lot::Mutex;

use super::book::Book;
use super::outcome::{Admit, RecipientCounters, RecipientOutput, SessionEnd, WaitReason};
use super::tickets::{LiveSet, RateLimit};
use super::{SessionTerms, Shared};
use crate::latency::Percentile;
use crate::price::{FrameRate, PictureSize, PricePerPixel, Wei};
use crate::quote::OfferRefusal;
use crate::set::Set;
use crate::wire::pay::RECORD_BYTES_MAX;
use crate::wire::{Frames, Receipt, Record, RefusedNonce};

/// Pre-roll frames a session.
const PREROLL_FRAMES_MAX: u32 = 512;
/// Frames in the graph that are told apart; the oldest beyond count as dropped.
const IN_GRAPH_MAX: usize = 1024;
/// A stream whose last frame waited longer ago than this has paused; it is not unpaid.
const WAIT_IS_OLD: Duration = Duration::from_secs(2);
/// The limit grows with the measured time to at most so many seconds of frames.
const AT_RISK_MAX: Duration = Duration::from_secs(2);

pub(super) struct InGraph {
    pts: i64,
    fee: Wei,
    since: Instant,
}

/// The recipient's half of one session.
pub struct SessionRecipient {
    pub(super) shared: Arc<Shared>,
    pub(super) book: Arc<Mutex<Book>>,
    pub(super) terms: SessionTerms,
    pub(super) price: PricePerPixel,
    pub(super) current: LiveSet,
    pub(super) previous: Option<LiveSet>,
    pub(super) retired: VecDeque<(Set, U256)>,
    pub(super) changed: bool,
    pub(super) next_attempt: Option<Instant>,
    pub(super) refused: VecDeque<RefusedNonce>,
    pub(super) rate: RateLimit,
    pub(super) frames: Frames,
    pub(super) in_graph: VecDeque<InGraph>,
    pub(super) preroll_until: Option<i64>,
    pub(super) preroll_left: u32,
    pub(super) seen_pts: Option<i64>,
    pub(super) time_in_graph: Percentile,
    /// First and latest time that a frame was told to wait since the last ticket.
    pub(super) waiting: Option<(Instant, Instant)>,
    pub(super) dirty: bool,
    pub(super) last_receipt: Option<Instant>,
    pub(super) ended: bool,
    pub(super) counters: RecipientCounters,
    pub(super) outputs: VecDeque<RecipientOutput>,
}

impl SessionRecipient {
    pub(super) fn new(
        now: Instant,
        shared: Arc<Shared>,
        book: Arc<Mutex<Book>>,
        terms: SessionTerms,
        price: PricePerPixel,
    ) -> Result<Self, OfferRefusal> {
        let held = book.lock().held();
        let (set, rand) = shared.make_set(&terms, price, 1, held)?;
        let mut session = Self {
            shared,
            book,
            price,
            current: LiveSet::new(set, rand, now),
            previous: None,
            retired: VecDeque::new(),
            changed: false,
            next_attempt: None,
            refused: VecDeque::new(),
            rate: RateLimit::default(),
            frames: Frames::new(RECORD_BYTES_MAX),
            in_graph: VecDeque::new(),
            preroll_until: None,
            preroll_left: PREROLL_FRAMES_MAX,
            seen_pts: None,
            time_in_graph: Percentile::default(),
            waiting: None,
            dirty: false,
            last_receipt: None,
            ended: false,
            counters: RecipientCounters { sets: 1, ..RecipientCounters::default() },
            outputs: VecDeque::new(),
            terms,
        };
        session.counters.frames_at_risk = session.frames_at_risk();
        Ok(session)
    }

    /// The set that goes into the start answer; later ones travel in receipts.
    pub fn first_set(&self) -> &Set {
        &self.current.set
    }

    /// Asks to put a frame into the graph. Costs a few comparisons; call it again for a frame that
    /// waited.
    pub fn admit(&mut self, now: Instant, pts: i64) -> Admit {
        if self.ended {
            return Admit::Wait(WaitReason::Ended);
        }
        if self.preroll_until.is_some_and(|until| pts < until) && self.preroll_left > 0 {
            self.preroll_left -= 1;
            return Admit::Preroll;
        }
        if self.counters.accepted == 0 {
            return self.wait(now, WaitReason::NoTicketYet);
        }
        let fee = self.current.set.fee;
        let limit = fee.saturating_mul(u64::from(self.frames_at_risk()));
        let after = self.counters.debit.saturating_add(fee);
        if after > self.counters.credit.saturating_add(limit) {
            return self.wait(now, WaitReason::Unpaid);
        }
        let sessions = u64::from(self.shared.config.sessions_at_risk.max(1));
        if !self.book.lock().admit(fee, limit.saturating_mul(sessions)) {
            return self.wait(now, WaitReason::SenderCeiling);
        }
        self.counters.debit = after;
        self.counters.admitted += 1;
        self.waiting = None;
        self.in_graph.push_back(InGraph { pts, fee, since: now });
        if self.in_graph.len() > IN_GRAPH_MAX
            && let Some(oldest) = self.in_graph.pop_front()
        {
            self.reverse(oldest.fee);
        }
        self.saw(pts);
        self.receipt_if_due(now);
        Admit::Admitted
    }

    /// A frame left the graph and goes back to the sender.
    pub fn returned(&mut self, now: Instant, pts: i64) {
        if let Some(frame) = self.take_from_graph(pts) {
            self.time_in_graph.add(now.saturating_duration_since(frame.since));
            self.counters.returned += 1;
            self.saw(pts);
            self.receipt_if_due(now);
        }
    }

    /// A frame will not come back: replaced while it waited, dropped or failed in the graph. Its
    /// fee, if booked, is taken back.
    pub fn dropped(&mut self, now: Instant, pts: i64) {
        match self.take_from_graph(pts) {
            Some(frame) => self.reverse(frame.fee),
            None => self.counters.dropped += 1,
        }
        self.saw(pts);
        self.receipt_if_due(now);
    }

    /// Bytes of the pay channel in any cut.
    ///
    /// # Errors
    /// The session is over: the channel is malformed, a signature was wrong, or too much was
    /// refused. The same comes out of [`SessionRecipient::poll`].
    pub fn pay_bytes(&mut self, now: Instant, bytes: &[u8]) -> Result<(), SessionEnd> {
        self.frames.push(bytes);
        loop {
            let record = match self
                .frames
                .next_frame()
                .and_then(|frame| frame.map(|frame| Record::decode(&frame)).transpose())
            {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return Err(self.end(error.into())),
            };
            self.record(now, &record).map_err(|end| self.end(end))?;
        }
        self.receipt_if_due(now);
        Ok(())
    }

    /// The pay channel lost a segment: what follows begins with a whole record.
    pub fn pay_gap(&mut self) {
        self.frames.restart();
    }

    /// One record of the pay channel.
    ///
    /// # Errors
    /// As [`SessionRecipient::pay_bytes`].
    pub fn record(&mut self, now: Instant, record: &Record) -> Result<(), SessionEnd> {
        match record {
            Record::Ticket(ticket) => self.ticket(now, ticket),
            Record::Preroll { until } => {
                if self.counters.admitted == 0 {
                    self.preroll_until = Some(*until);
                }
                Ok(())
            }
            Record::Resend(resend) => self.resent(resend),
            Record::Unknown(_) => Ok(()),
        }
    }

    /// The winner with this hash is on disk: its nonce may now be settled.
    pub fn stored(&mut self, now: Instant, hash: &B256) {
        let mut sets = std::iter::once(&mut self.current).chain(self.previous.as_mut());
        if sets.any(|live| live.stored(hash)) {
            self.dirty = true;
            self.receipt_if_due(now);
        }
    }

    /// The pictures change size or rate: a set for them is offered with the next receipt. Frames
    /// are booked at the old fee until then.
    pub fn resize(&mut self, now: Instant, size: PictureSize, fps: FrameRate) {
        self.changed |= self.terms.size != size;
        self.terms.size = size;
        self.terms.fps = fps;
        self.tick(now);
    }

    /// The price changes: a set with it is offered with the next receipt.
    pub fn reprice(&mut self, now: Instant, price: PricePerPixel) {
        self.changed |= self.price != price;
        self.price = price;
        self.tick(now);
    }

    /// Does what is due. Call at [`SessionRecipient::next_timeout`].
    pub fn tick(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        if self.previous.as_ref().is_some_and(|live| live.is_over(now)) {
            self.retire_previous();
        }
        self.next_attempt = self.next_attempt.filter(|at| now < *at);
        if self.previous.is_none() && self.next_attempt.is_none() && self.wants_successor(now) {
            self.rotate(now);
        }
        if let Some((since, last)) = self.waiting {
            let unpaid_after = self.shared.config.unpaid_after;
            if now.saturating_duration_since(last) >= WAIT_IS_OLD {
                self.waiting = None;
            } else if now.saturating_duration_since(since) >= unpaid_after {
                self.end(SessionEnd::NotPaid(unpaid_after));
                return;
            }
        }
        self.receipt_if_due(now);
    }

    /// When [`SessionRecipient::tick`] is next needed.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let config = &self.shared.config;
        let receipt =
            self.last_receipt.filter(|_| self.dirty).map(|t| t + self.terms.fps.interval());
        let retire = self.previous.as_ref().and_then(|live| live.retire_at);
        let rotate = self.next_attempt.unwrap_or(self.current.since + config.set_life);
        let rotate = self.previous.is_none().then_some(rotate);
        let unpaid = self.waiting.map(|(since, _)| since + config.unpaid_after);
        [receipt, retire, rotate, unpaid].into_iter().flatten().min()
    }

    /// The next wish.
    pub fn poll(&mut self) -> Option<RecipientOutput> {
        self.outputs.pop_front()
    }

    /// What was agreed, with the size and rate of now.
    pub fn terms(&self) -> &SessionTerms {
        &self.terms
    }

    /// The counts so far.
    pub fn snapshot(&self) -> RecipientCounters {
        let fee = self.current.set.fee;
        let frames_at_risk = self.frames_at_risk();
        RecipientCounters {
            at_risk: self.counters.debit.saturating_sub(self.counters.credit),
            limit: fee.saturating_mul(u64::from(frames_at_risk)),
            frames_at_risk,
            fee,
            ..self.counters.clone()
        }
    }

    /// Ko: the setting or the default, grown by the measured time in the graph (rule 3: the sender
    /// answers for the way there and back).
    fn frames_at_risk(&self) -> u32 {
        let fps = self.terms.fps;
        if let Some(fixed) = self.shared.config.frames_at_risk {
            return fixed.max(1);
        }
        let default = fps.default_frames_at_risk();
        let measured = fps.frames_ceil(self.time_in_graph.p99().min(AT_RISK_MAX)) + 1;
        default.max(u32::try_from(measured).unwrap_or(u32::MAX))
    }

    fn wait(&mut self, now: Instant, reason: WaitReason) -> Admit {
        self.counters.waits += 1;
        let (since, _) = self.waiting.unwrap_or((now, now));
        self.waiting = Some((since, now));
        if now.saturating_duration_since(since) >= self.shared.config.unpaid_after {
            self.tick(now);
        }
        Admit::Wait(reason)
    }

    pub(super) fn saw(&mut self, pts: i64) {
        self.seen_pts = self.seen_pts.max(Some(pts));
        self.dirty = true;
    }

    fn take_from_graph(&mut self, pts: i64) -> Option<InGraph> {
        let at = self.in_graph.iter().position(|frame| frame.pts == pts)?;
        self.in_graph.remove(at)
    }

    pub(super) fn reverse(&mut self, fee: Wei) {
        self.counters.debit = self.counters.debit.saturating_sub(fee);
        self.counters.dropped += 1;
        self.book.lock().reverse(fee);
    }

    fn receipt_if_due(&mut self, now: Instant) {
        let interval = self.terms.fps.interval();
        let due = self.last_receipt.is_none_or(|last| now >= last + interval);
        if !self.dirty || !due || self.ended {
            return;
        }
        self.dirty = false;
        self.last_receipt = Some(now);
        let sets = self.previous.iter().chain([&self.current]).map(LiveSet::receipt).collect();
        let announce = self.current.window.highest() == 0 && self.current.set.serial > 1;
        let receipt = Receipt {
            sets,
            refused: self.refused.iter().copied().collect(),
            admitted: self.counters.admitted,
            returned: self.counters.returned,
            dropped: self.counters.dropped,
            seen_pts: self.seen_pts,
            debit: self.counters.debit,
            credit: self.counters.credit,
            frames_at_risk: self.frames_at_risk(),
            next_set: announce.then(|| Box::new(self.current.set.clone())),
        };
        self.outputs.push_back(RecipientOutput::Receipt(receipt.encode()));
    }

    pub(super) fn end(&mut self, end: SessionEnd) -> SessionEnd {
        if !self.ended {
            self.ended = true;
            self.outputs.push_back(RecipientOutput::End(end.clone()));
        }
        end
    }
}

impl Drop for SessionRecipient {
    fn drop(&mut self) {
        // Frames that never left the graph are not owed; the rest stays with the sender.
        while let Some(frame) = self.in_graph.pop_front() {
            self.reverse(frame.fee);
        }
        self.retire_previous();
        self.shared.retire(&self.current.set);
    }
}
