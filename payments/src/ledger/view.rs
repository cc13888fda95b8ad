//! The ledger as the cores see it: answers at once from what was read last.
//!
//! Block and round follow the clock; money is as of the last [`Ledger::refresh`].

use std::collections::HashMap;

use alloy_primitives::Address;
use parking_lot::RwLock;

use super::rows::{account, claims, pool_size};
use super::rules::{Account, claimable_reserve};
use super::{ClockMs, Ledger, LedgerError, Terms};
use crate::broker::{BrokerView, Funds, Head, Network};
use crate::price::Wei;
use crate::store::failed;
use crate::store::rows::Columns;

/// Senders whose money is kept at hand; the least needed are read again when they come.
const SENDERS_MAX: usize = 65_536;

/// What is known of the ledger without asking it.
pub struct LedgerView {
    terms: Terms,
    clock: ClockMs,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    active: Vec<Address>,
    accounts: HashMap<Address, Account>,
    /// Claims of the round by (holder, claimant).
    claims: HashMap<(Address, Address), crate::ledger::Claims>,
    round: u64,
}

impl LedgerView {
    pub(super) fn new(terms: Terms, clock: ClockMs) -> Self {
        Self { terms, clock, known: RwLock::default() }
    }
}

impl BrokerView for LedgerView {
    fn network(&self) -> Network {
        self.terms.network()
    }

    fn head(&self) -> Option<Head> {
        Some(self.terms.head((self.clock)()))
    }

    fn funds(&self, sender: Address, recipient: Address) -> Option<Funds> {
        let known = self.known.read();
        let account = known.accounts.get(&sender)?;
        let active = known.active.contains(&recipient);
        // Claims are of one round: in a new one nothing is claimed yet.
        let claims = match known.round == self.terms.head((self.clock)()).round {
            true => known.claims.get(&(sender, recipient)).copied().unwrap_or_default(),
            false => crate::ledger::Claims::default(),
        };
        let share = claimable_reserve(account, claims, known.active.len() as u64, active);
        Some(Funds {
            deposit: account.deposit,
            reserve: account.reserve,
            claimable_reserve: share.unwrap_or(Wei::ZERO),
            withdraw_round: account.withdraw_round,
            recipient_active: active,
        })
    }
}

impl Ledger {
    /// Reads the money of these senders, and of all active recipients, into the view. Every change
    /// through this process does so by itself; call it for a sender that is new here, and each
    /// few seconds when other processes share the database.
    ///
    /// # Errors
    /// The database.
    pub async fn refresh(&self, senders: &[Address]) -> Result<(), LedgerError> {
        let round = self.head().round;
        let mut tx = self.store.pool.begin().await.map_err(failed("refresh"))?;
        let rows = sqlx::query("SELECT address FROM ledger_recipients WHERE active = 1")
            .fetch_all(&mut *tx)
            .await
            .map_err(failed("list recipients"))?;
        let mut active = Vec::with_capacity(rows.len());
        for row in &rows {
            active.push(Columns { table: "ledger_recipients", row }.address("address")?);
        }
        debug_assert_eq!(pool_size(&mut tx).await?, active.len() as u64);
        let mut fresh = Vec::with_capacity(senders.len());
        for sender in senders {
            let money = account(&mut tx, *sender).await?;
            let mut shares = Vec::with_capacity(active.len());
            for recipient in &active {
                shares.push((*recipient, claims(&mut tx, *sender, *recipient, round).await?));
            }
            fresh.push((*sender, money, shares));
        }
        drop(tx);
        let mut known = self.view.known.write();
        if known.round != round {
            known.claims.clear();
            known.round = round;
        }
        if known.accounts.len() + fresh.len() > SENDERS_MAX {
            known.accounts.clear();
            known.claims.clear();
        }
        known.active = active;
        for (sender, money, shares) in fresh {
            known.accounts.insert(sender, money);
            for (recipient, taken) in shares {
                known.claims.insert((sender, recipient), taken);
            }
        }
        Ok(())
    }

    /// As [`Ledger::refresh`] for every sender that the view knows.
    ///
    /// # Errors
    /// The database.
    pub async fn refresh_all(&self) -> Result<(), LedgerError> {
        let senders: Vec<Address> = self.view.known.read().accounts.keys().copied().collect();
        self.refresh(&senders).await
    }
}
