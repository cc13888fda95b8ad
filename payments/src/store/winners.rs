//! Winners and seals.
//!
//! A winner is stored once under its hash and leaves `held` once, for one of four ends. A set is
//! sealed here before its number leaves the process; a ticket of a sealed set is not stored any
//! more, since anybody may have spent it.

use std::str::FromStr;

use alloy_primitives::{Address, B256};

use super::rows::{Columns, address_text};
use super::{Store, StoreError, failed, now_ms};
use crate::price::Wei;
use crate::set::SessionId;
use crate::ticket::{CreationRound, Ticket};
use crate::winner::Winner;

/// Held winners that are looked at in one turn.
const HELD_MAX: i64 = 1024;

/// What became of a winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WinnerState {
    /// Waits for redemption.
    Held,
    /// Paid in full.
    Paid,
    /// Paid less than its face value.
    Short,
    /// Not redeemed in time, or refused for good.
    Expired,
    /// The sender could not pay it until its last round was over.
    Unfunded,
}

impl WinnerState {
    const ALL: [Self; 5] = [Self::Held, Self::Paid, Self::Short, Self::Expired, Self::Unfunded];

    /// The word in the database and in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Paid => "paid",
            Self::Short => "short",
            Self::Expired => "expired",
            Self::Unfunded => "unfunded",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// The end of a winner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Any state but held.
    pub state: WinnerState,
    /// What was paid.
    pub amount: Wei,
    /// Why, in words.
    pub reason: String,
}

/// A winner as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWinner {
    /// The winner.
    pub winner: Winner,
    /// Its state.
    pub state: WinnerState,
    /// What was paid; nothing while held.
    pub amount: Wei,
    /// Why it waits or how it ended.
    pub reason: String,
    /// When it was stored, in milliseconds since 1970.
    pub stored_ms: u64,
}

/// What storing a winner did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored now.
    New,
    /// It was stored before.
    Known,
    /// Its set is sealed: it may have been spent by anybody and is not kept.
    Sealed,
}

/// Number and face value of winners in one state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StateCount {
    /// The state.
    pub state: WinnerState,
    /// How many.
    pub count: u64,
    /// Their face values.
    pub face_value: Wei,
    /// What was paid for them.
    pub amount: Wei,
}

impl Store {
    /// Stores a winner, synced (O2). Storing it again changes nothing.
    ///
    /// # Errors
    /// The database; the nonce must then not be settled.
    pub async fn insert_winner(&self, winner: &Winner) -> Result<Inserted, StoreError> {
        let ticket = &winner.ticket;
        let done = sqlx::query(
            "INSERT INTO winners (hash, recipient, sender, face_value, win_prob, sender_nonce, \
             recipient_rand_hash, recipient_rand, creation_round, creation_hash, signature, \
             session, epoch, seal_block, last_round, credited, state, amount, reason, stored_ms, \
             closed_ms) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
             $16, 'held', '0', '', $17, 0 \
             WHERE NOT EXISTS (SELECT 1 FROM seals WHERE recipient_rand_hash = $7) \
             ON CONFLICT (hash) DO NOTHING",
        )
        .bind(winner.hash.to_string())
        .bind(address_text(&ticket.recipient))
        .bind(address_text(&ticket.sender))
        .bind(ticket.face_value.to_string())
        .bind(ticket.win_prob.to_string())
        .bind(i64::from(ticket.sender_nonce))
        .bind(ticket.recipient_rand_hash.to_string())
        .bind(winner.recipient_rand.to_string())
        .bind(ticket.creation.round as i64)
        .bind(ticket.creation.hash.to_string())
        .bind(hex::encode(winner.signature))
        .bind(winner.session.0.to_string())
        .bind(winner.epoch as i64)
        .bind(winner.seal_block as i64)
        .bind(winner.last_round as i64)
        .bind(i64::from(winner.credited))
        .bind(now_ms() as i64)
        .execute(&self.pool)
        .await
        .map_err(failed("store a winner"))?;
        if done.rows_affected() == 1 {
            return Ok(Inserted::New);
        }
        let known = sqlx::query("SELECT hash FROM winners WHERE hash = $1")
            .bind(winner.hash.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look for a winner"))?;
        Ok(if known.is_some() { Inserted::Known } else { Inserted::Sealed })
    }

    /// Held winners, the earliest last redeemable round first; at most 1024.
    ///
    /// # Errors
    /// The database, or a row that we did not write.
    pub async fn held_winners(&self) -> Result<Vec<StoredWinner>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM winners WHERE state = 'held' ORDER BY last_round, stored_ms, hash LIMIT $1",
        )
        .bind(HELD_MAX)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list held winners"))?;
        rows.iter().map(stored).collect()
    }

    /// One winner.
    ///
    /// # Errors
    /// The database, or a row that we did not write.
    pub async fn winner(&self, hash: &B256) -> Result<Option<StoredWinner>, StoreError> {
        let row = sqlx::query("SELECT * FROM winners WHERE hash = $1")
            .bind(hash.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look for a winner"))?;
        row.as_ref().map(stored).transpose()
    }

    /// Held face value per sender, for [`crate::Recipient::set_held`].
    ///
    /// # Errors
    /// The database, or a row that we did not write.
    pub async fn held_by_sender(&self) -> Result<Vec<(Address, Wei)>, StoreError> {
        let rows = sqlx::query("SELECT sender, face_value FROM winners WHERE state = 'held'")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("sum held winners"))?;
        let mut sums = std::collections::BTreeMap::<Address, Wei>::new();
        for row in &rows {
            let row = Columns { table: "winners", row };
            let sum = sums.entry(row.address("sender")?).or_default();
            *sum = sum.saturating_add(row.wei("face_value")?);
        }
        Ok(sums.into_iter().collect())
    }

    /// When the oldest winner was stored that still waits, in milliseconds since 1970.
    ///
    /// # Errors
    /// The database.
    pub async fn oldest_held_ms(&self) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query(
            "SELECT stored_ms FROM winners WHERE state = 'held' ORDER BY stored_ms LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look for the oldest held winner"))?;
        row.map(|row| Columns { table: "winners", row: &row }.number("stored_ms")).transpose()
    }

    /// Counts and sums by state, for the console.
    ///
    /// # Errors
    /// The database, or a row that we did not write.
    pub async fn winner_counts(&self) -> Result<Vec<StateCount>, StoreError> {
        let rows = sqlx::query("SELECT state, face_value, amount FROM winners")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("count winners"))?;
        let mut counts = WinnerState::ALL.map(|state| StateCount {
            state,
            count: 0,
            face_value: Wei::ZERO,
            amount: Wei::ZERO,
        });
        for row in &rows {
            let row = Columns { table: "winners", row };
            let word = row.text("state")?;
            let Some(sum) = counts.iter_mut().find(|sum| sum.state.as_str() == word) else {
                return Err(row.bad("state", word));
            };
            sum.count += 1;
            sum.face_value = sum.face_value.saturating_add(row.wei("face_value")?);
            sum.amount = sum.amount.saturating_add(row.wei("amount")?);
        }
        Ok(counts.into())
    }

    /// Ends a held winner, synced (O5). `false` when it had ended before: nothing is booked twice.
    ///
    /// # Errors
    /// The database.
    pub async fn close_winner(&self, hash: &B256, end: &Outcome) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE winners SET state = $1, amount = $2, reason = $3, closed_ms = $4 \
             WHERE hash = $5 AND state = 'held'",
        )
        .bind(end.state.as_str())
        .bind(end.amount.to_string())
        .bind(end.reason.as_str())
        .bind(now_ms() as i64)
        .bind(hash.to_string())
        .execute(&self.pool)
        .await
        .map_err(failed("end a winner"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes why a held winner waits.
    ///
    /// # Errors
    /// The database.
    pub async fn note_waiting(&self, hash: &B256, reason: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE winners SET reason = $1 WHERE hash = $2 AND state = 'held'")
            .bind(reason)
            .bind(hash.to_string())
            .execute(&self.pool)
            .await
            .map_err(failed("note why a winner waits"))?;
        Ok(())
    }

    /// Seals a set, synced (O3): before its number leaves the process.
    ///
    /// # Errors
    /// The database; the number must then not be revealed.
    pub async fn seal(&self, recipient_rand_hash: &B256) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO seals (recipient_rand_hash, sealed_ms) VALUES ($1, $2) \
             ON CONFLICT (recipient_rand_hash) DO NOTHING",
        )
        .bind(recipient_rand_hash.to_string())
        .bind(now_ms() as i64)
        .execute(&self.pool)
        .await
        .map_err(failed("seal a set"))?;
        Ok(())
    }

    /// Whether a set is sealed.
    ///
    /// # Errors
    /// The database.
    pub async fn is_sealed(&self, recipient_rand_hash: &B256) -> Result<bool, StoreError> {
        sqlx::query("SELECT sealed_ms FROM seals WHERE recipient_rand_hash = $1")
            .bind(recipient_rand_hash.to_string())
            .fetch_optional(&self.pool)
            .await
            .map(|row| row.is_some())
            .map_err(failed("look for a seal"))
    }
}

fn stored(row: &sqlx::any::AnyRow) -> Result<StoredWinner, StoreError> {
    let row = Columns { table: "winners", row };
    let signature_text = row.text("signature")?;
    let mut signature = [0u8; 65];
    hex::decode_to_slice(&signature_text, &mut signature)
        .map_err(|_| row.bad("signature", signature_text))?;
    let session_text = row.text("session")?;
    let session = B256::from_str(&session_text).map_err(|_| row.bad("session", session_text))?;
    let nonce = row.number("sender_nonce")?;
    let ticket = Ticket {
        recipient: row.address("recipient")?,
        sender: row.address("sender")?,
        face_value: row.wei("face_value")?,
        win_prob: row.u256("win_prob")?,
        sender_nonce: u32::try_from(nonce)
            .map_err(|_| row.bad("sender_nonce", nonce.to_string()))?,
        recipient_rand_hash: row.hash("recipient_rand_hash")?,
        creation: CreationRound {
            round: row.number("creation_round")?,
            hash: row.hash("creation_hash")?,
        },
    };
    let state = row.text("state")?;
    Ok(StoredWinner {
        state: WinnerState::from_word(&state).ok_or_else(|| row.bad("state", state))?,
        amount: row.wei("amount")?,
        reason: row.text("reason")?,
        stored_ms: row.number("stored_ms")?,
        winner: Winner {
            hash: row.hash("hash")?,
            ticket,
            signature,
            recipient_rand: row.u256("recipient_rand")?,
            session: SessionId(session),
            epoch: row.number("epoch")?,
            seal_block: row.number("seal_block")?,
            last_round: row.number("last_round")?,
            credited: row.number("credited")? != 0,
        },
    })
}
