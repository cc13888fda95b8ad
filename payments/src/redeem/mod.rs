//! Winners into money: order, patience and the one end of each.
//!
//! Rule 6: a set is sealed, durably, before its number leaves the process, and a winner is revealed
//! only when its whole face value is payable now. What to do with one winner is decided by
//! [`next_step`], which is pure; [`Redeemer`] carries it out against a [`Settlement`].

mod redeemer;

use std::future::Future;

pub use redeemer::{Redeemer, TurnReport};

use crate::broker::Head;
use crate::price::Wei;
use crate::store::{Outcome, WinnerState};
use crate::winner::Winner;

/// The settlement layer could not be asked or did not answer; the same may work later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("settlement: {0}")]
pub struct SettleError(pub String);

/// What a winner would bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payable {
    /// So much if it were redeemed now.
    Now(Wei),
    /// It was redeemed before, by us or by anybody, and so much was paid.
    Used(Wei),
}

/// What a redemption brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// So much, from the transfer itself.
    Paid(Wei),
    /// Refused for a reason that may pass.
    NotNow(String),
    /// Refused for good.
    Never(String),
}

/// Where winners are turned into money. Asking what is payable must not reveal the number.
pub trait Settlement: Send + Sync {
    /// Block and round; `None` when they are not known.
    fn head(&self) -> Option<Head>;

    /// What the winner would bring now.
    fn payable(&self, winner: &Winner)
    -> impl Future<Output = Result<Payable, SettleError>> + Send;

    /// Redeems it: the recipient's number leaves the process.
    fn redeem(&self, winner: &Winner)
    -> impl Future<Output = Result<Redeemed, SettleError>> + Send;
}

/// Why a winner waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Its set may still credit tickets.
    SetIsLive,
    /// The sender cannot pay all of it now.
    NotPayable,
}

impl Waiting {
    /// The word that the store keeps.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SetIsLive => "its set is in use",
            Self::NotPayable => "the sender cannot pay all of it now",
        }
    }
}

/// What to do with a winner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait(Waiting),
    /// It has ended.
    End(Outcome),
    /// Seal its set, then redeem it.
    Redeem,
}

/// Decides about one winner.
///
/// `set_closed`: no session credits its set any more. `was_unpayable`: the last look found too
/// little money, which is the reason if its time runs out.
pub fn next_step(
    winner: &Winner,
    head: &Head,
    payable: Payable,
    set_closed: bool,
    was_unpayable: bool,
) -> Step {
    if let Payable::Used(amount) = payable {
        return Step::End(paid(winner, amount));
    }
    if head.round > winner.last_round {
        let (state, reason) = match was_unpayable {
            true => (WinnerState::Unfunded, Waiting::NotPayable.as_str()),
            false => (WinnerState::Expired, "not redeemed by its last round"),
        };
        return Step::End(Outcome { state, amount: Wei::ZERO, reason: reason.into() });
    }
    if !set_closed {
        return Step::Wait(Waiting::SetIsLive);
    }
    match payable {
        Payable::Now(amount) if amount >= winner.ticket.face_value => Step::Redeem,
        _ => Step::Wait(Waiting::NotPayable),
    }
}

/// The end of a winner that brought `amount`.
pub fn paid(winner: &Winner, amount: Wei) -> Outcome {
    let full = amount >= winner.ticket.face_value;
    let state = if full { WinnerState::Paid } else { WinnerState::Short };
    let reason = if full { "" } else { "the settlement paid less than the face value" };
    Outcome { state, amount, reason: reason.into() }
}

#[cfg(test)]
mod redeem_tests;
