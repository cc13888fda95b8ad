//! What lies between a segment's writer and the request that carries it: a queue bounded in
//! bytes, of which the request takes one chunk at a time.
//!
//! Policy of the queue: `Block`, for a bounded time (the writer's call says how long). A request
//! that failed before it took anything may be made again; from then on each older request's hold
//! on the queue is void.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::Error;

#[derive(Debug)]
pub(super) struct Feed {
    state: Mutex<State>,
    /// Room was made, or the request ended: for the writer.
    room: Notify,
    /// The writer ended or gave up: for the task that owns the request.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    queued: usize,
    /// Something was taken by a request.
    touched: bool,
    end: Option<End>,
    outcome: Option<Outcome>,
    attempt: u32,
    body: Option<Waker>,
    /// Lives as long as the segment is in flight.
    flight: Option<Arc<()>>,
}

/// How the writer ended the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Whole.
    Whole,
    /// Given up.
    Abandoned,
}

/// How the request ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The peer has the segment, or does not want it: it was over there already.
    Answered,
    /// It failed.
    Failed(Error),
}

/// What became of a chunk.
pub(super) enum Pushed {
    Queued,
    /// The queue is full; so many bytes wait.
    Full(usize),
    Over(Outcome),
}

impl Feed {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::default()),
            room: Notify::new(),
            news: Notify::new(),
        })
    }

    /// Queues a chunk unless `limit` bytes wait already. An empty queue takes any chunk.
    pub(super) fn push(&self, chunk: &Bytes, limit: usize) -> Pushed {
        let mut state = self.state.lock();
        if let Some(outcome) = &state.outcome {
            return Pushed::Over(outcome.clone());
        }
        if state.queued > 0 && state.queued.saturating_add(chunk.len()) > limit {
            return Pushed::Full(state.queued);
        }
        state.queued += chunk.len();
        state.chunks.push_back(chunk.clone());
        if let Some(body) = state.body.take() {
            body.wake();
        }
        Pushed::Queued
    }

    /// Completes when there may be room again.
    pub(super) fn room(&self) -> &Notify {
        &self.room
    }

    /// The writer's last word; a second one changes nothing.
    pub(super) fn end(&self, how: End) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(how);
        if how == End::Abandoned {
            state.chunks.clear();
            state.queued = 0;
        }
        if let Some(body) = state.body.take() {
            body.wake();
        }
        drop(state);
        self.news.notify_waiters();
    }

    /// Waits for the writer's last word.
    pub(super) async fn ended(&self) -> End {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(end) = self.state.lock().end {
                return end;
            }
            news.await;
        }
    }

    /// Waits until the writer has given the segment up; for ever if it does not.
    pub(super) async fn abandoned(&self) {
        if self.ended().await == End::Whole {
            std::future::pending::<()>().await;
        }
    }

    /// The request ended; the segment is no longer in flight.
    pub(super) fn settle(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        state.outcome = Some(outcome);
        state.chunks.clear();
        state.queued = 0;
        state.flight = None;
        drop(state);
        self.room.notify_waiters();
    }

    /// How the request ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.state.lock().outcome.clone()
    }

    /// Counts the segment as in flight until it is settled.
    pub(super) fn take_off(&self, flight: Arc<()>) {
        let mut state = self.state.lock();
        if state.outcome.is_none() {
            state.flight = Some(flight);
        }
    }

    /// Whether a request took something, so that it cannot be repeated.
    pub(super) fn is_touched(&self) -> bool {
        self.state.lock().touched
    }

    /// A request body. Bodies made before become void.
    pub(super) fn body(self: &Arc<Self>) -> FeedBody {
        let mut state = self.state.lock();
        state.attempt += 1;
        FeedBody { feed: self.clone(), attempt: state.attempt }
    }
}

/// The body of one request.
pub(super) struct FeedBody {
    feed: Arc<Feed>,
    attempt: u32,
}

impl Stream for FeedBody {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.feed.state.lock();
        if state.attempt != self.attempt || state.end == Some(End::Abandoned) {
            return Poll::Ready(Some(Err(io::Error::other("the segment was given up"))));
        }
        if let Some(chunk) = state.chunks.pop_front() {
            state.queued -= chunk.len();
            state.touched = true;
            drop(state);
            self.feed.room.notify_waiters();
            return Poll::Ready(Some(Ok(chunk)));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        state.body = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_full_queue_says_how_much_waits_and_takes_any_chunk_when_empty() {
        let feed = Feed::new();
        let big = Bytes::from_static(&[0; 100]);
        assert!(matches!(feed.push(&big, 10), Pushed::Queued));
        assert!(matches!(feed.push(&Bytes::from_static(b"x"), 10), Pushed::Full(100)));
        let mut body = feed.body();
        assert_eq!(body.next().now_or_never().unwrap().unwrap().unwrap(), big);
        assert!(matches!(feed.push(&Bytes::from_static(b"x"), 10), Pushed::Queued));
    }

    #[test]
    fn an_older_request_takes_nothing_from_a_newer_one() {
        let feed = Feed::new();
        let mut old = feed.body();
        let mut new = feed.body();
        feed.push(&Bytes::from_static(b"x"), 10);
        assert!(old.next().now_or_never().unwrap().unwrap().is_err());
        assert_eq!(&new.next().now_or_never().unwrap().unwrap().unwrap()[..], b"x");
        feed.end(End::Whole);
        assert!(new.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn giving_up_breaks_the_body_instead_of_ending_it() {
        let feed = Feed::new();
        let mut body = feed.body();
        feed.push(&Bytes::from_static(b"x"), 10);
        feed.end(End::Abandoned);
        assert!(body.next().now_or_never().unwrap().unwrap().is_err());
    }
}
