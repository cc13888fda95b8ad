//! The RTMP and RTMPS listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::rtmp::{Config, Counters, Server};
use ingest::sessions::Sessions;

use super::{Edge, cannot_bind};
use crate::status::Parts;

/// The longest wait of a viewer for his stream.
const VIEW_WAIT: Duration = Duration::from_secs(20);

/// Longest wait for more to send, in milliseconds.
const MERGE_MS_MAX: u64 = 1000;

/// Where RTMP and RTMPS listen.
type Addresses = (Option<SocketAddr>, Option<SocketAddr>);

/// Starts those that the settings ask for.
pub(crate) async fn start(edge: &Edge, parts: &mut Parts) -> Result<Addresses> {
    let (plain, tls) = (&edge.settings.rtmp, &edge.settings.rtmps);
    let (mut addresses, counters) = ((None, None), Arc::<Counters>::default());
    if plain.enabled {
        let (address, sessions) =
            listen(edge, &counters, "rtmp.listen", plain.listen, None).await?;
        (addresses.0, parts.rtmp) = (Some(address), Some((sessions, Arc::clone(&counters))));
    }
    if tls.enabled {
        // Clients that name protocols in TLS name none of HTTP's.
        let mut config = (*edge.tls).clone();
        config.alpn_protocols.clear();
        let config = Some(Arc::new(config));
        let (address, sessions) =
            listen(edge, &counters, "rtmps.listen", tls.listen, config).await?;
        (addresses.1, parts.rtmps) = (Some(address), Some((sessions, counters)));
    }
    Ok(addresses)
}

async fn listen(
    edge: &Edge,
    counters: &Arc<Counters>,
    setting: &str,
    addr: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Result<(SocketAddr, Sessions)> {
    let settings = &edge.settings.rtmp;
    let config = Config {
        addr,
        tls,
        take_over: settings.take_over,
        merge: Duration::from_millis(settings.merge_ms.min(MERGE_MS_MAX)),
        idle_timeout: Duration::from_secs(settings.read_timeout_seconds),
        connections_max: settings.connections_max,
        // A source may have to be started first, or a form; a stream that nobody makes is
        // answered sooner.
        play_wait: VIEW_WAIT,
        ..Config::default()
    };
    let (hub, access, views) = (edge.hub.clone(), edge.access.clone(), edge.views.clone());
    let server = Server::bind(config, hub, access, views, Arc::clone(counters))
        .await
        .with_context(|| cannot_bind(setting, addr))?;
    let started = (server.local_addr(), server.sessions());
    edge.tasks.spawn(server.run(edge.stop.clone()));
    Ok(started)
}
