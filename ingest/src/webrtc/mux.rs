//! Which session a datagram of the shared port is for.
//!
//! Checks name their session by our user name fragment. Everything else is known by its source
//! address, which enters the table only after a verified check, so a DTLS hello or a media packet
//! from anywhere else falls on the floor. An address belongs to one session at a time and cannot be
//! taken from a living one: whoever forges a victim's address in a check of his own session gains
//! nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an address stays with a session that is no longer heard from there. Browsers repeat
/// their checks every 2.5 s, other agents every 5 s.
const HOLD: Duration = Duration::from_secs(15);

/// What a datagram is by its first bytes (RFC 7983, RFC 5761).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
    Unknown,
}

impl Content {
    pub(crate) fn of(datagram: &[u8]) -> Self {
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, ..] if datagram.len() >= 8 => Self::Rtcp,
            [128..=191, _, ..] if datagram.len() >= 12 => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

/// Names a session on its worker; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u64);

#[derive(Clone, Copy)]
struct Held {
    key: Key,
    heard: Instant,
}

/// The tables of one socket.
#[derive(Default)]
pub(crate) struct Mux {
    fragments: HashMap<String, Key>,
    addresses: HashMap<SocketAddr, Held>,
    by_ip: HashMap<IpAddr, usize>,
}

impl Mux {
    /// The session that a check's fragment names.
    pub(crate) fn by_fragment(&self, fragment: &[u8]) -> Option<Key> {
        self.fragments.get(std::str::from_utf8(fragment).ok()?).copied()
    }

    /// The session that proved to be at an address.
    pub(crate) fn by_address(&self, address: &SocketAddr) -> Option<Key> {
        self.addresses.get(address).map(|held| held.key)
    }

    /// Lets checks name a session.
    pub(crate) fn add_fragment(&mut self, fragment: &str, key: Key) {
        self.fragments.insert(fragment.to_owned(), key);
    }

    /// Ends that.
    pub(crate) fn remove_fragment(&mut self, fragment: &str) {
        self.fragments.remove(fragment);
    }

    /// Whether a session may be noted at an address: it is there already, nobody else is, or who
    /// was there has been silent.
    pub(crate) fn may_hold(&self, now: Instant, address: &SocketAddr, key: Key) -> bool {
        self.addresses
            .get(address)
            .is_none_or(|held| held.key == key || now.saturating_duration_since(held.heard) > HOLD)
    }

    /// Notes that a session was heard at an address with something authentic.
    pub(crate) fn hold(&mut self, now: Instant, address: SocketAddr, key: Key) {
        self.addresses.insert(address, Held { key, heard: now });
    }

    /// Forgets an address of a session.
    pub(crate) fn release(&mut self, address: &SocketAddr, key: Key) {
        if self.addresses.get(address).is_some_and(|held| held.key == key) {
            self.addresses.remove(address);
        }
    }

    /// Sessions that were asked for from an address.
    pub(crate) fn count(&self, ip: &IpAddr) -> usize {
        self.by_ip.get(ip).copied().unwrap_or(0)
    }

    /// One session more from an address.
    pub(crate) fn add_ip(&mut self, ip: IpAddr) {
        *self.by_ip.entry(ip).or_default() += 1;
    }

    /// One less.
    pub(crate) fn remove_ip(&mut self, ip: &IpAddr) {
        if let Some(count) = self.by_ip.get_mut(ip) {
            *count -= 1;
            if *count == 0 {
                self.by_ip.remove(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_be_taken_from_a_living_session() {
        let (mut mux, now) = (Mux::default(), Instant::now());
        let at: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let (victim, thief) = (Key(1), Key(2));
        assert!(mux.may_hold(now, &at, victim));
        mux.hold(now, at, victim);
        assert!(!mux.may_hold(now + Duration::from_secs(5), &at, thief));
        mux.hold(now + Duration::from_secs(10), at, victim);
        assert!(!mux.may_hold(now + Duration::from_secs(20), &at, thief));
        assert!(mux.may_hold(now + Duration::from_secs(26), &at, thief));
        mux.release(&at, thief);
        assert_eq!(mux.by_address(&at), Some(victim));
        mux.release(&at, victim);
        assert_eq!(mux.by_address(&at), None);
    }

    #[test]
    fn datagrams_are_told_apart_by_their_first_bytes() {
        let check = |bytes: &[u8], wanted| assert_eq!(Content::of(bytes), wanted, "{bytes:?}");
        check(&[], Content::Unknown);
        check(&[0, 1], Content::Stun);
        check(&[22, 254, 253], Content::Dtls);
        check(&[128, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Content::Rtp);
        check(&[128, 96], Content::Unknown);
        check(&[128, 200, 0, 0, 0, 0, 0, 0], Content::Rtcp);
        check(&[255; 40], Content::Unknown);
    }
}
