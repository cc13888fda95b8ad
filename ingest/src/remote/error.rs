//! Why an attempt at a remote end failed: what was being done, and where.

use std::time::Duration;

use crate::hub::PublishError;
use crate::views::ViewError;

/// The source of an error of a protocol.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an attempt failed. No text holds a secret of the URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL or what is asked with it cannot work.
    #[error("{target}: {why}")]
    Target {
        /// The URL as it may be shown.
        target: String,
        /// What is wrong.
        why: String,
    },
    /// The name has no address, or nobody answers there.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The other side could not prove who it is.
    #[error("TLS with {host}: {why}")]
    Tls {
        /// Host and port.
        host: String,
        /// What was wrong.
        why: String,
    },
    /// The other side was silent or too slow.
    #[error("no {what} within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The other side said no, in its words.
    #[error("{what} was refused: {reason}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its reason.
        reason: String,
    },
    /// What the other side sends cannot be used, or it takes none of what there is.
    #[error("{what}: {reason}")]
    Media {
        /// Which part of it.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The protocol, while doing something.
    #[error("{doing}: {source}")]
    Protocol {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        source: Cause,
    },
    /// The stream may not be written: somebody else publishes it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The stream cannot be read in a form that the other side takes.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A fault of ours; the end pays for it alone.
    #[error("internal fault: {0}")]
    Panicked(String),
}

impl Error {
    /// An error of a protocol while it was `doing` something.
    pub fn protocol(doing: &'static str, source: impl Into<Cause>) -> Self {
        Self::Protocol { doing, source: source.into() }
    }

    /// Whether another attempt cannot go better: it is for the one who wrote the URL to change it.
    pub const fn is_permanent(&self) -> bool {
        matches!(self, Self::Target { .. })
    }
}
