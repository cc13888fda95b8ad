//! What HTTP handlers tell the worker, and what it answers.

use std::net::SocketAddr;

use tokio::sync::oneshot;

use super::Role;
use super::answer::Agreed;
use super::ice::Credentials;
use super::sdp::Offer;
use super::status::SessionStatus;
use crate::hub::{Reader, Writer};
use crate::name::StreamName;

/// One order.
pub(crate) enum Command {
    Open(Box<Open>, oneshot::Sender<Result<(), OpenError>>),
    Patch(Box<Patch>, oneshot::Sender<Result<PatchAnswer, PatchError>>),
    Close { role: Role, secret: String, reply: oneshot::Sender<bool> },
    Kick { id: String, reply: oneshot::Sender<bool> },
    List(oneshot::Sender<Vec<SessionStatus>>),
    Stop,
}

/// A session that was answered.
pub(crate) struct Open {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) etag: String,
    pub(crate) role: Role,
    pub(crate) stream: StreamName,
    pub(crate) requested_from: SocketAddr,
    pub(crate) user_agent: String,
    pub(crate) agreed: Agreed,
    pub(crate) credentials: Credentials,
    pub(crate) media: OpenMedia,
    /// Its credentials allow to publish what it steers.
    pub(crate) may_steer: bool,
}

/// Where a session's packets go to or come from.
pub(crate) enum OpenMedia {
    View(Reader),
    Publish(Writer),
}

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("this node serves {0} WebRTC sessions, its limit")]
    Sessions(usize),
    #[error("{0} sessions are in their handshake, the limit")]
    Handshakes(usize),
    #[error("this address has {0} WebRTC sessions, the limit")]
    FromAddress(usize),
    #[error("the session could not be set up: {0}")]
    Failed(String),
}

/// A fragment for a session.
pub(crate) struct Patch {
    pub(crate) role: Role,
    pub(crate) secret: String,
    /// `None` for `*`.
    pub(crate) etag: Option<String>,
    pub(crate) fragment: Offer,
}

/// What came of a fragment.
pub(crate) enum PatchAnswer {
    Trickled,
    Restarted { credentials: Credentials, etag: String, mids: Vec<(String, Option<String>)> },
}

/// Why a fragment was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("no such session")]
    NoSession,
    #[error("the entity tag is not that of the session")]
    EntityTag,
    #[error("the fragment has a new a=ice-ufrag without a=ice-pwd")]
    NoPassword,
}
