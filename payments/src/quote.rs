//! When a recipient may offer a set and what the set is worth: rule 5, with named refusals.
//!
//! Pure: what is known of chain and sender comes in, a face value or the reason against it comes
//! out. The deposit does not count unless the operator says so, since every other recipient can
//! take it first.

use alloy_primitives::Address;

use crate::broker::{Funds, Head};
use crate::price::Wei;

/// How an operator sizes tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaceValue {
    /// So many fees: a frame wins with probability 1/n. At least 2.
    TimesFee(u64),
    /// A fixed amount whatever the fee.
    Fixed(Wei),
}

/// The operator's terms for offering sets.
#[derive(Clone, Copy, Debug)]
pub struct QuotePolicy {
    /// Wished face value; held down to what the sender can pay for sure.
    pub face_value: FaceValue,
    /// Counts the sender's deposit as payable. Off by default: others may take it first.
    pub count_deposit: bool,
    /// Blocks from the offer to the seal block: the set's life and the overlap, in blocks.
    pub seal_after_blocks: u64,
    /// Blocks that redemption may need after the seal.
    pub redemption_margin_blocks: u64,
}

/// Why no set can be offered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferRefusal {
    /// The state of the chain or ledger is not known.
    #[error("the state of the settlement layer is not known")]
    NoView,
    /// The sender has no account that is known.
    #[error("nothing is known of the funds of {0}")]
    UnknownSender(Address),
    /// The price makes a fee of zero: nothing to pay by frame.
    #[error("the fee of a frame is zero")]
    ZeroFee,
    /// This recipient could not be paid in this round.
    #[error("this recipient is not active in round {round}")]
    Inactive {
        /// The current round.
        round: u64,
    },
    /// The sender may take its money away before the tickets are redeemed.
    #[error("the sender's funds unlock in round {withdraw_round}, now is round {round}")]
    Unlocking {
        /// When they unlock.
        withdraw_round: u64,
        /// The current round.
        round: u64,
    },
    /// The round has no block hash: its tickets can never be redeemed.
    #[error("round {round} has no block hash")]
    ZeroRoundHash {
        /// The current round.
        round: u64,
    },
    /// Winners could not be redeemed in time after the seal.
    #[error("a set sealed at block {seal_block} leaves no time until block {last_block}")]
    SealTooLate {
        /// Block of the seal.
        seal_block: u64,
        /// Last block in which its tickets can be redeemed.
        last_block: u64,
    },
    /// What is safe to count on is below two fees.
    #[error("the sender can surely pay {available:?}, two fees are {needed:?}")]
    ReserveTooSmall {
        /// Claimable reserve less held winners.
        available: Wei,
        /// Two fees.
        needed: Wei,
    },
    /// The picture has no pixels or too many.
    #[error("no such picture size")]
    Size,
}

/// What a set may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Worth of a winner.
    pub face_value: Wei,
    /// Block from which the set credits nothing.
    pub seal_block: u64,
}

/// Rule 5: face value and seal block for a set with this fee, or why there is none.
///
/// `held` is the face value of this sender's winners that are not yet settled, over all sessions
/// and instances of the recipient.
///
/// # Errors
/// The first of the named refusals that holds.
pub fn offer(
    policy: &QuotePolicy,
    fee: Wei,
    head: &Head,
    funds: &Funds,
    held: Wei,
) -> Result<Offered, OfferRefusal> {
    let round = head.round;
    if fee.is_zero() {
        return Err(OfferRefusal::ZeroFee);
    }
    if !funds.recipient_active {
        return Err(OfferRefusal::Inactive { round });
    }
    if funds.withdraw_round != 0 && funds.withdraw_round <= round.saturating_add(1) {
        return Err(OfferRefusal::Unlocking { withdraw_round: funds.withdraw_round, round });
    }
    if head.round_hash.is_zero() {
        return Err(OfferRefusal::ZeroRoundHash { round });
    }
    let seal_block = head.block.saturating_add(policy.seal_after_blocks);
    let last_block = head.last_block_of(head.last_redeemable_round(round));
    if seal_block.saturating_add(policy.redemption_margin_blocks) > last_block {
        return Err(OfferRefusal::SealTooLate { seal_block, last_block });
    }
    let payable = match policy.count_deposit {
        true => funds.claimable_reserve.saturating_add(funds.deposit),
        false => funds.claimable_reserve,
    };
    let available = payable.saturating_sub(held);
    let needed = fee.saturating_mul(2);
    if available < needed {
        return Err(OfferRefusal::ReserveTooSmall { available, needed });
    }
    let wished = match policy.face_value {
        FaceValue::TimesFee(times) => fee.saturating_mul(times),
        FaceValue::Fixed(wei) => wei,
    };
    Ok(Offered { face_value: wished.clamp(needed, available), seal_block })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    const POLICY: QuotePolicy = QuotePolicy {
        face_value: FaceValue::TimesFee(100),
        count_deposit: false,
        seal_after_blocks: 10,
        redemption_margin_blocks: 20,
    };
    const HEAD: Head = Head {
        block: 1010,
        round: 10,
        round_start_block: 1000,
        round_length: 100,
        round_hash: B256::repeat_byte(1),
        ticket_validity_rounds: 2,
    };
    const FUNDS: Funds = Funds {
        deposit: Wei::new(1_000_000),
        reserve: Wei::new(5_000),
        claimable_reserve: Wei::new(1_000),
        withdraw_round: 0,
        recipient_active: true,
    };

    fn check(
        fee: u128,
        head: Head,
        funds: Funds,
        held: u128,
        expected: Result<u128, OfferRefusal>,
    ) {
        let offered = offer(&POLICY, Wei::new(fee), &head, &funds, Wei::new(held));
        assert_eq!(offered.map(|o| o.face_value), expected.map(Wei::new));
    }

    #[test]
    fn the_face_value_is_what_the_sender_can_surely_pay_at_most() {
        check(5, HEAD, FUNDS, 0, Ok(500));
        check(50, HEAD, FUNDS, 0, Ok(1000));
        check(50, HEAD, FUNDS, 400, Ok(600));
        check(50, HEAD, FUNDS, 900, Ok(100));
        let (available, needed) = (Wei::new(99), Wei::new(100));
        check(50, HEAD, FUNDS, 901, Err(OfferRefusal::ReserveTooSmall { available, needed }));
        let with_deposit = QuotePolicy { count_deposit: true, ..POLICY };
        let offered = offer(&with_deposit, Wei::new(50), &HEAD, &FUNDS, Wei::ZERO);
        assert_eq!(offered.map(|o| o.face_value), Ok(Wei::new(5000)));
        let small = QuotePolicy { face_value: FaceValue::TimesFee(1), ..POLICY };
        let offered = offer(&small, Wei::new(50), &HEAD, &FUNDS, Wei::ZERO);
        assert_eq!(offered.map(|o| o.face_value), Ok(Wei::new(100)), "never below two fees");
    }

    #[test]
    fn each_reason_against_a_set_is_named() {
        check(0, HEAD, FUNDS, 0, Err(OfferRefusal::ZeroFee));
        let inactive = Funds { recipient_active: false, ..FUNDS };
        check(5, HEAD, inactive, 0, Err(OfferRefusal::Inactive { round: 10 }));
        let zero = Head { round_hash: B256::ZERO, ..HEAD };
        check(5, zero, FUNDS, 0, Err(OfferRefusal::ZeroRoundHash { round: 10 }));
        for (withdraw_round, refused) in
            [(0, false), (9, true), (10, true), (11, true), (12, false)]
        {
            let funds = Funds { withdraw_round, ..FUNDS };
            let refusal = OfferRefusal::Unlocking { withdraw_round, round: 10 };
            check(5, HEAD, funds, 0, if refused { Err(refusal) } else { Ok(500) });
        }
    }

    #[test]
    fn a_set_that_could_not_be_redeemed_in_time_is_not_offered() {
        // Round 10 began at 1000, tickets of it are good until block 1199: a seal at 1179 is the
        // last that leaves 20 blocks.
        let at = |block| Head { block, ..HEAD };
        check(5, at(1169), FUNDS, 0, Ok(500));
        let refusal = OfferRefusal::SealTooLate { seal_block: 1180, last_block: 1199 };
        check(5, at(1170), FUNDS, 0, Err(refusal));
    }
}
