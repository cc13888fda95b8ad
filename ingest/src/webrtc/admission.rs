//! Who is let in: the limits that all workers share, and which worker has the most room.
//!
//! A [`Seat`] is taken when an offer is about to be answered and given back when it is dropped, so
//! nothing that fails on the way to a session leaves a count behind. The lock is touched when
//! sessions come, finish their handshake and go, never for a packet. Sessions in their handshake
//! never keep others out: the oldest of them gives way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::half_open::{HalfOpen, Place, network};

/// Sessions that may be open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) sessions: usize,
    /// Of one address, or one /64 of IPv6.
    pub(crate) from_address: usize,
    /// That have not finished their handshake.
    pub(crate) handshakes: usize,
}

/// Why a session was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("this node serves {0} WebRTC sessions, its limit")]
    Sessions(usize),
    #[error("this address has {0} WebRTC sessions, the limit")]
    FromAddress(usize),
}

/// The counts of all workers.
pub(crate) struct Admission {
    limits: Limits,
    counts: Mutex<Counts>,
    handshakes: HalfOpen,
}

struct Counts {
    by_address: HashMap<IpAddr, usize>,
    by_worker: Vec<usize>,
}

impl Admission {
    /// Empty rooms of so many workers.
    pub(crate) fn new(limits: Limits, workers: u8) -> Arc<Self> {
        let counts =
            Counts { by_address: HashMap::new(), by_worker: vec![0; usize::from(workers.max(1))] };
        let handshakes = HalfOpen::new(limits.handshakes);
        Arc::new(Self { limits, counts: Mutex::new(counts), handshakes })
    }

    /// Takes a seat for a session that `address` asked for, on the worker with the fewest. The
    /// answer's second half says whether another session gives way, which goes a moment later.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<(Seat, bool), Full> {
        let address = network(address);
        let mut counts = self.counts.lock();
        let mut crowded = false;
        let sessions = counts.by_worker.iter().sum();
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= self.limits.from_address {
            crowded = self.handshakes.push_out(Some(address));
            if !crowded {
                return Err(Full::FromAddress(of_address));
            }
        }
        if sessions >= self.limits.sessions && !crowded {
            crowded = self.handshakes.push_out(None);
            if !crowded {
                return Err(Full::Sessions(sessions));
            }
        }
        let worker = (0..counts.by_worker.len()).min_by_key(|&w| counts.by_worker[w]).unwrap_or(0);
        counts.by_worker[worker] += 1;
        *counts.by_address.entry(address).or_default() += 1;
        drop(counts);
        let (told, hurried) = oneshot::channel();
        let let_go = move || {
            // Nobody hears it when the session is over already.
            let _ = told.send(());
        };
        let (handshake, gave_way) = self.handshakes.enter(address, let_go);
        let admission = Arc::clone(self);
        let hurried = Some(hurried);
        let seat = Seat { admission, address, worker: worker as u8, handshake, hurried };
        Ok((seat, crowded || gave_way))
    }
}

/// A place among the sessions.
pub(crate) struct Seat {
    admission: Arc<Admission>,
    address: IpAddr,
    worker: u8,
    handshake: Place,
    hurried: Option<oneshot::Receiver<()>>,
}

impl Seat {
    /// The worker that the session is meant for.
    pub(crate) fn worker(&self) -> u8 {
        self.worker
    }

    /// Resolves when the session has to give way, with an error when its handshake is through; to be
    /// had once.
    pub(crate) fn hurried(&mut self) -> Option<oneshot::Receiver<()>> {
        self.hurried.take()
    }

    /// The handshake is through.
    pub(crate) fn settle(&self) {
        self.handshake.leave();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
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
        let limits = Limits { sessions: 4, from_address: 3, handshakes: 4 };
        let admission = Admission::new(limits, 2);
        let mut seats: Vec<Seat> =
            (0..3).map(|_| admission.admit(address(1)).ok().unwrap().0).collect();
        assert_eq!(seats.iter().map(Seat::worker).collect::<Vec<_>>(), [0, 1, 0]);
        seats.iter().for_each(Seat::settle);
        seats[0].settle();
        let refused = |n| admission.admit(address(n)).err();
        assert_eq!(refused(1), Some(Full::FromAddress(3)));
        let (fourth, _) = admission.admit(address(2)).ok().unwrap();
        assert_eq!(fourth.worker(), 1);
        fourth.settle();
        assert_eq!(refused(3), Some(Full::Sessions(4)));
        assert!(
            seats[0].hurried().unwrap().try_recv().is_err(),
            "nobody hurries those that are in"
        );
        drop((seats, fourth));
        assert_eq!(admission.handshakes.count(), 0);
        let counts = admission.counts.lock();
        assert!(counts.by_address.is_empty());
        assert_eq!(counts.by_worker, [0, 0]);
    }

    #[test]
    fn a_session_in_its_handshake_gives_way_whatever_the_limit_is() {
        for (sessions, from_address, handshakes) in [(1, 9, 9), (9, 1, 9), (9, 9, 1)] {
            let admission = Admission::new(Limits { sessions, from_address, handshakes }, 1);
            let (mut first, pushed) = admission.admit(address(1)).ok().unwrap();
            assert!(!pushed);
            let (second, pushed) = admission.admit(address(1)).ok().unwrap();
            assert!(pushed && first.hurried().unwrap().try_recv().is_ok());
            drop(first);
            second.settle();
            let third = admission.admit(address(1));
            assert_eq!(third.is_ok(), handshakes == 1, "one that is through gives way to nobody");
        }
    }
}
