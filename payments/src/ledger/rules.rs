//! The broker's rules as arithmetic on plain values: who may be paid what, in which order, and why
//! not. Pure; the words of the refusals are the contract's.
//!
//! The rules are those of the TicketBroker contract, in its newer form.

use alloy_primitives::U256;

use crate::price::Wei;

/// Why the ledger refuses; the text is the contract's revert string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Revert {
    /// No recipient.
    #[error("ticket recipient is null address")]
    NullRecipient,
    /// No sender.
    #[error("ticket sender is null address")]
    NullSender,
    /// Creation round and hash are both zero, or the round lies ahead.
    #[error("ticket creationRound does not have a block hash")]
    NoRoundHash,
    /// Another hash than the ledger's: the ticket was made for another broker.
    #[error("ticket creationRoundBlockHash invalid for creationRound")]
    WrongRoundHash,
    /// The auxiliary data is empty.
    #[error("invalid length for ticket auxData: must be 64 bytes")]
    AuxData,
    /// Too many rounds have passed.
    #[error("ticket is expired")]
    Expired,
    /// The number is not the committed one.
    #[error("recipientRand does not match recipientRandHash")]
    WrongRand,
    /// Paid before.
    #[error("ticket is used")]
    Used,
    /// Malformed, high s, or of somebody else.
    #[error("invalid signature over ticket hash")]
    WrongSignature,
    /// Not a winner.
    #[error("ticket did not win")]
    Lost,
    /// The sender has taken or may take its money.
    #[error("sender is unlocked")]
    SenderUnlocked,
    /// Deposit and reserve together are below the face value.
    #[error("sender deposit and reserve insufficient to cover ticket face value")]
    Insufficient,
    /// The recipient is not active in this round.
    #[error("transcoder must be active")]
    InactiveRecipient,
    /// The claimant took more than its share is now: the contract's arithmetic fails.
    #[error("Panic(0x11)")]
    CapBelowClaims,
    /// Nothing to unlock or withdraw.
    #[error("sender deposit and reserve are zero")]
    NoFunds,
    /// An unlock runs.
    #[error("unlock already initiated")]
    UnlockRuns,
    /// No unlock runs.
    #[error("no unlock request in progress")]
    NoUnlock,
    /// The unlock period is not over.
    #[error("account is locked")]
    Locked,
}

impl Revert {
    /// Whether the same ticket could be paid later: all that depends on the sender's money or the
    /// recipient's standing.
    pub fn may_pass(self) -> bool {
        matches!(
            self,
            Self::SenderUnlocked
                | Self::Insufficient
                | Self::InactiveRecipient
                | Self::CapBelowClaims
        )
    }
}

/// A sender's money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Drawn first, by whoever comes first.
    pub deposit: Wei,
    /// Drawn by shares.
    pub reserve: Wei,
    /// Round from which it may be withdrawn; 0 when no unlock was asked for.
    pub withdraw_round: u64,
}

/// What was claimed from one reserve in the current round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// By all.
    pub all: Wei,
    /// By the claimant in question.
    pub own: Wei,
}

/// A payment, by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payment {
    /// From the deposit.
    pub deposit: Wei,
    /// From the reserve.
    pub reserve: Wei,
}

impl Payment {
    /// The whole.
    pub fn total(self) -> Wei {
        self.deposit.saturating_add(self.reserve)
    }
}

impl Account {
    /// Redemption needs a locked account.
    pub fn is_locked(&self, round: u64) -> bool {
        self.withdraw_round == 0 || round < self.withdraw_round
    }

    fn has_funds(&self) -> bool {
        !(self.deposit.is_zero() && self.reserve.is_zero())
    }

    /// Starts the unlock.
    ///
    /// # Errors
    /// The contract's reasons.
    pub fn unlock(&mut self, round: u64, unlock_period: u64) -> Result<(), Revert> {
        if !self.has_funds() {
            return Err(Revert::NoFunds);
        }
        if self.withdraw_round != 0 {
            return Err(Revert::UnlockRuns);
        }
        self.withdraw_round = round.saturating_add(unlock_period);
        Ok(())
    }

    /// Stops the unlock, also after its period.
    ///
    /// # Errors
    /// No unlock runs.
    pub fn cancel_unlock(&mut self) -> Result<(), Revert> {
        if self.withdraw_round == 0 {
            return Err(Revert::NoUnlock);
        }
        self.withdraw_round = 0;
        Ok(())
    }

    /// Takes everything out. The withdraw round stays, as in the contract.
    ///
    /// # Errors
    /// The contract's reasons.
    pub fn withdraw(&mut self, round: u64) -> Result<Payment, Revert> {
        if !self.has_funds() {
            return Err(Revert::NoFunds);
        }
        if self.withdraw_round == 0 {
            return Err(Revert::NoUnlock);
        }
        if self.is_locked(round) {
            return Err(Revert::Locked);
        }
        let out = Payment { deposit: self.deposit, reserve: self.reserve };
        (self.deposit, self.reserve) = (Wei::ZERO, Wei::ZERO);
        Ok(out)
    }
}

/// floor((reserve + claimed by all) / pool size) − claimed by this one.
///
/// # Errors
/// [`Revert::CapBelowClaims`] when the pool grew below what was taken.
pub fn claimable_reserve(
    account: &Account,
    claims: Claims,
    pool_size: u64,
    active: bool,
) -> Result<Wei, Revert> {
    if pool_size == 0 || !active {
        return Ok(Wei::ZERO);
    }
    let whole = account.reserve.saturating_add(claims.all);
    let share = Wei(whole.0 / U256::from(pool_size));
    share.checked_sub(claims.own).ok_or(Revert::CapBelowClaims)
}

/// Steps 15 to 18 of a redemption: the money moves from the account, the deposit first.
///
/// # Errors
/// The contract's reasons; nothing has moved then.
pub(super) fn pay(
    account: &mut Account,
    face_value: Wei,
    claims: Claims,
    pool_size: u64,
    active: bool,
    round: u64,
) -> Result<Payment, Revert> {
    if !account.is_locked(round) {
        return Err(Revert::SenderUnlocked);
    }
    if account.deposit.saturating_add(account.reserve) < face_value {
        return Err(Revert::Insufficient);
    }
    let deposit = face_value.min(account.deposit);
    let rest = face_value.saturating_sub(deposit);
    let reserve = match rest.is_zero() {
        true => Wei::ZERO,
        false => rest.min(claimable_reserve(account, claims, pool_size, active)?),
    };
    let payment = Payment { deposit, reserve };
    if !payment.total().is_zero() && !active {
        return Err(Revert::InactiveRecipient);
    }
    account.deposit = account.deposit.saturating_sub(deposit);
    account.reserve = account.reserve.saturating_sub(reserve);
    Ok(payment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(deposit: u128, reserve: u128) -> Account {
        Account { deposit: Wei::new(deposit), reserve: Wei::new(reserve), withdraw_round: 0 }
    }

    fn claims(all: u128, own: u128) -> Claims {
        Claims { all: Wei::new(all), own: Wei::new(own) }
    }

    // An example of the contract: reserve 1000, pool of 10.
    #[test]
    fn a_share_of_the_reserve_is_what_the_contract_says() {
        let check = |reserve, all, own, pool, expected: Result<u128, Revert>| {
            let share = claimable_reserve(&account(0, reserve), claims(all, own), pool, true);
            assert_eq!(share, expected.map(Wei::new));
        };
        check(1000, 0, 0, 10, Ok(100));
        check(990, 10, 10, 10, Ok(90));
        check(990, 10, 0, 10, Ok(100));
        check(1000, 0, 0, 3, Ok(333));
        check(1000, 0, 0, 0, Ok(0));
        check(900, 100, 100, 11, Err(Revert::CapBelowClaims));
        let inactive = claimable_reserve(&account(0, 1000), claims(0, 0), 10, false);
        assert_eq!(inactive, Ok(Wei::ZERO));
    }

    // An example of the contract: deposit 1, reserve 0.5, tickets 0.01, 0.01, 1.2, pool of 1.
    #[test]
    fn the_deposit_is_drawn_first_and_the_share_after() {
        const CENT: u128 = 10_000_000_000_000_000;
        let mut sender = account(100 * CENT, 50 * CENT);
        let mut taken = Wei::ZERO;
        let pay_out = |sender: &mut Account, face, taken: &mut Wei| {
            let claims = Claims { all: *taken, own: *taken };
            let paid = pay(sender, Wei::new(face), claims, 1, true, 5).unwrap();
            *taken = taken.saturating_add(paid.reserve);
            paid
        };
        assert_eq!(pay_out(&mut sender, CENT, &mut taken).deposit, Wei::new(CENT));
        pay_out(&mut sender, CENT, &mut taken);
        let last = pay_out(&mut sender, 120 * CENT, &mut taken);
        assert_eq!((last.deposit, last.reserve), (Wei::new(98 * CENT), Wei::new(22 * CENT)));
        assert_eq!((sender.deposit, sender.reserve), (Wei::ZERO, Wei::new(28 * CENT)));
    }

    #[test]
    fn a_ticket_may_be_paid_short_by_the_share_but_never_beyond_the_money() {
        let mut sender = account(10, 100);
        assert_eq!(
            pay(&mut sender, Wei::new(111), claims(0, 0), 1, true, 1),
            Err(Revert::Insufficient)
        );
        let paid = pay(&mut sender, Wei::new(110), claims(0, 0), 4, true, 1).unwrap();
        assert_eq!((paid.deposit, paid.reserve), (Wei::new(10), Wei::new(25)));
        let nothing = pay(&mut account(0, 100), Wei::new(50), claims(0, 0), 4, false, 1).unwrap();
        assert_eq!(nothing.total(), Wei::ZERO, "consumed for nothing, as the contract does");
        let inactive = pay(&mut account(60, 0), Wei::new(50), claims(0, 0), 4, false, 1);
        assert_eq!(inactive, Err(Revert::InactiveRecipient));
    }

    #[test]
    fn unlocking_follows_the_contract() {
        let mut sender = account(5, 5);
        assert_eq!(account(0, 0).unlock(1, 2), Err(Revert::NoFunds));
        assert_eq!(sender.withdraw(1), Err(Revert::NoUnlock));
        sender.unlock(1, 2).unwrap();
        assert_eq!(sender.unlock(1, 2), Err(Revert::UnlockRuns));
        assert_eq!(sender.withdraw(2), Err(Revert::Locked));
        assert!(pay(&mut sender.clone(), Wei::new(1), claims(0, 0), 1, true, 2).is_ok());
        assert_eq!(
            pay(&mut sender.clone(), Wei::new(1), claims(0, 0), 1, true, 3),
            Err(Revert::SenderUnlocked)
        );
        assert_eq!(sender.withdraw(3).map(Payment::total), Ok(Wei::new(10)));
        assert!(!sender.is_locked(9), "it stays unlocked after the withdrawal");
        assert_eq!(sender.withdraw(3), Err(Revert::NoFunds));
        sender.cancel_unlock().unwrap();
        assert_eq!(sender.cancel_unlock(), Err(Revert::NoUnlock));
    }
}
