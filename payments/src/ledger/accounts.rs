//! Accounts of senders and recipients, money in and out, and the statement of what happened.

use alloy_primitives::{Address, B256};

use super::rows::{account, entry, read_account, set_account, set_standing, standing};
use super::rules::{Account, Payment};
use super::{Ledger, LedgerError};
use crate::price::Wei;
use crate::store::rows::{Columns, address_text};
use crate::store::{AnyTransaction, StoreError, failed};

/// Entries that one listing gives.
const ENTRIES_MAX: i64 = 1000;

/// A sender's account as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    /// Who.
    pub address: Address,
    /// Its money.
    pub account: Account,
}

/// One line of the statement.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Counts the ledger's entries; not without gaps.
    pub entry: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Round.
    pub round: u64,
    /// `fund`, `redeem`, `unlock`, `cancel`, `withdraw`, `join`, `leave`, `payout`.
    pub kind: String,
    /// Whose account, in lower case, or empty.
    pub sender: String,
    /// Who was paid, in lower case, or empty.
    pub recipient: String,
    /// Wei that moved in or out of the deposit.
    pub deposit: Wei,
    /// Wei that moved in or out of the reserve.
    pub reserve: Wei,
    /// Ticket hash of a redemption, or empty.
    pub reference: String,
}

/// Sums over the whole ledger: `funded` = `withdrawn` + `paid_out` + `in_accounts` + `in_fees`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Brought in by funding.
    pub funded: Wei,
    /// Taken out by senders.
    pub withdrawn: Wei,
    /// Taken out by recipients.
    pub paid_out: Wei,
    /// In deposits and reserves.
    pub in_accounts: Wei,
    /// Earned by recipients and still here.
    pub in_fees: Wei,
}

pub(super) struct Line {
    pub(super) kind: &'static str,
    pub(super) sender: Option<Address>,
    pub(super) recipient: Option<Address>,
    pub(super) moved: Payment,
    pub(super) reference: Option<B256>,
}

impl Ledger {
    /// Brings money in. Funding by the sender itself stops its unlock; another's does not.
    ///
    /// # Errors
    /// The database.
    pub async fn fund(
        &self,
        by: Address,
        sender: Address,
        deposit: Wei,
        reserve: Wei,
    ) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let mut account = account(&mut tx, sender).await?;
        account.deposit = account.deposit.saturating_add(deposit);
        account.reserve = account.reserve.saturating_add(reserve);
        if by == sender {
            account.withdraw_round = 0;
        }
        set_account(&mut tx, sender, &account).await?;
        let moved = Payment { deposit, reserve };
        self.line(
            &mut tx,
            Line { kind: "fund", sender: Some(sender), recipient: None, moved, reference: None },
        )
        .await?;
        self.finish(tx, &[sender]).await
    }

    /// Raises deposit and reserve to at least these amounts: for accounts that an operator grants.
    /// Does nothing when they are there.
    ///
    /// # Errors
    /// The database.
    pub async fn grant(
        &self,
        sender: Address,
        deposit: Wei,
        reserve: Wei,
    ) -> Result<(), LedgerError> {
        let now = self.account(sender).await?;
        let more = |have: Wei, want: Wei| want.saturating_sub(have);
        let (deposit, reserve) = (more(now.deposit, deposit), more(now.reserve, reserve));
        if deposit.is_zero() && reserve.is_zero() {
            return Ok(());
        }
        self.fund(Address::ZERO, sender, deposit, reserve).await
    }

    /// Asks for the money back.
    ///
    /// # Errors
    /// The contract's reasons, or the database.
    pub async fn unlock(&self, sender: Address) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let mut account = account(&mut tx, sender).await?;
        account.unlock(self.head().round, self.terms.unlock_period)?;
        set_account(&mut tx, sender, &account).await?;
        self.note(&mut tx, "unlock", sender, Payment::default()).await?;
        self.finish(tx, &[sender]).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// The contract's reasons, or the database.
    pub async fn cancel_unlock(&self, sender: Address) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let mut account = account(&mut tx, sender).await?;
        account.cancel_unlock()?;
        set_account(&mut tx, sender, &account).await?;
        self.note(&mut tx, "cancel", sender, Payment::default()).await?;
        self.finish(tx, &[sender]).await
    }

    /// Takes a sender's money out after its unlock.
    ///
    /// # Errors
    /// The contract's reasons, or the database.
    pub async fn withdraw(&self, sender: Address) -> Result<Wei, LedgerError> {
        let mut tx = self.begin().await?;
        let mut account = account(&mut tx, sender).await?;
        let out = account.withdraw(self.head().round)?;
        set_account(&mut tx, sender, &account).await?;
        self.note(&mut tx, "withdraw", sender, out).await?;
        self.finish(tx, &[sender]).await?;
        Ok(out.total())
    }

    /// Makes a recipient active: its share of every reserve begins.
    ///
    /// # Errors
    /// The database.
    pub async fn join(&self, recipient: Address) -> Result<(), LedgerError> {
        self.set_active(recipient, true).await
    }

    /// Makes a recipient inactive.
    ///
    /// # Errors
    /// The database.
    pub async fn leave(&self, recipient: Address) -> Result<(), LedgerError> {
        self.set_active(recipient, false).await
    }

    /// Takes a recipient's fees out.
    ///
    /// # Errors
    /// The database.
    pub async fn pay_out(&self, recipient: Address) -> Result<Wei, LedgerError> {
        let mut tx = self.begin().await?;
        let (active, fees) = standing(&mut tx, recipient).await?;
        set_standing(&mut tx, recipient, active, Wei::ZERO).await?;
        let moved = Payment { deposit: fees, reserve: Wei::ZERO };
        self.line(
            &mut tx,
            Line {
                kind: "payout",
                sender: None,
                recipient: Some(recipient),
                moved,
                reference: None,
            },
        )
        .await?;
        self.finish(tx, &[]).await?;
        Ok(fees)
    }

    /// A sender's money; zeros for one that never came.
    ///
    /// # Errors
    /// The database.
    pub async fn account(&self, sender: Address) -> Result<Account, LedgerError> {
        let mut tx = self.store.pool.begin().await.map_err(failed("read an account"))?;
        Ok(account(&mut tx, sender).await?)
    }

    /// A recipient's fees that were not taken out.
    ///
    /// # Errors
    /// The database.
    pub async fn fees(&self, recipient: Address) -> Result<Wei, LedgerError> {
        let mut tx = self.store.pool.begin().await.map_err(failed("read fees"))?;
        Ok(standing(&mut tx, recipient).await?.1)
    }

    /// All senders' accounts.
    ///
    /// # Errors
    /// The database.
    pub async fn accounts(&self) -> Result<Vec<AccountInfo>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM ledger_senders ORDER BY address")
            .fetch_all(&self.store.pool)
            .await
            .map_err(failed("list accounts"))?;
        let info = |row| {
            let row = Columns { table: "ledger_senders", row };
            Ok(AccountInfo { address: row.address("address")?, account: read_account(&row)? })
        };
        rows.iter().map(info).collect()
    }

    /// The statement of one address as sender or recipient, the entries after `after`, oldest
    /// first, at most 1,000.
    ///
    /// # Errors
    /// The database.
    pub async fn statement(&self, of: Address, after: u64) -> Result<Vec<Entry>, LedgerError> {
        let rows = sqlx::query(
            "SELECT * FROM ledger_entries WHERE (sender = $1 OR recipient = $1) AND entry > $2 \
             ORDER BY entry LIMIT $3",
        )
        .bind(address_text(&of))
        .bind(after as i64)
        .bind(ENTRIES_MAX)
        .fetch_all(&self.store.pool)
        .await
        .map_err(failed("read the statement"))?;
        Ok(rows.iter().map(entry).collect::<Result<_, _>>()?)
    }

    /// Sums over the whole ledger, from the entries and from the accounts.
    ///
    /// # Errors
    /// The database.
    pub async fn totals(&self) -> Result<Totals, LedgerError> {
        let mut totals = Totals::default();
        let rows = sqlx::query("SELECT * FROM ledger_entries")
            .fetch_all(&self.store.pool)
            .await
            .map_err(failed("sum the entries"))?;
        for row in &rows {
            let entry = entry(row)?;
            let sum = entry.deposit.saturating_add(entry.reserve);
            let into = match entry.kind.as_str() {
                "fund" => &mut totals.funded,
                "withdraw" => &mut totals.withdrawn,
                "payout" => &mut totals.paid_out,
                _ => continue,
            };
            *into = into.saturating_add(sum);
        }
        for info in self.accounts().await? {
            let sum = info.account.deposit.saturating_add(info.account.reserve);
            totals.in_accounts = totals.in_accounts.saturating_add(sum);
        }
        let rows = sqlx::query("SELECT fees FROM ledger_recipients")
            .fetch_all(&self.store.pool)
            .await
            .map_err(failed("sum the fees"))?;
        for row in &rows {
            let fees = Columns { table: "ledger_recipients", row }.wei("fees")?;
            totals.in_fees = totals.in_fees.saturating_add(fees);
        }
        Ok(totals)
    }

    async fn set_active(&self, recipient: Address, active: bool) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        let (was, fees) = standing(&mut tx, recipient).await?;
        if was == active {
            return Ok(());
        }
        set_standing(&mut tx, recipient, active, fees).await?;
        let kind = if active { "join" } else { "leave" };
        let moved = Payment::default();
        self.line(
            &mut tx,
            Line { kind, sender: None, recipient: Some(recipient), moved, reference: None },
        )
        .await?;
        self.finish(tx, &[]).await
    }

    async fn note(
        &self,
        tx: &mut AnyTransaction<'_>,
        kind: &'static str,
        sender: Address,
        moved: Payment,
    ) -> Result<(), StoreError> {
        let line = Line { kind, sender: Some(sender), recipient: None, moved, reference: None };
        self.line(tx, line).await
    }

    pub(super) async fn line(
        &self,
        tx: &mut AnyTransaction<'_>,
        line: Line,
    ) -> Result<(), StoreError> {
        let text =
            |address: Option<Address>| address.as_ref().map(address_text).unwrap_or_default();
        sqlx::query(
            "INSERT INTO ledger_entries (entry, at_ms, round, kind, sender, recipient, deposit, \
             reserve, reference) SELECT entries, $1, $2, $3, $4, $5, $6, $7, $8 FROM ledger_meta \
             WHERE name = 'ledger'",
        )
        .bind((self.clock)() as i64)
        .bind(self.head().round as i64)
        .bind(line.kind)
        .bind(text(line.sender))
        .bind(text(line.recipient))
        .bind(line.moved.deposit.to_string())
        .bind(line.moved.reserve.to_string())
        .bind(line.reference.map(|hash| hash.to_string()).unwrap_or_default())
        .execute(&mut **tx)
        .await
        .map_err(failed("write the statement"))?;
        Ok(())
    }

    /// Commits and lets the view see it.
    pub(super) async fn finish(
        &self,
        tx: AnyTransaction<'_>,
        touched: &[Address],
    ) -> Result<(), LedgerError> {
        tx.commit().await.map_err(failed("commit"))?;
        self.refresh(touched).await
    }
}
