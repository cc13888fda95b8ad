//! What ends an RTSP connection. Each error names what was wrong and where, and concerns that
//! connection alone.

use std::time::Duration;

/// Why a connection ended other than by its own wish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket failed.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
    /// The peer broke the protocol or was silent.
    #[error(transparent)]
    Session(#[from] super::session::SessionError),
    /// Too many broken packets in a row.
    #[error("{count} broken packets in a row, the last: {last}")]
    BrokenMedia {
        /// How many.
        count: u32,
        /// What was wrong with the last.
        last: String,
    },
    /// The peer or the node was too slow.
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
    /// The stream's tracks are no longer what was described to the reader.
    #[error("the stream is another now than was described")]
    Changed,
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
