//! Which nonces of a set were seen: a window of 256 above the settled ones.
//!
//! A nonce is settled when it was accepted and, if it won, stored. Only an unbroken run from 1 can
//! be told to the sender, so a winner that is not yet stored holds the receipt back and nothing else.

use crate::set::NONCE_MAX;

/// Nonces above the settled ones that can be told apart.
pub(crate) const WINDOW: u32 = 256;

/// Why a nonce is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceFault {
    /// 0, above [`NONCE_MAX`], or beyond the window.
    Range,
    /// Accepted before.
    Repeated,
}

/// The nonces of one set.
#[derive(Debug, Default)]
pub(crate) struct NonceWindow {
    settled: u32,
    highest: u32,
    seen: [u64; 4],
    waiting: [u64; 4],
}

impl NonceWindow {
    /// Whether `nonce` may be accepted now.
    pub(crate) fn check(&self, nonce: u32) -> Result<(), NonceFault> {
        if nonce == 0 || nonce > NONCE_MAX {
            return Err(NonceFault::Range);
        }
        if nonce <= self.settled || (nonce <= self.settled + WINDOW && get(&self.seen, nonce)) {
            return Err(NonceFault::Repeated);
        }
        if nonce > self.settled + WINDOW { Err(NonceFault::Range) } else { Ok(()) }
    }

    /// Marks a nonce that passed [`NonceWindow::check`]; `wait` holds it unsettled until
    /// [`NonceWindow::stored`].
    pub(crate) fn accept(&mut self, nonce: u32, wait: bool) {
        debug_assert_eq!(self.check(nonce), Ok(()));
        set(&mut self.seen, nonce, true);
        set(&mut self.waiting, nonce, wait);
        self.highest = self.highest.max(nonce);
        self.advance();
    }

    /// The winner of `nonce` is on disk. Returns whether it was waited for.
    pub(crate) fn stored(&mut self, nonce: u32) -> bool {
        let within = nonce > self.settled && nonce <= self.settled + WINDOW;
        if !within || !get(&self.waiting, nonce) {
            return false;
        }
        set(&mut self.waiting, nonce, false);
        self.advance();
        true
    }

    /// Every nonce from 1 to this is settled.
    pub(crate) fn settled(&self) -> u32 {
        self.settled
    }

    /// The highest nonce that was accepted.
    pub(crate) fn highest(&self) -> u32 {
        self.highest
    }

    fn advance(&mut self) {
        loop {
            let next = self.settled + 1;
            if !get(&self.seen, next) || get(&self.waiting, next) {
                return;
            }
            set(&mut self.seen, next, false);
            self.settled = next;
        }
    }
}

fn get(bits: &[u64; 4], nonce: u32) -> bool {
    let at = (nonce % WINDOW) as usize;
    bits[at / 64] >> (at % 64) & 1 == 1
}

fn set(bits: &mut [u64; 4], nonce: u32, on: bool) {
    let at = (nonce % WINDOW) as usize;
    let bit = 1u64 << (at % 64);
    if on { bits[at / 64] |= bit } else { bits[at / 64] &= !bit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_nonce_is_taken_once_and_in_any_order_within_the_window() {
        let mut window = NonceWindow::default();
        assert_eq!(window.check(0), Err(NonceFault::Range));
        assert_eq!(window.check(256), Ok(()));
        assert_eq!(window.check(257), Err(NonceFault::Range));
        window.accept(2, false);
        assert_eq!((window.settled(), window.check(2)), (0, Err(NonceFault::Repeated)));
        window.accept(1, false);
        assert_eq!((window.settled(), window.check(1)), (2, Err(NonceFault::Repeated)));
        assert_eq!(window.check(258), Ok(()));
    }

    #[test]
    fn a_winner_that_is_not_stored_holds_back_the_settled_run() {
        let mut window = NonceWindow::default();
        window.accept(1, true);
        window.accept(2, false);
        assert_eq!(window.settled(), 0);
        assert!(window.stored(1));
        assert_eq!(window.settled(), 2);
        assert!(!window.stored(1) && !window.stored(3));
    }

    #[test]
    fn the_last_nonce_of_a_set_is_the_last() {
        let mut window = NonceWindow::default();
        for nonce in 1..=NONCE_MAX {
            window.accept(nonce, false);
        }
        assert_eq!(window.settled(), NONCE_MAX);
        assert_eq!(window.check(NONCE_MAX + 1), Err(NonceFault::Range));
    }

    proptest! {
        #[test]
        fn the_window_equals_a_set_of_numbers(steps in prop::collection::vec((1u32..400, any::<bool>()), 1..600)) {
            let (mut window, mut seen) = (NonceWindow::default(), BTreeSet::new());
            for (nonce, _) in steps {
                let settled = (1..).find(|n| !seen.contains(n)).unwrap_or(1) - 1;
                prop_assert_eq!(window.settled(), settled);
                let expected = if seen.contains(&nonce) {
                    Err(NonceFault::Repeated)
                } else if nonce > settled + WINDOW {
                    Err(NonceFault::Range)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(nonce), expected);
                if expected.is_ok() {
                    window.accept(nonce, false);
                    seen.insert(nonce);
                }
            }
        }
    }
}
