//! The listeners that face publishers and viewers: one file for each protocol, which turns the
//! settings into a started server.

pub(crate) mod hls;
pub(crate) mod remote;
pub(crate) mod rtmp;
pub(crate) mod webrtc;

use std::net::SocketAddr;
use std::sync::Arc;

use ingest::Hub;
use ingest::auth::SharedAccess;
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
    pub(crate) views: Arc<dyn Views>,
    /// Settings of single streams.
    #[allow(dead_code, reason = "RTMP and WebRTC follow the settings for all")]
    pub(crate) streams: StreamSettings,
    /// The node's certificate.
    #[allow(dead_code, reason = "RTMP and WebRTC do not use it")]
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// Where servers run.
    pub(crate) tasks: TaskTracker,
    /// Ends them.
    pub(crate) stop: CancellationToken,
}

/// What is said when a listener cannot have its address.
pub(crate) fn cannot_bind(setting: &str, address: SocketAddr) -> String {
    format!("{setting}: cannot listen on {address}")
}
