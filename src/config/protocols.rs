//! Settings of the protocols that publishers and viewers use, a section each.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::settings::loopback;

/// RTMP, port 1935.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    /// Whether the listener runs.
    pub enabled: bool,
    /// Address and port.
    pub listen: SocketAddr,
    /// Whether a second publisher of a name replaces the first instead of being refused.
    pub take_over: bool,
    /// Seconds without any data after which a publisher is taken for gone.
    pub read_timeout_seconds: u64,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Milliseconds, up to 1000, that pictures and sound may wait for the next ones so that a
    /// viewer is sent both in one write; 0 sends each as it comes.
    pub merge_ms: u64,
}

impl Default for Rtmp {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: loopback(1935),
            take_over: false,
            read_timeout_seconds: 10,
            connections_max: 1000,
            merge_ms: 0,
        }
    }
}

/// RTMP in TLS with the node's certificate, port 1936. What is not here is as `rtmp` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmps {
    /// Whether the listener runs.
    pub enabled: bool,
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Rtmps {
    fn default() -> Self {
        Self { enabled: true, listen: loopback(1936) }
    }
}

/// Pages, WHIP and WHEP over HTTP and HTTPS on one port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port; both plain HTTP and HTTPS are answered on it.
    pub listen: SocketAddr,
    /// Origins whose pages may use the browser module; `*` for any.
    pub allow_origins: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: loopback(8889), allow_origins: vec!["*".into()] }
    }
}

/// All WebRTC media on one port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebRtc {
    /// UDP address and port.
    pub listen: SocketAddr,
    /// Whether the TCP port of the same number carries media too.
    pub tcp: bool,
    /// Threads that share the sessions, each with a socket on the one port; 0 is one for each core.
    pub workers: u8,
    /// Further addresses offered to peers: the public address behind a NAT, say.
    pub hosts: Vec<IpAddr>,
    /// STUN and TURN servers that clients are told of.
    pub ice_servers: Vec<IceServer>,
    /// Sessions at the same time.
    pub sessions_max: usize,
    /// Of those, sessions of one address, or of one /64 of IPv6.
    pub sessions_per_ip_max: usize,
}

/// A STUN or TURN server. With `secret` clients get credentials that end after an hour; with `user`
/// and `password` all get these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IceServer {
    /// `stun:host:port` or `turn:host:port?transport=udp`.
    pub url: String,
    /// The name for all.
    pub user: String,
    /// The password for all.
    pub password: String,
    /// What is shared with the TURN server (`static-auth-secret` of coturn).
    pub secret: String,
}

impl Default for WebRtc {
    fn default() -> Self {
        Self {
            listen: loopback(8189),
            tcp: true,
            workers: 0,
            hosts: Vec::new(),
            ice_servers: Vec::new(),
            sessions_max: 10_000,
            sessions_per_ip_max: 128,
        }
    }
}
