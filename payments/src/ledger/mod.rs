//! The local settlement ledger: the broker contract's accounts, rounds and checks in the node's own
//! database, for fleets that settle among themselves.
//!
//! Its creation round hash is keccak(`millstream-ledger` ‖ ledger id) in every round, so a ticket
//! made for it is worthless to the real broker. Each call is one transaction that first takes the
//! ledger's row, so that any number of processes see one order.

mod accounts;
mod redeem;
mod rows;
mod rules;
mod view;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, keccak256};

pub use accounts::{AccountInfo, Entry, Totals};
pub use rules::{Account, Claims, Payment, Revert, claimable_reserve};
pub use view::LedgerView;

use crate::broker::{Head, Network};
use crate::store::rows::Columns;
use crate::store::{AnyTransaction, Store, StoreError, failed, now_ms};
use crate::ticket::Recover;

/// The words before the ledger's id in its round hash.
const ROUND_HASH_DOMAIN: &[u8] = b"millstream-ledger";

/// Milliseconds since 1970, as the ledger's block clock sees them.
pub type ClockMs = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The ledger's periods; they are fixed when the ledger is made and kept with it.
#[derive(Clone, Copy, Debug)]
pub struct LedgerConfig {
    /// Time of a block. 1 s.
    pub block_time: Duration,
    /// Blocks in a round. 3,600.
    pub round_length: u64,
    /// Rounds from unlock to withdrawal. 2.
    pub unlock_period: u64,
    /// Rounds in which a ticket can be redeemed. 2.
    pub validity_period: u64,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            block_time: Duration::from_secs(1),
            round_length: 3600,
            unlock_period: 2,
            validity_period: 2,
        }
    }
}

/// What the ledger answers when it does not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The rules say no; nothing has changed.
    #[error(transparent)]
    Revert(#[from] Revert),
    /// The database; nothing has changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The ledger. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    terms: Terms,
    clock: ClockMs,
    recover: Recover,
    view: Arc<LedgerView>,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    id: B256,
    genesis_ms: u64,
    block_ms: u64,
    round_length: u64,
    unlock_period: u64,
    validity_period: u64,
}

impl Terms {
    fn round_hash(&self) -> B256 {
        round_hash(&self.id)
    }

    /// Round 1 begins with the ledger: round 0 has no hash, as on a fresh chain.
    fn head(&self, now_ms: u64) -> Head {
        let block = now_ms.saturating_sub(self.genesis_ms) / self.block_ms;
        let passed = block / self.round_length;
        Head {
            block,
            round: passed + 1,
            round_start_block: passed * self.round_length,
            round_length: self.round_length,
            round_hash: self.round_hash(),
            ticket_validity_rounds: self.validity_period,
        }
    }
}

/// keccak(`millstream-ledger` ‖ id): the creation round hash of every round of a ledger.
pub fn round_hash(ledger_id: &B256) -> B256 {
    keccak256([ROUND_HASH_DOMAIN, ledger_id.as_slice()].concat())
}

impl Ledger {
    /// Opens the ledger of this store; makes it when there is none. An existing ledger keeps its
    /// periods. `ledger_id` is 32 random bytes, used for a new ledger only.
    ///
    /// # Errors
    /// The database.
    pub async fn open(
        store: Store,
        config: LedgerConfig,
        ledger_id: B256,
        recover: Recover,
    ) -> Result<Self, StoreError> {
        Self::open_with_clock(store, config, ledger_id, recover, Arc::new(now_ms)).await
    }

    /// As [`Ledger::open`], with the clock given: for tests and for replays.
    ///
    /// # Errors
    /// The database.
    pub async fn open_with_clock(
        store: Store,
        config: LedgerConfig,
        ledger_id: B256,
        recover: Recover,
        clock: ClockMs,
    ) -> Result<Self, StoreError> {
        let block_ms = (config.block_time.as_millis() as u64).max(1);
        sqlx::query(
            "INSERT INTO ledger_meta (name, ledger_id, genesis_ms, block_ms, round_length, \
             unlock_period, validity_period, entries) VALUES ('ledger', $1, $2, $3, $4, $5, $6, 0) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(ledger_id.to_string())
        .bind(clock() as i64)
        .bind(block_ms as i64)
        .bind(config.round_length.max(1) as i64)
        .bind(config.unlock_period as i64)
        .bind(config.validity_period.max(1) as i64)
        .execute(&store.pool)
        .await
        .map_err(failed("make the ledger"))?;
        let row = sqlx::query("SELECT * FROM ledger_meta WHERE name = 'ledger'")
            .fetch_one(&store.pool)
            .await
            .map_err(failed("open the ledger"))?;
        let row = Columns { table: "ledger_meta", row: &row };
        let terms = Terms {
            id: row.hash("ledger_id")?,
            genesis_ms: row.number("genesis_ms")?,
            block_ms: row.number("block_ms")?.max(1),
            round_length: row.number("round_length")?.max(1),
            unlock_period: row.number("unlock_period")?,
            validity_period: row.number("validity_period")?.max(1),
        };
        let view = Arc::new(LedgerView::new(terms, clock.clone()));
        Ok(Self { store, terms, clock, recover, view })
    }

    /// The block and round of now.
    pub fn head(&self) -> Head {
        self.terms.head((self.clock)())
    }

    /// Time of a block.
    pub fn block_time(&self) -> Duration {
        Duration::from_millis(self.terms.block_ms)
    }

    /// The hash of each of its rounds.
    pub fn round_hash(&self) -> B256 {
        self.terms.round_hash()
    }

    /// Chain id 0 and the last 20 bytes of the round hash.
    pub fn network(&self) -> Network {
        self.terms.network()
    }

    /// What the cores look at: answers at once; [`Ledger::refresh`] keeps it fresh.
    pub fn view(&self) -> Arc<LedgerView> {
        self.view.clone()
    }

    /// Begins a transaction that no other of this ledger overlaps.
    async fn begin(&self) -> Result<AnyTransaction<'_>, StoreError> {
        let mut tx = self.store.pool.begin().await.map_err(failed("begin"))?;
        sqlx::query("UPDATE ledger_meta SET entries = entries + 1 WHERE name = 'ledger'")
            .execute(&mut *tx)
            .await
            .map_err(failed("lock the ledger"))?;
        Ok(tx)
    }
}

impl Terms {
    fn network(&self) -> Network {
        Network { chain_id: 0, broker: Address::from_slice(&self.round_hash()[12..]) }
    }
}

#[cfg(test)]
mod ledger_tests;
