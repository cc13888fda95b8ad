//! Tokens of an identity provider: which are taken, and keys that change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;

use super::*;
use crate::config::Right;

/// The modulus of an RSA key of 2048 bits that was made for this test with Python's `cryptography`.
const RSA_MODULUS: &str = "0-0lviGCiqXuFNd9tKWXotUXGUB_J7eHcMzyLgkIJSH17PiFRDSjyCJO5QCkdnKYvrjSSwvOfFC4Azbk\
    hA_r005_tjLhT4br07tHvjwurpM7RMS-GBR7mYzbrjKXkJccoZVgeEzfkTtqcg066PqH_3-r3CdnFrdq\
    ycdwURI4JN2BKLcfUGjRWlJw_01yXBxQmCwjXrrnJZOwQI91h2Kf0ow2gUQKVSEsmBjfXArjqkQNiNnG\
    5ugx4fej67mZj_DXRss9V2p_FjNm-4uiwiozlvJTeM64_FcGlyjzrLey9TVy8oHlGO0fj1CrWovFp2T8\
    fZhCmGZfNG_HjIjC86jPgQ";

/// A token that the same program signed: `read` of `cam` until the year 2100.
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsIm1\
    lZGlhbXR4X3Blcm1pc3Npb25zIjpbeyJhY3Rpb24iOiJyZWFkIiwicGF0aCI6ImNhbSJ9XX0.MGzoUaV\
    OloCAfThuHX676t7hsEnA65sA-Bzq0Cp6wzO5gikOSGsHixgJ7UxpaSg1b3xcW18ACWvDdTLZtB_BgCU\
    8vKnhSHePDqfu9MQQDHTqrX-gCQN_HBK983q8Chgx7yKqSnMHmTpEE1XCFF9_Z9UAwnEGYMDyZO0EteD\
    zxPP1vwNdH82N-fonAJ1lKXwF7g5hiWiNmRacFR7-qu98AOmTdDzQBKMRMsb4YeEKUHe2-GN8pUSDtX0\
    91up5_SO9JlEAtUwDxzVMQb1aOUkUL-Gn69vIRMriFitOtVzH0F-Z3WIVCWTc4LRzp1y3G8FShx8I5Iv\
    duha-zcQYc2Gzkg";

/// An identity provider on loopback.
struct Provider {
    settings: Jwt,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Provider {
    async fn start(keys: Value) -> Self {
        let keys = Arc::new(Mutex::new(json!({ "keys": keys })));
        let asked = Arc::new(AtomicUsize::new(0));
        let (shown, count) = (Arc::clone(&keys), Arc::clone(&asked));
        let answer = async move || {
            count.fetch_add(1, Ordering::Relaxed);
            axum::Json(shown.lock().clone())
        };
        let router = axum::Router::new().route("/keys", get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks = format!("http://{}/keys", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { settings: Jwt { jwks, ..Jwt::default() }, keys, asked, server }
    }

    fn publish(&self, keys: Value) {
        *self.keys.lock() = json!({ "keys": keys });
    }
}

/// An elliptic key and its public half as the provider shows it.
fn es256(id: &str) -> (EcdsaKeyPair, Value) {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref(), &random);
    let pair = pair.unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let key = json!({
        "kty": "EC", "crv": "P-256", "kid": id, "use": "sig",
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    });
    (pair, key)
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let code = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(code))
}

fn es256_token(pair: &EcdsaKeyPair, id: &str, claims: &Value) -> String {
    let header = json!({ "alg": "ES256", "kid": id });
    token(&header, claims, |message| {
        pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    })
}

fn claims() -> Value {
    let now = crate::signing::seconds(SystemTime::now());
    json!({
        "exp": now + 3600, "iss": "https://id.example", "aud": ["video", "mail"],
        "mediamtx_permissions": [{"action": "publish", "path": "~^cam"}],
    })
}

async fn told(keys: &Keys, settings: &Jwt, token: &str, right: Right, stream: &str) -> String {
    let ip = [127, 0, 0, 1].into();
    let asked = Asked { right, stream, ip, user: "", password: "", token, query: "" };
    match keys.check(settings, token, &asked).await {
        Found::Right(terms) => format!("right {terms:?}"),
        Found::MayNot => "may not".into(),
        Found::Wrong(reason) => reason,
    }
}

fn keys() -> Keys {
    Keys::new(crate::http_client().unwrap())
}

#[tokio::test]
async fn a_good_token_is_good_for_what_its_claim_says_and_others_are_refused() {
    let (pair, key) = es256("one");
    let mut provider = Provider::start(json!([key])).await;
    provider.settings.issuer = "https://id.example".into();
    provider.settings.audience = "video".into();
    let (keys, settings) = (keys(), &provider.settings);
    let good = es256_token(&pair, "one", &claims());
    assert!(told(&keys, settings, &good, Right::Publish, "cam1").await.starts_with("right"));
    assert_eq!(told(&keys, settings, &good, Right::Read, "cam1").await, "may not");
    assert_eq!(told(&keys, settings, &good, Right::Publish, "studio").await, "may not");
    for (name, value) in [
        ("exp", json!(1_000_000)),
        ("nbf", json!(4_000_000_000_u64)),
        ("iss", json!("https://evil.example")),
        ("aud", json!("mail")),
        ("mediamtx_permissions", json!("no list")),
        ("mediamtx_permissions", json!([{"action": "rule"}])),
        ("exp", Value::Null),
    ] {
        let mut claims = claims();
        claims[name] = value;
        let token = es256_token(&pair, "one", &claims);
        let said = told(&keys, settings, &token, Right::Publish, "cam1").await;
        assert!(!said.starts_with("right") && said != "may not", "{name}: {said}");
    }
    // The list may be a text that holds it, as some providers can only do.
    let mut claims = claims();
    claims["mediamtx_permissions"] = json!("[{\"action\":\"publish\"}]");
    claims["millstream"] = json!({"name": "cam9", "lifetime_seconds": 60});
    let token = es256_token(&pair, "one", &claims);
    let said = told(&keys, settings, &token, Right::Publish, "x").await;
    assert!(said.contains("cam9") && said.contains("60s"), "{said}");
    // Another's signature, and a changed word.
    let (other, _) = es256("one");
    let forged = es256_token(&other, "one", &claims);
    assert!(told(&keys, settings, &forged, Right::Publish, "x").await.contains("InvalidSignature"));
    provider.server.abort();
}

#[tokio::test]
async fn a_signature_by_a_shared_secret_or_none_is_never_taken() {
    let (_, key) = es256("one");
    let public = key["x"].as_str().unwrap().to_owned();
    let provider = Provider::start(json!([key])).await;
    let keys = keys();
    let claims = claims();
    // The attack that confuses a public key with a secret.
    let forged = token(&json!({"alg": "HS256", "kid": "one"}), &claims, |message| {
        crate::signing::code(public.as_bytes(), &[message]).to_vec()
    });
    let said = told(&keys, &provider.settings, &forged, Right::Publish, "cam").await;
    assert!(said.contains("HS256"), "{said}");
    let none = token(&json!({"alg": "none"}), &claims, |_| Vec::new());
    assert!(told(&keys, &provider.settings, &none, Right::Publish, "cam").await.contains("token"));
    // A header that names another family than the key's.
    let forged = token(&json!({"alg": "RS256", "kid": "one"}), &claims, |_| vec![1; 256]);
    let said = told(&keys, &provider.settings, &forged, Right::Publish, "cam").await;
    assert!(said.starts_with("the token"), "{said}");
    provider.server.abort();
}

#[tokio::test]
async fn rsa_and_edwards_signatures_are_known() {
    let random = SystemRandom::new();
    let pair = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let provider = Provider::start(json!([
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x},
        {"kty": "RSA", "kid": "rsa", "n": RSA_MODULUS, "e": "AQAB"},
    ]))
    .await;
    let keys = keys();
    let edwards = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), |message| {
        pair.sign(message).as_ref().to_vec()
    });
    let told_of =
        async |token: &str, right| told(&keys, &provider.settings, token, right, "cam").await;
    assert!(told_of(&edwards, Right::Publish).await.starts_with("right"));
    assert!(told_of(RSA_TOKEN, Right::Read).await.starts_with("right"));
    let changed = RSA_TOKEN.replace(".eyJ", ".eyK");
    assert!(!told_of(&changed, Right::Read).await.starts_with("right"));
    assert_eq!(provider.asked.load(Ordering::Relaxed), 1, "keys are fetched once");
    provider.server.abort();
}

#[tokio::test]
async fn keys_may_change_and_are_kept_while_the_provider_is_away() {
    let (old, old_key) = es256("old");
    let (new, new_key) = es256("new");
    let provider = Provider::start(json!([old_key])).await;
    let keys = keys();
    let (old, new) = (es256_token(&old, "old", &claims()), es256_token(&new, "new", &claims()));
    let told_of =
        async |token: &str| told(&keys, &provider.settings, token, Right::Publish, "cam").await;
    assert!(told_of(&old).await.starts_with("right"));
    provider.publish(json!([new_key]));
    // Not asked again at once: whoever sends unknown key ids does not make the node a hammer.
    assert!(told_of(&new).await.contains("does not publish"));
    assert_eq!(provider.asked.load(Ordering::Relaxed), 1);
    keys.held.lock().tried = Some(Instant::now() - EARLY_SPACING);
    assert!(told_of(&new).await.starts_with("right"));
    assert!(told_of(&old).await.contains("does not publish"));
    provider.server.abort();
    let _ = provider.server.await;
    assert!(keys.refresh(&provider.settings).await.is_err());
    assert!(told_of(&new).await.starts_with("right"), "kept");
}

#[test]
fn a_token_that_is_too_long_is_not_looked_at() {
    let long = format!("{RSA_TOKEN}{}", "A".repeat(TOKEN_BYTES_MAX));
    assert!(header(&long).unwrap_err().contains("more than"));
    assert!(header(RSA_TOKEN).is_ok());
}
