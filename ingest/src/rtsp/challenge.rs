//! A server's wish for credentials (RFC 7616, 7617), and the answer to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::digest::{Algorithm, parameters};

/// One way to show that a password is known, weaker ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scheme {
    Basic,
    Digest(Algorithm),
}

/// What a server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: Scheme,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// Whether the answer covers a number and a nonce of ours (`qop=auth`).
    counts: bool,
    /// The proof before was right, its nonce too old.
    stale: bool,
}

impl Challenge {
    /// The strongest that we know of a `WWW-Authenticate` header, in which several may stand one
    /// behind the other.
    pub(super) fn read(value: &str) -> Option<Self> {
        let mut found: Vec<Option<Self>> = Vec::new();
        for (key, value) in parameters(value) {
            // The first parameter of each has the scheme in front of it.
            let key = match key.rsplit_once(char::is_whitespace) {
                Some((scheme, key)) => {
                    found.push(Self::of(scheme.trim()));
                    key
                }
                None => &key[..],
            };
            let Some(Some(challenge)) = found.last_mut() else { continue };
            match key.to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value,
                "nonce" => challenge.nonce = value,
                "opaque" => challenge.opaque = Some(value),
                "stale" => challenge.stale = value.eq_ignore_ascii_case("true"),
                "qop" => challenge.counts = value.split(',').any(|one| one.trim() == "auth"),
                "algorithm" => match Algorithm::named(&value) {
                    Some(algorithm) => challenge.scheme = Scheme::Digest(algorithm),
                    None => *found.last_mut()? = None,
                },
                _ => {}
            }
        }
        found.into_iter().flatten().max_by_key(|challenge| challenge.scheme)
    }

    fn of(scheme: &str) -> Option<Self> {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "basic" => Scheme::Basic,
            "digest" => Scheme::Digest(Algorithm::Md5),
            _ => return None,
        };
        let (realm, nonce, opaque) = (String::new(), String::new(), None);
        Some(Self { scheme, realm, nonce, opaque, counts: false, stale: false })
    }

    /// Whether only the nonce of the proof before was wrong.
    pub(super) const fn is_stale(&self) -> bool {
        self.stale
    }

    /// The value of `Authorization` for a request; `count` rises with each, `own` is random.
    pub(super) fn answer(
        &self,
        (user, password): (&str, &str),
        (method, uri): (&str, &str),
        count: u32,
        own: &str,
    ) -> String {
        let Scheme::Digest(algorithm) = self.scheme else {
            return format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        };
        let Self { realm, nonce, .. } = self;
        let secret = algorithm.hash(&format!("{user}:{realm}:{password}"));
        let what = algorithm.hash(&format!("{method}:{uri}"));
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let (response, more) = match self.counts {
            true => (
                algorithm.hash(&format!("{secret}:{nonce}:{count:08x}:{own}:auth:{what}")),
                format!(", qop=auth, nc={count:08x}, cnonce=\"{own}\""),
            ),
            false => (algorithm.hash(&format!("{secret}:{nonce}:{what}")), String::new()),
        };
        let opaque = self.opaque.as_ref();
        let opaque = opaque.map_or(String::new(), |text| format!(", opaque=\"{}\"", quoted(text)));
        format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={}{more}{opaque}",
            quoted(user),
            quoted(realm),
            quoted(nonce),
            algorithm.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::digest::{self, Credentials};

    #[test]
    fn what_we_answer_we_take() {
        let all = digest::challenges("n1", true).join(", ");
        let strongest = Challenge::read(&all).unwrap();
        assert_eq!(strongest.scheme, Scheme::Digest(Algorithm::Sha256));
        let md5 =
            Challenge::read("Digest realm=\"Millstream\", nonce=\"n1\", qop=\"auth,auth-int\"");
        for challenge in [strongest, md5.unwrap()] {
            let request = ("ANNOUNCE", "rtsp://h/cam");
            let answer = challenge.answer(("tom", "pa\"ss"), request, 3, "own");
            let Some(Credentials::Digest(proof)) = digest::read(&answer, "ANNOUNCE") else {
                panic!("{answer}")
            };
            assert!(proof.proves("pa\"ss", "n1"), "{answer}");
            assert!(!proof.proves("pass", "n1") && !answer.contains("pa\"ss"));
        }
        let basic = Challenge::read("Basic realm=\"a, Digest b=c\"").unwrap();
        let answer = basic.answer(("tom", "x"), ("ANNOUNCE", ""), 1, "");
        assert_eq!(answer, "Basic dG9tOng=");
    }

    #[test]
    fn what_we_do_not_know_is_passed_over() {
        assert_eq!(Challenge::read(""), None);
        assert_eq!(Challenge::read("Kerberos realm=\"x\""), None);
        assert_eq!(Challenge::read("Digest realm=\"x\", algorithm=MD5-sess"), None);
        let both = "Digest realm=\"x\", algorithm=SHA-512, Basic realm=\"y\"";
        assert_eq!(Challenge::read(both).unwrap().scheme, Scheme::Basic);
    }
}
