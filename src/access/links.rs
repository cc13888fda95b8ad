//! Links that let somebody in until a time, without any account: `?exp=SECONDS&sig=CODE`.
//!
//! The code is HMAC-SHA256 (RFC 2104) of what may be done, the stream and the end, in base64 for URLs
//! without padding. It is good for exactly one stream. A core: time comes in.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ingest::StreamName;
use serde::Serialize;

use super::{Asked, passwords};
use crate::config::Right;
use crate::signing;

/// Goes into each code, so that the secret signs nothing else by accident.
const PURPOSE: &[u8] = b"millstream link 1";

/// The longest time that a link can be made for.
pub const LIFETIME_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Makes and checks links.
pub struct Links {
    secret: String,
}

/// What a request's query holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No signature.
    None,
    /// A good one.
    Right,
    /// A bad or old one.
    Wrong(&'static str),
}

impl Links {
    /// Links that this secret signs.
    pub fn new(secret: &str) -> Self {
        Self { secret: secret.to_owned() }
    }

    /// The query that lets somebody do this to that stream until `end`.
    pub fn query(&self, right: Right, stream: &StreamName, end: SystemTime) -> String {
        let end = signing::seconds(end);
        format!("exp={end}&sig={}", self.code(right, stream.as_str(), end))
    }

    pub(super) fn check(&self, asked: &Asked<'_>, now: SystemTime) -> Found {
        let (mut end, mut code) = (None, None);
        // Pages hand a link's query on as a bearer token.
        let texts = [asked.query, asked.token];
        for (key, value) in texts.iter().flat_map(|t| url::form_urlencoded::parse(t.as_bytes())) {
            match &*key {
                "exp" => end = value.parse::<u64>().ok(),
                "sig" => code = Some(value.into_owned()),
                _ => {}
            }
        }
        let Some(code) = code else { return Found::None };
        let Some(end) = end else { return Found::Wrong("a signed link without its end") };
        let wanted = self.code(asked.right, asked.stream, end);
        if !passwords::same(code.as_bytes(), wanted.as_bytes()) {
            return Found::Wrong("a link with a wrong signature");
        }
        match signing::seconds(now) < end {
            true => Found::Right,
            false => Found::Wrong("a link that has run out"),
        }
    }

    fn code(&self, right: Right, stream: &str, end: u64) -> String {
        let end = end.to_string();
        let parts = [
            PURPOSE,
            b"\n",
            right.as_str().as_bytes(),
            b"\n",
            stream.as_bytes(),
            b"\n",
            end.as_bytes(),
        ];
        URL_SAFE_NO_PAD.encode(signing::code(self.secret.as_bytes(), &parts))
    }
}

/// A link, ready for people.
#[derive(Debug, Serialize)]
pub struct Made {
    /// What is put behind an address of the stream.
    pub query: String,
    /// When it ends, in seconds of Unix time.
    pub end: u64,
    /// Whole addresses by what they are for.
    pub urls: BTreeMap<&'static str, String>,
}

impl Made {
    /// A link for so many seconds from `now` on, to a node that people reach at `base`.
    ///
    /// # Errors
    /// A name, an action or a time that is none.
    pub fn new(
        links: &Links,
        action: &str,
        stream: &str,
        seconds: u64,
        base: &str,
        now: SystemTime,
    ) -> Result<Self, String> {
        let right = match action {
            "read" => Right::Read,
            "publish" => Right::Publish,
            "playback" => Right::Playback,
            other => return Err(format!("action {other:?} is not read, publish or playback")),
        };
        let stream = match right {
            Right::Publish => StreamName::for_publisher(stream),
            _ => StreamName::parse(stream),
        };
        let stream = stream.map_err(|error| error.to_string())?;
        let lifetime = Duration::from_secs(seconds);
        if lifetime.is_zero() || lifetime > LIFETIME_MAX {
            return Err(format!("seconds: 1 to {} are allowed", LIFETIME_MAX.as_secs()));
        }
        let end = now + lifetime;
        let query = links.query(right, &stream, end);
        let base = base.trim_end_matches('/');
        let url = |path: &str| format!("{base}/{stream}/{path}?{query}");
        let urls = match right {
            Right::Read => vec![("page", ""), ("whep", "whep"), ("hls", "index.m3u8")],
            Right::Publish => vec![("page", "publish"), ("whip", "whip")],
            _ => Vec::new(),
        };
        let urls = urls.into_iter().map(|(kind, path)| (kind, url(path))).collect();
        Ok(Self { end: signing::seconds(end), urls, query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_one_stream_one_right_and_until_its_end() {
        let links = Links::new("secret");
        let cam = StreamName::parse("a/cam").unwrap();
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let before = end - Duration::from_secs(1);
        let query = links.query(Right::Read, &cam, end);
        let check = |links: &Links, right, stream, query: &str, now| {
            let ip = [127, 0, 0, 1].into();
            let asked = Asked { right, stream, ip, user: "", password: "", token: "", query };
            links.check(&asked, now)
        };
        assert_eq!(check(&links, Right::Read, "a/cam", &query, before), Found::Right);
        assert_eq!(
            check(&links, Right::Read, "a/cam", &format!("x=1&{query}"), before),
            Found::Right
        );
        assert_eq!(check(&links, Right::Read, "a/cam", "x=1", before), Found::None);
        for (links, right, stream, query, now) in [
            (&links, Right::Read, "a/cam", query.clone(), end),
            (&links, Right::Publish, "a/cam", query.clone(), before),
            (&links, Right::Read, "a/cam-out", query.clone(), before),
            (&links, Right::Read, "a/cam", query.replace("19000", "29000"), before),
            (&links, Right::Read, "a/cam", query.split_once('&').unwrap().1.to_owned(), before),
            (&Links::new("other"), Right::Read, "a/cam", query.clone(), before),
        ] {
            let found = check(links, right, stream, &query, now);
            assert!(matches!(found, Found::Wrong(_)), "{right:?} {stream} {query}");
        }
    }
}
