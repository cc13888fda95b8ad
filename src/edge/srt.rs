//! The SRT listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use ingest::auth::Action;
use ingest::sessions::SessionStatus;
use ingest::srt::{
    Config, Connections, Counters, KeyLength, Rules, Server, Statistics, StreamRules,
};
use serde::Serialize;

use super::{Edge, cannot_bind};
use crate::rpc::credentials::unix_millis;

/// A started listener.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    pub(crate) counters: Arc<Counters>,
}

/// One connection with its figures, for the operator.
#[derive(Serialize)]
pub(crate) struct ConnectionView {
    id: String,
    remote: SocketAddr,
    created_ms: u64,
    state: &'static str,
    stream: Option<String>,
    user: String,
    bytes_in: u64,
    bytes_out: u64,
    /// Under the names that MediaMTX's API gives them.
    figures: Statistics,
}

impl ConnectionView {
    /// All of a listener, the oldest first.
    pub(crate) fn list(connections: &Connections) -> Vec<Self> {
        let view = |(status, figures): (SessionStatus, Statistics)| Self {
            id: status.id,
            remote: status.remote,
            created_ms: unix_millis(status.created),
            state: status.state.as_str(),
            stream: status.stream.map(|name| name.to_string()),
            user: status.user,
            bytes_in: status.bytes_in,
            bytes_out: status.bytes_out,
            figures,
        };
        connections.list().into_iter().map(view).collect()
    }
}

/// Starts it.
pub(crate) fn start(edge: &Edge) -> Result<Started> {
    let settings = &edge.settings.srt;
    let config = Config {
        addr: settings.listen,
        latency: Duration::from_millis(settings.latency_ms.into()),
        window: settings.buffer_packets,
        bytes_per_second: u64::from(settings.bandwidth_mbps_max) * 125_000,
        key_length: KeyLength::from_bytes(settings.key_bytes),
        default_stream: settings.default_stream().map_err(Error::msg)?,
        peer_timeout: Duration::from_secs(settings.peer_timeout_seconds),
        sessions_max: settings.sessions_max,
        per_ip_max: settings.sessions_per_ip_max,
        take_over: edge.settings.rtmp.take_over,
        ..Config::default()
    };
    let counters = Arc::new(Counters::default());
    let (hub, access, mpegts) = (edge.hub.clone(), edge.access.clone(), edge.mpegts.clone());
    let server = Server::bind(config, hub, access, mpegts, rules(edge), counters.clone())
        .with_context(|| cannot_bind("srt.listen", settings.listen))?;
    let started =
        Started { address: server.local_addr(), connections: server.connections(), counters };
    edge.tasks.spawn(server.run(edge.stop.clone()));
    Ok(started)
}

/// What the settings say of a stream, at each handshake anew.
fn rules(edge: &Edge) -> Rules {
    let streams = edge.streams.clone();
    Arc::new(move |name, action| {
        let stream = streams.of(name);
        let passphrase = match action {
            Action::Publish => &stream.srt_publish_passphrase,
            Action::Read | Action::Playback => &stream.srt_read_passphrase,
        };
        StreamRules {
            passphrase: passphrase.clone().filter(|text| !text.is_empty()),
            latency: stream.srt_latency_ms.map(|ms| Duration::from_millis(ms.into())),
        }
    })
}
