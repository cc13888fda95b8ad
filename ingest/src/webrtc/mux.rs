//! Which session a datagram of the shared port is for.
//!
//! Checks name their session by our user name fragment. Everything else is known by its source
//! address, which enters the table only after a verified check, so a DTLS hello or a media packet
//! from anywhere else falls on the floor. An address belongs to one session at a time and cannot be
//! taken from a living one: whoever forges a victim's address in a check of his own session gains
//! nothing. Where the session is on another worker, the table says which.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ice::Source;

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

/// Who is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A session of this worker.
    Session(Key),
    /// A session of another one.
    Worker(u8),
}

#[derive(Clone, Copy)]
struct Held {
    owner: Owner,
    heard: Instant,
    /// When the worker that receives from there was last told whose it is.
    told: Option<Instant>,
}

/// Addresses of other workers' sessions that are kept. A peer has one or two.
const ROUTES_MAX: usize = 1 << 16;

/// How often the worker that receives a session's datagrams is told that it is alive.
const TELL_EVERY: Duration = Duration::from_secs(4);

/// The tables of one socket.
#[derive(Default)]
pub(crate) struct Mux {
    fragments: HashMap<String, Key>,
    addresses: HashMap<Source, Held>,
    routes: usize,
}

impl Mux {
    /// The session that a check's fragment names.
    pub(crate) fn by_fragment(&self, fragment: &[u8]) -> Option<Key> {
        self.fragments.get(std::str::from_utf8(fragment).ok()?).copied()
    }

    /// Who proved to be at an address.
    pub(crate) fn by_address(&self, source: &Source) -> Option<Owner> {
        self.addresses.get(source).map(|held| held.owner)
    }

    /// Lets checks name a session.
    pub(crate) fn add_fragment(&mut self, fragment: &str, key: Key) {
        self.fragments.insert(fragment.to_owned(), key);
    }

    /// Ends that.
    pub(crate) fn remove_fragment(&mut self, fragment: &str) {
        self.fragments.remove(fragment);
    }

    /// Whether somebody may be noted at an address: he is there already, nobody else is, or who
    /// was there has been silent.
    pub(crate) fn may_hold(&self, now: Instant, source: &Source, owner: Owner) -> bool {
        self.addresses.get(source).is_none_or(|held| held.owner == owner || held.is_spent(now))
    }

    /// Notes that a session was heard at an address with something authentic.
    pub(crate) fn hold(&mut self, now: Instant, source: Source, key: Key) {
        let owner = Owner::Session(key);
        match self.addresses.get_mut(&source) {
            Some(held) if held.owner == owner => held.heard = now,
            _ => self.put(now, source, owner),
        }
    }

    /// Notes that a session of another worker was heard at an address.
    pub(crate) fn route(&mut self, now: Instant, source: Source, worker: u8) {
        let owner = Owner::Worker(worker);
        if !self.may_hold(now, &source, owner) {
            return;
        }
        if self.routes >= ROUTES_MAX {
            let spent = |held: &Held| matches!(held.owner, Owner::Worker(_)) && held.is_spent(now);
            self.addresses.retain(|_, held| !spent(held));
            let route = |held: &&Held| matches!(held.owner, Owner::Worker(_));
            self.routes = self.addresses.values().filter(route).count();
        }
        if self.routes < ROUTES_MAX {
            self.put(now, source, owner);
        }
    }

    /// Whether the worker that receives from an address of this worker's session should be told
    /// again that it is alive.
    pub(crate) fn tell(&mut self, now: Instant, source: &Source) -> bool {
        let Some(held) = self.addresses.get_mut(source) else { return false };
        held.heard = now;
        let due = held.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        if due {
            held.told = Some(now);
        }
        due
    }

    /// Forgets an address of a session.
    pub(crate) fn release(&mut self, source: &Source, key: Key) {
        if self.addresses.get(source).is_some_and(|held| held.owner == Owner::Session(key)) {
            self.addresses.remove(source);
        }
    }

    fn put(&mut self, now: Instant, source: Source, owner: Owner) {
        let before = self.addresses.insert(source, Held { owner, heard: now, told: None });
        let route = |owner| usize::from(matches!(owner, Owner::Worker(_)));
        self.routes += route(owner);
        self.routes -= before.map_or(0, |held| route(held.owner));
    }
}

impl Held {
    fn is_spent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) > HOLD
    }
}

#[cfg(test)]
mod tests {
    use super::super::ice::{Link, Path};
    use super::*;

    fn at(port: u16) -> Source {
        Path::udp(std::net::SocketAddr::from(([192, 0, 2, 1], port)), None).source()
    }

    #[test]
    fn an_address_cannot_be_taken_from_a_living_session() {
        let (mut mux, now) = (Mux::default(), Instant::now());
        let after = |s| now + Duration::from_secs(s);
        let (at, victim, thief) = (at(1), Owner::Session(Key(1)), Owner::Session(Key(2)));
        assert!(mux.may_hold(now, &at, victim));
        mux.hold(now, at, Key(1));
        assert!(!mux.may_hold(after(5), &at, thief));
        mux.route(after(5), at, 3);
        assert_eq!(mux.by_address(&at), Some(victim), "nor by a session of another worker");
        mux.hold(after(10), at, Key(1));
        assert!(!mux.may_hold(after(20), &at, thief));
        assert!(mux.may_hold(after(26), &at, thief));
        mux.release(&at, Key(2));
        assert_eq!(mux.by_address(&at), Some(victim));
        mux.release(&at, Key(1));
        assert_eq!(mux.by_address(&at), None);
    }

    #[test]
    fn addresses_of_other_workers_are_as_safe_and_their_number_is_bounded() {
        let (mut mux, now) = (Mux::default(), Instant::now());
        let after = |s| now + Duration::from_secs(s);
        mux.route(now, at(1), 1);
        assert!(!mux.may_hold(after(5), &at(1), Owner::Session(Key(1))));
        mux.route(after(5), at(1), 2);
        assert_eq!(mux.by_address(&at(1)), Some(Owner::Worker(1)));
        assert!(mux.may_hold(after(20), &at(1), Owner::Worker(2)));
        for number in 0..(ROUTES_MAX as u32 + 10) {
            let address = (std::net::Ipv6Addr::from(u128::from(number)), 9).into();
            mux.route(now, Source { address, link: Link::Udp }, 1);
        }
        assert_eq!(mux.addresses.len(), ROUTES_MAX);
        mux.route(after(60), at(2), 1);
        assert_eq!((mux.addresses.len(), mux.routes), (1, 1), "the silent ones gave way");
    }

    #[test]
    fn the_receiving_worker_is_told_now_and_then() {
        let (mut mux, now) = (Mux::default(), Instant::now());
        mux.hold(now, at(1), Key(1));
        assert!(mux.tell(now, &at(1)) && !mux.tell(now + TELL_EVERY / 2, &at(1)));
        mux.hold(now + TELL_EVERY / 2, at(1), Key(1));
        assert!(mux.tell(now + TELL_EVERY, &at(1)));
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
