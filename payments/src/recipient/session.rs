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
use bytes::Bytes;
use parking_lot::Mutex;

use super::book::Book;
use super::tickets::{LiveSet, RateLimit, Verdict};
use super::{SessionTerms, Shared};
use crate::latency::Percentile;
use crate::price::{FrameRate, PictureSize, PricePerPixel, Wei};
use crate::quote::OfferRefusal;
use crate::set::{NONCE_MAX, Set};
use crate::wire::pay::RECORD_BYTES_MAX;
use crate::wire::receipt::{REFUSED_MAX, RefusalCode};
use crate::wire::{Frames, Receipt, Record, RefusedNonce, Resend, TicketRecord, WireError};
use crate::winner::Winner;

/// A successor is offered so many nonces before a set's last one.
const NONCES_AHEAD: u32 = 256;
/// Time between two attempts to make a set when none could be offered.
const OFFER_RETRY: Duration = Duration::from_secs(1);
/// Refused tickets after which the session ends; an honest sender stops after three.
const REFUSALS_MAX: u64 = 64;
/// Tickets of earlier sessions that are taken for their winners, a session.
const RESENDS_MAX: u32 = 256;
/// Pre-roll frames a session.
const PREROLL_FRAMES_MAX: u32 = 512;
/// Frames in the graph that are told apart; the oldest beyond count as dropped.
const IN_GRAPH_MAX: usize = 1024;
/// Retired sets whose winners are still kept.
const RETIRED_SETS_MAX: usize = 4;
/// A stream whose last frame waited longer ago than this has paused; it is not unpaid.
const WAIT_IS_OLD: Duration = Duration::from_secs(2);
/// The limit grows with the measured time to at most so many seconds of frames.
const AT_RISK_MAX: Duration = Duration::from_secs(2);

/// The answer to a frame that wants to enter the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Process it; its fee is booked.
    Admitted,
    /// Not now: it waits under the drop-oldest rule.
    Wait(WaitReason),
    /// It warms up the decoder only: neither processed nor paid.
    Preroll,
}

/// Why a frame waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// No ticket of the session was accepted yet.
    NoTicketYet,
    /// The session is at its limit (rule 1).
    Unpaid,
    /// The sender's sessions together are at their limit.
    SenderCeiling,
    /// The session is over.
    Ended,
}

/// Why a session ended for money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// Bytes that are no pay channel.
    #[error("the pay channel is malformed: {0}")]
    Malformed(#[from] WireError),
    /// A signature that is not the sender's. Counted against the connection, not the address.
    #[error("ticket {nonce} of set {serial} is not signed by the sender")]
    WrongSignature {
        /// Serial of the set.
        serial: u32,
        /// Nonce of the ticket.
        nonce: u32,
    },
    /// Refused tickets without end.
    #[error("{0} tickets were refused")]
    TooManyRefusals(u64),
    /// Frames waited for payment too long.
    #[error("not paid: frames waited for {} s", .0.as_secs())]
    NotPaid(Duration),
    /// The last set is over and no other can be offered.
    #[error("no set can be offered: {0}")]
    NoSet(OfferRefusal),
}

/// What the session wants done.
#[derive(Clone, Debug)]
pub enum RecipientOutput {
    /// Write these bytes to the receipts channel as they are.
    Receipt(Bytes),
    /// Store this winner (O2), then call [`SessionRecipient::stored`]. Frames go on meanwhile.
    StoreWinner(Box<Winner>),
    /// End the session.
    End(SessionEnd),
}

/// Refused tickets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RefusedCounts {
    /// No such set.
    pub unknown_set: u64,
    /// The set was sealed.
    pub sealed_set: u64,
    /// Nonce out of range.
    pub nonce_range: u64,
    /// Nonce seen before.
    pub repeated: u64,
    /// Too many a second.
    pub rate: u64,
    /// Not signed by the sender.
    pub signature: u64,
}

/// Counts of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RecipientCounters {
    /// Tickets that were credited.
    pub accepted: u64,
    /// Tickets that won, credited or kept without credit.
    pub won: u64,
    /// Tickets of earlier sessions that were looked at.
    pub resent: u64,
    /// Refused tickets by reason.
    pub refused: RefusedCounts,
    /// Frames admitted.
    pub admitted: u64,
    /// Frames sent back.
    pub returned: u64,
    /// Frames that were seen and not sent back.
    pub dropped: u64,
    /// Times a frame was told to wait.
    pub waits: u64,
    /// Sets offered.
    pub sets: u64,
    /// Fees of admitted frames.
    pub debit: Wei,
    /// Wei of accepted tickets.
    pub credit: Wei,
    /// Fees not yet paid.
    pub at_risk: Wei,
    /// Limit of the former.
    pub limit: Wei,
    /// The limit in frames (Ko).
    pub frames_at_risk: u32,
    /// Fee of a frame.
    pub fee: Wei,
}

struct InGraph {
    pts: i64,
    fee: Wei,
    since: Instant,
}

/// The recipient's half of one session.
pub struct SessionRecipient {
    shared: Arc<Shared>,
    book: Arc<Mutex<Book>>,
    terms: SessionTerms,
    price: PricePerPixel,
    current: LiveSet,
    previous: Option<LiveSet>,
    retired: VecDeque<(Set, U256)>,
    changed: bool,
    next_attempt: Option<Instant>,
    refused: VecDeque<RefusedNonce>,
    rate: RateLimit,
    frames: Frames,
    in_graph: VecDeque<InGraph>,
    preroll_until: Option<i64>,
    preroll_left: u32,
    seen_pts: Option<i64>,
    time_in_graph: Percentile,
    /// First and latest time that a frame was told to wait since the last ticket.
    waiting: Option<(Instant, Instant)>,
    dirty: bool,
    last_receipt: Option<Instant>,
    ended: bool,
    counters: RecipientCounters,
    outputs: VecDeque<RecipientOutput>,
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
            let record = match self.frames.next_frame().and_then(|frame| {
                frame.map(|frame| Record::decode(&frame)).transpose()
            }) {
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
        let receipt = self.last_receipt.filter(|_| self.dirty).map(|t| t + self.terms.fps.interval());
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

    fn saw(&mut self, pts: i64) {
        self.seen_pts = self.seen_pts.max(Some(pts));
        self.dirty = true;
    }

    fn take_from_graph(&mut self, pts: i64) -> Option<InGraph> {
        let at = self.in_graph.iter().position(|frame| frame.pts == pts)?;
        self.in_graph.remove(at)
    }

    fn reverse(&mut self, fee: Wei) {
        self.counters.debit = self.counters.debit.saturating_sub(fee);
        self.counters.dropped += 1;
        self.book.lock().reverse(fee);
    }

    /// Rule 4, in its order: size and token were checked before.
    fn ticket(&mut self, now: Instant, record: &TicketRecord) -> Result<(), SessionEnd> {
        let TicketRecord { serial, nonce, ref signature, .. } = *record;
        let block = self.shared.head().map(|head| head.block);
        let Some(live) = [Some(&mut self.current), self.previous.as_mut()]
            .into_iter()
            .flatten()
            .find(|live| live.set.serial == serial && !live.is_sealed(now, block))
        else {
            let sets = [Some(&self.current), self.previous.as_ref()].into_iter().flatten();
            let known = sets
                .map(|live| (&live.set, live.rand))
                .chain(self.retired.iter().map(|(set, rand)| (set, *rand)))
                .find(|(set, _)| set.serial == serial)
                .map(|(set, rand)| (set.clone(), rand));
            let Some((set, rand)) = known else {
                self.counters.refused.unknown_set += 1;
                return self.refuse(serial, nonce, RefusalCode::UnknownSet);
            };
            self.counters.refused.sealed_set += 1;
            self.keep_if_it_wins(&set, rand, nonce, signature)?;
            return self.refuse(serial, nonce, RefusalCode::SealedSet);
        };
        match live.check(nonce, || self.rate.allows(now, self.terms.fps)) {
            Verdict::Ask => {}
            Verdict::Repeated => {
                // Sent again because its receipt was late: no refusal, nothing to credit.
                self.counters.refused.repeated += 1;
                return self.refused_quietly();
            }
            Verdict::Range => {
                self.counters.refused.nonce_range += 1;
                return self.refuse(serial, nonce, RefusalCode::NonceRange);
            }
            Verdict::Rate => {
                self.counters.refused.rate += 1;
                let (set, rand) = (live.set.clone(), live.rand);
                self.keep_if_it_wins(&set, rand, nonce, signature)?;
                return self.refuse(serial, nonce, RefusalCode::Rate);
            }
        }
        let ticket = live.set.ticket(nonce);
        let hash = ticket.hash();
        let signer = (self.shared.recover)(&crate::ticket::signing_digest(&hash), signature);
        if signer != Some(ticket.sender) {
            self.counters.refused.signature += 1;
            return Err(SessionEnd::WrongSignature { serial, nonce });
        }
        let wins = crate::ticket::wins(signature, &live.rand, &ticket.win_prob);
        live.accept(nonce, wins.then_some(hash));
        let fee = live.set.fee;
        let winner = wins.then(|| (live.set.clone(), live.rand));
        self.counters.accepted += 1;
        self.counters.credit = self.counters.credit.saturating_add(fee);
        self.book.lock().credit(fee);
        self.waiting = None;
        self.dirty = true;
        if let Some((set, rand)) = winner {
            self.store(&set, rand, nonce, *signature, true);
        }
        if self.current.window.highest() + NONCES_AHEAD > NONCE_MAX {
            self.tick(now);
        }
        Ok(())
    }

    /// Rule 7: a refused ticket that wins is kept. The win test comes first, it is the cheap one.
    fn keep_if_it_wins(
        &mut self,
        set: &Set,
        rand: U256,
        nonce: u32,
        signature: &crate::ticket::Signature,
    ) -> Result<(), SessionEnd> {
        if nonce == 0 || !crate::ticket::wins(signature, &rand, &set.win_prob) {
            return Ok(());
        }
        let ticket = set.ticket(nonce);
        if (self.shared.recover)(&ticket.digest(), signature) != Some(ticket.sender) {
            self.counters.refused.signature += 1;
            return Err(SessionEnd::WrongSignature { serial: set.serial, nonce });
        }
        self.store(set, rand, nonce, *signature, false);
        Ok(())
    }

    fn resent(&mut self, resend: &Resend) -> Result<(), SessionEnd> {
        let (set, nonce) = (&*resend.set, resend.nonce);
        self.counters.resent += 1;
        let ours = set.recipient == self.shared.config.address && set.sender == self.terms.sender;
        if self.counters.resent > u64::from(RESENDS_MAX) || !ours || nonce > NONCE_MAX {
            self.counters.refused.unknown_set += 1;
            return self.refused_quietly();
        }
        match set.open(&self.shared.config.secret, self.shared.view.network()) {
            Some(rand) => self.keep_if_it_wins(set, rand, nonce, &resend.signature),
            None => {
                self.counters.refused.unknown_set += 1;
                self.refused_quietly()
            }
        }
    }

    fn store(
        &mut self,
        set: &Set,
        rand: U256,
        nonce: u32,
        signature: crate::ticket::Signature,
        credited: bool,
    ) {
        let last_round = self
            .shared
            .head()
            .map_or(set.creation.round, |head| head.last_redeemable_round(set.creation.round));
        let winner = Winner::new(set, nonce, signature, rand, last_round, credited);
        self.counters.won += 1;
        self.book.lock().hold(set.face_value);
        self.outputs.push_back(RecipientOutput::StoreWinner(Box::new(winner)));
    }

    fn refuse(&mut self, serial: u32, nonce: u32, code: RefusalCode) -> Result<(), SessionEnd> {
        let refusal = RefusedNonce { serial, nonce, code };
        if !self.refused.contains(&refusal) {
            if self.refused.len() == REFUSED_MAX {
                self.refused.pop_front();
            }
            self.refused.push_back(refusal);
        }
        self.dirty = true;
        self.refused_quietly()
    }

    fn refused_quietly(&mut self) -> Result<(), SessionEnd> {
        let r = &self.counters.refused;
        let all = r.unknown_set + r.sealed_set + r.nonce_range + r.rate + r.repeated / 8;
        if all > REFUSALS_MAX { Err(SessionEnd::TooManyRefusals(all)) } else { Ok(()) }
    }

    fn wants_successor(&self, now: Instant) -> bool {
        let old = now.saturating_duration_since(self.current.since) >= self.shared.config.set_life;
        let used_up = self.current.window.highest() + NONCES_AHEAD > NONCE_MAX;
        let head = self.shared.head();
        let round = head.is_some_and(|head| {
            head.round != self.current.set.creation.round || head.block >= self.current.set.seal_block
        });
        old || used_up || self.changed || round
    }

    fn rotate(&mut self, now: Instant) {
        let held = self.book.lock().held();
        let serial = self.current.set.serial + 1;
        let overlap = self.shared.config.set_overlap;
        match self.shared.make_set(&self.terms, self.price, serial, held) {
            Ok((set, rand)) => {
                let mut old =
                    std::mem::replace(&mut self.current, LiveSet::new(set, rand, now));
                old.retire_at = Some(now + overlap);
                self.previous = Some(old);
                self.counters.sets += 1;
                self.changed = false;
                self.next_attempt = None;
                self.dirty = true;
            }
            Err(refusal) => {
                let last = self.current.since + self.shared.config.set_life + overlap;
                if now >= last {
                    self.end(SessionEnd::NoSet(refusal));
                } else {
                    self.next_attempt = Some(now + OFFER_RETRY);
                }
            }
        }
    }

    fn retire_previous(&mut self) {
        if let Some(live) = self.previous.take() {
            self.shared.retire(&live.set);
            if self.retired.len() == RETIRED_SETS_MAX {
                self.retired.pop_front();
            }
            self.retired.push_back((live.set, live.rand));
        }
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

    fn end(&mut self, end: SessionEnd) -> SessionEnd {
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
