//! What the node says of itself.

use std::collections::BTreeSet;

use ingest::StreamName;
use ingest::views::{Takes, Views};
use millstream::config::{self, EventHook, Rendition, Stream};
use reqwest::StatusCode;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::push::{LIVE, Push};

/// Names of samples in Prometheus's text format; panics at a line that is not of it.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# ") {
            let (kind, rest) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "HELP" | "TYPE"), "{line}");
            names.insert(rest.split(' ').next().unwrap().to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(labels.ends_with('}'), "{line}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
        names.insert(name.to_owned());
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_hold_every_name_that_the_boards_and_alerts_use() {
    let _alone = alone().await;
    let store = tempfile::tempdir().unwrap();
    // Something of each kind that has figures; nobody is where it is pushed and told.
    let node = Running::start(|settings| {
        let fetched = Stream { source: Some("demo".into()), ..Stream::default() };
        settings.streams.insert("fetched".into(), fetched);
        let push = config::Push { url: "rtmp://127.0.0.1:9/x".into(), ..config::Push::default() };
        let small = Rendition {
            name: "small".into(),
            height: 90,
            bitrate_kbps: 100,
            ..Rendition::default()
        };
        let cam = Stream {
            pushes: Some(vec![push]),
            record: Some(true),
            renditions: Some(vec![small]),
            ..Stream::default()
        };
        settings.streams.insert("cam".into(), cam);
        settings.recordings.store.url = format!("file://{}", store.path().display());
        let hook = EventHook { url: "http://127.0.0.1:9/".into(), ..EventHook::default() };
        settings.events.webhooks.push(hook);
    })
    .await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    let _by_srt = Push::srt(Card::SMALL, LIVE, &node.srt("publish:studio"));
    node.until_pictures("cam-out", 60).await;
    node.until_pictures("studio", 1).await;
    node.until("a measured delay", |status| {
        let views = status["streams"].as_array().unwrap();
        views.iter().any(|view| view["processing"]["delay_ms"].is_number())
    })
    .await;
    node.until("a rendition", |status| {
        let cam = find(status, "cam");
        cam.is_some_and(|cam| cam["renditions"][0]["made"].is_object())
    })
    .await;
    // A reader who cannot take AAC.
    let bridges = node.node.parts().bridges.as_ref().unwrap();
    let (cam, takes) = (StreamName::parse("cam").unwrap(), &Takes::WEBRTC);
    let _reader = Views::view(bridges, &cam, takes).await.unwrap();
    let answer = node.client.get(node.metrics("metrics")).send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let there = names(&answer.text().await.unwrap());
    for name in [
        "millstream_frames_processed_total",
        "millstream_frames_dropped_total",
        "millstream_tickets_accepted_total",
        "millstream_tickets_won_total",
        "millstream_fees_wei_total",
    ] {
        assert!(there.contains(name), "{name} is not there");
    }
    let missing: Vec<_> =
        dashboards::board_metric_names().into_iter().filter(|name| !there.contains(name)).collect();
    assert!(missing.is_empty(), "boards use what /metrics does not have: {missing:?}");
    push.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_the_operators_pages_answer() {
    let node = Running::start(|_| {}).await;
    for path in ["healthz", "readyz"] {
        let answer = node.client.get(node.metrics(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    let info: serde_json::Value =
        node.client.get(node.admin("object_info")).send().await.unwrap().json().await.unwrap();
    for class in ["LoadTensor", "SaveTensor", "ImageScale", "ImageBlur", "ImageInvert", "Canny"] {
        assert!(info[class]["input"].is_object(), "{class} is not there");
    }
    // A page of another site is not let in.
    let foreign = node.client.get(node.admin("v1/status")).header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    node.stop().await;
}
