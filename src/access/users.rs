//! Users of the settings: where they may come from and what they may do, made ready for asking.

use std::net::IpAddr;

use regex::Regex;

use super::passwords;
use crate::config::{Permission, Right, User, pattern};

/// The name of a user that everybody is.
const ANY: &str = "any";

/// Users in the order of the settings.
#[derive(Default)]
pub(super) struct Users(Vec<Entry>);

/// One of them.
pub(super) struct Entry {
    name: String,
    /// What they must give; `None`: nothing.
    pub password: Option<String>,
    ranges: Vec<Range>,
    rights: Rights,
}

impl Users {
    /// Makes users ready.
    ///
    /// # Errors
    /// What is wrong with which user.
    pub(super) fn new(users: &[User]) -> Result<Self, String> {
        let entry = |(index, user): (usize, &User)| {
            Entry::new(user).map_err(|error| format!("auth.users[{index}]: {error}"))
        };
        users.iter().enumerate().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anybody may do this, wherever from.
    pub(super) fn grant(&self, right: Right) -> bool {
        self.0.iter().any(|entry| entry.rights.any(right))
    }

    /// Those who may do this from there and are called so; their passwords are still to be checked.
    pub(super) fn candidates(
        &self,
        right: Right,
        stream: &str,
        from: IpAddr,
        name: &str,
    ) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| {
            let known =
                entry.password.is_none() || passwords::same(entry.name.as_bytes(), name.as_bytes());
            known && entry.comes_from(from) && entry.rights.allow(right, stream)
        })
    }

    /// Names and passwords of those who may do this to some stream.
    pub(super) fn passwords_for(&self, right: Right) -> impl Iterator<Item = (&String, &String)> {
        let able = self.0.iter().filter(move |entry| entry.rights.any(right));
        able.filter_map(|entry| Some((&entry.name, entry.password.as_ref()?)))
    }

    /// The passwords of those who are called so, whatever they may do.
    pub(super) fn passwords_of(&self, name: &str) -> impl Iterator<Item = &String> {
        let called = move |entry: &&Entry| passwords::same(entry.name.as_bytes(), name.as_bytes());
        self.0.iter().filter(called).filter_map(|entry| entry.password.as_ref())
    }
}

impl Entry {
    fn new(user: &User) -> Result<Self, String> {
        if user.user.is_empty() {
            return Err("user is empty: write a name, or \"any\"".into());
        }
        let anybody = user.user == ANY;
        if anybody && !user.password.is_empty() {
            return Err("user \"any\" has no password".into());
        }
        if !anybody && user.password.is_empty() {
            return Err(format!("user {:?} needs a password", user.user));
        }
        passwords::check_form(&user.password).map_err(|error| format!("password {error}"))?;
        Ok(Self {
            name: user.user.clone(),
            password: (!anybody).then(|| user.password.clone()),
            ranges: user.ips.iter().map(|text| Range::parse(text)).collect::<Result<_, _>>()?,
            rights: Rights::new(&user.permissions)?,
        })
    }

    fn comes_from(&self, ip: IpAddr) -> bool {
        self.ranges.is_empty() || self.ranges.iter().any(|range| range.holds(ip))
    }
}

/// What somebody may do.
pub(super) struct Rights(Vec<(Right, Streams)>);

enum Streams {
    All,
    One(String),
    Matching(Regex),
}

impl Rights {
    /// Makes permissions ready.
    ///
    /// # Errors
    /// A regular expression that is none.
    pub(super) fn new(permissions: &[Permission]) -> Result<Self, String> {
        let mut rights = Vec::new();
        for Permission { action, path } in permissions {
            let streams = match pattern(path).map_err(|error| format!("path {path:?}: {error}"))? {
                Some(pattern) => Streams::Matching(pattern),
                None if path.is_empty() => Streams::All,
                None => Streams::One(path.trim_matches('/').to_owned()),
            };
            rights.push((*action, streams));
        }
        Ok(Self(rights))
    }

    fn any(&self, right: Right) -> bool {
        self.0.iter().any(|(allowed, _)| *allowed == right)
    }

    /// Whether this may be done to that stream; `api` and `metrics` concern none.
    pub(super) fn allow(&self, right: Right, stream: &str) -> bool {
        let concerns = |streams: &Streams| match streams {
            Streams::All => true,
            _ if matches!(right, Right::Api | Right::Metrics) => true,
            Streams::One(name) => name == stream,
            Streams::Matching(pattern) => pattern.is_match(stream),
        };
        self.0.iter().any(|(allowed, streams)| *allowed == right && concerns(streams))
    }
}

/// A range of addresses (RFC 4632, RFC 4291 2.3).
struct Range {
    base: IpAddr,
    bits: u32,
}

impl Range {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("ips: {text:?} is no address and no range such as 10.0.0.0/8");
        let (base, bits) =
            text.split_once('/').map_or((text, None), |(base, bits)| (base, Some(bits)));
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let all = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > all { Err(wrong()) } else { Ok(Self { base, bits }) }
    }

    fn holds(&self, ip: IpAddr) -> bool {
        let top = |bits: u128, width: u32| bits.checked_shr(width - self.bits).unwrap_or(0);
        match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                top(base.to_bits().into(), 32) == top(ip.to_bits().into(), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                top(base.to_bits(), 128) == top(ip.to_bits(), 128)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, password: &str, ips: &[&str], permissions: &[(Right, &str)]) -> User {
        let permission = |(action, path): &(Right, &str)| Permission {
            action: *action,
            path: (*path).to_owned(),
        };
        User {
            user: name.into(),
            password: password.into(),
            ips: ips.iter().map(|text| (*text).to_owned()).collect(),
            permissions: permissions.iter().map(permission).collect(),
        }
    }

    #[test]
    fn a_user_may_do_what_is_said_to_the_streams_that_are_said_from_there() {
        let users = Users::new(&[
            user("any", "", &[], &[(Right::Read, "lobby")]),
            user("ann", "x", &["10.0.0.0/8", "::1"], &[(Right::Publish, "~^cam\\d+$")]),
        ])
        .unwrap();
        let count = |right, stream, ip: &str, name| {
            users.candidates(right, stream, ip.parse().unwrap(), name).count()
        };
        assert_eq!(count(Right::Read, "lobby", "8.8.8.8", ""), 1);
        assert_eq!(count(Right::Read, "cam1", "8.8.8.8", ""), 0);
        assert_eq!(count(Right::Publish, "cam1", "10.9.9.9", "ann"), 1);
        assert_eq!(count(Right::Publish, "cam1", "::ffff:10.9.9.9", "ann"), 1);
        assert_eq!(count(Right::Publish, "cam1", "::1", "ann"), 1);
        assert_eq!(count(Right::Publish, "cam1", "11.9.9.9", "ann"), 0);
        assert_eq!(count(Right::Publish, "cam1", "10.9.9.9", "eve"), 0);
        assert_eq!(count(Right::Publish, "camera", "10.9.9.9", "ann"), 0);
        assert_eq!(count(Right::Playback, "cam1", "10.9.9.9", "ann"), 0);
        assert!(users.grant(Right::Publish) && !users.grant(Right::Api));
    }

    #[test]
    fn what_is_wrong_with_a_user_is_said() {
        let check = |user: User, wanted: &str| {
            let error = Users::new(&[user]).err().unwrap();
            assert!(error.starts_with("auth.users[0]: ") && error.contains(wanted), "{error}");
        };
        check(user("", "x", &[], &[]), "user is empty");
        check(user("ann", "", &[], &[]), "needs a password");
        check(user("any", "x", &[], &[]), "has no password");
        check(user("ann", "argon2:x", &[], &[]), "argon2");
        check(user("ann", "x", &["10.0.0.0/33"], &[]), "10.0.0.0/33");
        check(user("ann", "x", &[], &[(Right::Read, "~(")]), "~(");
    }

    #[test]
    fn the_whole_internet_is_a_range() {
        assert!(Range::parse("0.0.0.0/0").unwrap().holds("203.0.113.9".parse().unwrap()));
        assert!(Range::parse("::/0").unwrap().holds("2001:db8::1".parse().unwrap()));
        assert!(!Range::parse("::/0").unwrap().holds("203.0.113.9".parse().unwrap()));
    }
}
