//! Webhooks as their receivers see them.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::config::EventHook;
use crate::signing;

/// Headers and body of each post.
type Posts = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// A receiver that refuses the first so many posts.
struct Receiver {
    url: String,
    got: Posts,
    came: Arc<Notify>,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(refuse: u64) -> Self {
        let got = Posts::default();
        let came = Arc::new(Notify::new());
        let (keep, tell) = (Arc::clone(&got), Arc::clone(&came));
        let asked = AtomicU64::new(0);
        let answer = Arc::new(move |headers: HeaderMap, body: Bytes| {
            if asked.fetch_add(1, Ordering::Relaxed) < refuse {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            keep.lock().push((headers, body.to_vec()));
            tell.notify_one();
            StatusCode::NO_CONTENT
        });
        let route =
            axum::routing::post(async move |headers: HeaderMap, body: Bytes| answer(headers, body));
        let router = axum::Router::new().route("/", route);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, got, came, server }
    }

    async fn until(&self, count: usize) -> Vec<Value> {
        while self.got.lock().len() < count {
            let came = tokio::time::timeout(Duration::from_secs(30), self.came.notified()).await;
            came.expect("no event comes");
        }
        let got = self.got.lock();
        got.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

fn start(hook: EventHook, stop: &CancellationToken) -> (Events, TaskTracker) {
    let tasks = TaskTracker::new();
    let settings = config::Events { webhooks: vec![hook], ..config::Events::default() };
    let client = crate::http_client().unwrap();
    (Events::start(&settings, &client, &tasks, stop).unwrap(), tasks)
}

#[tokio::test]
async fn events_come_signed_in_order_and_again_after_a_failure() {
    let receiver = Receiver::start(1).await;
    let stop = CancellationToken::new();
    let hook = EventHook { url: receiver.url.clone(), secret: "shared".into(), events: Vec::new() };
    let (events, tasks) = start(hook, &stop);
    events.emit(Kind::Online, "cam", json!({"n": 1}));
    events.emit(Kind::ReaderJoined, "cam", json!({"n": 2}));
    events.emit(Kind::Offline, "cam", json!({"n": 3}));
    let got = receiver.until(3).await;
    let order: Vec<_> = got.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(order, [1, 2, 3]);
    assert_eq!((&got[0]["type"], &got[0]["stream"]), (&json!("stream.online"), &json!("cam")));
    let (headers, body) = receiver.got.lock()[0].clone();
    let given = headers[signing::HEADER].to_str().unwrap();
    let time = given.strip_prefix("t=").unwrap().split_once(',').unwrap().0.parse().unwrap();
    assert_eq!(given, signing::sign("shared", time, &body));
    assert_eq!(headers["x-millstream-event"], "stream.online");
    assert_eq!(headers["x-millstream-attempt"], "2");
    assert_eq!(headers["x-millstream-delivery"].to_str().unwrap(), got[0]["id"].as_str().unwrap());
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let (_, counters) = events.counters().next().unwrap();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = (count(&counters.delivered), count(&counters.failed), count(&counters.dropped));
    assert_eq!(counts, (3, 1, 0));
    receiver.server.abort();
}

#[tokio::test]
async fn only_wanted_kinds_are_told_and_what_does_not_fit_is_counted() {
    let receiver = Receiver::start(0).await;
    let stop = CancellationToken::new();
    let wanted = vec!["reader".to_owned(), "stream.offline".to_owned()];
    let hook = EventHook { url: receiver.url.clone(), secret: String::new(), events: wanted };
    let (events, _tasks) = start(hook, &stop);
    assert!(events.wants(Kind::ReaderLeft) && !events.wants(Kind::Online));
    for kind in [Kind::Online, Kind::AlertRaised, Kind::ReaderJoined, Kind::Offline] {
        events.emit(kind, "cam", Value::Null);
    }
    let got = receiver.until(2).await;
    let kinds: Vec<_> = got.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reader.joined", "stream.offline"]);
    assert!(receiver.got.lock()[0].0.get(signing::HEADER).is_none());
    // In a current-thread test the task does not run between these: the queue is all there is.
    let room = config::Events::default().queue_max;
    for _ in 0..room + 7 {
        events.emit(Kind::Offline, "cam", Value::Null);
    }
    let (_, counters) = events.counters().next().unwrap();
    assert_eq!(counters.dropped.load(Ordering::Relaxed), 7);
    stop.cancel();
    receiver.server.abort();
}

#[test]
fn a_webhook_that_cannot_be_is_named() {
    let fault = |hook: EventHook| {
        let settings = config::Events { webhooks: vec![hook], ..config::Events::default() };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let client = crate::http_client().unwrap();
        Events::start(&settings, &client, &tasks, &stop).err().unwrap()
    };
    let error = fault(EventHook { url: "nowhere".into(), ..EventHook::default() });
    assert!(error.starts_with("events.webhooks[0]: url"), "{error}");
    let events = vec!["strem.online".to_owned()];
    let error = fault(EventHook { url: "http://h/".into(), events, ..EventHook::default() });
    assert!(error.contains("strem.online"), "{error}");
}
