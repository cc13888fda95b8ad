//! Where a viewer's packets come from: the node may put a shared re-encode between a stream and
//! viewers that could not play it.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::hub::{Hub, Reader, Start};
use crate::name::StreamName;

/// Why a stream cannot be watched over WebRTC now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// Nobody publishes it.
    #[error("stream {0} has no publisher")]
    NotFound(StreamName),
    /// No browser can play it and it cannot be re-encoded.
    #[error("stream {name} cannot be watched over WebRTC: {why}")]
    Unplayable {
        /// The stream.
        name: StreamName,
        /// The reason, for the viewer's eyes.
        why: String,
    },
    /// This node cannot take on another re-encode at the moment.
    #[error("stream {name} cannot be watched now: {why}")]
    Busy {
        /// The stream.
        name: StreamName,
        /// The reason, for the viewer's eyes.
        why: String,
    },
}

/// Who answers a viewer's wish for a stream.
pub trait Views: Send + Sync + 'static {
    /// A reader whose packets every WebRTC client plays (H.264 without B-frames in 4:2:0 and 8 bit;
    /// Opus; other sound is left out), made for viewers if the stream itself is something else.
    /// It begins at the newest key picture.
    ///
    /// # Errors
    /// [`ViewError`].
    fn webrtc(&self, name: &StreamName) -> BoxFuture<'_, Result<Reader, ViewError>>;
}

/// Streams as they are in the hub, for nodes and tests whose streams all viewers can play.
pub struct HubViews {
    hub: Hub,
    wait: Duration,
}

impl HubViews {
    /// Subscribes to `hub`, waiting at most 2 s for a publisher.
    pub fn new(hub: Hub) -> Self {
        Self { hub, wait: Duration::from_secs(2) }
    }

    /// The same with another patience.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

impl Views for HubViews {
    fn webrtc(&self, name: &StreamName) -> BoxFuture<'_, Result<Reader, ViewError>> {
        let name = name.clone();
        Box::pin(async move {
            let reader = self.hub.wait_subscribe(&name, Start::LastKey, self.wait).await;
            reader.ok_or(ViewError::NotFound(name))
        })
    }
}
