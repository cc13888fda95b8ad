//! Getting playlists and segments over HTTP, within limits of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::RANGE;
use reqwest::{Client, StatusCode};
use url::Url;

use super::HlsError;
use crate::remote::{Error, Options, Target};

/// Bytes of a playlist, at most.
const PLAYLIST_BYTES_MAX: usize = 1 << 20;

/// Bytes of a segment, at most.
const SEGMENT_BYTES_MAX: usize = 50_000_000;

/// From the question to the last byte of a segment.
const SEGMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Gets what a playlist names.
pub(super) struct Fetch {
    client: Client,
    limit: Duration,
    bearer: Option<String>,
    /// The host that gets the token; others that a playlist names do not.
    origin: url::Origin,
    basic: Option<(String, String)>,
}

impl Fetch {
    pub(super) fn new(target: &Target, options: &Options) -> Result<Self, Error> {
        let client = options
            .http_client(target)?
            .build()
            .map_err(|error| Error::protocol("making an HTTP client", error))?;
        let bearer = options.bearer();
        let (origin, basic) = (target.url().origin(), target.credentials());
        Ok(Self { client, limit: options.connect_timeout, bearer, origin, basic })
    }

    pub(super) async fn playlist(&self, url: &Url) -> Result<Bytes, HlsError> {
        self.get("the playlist", url, None, PLAYLIST_BYTES_MAX, self.limit).await
    }

    pub(super) async fn segment(
        &self,
        url: &Url,
        range: Option<(u64, u64)>,
    ) -> Result<Bytes, HlsError> {
        self.get("a segment", url, range, SEGMENT_BYTES_MAX, SEGMENT_TIMEOUT).await
    }

    async fn get(
        &self,
        what: &'static str,
        url: &Url,
        range: Option<(u64, u64)>,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<Bytes, HlsError> {
        let failed = |reason: String| HlsError::Fetch { what, reason };
        let ask = async {
            let mut request = self.client.get(url.clone());
            if url.origin() == self.origin {
                if let Some(bearer) = &self.bearer {
                    request = request.bearer_auth(bearer);
                } else if let Some((user, password)) = &self.basic {
                    request = request.basic_auth(user, Some(password));
                }
            }
            if let Some((first, count)) = range {
                let last = first.saturating_add(count).saturating_sub(1);
                request = request.header(RANGE, format!("bytes={first}-{last}"));
            }
            let answer = request.send().await.map_err(|e| failed(e.without_url().to_string()))?;
            let status = answer.status();
            let wanted = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
            if status != wanted {
                return Err(failed(format!("the server answered {status}")));
            }
            let mut answer = answer;
            let mut bytes = BytesMut::new();
            loop {
                let chunk = answer.chunk().await;
                match chunk.map_err(|error| failed(error.without_url().to_string()))? {
                    None => return Ok(bytes.freeze()),
                    Some(chunk) if bytes.len() + chunk.len() > bytes_max => {
                        return Err(failed(format!("more than {bytes_max} bytes")));
                    }
                    Some(chunk) => bytes.extend_from_slice(&chunk),
                }
            }
        };
        let got = tokio::time::timeout(limit, ask).await;
        got.unwrap_or_else(|_| Err(failed(format!("not there within {limit:?}"))))
    }
}
