//! Streams that are sent on while they run, because settings change or a callback says so; what a
//! callback has recorded, and the notice of it.

use std::path::Path;

use ingest::record::Moment;
use millstream::config::EventHook;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::card::Card;
use crate::control::Api;
use crate::hooks::Told;
use crate::node::{Running, alone, find};
use crate::push::{LIVE, Push};
use crate::record::{probe, seconds};

/// A node that does nothing to pictures.
async fn plain() -> Running {
    Running::start(|settings| settings.pipeline.graph = "none".into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_callback_has_pushed_and_recorded_begins_and_ends_with_its_publisher() {
    let _alone = alone().await;
    let far = plain().await;
    let asked = Told::start(json!({
        "settings": {"record": true, "pushes": [{"url": far.rtmp("far/copy")}]},
    }))
    .await;
    let told = Told::start(json!({})).await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.webhook.url = asked.url.clone();
        let (url, events) = (told.url.clone(), vec!["recording".into()]);
        settings.events.webhooks.push(EventHook { url, events, ..EventHook::default() });
    })
    .await;
    assert_eq!(node.status().await["pushes"], json!([]));
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    far.until_pictures("far/copy", 60).await;
    let status = node
        .until("a recording", |status| {
            let cam = find(status, "cam");
            cam.is_some_and(|cam| cam["recording"]["seconds"].as_f64() > Some(1.0))
        })
        .await;
    let pushed = &status["pushes"][0];
    assert_eq!((&pushed["stream"], &pushed["state"]), (&json!("cam"), &json!("running")));

    push.finish().await;
    far.until("the end there", |status| find(status, "far/copy").is_none()).await;
    node.until("the end of the push", |status| status["pushes"] == json!([])).await;
    let is_segment = |event: &Value| event["type"] == "recording.segment";
    let got = told.until(is_segment).await;
    let [segment] = &got[..] else { panic!("one segment: {got:#?}") };
    assert_eq!(segment["stream"], "cam");
    let data = &segment["data"];
    let path = data["path"].as_str().unwrap();
    assert_eq!(data["bytes"].as_u64(), Some(std::fs::metadata(Path::new(path)).unwrap().len()));
    assert!(Moment::parse(data["start"].as_str().unwrap()).is_some(), "{data:#}");
    let (lasts, probed) = (data["duration_seconds"].as_f64().unwrap(), probe(path).await);
    assert!(lasts > 1.0 && (seconds(&probed) - lasts).abs() < 0.2, "{data:#} {probed:#}");
    node.until_idle().await;
    node.stop().await;
    far.stop().await;
    asked.server.abort();
    told.server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_that_the_api_changes_begin_and_end_while_the_stream_runs() {
    let _alone = alone().await;
    let (far, node) = (plain().await, plain().await);
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 10).await;
    let api = Api::of(&node.node, "").await;
    let source = async || api.get("/v3/paths/get/{name}", "cam").await.1["source"].clone();
    let before = source().await;
    let forward = async |method: Method, path: &str, urls: &[String]| {
        let forward: Vec<Value> = urls.iter().map(|url| json!({ "dest": url })).collect();
        let path = format!("/v3/config/paths/{path}/{{name}}");
        let (status, said) =
            api.call(method, &path, "cam", Some(json!({ "forward": forward }))).await;
        assert_eq!(status, StatusCode::OK, "{said}");
    };
    let list = async |path: &str| {
        let path = format!("/v3/paths/forward/list?path={path}");
        api.get(&path, "").await.1["items"].as_array().unwrap().clone()
    };

    forward(Method::POST, "add", &[far.rtmp("far/one")]).await;
    far.until_pictures("far/one", 30).await;
    let [one] = &list("cam").await[..] else { panic!("one destination") };
    assert_eq!((&one["pos"], &one["type"]), (&json!(1), &json!("rtmp")), "{one:#}");
    assert_eq!((&one["state"], &one["lastError"]), (&json!("forwarding"), &json!("")), "{one:#}");
    assert!(one["outboundBytes"].as_u64() > Some(0), "{one:#}");
    assert!(one["conf"]["dest"].as_str().unwrap().starts_with("rtmp://127.0.0.1:"), "{one:#}");
    assert!(list("other").await.is_empty());
    let get = async |id: &str| {
        let path = format!("/v3/paths/forward/get?path=cam&id={id}");
        api.get(&path, "").await
    };
    let (status, same) = get(one["id"].as_str().unwrap()).await;
    assert_eq!((status, &same["created"]), (StatusCode::OK, &one["created"]));
    assert_eq!(get("nobody").await.0, StatusCode::NOT_FOUND);

    // Another instead of it, and one where nobody answers.
    let nobody = "rtmp://127.0.0.1:9/far/two".to_owned();
    forward(Method::PATCH, "patch", &[far.rtmp("far/two"), nobody]).await;
    far.until_pictures("far/two", 30).await;
    far.until("the end of the first", |status| find(status, "far/one").is_none()).await;
    node.until("a failed attempt", |status| status["pushes"][1]["last_error"].is_string()).await;
    let both = list("cam").await;
    assert_eq!((&both[0]["state"], &both[1]["state"]), (&json!("forwarding"), &json!("error")));
    assert!(!both[1]["lastError"].as_str().unwrap().is_empty(), "{both:#?}");

    forward(Method::PATCH, "patch", &[]).await;
    far.until("the end of the second", |status| find(status, "far/two").is_none()).await;
    assert!(list("cam").await.is_empty());
    assert_eq!(source().await, before, "the publisher did not notice");
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
    far.stop().await;
}
