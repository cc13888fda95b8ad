//! What the fuzzer drives: each parser of bytes from outside that is the node's own, with inputs to
//! begin from.

/// One parser under test.
pub struct Target {
    /// Unique in this crate.
    pub name: &'static str,
    /// Must end without a panic, in bounded time and memory, whatever the bytes.
    pub run: fn(&[u8]),
    /// Inputs that get far into the parser.
    pub seeds: &'static [&'static [u8]],
}

use crate::access::fuzz as access;
use crate::api::fuzz as api;

/// All of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "access-token", run: access::token, seeds: access::TOKEN_SEEDS },
    Target { name: "access-keys", run: access::keys, seeds: access::KEYS_SEEDS },
    Target { name: "access-claims", run: access::claims, seeds: access::CLAIMS_SEEDS },
    Target { name: "access-link", run: access::link, seeds: access::LINK_SEEDS },
    Target { name: "access-header", run: access::header, seeds: access::HEADER_SEEDS },
    Target { name: "access-callback", run: access::answer, seeds: access::ANSWER_SEEDS },
    Target { name: "api-patch", run: api::patch, seeds: api::PATCH_SEEDS },
    Target { name: "api-names", run: api::theirs, seeds: api::NAMES_SEEDS },
    Target { name: "stream-pattern", run: api::pattern, seeds: api::PATTERN_SEEDS },
    Target { name: "certificate", run: certificate, seeds: &[CERTIFICATE] },
];

/// A certificate for two names, in DER.
const CERTIFICATE: &[u8] = include_bytes!("acme/certificate.der");

fn certificate(bytes: &[u8]) {
    if let Ok(facts) = crate::acme::Facts::read(bytes) {
        let _ = facts.renews_at();
    }
}
