//! A ticket on its way to credit: rule 4 in its order, what is kept of refused ones, and the winners.

use std::time::Instant;

use alloy_primitives::U256;

use super::outcome::{RecipientOutput, SessionEnd};
use super::session::SessionRecipient;
use super::tickets::Verdict;
use crate::set::{NONCE_MAX, Set};
use crate::ticket::{Signature, signing_digest, wins};
use crate::winner::Winner;
use crate::wire::receipt::{REFUSED_MAX, RefusalCode};
use crate::wire::{RefusedNonce, Resend, TicketRecord};

/// Refused tickets after which the session ends; an honest sender stops after three.
const REFUSALS_MAX: u64 = 64;
/// Tickets of earlier sessions that are taken for their winners, a session.
const RESENDS_MAX: u64 = 256;
/// So many repeated tickets weigh as one refused: they come when a receipt was late.
const REPEATS_PER_REFUSAL: u64 = 8;

impl SessionRecipient {
    /// Rule 4, in its order: size and token were checked before.
    pub(super) fn ticket(&mut self, now: Instant, record: &TicketRecord) -> Result<(), SessionEnd> {
        let TicketRecord { serial, nonce, ref signature, .. } = *record;
        let block = self.shared.head().map(|head| head.block);
        let Some(live) = [Some(&mut self.current), self.previous.as_mut()]
            .into_iter()
            .flatten()
            .find(|live| live.set.serial == serial && !live.is_sealed(now, block))
        else {
            let sets = [Some(&self.current), self.previous.as_ref()].into_iter().flatten();
            let known = sets
                .map(|live| (&live.set, live.rand))
                .chain(self.retired.iter().map(|(set, rand)| (set, *rand)))
                .find(|(set, _)| set.serial == serial)
                .map(|(set, rand)| (set.clone(), rand));
            let Some((set, rand)) = known else {
                self.counters.refused.unknown_set += 1;
                return self.refuse(serial, nonce, RefusalCode::UnknownSet);
            };
            self.counters.refused.sealed_set += 1;
            self.keep_if_it_wins(&set, rand, nonce, signature)?;
            return self.refuse(serial, nonce, RefusalCode::SealedSet);
        };
        match live.check(nonce, || self.rate.allows(now, self.terms.fps)) {
            Verdict::Ask => {}
            Verdict::Repeated => {
                // Sent again because its receipt was late: no refusal, nothing to credit.
                self.counters.refused.repeated += 1;
                return self.refused_quietly();
            }
            Verdict::Range => {
                self.counters.refused.nonce_range += 1;
                return self.refuse(serial, nonce, RefusalCode::NonceRange);
            }
            Verdict::Rate => {
                self.counters.refused.rate += 1;
                let (set, rand) = (live.set.clone(), live.rand);
                self.keep_if_it_wins(&set, rand, nonce, signature)?;
                return self.refuse(serial, nonce, RefusalCode::Rate);
            }
        }
        let ticket = live.set.ticket(nonce);
        let hash = ticket.hash();
        let signer = (self.shared.recover)(&signing_digest(&hash), signature);
        if signer != Some(ticket.sender) {
            self.counters.refused.signature += 1;
            return Err(SessionEnd::WrongSignature { serial, nonce });
        }
        let won = wins(signature, &live.rand, &ticket.win_prob);
        live.accept(nonce, won.then_some(hash));
        let fee = live.set.fee;
        let winner = won.then(|| (live.set.clone(), live.rand));
        self.counters.accepted += 1;
        self.counters.credit = self.counters.credit.saturating_add(fee);
        self.book.lock().credit(fee);
        self.waiting = None;
        self.dirty = true;
        if let Some((set, rand)) = winner {
            self.store(&set, rand, nonce, *signature, true);
        }
        if self.is_used_up() {
            self.tick(now);
        }
        Ok(())
    }

    /// Rule 7: a refused ticket that wins is kept. The win test comes first, it is the cheap one.
    fn keep_if_it_wins(
        &mut self,
        set: &Set,
        rand: U256,
        nonce: u32,
        signature: &Signature,
    ) -> Result<(), SessionEnd> {
        if nonce == 0 || !wins(signature, &rand, &set.win_prob) {
            return Ok(());
        }
        let ticket = set.ticket(nonce);
        if (self.shared.recover)(&ticket.digest(), signature) != Some(ticket.sender) {
            self.counters.refused.signature += 1;
            return Err(SessionEnd::WrongSignature { serial: set.serial, nonce });
        }
        self.store(set, rand, nonce, *signature, false);
        Ok(())
    }

    pub(super) fn resent(&mut self, resend: &Resend) -> Result<(), SessionEnd> {
        let (set, nonce) = (&*resend.set, resend.nonce);
        self.counters.resent += 1;
        let ours = set.recipient == self.shared.config.address && set.sender == self.terms.sender;
        if self.counters.resent > RESENDS_MAX || !ours || nonce > NONCE_MAX {
            self.counters.refused.unknown_set += 1;
            return self.refused_quietly();
        }
        match set.open(&self.shared.config.secret, self.shared.view.network()) {
            Some(rand) => self.keep_if_it_wins(set, rand, nonce, &resend.signature),
            None => {
                self.counters.refused.unknown_set += 1;
                self.refused_quietly()
            }
        }
    }

    fn store(&mut self, set: &Set, rand: U256, nonce: u32, signature: Signature, credited: bool) {
        let last_round = self
            .shared
            .head()
            .map_or(set.creation.round, |head| head.last_redeemable_round(set.creation.round));
        let winner = Winner::new(set, nonce, signature, rand, last_round, credited);
        self.counters.won += 1;
        self.book.lock().hold(set.face_value);
        self.outputs.push_back(RecipientOutput::StoreWinner(Box::new(winner)));
    }

    fn refuse(&mut self, serial: u32, nonce: u32, code: RefusalCode) -> Result<(), SessionEnd> {
        let refusal = RefusedNonce { serial, nonce, code };
        if !self.refused.contains(&refusal) {
            if self.refused.len() == REFUSED_MAX {
                self.refused.pop_front();
            }
            self.refused.push_back(refusal);
        }
        self.dirty = true;
        self.refused_quietly()
    }

    fn refused_quietly(&mut self) -> Result<(), SessionEnd> {
        let r = &self.counters.refused;
        let all = r.unknown_set
            + r.sealed_set
            + r.nonce_range
            + r.rate
            + r.repeated / REPEATS_PER_REFUSAL;
        if all > REFUSALS_MAX { Err(SessionEnd::TooManyRefusals(all)) } else { Ok(()) }
    }
}
