//! The node's certificate and how the next one comes, for people and programs.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Acme, AcmeStatus};
use crate::identity::Certificate;

/// The end of the year 9999, the last one that the form of times has.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// The certificate that all TLS listeners show.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateView {
    /// DNS names that it is for.
    pub names: Vec<String>,
    /// Until when it is good (RFC 3339).
    pub not_after: String,
    /// Seconds until then; negative when it is past.
    pub remaining_seconds: i64,
    /// It vouches for itself alone.
    pub self_signed: bool,
    /// How it goes with the certificate authority, if one is asked.
    pub acme: Option<AcmeStatus>,
}

impl CertificateView {
    /// What is shown now; `None` when it cannot be read.
    pub fn of(certificate: &Certificate, acme: Option<&Acme>) -> Option<Self> {
        let facts = certificate.facts()?;
        let now = SystemTime::now();
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let remaining_seconds = match facts.not_after.duration_since(now) {
            Ok(left) => seconds(left),
            Err(past) => -seconds(past.duration()),
        };
        let shown = facts.not_after.min(SystemTime::UNIX_EPOCH + LAST);
        Some(Self {
            names: facts.names,
            not_after: humantime::format_rfc3339_seconds(shown).to_string(),
            remaining_seconds,
            self_signed: facts.self_signed,
            acme: acme.map(Acme::status),
        })
    }
}
