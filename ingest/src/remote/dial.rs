//! Connecting to a remote end over TCP and TLS, within the limits of its options.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Error, Options};

/// Connects to host and port, trying each address of the name.
///
/// # Errors
/// [`Error::Connect`], [`Error::Timeout`].
pub async fn connect(host: &str, port: u16, options: &Options) -> Result<TcpStream, Error> {
    let limit = options.connect_timeout;
    let timeout = Error::Timeout { what: "connection", limit };
    let socket = tokio::time::timeout(limit, TcpStream::connect((host, port))).await;
    let failed = |source| Error::Connect { host: format!("{host}:{port}"), source };
    let socket = socket.map_err(|_| timeout)?.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

/// Begins TLS with the host that a connection leads to.
///
/// # Errors
/// [`Error::Tls`], [`Error::Timeout`].
pub async fn secure(
    socket: TcpStream,
    host: &str,
    options: &Options,
) -> Result<TlsStream<TcpStream>, Error> {
    let failed = |why: String| Error::Tls { host: host.to_owned(), why };
    let config = options.trust.client_config(&[]).map_err(failed)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
    let limit = options.connect_timeout;
    let secured = tokio::time::timeout(limit, connecting).await;
    secured
        .map_err(|_| Error::Timeout { what: "TLS handshake", limit })?
        .map_err(|error| failed(error.to_string()))
}
