//! What can go wrong, who is at fault, and whether trying again can help.
//!
//! [`Refusal`] is a rule of a channel saying no (the server turns it into a status and a text);
//! [`Error`] is what a publisher or a subscriber sees, the same over HTTP and in process.

use std::sync::Arc;
use std::time::Duration;

/// Who has to change something before the same call can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller: an address, an index, a size.
    Caller,
    /// The other end, or the state of the channel there.
    Peer,
    /// The road between the two.
    Network,
}

/// Why a publisher or subscriber call failed. Cloning is cheap.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The channel does not exist (HTTP 404).
    #[error("channel {channel}: not found")]
    NotFound {
        /// The channel's name, or its URL over HTTP.
        channel: Arc<str>,
    },
    /// The channel was closed: end of stream for a publisher. (A subscriber sees `Ok(None)`.)
    #[error("channel {channel}: closed")]
    Closed {
        /// The channel.
        channel: Arc<str>,
    },
    /// The other end refused by one of its rules.
    #[error("channel {channel}: refused with {status}: {text}")]
    Refused {
        /// The channel.
        channel: Arc<str>,
        /// The HTTP status (in process: the one that HTTP would have had).
        status: u16,
        /// The first line of the answer.
        text: String,
    },
    /// A segment broke off before its end: the server went away, or threw the segment out while
    /// this reader lagged. The bytes read so far are good.
    #[error("channel {channel} segment {seq}: cut after {bytes} bytes: {reason}")]
    Reset {
        /// The channel.
        channel: Arc<str>,
        /// The segment.
        seq: u64,
        /// Bytes that came through before the cut.
        bytes: u64,
        /// What was seen.
        reason: String,
    },
    /// The peer took no bytes for [`PublisherOptions::write_timeout`] while the queue of the
    /// segment was full. The chunk was not queued.
    ///
    /// [`PublisherOptions::write_timeout`]: crate::PublisherOptions::write_timeout
    #[error(
        "channel {channel} segment {seq}: peer took nothing for {waited:?}, {queued} bytes wait"
    )]
    Stalled {
        /// The channel.
        channel: Arc<str>,
        /// The segment.
        seq: u64,
        /// Bytes that wait for the peer.
        queued: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// A segment grew beyond its limit.
    #[error("channel {channel} segment {seq}: larger than {limit} bytes")]
    TooLarge {
        /// The channel.
        channel: Arc<str>,
        /// The segment.
        seq: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// Connecting, sending or receiving failed, retries included.
    #[error("channel {channel}: {doing}: {reason}")]
    Io {
        /// The channel.
        channel: Arc<str>,
        /// What was being done.
        doing: &'static str,
        /// The causes, outermost first.
        reason: String,
    },
    /// The answer does not follow the protocol.
    #[error("channel {channel}: protocol broken: {what}")]
    Protocol {
        /// The channel.
        channel: Arc<str>,
        /// Which rule.
        what: String,
    },
    /// The address or an option of the caller cannot be used.
    #[error("{0}")]
    Address(String),
}

impl Error {
    /// Who is at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Error::TooLarge { .. } | Error::Address(_) => Fault::Caller,
            Error::Reset { .. } | Error::Stalled { .. } | Error::Io { .. } => Fault::Network,
            Error::Refused { status, .. } if *status < 500 => Fault::Caller,
            _ => Fault::Peer,
        }
    }

    /// Whether the same call on the same channel may succeed a little later.
    pub fn can_retry(&self) -> bool {
        match self {
            Error::Reset { .. } | Error::Stalled { .. } | Error::Io { .. } => true,
            Error::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether the channel is gone: it was closed, or is not known there.
    pub fn is_gone(&self) -> bool {
        matches!(self, Error::NotFound { .. } | Error::Closed { .. })
    }
}

/// Why a channel, or the set of channels, says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No channel has this name.
    #[error("no such channel")]
    NotFound,
    /// A channel has this name already.
    #[error("the channel exists")]
    Exists,
    /// The name is empty, too long, has more than one slash or characters outside its alphabet.
    #[error("not a channel name")]
    Name,
    /// The index is not an integer, is negative where that has no meaning, or lies further ahead
    /// of the write head than the window allows.
    #[error("not a usable segment index")]
    Index,
    /// The channel exists but has no such segment to read; jump to `latest`.
    #[error("segment not available, write head is {latest}")]
    NotAvailable {
        /// The write head: the index of the next segment to be written.
        latest: u64,
    },
    /// The segment to be closed is not in the ring.
    #[error("no such segment")]
    NoSegment,
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// The channel is not open to remote publishers.
    #[error("remote publishing is off for this channel")]
    PublishNotAllowed,
    /// The channel is not open to remote subscribers.
    #[error("remote subscribing is off for this channel")]
    SubscribeNotAllowed,
    /// The segment would exceed its limit.
    #[error("segment larger than {limit} bytes")]
    SegmentTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The server carries as many channels as it may.
    #[error("{limit} channels, the limit")]
    TooManyChannels {
        /// The limit.
        limit: usize,
    },
    /// The channel has as many readers as it may.
    #[error("{limit} readers on the channel, the limit")]
    TooManyReaders {
        /// The limit.
        limit: usize,
    },
    /// The channel has as many open publish requests as it may.
    #[error("{limit} publish requests on the channel, the limit")]
    TooManyWriters {
        /// The limit.
        limit: usize,
    },
    /// The owner of the server refused the creation or the closing.
    #[error("refused by the owner with {status}: {text}")]
    Owner {
        /// A 4xx status, or 500.
        status: u16,
        /// The text for the peer.
        text: String,
    },
}
