//! Redemption on the ledger: the broker's checks in its order, and the ledger as a place to settle.

use alloy_primitives::{B256, U256};

use super::accounts::Line;
use super::rows::{account, claims, pool_size, set_account, set_standing, standing};
use super::rules::{Revert, claimable_reserve, pay};
use super::{Ledger, LedgerError};
use crate::broker::Head;
use crate::price::Wei;
use crate::redeem::{Payable, Redeemed, SettleError, Settlement};
use crate::store::rows::{Columns, address_text};
use crate::store::{AnyTransaction, StoreError, failed};
use crate::ticket::{Signature, Ticket, recipient_rand_hash, wins};
use crate::winner::Winner;

impl Ledger {
    /// Pays a winning ticket, once; anybody may bring it. Gives what was paid, which may be less
    /// than the face value.
    ///
    /// # Errors
    /// The contract's reasons in the contract's order, or the database.
    pub async fn redeem_winning_ticket(
        &self,
        ticket: &Ticket,
        signature: &Signature,
        recipient_rand: &U256,
    ) -> Result<Wei, LedgerError> {
        let head = self.head();
        self.check(ticket, signature, recipient_rand, &head)?;
        let hash = ticket.hash();
        let mut tx = self.begin().await?;
        if self.paid_in(&mut tx, &hash).await?.is_some() {
            return Err(Revert::Used.into());
        }
        let (sender, recipient) = (ticket.sender, ticket.recipient);
        let mut money = account(&mut tx, sender).await?;
        let (active, fees) = standing(&mut tx, recipient).await?;
        let pool = pool_size(&mut tx).await?;
        let taken = claims(&mut tx, sender, recipient, head.round).await?;
        let payment = pay(&mut money, ticket.face_value, taken, pool, active, head.round)?;
        set_account(&mut tx, sender, &money).await?;
        if !payment.total().is_zero() {
            let fees = fees.saturating_add(payment.total());
            set_standing(&mut tx, recipient, active, fees).await?;
        }
        if !payment.reserve.is_zero() {
            sqlx::query(
                "INSERT INTO ledger_claims (holder, round, claimant, amount) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (holder, round, claimant) DO UPDATE SET amount = excluded.amount",
            )
            .bind(address_text(&sender))
            .bind(head.round as i64)
            .bind(address_text(&recipient))
            .bind(taken.own.saturating_add(payment.reserve).to_string())
            .execute(&mut *tx)
            .await
            .map_err(failed("book a claim"))?;
        }
        sqlx::query(
            "INSERT INTO ledger_used (ticket_hash, amount, entry) \
             SELECT $1, $2, entries FROM ledger_meta WHERE name = 'ledger'",
        )
        .bind(hash.to_string())
        .bind(payment.total().to_string())
        .execute(&mut *tx)
        .await
        .map_err(failed("mark a ticket used"))?;
        let (sender, recipient, reference) = (Some(sender), Some(recipient), Some(hash));
        let line = Line { kind: "redeem", sender, recipient, moved: payment, reference };
        self.line(&mut tx, line).await?;
        self.finish(tx, &[ticket.sender]).await?;
        Ok(payment.total())
    }

    /// What was paid for a ticket, if it is used.
    ///
    /// # Errors
    /// The database.
    pub async fn paid_for(&self, ticket_hash: &B256) -> Result<Option<Wei>, LedgerError> {
        let mut tx = self.store.pool.begin().await.map_err(failed("look for a ticket"))?;
        Ok(self.paid_in(&mut tx, ticket_hash).await?)
    }

    async fn paid_in(
        &self,
        tx: &mut AnyTransaction<'_>,
        hash: &B256,
    ) -> Result<Option<Wei>, StoreError> {
        let row = sqlx::query("SELECT amount FROM ledger_used WHERE ticket_hash = $1")
            .bind(hash.to_string())
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed("look for a ticket"))?;
        row.as_ref().map(|row| Columns { table: "ledger_used", row }.wei("amount")).transpose()
    }

    /// Checks 3 to 14, all that need no account. The check for replay (10) comes with the accounts.
    fn check(
        &self,
        ticket: &Ticket,
        signature: &Signature,
        recipient_rand: &U256,
        head: &Head,
    ) -> Result<(), Revert> {
        if ticket.recipient.is_zero() {
            return Err(Revert::NullRecipient);
        }
        if ticket.sender.is_zero() {
            return Err(Revert::NullSender);
        }
        let creation = ticket.creation;
        if creation.aux_data().is_empty() {
            return Err(Revert::AuxData);
        }
        if creation.round == 0 || creation.round > head.round {
            return Err(Revert::NoRoundHash);
        }
        if creation.hash != self.round_hash() {
            return Err(Revert::WrongRoundHash);
        }
        if creation.round.saturating_add(self.terms.validity_period) <= head.round {
            return Err(Revert::Expired);
        }
        if recipient_rand_hash(recipient_rand) != ticket.recipient_rand_hash {
            return Err(Revert::WrongRand);
        }
        if (self.recover)(&ticket.digest(), signature) != Some(ticket.sender) {
            return Err(Revert::WrongSignature);
        }
        if !wins(signature, recipient_rand, &ticket.win_prob) {
            return Err(Revert::Lost);
        }
        Ok(())
    }
}

impl Settlement for Ledger {
    fn head(&self) -> Option<Head> {
        Some(Ledger::head(self))
    }

    async fn payable(&self, winner: &Winner) -> Result<Payable, SettleError> {
        let ticket = &winner.ticket;
        let round = Ledger::head(self).round;
        let failed = |error: StoreError| SettleError(error.to_string());
        let mut tx = self.store.pool.begin().await.map_err(|e| SettleError(e.to_string()))?;
        if let Some(amount) = self.paid_in(&mut tx, &winner.hash).await.map_err(failed)? {
            return Ok(Payable::Used(amount));
        }
        let money = account(&mut tx, ticket.sender).await.map_err(failed)?;
        let (active, _) = standing(&mut tx, ticket.recipient).await.map_err(failed)?;
        let pool = pool_size(&mut tx).await.map_err(failed)?;
        let taken =
            claims(&mut tx, ticket.sender, ticket.recipient, round).await.map_err(failed)?;
        if !active || !money.is_locked(round) {
            return Ok(Payable::Now(Wei::ZERO));
        }
        let share = claimable_reserve(&money, taken, pool, active).unwrap_or(Wei::ZERO);
        Ok(Payable::Now(money.deposit.saturating_add(share)))
    }

    async fn redeem(&self, winner: &Winner) -> Result<Redeemed, SettleError> {
        let Winner { ticket, signature, recipient_rand, .. } = winner;
        match self.redeem_winning_ticket(ticket, signature, recipient_rand).await {
            Ok(amount) => Ok(Redeemed::Paid(amount)),
            Err(LedgerError::Revert(Revert::Used)) => match self.paid_for(&winner.hash).await {
                Ok(Some(amount)) => Ok(Redeemed::Paid(amount)),
                Ok(None) => Err(SettleError("used, but no payment is known".into())),
                Err(error) => Err(SettleError(error.to_string())),
            },
            Err(LedgerError::Revert(revert)) if revert.may_pass() => {
                Ok(Redeemed::NotNow(revert.to_string()))
            }
            Err(LedgerError::Revert(revert)) => Ok(Redeemed::Never(revert.to_string())),
            Err(LedgerError::Store(error)) => Err(SettleError(error.to_string())),
        }
    }
}
