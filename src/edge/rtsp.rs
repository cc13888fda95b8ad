//! The listeners of RTSP: plain, in TLS, and the ports of datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::rtsp::{Config, Counters, Server};
use ingest::sessions::Sessions;

use super::Edge;

/// Started listeners.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    /// Connections without and with TLS.
    pub(crate) sessions: [Sessions; 2],
    pub(crate) counters: Arc<Counters>,
}

/// Starts them.
pub(crate) async fn start(edge: &Edge) -> Result<Started> {
    let (settings, rtsps) = (&edge.settings.rtsp, &edge.settings.rtsps);
    // Clients that name protocols in TLS name none of HTTP's.
    let mut tls = (*edge.tls).clone();
    tls.alpn_protocols.clear();
    let config = Config {
        addr: settings.listen,
        tls: rtsps.enabled.then(|| (rtsps.listen, Arc::new(tls))),
        udp: settings.udp.then_some(settings.udp_listen),
        take_over: settings.take_over,
        idle_timeout: Duration::from_secs(settings.read_timeout_seconds),
        connections_max: settings.connections_max,
        ..Config::default()
    };
    let counters = Arc::new(Counters::default());
    let (hub, access, views) = (edge.hub.clone(), edge.access.clone(), edge.views.clone());
    let server = Server::bind(config, hub, access, views, counters.clone()).await;
    let server = server.context("rtsp.listen, rtsps.listen, rtsp.udp_listen: cannot listen")?;
    let started = Started {
        address: server.local_addr(),
        tls: server.tls_addr(),
        sessions: server.sessions(),
        counters,
    };
    edge.tasks.spawn(server.run(edge.stop.clone()));
    Ok(started)
}
