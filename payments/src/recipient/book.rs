//! What one sender owes over all its sessions, and the winners held against it.
//!
//! The remainder of an ended session, owed or paid ahead, stays in the sums.

use crate::price::Wei;

/// One sender's sums.
#[derive(Debug, Default)]
pub(crate) struct Book {
    debit: Wei,
    credit: Wei,
    held: Wei,
}

impl Book {
    /// Books a frame's fee if the sums allow it: debit + fee − credit ≤ ceiling.
    pub(crate) fn admit(&mut self, fee: Wei, ceiling: Wei) -> bool {
        let after = self.debit.saturating_add(fee);
        if after > self.credit.saturating_add(ceiling) {
            return false;
        }
        self.debit = after;
        true
    }

    /// Takes back a fee that [`Book::admit`] booked.
    pub(crate) fn reverse(&mut self, fee: Wei) {
        self.debit = self.debit.saturating_sub(fee);
    }

    /// Books an accepted ticket.
    pub(crate) fn credit(&mut self, fee: Wei) {
        self.credit = self.credit.saturating_add(fee);
    }

    /// Holds a winner's face value.
    pub(crate) fn hold(&mut self, face_value: Wei) {
        self.held = self.held.saturating_add(face_value);
    }

    /// Lets go of a settled winner.
    pub(crate) fn release(&mut self, face_value: Wei) {
        self.held = self.held.saturating_sub(face_value);
    }

    pub(crate) fn set_held(&mut self, held: Wei) {
        self.held = held;
    }

    pub(crate) fn held(&self) -> Wei {
        self.held
    }

    /// Fees of admitted frames that no ticket has paid.
    pub(crate) fn owed(&self) -> Wei {
        self.debit.saturating_sub(self.credit)
    }

    /// True when nothing would be lost by forgetting this sender.
    pub(crate) fn is_balanced(&self) -> bool {
        self.debit == self.credit && self.held.is_zero()
    }
}
