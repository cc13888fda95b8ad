//! The RTMP listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::rtmp::{Config, Counters, Server};
use ingest::sessions::Sessions;

use super::{Edge, cannot_bind};

/// The longest wait of a viewer for his stream.
const VIEW_WAIT: Duration = Duration::from_secs(20);

/// A started listener.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) sessions: Sessions,
    pub(crate) counters: Arc<Counters>,
}

/// Starts it.
pub(crate) async fn start(edge: &Edge) -> Result<Started> {
    let settings = &edge.settings.rtmp;
    let config = Config {
        addr: settings.listen,
        take_over: settings.take_over,
        idle_timeout: Duration::from_secs(settings.read_timeout_seconds),
        connections_max: settings.connections_max,
        // A source may have to be started first, or a form; a stream that nobody makes is
        // answered sooner.
        play_wait: VIEW_WAIT,
        ..Config::default()
    };
    let counters = Arc::new(Counters::default());
    let (hub, access, views) = (edge.hub.clone(), edge.access.clone(), edge.views.clone());
    let server = Server::bind(config, hub, access, views, counters.clone())
        .await
        .with_context(|| cannot_bind("rtmp.listen", settings.listen))?;
    let started = Started { address: server.local_addr(), sessions: server.sessions(), counters };
    edge.tasks.spawn(server.run(edge.stop.clone()));
    Ok(started)
}
