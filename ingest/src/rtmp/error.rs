//! What ends an RTMP connection. Each error names what was wrong and where, and concerns that
//! connection alone.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::sessions::Open;

/// Why a connection ended other than by its own wish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket failed.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
    /// The peer's TLS.
    #[error("TLS: {0}")]
    Tls(#[source] std::io::Error),
    /// The peer did not speak RTMP from the first byte on.
    #[error(transparent)]
    Handshake(#[from] super::handshake::HandshakeError),
    /// The peer broke the rules of the chunk stream.
    #[error(transparent)]
    Chunk(#[from] super::chunk::ChunkError),
    /// The peer sent a value that cannot be read.
    #[error(transparent)]
    Amf(#[from] super::amf::AmfError),
    /// The peer sent commands in an order or a form that makes no sense.
    #[error("{command}: {reason}")]
    Command {
        /// The command's name, cut to a length that a log can bear.
        command: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The peer's media cannot be carried.
    #[error(transparent)]
    Media(#[from] super::flv::MediaError),
    /// Too many broken media messages in a row.
    #[error("{count} broken media messages in a row, the last: {last}")]
    BrokenMedia {
        /// How many.
        count: u32,
        /// What was wrong with the last.
        last: String,
    },
    /// The peer was silent or too slow.
    #[error("no {what} within {limit:?}")]
    Stalled {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The peer may not do what it asked for.
    #[error("refused: {0}")]
    Refused(String),
    /// The owner of the node ended the connection.
    #[error("ended by the node's owner")]
    Kicked,
    /// It was idle, and a newcomer got its place.
    #[error("idle, and gave way to a newcomer")]
    GaveWay,
    /// Another publisher took the stream over, or its name was cleared.
    #[error("replaced by another publisher")]
    Replaced,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// A fault of ours; the connection pays for it alone.
    #[error("internal fault: {0}")]
    Panicked(String),
}

impl Error {
    /// Why a connection was cancelled.
    pub(super) fn cancelled(open: &Open, shutdown: &CancellationToken) -> Self {
        if shutdown.is_cancelled() {
            Self::Stopping
        } else if open.gave_way() {
            Self::GaveWay
        } else {
            Self::Kicked
        }
    }
}
