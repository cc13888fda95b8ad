//! What an ICE-lite agent keeps of one session (RFC 8445 2.5): its credentials, the addresses that
//! proved to know them, and which of those the peer nominated.
//!
//! No checks are sent. An address enters here only with a check whose MESSAGE-INTEGRITY holds.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Instant;

use rand::Rng;
use rand::distr::Alphanumeric;

use super::strays;

/// Addresses of one peer that are remembered; the oldest gives way.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// Candidates that an answer lists.
const CANDIDATES_MAX: usize = 16;

/// Our user name fragment and password of one ICE session (RFC 8445 5.3: 24 and 128 random bits
/// at least; these have 59 and 190).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Fresh ones. The first letter names the worker of the session (see [`super::strays`]).
    pub(crate) fn generate(worker: u8) -> Self {
        let mut random = rand::rng().sample_iter(Alphanumeric).map(char::from);
        let letter = strays::letter(worker);
        let ufrag = std::iter::once(letter).chain(random.by_ref().take(10)).collect();
        Self { ufrag, password: random.take(32).collect() }
    }
}

/// Unguessable text for session URLs and entity tags, 190 bits.
pub(crate) fn secret() -> String {
    rand::rng().sample_iter(Alphanumeric).map(char::from).take(32).collect()
}

/// The same for the URL of a session, of which it names the worker.
pub(crate) fn session_secret(worker: u8) -> String {
    format!("{}{}", strays::letter(worker), secret())
}

/// What carries datagrams between a peer and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Udp,
    /// A TCP connection of this worker (RFC 6544), by its number.
    Tcp(u32),
}

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) address: SocketAddr,
    pub(crate) link: Link,
}

/// A way to the peer: where it is and which of our addresses it reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) remote: SocketAddr,
    /// The address that the peer's datagrams were sent to, if the system told.
    pub(crate) local: Option<IpAddr>,
    pub(crate) link: Link,
}

impl Path {
    /// A way over the shared socket.
    pub(crate) fn udp(remote: SocketAddr, local: Option<IpAddr>) -> Self {
        Self { remote, local, link: Link::Udp }
    }

    /// The peer's end of it.
    pub(crate) fn source(&self) -> Source {
        Source { address: self.remote, link: self.link }
    }
}

/// One session's ICE state.
pub(crate) struct Ice {
    current: Credentials,
    /// Of the peer; checked in addition to our password where the offer told it.
    theirs: String,
    /// What was valid before a restart, until a check with the new ones arrives.
    previous: Option<(Credentials, String)>,
    addresses: Vec<Source>,
    selected: Option<Path>,
    consent: Instant,
}

/// What a verified check changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// An address that proved itself for the first time.
    pub(crate) added: Option<Source>,
    /// An address that gave way.
    pub(crate) forgotten: Option<Source>,
    /// Media goes another way from now on.
    pub(crate) moved: bool,
    /// A user name fragment that is no longer valid after a restart.
    pub(crate) retired: Option<String>,
}

impl Ice {
    /// A session that waits for its first check.
    pub(crate) fn new(now: Instant, ours: Credentials, theirs: String) -> Self {
        Self {
            current: ours,
            theirs,
            previous: None,
            addresses: Vec::new(),
            selected: None,
            consent: now,
        }
    }

    /// The password that goes with a check's user name, if it is one of this session.
    pub(crate) fn password(&self, ours: &[u8], theirs: &[u8]) -> Option<&str> {
        let fits = |have: &Credentials, peer: &str| {
            have.ufrag.as_bytes() == ours && peer.as_bytes() == theirs
        };
        if fits(&self.current, &self.theirs) {
            return Some(&self.current.password);
        }
        let (old, peer) = self.previous.as_ref()?;
        fits(old, peer).then_some(&old.password)
    }

    /// Whether this is the peer's present fragment.
    pub(crate) fn is_theirs(&self, ufrag: &str) -> bool {
        self.theirs == ufrag
    }

    /// Notes a check that was verified with [`Self::password`].
    pub(crate) fn verified(
        &mut self,
        now: Instant,
        ours: &[u8],
        path: Path,
        nominated: bool,
    ) -> Noted {
        let mut noted = Noted::default();
        self.consent = now;
        if self.current.ufrag.as_bytes() == ours {
            noted.retired = self.previous.take().map(|(old, _)| old.ufrag);
        }
        let source = path.source();
        if !self.addresses.contains(&source) {
            if self.addresses.len() == ADDRESSES_MAX {
                let selected = self.selected.map(|path| path.source());
                let oldest = self.addresses.iter().position(|a| Some(*a) != selected);
                noted.forgotten = oldest.map(|index| self.addresses.remove(index));
            }
            self.addresses.push(source);
            noted.added = Some(source);
        }
        if self.selected != Some(path) && (nominated || self.selected.is_none()) {
            noted.moved = true;
            self.selected = Some(path);
        }
        noted
    }

    /// Media that only the peer can have written is consent as well: it speaks from this address.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.consent = now;
    }

    /// When consent was last given.
    pub(crate) fn consent(&self) -> Instant {
        self.consent
    }

    /// The way to the peer, once there is one.
    pub(crate) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// All addresses that proved themselves.
    pub(crate) fn addresses(&self) -> &[Source] {
        &self.addresses
    }

    /// Forgets an address that is no more: a connection that was closed.
    pub(crate) fn forget(&mut self, gone: Source) {
        self.addresses.retain(|source| *source != gone);
        self.selected = self.selected.filter(|path| path.source() != gone);
    }

    /// Credentials from before stay valid until the peer uses the new ones (RFC 8445 9). Returns
    /// a fragment that goes out of use at once: that of a restart which was never followed.
    pub(crate) fn restart(&mut self, ours: Credentials, theirs: String) -> Option<String> {
        let before = (
            std::mem::replace(&mut self.current, ours),
            std::mem::replace(&mut self.theirs, theirs),
        );
        match self.previous {
            Some(_) => Some(before.0.ufrag),
            None => {
                self.previous = Some(before);
                None
            }
        }
    }

    /// Our fragments that checks may use.
    pub(crate) fn fragments(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous.as_ref().map(|(old, _)| old.ufrag.as_str());
        std::iter::once(self.current.ufrag.as_str()).chain(previous)
    }
}

/// The addresses at which peers can reach a socket bound to `local`, best first, and `advertised`
/// before them all. Loopback is listed only where the socket is bound to it or nothing else is
/// there.
///
/// # Errors
/// An advertised name cannot be resolved.
pub(crate) fn candidates(local: SocketAddr, advertised: &[String]) -> io::Result<Vec<SocketAddr>> {
    let mut list: Vec<SocketAddr> = Vec::new();
    for host in advertised {
        let found = (host.as_str(), local.port()).to_socket_addrs().map_err(|error| {
            io::Error::new(error.kind(), format!("advertised host {host:?}: {error}"))
        })?;
        list.extend(found);
    }
    if local.ip().is_unspecified() {
        let mut own: Vec<IpAddr> = rtc_shared::ifaces::ifaces()
            .unwrap_or_default()
            .into_iter()
            .filter_map(|interface| Some(interface.addr?.ip()))
            .filter(|ip| ip.is_ipv4() || (local.is_ipv6() && !link_local(ip)))
            .collect();
        own.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
        if own.iter().any(|ip| !ip.is_loopback()) {
            own.retain(|ip| !ip.is_loopback());
        }
        list.extend(own.into_iter().map(|ip| SocketAddr::new(ip, local.port())));
    } else {
        list.push(local);
    }
    let mut seen = std::collections::HashSet::new();
    list.retain(|address| seen.insert(*address));
    list.truncate(CANDIDATES_MAX);
    Ok(list)
}

/// Addresses that mean nothing without an interface's name.
fn link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfe80)
}

/// What a session's media may travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transports {
    pub(crate) udp: bool,
    pub(crate) tcp: bool,
}

impl Transports {
    /// What `?transport=` wishes: `udp`, `tcp` or `all`, where `tcp` says whether that is served.
    ///
    /// # Errors
    /// Why there is no such way.
    pub(crate) fn of_query(query: &str, tcp: bool) -> Result<Self, String> {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        match pairs.find(|(name, _)| name == "transport").as_ref().map(|(_, value)| value.as_ref())
        {
            None | Some("all") => Ok(Self { udp: true, tcp }),
            Some("udp") => Ok(Self { udp: true, tcp: false }),
            Some("tcp") if tcp => Ok(Self { udp: false, tcp: true }),
            Some("tcp") => Err("media over TCP is not served here".into()),
            Some(_) => Err("transport is one of udp, tcp and all".into()),
        }
    }
}

/// The candidate lines of an answer or fragment (RFC 8839 5.1, RFC 6544 4.5), all of them host
/// candidates; what is sent over TCP is wanted least.
pub(crate) fn candidate_lines(candidates: &[SocketAddr], transports: Transports) -> String {
    let mut text = String::new();
    let mut foundation = 0;
    let mut line = |address: &SocketAddr, transport, priority: u32, end| {
        foundation += 1;
        let (ip, port) = (address.ip(), address.port());
        text.push_str(&format!(
            "a=candidate:{foundation} 1 {transport} {priority} {ip} {port} typ host{end}\r\n"
        ));
    };
    if transports.udp {
        for (index, address) in (0..).zip(candidates) {
            line(address, "udp", (126 << 24) + ((65_535 - index) << 8) + 255, "");
        }
    }
    if transports.tcp {
        for (index, address) in (0..).zip(candidates) {
            // RFC 6544 4.2: a host's passive end has direction preference 4.
            let preference = (4 << 13) + 8191 - index;
            line(address, "tcp", (90 << 24) + (preference << 8) + 255, " tcptype passive");
        }
    }
    text.push_str("a=end-of-candidates\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::udp(SocketAddr::from(([192, 0, 2, 1], port)), None)
    }

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.into(), password: format!("password of {name}") }
    }

    #[test]
    fn the_first_address_is_used_until_another_is_nominated() {
        let now = Instant::now();
        let mut ice = Ice::new(now, credentials("a"), "peer".into());
        assert_eq!(ice.password(b"a", b"somebody"), None);
        assert_eq!(ice.password(b"a", b"peer"), Some("password of a"));
        assert!(ice.verified(now, b"a", path(1), false).moved);
        let second = ice.verified(now, b"a", path(2), false);
        assert_eq!((second.added, second.moved), (Some(path(2).source()), false));
        assert!(ice.verified(now, b"a", path(2), true).moved);
        assert_eq!(ice.selected(), Some(path(2)));
        for port in 3..20 {
            ice.verified(now, b"a", path(port), false);
        }
        assert_eq!(ice.addresses().len(), ADDRESSES_MAX);
        assert!(ice.addresses().contains(&path(2).source()));
    }

    #[test]
    fn old_credentials_live_until_the_new_ones_are_used() {
        let now = Instant::now();
        let mut ice = Ice::new(now, credentials("a"), "peer".into());
        assert_eq!(ice.restart(credentials("b"), "peer2".into()), None);
        assert!(ice.password(b"a", b"peer").is_some());
        assert!(ice.password(b"a", b"peer2").is_none());
        assert_eq!(ice.verified(now, b"a", path(1), true).retired, None);
        assert_eq!(ice.verified(now, b"b", path(1), true).retired.as_deref(), Some("a"));
        assert!(ice.password(b"a", b"peer").is_none());
        assert!(ice.password(b"b", b"peer2").is_some());
    }

    #[test]
    fn candidates_are_those_of_the_transports_that_a_client_wishes() {
        let lines = |query| {
            let transports = Transports::of_query(query, true)?;
            Ok::<_, String>(candidate_lines(&[path(9).remote], transports))
        };
        let (udp, tcp) = (" udp 2130706431 192.0.2.1 9 typ host\r\n", " tcptype passive\r\n");
        let both = lines("user=a").unwrap();
        assert!(both.contains(udp) && both.contains(tcp), "{both}");
        let one = lines("transport=tcp").unwrap();
        assert!(!one.contains(udp) && one.contains(tcp), "{one}");
        assert!(!lines("transport=udp").unwrap().contains(tcp));
        assert!(lines("transport=pigeon").unwrap_err().contains("udp, tcp and all"));
        assert!(Transports::of_query("transport=tcp", false).is_err());
    }

    #[test]
    fn a_socket_on_loopback_has_one_candidate() {
        let local = SocketAddr::from(([127, 0, 0, 1], 8189));
        assert_eq!(candidates(local, &[]).unwrap(), [local]);
        let more = candidates(local, &["192.0.2.9".into(), "127.0.0.1".into()]).unwrap();
        assert_eq!(more, [SocketAddr::from(([192, 0, 2, 9], 8189)), local]);
    }
}
