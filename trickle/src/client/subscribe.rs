//! Subscribing over HTTP: one GET a segment, the next one opened while a segment is read.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, Response, StatusCode};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Client, causes, io, judge};
use crate::channel::Start;
use crate::error::Error;
use crate::http;
use crate::subscriber::{Body, Segment, SubscriberOptions};

#[derive(Debug)]
pub(crate) struct Subscriber {
    road: Road,
    position: Start,
    /// The request for `position`.
    ahead: Option<AbortOnDropHandle<Found>>,
    last: Option<u64>,
    /// The channel was there once, so that a 404 now means its end.
    met: bool,
    ended: bool,
    failures: u32,
}

/// What every request of a subscriber needs.
#[derive(Clone, Debug)]
struct Road {
    client: Client,
    channel: Arc<str>,
    options: Arc<SubscriberOptions>,
}

/// What a request found.
#[derive(Debug)]
enum Found {
    Segment { seq: u64, response: Response },
    Elsewhere { latest: Option<u64> },
    Ended,
    Missing,
    Failed(Error),
}

impl Subscriber {
    pub(crate) fn new(client: Client, channel: Arc<str>, options: SubscriberOptions) -> Self {
        let position = options.start;
        let road = Road { client, channel, options: Arc::new(options) };
        let ahead = Some(road.open(position));
        Self { road, position, ahead, last: None, met: false, ended: false, failures: 0 }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Segment>, Error> {
        let options = self.road.options.clone();
        while !self.ended {
            let ahead = match self.ahead.take() {
                Some(ahead) => self.ahead.insert(ahead),
                None => {
                    if self.failures > 0 {
                        sleep(options.retry_pause).await;
                    }
                    self.ahead.insert(self.road.open(self.position))
                }
            };
            let found = ahead.await;
            self.ahead = None;
            match found {
                Ok(Found::Segment { seq, response }) => return Ok(Some(self.begin(seq, response))),
                Ok(Found::Elsewhere { latest }) => {
                    self.met = true;
                    let live = latest.map_or(Start::Next, Start::At);
                    // A server that refuses its own write head is asked less eagerly.
                    self.failures += u32::from(live == self.position);
                    self.position = live;
                    if self.failures > options.retries {
                        self.failures = 0;
                        let what = "the write head itself is not available".to_owned();
                        let channel = self.road.channel.clone();
                        return Err(Error::Protocol { channel, what });
                    }
                }
                Ok(Found::Ended) => self.ended = true,
                Ok(Found::Missing) if self.met => self.ended = true,
                Ok(Found::Missing) => {
                    return Err(Error::NotFound { channel: self.road.channel.clone() });
                }
                Ok(Found::Failed(failure)) => self.failed(failure)?,
                Err(_) => self.failed(Error::Io {
                    channel: self.road.channel.clone(),
                    doing: "subscribing",
                    reason: "the runtime stopped".to_owned(),
                })?,
            }
        }
        Ok(None)
    }

    /// Counts a failure; gives it back when it is one too many.
    fn failed(&mut self, failure: Error) -> Result<(), Error> {
        self.failures += 1;
        if !failure.can_retry() || self.failures > self.road.options.retries {
            self.failures = 0;
            return Err(failure);
        }
        tracing::debug!(channel = %self.road.channel, %failure, "segment asked for again");
        Ok(())
    }

    fn begin(&mut self, seq: u64, response: Response) -> Segment {
        let skipped = self.last.map_or(0, |last| seq.saturating_sub(last.saturating_add(1)));
        (self.met, self.failures, self.last) = (true, 0, Some(seq));
        self.position = Start::At(seq.saturating_add(1));
        self.ahead = Some(self.road.open(self.position));
        let headers = response.headers();
        Segment {
            seq,
            latest: http::index_header(headers, http::LATEST),
            skipped,
            mime: http::mime_header(headers, "content-type").map(Into::into),
            body: Body::Http(Reader {
                channel: self.road.channel.clone(),
                seq,
                bytes: 0,
                response: Some(response),
            }),
        }
    }

    pub(crate) fn seek(&mut self, start: Start) {
        (self.position, self.last, self.failures) = (start, None, 0);
        if !self.ended {
            self.ahead = Some(self.road.open(start));
        }
    }

    pub(crate) fn channel(&self) -> &str {
        &self.road.channel
    }
}

impl Road {
    /// Asks for a segment in a task, which ends with the subscriber.
    fn open(&self, start: Start) -> AbortOnDropHandle<Found> {
        let road = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { road.find(start).await }))
    }

    async fn find(&self, start: Start) -> Found {
        // `-1` asked again after a while would mean a later segment, so it is resolved first.
        let resolved = match start {
            Start::Next => match self.client.head(&self.channel).await {
                Ok(head) => Start::At(head),
                Err(Error::Closed { .. }) => return Found::Ended,
                Err(Error::NotFound { .. }) => return Found::Missing,
                // A server that does not know `next`.
                Err(Error::Protocol { .. } | Error::Refused { status: 400..=499, .. }) => {
                    Start::Next
                }
                Err(failure) => return Found::Failed(failure),
            },
            start => start,
        };
        let place = http::start_text(resolved);
        loop {
            let request = self.client.request(Method::GET, &self.channel, &place);
            match timeout(self.options.renew_after, request.send()).await {
                // A quiet channel, or a connection that died silently: ask anew.
                Err(_) => continue,
                Ok(Err(failure)) => {
                    return Found::Failed(io(&self.channel, "subscribing", &failure));
                }
                Ok(Ok(response)) => return self.classify(response).await,
            }
        }
    }

    async fn classify(&self, response: Response) -> Found {
        if response.status().as_u16() == http::STATUS_NOT_AVAILABLE {
            return Found::Elsewhere {
                latest: http::index_header(response.headers(), http::LATEST),
            };
        }
        match judge(&self.channel, response).await {
            Ok(response) if response.status() != StatusCode::OK => Found::Failed(Error::Protocol {
                channel: self.channel.clone(),
                what: format!("a segment with status {}", response.status()),
            }),
            Ok(response) => match http::index_header(response.headers(), http::SEQ) {
                Some(seq) => Found::Segment { seq, response },
                None => Found::Failed(Error::Protocol {
                    channel: self.channel.clone(),
                    what: "a segment without Lp-Trickle-Seq".to_owned(),
                }),
            },
            Err(Error::Closed { .. }) => Found::Ended,
            Err(Error::NotFound { .. }) => Found::Missing,
            Err(failure) => Found::Failed(failure),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    channel: Arc<str>,
    seq: u64,
    bytes: u64,
    /// `None` after the end.
    response: Option<Response>,
}

impl Reader {
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(response) = &mut self.response else { return Ok(None) };
        let chunk = loop {
            match response.chunk().await {
                // HTTP/2 may end with an empty frame.
                Ok(Some(chunk)) if chunk.is_empty() => {}
                other => break other,
            }
        };
        match chunk {
            Ok(Some(chunk)) => {
                self.bytes += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Ok(None) => {
                self.response = None;
                Ok(None)
            }
            Err(failure) => {
                self.response = None;
                Err(Error::Reset {
                    channel: self.channel.clone(),
                    seq: self.seq,
                    bytes: self.bytes,
                    reason: causes(&failure),
                })
            }
        }
    }
}
