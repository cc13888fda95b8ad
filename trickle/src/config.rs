//! What the owner of a server decides: bounds, who may do what, and who is asked.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Refusal;

/// Settings of a [`crate::Server`].
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Bounds.
    pub limits: Limits,
    /// Whether a remote POST makes a channel that does not exist. Off on a node.
    pub autocreate: bool,
    /// Whether the channel `_changes` announces channels that come and go.
    pub changefeed: bool,
    /// Asked before a remote peer creates or closes a channel.
    pub hook: Option<Hook>,
}

/// Bounds on everything that can grow. Each is at least 1 (a zero counts as 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Segments kept for readers in each channel, at least 2.
    pub ring_segments: usize,
    /// Bytes of one segment; each chunk counts [`CHUNK_COST`] bytes on top of its own.
    pub segment_bytes: usize,
    /// Bytes kept by one channel; the oldest finished segments go first.
    pub channel_bytes: usize,
    /// Channels at the same time.
    pub channels: usize,
    /// Readers of one channel, waiting or reading.
    pub readers: usize,
    /// Open publish requests of one channel.
    pub writers: usize,
    /// How far ahead of the write head a segment may be opened.
    pub index_window: u64,
    /// How long a publish request that has sent its first byte may be silent.
    pub write_silence: Duration,
    /// A channel without a segment's first byte for this long is closed.
    pub idle: Duration,
    /// How often idle channels are looked for.
    pub sweep_every: Duration,
}

/// What a chunk costs beside its bytes, so that one-byte chunks cannot outgrow the limits. Bytes.
pub const CHUNK_COST: usize = 64;

impl Default for Limits {
    /// The network's ring of 5 and idle rules (5 min, looked at each minute); 32 MiB a segment
    /// (8 s at 32 Mbit/s), 128 MiB and 1,000 readers a channel, 4,096 channels.
    fn default() -> Self {
        Self {
            ring_segments: 5,
            segment_bytes: 32 << 20,
            channel_bytes: 128 << 20,
            channels: 4096,
            readers: 1000,
            writers: 16,
            index_window: 100_000,
            write_silence: Duration::from_secs(60),
            idle: Duration::from_secs(5 * 60),
            sweep_every: Duration::from_secs(60),
        }
    }
}

/// What remote peers may do with a channel. The node itself may always do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Publish segments, close segments, close the channel.
    pub publish: bool,
    /// Read segments and the write head.
    pub subscribe: bool,
}

impl Access {
    /// Remote peers publish and subscribe.
    pub const ALL: Access = Access { publish: true, subscribe: true };
    /// Remote peers publish; only the node reads.
    pub const PUBLISH: Access = Access { publish: true, subscribe: false };
    /// Remote peers read; only the node publishes.
    pub const SUBSCRIBE: Access = Access { publish: false, subscribe: true };
    /// For the node alone.
    pub const NONE: Access = Access { publish: false, subscribe: false };
}

/// What a remote peer wants to do to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Make it.
    Create,
    /// Close and remove it.
    Close,
}

/// The question put to a [`Hook`].
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is wanted.
    pub wish: Wish,
    /// The channel's name.
    pub name: String,
    /// The request's headers.
    pub headers: http::HeaderMap,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), (u16, String)>> + Send>>;

/// The owner's say before a remote peer creates or closes a channel.
#[derive(Clone)]
pub struct Hook(Arc<dyn Fn(Ask) -> Answer + Send + Sync>);

impl Hook {
    /// Wraps a question. It answers `Err((status, text))` to refuse: any 4xx stays, 500 stays,
    /// anything else becomes 400.
    pub fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn(Ask) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), (u16, String)>> + Send + 'static,
    {
        Self(Arc::new(move |question| Box::pin(ask(question))))
    }

    pub(crate) async fn ask(&self, question: Ask) -> Result<(), Refusal> {
        (self.0)(question).await.map_err(|(status, text)| {
            let status = if matches!(status, 400..=500) { status } else { 400 };
            Refusal::Owner { status, text }
        })
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
