//! Connections that have not shown yet what they are, in the order in which they came.
//!
//! A listener has room for so many of them. When it is full, a newcomer is not refused: the oldest
//! of the network that has the most lets go for it. An honest client is through in a few round
//! trips; who opens connections and says nothing pushes out his own.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The half-open connections of a listener. Cloning shares them.
#[derive(Clone)]
pub struct HalfOpen {
    /// How many there is room for.
    max: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By the number of their coming.
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    network: IpAddr,
    let_go: Box<dyn FnOnce() + Send>,
}

impl HalfOpen {
    /// Room for `max` connections, one at least.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), table: Arc::default() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.lock().waiting.len()
    }

    /// Takes a connection from `ip` in. If there was no room another one was let go for it, which
    /// the answer's second half says. `let_go` is called, once at most, when this one's turn comes
    /// to give way; it must not wait.
    pub fn enter(&self, ip: IpAddr, let_go: impl FnOnce() + Send + 'static) -> (Place, bool) {
        let mut table = self.table.lock();
        let full = table.waiting.len() >= self.max;
        let pushed = if full { table.oldest_of_most() } else { None };
        let pushed = pushed.and_then(|number| table.waiting.remove(&number));
        let number = table.next;
        table.next += 1;
        table.waiting.insert(number, Waiting { network: network(ip), let_go: Box::new(let_go) });
        drop(table);
        let gave_way = pushed.is_some();
        if let Some(pushed) = pushed {
            (pushed.let_go)();
        }
        let place = Place { table: Arc::clone(&self.table), number, left: AtomicBool::new(false) };
        (place, gave_way)
    }

    /// Lets the oldest one go whose address `wanted` is the network of, or any network's if there is
    /// none; false when there is none to let go.
    pub fn push_out(&self, wanted: Option<IpAddr>) -> bool {
        let mut table = self.table.lock();
        let number = match wanted.map(network) {
            Some(of) => table.waiting.iter().find(|(_, w)| w.network == of).map(|(n, _)| *n),
            None => table.oldest_of_most(),
        };
        let pushed = number.and_then(|number| table.waiting.remove(&number));
        drop(table);
        pushed.map(|pushed| (pushed.let_go)()).is_some()
    }
}

impl Table {
    /// The oldest connection of the network that has the most.
    fn oldest_of_most(&self) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for waiting in self.waiting.values() {
            *counts.entry(waiting.network).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let oldest = self.waiting.iter().find(|(_, waiting)| counts[&waiting.network] == most);
        oldest.map(|(number, _)| *number)
    }
}

/// A connection's place among the half-open ones, until it leaves or is dropped.
pub struct Place {
    table: Arc<Mutex<Table>>,
    number: u64,
    left: AtomicBool,
}

impl Place {
    /// The connection has shown what it is: it gives way to nobody any more. False when it had to
    /// before.
    pub fn leave(&self) -> bool {
        if self.left.load(Ordering::Relaxed) {
            return true;
        }
        let left = self.table.lock().waiting.remove(&self.number).is_some();
        self.left.store(left, Ordering::Relaxed);
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The network that counts as one stranger: an address, or a /64 of IPv6, since one customer has
/// that whole.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections of these addresses, and who was let go.
    fn come(room: &HalfOpen, who: &[(&str, u32)], gone: &Arc<Mutex<Vec<u32>>>) -> Vec<Place> {
        let come = who.iter().map(|(ip, number)| {
            let (gone, number) = (Arc::clone(gone), *number);
            room.enter(ip.parse().unwrap(), move || gone.lock().push(number)).0
        });
        come.collect()
    }

    #[test]
    fn a_newcomer_pushes_out_the_oldest_of_the_network_that_has_the_most() {
        let (room, gone) = (HalfOpen::new(4), Arc::default());
        let first = [("192.0.2.1", 1), ("2001:db8::1", 2), ("192.0.2.9", 3), ("2001:db8::2", 4)];
        let places = come(&room, &first, &gone);
        assert!(gone.lock().is_empty());
        let more = come(&room, &[("192.0.2.7", 5)], &gone);
        assert_eq!(*gone.lock(), [2], "a network of IPv6 is one stranger");
        let last = come(&room, &[("192.0.2.8", 6)], &gone);
        assert_eq!(*gone.lock(), [2, 1], "among equals the oldest");
        assert_eq!(room.count(), 4);
        drop((places, more, last));
        assert_eq!(room.count(), 0);
    }

    #[test]
    fn who_has_shown_what_it_is_gives_way_to_nobody() {
        let (room, gone) = (HalfOpen::new(1), Arc::default());
        let places = come(&room, &[("192.0.2.1", 1)], &gone);
        assert!(places[0].leave() && places[0].leave());
        let (second, pushed) = room.enter("192.0.2.2".parse().unwrap(), || {});
        assert!(!pushed && gone.lock().is_empty());
        assert!(!room.push_out(Some("192.0.2.1".parse().unwrap())), "none of that address");
        assert!(room.push_out(None) && !room.push_out(None));
        assert!(!second.leave() && !second.leave(), "it was let go before");
    }
}
