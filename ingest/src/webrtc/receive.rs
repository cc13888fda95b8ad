//! What reaches a worker: datagrams of its own socket, strays that others hand over, and TCP
//! connections. Nothing here trusts an address that no verified check came from.

use std::time::Instant;

use super::canonical;
use super::counters::add;
use super::ice::{Link, Path, Source};
use super::mux::{Content, Key, Owner};
use super::socket::{Inbox, Send as _};
use super::strays::{self, Note};
use super::stun::Check;
use super::worker::{TURN, Worker};

impl Worker {
    /// Receives what waits, a few batches of it.
    pub(super) fn receive(&mut self, inbox: &mut Inbox) {
        let wildcard = self.settings.local.ip().is_unspecified();
        for _ in 0..TURN {
            if !self.port.receive(inbox) {
                return;
            }
            let now = Instant::now();
            for (path, datagram) in inbox.datagrams(wildcard) {
                add(&self.settings.counters.datagrams_received, 1);
                if !self.arrived(now, path, datagram) {
                    add(&self.settings.counters.datagrams_dropped, 1);
                }
            }
        }
    }

    /// Takes a datagram of this worker's socket; false when it is for nobody.
    fn arrived(&mut self, now: Instant, path: Path, datagram: &[u8]) -> bool {
        let source = path.source();
        match Content::of(datagram) {
            Content::Stun => {
                let Some(check) = Check::parse(datagram) else { return false };
                match strays::worker_of(check.ours()).filter(|other| self.others.knows(*other)) {
                    Some(other) => {
                        // Whose address it is already cannot be moved by a check of somebody else.
                        self.mux.may_hold(now, &source, Owner::Worker(other))
                            && self.hand_over(other, path, datagram)
                    }
                    None => self.check(now, path, check, None),
                }
            }
            content => match self.mux.by_address(&source) {
                Some(Owner::Session(key)) => {
                    self.datagram(now, key, content, datagram);
                    true
                }
                Some(Owner::Worker(other)) => self.hand_over(other, path, datagram),
                None => false,
            },
        }
    }

    fn hand_over(&self, other: u8, path: Path, datagram: &[u8]) -> bool {
        let taken = self.others.hand_over(other, path, datagram);
        let counters = &self.settings.counters;
        add(if taken { &counters.strays } else { &counters.strays_dropped }, 1);
        taken
    }

    /// Takes what another worker or the listener for connections has for this one.
    pub(super) fn note(&mut self, note: Note) {
        let now = Instant::now();
        match note {
            Note::Datagram { by, path, datagram } => self.stray(now, by, path, &datagram),
            Note::Verified { path, owner, answer } => {
                self.mux.route(now, path.source(), owner);
                self.port.send(path, &answer, answer.len());
            }
            Note::Held { source, owner } => self.mux.route(now, source, owner),
            Note::Connection { stream, first } => self.connection(now, stream, &first),
        }
    }

    fn stray(&mut self, now: Instant, by: u8, path: Path, datagram: &[u8]) {
        let source = path.source();
        let known = match Content::of(datagram) {
            Content::Stun => {
                Check::parse(datagram).is_some_and(|check| self.check(now, path, check, Some(by)))
            }
            content => match self.mux.by_address(&source) {
                Some(Owner::Session(key)) => {
                    self.datagram(now, key, content, datagram);
                    let heard = self.sessions.get(&key).is_some_and(|s| s.heard_at(now));
                    if heard && self.mux.tell(now, &source) {
                        // A full inbox loses it; a later datagram tells again.
                        self.others.tell(by, Note::Held { source, owner: self.others.me() });
                    }
                    true
                }
                _ => false,
            },
        };
        if !known {
            add(&self.settings.counters.datagrams_dropped, 1);
        }
    }

    fn connection(&mut self, now: Instant, stream: std::net::TcpStream, first: &[u8]) {
        let events = self.events.clone();
        let Some((link, remote)) = self.port.links.add(stream, events) else { return };
        let path = Path { remote, local: None, link: Link::Tcp(link) };
        let verified = Check::parse(first).is_some_and(|check| self.check(now, path, check, None));
        if !verified {
            self.port.links.close(link);
        }
    }

    /// Takes a datagram of a connection.
    pub(super) fn linked(&mut self, now: Instant, link: u32, datagram: &[u8]) {
        let Some(remote) = self.port.links.remote(link) else { return };
        add(&self.settings.counters.datagrams_received, 1);
        let path = Path { remote, local: None, link: Link::Tcp(link) };
        let known = match Content::of(datagram) {
            Content::Stun => {
                Check::parse(datagram).is_some_and(|check| self.check(now, path, check, None))
            }
            content => match self.mux.by_address(&path.source()) {
                Some(Owner::Session(key)) => {
                    self.datagram(now, key, content, datagram);
                    true
                }
                _ => false,
            },
        };
        if !known {
            add(&self.settings.counters.datagrams_dropped, 1);
        }
    }

    /// A connection has ended.
    pub(super) fn hung_up(&mut self, link: u32) {
        let Some(address) = self.port.links.remote(link) else { return };
        self.port.links.close(link);
        let source = Source { address, link: Link::Tcp(link) };
        if let Some(Owner::Session(key)) = self.mux.by_address(&source) {
            self.mux.release(&source, key);
            if let Some(session) = self.sessions.get_mut(&key) {
                session.disconnected(source);
            }
        }
    }

    /// Answers a connectivity check, which another worker may have handed over; false for one that
    /// is not for a session of ours.
    fn check(&mut self, now: Instant, path: Path, mut check: Check, by: Option<u8>) -> bool {
        let Some(key) = self.mux.by_fragment(check.ours()) else { return false };
        let Some(session) = self.sessions.get_mut(&key) else { return false };
        let crypto = self.provider.crypto();
        let password = session.ice.password(check.ours(), check.theirs()).map(str::to_owned);
        let Some(password) = password else { return false };
        let Some(verified) = check.verify(&password, crypto) else { return false };
        if verified.role_conflict {
            if let Some(answer) = check.conflict(&password, crypto) {
                self.port.send(path, &answer, answer.len());
            }
            return true;
        }
        let source = path.source();
        if !self.mux.may_hold(now, &source, Owner::Session(key)) {
            return false;
        }
        self.mux.hold(now, source, key);
        if let Some(answer) = check.success(canonical(path.remote), &password, crypto) {
            match by {
                Some(by) => {
                    // A full inbox loses it, as the network might: the peer asks again.
                    self.others.tell(by, Note::Verified { path, owner: self.others.me(), answer });
                }
                None => {
                    self.port.send(path, &answer, answer.len());
                }
            }
        }
        let nominated = verified.nominated;
        let mut noted = Default::default();
        self.with(now, key, |session, io, _| {
            let (change, begun) = session.verified(io, check.ours(), path, nominated);
            noted = change;
            begun
        });
        if let Some(source) = noted.forgotten {
            self.mux.release(&source, key);
            if let Link::Tcp(link) = source.link {
                self.port.links.close(link);
            }
        }
        if let Some(fragment) = noted.retired {
            self.mux.remove_fragment(&fragment);
        }
        true
    }

    fn datagram(&mut self, now: Instant, key: Key, content: Content, datagram: &[u8]) {
        self.with(now, key, |session, io, stream| {
            io.path = session.ice.selected();
            session.datagram(io, stream, content, datagram)
        });
    }
}
