//! Tokens that an identity provider signed (RFC 7519), checked with the keys that it publishes (RFC 7517).
//!
//! Keys are fetched when they are first needed and again when they are old. A token with an unknown
//! key id has them fetched early, at most once each [`EARLY_SPACING`], so that keys may change. Keys
//! that are there stay in use while the provider cannot be reached. Only signatures by public keys
//! count; they are checked with `ring`.

use std::time::{Duration, Instant};

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header, Validation};
use parking_lot::Mutex;
use ring::signature as codes;
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::Asked;
use super::terms::{Spelled, Terms};
use super::users::Rights;
use crate::config::{Jwt, Permission};

/// The longest token in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// The largest key set in bytes.
const KEYS_BYTES_MAX: usize = 256 << 10;

/// How long the provider may take to answer.
const FETCH_LIMIT: Duration = Duration::from_secs(5);

/// The shortest time between two fetches.
const EARLY_SPACING: Duration = Duration::from_secs(10);

/// Signatures by public keys. A secret that is shared with the provider is none: whoever checks
/// with it could sign with it.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The claim with a name, a lifetime and settings, spelled as a callback's answer.
const TERMS_CLAIM: &str = "millstream";

/// What a token is.
pub(super) enum Found {
    /// Good for this.
    Right(Terms),
    /// Good for other things.
    MayNot,
    /// Not good.
    Wrong(String),
}

/// The provider's keys.
pub(super) struct Keys {
    client: reqwest::Client,
    held: Mutex<Held>,
    /// One fetch at a time.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    url: String,
    keys: Vec<Jwk>,
    /// When they were fetched, and when that was last tried.
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

/// Whether a text has the three parts of a token, so that no password is taken for one.
pub(super) fn looks_like_one(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Keys {
    /// No keys yet.
    pub(super) fn new(client: reqwest::Client) -> Self {
        // The process has one; whoever is second uses the same.
        let _ = PROVIDER.install_default();
        Self { client, held: Mutex::default(), fetching: tokio::sync::Mutex::new(()) }
    }

    /// Whether the token is good for what is asked.
    pub(super) async fn check(&self, settings: &Jwt, token: &str, asked: &Asked<'_>) -> Found {
        match self.claims(settings, token).await {
            Ok(claims) => judged(settings, &claims, asked),
            Err(reason) => Found::Wrong(reason),
        }
    }

    /// The claims of a token with a good signature and a time that is right.
    async fn claims(&self, settings: &Jwt, token: &str) -> Result<Map<String, Value>, String> {
        let header = header(token)?;
        let key = self.key(settings, &header).await?;
        decoded(settings, token, &header, &key)
    }

    /// The key that the header names; keys are fetched when they are old or do not have it.
    async fn key(&self, settings: &Jwt, header: &Header) -> Result<DecodingKey, String> {
        let max_age = Duration::from_secs(settings.refresh_seconds);
        for early in [false, true] {
            let (found, due) = {
                let held = self.held.lock();
                let age = held.fetched.map(|at| at.elapsed());
                let found = held.find(&settings.jwks, header);
                (found, age.is_none_or(|age| age >= max_age) || held.url != settings.jwks)
            };
            match found {
                Some(key) if !due || early => return key,
                Some(key) => {
                    // Old ones are better than none.
                    let _ = self.fetch(settings).await;
                    let held = self.held.lock();
                    return held.find(&settings.jwks, header).unwrap_or(key);
                }
                None if early => break,
                None => self.fetch(settings).await?,
            }
        }
        Err("the token names a key that its issuer does not publish".into())
    }

    /// Fetches the keys, at once.
    pub(super) async fn refresh(&self, settings: &Jwt) -> Result<(), String> {
        if settings.jwks.is_empty() {
            return Err("auth.jwt.jwks is empty".into());
        }
        self.held.lock().tried = None;
        self.fetch(settings).await
    }

    async fn fetch(&self, settings: &Jwt) -> Result<(), String> {
        let url = &settings.jwks;
        let _one = self.fetching.lock().await;
        {
            let mut held = self.held.lock();
            let recent = held.tried.is_some_and(|at| at.elapsed() < EARLY_SPACING);
            if recent && held.url == *url {
                return Ok(());
            }
            if held.url != *url {
                *held = Held { url: url.clone(), ..Held::default() };
            }
            held.tried = Some(Instant::now());
        }
        match self.ask(url).await {
            Ok(keys) => {
                info!(keys = keys.len(), "the identity provider's keys were fetched");
                let mut held = self.held.lock();
                held.keys = keys;
                held.fetched = Some(Instant::now());
                Ok(())
            }
            Err(error) => {
                warn!(error, "the identity provider's keys cannot be fetched");
                Err(format!("the identity provider's keys cannot be fetched: {error}"))
            }
        }
    }

    async fn ask(&self, url: &str) -> Result<Vec<Jwk>, String> {
        let fault = |error: reqwest::Error| error.without_url().to_string();
        let answer = self.client.get(url).timeout(FETCH_LIMIT).send().await.map_err(fault)?;
        if !answer.status().is_success() {
            return Err(format!("the answer is {}", answer.status().as_u16()));
        }
        let body = crate::read_body(answer, KEYS_BYTES_MAX).await?;
        published(&body)
    }
}

/// The header of a token that may be looked at further.
pub(super) fn header(token: &str) -> Result<Header, String> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(format!("a token of more than {TOKEN_BYTES_MAX} bytes"));
    }
    let header =
        jsonwebtoken::decode_header(token).map_err(|error| format!("the token: {error}"))?;
    match ALGORITHMS.contains(&header.alg) {
        true => Ok(header),
        false => Err(format!("tokens signed by {:?} are not taken", header.alg)),
    }
}

/// The claims of a token that this key signed, at a time that is right.
pub(super) fn decoded(
    settings: &Jwt,
    token: &str,
    header: &Header,
    key: &DecodingKey,
) -> Result<Map<String, Value>, String> {
    let mut validation = Validation::new(header.alg);
    validation.validate_nbf = true;
    validation.validate_aud = !settings.audience.is_empty();
    if !settings.audience.is_empty() {
        validation.set_audience(&[&settings.audience]);
        validation.required_spec_claims.insert("aud".into());
    }
    if !settings.issuer.is_empty() {
        validation.set_issuer(&[&settings.issuer]);
        validation.required_spec_claims.insert("iss".into());
    }
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation);
    decoded.map(|data| data.claims).map_err(|error| format!("the token: {error}"))
}

/// Whether claims are good for what is asked.
pub(super) fn judged(settings: &Jwt, claims: &Map<String, Value>, asked: &Asked<'_>) -> Found {
    let rights = match rights(claims, &settings.claim) {
        Ok(rights) => rights,
        Err(error) => return Found::Wrong(format!("the claim {:?}: {error}", settings.claim)),
    };
    if !rights.allow(asked.right, asked.stream) {
        return Found::MayNot;
    }
    let Some(value) = claims.get(TERMS_CLAIM) else { return Found::Right(Terms::default()) };
    let spelled = Spelled::deserialize(value).map_err(|error| error.to_string());
    match spelled.and_then(Spelled::terms) {
        Ok(terms) => Found::Right(terms),
        Err(error) => Found::Wrong(format!("the claim {TERMS_CLAIM:?}: {error}")),
    }
}

/// The keys of a document that a provider publishes.
pub(super) fn published(body: &[u8]) -> Result<Vec<Jwk>, String> {
    let set: JwkSet = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(set.keys)
}

impl Held {
    /// The key for a token: of its id, or the only one where the token names none.
    fn find(&self, url: &str, header: &Header) -> Option<KeyOrFault> {
        if self.url != url {
            return None;
        }
        let signs = |key: &&Jwk| {
            let used = key.common.public_key_use.as_ref();
            used.is_none_or(|used| *used == PublicKeyUse::Signature)
        };
        let mut keys = self.keys.iter().filter(signs);
        let key = match &header.kid {
            Some(id) => keys.find(|key| key.common.key_id.as_ref() == Some(id)),
            None => keys.next().filter(|_| keys.next().is_none()),
        };
        key.map(|key| DecodingKey::from_jwk(key).map_err(|error| format!("the key: {error}")))
    }
}

/// A key, or why it cannot be used.
type KeyOrFault = Result<DecodingKey, String>;

/// What the claim allows: a list of `{"action", "path"}`, or a text that holds one.
fn rights(claims: &Map<String, Value>, name: &str) -> Result<Rights, String> {
    let value = claims.get(name).ok_or("is not there")?;
    let permissions: Vec<Permission> = match value {
        Value::String(text) => serde_json::from_str(text),
        value => Vec::deserialize(value),
    }
    .map_err(|error| error.to_string())?;
    Rights::new(&permissions)
}

/// `jsonwebtoken` with `ring`, which TLS uses too.
pub(super) static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    Ok(Box::new(Verifier { algorithm: *algorithm, key: key.clone() }))
}

struct Verifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], code: &Vec<u8>) -> Result<(), signature::Error> {
        let rsa = match self.algorithm {
            Algorithm::RS256 => Some(&codes::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Some(&codes::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Some(&codes::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Some(&codes::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Some(&codes::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Some(&codes::RSA_PSS_2048_8192_SHA512),
            _ => None,
        };
        let other: Option<&'static dyn codes::VerificationAlgorithm> = match self.algorithm {
            Algorithm::ES256 => Some(&codes::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Some(&codes::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Some(&codes::ED25519),
            _ => None,
        };
        let checked = match (self.key.kind(), rsa, other) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Some(algorithm), _) => {
                codes::RsaPublicKeyComponents { n, e }.verify(algorithm, message, code)
            }
            (DecodingKeyKind::SecretOrDer(key), _, Some(algorithm)) => {
                codes::UnparsedPublicKey::new(algorithm, key).verify(message, code)
            }
            // The key is for another algorithm than the token's header says.
            _ => return Err(signature::Error::new()),
        };
        checked.map_err(|_| signature::Error::new())
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
