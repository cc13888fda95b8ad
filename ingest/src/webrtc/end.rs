//! When and why a session ends.

use std::time::Duration;

/// Time limits of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) handshake: Duration,
    pub(crate) consent: Duration,
    /// For publishers that say nothing at all.
    pub(crate) silence: Duration,
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum End {
    #[error("the peer closed it")]
    Closed,
    #[error("the client deleted it")]
    Deleted,
    #[error("its time is over")]
    Expired,
    #[error("it was kicked")]
    Kicked,
    #[error("no check of the peer came in time")]
    NoCheck,
    #[error("it gave way to a newcomer before its handshake was through")]
    GaveWay,
    #[error("the DTLS handshake took too long")]
    HandshakeTimeout,
    #[error("DTLS: {0}")]
    Dtls(String),
    #[error("the peer's consent ran out")]
    Consent,
    #[error("the publisher was silent")]
    Silent,
    #[error("another publisher took over, or this one was told to leave")]
    Replaced,
    #[error("the stream has no publisher any more")]
    StreamGone,
    #[error("the stream goes on in a coding that was not agreed on")]
    Recoded,
    #[error("the server stops")]
    Stopping,
    #[error("an internal error")]
    Panicked,
}
