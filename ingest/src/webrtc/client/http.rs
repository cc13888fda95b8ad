//! The signalling side: the offer is posted, redirects are followed, and the session is deleted at its
//! end (RFC 9725 4.2 to 4.5; WHEP is the same in this).

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, StatusCode, Url};

use crate::remote::{Error, Options, Target};
use crate::webrtc::sdp::SDP_BYTES_MAX;

/// Characters of a refusal that are repeated.
const REASON_MAX: usize = 200;

const SDP: &str = "application/sdp";

/// The signalling side.
pub(super) struct Http {
    client: Client,
    url: Url,
    bearer: Option<String>,
    basic: Option<(String, String)>,
}

impl Http {
    pub(super) fn new(target: &Target, options: &Options) -> Result<Self, Error> {
        let client = options
            .http_client(target)?
            .timeout(options.connect_timeout)
            .build()
            .map_err(|error| Error::protocol("making an HTTP client", error))?;
        // `whip` and `whep` are `http`, `whips` and `wheps` are `https`.
        let secure = if target.scheme().ends_with('s') { "https" } else { "http" };
        let text = target.url().as_str().replacen(target.scheme(), secure, 1);
        let mut url = Url::parse(&text).map_err(|error| target.fault(error.to_string()))?;
        let basic = target.credentials();
        let _ = (url.set_username(""), url.set_password(None));
        let bearer = options.bearer();
        Ok(Self { client, url, bearer, basic })
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match (&self.bearer, &self.basic) {
            (Some(bearer), _) => request.bearer_auth(bearer),
            (None, Some((user, password))) => request.basic_auth(user, Some(password)),
            (None, None) => request,
        }
    }

    /// Gives the answer to an offer and the URL of the session.
    pub(super) async fn post(&self, offer: String) -> Result<(String, Option<Url>), Error> {
        let broken = |error: reqwest::Error| Error::protocol("asking the server", causes(error));
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, SDP).body(offer);
        let mut response = self.signed(request).send().await.map_err(broken)?;
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let resource = location.and_then(|location| response.url().join(location).ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > SDP_BYTES_MAX {
                let reason = format!("it has more than {SDP_BYTES_MAX} bytes");
                return Err(Error::Media { what: "the answer", reason });
            }
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        if status != StatusCode::CREATED {
            let words: String = text.trim().chars().take(REASON_MAX).collect();
            let reason = format!("{status} {words}");
            return Err(Error::Refused { what: "the offer", reason: reason.trim().to_owned() });
        }
        Ok((text, resource))
    }

    /// Ends the session; a server that does not hear it notices by itself.
    pub(super) async fn delete(&self, resource: Url) {
        // A token of ours is for the server that was asked, not for wherever it points.
        let same = resource.origin() == self.url.origin();
        let request = self.client.delete(resource);
        let request = if same { self.signed(request) } else { request };
        let _ = request.send().await;
    }
}

/// An error with what led to it: TLS says there what is wrong with a certificate. The URL may hold a
/// token, which no error may show.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
