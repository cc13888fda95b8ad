//! When a ticket is signed: rule 2, the budget, and never twice for one frame.

use std::time::{Duration, Instant};

use super::session::{SenderOutput, SessionSender};
use crate::price::Wei;
use crate::set::NONCE_MAX;
use crate::wire::TicketRecord;

/// A further budget block is asked for when less than one part in this many is left.
const BUDGET_LOW_PART: u64 = 4;
/// Smallest budget block, in fees: a slow stream must not ask for one with each frame.
const BUDGET_FEES_MIN: u64 = 16;
/// A refused block is asked for again after this, while something is left.
pub(super) const BUDGET_RETRY: Duration = Duration::from_secs(5);
/// Signatures in one call: more are left for the next.
const SIGN_MAX: usize = 64;

impl SessionSender {
    /// Signs while less was released than is owed, within rule 2 and the budget.
    pub(super) fn pump(&mut self, now: Instant, pts: i64) {
        for _ in 0..SIGN_MAX {
            if self.left || !self.owes() {
                return;
            }
            let fee = self.set().fee;
            let limit = fee.saturating_mul(u64::from(self.frames_at_risk()));
            let risk = self.released.saturating_add(fee);
            let over = risk > self.earned.saturating_add(limit);
            if over || self.tickets.is_full() || self.nonce >= NONCE_MAX {
                self.held_back += 1;
                return;
            }
            self.ask_budget(now, fee);
            let Some(left) = self.budget.checked_sub(fee) else {
                self.held_back += 1;
                return;
            };
            self.budget = left;
            self.sign(now, pts, fee);
        }
    }

    fn owes(&self) -> bool {
        if self.signed == 0 {
            return true;
        }
        let owed = self.told.debit.saturating_add(self.frames.under_way(self.told.seen_pts));
        self.released.saturating_sub(self.refused) < owed
    }

    fn ask_budget(&mut self, now: Instant, fee: Wei) {
        let frames = self.terms.fps.frames_ceil(self.config.budget_block).max(BUDGET_FEES_MIN);
        let block = fee.saturating_mul(frames);
        let low = Wei(block.0 / alloy_primitives::U256::from(BUDGET_LOW_PART));
        let wait = self.budget >= fee && self.budget_retry.is_some_and(|at| now < at);
        if self.budget < low && !self.budget_asked && !wait {
            self.budget_asked = true;
            self.outputs.push_back(SenderOutput::TakeBudget(block));
        }
    }

    fn sign(&mut self, now: Instant, pts: i64, fee: Wei) {
        self.nonce += 1;
        let set = self.set();
        let (serial, nonce) = (set.serial, self.nonce);
        let signature = self.signer.sign(set.ticket(nonce).digest());
        self.signed += 1;
        self.released = self.released.saturating_add(fee);
        let record = TicketRecord { serial, nonce, pts, signature };
        let bytes = self.tickets.add(now, record, fee);
        self.outputs.push_back(SenderOutput::Pay(bytes));
    }
}
