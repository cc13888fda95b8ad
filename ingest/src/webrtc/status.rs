//! What the API shows of a session.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::ice::Link;
use super::session::{Media, Session};
use super::viewer::Figures;
use super::{Role, canonical};
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
    /// `udp` or `tcp`, what carries the media.
    pub transport: &'static str,
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
    /// Bits per second that the way to a viewer carries, by its reports on each packet.
    pub bitrate: Option<u64>,
    /// Pictures that a viewer did not get for that.
    pub frames_thinned: u64,
}

impl Session {
    /// What the API shows.
    pub(crate) fn status(&self, candidate: SocketAddr) -> SessionStatus {
        let path = self.ice.selected();
        let (figures, sends): (Figures, bool) = match &self.media {
            Media::Viewer(viewer) => (viewer.figures, true),
            Media::Publisher(publisher) => {
                (Figures { resent: publisher.recovered(), ..publisher.figures }, false)
            }
        };
        let when = |yes, value| if yes { value } else { 0 };
        SessionStatus {
            id: self.open.id.clone(),
            role: self.open.role,
            stream: self.open.stream.clone(),
            state: match (self.is_connected(), path) {
                (true, _) => SessionState::Connected,
                (false, Some(_)) => SessionState::Handshake,
                (false, None) => SessionState::Waiting,
            },
            since: self.open.since,
            requested_from: self.open.requested_from,
            remote: path.map(|path| canonical(path.remote)),
            transport: match path.map(|path| path.link) {
                Some(Link::Tcp(_)) => "tcp",
                _ => "udp",
            },
            local: path.map(|path| {
                let ip = path.local.map_or(candidate.ip(), |ip| ip.to_canonical());
                SocketAddr::new(ip, candidate.port())
            }),
            user_agent: self.open.user_agent.clone(),
            bytes_sent: when(sends, figures.bytes),
            packets_sent: when(sends, figures.packets),
            bytes_received: when(!sends, figures.bytes),
            packets_received: when(!sends, figures.packets),
            packets_lost: figures.lost,
            nacks: figures.nacks,
            packets_resent: figures.resent,
            plis: figures.plis,
            round_trip: figures.round_trip,
            bitrate: figures.way.bitrate,
            frames_thinned: figures.thinned,
        }
    }
}
