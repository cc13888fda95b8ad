//! Targets for the fuzzer: everything here that reads what strangers wrote.

use std::net::SocketAddr;

use rtc_srtp::crypto::default_provider;

use super::Role;
use super::answer::{self, Local};
use super::http::Route;
use super::ice::Credentials;
use super::mux::Content;
use super::sdp::Offer;
use super::stun::Check;

/// Reads an offer and answers it for both roles. An answer is itself a session description.
pub fn offer(bytes: &[u8]) {
    let Ok(offer) = Offer::parse(bytes) else { return };
    let credentials = Credentials { ufrag: "ours".into(), password: "0".repeat(32) };
    let candidates = [SocketAddr::from(([127, 0, 0, 1], 8189))];
    let local =
        Local { credentials: &credentials, fingerprint: "00", candidates: &candidates, profile: None };
    for role in [Role::Viewer, Role::Publisher] {
        if let Ok((agreed, text)) = answer::answer(&offer, role, &local) {
            assert!(agreed.video.is_some() || agreed.audio.is_some());
            let lines = text.lines().filter(|line| line.starts_with("m="));
            assert_eq!(lines.count(), offer.sections.len(), "{text}");
            assert!(text.lines().all(|line| line.as_bytes().get(1) == Some(&b'=')), "{text}");
        }
    }
}

/// Reads the body of a PATCH.
pub fn fragment(bytes: &[u8]) {
    if let Ok(fragment) = Offer::parse_fragment(bytes) {
        let first = fragment.sections.first().map(|section| fragment.transport(section));
        assert!(first.is_none_or(|transport| transport.fingerprints.len() <= 128));
    }
}

/// Tells what a datagram is and takes it for a check, whose password nobody can guess.
pub fn datagram(bytes: &[u8]) {
    let content = Content::of(bytes);
    if let Some(mut check) = Check::parse(bytes) {
        assert_eq!(content, Content::Stun);
        assert!(check.ours().len() + check.theirs().len() < bytes.len());
        if let Ok(provider) = default_provider() {
            assert_eq!(check.verify("a password that nobody knows", provider.crypto()), None);
            let from = SocketAddr::from(([192, 0, 2, 1], 1));
            assert!(check.success(from, "secret", provider.crypto()).is_some());
        }
    }
}

/// Splits the path of a URL.
pub fn path(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Route::parse(text);
    }
}
