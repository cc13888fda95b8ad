//! The listeners that face publishers and viewers: one file for each protocol, which turns the
//! settings into a started server.

pub(crate) mod hls;
pub(crate) mod playback;
pub(crate) mod record;
pub(crate) mod remote;
pub(crate) mod rtmp;
pub(crate) mod rtsp;
pub(crate) mod srt;
pub(crate) mod webrtc;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ingest::Hub;
use ingest::auth::SharedAccess;
use ingest::mpegts::Fanout;
use ingest::views::Views;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::streams::StreamSettings;

/// What the listeners need from the node.
pub(crate) struct Edge {
    pub(crate) settings: Settings,
    pub(crate) hub: Hub,
    pub(crate) access: SharedAccess,
    /// Streams for viewers: those that are always available have a slate.
    pub(crate) views: Arc<dyn Views>,
    /// Streams as they are published.
    pub(crate) published: Arc<dyn Views>,
    /// Streams as MPEG-TS, muxed once for all who read them.
    pub(crate) mpegts: Fanout,
    /// Settings of single streams.
    pub(crate) streams: StreamSettings,
    /// The node's certificate.
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// Where servers run.
    pub(crate) tasks: TaskTracker,
    /// Ends them.
    pub(crate) stop: CancellationToken,
}

/// `public`: what listens on loopback for people and peers listens on all addresses.
pub(crate) fn open_to_all(settings: &mut Settings) {
    let Settings { rtmp, rtmps, rtsp, rtsps, srt, http, webrtc, orchestrator, .. } = settings;
    for listen in [
        &mut rtmp.listen,
        &mut rtmps.listen,
        &mut rtsp.listen,
        &mut rtsp.udp_listen,
        &mut rtsps.listen,
        &mut srt.listen,
        &mut http.listen,
        &mut webrtc.listen,
        &mut orchestrator.listen,
    ] {
        if listen.ip().is_loopback() {
            listen.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
    }
}

/// What is said when a listener cannot have its address.
pub(crate) fn cannot_bind(setting: &str, address: SocketAddr) -> String {
    format!("{setting}: cannot listen on {address}")
}
