//! Targets for the fuzzer: what strangers send to be let in, and what a callback or an identity
//! provider answers of them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use jsonwebtoken::DecodingKey;

use super::{Asked, callback, from_header, jwt, links};
use crate::config::{Jwt, Right};

/// The key of RFC 7515 A.3, as a provider publishes it.
const KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// The token of RFC 7515 A.3, which that key signed.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

pub(crate) const TOKEN_SEEDS: &[&[u8]] = &[
    TOKEN.as_bytes(),
    // The same with other algorithms in its header: none, and a shared secret.
    b"eyJhbGciOiJub25lIn0.eyJleHAiOjF9.",
    b"eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln",
];

pub(crate) const KEYS_SEEDS: &[&[u8]] = &[
    KEY.as_bytes(),
    br#"{"keys":[{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs","e":"AQAB","kid":"1","alg":"RS256"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"oct","k":"AAAA"}]}"#,
];

pub(crate) const CLAIMS_SEEDS: &[&[u8]] = &[
    br#"{"mediamtx_permissions":[{"action":"read","path":"cam"}],"millstream":{"name":"a/b","lifetime_seconds":1.5}}"#,
    br#"{"mediamtx_permissions":"[{\"action\":\"publish\",\"path\":\"~^cam[0-9]+$\"}]"}"#,
];

pub(crate) const LINK_SEEDS: &[&[u8]] =
    &[b"exp=1700000000&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", b"a=%2&exp=x&sig=&exp=1"];

pub(crate) const HEADER_SEEDS: &[&[u8]] =
    &[b"Basic dG9tOnNlY3JldA==", b"Bearer tom:secret", b"Bearer abc.def.ghi", b"Basic !"];

pub(crate) const ANSWER_SEEDS: &[&[u8]] = &[
    br#"{"allowed":true,"name":"cam/1","lifetime_seconds":3600,"settings":{"graph":"none","pushes":[{"url":"rtmp://h/a"}]}}"#,
    br#"{"allowed":false,"reason":"no"}"#,
    b"ok",
];

fn asked(query: &str) -> Asked<'_> {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Asked { right: Right::Read, stream: "cam", ip, user: "", password: "", token: "", query }
}

fn first_key(document: &[u8]) -> Option<DecodingKey> {
    let keys = jwt::published(document).ok()?;
    keys.iter().find_map(|key| DecodingKey::from_jwk(key).ok())
}

/// A token that a client sent, looked at with a good key.
pub(crate) fn token(bytes: &[u8]) {
    let _ = jwt::PROVIDER.install_default();
    let text = String::from_utf8_lossy(bytes);
    if !jwt::looks_like_one(&text) {
        return;
    }
    if let (Ok(header), Some(key)) = (jwt::header(&text), first_key(KEY.as_bytes())) {
        let _ = jwt::decoded(&Jwt::default(), &text, &header, &key);
    }
}

/// Keys that a provider published, for a good token.
pub(crate) fn keys(bytes: &[u8]) {
    let _ = jwt::PROVIDER.install_default();
    if let (Ok(header), Some(key)) = (jwt::header(TOKEN), first_key(bytes)) {
        let _ = jwt::decoded(&Jwt::default(), TOKEN, &header, &key);
    }
}

/// Claims of a token with a good signature.
pub(crate) fn claims(bytes: &[u8]) {
    if let Ok(claims) = serde_json::from_slice(bytes) {
        let _ = jwt::judged(&Jwt::default(), &claims, &asked(""));
    }
}

/// The query of a signed link; none that is made up is good.
pub(crate) fn link(bytes: &[u8]) {
    let query = String::from_utf8_lossy(bytes);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let found = links::Links::new("a secret that is not in the seeds").check(&asked(&query), now);
    assert_ne!(found, links::Found::Right, "a made-up link lets in");
}

/// An `Authorization` header.
pub(crate) fn header(bytes: &[u8]) {
    let _ = from_header(&String::from_utf8_lossy(bytes));
}

/// The body of a callback's answer of 200.
pub(crate) fn answer(bytes: &[u8]) {
    let _ = callback::terms(bytes).is_ok();
}
