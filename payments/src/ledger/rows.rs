//! The ledger's rows, read and written within one transaction.

use alloy_primitives::Address;

use super::accounts::Entry;
use super::rules::{Account, Claims};
use crate::price::Wei;
use crate::store::rows::{Columns, address_text};
use crate::store::{AnyTransaction, StoreError, failed};

pub(super) async fn account(
    tx: &mut AnyTransaction<'_>,
    sender: Address,
) -> Result<Account, StoreError> {
    let row = sqlx::query("SELECT * FROM ledger_senders WHERE address = $1")
        .bind(address_text(&sender))
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed("read an account"))?;
    match &row {
        Some(row) => read_account(&Columns { table: "ledger_senders", row }),
        None => Ok(Account::default()),
    }
}

pub(super) fn read_account(row: &Columns<'_>) -> Result<Account, StoreError> {
    Ok(Account {
        deposit: row.wei("deposit")?,
        reserve: row.wei("reserve")?,
        withdraw_round: row.number("withdraw_round")?,
    })
}

pub(super) async fn set_account(
    tx: &mut AnyTransaction<'_>,
    sender: Address,
    account: &Account,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO ledger_senders (address, deposit, reserve, withdraw_round) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (address) DO UPDATE SET deposit = excluded.deposit, \
         reserve = excluded.reserve, withdraw_round = excluded.withdraw_round",
    )
    .bind(address_text(&sender))
    .bind(account.deposit.to_string())
    .bind(account.reserve.to_string())
    .bind(account.withdraw_round as i64)
    .execute(&mut **tx)
    .await
    .map_err(failed("write an account"))?;
    Ok(())
}

/// Whether a recipient is active, and its fees.
pub(super) async fn standing(
    tx: &mut AnyTransaction<'_>,
    recipient: Address,
) -> Result<(bool, Wei), StoreError> {
    let row = sqlx::query("SELECT * FROM ledger_recipients WHERE address = $1")
        .bind(address_text(&recipient))
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed("read a recipient"))?;
    let Some(row) = &row else { return Ok((false, Wei::ZERO)) };
    let row = Columns { table: "ledger_recipients", row };
    Ok((row.number("active")? != 0, row.wei("fees")?))
}

pub(super) async fn set_standing(
    tx: &mut AnyTransaction<'_>,
    recipient: Address,
    active: bool,
    fees: Wei,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO ledger_recipients (address, active, fees) VALUES ($1, $2, $3) \
         ON CONFLICT (address) DO UPDATE SET active = excluded.active, fees = excluded.fees",
    )
    .bind(address_text(&recipient))
    .bind(i64::from(active))
    .bind(fees.to_string())
    .execute(&mut **tx)
    .await
    .map_err(failed("write a recipient"))?;
    Ok(())
}

pub(super) async fn pool_size(tx: &mut AnyTransaction<'_>) -> Result<u64, StoreError> {
    let rows = sqlx::query("SELECT address FROM ledger_recipients WHERE active = 1")
        .fetch_all(&mut **tx)
        .await
        .map_err(failed("count recipients"))?;
    Ok(rows.len() as u64)
}

pub(super) async fn claims(
    tx: &mut AnyTransaction<'_>,
    holder: Address,
    claimant: Address,
    round: u64,
) -> Result<Claims, StoreError> {
    let rows =
        sqlx::query("SELECT claimant, amount FROM ledger_claims WHERE holder = $1 AND round = $2")
            .bind(address_text(&holder))
            .bind(round as i64)
            .fetch_all(&mut **tx)
            .await
            .map_err(failed("read claims"))?;
    let mut claims = Claims::default();
    for row in &rows {
        let row = Columns { table: "ledger_claims", row };
        let amount = row.wei("amount")?;
        claims.all = claims.all.saturating_add(amount);
        if row.address("claimant")? == claimant {
            claims.own = claims.own.saturating_add(amount);
        }
    }
    Ok(claims)
}

pub(super) fn entry(row: &sqlx::any::AnyRow) -> Result<Entry, StoreError> {
    let row = Columns { table: "ledger_entries", row };
    Ok(Entry {
        entry: row.number("entry")?,
        at_ms: row.number("at_ms")?,
        round: row.number("round")?,
        kind: row.text("kind")?,
        sender: row.text("sender")?,
        recipient: row.text("recipient")?,
        deposit: row.wei("deposit")?,
        reserve: row.wei("reserve")?,
        reference: row.text("reference")?,
    })
}
