//! What the API shows of a session.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::Role;
use crate::name::StreamName;

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Answered; no check of the peer has come.
    Waiting,
    /// The peer's checks arrive, DTLS is under way.
    Handshake,
    /// Media may flow.
    Connected,
}

/// One session at one moment.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Its id, which is not the secret of its URL.
    pub id: String,
    /// Which side of the stream it is on.
    pub role: Role,
    /// The stream.
    pub stream: StreamName,
    /// How far it is.
    pub state: SessionState,
    /// When it was asked for.
    pub since: SystemTime,
    /// Where the HTTP request came from.
    pub requested_from: SocketAddr,
    /// Where media goes to and comes from, once known.
    pub remote: Option<SocketAddr>,
    /// The candidate that the peer uses, once known.
    pub local: Option<SocketAddr>,
    /// The client's name for itself, or empty.
    pub user_agent: String,
    /// Bytes of protected RTP sent.
    pub bytes_sent: u64,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Bytes of protected RTP received.
    pub bytes_received: u64,
    /// RTP packets received.
    pub packets_received: u64,
    /// Packets that never came: by the viewer's reports, or of what the publisher sent.
    pub packets_lost: u64,
    /// Sequence numbers asked for again, by the viewer or by us.
    pub nacks: u64,
    /// Packets sent again.
    pub packets_resent: u64,
    /// Key frames asked for, by the viewer or by us.
    pub plis: u64,
    /// The time of a round trip by sender and receiver reports, once known.
    pub round_trip: Option<Duration>,
}
