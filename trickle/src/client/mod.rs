//! The HTTP client: one pool of connections for any number of publishers and subscribers.
//!
//! Over TLS, HTTP/2 is used where the server offers it (one TCP connection for everything, with
//! windows that live video does not exhaust), else HTTP/1.1 with a connection a request. Each
//! chunk is flushed by itself. Clear-text URLs (`http://`) speak HTTP/1.1.

mod feed;
pub(crate) mod publish;
pub(crate) mod subscribe;
mod tls;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url};

use crate::error::Error;
use crate::http;
use crate::publisher::{self, PublisherOptions};
use crate::subscriber::{self, SubscriberOptions};

pub use tls::Trust;

/// Bytes that one HTTP/2 stream may have waiting here: a subscriber that does not read holds back
/// no more than this.
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes that may wait on a whole connection: out of reach, so that no reader waits for another.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Idle connections are dropped after this, as peers do.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// A silent HTTP/2 connection is probed this often, and given up after as long again.
const PROBE: Duration = Duration::from_secs(5);
/// The most of an error text that is kept, in bytes.
const TEXT_MAX: usize = 512;

/// How to reach servers.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Which certificates are believed.
    pub trust: Trust,
    /// Bound of connecting, TLS included.
    pub connect_timeout: Duration,
    /// Bound of the short requests: create, close, close a segment, write head.
    pub request_timeout: Duration,
}

impl Default for ClientConfig {
    /// Any certificate, as on the network, where signatures prove who a node is; 2 s to connect,
    /// 8 s for a short request.
    fn default() -> Self {
        Self {
            trust: Trust::Anyone,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(8),
        }
    }
}

/// Makes publishers and subscribers. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    request_timeout: Duration,
}

impl Client {
    /// A client without connections.
    ///
    /// # Errors
    /// [`Error::Address`] when the TLS settings cannot be used.
    pub fn new(config: &ClientConfig) -> Result<Self, Error> {
        let tls = config
            .trust
            .client_config(&[b"h2", b"http/1.1"])
            .map_err(|failure| Error::Address(format!("TLS settings: {failure}")))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PROBE)
            .http2_keep_alive_timeout(PROBE)
            .build()
            .map_err(|failure| Error::Address(format!("HTTP client: {}", causes(&failure))))?;
        Ok(Self { http, request_timeout: config.request_timeout })
    }

    /// Publishes to the channel at `url`. The request of the first segment is opened at once.
    ///
    /// # Errors
    /// [`Error::Address`]. What the server says comes with [`publisher::Publisher::next`].
    pub async fn publisher(
        &self,
        url: &str,
        options: PublisherOptions,
    ) -> Result<publisher::Publisher, Error> {
        let inner = publish::Publisher::new(self.clone(), channel_url(url)?, options)?;
        Ok(publisher::Publisher { inner: publisher::Inner::Http(inner) })
    }

    /// Subscribes to the channel at `url`. The first request is opened at once.
    ///
    /// # Errors
    /// [`Error::Address`]. What the server says comes with [`subscriber::Subscriber::next`].
    pub async fn subscriber(
        &self,
        url: &str,
        options: SubscriberOptions,
    ) -> Result<subscriber::Subscriber, Error> {
        let inner = subscribe::Subscriber::new(self.clone(), channel_url(url)?, options);
        Ok(subscriber::Subscriber { inner: subscriber::Inner::Http(inner) })
    }

    /// Makes the channel at `url`, or finds it there.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the server makes none for its peers, [`Error::Refused`],
    /// [`Error::Io`].
    pub async fn create(&self, url: &str, mime: &str) -> Result<(), Error> {
        let channel = channel_url(url)?;
        let request = self.http.post(&*channel).header(http::EXPECT_CONTENT, mime);
        self.short(&channel, "creating the channel", request).await.map(drop)
    }

    /// Closes and removes the channel at `url`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`], [`Error::Io`].
    pub async fn close(&self, url: &str) -> Result<(), Error> {
        let channel = channel_url(url)?;
        let request = self.http.delete(&*channel);
        match self.short(&channel, "closing the channel", request).await.map(drop) {
            // The words for a channel that is not there.
            Err(Error::Refused { status: 400, text, .. }) if text == "Invalid stream" => {
                Err(Error::NotFound { channel })
            }
            other => other,
        }
    }

    /// The write head of the channel at `url`: the index of the next segment to be written.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Closed`], [`Error::Refused`], [`Error::Io`],
    /// [`Error::Protocol`].
    pub async fn head(&self, url: &str) -> Result<u64, Error> {
        let channel = channel_url(url)?;
        let request = self.http.get(format!("{channel}/next"));
        let response = self.short(&channel, "asking for the write head", request).await?;
        http::index_header(response.headers(), http::LATEST).ok_or_else(|| Error::Protocol {
            channel,
            what: "an answer to `next` without Lp-Trickle-Latest".to_owned(),
        })
    }

    async fn close_segment(&self, channel: &Arc<str>, seq: u64) -> Result<(), Error> {
        let request = self.http.delete(format!("{channel}/{seq}"));
        self.short(channel, "closing a segment", request).await.map(drop)
    }

    fn request(&self, method: Method, channel: &str, place: &str) -> RequestBuilder {
        self.http.request(method, format!("{channel}/{place}"))
    }

    async fn short(
        &self,
        channel: &Arc<str>,
        doing: &'static str,
        request: RequestBuilder,
    ) -> Result<Response, Error> {
        let sent = request.timeout(self.request_timeout).send().await;
        let response = sent.map_err(|failure| io(channel, doing, &failure))?;
        judge(channel, response).await
    }
}

/// Lets a good answer through and names what is wrong with another.
async fn judge(channel: &Arc<str>, response: Response) -> Result<Response, Error> {
    let channel = channel.clone();
    if http::flag_header(response.headers(), http::CLOSED) {
        return Err(Error::Closed { channel });
    }
    match response.status().as_u16() {
        200..=299 => Ok(response),
        404 => Err(Error::NotFound { channel }),
        status => Err(Error::Refused { channel, status, text: text(response).await }),
    }
}

/// The first line of an error text.
async fn text(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk[..chunk.len().min(TEXT_MAX - bytes.len())]);
        if bytes.len() == TEXT_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// A channel's URL in one form: absolute, `http` or `https`, without a trailing slash.
fn channel_url(url: &str) -> Result<Arc<str>, Error> {
    let bad = |why: &str| Error::Address(format!("channel URL {url:?}: {why}"));
    let parsed = Url::parse(url).map_err(|failure| bad(&failure.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad("neither http nor https"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(bad("carries a query or a fragment"));
    }
    Ok(parsed.as_str().trim_end_matches('/').into())
}

fn io(channel: &Arc<str>, doing: &'static str, failure: &reqwest::Error) -> Error {
    Error::Io { channel: channel.clone(), doing, reason: causes(failure) }
}

/// A failure's chain of causes. reqwest names only the outermost, and with it the URL, which may
/// be a secret.
fn causes(failure: &reqwest::Error) -> String {
    let mut text = match failure {
        failure if failure.is_timeout() => "timed out".to_owned(),
        failure if failure.is_connect() => "cannot connect".to_owned(),
        failure if failure.is_body() => "the body broke off".to_owned(),
        _ => "the request failed".to_owned(),
    };
    let mut cause = failure.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    text
}
