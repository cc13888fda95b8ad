//! Credentials of RTSP: Basic (RFC 7617) and Digest with SHA-256 and MD5 (RFC 7616), which clients
//! know from HTTP.
//!
//! Challenges go out as SHA-256, MD5, Basic: clients that take the strongest one that they know
//! and those that take the last Digest both find theirs.

use std::fmt::Write as _;

use base64::Engine as _;
use md5::Digest as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// What we call ourselves in challenges.
pub(super) const REALM: &str = "Millstream";

/// How proofs are hashed, the weaker one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    #[default]
    Md5,
    Sha256,
}

impl Algorithm {
    /// By its name in a header.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256].into_iter().find(|one| name.eq_ignore_ascii_case(one.name()))
    }

    /// The one whose hashes have so many hexadecimal digits.
    const fn of_digits(count: usize) -> Option<Self> {
        match count {
            32 => Some(Self::Md5),
            64 => Some(Self::Sha256),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// In hexadecimal digits.
    pub(super) fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex::encode(md5::Md5::digest(text.as_bytes())),
            Self::Sha256 => hex::encode(Sha256::digest(text.as_bytes())),
        }
    }
}

/// Credentials of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A name and a password in the clear.
    Basic { user: String, password: String },
    /// A bearer token.
    Bearer(String),
    /// Proof that a password is known.
    Digest(Box<Proof>),
}

/// The parts of a Digest answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) user: String,
    algorithm: Algorithm,
    realm: String,
    nonce: String,
    uri: String,
    response: String,
    /// `qop`, `nc` and `cnonce`, where the client uses them.
    quality: Option<[String; 3]>,
    method: &'static str,
}

/// Reads an `Authorization` header of a request with this method. `None` for what cannot be read.
pub(super) fn read(value: &str, method: &'static str) -> Option<Credentials> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (user, password) = text.split_once(':')?;
            Some(Credentials::Basic { user: user.into(), password: password.into() })
        }
        "bearer" => Some(Credentials::Bearer(rest.trim().into())),
        "digest" => {
            let mut proof = Proof { method, ..Proof::default() };
            let (mut qop, mut count, mut nonce) = (String::new(), String::new(), String::new());
            let mut algorithm = None;
            for (key, value) in parameters(rest) {
                match key.to_ascii_lowercase().as_str() {
                    "username" => proof.user = value,
                    "realm" => proof.realm = value,
                    "nonce" => proof.nonce = value,
                    "uri" => proof.uri = value,
                    "response" => proof.response = value,
                    "qop" => qop = value,
                    "nc" => count = value,
                    "cnonce" => nonce = value,
                    "algorithm" => algorithm = Some(Algorithm::named(&value)?),
                    _ => {}
                }
            }
            // `http-auth` does not name it where the challenge names no quality of protection.
            let by_length = Algorithm::of_digits(proof.response.len());
            proof.algorithm = algorithm.or(by_length).unwrap_or_default();
            if qop == "auth" {
                proof.quality = Some([qop, count, nonce]);
            } else if !qop.is_empty() {
                return None;
            }
            Some(Credentials::Digest(Box::new(proof)))
        }
        _ => None,
    }
}

/// `key=value` and `key="value"`, separated by commas.
pub(super) fn parameters(mut rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace());
        let value;
        (value, rest) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next() {
                        None => break quoted.len(),
                        Some((at, '"')) => break at + 1,
                        Some((_, '\\')) => value.extend(chars.next().map(|(_, escaped)| escaped)),
                        Some((_, plain)) => value.push(plain),
                    }
                };
                (value, &quoted[end..])
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.push((key.to_owned(), value));
    }
    found
}

impl Proof {
    /// Whether it proves knowledge of `password` to the challenge with this nonce.
    pub(super) fn proves(&self, password: &str, nonce: &str) -> bool {
        let hash = |text: &str| self.algorithm.hash(text);
        let secret = hash(&format!("{}:{REALM}:{password}", self.user));
        let what = hash(&format!("{}:{}", self.method, self.uri));
        let expected = match &self.quality {
            Some([qop, count, own]) => {
                hash(&format!("{secret}:{nonce}:{count}:{own}:{qop}:{what}"))
            }
            None => hash(&format!("{secret}:{nonce}:{what}")),
        };
        let same = expected.as_bytes().ct_eq(self.response.to_ascii_lowercase().as_bytes());
        bool::from(same) && self.nonce == nonce && self.realm == REALM
    }
}

/// The challenges of a 401, one header line each.
pub(super) fn challenges(nonce: &str, digest: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if digest {
        for algorithm in ["SHA-256", "MD5"] {
            let mut line = String::new();
            let _ =
                write!(line, "Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm={algorithm}");
            lines.push(line);
        }
    }
    lines.push(format!("Basic realm=\"{REALM}\""));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(header: &str, method: &'static str) -> Proof {
        match read(header, method) {
            Some(Credentials::Digest(proof)) => *proof,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_proof_holds_for_its_password_nonce_method_and_address_only() {
        for (algorithm, md5) in [("MD5", true), ("SHA-256", false)] {
            let hash = |text: String| match md5 {
                true => hex::encode(md5::Md5::digest(text.as_bytes())),
                false => hex::encode(Sha256::digest(text.as_bytes())),
            };
            let secret = hash("tom:Millstream:pass".into());
            let what = hash("DESCRIBE:rtsp://h/cam".into());
            let response = hash(format!("{secret}:n1:{what}"));
            let header = format!(
                "Digest username=\"tom\", realm=\"Millstream\", nonce=\"n1\", \
                 uri=\"rtsp://h/cam\", response=\"{response}\", algorithm={algorithm}"
            );
            assert!(proof(&header, "DESCRIBE").proves("pass", "n1"));
            let unnamed = header.split(", algorithm").next().unwrap();
            assert!(proof(unnamed, "DESCRIBE").proves("pass", "n1"), "told by its length");
            assert!(!proof(&header, "DESCRIBE").proves("pasS", "n1"));
            assert!(!proof(&header, "DESCRIBE").proves("pass", "n2"));
            assert!(!proof(&header, "SETUP").proves("pass", "n1"));
            assert!(!proof(&header.replace("n1", "n2"), "DESCRIBE").proves("pass", "n1"));
            let quality = hash(format!("{secret}:n1:00000001:own:auth:{what}"));
            let header = header.replace(&response, &quality)
                + ", qop=auth, nc=00000001, cnonce=\"own\", opaque=\"a, b=\\\"c\"";
            assert!(proof(&header, "DESCRIBE").proves("pass", "n1"));
        }
    }

    #[test]
    fn basic_and_bearer_are_read_and_nonsense_is_not() {
        let basic = read("Basic dG9tOnBhOnNz", "PLAY");
        let wanted = Credentials::Basic { user: "tom".into(), password: "pa:ss".into() };
        assert_eq!(basic, Some(wanted));
        assert_eq!(read("bearer abc ", "PLAY"), Some(Credentials::Bearer("abc".into())));
        for nonsense in ["", "Basic", "Basic !", "Basic dG9t", "Kerberos x", "Digest qop=auth-int"]
        {
            assert_eq!(read(nonsense, "PLAY"), None, "{nonsense}");
        }
        assert!(matches!(read("Digest a=\"b", "PLAY"), Some(Credentials::Digest(_))));
        assert_eq!(read("Digest algorithm=MD5-sess", "PLAY"), None);
    }
}
