//! What a certificate authority looks at to see that a name is this node's: tokens over HTTP
//! (RFC 8555 8.3) and certificates over TLS (RFC 8737). They are there only while it looks.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// The protocol (ALPN) that an authority asks for when it looks for a certificate.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Proofs that are shown now. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Challenges {
    proofs: Arc<Mutex<Proofs>>,
}

/// As many as an order has names, at most.
#[derive(Debug, Default)]
struct Proofs {
    /// What is answered for a token.
    tokens: HashMap<String, String>,
    /// What is shown for a name.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// Answers `token` with `authorization` over HTTP until the result is dropped.
    pub(super) fn show_token(&self, token: &str, authorization: &str) -> Shown {
        self.proofs.lock().tokens.insert(token.to_owned(), authorization.to_owned());
        Shown { challenges: self.clone(), key: token.to_owned() }
    }

    /// Shows a certificate for `name` that holds `digest`, the SHA-256 of the authorization, over TLS
    /// until the result is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn show_certificate(&self, name: &str, digest: &[u8]) -> Result<Shown> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate().context("no key for the challenge")?;
        let made = params.self_signed(&key).context("no certificate for the challenge")?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&private)?;
        // Nothing is checked here: the extension is critical, so that nobody else takes this for a
        // certificate (RFC 8737 3), our own checks included.
        let certified = CertifiedKey::new(vec![made.der().clone()], key);
        self.proofs.lock().certificates.insert(name.to_owned(), Arc::new(certified));
        Ok(Shown { challenges: self.clone(), key: name.to_owned() })
    }

    /// What an authority is shown that connects for `name`.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.proofs.lock().certificates.get(&name.to_ascii_lowercase()).cloned()
    }

    /// The route at which an authority asks for tokens.
    pub fn router(&self) -> Router {
        let route = "/.well-known/acme-challenge/{token}";
        Router::new().route(route, get(token)).with_state(self.clone())
    }
}

async fn token(
    State(challenges): State<Challenges>,
    Path(token): Path<String>,
) -> impl IntoResponse {
    let answer = challenges.proofs.lock().tokens.get(&token).cloned();
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    answer.map(|answer| (kind, answer)).ok_or((StatusCode::NOT_FOUND, "no such challenge\n"))
}

/// A proof; dropping it takes it away.
pub(super) struct Shown {
    challenges: Challenges,
    key: String,
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut proofs = self.challenges.proofs.lock();
        proofs.tokens.remove(&self.key);
        proofs.certificates.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn asked(challenges: &Challenges, token: &str) -> (StatusCode, String) {
        let uri = format!("/.well-known/acme-challenge/{token}");
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let answer = challenges.router().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_token_is_answered_while_it_is_shown() {
        let challenges = Challenges::default();
        let shown = challenges.show_token("abc", "abc.print");
        assert_eq!(asked(&challenges, "abc").await, (StatusCode::OK, "abc.print".into()));
        assert_eq!(asked(&challenges, "abd").await.0, StatusCode::NOT_FOUND);
        drop(shown);
        assert_eq!(asked(&challenges, "abc").await.0, StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_certificate_holds_the_digest_and_goes_with_its_proof() {
        let challenges = Challenges::default();
        let shown = challenges.show_certificate("live.example", &[7; 32]).unwrap();
        let certificate = challenges.certificate("Live.Example").unwrap();
        // The extension's contents (RFC 8737 3): an octet string of 32 bytes.
        let contents = [&[4, 32][..], &[7; 32]].concat();
        let der: &[u8] = &certificate.cert[0];
        assert!(der.windows(contents.len()).any(|window| window == contents));
        assert!(challenges.certificate("other.example").is_none());
        drop(shown);
        assert!(challenges.certificate("live.example").is_none());
    }
}
