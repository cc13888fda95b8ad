//! Who gave wrong passphrases of late. Trying one costs this side a millisecond of computing and
//! the other side one datagram, so an address gets a few tries and then has to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong passphrases of one address in a [`PERIOD`], at most.
const STRIKES_MAX: u32 = 10;

/// After so long strikes are forgotten.
const PERIOD: Duration = Duration::from_secs(10);

/// Addresses that are remembered, at most.
const ADDRESSES_MAX: usize = 4096;

/// Strikes by address; a network of 64 bits counts as one address of IPv6.
#[derive(Default)]
pub(super) struct Strikes {
    of: HashMap<IpAddr, (u32, Instant)>,
}

impl Strikes {
    /// Whether an address has to wait.
    pub(super) fn out(&self, now: Instant, ip: IpAddr) -> bool {
        self.of.get(&network(ip)).is_some_and(|(count, since)| {
            *count >= STRIKES_MAX && now.saturating_duration_since(*since) < PERIOD
        })
    }

    /// A wrong passphrase.
    pub(super) fn strike(&mut self, now: Instant, ip: IpAddr) {
        let recent = |since: Instant| now.saturating_duration_since(since) < PERIOD;
        if self.of.len() >= ADDRESSES_MAX {
            self.of.retain(|_, (_, since)| recent(*since));
            if self.of.len() >= ADDRESSES_MAX {
                return;
            }
        }
        let (count, since) = self.of.entry(network(ip)).or_insert((0, now));
        if !recent(*since) {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_ten_tries_and_then_waits_while_others_do_not() {
        let start = Instant::now();
        let mut strikes = Strikes::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 0..STRIKES_MAX {
            assert!(!strikes.out(start, ip("192.0.2.1")), "{n}");
            strikes.strike(start, ip("192.0.2.1"));
            strikes.strike(start, ip(&format!("2001:db8::{n}")));
        }
        assert!(strikes.out(start + PERIOD / 2, ip("192.0.2.1")));
        assert!(strikes.out(start, ip("::ffff:192.0.2.1")), "the same in other words");
        assert!(strikes.out(start, ip("2001:db8::ffff")), "the same network");
        assert!(!strikes.out(start, ip("2001:db8:0:1::1")));
        assert!(!strikes.out(start, ip("192.0.2.2")));
        assert!(!strikes.out(start + PERIOD, ip("192.0.2.1")));
        strikes.strike(start + PERIOD, ip("192.0.2.1"));
        assert!(!strikes.out(start + PERIOD, ip("192.0.2.1")), "counted anew");
    }

    #[test]
    fn many_addresses_take_no_more_room_than_is_set() {
        let start = Instant::now();
        let mut strikes = Strikes::default();
        for n in 0..2 * ADDRESSES_MAX as u32 {
            strikes.strike(start, ip_of(n));
        }
        assert_eq!(strikes.of.len(), ADDRESSES_MAX);
        strikes.strike(start + PERIOD, ip_of(1 << 30));
        assert_eq!(strikes.of.len(), 1, "old ones make room");
    }

    fn ip_of(bits: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(bits).into()
    }
}
