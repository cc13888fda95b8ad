//! The publishing face: the same calls over HTTP and in process.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::coop::consume_budget;

use crate::error::Error;
use crate::{client, local};

/// How a publisher over HTTP behaves.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// `Content-Type` of the segments.
    pub mime: String,
    /// The first index. Peers begin at 0.
    pub first: u64,
    /// Tell the server with the first segment that this publisher restarted, so that it closes
    /// every lower segment.
    pub reset: bool,
    /// Bytes that may wait for the peer in one segment. A chunk larger than this may wait alone.
    pub queue_bytes: usize,
    /// How long [`SegmentWriter::write`] waits for room before it says [`Error::Stalled`].
    pub write_timeout: Duration,
    /// How long the peer may take to answer after a segment's last byte was queued.
    pub answer_timeout: Duration,
    /// Pause before a request is opened again that failed before it had sent a byte.
    pub retry_pause: Duration,
    /// How often in a row that is done.
    pub retries: u32,
}

impl Default for PublisherOptions {
    /// Index 0, `video/MP2T`, 8 MiB a segment in the queue, 2 s for room, 10 s for the answer,
    /// 5 retries 250 ms apart.
    fn default() -> Self {
        Self {
            mime: "video/MP2T".to_owned(),
            first: 0,
            reset: false,
            queue_bytes: 8 << 20,
            write_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(10),
            retry_pause: Duration::from_millis(250),
            retries: 5,
        }
    }
}

/// Writes numbered segments to one channel.
///
/// Dropping it gives up the request that waits for the next segment; segments already handed out
/// go on. The channel stays open: [`Publisher::close`] closes it.
#[derive(Debug)]
pub struct Publisher {
    pub(crate) inner: Inner,
}

#[derive(Debug)]
pub(crate) enum Inner {
    Local(local::Publisher),
    Http(client::publish::Publisher),
}

impl Publisher {
    /// The next segment. Over HTTP its request is open already, and the one after it is opened
    /// now. Cancelling loses nothing.
    ///
    /// # Errors
    /// What the waiting request was answered: [`Error::NotFound`], [`Error::Closed`],
    /// [`Error::Refused`], [`Error::Io`] after the retries.
    pub async fn next(&mut self) -> Result<SegmentWriter, Error> {
        // Nothing below may have to wait; a loop over it must not starve other tasks.
        consume_budget().await;
        let inner = match &mut self.inner {
            Inner::Local(publisher) => WriterInner::Local(publisher.next()?),
            Inner::Http(publisher) => WriterInner::Http(publisher.next().await?),
        };
        Ok(SegmentWriter { inner })
    }

    /// Segments handed out and not yet answered by the peer. Three of them, and a fourth wanted,
    /// mean that the peer is slow; what follows is the caller's decision.
    pub fn in_flight(&self) -> usize {
        match &self.inner {
            Inner::Local(publisher) => publisher.in_flight(),
            Inner::Http(publisher) => publisher.in_flight(),
        }
    }

    /// The channel's name; over HTTP its URL.
    pub fn channel(&self) -> &str {
        match &self.inner {
            Inner::Local(publisher) => publisher.channel(),
            Inner::Http(publisher) => publisher.channel(),
        }
    }

    /// Waits until the segments in flight are answered (at most the answer timeout), then closes
    /// and removes the channel.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the channel is gone already, or what the peer answered.
    pub async fn close(self) -> Result<(), Error> {
        match self.inner {
            Inner::Local(publisher) => publisher.close(),
            Inner::Http(publisher) => publisher.close().await,
        }
    }
}

/// Writes one segment, chunk by chunk; each goes out at once.
///
/// Dropping it without [`SegmentWriter::close`] gives the segment up, as
/// [`SegmentWriter::abort`] does, so that a truncated segment never keeps readers waiting.
#[derive(Debug)]
pub struct SegmentWriter {
    inner: WriterInner,
}

#[derive(Debug)]
enum WriterInner {
    Local(local::Writer),
    Http(client::publish::Writer),
}

impl SegmentWriter {
    /// The segment's index.
    pub fn seq(&self) -> u64 {
        match &self.inner {
            WriterInner::Local(writer) => writer.seq(),
            WriterInner::Http(writer) => writer.seq(),
        }
    }

    /// Appends a chunk; readers may have it before the segment ends. Waits only while the queue
    /// of this segment is full, and never longer than the write timeout. Cancelling it queues
    /// the chunk wholly or not at all. An empty chunk does nothing.
    ///
    /// # Errors
    /// [`Error::Stalled`] (the chunk was not queued, the segment may go on),
    /// [`Error::TooLarge`], or what ended the request.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        consume_budget().await;
        match &mut self.inner {
            WriterInner::Local(writer) => writer.write(chunk),
            WriterInner::Http(writer) => writer.write(chunk).await,
        }
    }

    /// Ends the segment. Returns at once; await the [`Delivery`] to know what the peer answered,
    /// or drop it to go on (failures then show in [`Publisher::next`]).
    pub fn close(self) -> Delivery {
        match self.inner {
            WriterInner::Local(writer) => Delivery::ready(writer.close()),
            WriterInner::Http(writer) => writer.close(),
        }
    }

    /// Gives the segment up: what was queued is dropped and the segment is closed at the server
    /// (`DELETE`). Returns at once, the request runs on.
    pub fn abort(self) {
        drop(self);
    }
}

/// The peer's answer to a whole segment.
#[derive(Debug)]
pub struct Delivery(DeliveryState);

#[derive(Debug)]
enum DeliveryState {
    Ready(Option<Result<(), Error>>),
    Waiting { answer: oneshot::Receiver<Result<(), Error>>, lost: Option<Error> },
}

impl Delivery {
    pub(crate) fn ready(result: Result<(), Error>) -> Self {
        Self(DeliveryState::Ready(Some(result)))
    }

    /// `lost` is the answer when the task behind `answer` goes away without one.
    pub(crate) fn waiting(answer: oneshot::Receiver<Result<(), Error>>, lost: Error) -> Self {
        Self(DeliveryState::Waiting { answer, lost: Some(lost) })
    }
}

impl Future for Delivery {
    type Output = Result<(), Error>;

    /// # Panics
    /// Never; polled again after its answer it stays pending.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            DeliveryState::Ready(result) => match result.take() {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            },
            DeliveryState::Waiting { answer, lost } => {
                if lost.is_none() {
                    return Poll::Pending;
                }
                Pin::new(answer).poll(context).map(|answer| {
                    let lost = lost.take();
                    answer.unwrap_or_else(|_| lost.map_or(Ok(()), Err))
                })
            }
        }
    }
}
