//! Publishing over HTTP: one POST a segment, the next one opened ahead.
//!
//! Each segment has a task that owns its request; it ends with the answer, and is bounded by the
//! answer timeout from the moment the writer has said its last word. A request that fails before
//! it took a byte is made again to the same index.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Body, Method};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::feed::{End, Feed, Outcome, Pushed};
use super::{Client, io, judge};
use crate::error::Error;
use crate::http;
use crate::publisher::{Delivery, PublisherOptions};

/// Segments that are passed over because they are over at the server, before giving up.
const OCCUPIED_MAX: usize = 16;
/// A request that stood for this long was well; failures before it are forgotten.
const WELL_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Publisher {
    road: Road,
    /// The segment that is opened ahead.
    ahead: Option<Ahead>,
    next: u64,
    in_flight: Arc<()>,
    /// A restart is told with the first segment only.
    reset: bool,
}

/// What every request of a publisher needs.
#[derive(Clone, Debug)]
struct Road {
    client: Client,
    channel: Arc<str>,
    options: Arc<PublisherOptions>,
}

#[derive(Debug)]
struct Ahead {
    feed: Arc<Feed>,
    answer: oneshot::Receiver<Result<(), Error>>,
    task: AbortOnDropHandle<()>,
}

impl Publisher {
    pub(crate) fn new(
        client: Client,
        channel: Arc<str>,
        options: PublisherOptions,
    ) -> Result<Self, Error> {
        if ::http::HeaderValue::from_str(&options.mime).is_err() {
            return Err(Error::Address(format!("mime type {:?} is no header value", options.mime)));
        }
        let (next, reset) = (options.first, options.reset);
        let road = Road { client, channel, options: Arc::new(options) };
        let ahead = Some(road.open(next, reset));
        Ok(Self { road, ahead, next, in_flight: Arc::new(()), reset })
    }

    pub(crate) async fn next(&mut self) -> Result<Writer, Error> {
        for _ in 0..OCCUPIED_MAX {
            let (seq, reset) = (self.next, self.reset);
            let Ahead { feed, answer, task } =
                self.ahead.take().unwrap_or_else(|| self.road.open(seq, reset));
            match feed.outcome() {
                Some(Outcome::Failed(failure)) => return Err(failure),
                Some(Outcome::Answered) => {
                    self.next += 1;
                    continue;
                }
                None => {}
            }
            feed.take_off(self.in_flight.clone());
            // From here on the task ends by itself.
            task.detach();
            (self.next, self.reset) = (seq + 1, false);
            self.ahead = Some(self.road.open(self.next, false));
            return Ok(Writer { road: self.road.clone(), seq, feed, answer: Some(answer) });
        }
        let what = format!("{OCCUPIED_MAX} segments in a row were answered before they were sent");
        Err(Error::Protocol { channel: self.road.channel.clone(), what })
    }

    pub(crate) fn in_flight(&self) -> usize {
        Arc::strong_count(&self.in_flight) - 1
    }

    pub(crate) fn channel(&self) -> &str {
        &self.road.channel
    }

    pub(crate) async fn close(mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.road.options.answer_timeout;
        while self.in_flight() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let closed = self.road.client.close(&self.road.channel).await;
        self.ahead = None;
        closed
    }
}

impl Road {
    /// Opens the request of a segment in a task of its own.
    fn open(&self, seq: u64, reset: bool) -> Ahead {
        let feed = Feed::new();
        let (tell, answer) = oneshot::channel();
        let (road, carried) = (self.clone(), feed.clone());
        let task = tokio::spawn(async move {
            let result = road.carry(&carried, seq, reset).await;
            carried.settle(match &result {
                Ok(()) => Outcome::Answered,
                Err(failure) => Outcome::Failed(failure.clone()),
            });
            // Nobody may be interested.
            tell.send(result).ok();
        });
        Ahead { feed, answer, task: AbortOnDropHandle::new(task) }
    }

    /// Brings a segment to the server, however often the request must be made.
    async fn carry(&self, feed: &Arc<Feed>, seq: u64, reset: bool) -> Result<(), Error> {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let result = tokio::select! {
                biased;
                () = feed.abandoned() => return self.give_up(seq).await,
                result = self.attempt(feed, seq, reset) => result,
            };
            let Err(failure) = result else { return Ok(()) };
            if begun.elapsed() > WELL_AFTER {
                failures = 0;
            }
            failures += 1;
            let repeatable = failure.can_retry() && !feed.is_touched();
            if !repeatable || failures > self.options.retries {
                return Err(failure);
            }
            tracing::debug!(channel = %self.channel, seq, %failure, "segment request repeated");
            tokio::time::sleep(self.options.retry_pause).await;
        }
    }

    async fn attempt(&self, feed: &Arc<Feed>, seq: u64, reset: bool) -> Result<(), Error> {
        let request = self.client.request(Method::POST, &self.channel, &seq.to_string());
        let mut request = request.header("content-type", &self.options.mime);
        if reset {
            request = request.header(http::RESET, "1");
        }
        let answered = async {
            let sent = request.body(Body::wrap_stream(feed.body())).send().await;
            let response = sent.map_err(|failure| io(&self.channel, "publishing", &failure))?;
            judge(&self.channel, response).await
        };
        let overdue = async {
            feed.ended().await;
            tokio::time::sleep(self.options.answer_timeout).await;
        };
        tokio::select! {
            biased;
            result = answered => result.map(drop),
            () = overdue => Err(Error::Io {
                channel: self.channel.clone(),
                doing: "publishing",
                reason: format!("no answer {:?} after the last byte", self.options.answer_timeout),
            }),
        }
    }

    /// Ends the segment at the server, so that its readers do not wait for the rest.
    async fn give_up(&self, seq: u64) -> Result<(), Error> {
        match self.client.close_segment(&self.channel, seq).await {
            // It never came to be there.
            Err(Error::Refused { status: 400, .. }) => Ok(()),
            other => other,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    road: Road,
    seq: u64,
    feed: Arc<Feed>,
    /// `None` once it was handed on.
    answer: Option<oneshot::Receiver<Result<(), Error>>>,
}

impl Writer {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        if chunk.is_empty() {
            return Ok(());
        }
        let options = &self.road.options;
        // The usual case asks no clock.
        if let Some(done) = self.pushed(&chunk) {
            return done;
        }
        let deadline = Instant::now() + options.write_timeout;
        loop {
            let room = self.feed.room().notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if let Some(done) = self.pushed(&chunk) {
                return done;
            }
            if timeout_at(deadline, room).await.is_err() {
                let Pushed::Full(queued) = self.feed.push(&chunk, options.queue_bytes) else {
                    return Ok(());
                };
                let (channel, seq) = (self.road.channel.clone(), self.seq);
                return Err(Error::Stalled { channel, seq, queued, waited: options.write_timeout });
            }
        }
    }

    /// Tries to queue a chunk; `None` while there is no room.
    fn pushed(&self, chunk: &Bytes) -> Option<Result<(), Error>> {
        match self.feed.push(chunk, self.road.options.queue_bytes) {
            Pushed::Queued => Some(Ok(())),
            Pushed::Full(_) => None,
            Pushed::Over(Outcome::Failed(failure)) => Some(Err(failure)),
            Pushed::Over(Outcome::Answered) => Some(Err(Error::Reset {
                channel: self.road.channel.clone(),
                seq: self.seq,
                bytes: 0,
                reason: "the server answered before the segment's end".to_owned(),
            })),
        }
    }

    pub(crate) fn close(mut self) -> Delivery {
        self.feed.end(End::Whole);
        let lost = Error::Io {
            channel: self.road.channel.clone(),
            doing: "publishing",
            reason: "the runtime stopped".to_owned(),
        };
        match self.answer.take() {
            Some(answer) => Delivery::waiting(answer, lost),
            None => Delivery::ready(Err(lost)),
        }
    }
}

impl Drop for Writer {
    /// Given up, unless [`Writer::close`] has said otherwise before.
    fn drop(&mut self) {
        self.feed.end(End::Abandoned);
    }
}
