//! WebRTC media and its HTTP routes, which the node joins to its pages.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::webrtc::{Config, IceServer, Login, Server};

use super::{Edge, cannot_bind};
use crate::config;

/// How long a client may use a TURN server with credentials of its own.
const TURN_LIFETIME: Duration = Duration::from_secs(3600);

/// Starts it.
pub(crate) fn start(edge: &Edge) -> Result<Server> {
    let settings = &edge.settings;
    let config = Config {
        udp: settings.webrtc.listen,
        tcp: settings.webrtc.tcp,
        workers: settings.webrtc.workers,
        advertised: settings.webrtc.hosts.iter().map(IpAddr::to_string).collect(),
        ice_servers: settings.webrtc.ice_servers.iter().map(ice_server).collect(),
        origins: settings.http.allow_origins.clone(),
        sessions_max: settings.webrtc.sessions_max,
        sessions_per_ip_max: settings.webrtc.sessions_per_ip_max,
        take_over: settings.rtmp.take_over,
        ..Config::default()
    };
    let (hub, access, views) = (edge.hub.clone(), edge.access.clone(), edge.views.clone());
    let server = Server::start(config, hub, access, views)
        .with_context(|| cannot_bind("webrtc.listen", settings.webrtc.listen))?;
    let (running, until) = (server.clone(), edge.stop.clone());
    edge.tasks.spawn(running.run(async move { until.cancelled().await }));
    Ok(server)
}

fn ice_server(server: &config::IceServer) -> IceServer {
    let config::IceServer { url, user, password, secret } = server.clone();
    let login = match (secret.is_empty(), user.is_empty()) {
        (false, _) => Login::Timed { secret, lifetime: TURN_LIFETIME },
        (true, false) => Login::Fixed { user, password },
        (true, true) => Login::Open,
    };
    IceServer { url, login }
}
