//! Programs that are asked before somebody publishes, and told what happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::routing::post;
use millstream::config::EventHook;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::programs::PATIENCE;
use crate::push::{DEFAULT, LIVE, Push};

/// A server on loopback that keeps what is posted.
pub(crate) struct Told {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Value>>>,
    came: Arc<Notify>,
    pub(crate) server: tokio::task::JoinHandle<()>,
}

impl Told {
    /// Answers everything with `answer`.
    pub(crate) async fn start(answer: Value) -> Self {
        let (got, came) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::new(Notify::new()));
        let (keep, tell) = (Arc::clone(&got), Arc::clone(&came));
        let route = post(async move |Json(body): Json<Value>| {
            keep.lock().push(body);
            tell.notify_one();
            Json(answer.clone())
        });
        let router = axum::Router::new().route("/", route);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, got, came, server }
    }

    /// Waits until a document fits, and gives all that came until then.
    pub(crate) async fn until(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let got = self.got.lock().clone();
            if got.iter().any(&fits) {
                return got;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never came: {got:#?}");
            let _ = tokio::time::timeout(left, self.came.notified()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callback_names_the_stream_sets_its_graph_and_ends_it() {
    let _alone = alone().await;
    let told = Told::start(json!({
        "name": "studio/one",
        "lifetime_seconds": 6,
        "settings": {"graph": "none"},
    }))
    .await;
    let node = Running::start(|settings| settings.auth.webhook.url = told.url.clone()).await;
    let mut push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam?user=ann&pass=x"));
    node.until_pictures("studio/one", 3).await;
    let question = told.got.lock()[0].clone();
    assert_eq!((&question["path"], &question["action"]), (&json!("cam"), &json!("publish")));
    assert_eq!((&question["user"], &question["password"]), (&json!("ann"), &json!("x")));
    let began = Instant::now();
    push.until_ended().await;
    assert!(began.elapsed() < Duration::from_secs(60), "the lifetime ends it");
    node.until_idle().await;
    let status = node.status().await;
    assert!(find(&status, "studio/one-out").is_none() && find(&status, "cam").is_none());
    node.stop().await;
    told.server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_hear_of_streams_readers_and_bad_sources_in_order() {
    let _alone = alone().await;
    let told = Told::start(json!({})).await;
    let node = Running::start(|settings| {
        let url = told.url.clone();
        settings.events.webhooks.push(EventHook { url, ..EventHook::default() });
        settings.pipeline.graph = "none".into();
    })
    .await;
    let kind = |event: &Value, kind: &str| event["type"] == kind && event["stream"] == "cam";
    let push = Push::rtmp(Card::SMALL, DEFAULT, &node.rtmp("cam"));
    told.until(|event| kind(event, "stream.online")).await;
    let url = node.http("cam/index.m3u8");
    let playlist = node.client.get(url).send().await.unwrap().text().await.unwrap();
    assert!(playlist.starts_with("#EXTM3U"), "{playlist}");
    told.until(|event| kind(event, "reader.joined")).await;
    let got = told.until(|event| kind(event, "alert.raised")).await;
    let alert = got.iter().find(|event| event["type"] == "alert.raised").unwrap();
    assert_eq!(alert["data"]["rule"], "b_frames");
    assert!(alert["data"]["cure"]["does"].as_str().unwrap().contains("re-encoded"), "{alert:#}");
    push.finish().await;
    let got = told.until(|event| kind(event, "stream.offline")).await;
    let at = |word| got.iter().position(|event| kind(event, word)).unwrap();
    assert_eq!(at("stream.online"), 0, "{got:#?}");
    assert!(at("reader.joined") < at("stream.offline"));
    let online = &got[0]["data"];
    assert_eq!(
        (&online["source"]["protocol"], &online["video"]["codec"]),
        (&json!("rtmp"), &json!("H264"))
    );
    node.until_idle().await;
    node.stop().await;
    told.server.abort();
}
