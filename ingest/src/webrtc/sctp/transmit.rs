//! What goes out: messages cut into DATA chunks that are kept until they are acknowledged, with
//! the congestion window and the retransmission timer of RFC 9260 6 and 7.
//!
//! Everything is sent reliably, so numbers are given when a message is queued and the queue holds
//! them without holes. It is bounded in bytes: a message that does not fit is refused whole.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::wire::{Writer, kind, u16_at, u32_at};

/// The longest packet: 1,200 bytes on the wire with DTLS, UDP and IPv6 around it.
pub(super) const PACKET_BYTES_MAX: usize = 1100;

/// Data of one chunk: a packet less both headers.
const FRAGMENT_BYTES_MAX: usize = PACKET_BYTES_MAX - 28;

/// Bytes that wait for being sent or acknowledged.
const QUEUE_BYTES_MAX: usize = 256 << 10;

/// Timeouts in a row after which the peer counts as gone (RFC 9260 16, Association.Max.Retrans).
const TIMEOUTS_MAX: u32 = 10;

const RTO_INITIAL: Duration = Duration::from_millis(500);

/// More than peers delay a SACK, which is 200 ms at most.
const RTO_MIN: Duration = Duration::from_millis(400);
const RTO_MAX: Duration = Duration::from_secs(10);

/// SACKs that pass over a chunk before it is sent again.
const MISSES_MAX: u8 = 3;

const FLAG_END: u8 = 1;
const FLAG_BEGIN: u8 = 2;

/// A chunk on its way.
struct Outgoing {
    /// The chunk without its header.
    body: Vec<u8>,
    flags: u8,
    sent: Option<Instant>,
    resent: bool,
    acknowledged: bool,
    lost: bool,
    misses: u8,
}

/// The sending half of an association.
pub(super) struct Outbound {
    /// TSN of the first chunk in the queue.
    first: u32,
    queue: VecDeque<Outgoing>,
    /// Chunks at the head of the queue that were sent at least once.
    begun: usize,
    bytes: usize,
    in_flight: usize,
    window: usize,
    peer_window: usize,
    threshold: usize,
    /// No further reduction until this TSN is acknowledged.
    recovery: Option<u32>,
    smoothed: Option<(Duration, Duration)>,
    rto: Duration,
    timeouts: u32,
    timer: Option<Instant>,
}

impl Outbound {
    /// Nothing sent; `peer_window` as the peer said.
    pub(super) fn new(first: u32, peer_window: u32) -> Self {
        Self {
            first,
            queue: VecDeque::new(),
            begun: 0,
            bytes: 0,
            in_flight: 0,
            window: 4 * PACKET_BYTES_MAX,
            peer_window: peer_window as usize,
            threshold: peer_window as usize,
            recovery: None,
            smoothed: None,
            rto: RTO_INITIAL,
            timeouts: 0,
            timer: None,
        }
    }

    /// The last TSN that was given.
    pub(super) fn last(&self) -> u32 {
        self.first.wrapping_add(self.queue.len() as u32).wrapping_sub(1)
    }

    /// Bytes of messages that are not acknowledged yet.
    pub(super) fn waiting(&self) -> usize {
        self.bytes
    }

    /// The wait before something is sent again.
    pub(super) fn rto(&self) -> Duration {
        self.rto
    }

    /// Queues a message; false when there is no room for all of it.
    pub(super) fn push(&mut self, stream: u16, order: u16, protocol: u32, data: &[u8]) -> bool {
        if data.is_empty() || self.bytes + data.len() > QUEUE_BYTES_MAX {
            return false;
        }
        let count = data.len().div_ceil(FRAGMENT_BYTES_MAX);
        for (index, piece) in data.chunks(FRAGMENT_BYTES_MAX).enumerate() {
            let begins = if index == 0 { FLAG_BEGIN } else { 0 };
            let ends = if index + 1 == count { FLAG_END } else { 0 };
            let mut body = Vec::with_capacity(12 + piece.len());
            body.extend_from_slice(&self.last().wrapping_add(1).to_be_bytes());
            body.extend_from_slice(&stream.to_be_bytes());
            body.extend_from_slice(&order.to_be_bytes());
            body.extend_from_slice(&protocol.to_be_bytes());
            body.extend_from_slice(piece);
            self.bytes += piece.len();
            self.queue.push_back(Outgoing {
                body,
                flags: begins | ends,
                sent: None,
                resent: false,
                acknowledged: false,
                lost: false,
                misses: 0,
            });
        }
        true
    }

    /// Fills a packet with what was lost and, where the windows allow, with what is new.
    pub(super) fn write(&mut self, now: Instant, packet: &mut Writer<'_>) {
        let fits = |packet: &Writer<'_>, chunk: &Outgoing| {
            packet.len() + 4 + chunk.body.len().next_multiple_of(4) <= PACKET_BYTES_MAX
        };
        for chunk in self.queue.iter_mut().take(self.begun).filter(|chunk| chunk.lost) {
            if !fits(packet, chunk) || self.in_flight >= self.window {
                break;
            }
            packet.chunk(kind::DATA, chunk.flags, &[&chunk.body]);
            chunk.lost = false;
            chunk.resent = true;
            chunk.misses = 0;
            self.in_flight += chunk.body.len();
            self.timer.get_or_insert(now + self.rto);
        }
        while let Some(chunk) = self.queue.get_mut(self.begun) {
            let length = chunk.body.len();
            // One chunk may always be out: it finds out when a closed window opens.
            let open = self.in_flight + length <= self.window.min(self.peer_window);
            if !fits(packet, chunk) || !(open || self.in_flight == 0) {
                break;
            }
            packet.chunk(kind::DATA, chunk.flags, &[&chunk.body]);
            chunk.sent = Some(now);
            self.begun += 1;
            self.in_flight += length;
            self.timer.get_or_insert(now + self.rto);
        }
    }

    /// Takes the body of a SACK. One that is old or speaks of what was never sent is passed over.
    pub(super) fn sack(&mut self, now: Instant, body: &[u8]) {
        let (Some(cumulative), Some(window), Some(gaps)) =
            (u32_at(body, 0), u32_at(body, 4), u16_at(body, 8))
        else {
            return;
        };
        let done = cumulative.wrapping_sub(self.first.wrapping_sub(1)) as usize;
        if done > self.begun {
            return;
        }
        let before = self.in_flight;
        for chunk in self.queue.drain(..done) {
            self.bytes -= chunk.body.len() - 12;
            if !chunk.lost && !chunk.acknowledged {
                self.in_flight -= chunk.body.len();
            }
            // A chunk that was sent twice says nothing about the way (Karn).
            if let Some(sent) = chunk.sent.filter(|_| !chunk.resent && !chunk.acknowledged) {
                let sample = now.saturating_duration_since(sent);
                (self.smoothed, self.rto) = measured(self.smoothed, sample);
            }
        }
        self.begun -= done;
        self.first = self.first.wrapping_add(done as u32);
        if self.recovery.is_some_and(|end| cumulative.wrapping_sub(end).cast_signed() >= 0) {
            self.recovery = None;
        }
        self.gaps(body.get(12..).unwrap_or_default(), gaps);
        // Its room does not count what is on the way, nor does the check in `write`.
        self.peer_window = window as usize;
        if done > 0 {
            self.timeouts = 0;
            self.grow(before.saturating_sub(self.in_flight));
        }
        if self.begun == 0 {
            self.timer = None;
        } else if done > 0 {
            self.timer = Some(now + self.rto);
        }
    }

    fn gaps(&mut self, blocks: &[u8], count: u16) {
        let mut highest = 0;
        for block in blocks.chunks_exact(4).take(usize::from(count)) {
            let (Some(start), Some(end)) = (u16_at(block, 0), u16_at(block, 2)) else { return };
            // Offsets count from the cumulative TSN, which is one before the queue.
            let (start, end) = (usize::from(start), usize::from(end).min(self.begun));
            for index in start.max(1)..=end {
                let Some(chunk) = self.queue.get_mut(index - 1) else { return };
                if !std::mem::replace(&mut chunk.acknowledged, true) {
                    if !std::mem::replace(&mut chunk.lost, false) {
                        self.in_flight -= chunk.body.len();
                    }
                    highest = highest.max(index);
                }
            }
        }
        let mut lost = false;
        for chunk in self.queue.iter_mut().take(highest) {
            if chunk.acknowledged || chunk.lost {
                continue;
            }
            chunk.misses += 1;
            if chunk.misses >= MISSES_MAX {
                chunk.lost = true;
                self.in_flight -= chunk.body.len();
                lost = true;
            }
        }
        if lost && self.recovery.is_none() {
            self.recovery = Some(self.first.wrapping_add(self.begun as u32).wrapping_sub(1));
            self.threshold = (self.window / 2).max(4 * PACKET_BYTES_MAX);
            self.window = self.threshold;
        }
    }

    fn grow(&mut self, acknowledged: usize) {
        if self.recovery.is_some() {
            return;
        }
        self.window += if self.window <= self.threshold {
            acknowledged.min(PACKET_BYTES_MAX)
        } else {
            (PACKET_BYTES_MAX * acknowledged / self.window).max(1)
        };
        self.window = self.window.min(QUEUE_BYTES_MAX);
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timer
    }

    /// Takes what is not acknowledged for lost; false when the peer was silent for too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.timer.is_none_or(|at| at > now) {
            return true;
        }
        self.timeouts += 1;
        self.rto = (self.rto * 2).min(RTO_MAX);
        self.timer = Some(now + self.rto);
        self.threshold = (self.window / 2).max(4 * PACKET_BYTES_MAX);
        self.window = PACKET_BYTES_MAX;
        self.recovery = None;
        self.in_flight = 0;
        for chunk in self.queue.iter_mut().take(self.begun) {
            // What was received may have been thrown away again (RFC 9260 6.3.3).
            chunk.acknowledged = false;
            chunk.lost = true;
            chunk.misses = 0;
        }
        self.timeouts <= TIMEOUTS_MAX
    }
}

/// The next estimate of the round trip and the wait that follows from it (RFC 9260 6.3.1).
fn measured(
    before: Option<(Duration, Duration)>,
    sample: Duration,
) -> (Option<(Duration, Duration)>, Duration) {
    let (mean, spread) = match before {
        None => (sample, sample / 2),
        Some((mean, spread)) => {
            (mean * 7 / 8 + sample / 8, spread * 3 / 4 + mean.abs_diff(sample) / 4)
        }
    };
    (Some((mean, spread)), (mean + spread * 4).clamp(RTO_MIN, RTO_MAX))
}
