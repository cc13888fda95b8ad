//! What HTTP handlers tell the worker, and what it answers.

use tokio::sync::oneshot;

use super::Role;
use super::admission::Seat;
use super::answer::Agreed;
use super::ice::{Credentials, Transports};
use super::sdp::Offer;
use super::session::Facts;
use super::status::SessionStatus;
use crate::hub::{Reader, Writer};
use crate::views::Takes;

/// One order.
pub(crate) enum Command {
    Open(Box<Open>, oneshot::Sender<Result<(), OpenError>>),
    Patch(Box<Patch>, oneshot::Sender<Result<PatchAnswer, PatchError>>),
    Close {
        role: Role,
        secret: String,
        reply: oneshot::Sender<bool>,
    },
    Kick {
        id: String,
        reply: oneshot::Sender<bool>,
    },
    /// A viewer wants one rendition of the pictures, or leaves it to the way.
    Layer {
        secret: String,
        rid: Option<String>,
        reply: oneshot::Sender<Result<(), LayerError>>,
    },
    List(oneshot::Sender<Vec<SessionStatus>>),
    /// Has the session with this id give way.
    #[cfg(test)]
    Break {
        id: String,
        reply: oneshot::Sender<()>,
    },
    Stop,
}

/// A session that was answered.
pub(crate) struct Open {
    pub(crate) facts: Facts,
    pub(crate) agreed: Agreed,
    pub(crate) credentials: Credentials,
    pub(crate) media: OpenMedia,
    pub(crate) seat: Seat,
}

/// Where a session's packets go to or come from.
pub(crate) enum OpenMedia {
    /// With what the viewer can take, for when the publisher comes back.
    View(Reader, &'static Takes),
    Publish(Writer),
}

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
#[error("the session could not be set up: {0}")]
pub(crate) struct OpenError(pub(crate) String);

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
    Restarted {
        credentials: Credentials,
        etag: String,
        mids: Vec<(String, Option<String>)>,
        transports: Transports,
    },
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

/// Why a viewer's choice was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("no such session")]
    NoSession,
    #[error("the stream has no rendition {0:?}")]
    Unknown(String),
}
