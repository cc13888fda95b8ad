//! SRT: publishers and readers on port 8890/udp, and calls to other servers (draft-sharabayko-srt-01).
//!
//! All sessions of a listener share one socket and are told apart by the socket ids of their
//! packets; what a session wants is in its stream id ([`StreamId`]). The protocol is in cores
//! without input or output: the handshake from both sides, encryption, and both halves of a
//! connection. `server` holds the socket, `link` drives one connection, `session` joins it to the
//! hub. Left out are rendezvous, file mode, packet filters (FEC) and bonding: who asks for them is
//! refused with the protocol's own code.

mod accept;
mod admit;
mod call;
mod client;
mod connection;
mod crypto;
pub(crate) mod fuzz;
mod handshake;
mod link;
mod receive;
mod send;
mod server;
mod session;
mod stats;
mod streamid;
mod strikes;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use client::{pull, push};
pub use connection::Ended;
pub use crypto::{KeyLength, PASSPHRASE_BYTES};
pub use handshake::Reject;
pub use server::{Connections, Server};
pub use session::SessionError;
pub use stats::Statistics;
pub use streamid::{StreamId, StreamIdError};

use crate::auth::Action;
use crate::counters::{add, counters};
use crate::name::StreamName;

/// What holds for one stream, for its publishers or for its readers.
#[derive(Clone, Default)]
pub struct StreamRules {
    /// They need this passphrase; `None` where nothing is encrypted.
    pub passphrase: Option<String>,
    /// Instead of [`Config::latency`].
    pub latency: Option<Duration>,
}

/// The rules of streams. Asked for each handshake, so that they may change while the server runs.
pub type Rules = Arc<dyn Fn(&StreamName, Action) -> StreamRules + Send + Sync>;

/// What a server listens on and how much it takes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub addr: SocketAddr,
    /// Delay within which a lost packet may be sent again, at least; the longer of both sides' wishes
    /// counts.
    pub latency: Duration,
    /// Packets that a session may hold back for a lost one, and packets sent and not acknowledged.
    pub window: usize,
    /// Bytes in a second that a reader is sent at most, packets sent again included; 0 is no limit.
    pub bytes_per_second: u64,
    /// Key length asked of those who encrypt; `None` takes any.
    pub key_length: Option<KeyLength>,
    /// The stream that an encoder without stream id publishes.
    pub default_stream: Option<StreamName>,
    /// For the question whether a session is allowed.
    pub command_timeout: Duration,
    /// Silence of the other side after which it is gone.
    pub peer_timeout: Duration,
    /// Between two pictures or sounds of a publisher.
    pub idle_timeout: Duration,
    /// Sessions at the same time.
    pub sessions_max: usize,
    /// Handshakes that wait for an answer at the same time.
    pub handshakes_max: usize,
    /// Sessions and handshakes of one address at the same time.
    pub per_ip_max: usize,
    /// Whether a second publisher of a name replaces the first; it is refused otherwise.
    pub take_over: bool,
}

impl Default for Config {
    /// Loopback on port 8890; 120 ms of latency, 8,192 packets (12 MiB, 3 s at 30 Mbit/s); 10 s for
    /// a question, silence and media; 1,000 sessions, 256 of one address, 256 handshakes; a second
    /// publisher is refused.
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 8890)),
            latency: Duration::from_millis(120),
            window: 8192,
            bytes_per_second: 0,
            key_length: None,
            default_stream: None,
            command_timeout: Duration::from_secs(10),
            peer_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            sessions_max: 1000,
            handshakes_max: 256,
            per_ip_max: 256,
            take_over: false,
        }
    }
}

counters! {
    /// Sessions that were accepted.
    connections,
    /// Callers turned away: limits, stream ids, passphrases, credentials, second publishers.
    refused,
    /// Sessions ended by an error.
    failed,
    /// Bytes of datagrams received.
    bytes_in,
    /// Bytes of datagrams sent.
    bytes_out,
    /// Datagrams that were for nobody, or not from where a session's peer is.
    ignored,
    /// Datagrams that a session could not take in time.
    dropped,
    /// Packets of publishers that never came, of sessions that ended.
    lost,
    /// Packets that readers were sent again, of sessions that ended.
    resent,
    /// Packets of media that slow readers lost, of sessions that ended.
    skipped,
}
