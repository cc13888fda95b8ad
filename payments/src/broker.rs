//! What the cores see of the place where tickets are settled: a broker contract or the local
//! ledger.
//!
//! A view answers at once from what it last learned and never waits; when it does not know, it
//! says so, and no set is offered.

use alloy_primitives::{Address, B256};

use crate::price::Wei;

/// Which broker: part of every recipientRand, so that two back ends never share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network {
    /// Chain id; 0 for a local ledger.
    pub chain_id: u64,
    /// Address of the TicketBroker; of a local ledger the last 20 bytes of its round hash.
    pub broker: Address,
}

/// Where the chain stands, in the blocks that the contracts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Current block.
    pub block: u64,
    /// Current round, computed from the block.
    pub round: u64,
    /// First block of the current round.
    pub round_start_block: u64,
    /// Blocks in a round, never 0.
    pub round_length: u64,
    /// Hash that the broker holds for the current round; zero when the round is not initialised
    /// or was initialised with a zero hash.
    pub round_hash: B256,
    /// Rounds in which a ticket can be redeemed, its creation round included.
    pub ticket_validity_rounds: u64,
}

impl Head {
    /// The last round in which a ticket made in `creation_round` can be redeemed.
    pub fn last_redeemable_round(&self, creation_round: u64) -> u64 {
        creation_round.saturating_add(self.ticket_validity_rounds.saturating_sub(1))
    }

    /// The last block of `round`, by the current round length.
    pub fn last_block_of(&self, round: u64) -> u64 {
        let ahead = round.saturating_add(1).saturating_sub(self.round);
        self.round_start_block
            .saturating_add(ahead.saturating_mul(self.round_length))
            .saturating_sub(1)
    }
}

/// What a sender could pay to one recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Funds {
    /// The sender's deposit; any recipient may take it first.
    pub deposit: Wei,
    /// The sender's whole reserve.
    pub reserve: Wei,
    /// The part of the reserve that this recipient can still claim in this round.
    pub claimable_reserve: Wei,
    /// The round from which the sender may withdraw; 0 when no unlock runs.
    pub withdraw_round: u64,
    /// Whether the recipient is in the active set of this round.
    pub recipient_active: bool,
}

/// The last known state of a broker. Calls answer at once; `None` is "not known".
pub trait BrokerView: Send + Sync {
    /// Which broker.
    fn network(&self) -> Network;
    /// The current block and round; `None` when the view is too old to lean on.
    fn head(&self) -> Option<Head>;
    /// The funds of `sender` as far as `recipient` can reach them.
    fn funds(&self, sender: Address, recipient: Address) -> Option<Funds>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_round_is_counted_in_blocks() {
        let head = Head {
            block: 1234,
            round: 12,
            round_start_block: 1200,
            round_length: 100,
            round_hash: B256::ZERO,
            ticket_validity_rounds: 2,
        };
        assert_eq!(head.last_redeemable_round(12), 13);
        assert_eq!(head.last_block_of(12), 1299);
        assert_eq!(head.last_block_of(13), 1399);
        assert_eq!(head.last_block_of(11), 1199);
    }
}
