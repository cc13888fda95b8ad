//! Whether the certificate of the TLS listeners is good, and whether the next one comes.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::findings::{Findings, State};
use crate::acme::Facts;
use crate::config::Settings;
use crate::identity::{Certificate, DataDir};

/// A certificate that ends sooner is worth a word.
const LIFE_LOW: Duration = Duration::from_secs(7 * 86_400);

/// Looks at the certificate that a node with these settings shows.
pub(super) fn look(data: &DataDir, settings: &Settings, found: &mut Findings) {
    let certificate = Certificate::load_or_make(data, settings);
    let facts = certificate.as_ref().ok().and_then(|certificate| certificate.facts());
    let certificate = certificate.map(drop).map_err(|error| format!("{error:#}"));
    found.result("certificate", "fits its key", certificate);
    if let Some(facts) = &facts {
        life(facts, found);
    }
    if facts.is_some_and(|facts| facts.self_signed) && !settings.acme.is_on() {
        let text = "it is self-signed: browsers ask before they show a page over HTTPS, and cameras \
                    of phones need HTTPS; set acme.domains, or tls.certificate and tls.key";
        found.add(State::Note, "certificate", text);
    }
}

/// Whether a certificate is good, and for how long.
fn life(facts: &Facts, found: &mut Findings) {
    let (state, text) = match facts.not_after.duration_since(SystemTime::now()) {
        Err(_) => (State::Fails, "it has ended: clients refuse it".to_owned()),
        Ok(left) if left < LIFE_LOW => {
            (State::Note, format!("it ends in {} hours", left.as_secs() / 3600))
        }
        Ok(left) => (State::Ok, format!("it is good for {} days", left.as_secs() / 86_400)),
    };
    found.add(state, "certificate", text);
}

/// How it goes with the certificate authority that the running node asks.
pub(super) fn acme(status: &Value, found: &mut Findings) {
    let acme = &status["certificate"]["acme"];
    if !acme.is_object() {
        return;
    }
    let next = acme["next"].as_str().unwrap_or("now");
    match acme["error"].as_str() {
        Some(error) => {
            let text = format!("no certificate came: {error}; it is asked for again at {next}");
            found.add(State::Fails, "acme", text);
        }
        None => {
            found.add(State::Ok, "acme", format!("the next certificate is asked for at {next}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_authority_did_not_like_is_told() {
        let failing = serde_json::json!({ "certificate": { "acme": {
            "error": "live.example: connection refused", "next": "2026-01-01T00:00:00Z" } } });
        let mut found = Findings::default();
        acme(&failing, &mut found);
        acme(&serde_json::json!({ "certificate": { "acme": null } }), &mut found);
        let day = Duration::from_secs(86_400);
        for (ends, state) in [(60, State::Ok), (3, State::Note)] {
            let not_after = SystemTime::now() + ends * day;
            let not_before = not_after - 90 * day;
            life(
                &Facts { not_before, not_after, names: Vec::new(), self_signed: false },
                &mut found,
            );
            assert_eq!(found.0.last().unwrap().state, state);
        }
        assert_eq!(found.0.len(), 3);
        assert_eq!(found.0[0].state, State::Fails);
        assert!(found.0[0].text.contains("connection refused"), "{:?}", found.0[0]);
    }
}
