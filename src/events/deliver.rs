//! The task of one webhook: takes events from its queue, posts them, tries again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::lanes::{Attempt, Lanes};
use super::{Counters, Event};
use crate::signing;

/// Posts on their way at the same time.
const POSTS_MAX: usize = 8;

/// How long a receiver may take to answer.
const POST_LIMIT: Duration = Duration::from_secs(10);

/// How long events that wait are still delivered when the node stops.
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// One webhook.
pub(super) struct Delivery {
    pub(super) client: reqwest::Client,
    pub(super) url: String,
    pub(super) secret: String,
    pub(super) waiting_max: usize,
    pub(super) retry: Duration,
    pub(super) counters: Arc<Counters>,
}

impl Delivery {
    /// Delivers until `stop`, then what waits, for [`LAST_LIMIT`] at most.
    pub(super) async fn run(self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut lanes = Lanes::new(self.waiting_max, self.retry);
        let mut posts: JoinSet<(Arc<str>, Result<(), String>)> = JoinSet::new();
        let mut end = None;
        loop {
            while posts.len() < POSTS_MAX
                && let Some(attempt) = lanes.next(Instant::now())
            {
                posts.spawn(self.post(attempt));
            }
            let due = lanes.due().filter(|_| posts.len() < POSTS_MAX);
            tokio::select! {
                () = stop.cancelled(), if end.is_none() => end = Some(Instant::now() + LAST_LIMIT),
                () = crate::until(end) => break,
                event = events.recv() => match event {
                    Some(event) => self.take(&mut lanes, event),
                    None => break,
                },
                Some(posted) = posts.join_next() => {
                    if let Ok((stream, result)) = posted {
                        self.ended(&mut lanes, &stream, result);
                    }
                }
                () = crate::until(due) => {}
            }
            if end.is_some() && lanes.len() == 0 && events.is_empty() {
                break;
            }
        }
        let left = lanes.len() + events.len();
        self.counters.dropped.fetch_add(left as u64, Ordering::Relaxed);
    }

    fn take(&self, lanes: &mut Lanes, event: Event) {
        if !lanes.push(event, Instant::now()) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended(&self, lanes: &mut Lanes, stream: &str, result: Result<(), String>) {
        let delivered = result.is_ok();
        let counter = if delivered { &self.counters.delivered } else { &self.counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let given_up = lanes.ended(stream, delivered, Instant::now());
        let Err(error) = result else { return };
        match given_up {
            false => debug!(url = self.url, stream, error, "an event was not delivered"),
            true => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                warn!(url = self.url, stream, error, "an event is given up");
            }
        }
    }

    fn post(
        &self,
        attempt: Attempt,
    ) -> impl Future<Output = (Arc<str>, Result<(), String>)> + use<> {
        let Attempt { event, number } = attempt;
        let mut request = self
            .client
            .post(&self.url)
            .timeout(POST_LIMIT)
            .header(CONTENT_TYPE, "application/json")
            .header("X-Millstream-Event", event.kind.as_str())
            .header("X-Millstream-Delivery", &*event.id)
            .header("X-Millstream-Attempt", number);
        if !self.secret.is_empty() {
            let seconds = signing::seconds(SystemTime::now());
            let value = signing::sign(&self.secret, seconds, &event.body);
            request = request.header(signing::HEADER, value);
        }
        async move {
            let result = match request.body(event.body).send().await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(format!("the answer is {}", answer.status().as_u16())),
                Err(error) => Err(error.without_url().to_string()),
            };
            (event.stream, result)
        }
    }
}
