//! Payment by probabilistic tickets, one a video frame: prices, tickets, both sides of a session,
//! the store of winners, their redemption and a local ledger to settle them on.
//!
//! The rules are those of the per-frame protocol (per-frame-payments.md); hash, signature and win
//! test are the TicketBroker's. The cores ([`SessionSender`], [`SessionRecipient`]) hold no clock, no
//! socket and no disk: time and bytes go in, bytes and wishes come out.
//!
//! Invariant: every ticket is in exactly one state, a ticket hash is credited at most once, and a
//! winner whose nonce a receipt settled is in the store.
//!
//! Not known here: media, routes, roles, and how a chain is spoken to.

#![forbid(unsafe_code)]

pub mod broker;
#[doc(hidden)]
pub mod fuzz;
mod latency;
pub mod ledger;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod pair_tests;
pub mod price;
pub mod quote;
pub mod recipient;
pub mod redeem;
pub mod sender;
pub mod set;
pub mod store;
#[cfg(test)]
mod testing;
pub mod ticket;
pub mod winner;
pub mod wire;

pub use alloy_primitives::{Address, B256, U256};
pub use broker::{BrokerView, Funds, Head, Network};
pub use ledger::{Ledger, LedgerConfig, LedgerError, LedgerView};
pub use price::{FrameRate, PictureSize, Pixels, PricePerPixel, Wei, fee_ceil};
pub use quote::{FaceValue, OfferRefusal, QuotePolicy};
pub use recipient::{
    Admit, OpenRefusal, Recipient, RecipientConfig, RecipientCounters, RecipientOutput, SessionEnd,
    SessionRecipient, SessionTerms, WaitReason,
};
pub use redeem::{Redeemer, Settlement, TurnReport};
pub use sender::{
    LeaveReason, SenderConfig, SenderCounters, SenderOutput, SenderTerms, SessionSender,
};
pub use set::{RandSecret, SessionId, Set, SetRefusal};
pub use store::{Store, StoreError};
pub use ticket::{Recover, Signature, Ticket, TicketSigner};
pub use winner::Winner;
pub use wire::{Offer, StartAnswer, StartRequest};
