//! Budget blocks of the paying side (G1): what may be spent is taken durably before it is.
//!
//! After a crash the unspent rest of a block counts as spent: at most one block a session.

use super::rows::Columns;
use super::{AnyTransaction, Store, StoreError, failed, now_ms};
use crate::price::Wei;
use crate::set::SessionId;

const TAKEN: &str = "budget_taken";

impl Store {
    /// Takes a block, synced (G1). `ceiling` is the operator's limit over everything taken and not
    /// given back; `None` is no limit.
    ///
    /// # Errors
    /// [`StoreError::Budget`] beyond the ceiling, or the database: nothing may be signed then.
    pub async fn take_budget(
        &self,
        session: &SessionId,
        block: Wei,
        ceiling: Option<Wei>,
    ) -> Result<(), StoreError> {
        let serial = self.count_up("budget_block").await?;
        let doing = "take budget";
        let mut tx = self.pool.begin().await.map_err(failed(doing))?;
        let taken = lock_taken(&mut tx).await?;
        let after = taken.saturating_add(block);
        if let Some(ceiling) = ceiling.filter(|ceiling| after > *ceiling) {
            return Err(StoreError::Budget { taken, wanted: block, ceiling });
        }
        sqlx::query(
            "INSERT INTO budget_blocks (serial, session, amount, taken_ms) VALUES ($1, $2, $3, $4)",
        )
        .bind(serial as i64)
        .bind(session.0.to_string())
        .bind(block.to_string())
        .bind(now_ms() as i64)
        .execute(&mut *tx)
        .await
        .map_err(failed(doing))?;
        set_taken(&mut tx, after).await?;
        tx.commit().await.map_err(failed(doing))
    }

    /// Gives back what a session took and did not spend, at its orderly end.
    ///
    /// # Errors
    /// The database; the rest then counts as spent.
    pub async fn return_budget(&self, rest: Wei) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(failed("return budget"))?;
        let taken = lock_taken(&mut tx).await?;
        set_taken(&mut tx, taken.saturating_sub(rest)).await?;
        tx.commit().await.map_err(failed("return budget"))
    }

    /// Everything taken and not given back.
    ///
    /// # Errors
    /// The database.
    pub async fn budget_taken(&self) -> Result<Wei, StoreError> {
        let mut tx = self.pool.begin().await.map_err(failed("read budget"))?;
        lock_taken(&mut tx).await
    }
}

/// The sum so far; the row is locked until the transaction ends, since it is written first.
async fn lock_taken(tx: &mut AnyTransaction<'_>) -> Result<Wei, StoreError> {
    let row = sqlx::query(
        "INSERT INTO sums (name, value) VALUES ($1, '0') \
         ON CONFLICT (name) DO UPDATE SET value = sums.value RETURNING value",
    )
    .bind(TAKEN)
    .fetch_one(&mut **tx)
    .await
    .map_err(failed("read budget"))?;
    Columns { table: "sums", row: &row }.wei("value")
}

async fn set_taken(tx: &mut AnyTransaction<'_>, sum: Wei) -> Result<(), StoreError> {
    sqlx::query("UPDATE sums SET value = $1 WHERE name = $2")
        .bind(sum.to_string())
        .bind(TAKEN)
        .execute(&mut **tx)
        .await
        .map_err(failed("write budget"))?;
    Ok(())
}
