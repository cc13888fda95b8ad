//! A winning ticket with everything that redeems it: what must reach the disk before the receipt
//! that settles its nonce.

use alloy_primitives::{B256, U256};

use crate::set::{SessionId, Set};
use crate::ticket::{Signature, Ticket};

/// A ticket that won.
#[derive(Clone, PartialEq, Eq)]
pub struct Winner {
    /// The ticket.
    pub ticket: Ticket,
    /// Its hash: a winner is stored once under it.
    pub hash: B256,
    /// The sender's signature.
    pub signature: Signature,
    /// The recipient's number: secret until the set is sealed.
    pub recipient_rand: U256,
    /// The session that it came in.
    pub session: SessionId,
    /// The process epoch of its set.
    pub epoch: u64,
    /// From this block on its set credits nothing, whoever runs it.
    pub seal_block: u64,
    /// The last round in which it can be redeemed.
    pub last_round: u64,
    /// Whether the session was credited for it; a refused or late ticket that wins is kept without.
    pub credited: bool,
}

impl Winner {
    pub(crate) fn new(
        set: &Set,
        nonce: u32,
        signature: Signature,
        recipient_rand: U256,
        last_round: u64,
        credited: bool,
    ) -> Self {
        let ticket = set.ticket(nonce);
        Self {
            hash: ticket.hash(),
            ticket,
            signature,
            recipient_rand,
            session: set.session,
            epoch: set.epoch,
            seal_block: set.seal_block,
            last_round,
            credited,
        }
    }
}

impl std::fmt::Debug for Winner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Winner")
            .field("hash", &self.hash)
            .field("session", &self.session)
            .field("face_value", &self.ticket.face_value)
            .field("last_round", &self.last_round)
            .field("credited", &self.credited)
            .finish_non_exhaustive()
    }
}
