//! What must outlive the process: winners, seals, the epoch, budget blocks. Shell over sqlx.
//!
//! Each function that a durable point names returns after the data is synced: SQLite runs with
//! `synchronous = FULL` in WAL mode, PostgreSQL with its own default. Losing tickets are counters,
//! not rows. One schema serves both; SQLite uses one connection, so writers take turns here and not
//! by lock errors.

mod budget;
pub(crate) mod rows;
mod winners;

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, Executor, Row, SqlSafeStr};

pub use winners::{Inserted, Outcome, StateCount, StoredWinner, WinnerState};

/// Connections to a PostgreSQL server.
const POSTGRES_CONNECTIONS_MAX: u32 = 8;
/// Time to wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "store", include_str!("../../migrations/0001_store.sql")),
    (2, "ledger", include_str!("../../migrations/0002_ledger.sql")),
];

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("payment store: {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's word.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("payment store: schema: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// A row that we did not write like this.
    #[error("payment store: column {column} of {table} holds {value:?}")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// A budget block beyond the operator's ceiling.
    #[error("budget: {taken} wei are taken, another {wanted} would pass the ceiling of {ceiling}")]
    Budget {
        /// Taken so far, less what was given back.
        taken: crate::price::Wei,
        /// The block.
        wanted: crate::price::Wei,
        /// The operator's ceiling.
        ceiling: crate::price::Wei,
    },
}

/// A transaction on either database.
pub(crate) type AnyTransaction<'c> = sqlx::Transaction<'c, sqlx::Any>;

pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { doing, source }
}

/// The store. Clones share the connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: AnyPool,
}

impl Store {
    /// Opens `sqlite:PATH`, `sqlite::memory:` or `postgres://…` and brings the schema up to date.
    ///
    /// # Errors
    /// A database that cannot be opened or whose schema is not ours.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let in_file = sqlite && !url.contains(":memory:") && !url.contains("mode=");
        let url = match in_file {
            true => format!("{url}{}mode=rwc", if url.contains('?') { '&' } else { '?' }),
            false => url.to_owned(),
        };
        let mut options = AnyPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
        if sqlite {
            options = options
                .max_connections(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        connection
                            .execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000;")
                            .await?;
                        Ok(())
                    })
                });
        } else {
            options = options.max_connections(POSTGRES_CONNECTIONS_MAX);
        }
        let pool = options.connect(&url).await.map_err(failed("open"))?;
        let migrations = MIGRATIONS.map(|(version, name, sql)| {
            let name = Cow::Borrowed(name);
            Migration::new(version, name, MigrationType::Simple, sql.into_sql_str(), false)
        });
        Migrator { migrations: Cow::Owned(migrations.into()), ..Migrator::DEFAULT }
            .run(&pool)
            .await?;
        Ok(Self { pool })
    }

    /// Counts the epoch up and gives it, synced (O1): before the first quote of a process.
    ///
    /// # Errors
    /// The database.
    pub async fn next_epoch(&self) -> Result<u64, StoreError> {
        self.count_up("epoch").await
    }

    pub(crate) async fn count_up(&self, name: &'static str) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "INSERT INTO counters (name, value) VALUES ($1, 1) \
             ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
        )
        .bind(name)
        .fetch_one(&self.pool)
        .await
        .map_err(failed("count up"))?;
        let value: i64 = row.try_get(0).map_err(failed("count up"))?;
        Ok(value as u64)
    }

    /// Writes the counts of a session for the record: nothing is computed from them. `role` is
    /// `sender` or `recipient`.
    ///
    /// # Errors
    /// The database.
    pub async fn record_session(
        &self,
        session: &crate::set::SessionId,
        role: &'static str,
        counters: &(impl serde::Serialize + Sync),
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(counters).unwrap_or_default();
        sqlx::query(
            "INSERT INTO session_records (session, role, counters, updated_ms) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (session, role) \
             DO UPDATE SET counters = excluded.counters, updated_ms = excluded.updated_ms",
        )
        .bind(session.0.to_string())
        .bind(role)
        .bind(text)
        .bind(now_ms() as i64)
        .execute(&self.pool)
        .await
        .map_err(failed("record a session"))?;
        Ok(())
    }

    /// Closes the connections after what is under way.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Milliseconds since 1970 by the system's clock; 0 before.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod store_tests;
