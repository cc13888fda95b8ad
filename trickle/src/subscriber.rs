//! The subscribing face: the same calls over HTTP and in process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::channel::Start;
use crate::error::Error;
use crate::{client, local};

/// How a subscriber over HTTP behaves.
#[derive(Clone, Debug)]
pub struct SubscriberOptions {
    /// Where to begin. Peers begin at `-1`, runners at `-2`.
    pub start: Start,
    /// Pause before a failed request is made again.
    pub retry_pause: Duration,
    /// Failures in a row before [`Subscriber::next`] gives up.
    pub retries: u32,
    /// A request without an answer for this long is made anew (a quiet channel is no failure).
    pub renew_after: Duration,
}

impl Default for SubscriberOptions {
    /// The network's figures: from the next segment on, 5 retries 300 ms apart, renewed each 20 s.
    fn default() -> Self {
        Self {
            start: Start::Next,
            retry_pause: Duration::from_millis(300),
            retries: 5,
            renew_after: Duration::from_secs(20),
        }
    }
}

/// Reads one channel, segment by segment.
///
/// A subscriber that falls out of the ring jumps to the write head and sees it in
/// [`Segment::skipped`]. Over HTTP the request for the following segment is open while one is
/// read; it belongs to the subscriber and ends with it.
#[derive(Debug)]
pub struct Subscriber {
    pub(crate) inner: Inner,
}

#[derive(Debug)]
pub(crate) enum Inner {
    Local(local::Subscriber),
    Http(client::subscribe::Subscriber),
}

impl Subscriber {
    /// The next segment as soon as its first byte is there, or `None` when the channel has
    /// ended: it was closed, or is gone (404) after it has been read from. Cancel-safe. The
    /// previous [`Segment`] may be dropped before its end.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the channel was never there, [`Error::Refused`],
    /// [`Error::Io`] after the retries. Calling again tries again.
    pub async fn next(&mut self) -> Result<Option<Segment>, Error> {
        match &mut self.inner {
            Inner::Local(subscriber) => subscriber.next().await,
            Inner::Http(subscriber) => subscriber.next().await,
        }
    }

    /// Goes on at another place with the following [`Subscriber::next`].
    pub fn seek(&mut self, start: Start) {
        match &mut self.inner {
            Inner::Local(subscriber) => subscriber.seek(start),
            Inner::Http(subscriber) => subscriber.seek(start),
        }
    }

    /// The channel's name; over HTTP its URL.
    pub fn channel(&self) -> &str {
        match &self.inner {
            Inner::Local(subscriber) => subscriber.channel(),
            Inner::Http(subscriber) => subscriber.channel(),
        }
    }
}

/// One segment being read.
#[derive(Debug)]
pub struct Segment {
    pub(crate) seq: u64,
    pub(crate) latest: Option<u64>,
    pub(crate) skipped: u64,
    pub(crate) mime: Option<Arc<str>>,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Local(local::Reader),
    Http(client::subscribe::Reader),
}

impl Segment {
    /// The segment's index.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The write head (index of the next segment to be written) when this one was asked for,
    /// where the server told it: it does so unless the head was this very segment.
    pub fn latest(&self) -> Option<u64> {
        self.latest
    }

    /// Segments that were missed between the one before and this one, because the reader was
    /// too slow or the publisher left them out. 0 for the first.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The channel's mime type.
    pub fn content_type(&self) -> Option<&str> {
        self.mime.as_deref()
    }

    /// The next bytes as they arrived, or `None` at the segment's end. Cancel-safe. In process
    /// the bytes are shared with all other readers.
    ///
    /// # Errors
    /// [`Error::Reset`] when the segment breaks off; the subscriber itself can go on.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match &mut self.body {
            Body::Local(reader) => reader.chunk().await,
            Body::Http(reader) => reader.chunk().await,
        }
    }
}
