//! Settings of RTSP.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::settings::loopback;

/// RTSP, port 8554.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtsp {
    /// Whether the listener runs.
    pub enabled: bool,
    /// Address and port.
    pub listen: SocketAddr,
    /// Whether media may also travel as datagrams.
    pub udp: bool,
    /// Address and port of RTP; RTCP has the port behind it.
    pub udp_listen: SocketAddr,
    /// Whether a second publisher of a name replaces the first instead of being refused.
    pub take_over: bool,
    /// Seconds without any data after which a publisher is taken for gone.
    pub read_timeout_seconds: u64,
    /// Connections at the same time.
    pub connections_max: usize,
}

impl Default for Rtsp {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: loopback(8554),
            udp: true,
            udp_listen: loopback(8000),
            take_over: false,
            read_timeout_seconds: 10,
            connections_max: 1000,
        }
    }
}

/// RTSP in TLS with the node's certificate, port 8322. What is not here is as `rtsp` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtsps {
    /// Whether the listener runs; it needs that of `rtsp`.
    pub enabled: bool,
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Rtsps {
    fn default() -> Self {
        Self { enabled: true, listen: loopback(8322) }
    }
}
