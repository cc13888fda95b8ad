//! What a session of the working side answers and tells: verdicts, wishes, ends and counts.

use std::time::Duration;

use bytes::Bytes;

use crate::price::Wei;
use crate::quote::OfferRefusal;
use crate::winner::Winner;
use crate::wire::WireError;

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
