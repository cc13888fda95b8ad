//! The RTMP and RTMPS listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::rtmp::{Config, Counters, Server};
use ingest::sessions::Sessions;

use super::{Edge, cannot_bind};

/// A started listener.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) sessions: Sessions,
}

/// Starts RTMP.
pub(crate) async fn start(edge: &Edge, counters: Arc<Counters>) -> Result<Started> {
    listen(edge, counters, "rtmp.listen", edge.settings.rtmp.listen, None).await
}

/// Starts RTMPS.
pub(crate) async fn start_tls(edge: &Edge, counters: Arc<Counters>) -> Result<Started> {
    // Clients that name protocols in TLS name none of HTTP's.
    let mut tls = (*edge.tls).clone();
    tls.alpn_protocols.clear();
    let listen_on = edge.settings.rtmps.listen;
    listen(edge, counters, "rtmps.listen", listen_on, Some(Arc::new(tls))).await
}

async fn listen(
    edge: &Edge,
    counters: Arc<Counters>,
    setting: &str,
    addr: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Result<Started> {
    let settings = &edge.settings.rtmp;
    let config = Config {
        addr,
        tls,
        take_over: settings.take_over,
        idle_timeout: Duration::from_secs(settings.read_timeout_seconds),
        connections_max: settings.connections_max,
        ..Config::default()
    };
    let (hub, access, views) = (edge.hub.clone(), edge.access.clone(), edge.views.clone());
    let server = Server::bind(config, hub, access, views, counters)
        .await
        .with_context(|| cannot_bind(setting, addr))?;
    let started = Started { address: server.local_addr(), sessions: server.sessions() };
    edge.tasks.spawn(server.run(edge.stop.clone()));
    Ok(started)
}
