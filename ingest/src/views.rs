//! In which form a reader gets a stream: the node may put a shared transcoder between a stream and
//! readers that could not play it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use pipeline::Codec;

use crate::hub::{Hub, Reader, Start};
use crate::name::StreamName;

/// What a kind of reader can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// The kind of reader, for logs and reasons: `WebRTC`, `RTMP`, ...
    pub label: &'static str,
    /// Codings of pictures, the most wanted first.
    pub video: &'static [Codec],
    /// Codings of sound, the most wanted first; sound of another kind is re-encoded to the first
    /// of them that is [`Codec::Opus`] or [`Codec::Aac`].
    pub audio: &'static [Codec],
    /// Whether pictures may come out of presentation order. False also asks for what real-time
    /// decoders of browsers show: 4:2:0, 8 bit, progressive.
    pub reordering: bool,
}

impl Takes {
    /// What every WebRTC client plays.
    pub const WEBRTC: Self =
        Self { label: "WebRTC", video: &[Codec::H264], audio: &[Codec::Opus], reordering: false };
}

/// Why a stream cannot be read in a form now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// Nobody publishes it.
    #[error("stream {0} has no publisher")]
    NotFound(StreamName),
    /// Such readers cannot play it and it cannot be re-encoded.
    #[error("stream {name} cannot be read in this way: {why}")]
    Unplayable {
        /// The stream.
        name: StreamName,
        /// The reason, for the reader's eyes.
        why: String,
    },
    /// This node cannot take on another re-encode at the moment.
    #[error("stream {name} cannot be read now: {why}")]
    Busy {
        /// The stream.
        name: StreamName,
        /// The reason, for the reader's eyes.
        why: String,
    },
}

/// Who answers a reader's wish for a stream.
pub trait Views: Send + Sync + 'static {
    /// A reader of the stream in a form that `takes` allows, made once for all who need the same.
    /// It begins at the newest key picture, and what is cached reaches to the live edge.
    ///
    /// # Errors
    /// [`ViewError`].
    fn view(
        &self,
        name: &StreamName,
        takes: &'static Takes,
    ) -> BoxFuture<'_, Result<Reader, ViewError>>;
}

/// Streams as they are in the hub, for nodes and tests whose streams all readers can play.
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
    fn view(
        &self,
        name: &StreamName,
        _: &'static Takes,
    ) -> BoxFuture<'_, Result<Reader, ViewError>> {
        let name = name.clone();
        Box::pin(async move {
            let reader = self.hub.wait_subscribe(&name, Start::LastKey, self.wait).await;
            reader.ok_or(ViewError::NotFound(name))
        })
    }
}
