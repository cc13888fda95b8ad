//! Tickets that were signed and are not settled: kept as bytes, sent again as the same bytes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::price::Wei;
use crate::set::Set;
use crate::ticket::Signature;
use crate::wire::{Record, Resend, TicketRecord};

/// Tickets open at once: the recipient's window is no larger.
const OPEN_MAX: usize = 256;

#[derive(Debug)]
struct Open {
    serial: u32,
    nonce: u32,
    signature: Signature,
    fee: Wei,
    bytes: Bytes,
    first_sent: Instant,
    sent: Instant,
}

/// Signed and unsettled tickets, oldest first.
#[derive(Debug, Default)]
pub(super) struct OpenTickets {
    open: VecDeque<Open>,
    pub(super) settled: u64,
    pub(super) refused: u64,
    pub(super) resent: u64,
}

impl OpenTickets {
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= OPEN_MAX
    }

    pub(super) fn len(&self) -> u64 {
        self.open.len() as u64
    }

    /// Keeps a fresh ticket; gives the bytes that go out.
    pub(super) fn add(&mut self, now: Instant, record: TicketRecord, fee: Wei) -> Bytes {
        let (serial, nonce, signature) = (record.serial, record.nonce, record.signature);
        let bytes = Record::Ticket(record).encode();
        let (first_sent, sent) = (now, now);
        let open = Open { serial, nonce, signature, fee, bytes: bytes.clone(), first_sent, sent };
        self.open.push_back(open);
        bytes
    }

    /// A receipt settled all of a set up to `settled`.
    pub(super) fn settle(&mut self, serial: u32, settled: u32) {
        let before = self.open.len();
        self.open.retain(|t| t.serial != serial || t.nonce > settled);
        self.settled += (before - self.open.len()) as u64;
    }

    /// A ticket was refused for good: gives its worth, which buys nothing any more.
    pub(super) fn refuse(&mut self, serial: u32, nonce: u32) -> Option<Wei> {
        let at = self.open.iter().position(|t| t.serial == serial && t.nonce == nonce)?;
        self.refused += 1;
        self.open.remove(at).map(|t| t.fee)
    }

    /// The next ticket that waited longer than `after` since it was last sent, to be sent again.
    pub(super) fn resend(&mut self, now: Instant, after: Duration) -> Option<Bytes> {
        let due = |t: &&mut Open| now.saturating_duration_since(t.sent) >= after;
        let ticket = self.open.iter_mut().find(due)?;
        ticket.sent = now;
        self.resent += 1;
        Some(ticket.bytes.clone())
    }

    /// When the next is to be sent again.
    pub(super) fn next_resend(&self, after: Duration) -> Option<Instant> {
        self.open.iter().map(|t| t.sent + after).min()
    }

    /// Since when the oldest waits.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.open.front().map(|t| t.first_sent)
    }

    /// All of them, for the next session with the same recipient.
    pub(super) fn as_resends(&self, sets: &[&Set]) -> Vec<Resend> {
        let with_set = |t: &Open| {
            let set = sets.iter().find(|set| set.serial == t.serial)?;
            Some(Resend { set: Box::new((*set).clone()), nonce: t.nonce, signature: t.signature })
        };
        self.open.iter().filter_map(with_set).collect()
    }
}
