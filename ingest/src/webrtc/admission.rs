//! Who is let in: the limits that all workers share, and which worker has the most room.
//!
//! A [`Seat`] is taken when an offer is about to be answered and given back when it is dropped, so
//! nothing that fails on the way to a session leaves a count behind. The lock is touched when
//! sessions come, finish their handshake and go, never for a packet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Sessions that may be open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) sessions: usize,
    /// Of one address.
    pub(crate) from_address: usize,
    /// That have not finished their handshake.
    pub(crate) handshakes: usize,
}

/// Why a session was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("this node serves {0} WebRTC sessions, its limit")]
    Sessions(usize),
    #[error("{0} sessions are in their handshake, the limit")]
    Handshakes(usize),
    #[error("this address has {0} WebRTC sessions, the limit")]
    FromAddress(usize),
}

/// The counts of all workers.
pub(crate) struct Admission {
    limits: Limits,
    counts: Mutex<Counts>,
}

struct Counts {
    handshakes: usize,
    by_address: HashMap<IpAddr, usize>,
    by_worker: Vec<usize>,
}

impl Admission {
    /// Empty rooms of so many workers.
    pub(crate) fn new(limits: Limits, workers: u8) -> Arc<Self> {
        let counts = Counts {
            handshakes: 0,
            by_address: HashMap::new(),
            by_worker: vec![0; usize::from(workers.max(1))],
        };
        Arc::new(Self { limits, counts: Mutex::new(counts) })
    }

    /// Takes a seat for a session that `address` asked for, on the worker with the fewest.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Full> {
        let address = address.to_canonical();
        let mut counts = self.counts.lock();
        let sessions = counts.by_worker.iter().sum();
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if sessions >= self.limits.sessions {
            return Err(Full::Sessions(sessions));
        }
        if counts.handshakes >= self.limits.handshakes {
            return Err(Full::Handshakes(counts.handshakes));
        }
        if of_address >= self.limits.from_address {
            return Err(Full::FromAddress(of_address));
        }
        let worker = (0..counts.by_worker.len()).min_by_key(|&w| counts.by_worker[w]).unwrap_or(0);
        counts.by_worker[worker] += 1;
        counts.handshakes += 1;
        *counts.by_address.entry(address).or_default() += 1;
        drop(counts);
        Ok(Seat { admission: Arc::clone(self), address, worker: worker as u8, handshake: true })
    }
}

/// A place among the sessions.
pub(crate) struct Seat {
    admission: Arc<Admission>,
    address: IpAddr,
    worker: u8,
    handshake: bool,
}

impl Seat {
    /// The worker that the session is meant for.
    pub(crate) fn worker(&self) -> u8 {
        self.worker
    }

    /// The handshake is through.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.handshake) {
            self.admission.counts.lock().handshakes -= 1;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.settle();
        let mut counts = self.admission.counts.lock();
        counts.by_worker[usize::from(self.worker)] -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn sessions_are_spread_over_the_workers_and_counted_until_they_are_dropped() {
        let limits = Limits { sessions: 4, from_address: 3, handshakes: 3 };
        let admission = Admission::new(limits, 2);
        let mut seats: Vec<Seat> =
            (0..3).map(|_| admission.admit(address(1)).ok().unwrap()).collect();
        assert_eq!(seats.iter().map(Seat::worker).collect::<Vec<_>>(), [0, 1, 0]);
        let refused = |n| admission.admit(address(n)).err();
        assert_eq!(refused(2), Some(Full::Handshakes(3)));
        seats[0].settle();
        seats[0].settle();
        assert_eq!(refused(1), Some(Full::FromAddress(3)));
        let fourth = admission.admit(address(2)).ok().unwrap();
        assert_eq!(fourth.worker(), 1);
        assert_eq!(refused(3), Some(Full::Sessions(4)));
        drop((seats, fourth));
        let counts = admission.counts.lock();
        assert_eq!((counts.handshakes, counts.by_address.len()), (0, 0));
        assert_eq!(counts.by_worker, [0, 0]);
    }
}
