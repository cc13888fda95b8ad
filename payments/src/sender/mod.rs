//! The side that pays: when to sign a ticket, what it risks, when to leave.
//!
//! One signature for each frame that is sent and not dropped by the recipient: what is owed is the
//! recipient's own debit plus the frames still under way, and a ticket is signed while less than
//! that was released. So the credit of a dropped frame carries the next one, and a ticket that was
//! signed is never signed again: the same bytes go out again until a receipt settles them.
//!
//! Rules by number are those of per-frame-payments.md.

mod frames;
mod losses;
mod session;
mod signing;
mod tickets;

use std::time::Duration;

use crate::broker::Head;
use crate::price::{FrameRate, PictureSize, PricePerPixel, Wei};
use crate::set::{SessionId, SetRefusal};
use crate::wire::WireError;

pub use session::{SenderOutput, SessionSender};

/// Settings of a paying session.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Frames that run ahead of results (Kg); by rate and loop time when `None`.
    pub frames_at_risk: Option<u32>,
    /// Kg never grows beyond so much time of frames.
    pub at_risk_max: Duration,
    /// Round trip with processing as far as it is known, so that the first second is not held back.
    pub loop_hint: Duration,
    /// Face value that we risk on one ticket at most.
    pub face_value_max: Wei,
    /// Frames in a thousand that the link may lose on the way back and that are paid all the same.
    pub loss_allowed_permille: u32,
    /// Refused tickets that are borne.
    pub refusals_max: u32,
    /// A ticket is sent again when no receipt settled it for so long.
    pub resend_after: Duration,
    /// Without any receipt for so long while tickets are open, we leave.
    pub silence_max: Duration,
    /// A budget block covers so much time (durable point G1).
    pub budget_block: Duration,
    /// The hash that every round of the agreed local ledger has; `None` on a chain.
    pub ledger_round_hash: Option<alloy_primitives::B256>,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            frames_at_risk: None,
            at_risk_max: Duration::from_secs(2),
            loop_hint: Duration::ZERO,
            face_value_max: Wei::MAX,
            loss_allowed_permille: 10,
            refusals_max: 3,
            resend_after: Duration::from_secs(1),
            silence_max: Duration::from_secs(10),
            budget_block: Duration::from_secs(60),
            ledger_round_hash: None,
        }
    }
}

/// What the two sides agreed on.
#[derive(Clone, Copy, Debug)]
pub struct SenderTerms {
    /// The session.
    pub session: SessionId,
    /// Who is paid.
    pub recipient: alloy_primitives::Address,
    /// The agreed price.
    pub price: PricePerPixel,
    /// Size of the pictures, cropped.
    pub size: PictureSize,
    /// Their rate.
    pub fps: FrameRate,
    /// Our own view of the chain when the session begins, if we have one.
    pub head: Option<Head>,
}

/// Why the sender leaves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveReason {
    /// Bytes that are no receipts channel.
    #[error("the receipts channel is malformed: {0}")]
    Malformed(#[from] WireError),
    /// More refusals than are borne (rule 7).
    #[error("{0} tickets were refused")]
    Refused(u32),
    /// A receipt that settles or credits what was never sent.
    #[error("a receipt speaks of {0} that was never sent")]
    FalseReceipt(&'static str),
    /// A successor set that was not agreed to.
    #[error("the next set is not what was agreed: {0}")]
    Set(#[from] SetRefusal),
    /// Too many frames were paid for and did not come back (rule 2).
    #[error("{lost} paid frames of {sent} did not come back within 10 s")]
    Lost {
        /// Frames lost in the last 10 s.
        lost: u32,
        /// Frames sent in the last 10 s.
        sent: u32,
    },
    /// Too many frames came back broken.
    #[error("{bad} frames of {sent} came back broken within 10 s")]
    Bad {
        /// Frames in the last 10 s that did not decode or had the wrong size.
        bad: u32,
        /// Frames sent in the last 10 s.
        sent: u32,
    },
    /// Nothing was heard while tickets were open.
    #[error("no receipt for {} s", .0.as_secs())]
    Silence(Duration),
    /// The operator's budget is spent.
    #[error("the budget does not allow another block")]
    Budget,
}

/// Counts of one paying session. `signed` = `settled` + `refused` + `open`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SenderCounters {
    /// Tickets signed, each a different one.
    pub signed: u64,
    /// Of these, settled by a receipt.
    pub settled: u64,
    /// Of these, refused for good.
    pub refused: u64,
    /// Of these, not settled yet.
    pub open: u64,
    /// Records sent again.
    pub resent: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames that came back as promised.
    pub frames_returned: u64,
    /// Frames that came back broken or with a PTS never sent.
    pub frames_bad: u64,
    /// Frames that did not come back in time.
    pub frames_missing: u64,
    /// Times that a ticket was due and a limit held it back.
    pub held_back: u64,
    /// Wei of every signature handed out.
    pub released: Wei,
    /// Wei earned by returned frames, and by the link's losses as far as they are allowed.
    pub earned: Wei,
    /// The recipient's word: wei of accepted tickets.
    pub credited: Wei,
    /// The recipient's word: fees of admitted frames.
    pub debited: Wei,
    /// Released and not earned.
    pub at_risk: Wei,
    /// Limit of the former.
    pub limit: Wei,
    /// The limit in frames (Kg).
    pub frames_at_risk: u32,
    /// The recipient's limit in frames (Ko).
    pub recipient_frames_at_risk: u32,
    /// Budget taken and not spent, in wei.
    pub budget_left: Wei,
    /// 99th percentile of the time from sending a frame to its return, in microseconds.
    pub loop_p99_us: u64,
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
