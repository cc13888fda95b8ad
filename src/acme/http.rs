//! The HTTP client that speaks with a certificate authority: ours, with bounds.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use ingest::remote::Trust;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::config;

/// The longest answer of an authority in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long an authority may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Asks over HTTPS, trusting what the settings say.
pub(super) struct Client(reqwest::Client);

impl Client {
    /// # Errors
    /// When the authority's own certificate authority cannot be read.
    pub(super) fn new(settings: &config::Acme) -> Result<Self> {
        let trust = match settings.ca.as_os_str().is_empty() {
            true => Trust::System,
            false => {
                let pem = std::fs::read(&settings.ca);
                let pem = pem.with_context(|| format!("acme.ca: {}", settings.ca.display()))?;
                Trust::Authority(pem.into())
            }
        };
        let tls = trust.client_config(&[b"h2", b"http/1.1"]).map_err(anyhow::Error::msg);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.context("acme.ca")?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_LIMIT);
        Ok(Self(client.build().context("cannot make an HTTP client")?))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let request = http::Request::from_parts(parts, body);
            let request =
                reqwest::Request::try_from(request).map_err(|e| Error::Other(e.into()))?;
            let mut answer =
                client.execute(request).await.map_err(|error| Error::Other(error.into()))?;
            let mut response = http::Response::new(());
            *response.status_mut() = answer.status();
            *response.headers_mut() = std::mem::take(answer.headers_mut());
            let body = crate::read_body(answer, ANSWER_BYTES_MAX).await;
            let body = body.map_err(|error| Error::Other(error.into()))?;
            let (parts, ()) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(Bytes::from(body)) })
        })
    }
}
