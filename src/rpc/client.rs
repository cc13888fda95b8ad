//! Calls to an orchestrator: who it is, and to start a live job there.
//!
//! One connection for gRPC is kept and used again; it is made at the first call and anew after it
//! broke.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use trickle::Trust;
use url::Url;

use super::live::{DOCUMENT_BYTES_MAX, START_PATH, StartAnswer, StartRequest};
use super::net::orchestrator_client::OrchestratorClient;
use super::net::{OrchestratorInfo, OrchestratorRequest};

/// How long a peer may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// How long a peer may take to start a job.
const START_LIMIT: Duration = Duration::from_secs(5);

/// The largest answer to an information request in bytes.
const INFO_BYTES_MAX: usize = 4 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The address is no URL of a node.
    #[error("{0:?} is no address of a node: {1}")]
    Address(String, String),
    /// No connection, or no answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// The peer refused, in its own words.
    #[error("refused with {status}: {text}")]
    Refused {
        /// HTTP status, or gRPC code.
        status: u16,
        /// Its words.
        text: String,
    },
    /// The answer is not what the protocol wants.
    #[error("unusable answer: {0}")]
    Answer(String),
}

/// One orchestrator as its callers see it. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Peer {
    url: Url,
    grpc: OrchestratorClient<Channel>,
    http: reqwest::Client,
}

impl Peer {
    /// A peer at `address`; without a scheme it is `https`. Nothing is connected yet. `http` must
    /// take peers' certificates.
    ///
    /// # Errors
    /// [`CallError::Address`].
    pub fn new(address: &str, http: reqwest::Client) -> Result<Self, CallError> {
        let bad = |reason: String| CallError::Address(address.to_owned(), reason);
        let full =
            if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
        let url = Url::parse(&full).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("use https://host:port".into()));
        }
        let endpoint = Endpoint::from_shared(full)
            .map_err(|error| bad(error.to_string()))?
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true);
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(connect));
        let grpc = OrchestratorClient::new(channel).max_decoding_message_size(INFO_BYTES_MAX);
        Ok(Self { url, grpc, http })
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Asks who it is, what it can and what it costs.
    ///
    /// # Errors
    /// Any but [`CallError::Address`].
    pub async fn info(
        &self,
        request: OrchestratorRequest,
        limit: Duration,
    ) -> Result<OrchestratorInfo, CallError> {
        let mut grpc = self.grpc.clone();
        let call = tokio::time::timeout(limit, grpc.get_orchestrator(request)).await;
        match call {
            Err(_) => Err(CallError::Unreachable(format!("no answer within {limit:?}"))),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(match status.code() {
                tonic::Code::Unavailable => CallError::Unreachable(root_cause(&status)),
                code => {
                    let text = status.message().chars().take(200).collect();
                    CallError::Refused { status: code as u16, text }
                }
            }),
        }
    }

    /// Starts a live job.
    ///
    /// # Errors
    /// Any but [`CallError::Address`].
    pub async fn start(
        &self,
        request: &StartRequest,
        payment: &str,
        segment: &str,
    ) -> Result<StartAnswer, CallError> {
        let url = self.url.join(START_PATH).map_err(|e| CallError::Answer(e.to_string()))?;
        let unreachable =
            |error: reqwest::Error| CallError::Unreachable(root_cause(&error.without_url()));
        let answer = self
            .http
            .post(url)
            .timeout(START_LIMIT)
            .header("Livepeer-Payment", payment)
            .header("Livepeer-Segment", segment)
            .header("Authorization", "Livepeer-AI-Worker-1.0")
            .json(request)
            .send()
            .await
            .map_err(unreachable)?;
        let status = answer.status();
        let body = read_bounded(answer).await?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body).trim().chars().take(500).collect();
            return Err(CallError::Refused { status: status.as_u16(), text });
        }
        serde_json::from_slice(&body).map_err(|error| CallError::Answer(error.to_string()))
    }

    /// Its node classes in ComfyUI's shape.
    ///
    /// # Errors
    /// Any but [`CallError::Address`].
    pub async fn object_info(&self, limit: Duration) -> Result<serde_json::Value, CallError> {
        let url = self.url.join("/object_info").map_err(|e| CallError::Answer(e.to_string()))?;
        let unreachable =
            |error: reqwest::Error| CallError::Unreachable(root_cause(&error.without_url()));
        let answer = self.http.get(url).timeout(limit).send().await.map_err(unreachable)?;
        let answer = answer.error_for_status().map_err(unreachable)?;
        let body = read_bounded(answer).await?;
        serde_json::from_slice(&body).map_err(|error| CallError::Answer(error.to_string()))
    }

    /// A URL that the peer gave, joined to its own address where it has no host.
    ///
    /// # Errors
    /// [`CallError::Answer`] when it is no URL, or one of another host.
    pub fn channel_url(&self, text: &str) -> Result<Url, CallError> {
        let url = self.url.join(text).map_err(|error| CallError::Answer(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(CallError::Answer(format!("a channel at {}://", url.scheme())));
        }
        Ok(url)
    }
}

async fn read_bounded(mut answer: reqwest::Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= DOCUMENT_BYTES_MAX => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(CallError::Answer(format!("more than {DOCUMENT_BYTES_MAX} bytes")));
            }
            Err(error) => {
                return Err(CallError::Unreachable(root_cause(&error.without_url())));
            }
        }
    }
}

/// The innermost reason of an error: `connection refused` rather than `transport error`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

type Stream = TokioIo<Box<dyn Duplex>>;

trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Duplex for T {}

async fn connect(uri: Uri) -> std::io::Result<Stream> {
    let plain = uri.scheme_str() == Some("http");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    tcp.set_nodelay(true)?;
    if plain {
        return Ok(TokioIo::new(Box::new(tcp)));
    }
    let name = rustls::pki_types::ServerName::try_from(host).map_err(std::io::Error::other)?;
    let tls = Trust::Anyone.client_config(&[b"h2"]).map_err(std::io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(tls));
    Ok(TokioIo::new(Box::new(connector.connect(name, tcp).await?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> reqwest::Client {
        crate::peer_http_client().unwrap()
    }

    #[tokio::test]
    async fn addresses_and_channels_are_understood() {
        let peer = Peer::new("127.0.0.1:8935", http()).unwrap();
        assert_eq!(peer.url().as_str(), "https://127.0.0.1:8935/");
        let channel = peer.channel_url("/ai/trickle/ab/0badcafe").unwrap();
        assert_eq!(channel.as_str(), "https://127.0.0.1:8935/ai/trickle/ab/0badcafe");
        assert!(peer.channel_url("ftp://x/y").is_err());
        assert!(matches!(Peer::new("ftp://x", http()), Err(CallError::Address(..))));
        assert!(matches!(Peer::new("not a url", http()), Err(CallError::Address(..))));
    }

    #[tokio::test]
    async fn a_dead_peer_is_named_as_unreachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let peer = Peer::new(&address, http()).unwrap();
        let info = peer.info(OrchestratorRequest::default(), Duration::from_secs(5)).await;
        assert!(matches!(info, Err(CallError::Unreachable(_))), "{info:?}");
        let start = peer.start(&StartRequest::default(), "", "").await;
        assert!(matches!(start, Err(CallError::Unreachable(_))), "{start:?}");
    }
}
