//! Wrong credentials are answered late, and from one address only so many at a time.
//!
//! A core: time comes in. The table is bounded; when it is full the address whose guesses lie back
//! longest gives way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ingest::half_open::network;

/// Time in which an address earns one more guess.
pub(super) const REFILL: Duration = Duration::from_secs(6);

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Guesses by address. A network of IPv6 counts as one address, since one customer has it whole.
#[derive(Default)]
pub(super) struct Throttle {
    table: HashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// When all guesses would be earned back.
    full_at: Instant,
}

impl Throttle {
    /// Whether this address has used up its `guesses`; 0 is any number.
    pub(super) fn blocked(&self, ip: IpAddr, guesses: u32, now: Instant) -> bool {
        let Some(bucket) = self.table.get(&network(ip)) else { return false };
        let missing = bucket.full_at.saturating_duration_since(now);
        guesses > 0 && missing > REFILL * (guesses - 1)
    }

    /// Notes a wrong guess.
    pub(super) fn failed(&mut self, ip: IpAddr, now: Instant) {
        if self.table.len() >= ADDRESSES_MAX {
            self.table.retain(|_, bucket| bucket.full_at > now);
        }
        if self.table.len() >= ADDRESSES_MAX {
            let oldest = self.table.iter().min_by_key(|(_, bucket)| bucket.full_at);
            if let Some(ip) = oldest.map(|(ip, _)| *ip) {
                self.table.remove(&ip);
            }
        }
        let bucket = self.table.entry(network(ip)).or_insert(Bucket { full_at: now });
        bucket.full_at = bucket.full_at.max(now) + REFILL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_guesses_at_once_then_one_each_six_seconds() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..3 {
            assert!(!throttle.blocked(ip("192.0.2.1"), 3, now));
            throttle.failed(ip("192.0.2.1"), now);
        }
        assert!(throttle.blocked(ip("192.0.2.1"), 3, now));
        assert!(throttle.blocked(ip("::ffff:192.0.2.1"), 3, now), "the same in another dress");
        assert!(!throttle.blocked(ip("192.0.2.2"), 3, now), "others are not concerned");
        assert!(!throttle.blocked(ip("192.0.2.1"), 0, now), "no limit");
        assert!(!throttle.blocked(ip("192.0.2.1"), 3, now + REFILL));
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_the_table_has_an_end() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        throttle.failed(ip("2001:db8::1"), now);
        assert!(throttle.blocked(ip("2001:db8::2"), 1, now));
        for number in 0..20_000_u32 {
            throttle.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(throttle.table.len() <= ADDRESSES_MAX);
    }
}
