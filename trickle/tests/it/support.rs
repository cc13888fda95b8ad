//! A server on a free port of loopback, and a client that writes HTTP/1.1 as text.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use trickle::{Config, Server};

pub(crate) const BASE: &str = "/ai/trickle";

/// Everything awaited in these tests comes within this, or the test fails instead of hanging.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

/// A server behind a listener; dropping it cuts all connections.
pub(crate) struct Node {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    /// DER of the certificate, with TLS.
    pub(crate) certificate: Option<Vec<u8>>,
    accepting: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(config: Config) -> Self {
        Self::serve(Server::new(config), None, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::serve(Server::new(Config::default()), None, &address.to_string()).await
    }

    /// With TLS and the given protocols on offer.
    pub(crate) async fn start_tls(config: Config, protocols: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut settings = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        settings.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(settings));
        let mut node = Self::serve(Server::new(config), Some(tls), "127.0.0.1:0").await;
        node.certificate = Some(made.cert.der().to_vec());
        node
    }

    async fn serve(server: Server, tls: Option<tokio_rustls::TlsAcceptor>, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = server.router(BASE);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (router, tls) = (router.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, router).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, router).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { server, address, certificate: None, accepting }
    }

    /// Cuts all connections and frees the port.
    pub(crate) async fn kill(mut self) {
        self.accepting.abort();
        (&mut self.accepting).await.unwrap_err();
    }

    pub(crate) fn url(&self, name: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{BASE}/{name}", self.address)
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw { stream: TcpStream::connect(self.address).await.unwrap(), received: Vec::new() }
    }

    /// One request on a connection of its own: the answer's head without its date, and its body.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut raw = self.raw().await;
        raw.send(request).await;
        raw.answer().await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection<S>(stream: S, router: axum::Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    trickle::tune_connection(&mut builder);
    let service = TowerToHyperService::new(router);
    // A cut connection is what some tests want.
    builder.serve_connection(TokioIo::new(stream), service).await.ok();
}

/// HTTP/1.1 by hand. In requests `\n` stands for the line end and `BASE` for the base path.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    /// Sends a head: the lines given, a host line and the empty line.
    pub(crate) async fn send(&mut self, head: &str) {
        let head = head.replace("BASE", BASE).replace('\n', "\r\n");
        self.bytes(&format!("{head}\r\nHost: x\r\n\r\n")).await;
    }

    /// Sends one chunk of a body; an empty one ends it.
    pub(crate) async fn chunk(&mut self, text: &str) {
        self.bytes(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    pub(crate) async fn bytes(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The next answer's head, `\n` for line ends, without its date.
    pub(crate) async fn head(&mut self) -> String {
        let head = self.until(b"\r\n\r\n").await;
        let lines = head.trim_end().lines().filter(|line| !line.starts_with("Date: "));
        lines.fold(String::new(), |text, line| text + line + "\n")
    }

    /// A whole answer: head, and the body where its length is told.
    pub(crate) async fn answer(&mut self) -> String {
        let head = self.head().await;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
        let body = self.exactly(length).await;
        head + &body
    }

    /// The next chunk of a chunked body; empty at its end.
    pub(crate) async fn next_chunk(&mut self) -> String {
        let length = self.until(b"\r\n").await;
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        let text = self.exactly(length + 2).await;
        text[..length].to_owned()
    }

    /// Whether the other end has closed the connection, nothing more to come.
    pub(crate) async fn at_end(&mut self) -> bool {
        let mut byte = [0];
        self.received.is_empty() && !matches!(soon(self.stream.read(&mut byte)).await, Ok(1))
    }

    async fn until(&mut self, mark: &[u8]) -> String {
        loop {
            let found = self.received.windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return self.take(at + mark.len());
            }
            self.more().await;
        }
    }

    async fn exactly(&mut self, length: usize) -> String {
        while self.received.len() < length {
            self.more().await;
        }
        self.take(length)
    }

    fn take(&mut self, length: usize) -> String {
        String::from_utf8(self.received.drain(..length).collect()).unwrap()
    }

    async fn more(&mut self) {
        let read = soon(self.stream.read_buf(&mut self.received)).await.unwrap();
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&self.received));
    }
}
