//! Certificates from a certificate authority, asked for by ACME (RFC 8555).

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Names in one certificate, the most that Let's Encrypt takes.
const DOMAINS_MAX: usize = 100;

/// How the authority is shown that a name is this node's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// A file over HTTP on port 80 (RFC 8555 8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate over TLS on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl Challenge {
    /// Its name in ACME and in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// Who certifies this node, and how it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// Names that the certificate is for, the first one before all. Empty: nobody is asked.
    pub domains: Vec<String>,
    /// The authority's directory; as it stands, that of Let's Encrypt.
    pub directory: String,
    /// Certificates in PEM that vouch for the directory's own; empty: those that the system trusts.
    pub ca: PathBuf,
    /// E-mail address that the authority may write to; empty: none.
    pub contact: String,
    /// Whether you agree to the authority's terms of service. It is not asked before you do.
    pub terms_agreed: bool,
    /// How the names are shown to be this node's.
    pub challenge: Challenge,
    /// Further addresses where challenges are answered, such as `0.0.0.0:80`; the listener of `http`
    /// always does.
    pub listen: Vec<SocketAddr>,
    /// Seconds until a failed attempt is made again; the wait doubles with each failure in a row, up
    /// to 6 hours.
    pub retry_seconds: u64,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".into(),
            ca: PathBuf::new(),
            contact: String::new(),
            terms_agreed: false,
            challenge: Challenge::default(),
            listen: Vec::new(),
            // Let's Encrypt allows five failures an hour.
            retry_seconds: 300,
        }
    }
}

impl Acme {
    /// Whether an authority is asked at all.
    pub fn is_on(&self) -> bool {
        !self.domains.is_empty()
    }

    /// Says what cannot work.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.is_on() {
            return Ok(());
        }
        if !self.terms_agreed {
            return Err(
                "acme.terms_agreed: read the terms of service of the certificate authority \
                        and set this to true, or it is not asked"
                    .into(),
            );
        }
        let fault = |key: &str, why: &str| Err(format!("acme.{key}: {why}"));
        match Url::parse(&self.directory) {
            Ok(url) if url.scheme() == "https" && url.has_host() => {}
            _ => return fault("directory", "no https:// URL"),
        }
        if self.domains.len() > DOMAINS_MAX {
            return fault("domains", &format!("more than {DOMAINS_MAX} names"));
        }
        for name in &self.domains {
            if name.starts_with("*.") {
                let why = format!("{name}: wildcards need a challenge over DNS, which is not made");
                return fault("domains", &why);
            }
            let plain = matches!(Host::parse(name), Ok(Host::Domain(host)) if host == *name);
            if !plain {
                return fault("domains", &format!("{name:?} is no host name in lower case"));
            }
        }
        if self.contact.chars().any(|c| c.is_whitespace() || c.is_control())
            || (!self.contact.is_empty() && !self.contact.contains('@'))
        {
            return fault("contact", "no e-mail address");
        }
        if self.retry_seconds == 0 {
            return fault("retry_seconds", "at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(domains: &[&str]) -> Acme {
        let domains = domains.iter().map(ToString::to_string).collect();
        Acme { domains, terms_agreed: true, ..Acme::default() }
    }

    #[test]
    fn what_cannot_work_is_named_before_anybody_is_asked() {
        assert_eq!(Acme::default().check(), Ok(()));
        assert_eq!(asked(&["live.example.org", "localhost"]).check(), Ok(()));
        let said = |acme: Acme| acme.check().unwrap_err();
        assert!(said(Acme { terms_agreed: false, ..asked(&["a.example"]) }).contains("terms"));
        assert!(said(asked(&["*.example.org"])).contains("wildcards"));
        for name in ["Live.example.org", "192.0.2.1", "a b", "", "a/b"] {
            assert!(said(asked(&[name])).contains("host name"), "{name}");
        }
        assert!(said(asked(&["a.example"; 101])).contains("100"));
        let http = Acme { directory: "http://ca.example/dir".into(), ..asked(&["a.example"]) };
        assert!(said(http).contains("https"));
        assert!(said(Acme { contact: "me".into(), ..asked(&["a.example"]) }).contains("e-mail"));
        assert!(said(Acme { retry_seconds: 0, ..asked(&["a.example"]) }).contains("at least"));
    }
}
