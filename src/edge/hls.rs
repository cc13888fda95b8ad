//! HLS both ways, which answers on the listener of the pages.

use std::time::Duration;

use ingest::hls::{Config, Server};
use ingest::http_push;

use super::Edge;

/// Starts it.
pub(crate) fn start(edge: &Edge) -> Server {
    let settings = &edge.settings.hls;
    let config = Config {
        low_latency: settings.low_latency,
        always: settings.always,
        segments: settings.segments,
        segment: Duration::from_millis(settings.segment_ms),
        part: Duration::from_millis(settings.part_ms),
        segment_bytes: settings.segment_bytes_max,
        close_after: Duration::from_secs(settings.close_after_seconds),
        sessions_max: settings.sessions_max,
        origins: edge.settings.http.allow_origins.clone(),
        ..Config::default()
    };
    let (hub, access, views) = (edge.hub.clone(), edge.access.clone(), edge.views.clone());
    let server = Server::new(config, hub, access, views, edge.stop.clone());
    edge.tasks.spawn(server.clone().run());
    server
}

/// Who publishes segments by HTTP.
pub(crate) fn publishers(edge: &Edge) -> http_push::Server {
    let config = http_push::Config {
        take_over: edge.settings.rtmp.take_over,
        segment_bytes: edge.settings.hls.segment_bytes_max,
        ..http_push::Config::default()
    };
    let (hub, access) = (edge.hub.clone(), edge.access.clone());
    http_push::Server::new(config, hub, access, edge.tasks.clone(), edge.stop.clone())
}
