//! The loop that redeems: shell around [`next_step`].

use std::future::Future;
use std::time::Duration;

use super::{Redeemed, SettleError, Settlement, Step, Waiting, next_step, paid};
use crate::price::Wei;
use crate::recipient::Recipient;
use crate::store::{Outcome, Store, StoreError, StoredWinner, WinnerState};

/// What one turn did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnReport {
    /// Winners that ended, by state in the order paid, short, expired, unfunded.
    pub ended: [u64; 4],
    /// Wei that were paid.
    pub paid: Wei,
    /// Winners that wait.
    pub waiting: u64,
    /// Rounds until the earliest of them is lost.
    pub rounds_left: Option<u64>,
    /// What the settlement layer could not answer, the first of the turn.
    pub trouble: Option<SettleError>,
}

/// Redeems the winners of a store.
pub struct Redeemer<S> {
    store: Store,
    settlement: S,
    recipient: Recipient,
}

impl<S: Settlement> Redeemer<S> {
    /// A redeemer for the recipient's winners.
    pub fn new(store: Store, settlement: S, recipient: Recipient) -> Self {
        Self { store, settlement, recipient }
    }

    /// Tells the recipient which winners are held: once before the first session, and after each
    /// turn when instances share a store.
    ///
    /// # Errors
    /// The store.
    pub async fn load_held(&self) -> Result<(), StoreError> {
        for (sender, held) in self.store.held_by_sender().await? {
            self.recipient.set_held(sender, held);
        }
        Ok(())
    }

    /// Looks at every held winner once, the earliest last round first.
    ///
    /// # Errors
    /// The store. Trouble of the settlement layer is in the report: the winners stay held.
    pub async fn turn(&self) -> Result<TurnReport, StoreError> {
        let mut report = TurnReport::default();
        let Some(head) = self.settlement.head() else {
            report.trouble = Some(SettleError("block and round are not known".into()));
            return Ok(report);
        };
        for row in self.store.held_winners().await? {
            match self.look(&row, &head).await? {
                Ok(Some(end)) => {
                    if self.store.close_winner(&row.winner.hash, &end).await? {
                        let ticket = &row.winner.ticket;
                        self.recipient.winner_settled(ticket.sender, ticket.face_value);
                        report.paid = report.paid.saturating_add(end.amount);
                        report.ended[place(end.state)] += 1;
                        tracing::info!(
                            ticket = %row.winner.hash, state = end.state.as_str(),
                            amount_wei = %end.amount, reason = end.reason, "winner ended"
                        );
                    }
                }
                Ok(None) => {
                    report.waiting += 1;
                    let left = row.winner.last_round.saturating_sub(head.round);
                    report.rounds_left = Some(report.rounds_left.map_or(left, |r| r.min(left)));
                }
                Err(error) => {
                    report.waiting += 1;
                    tracing::warn!(ticket = %row.winner.hash, %error, "redemption");
                    report.trouble.get_or_insert(error);
                }
            }
        }
        Ok(report)
    }

    /// Takes a turn each `every` until `stop` is done.
    pub async fn run(&self, every: Duration, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut timer = tokio::time::interval(every);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = timer.tick() => {
                    if let Err(error) = self.turn().await {
                        tracing::error!(%error, "redeemer");
                    }
                }
            }
        }
    }

    /// One winner: its end, or `None` when it waits.
    async fn look(
        &self,
        row: &StoredWinner,
        head: &crate::broker::Head,
    ) -> Result<Result<Option<Outcome>, SettleError>, StoreError> {
        let winner = &row.winner;
        let was_unpayable = row.reason == Waiting::NotPayable.as_str();
        // Even when its time is over: somebody may have redeemed it, and the amount is booked once.
        let payable = match self.settlement.payable(winner).await {
            Ok(payable) => payable,
            Err(error) => return Ok(Err(error)),
        };
        let closed = self.set_is_closed(winner, head.block);
        match next_step(winner, head, payable, closed, was_unpayable) {
            Step::End(end) => Ok(Ok(Some(end))),
            Step::Wait(why) => {
                if row.reason != why.as_str() {
                    self.store.note_waiting(&winner.hash, why.as_str()).await?;
                }
                Ok(Ok(None))
            }
            Step::Redeem => {
                // O3: durable before the number leaves.
                self.store.seal(&winner.ticket.recipient_rand_hash).await?;
                Ok(match self.settlement.redeem(winner).await {
                    Ok(Redeemed::Paid(amount)) => Ok(Some(paid(winner, amount))),
                    Ok(Redeemed::NotNow(reason)) => {
                        self.store.note_waiting(&winner.hash, &reason).await?;
                        Ok(None)
                    }
                    Ok(Redeemed::Never(reason)) => {
                        Ok(Some(Outcome { state: WinnerState::Expired, amount: Wei::ZERO, reason }))
                    }
                    Err(error) => Err(error),
                })
            }
        }
    }

    /// A set of this process is closed when no session holds it; one of another process, which may
    /// be an instance that still runs, at its seal block.
    fn set_is_closed(&self, winner: &crate::winner::Winner, block: u64) -> bool {
        if winner.epoch == self.recipient.epoch() {
            return self.recipient.seal(&winner.ticket.recipient_rand_hash);
        }
        block >= winner.seal_block
    }
}

const fn place(state: WinnerState) -> usize {
    match state {
        WinnerState::Paid | WinnerState::Held => 0,
        WinnerState::Short => 1,
        WinnerState::Expired => 2,
        WinnerState::Unfunded => 3,
    }
}
