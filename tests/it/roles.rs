//! Roles in processes of their own, and how processes end.

use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::card::Card;
use crate::client::{assert_in_order, load, spread};
use crate::node::{alone, brief, find};
use crate::peer;
use crate::process::Process;
use crate::programs::PATIENCE;
use crate::push::{LIVE, Push, TONE};

/// Waits until the process's status is as wanted.
async fn until(process: &Process, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = process.status().await;
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < end, "{what} never came: {}", brief(status));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn pictures(status: &Value, stream: &str) -> u64 {
    find(status, stream).and_then(|view| view["frames"].as_u64()).unwrap_or_default()
}

fn rtmp(process: &Process, stream: &str) -> String {
    format!("rtmp://{}/{stream}", process.address("publish by RTMP"))
}

fn http(process: &Process, path: &str) -> String {
    format!("http://{}/{path}", process.address("all streams"))
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_and_orchestrator_work_as_two_processes() {
    let _alone = alone().await;
    let dir = TempDir::new().unwrap();
    let orchestrator = Process::start(&dir, "orchestrator", "orchestrator").await;
    let line = format!(
        "gateway --orchestrators {} --set pipeline.graph=passthrough",
        orchestrator.url("orchestrator for peers")
    );
    let mut gateway = Process::start(&dir, "gateway", &line).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &rtmp(&gateway, "cam"));
    until(&gateway, "the processed stream", |status| pictures(status, "cam-out") > 0).await;
    let viewer = peer::watch(&http(&gateway, "cam-out/whep")).await;
    let seen = viewer.until_cards(None, 90).await;
    viewer.until_tone(None, f64::from(TONE)).await;
    assert_in_order(&seen, false);
    let ages = seen[seen.len().min(45)..].iter().map(|p| f64::from(p.age_ms())).collect();
    println!(
        "two processes, cam-out in aiortc, ms behind the drawing: {}; {}",
        spread(ages),
        load()
    );
    let jobs = orchestrator.status().await["jobs"].as_array().unwrap().len();
    assert_eq!(jobs, 1);
    let status = gateway.status().await;
    let processing = &find(&status, "cam").unwrap()["processing"];
    assert_eq!(processing["swaps"], 0, "{processing:#}");
    viewer.finish().await;
    push.finish().await;
    until(&orchestrator, "an idle orchestrator", |status| {
        status["jobs"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
    assert!(gateway.terminate(Duration::from_secs(20)).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_ends_within_its_limit() {
    let _alone = alone().await;
    let dir = TempDir::new().unwrap();
    let line = "up --set pipeline.graph=passthrough --set drain_seconds=5";
    let mut node = Process::start(&dir, "node", line).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &rtmp(&node, "cam"));
    until(&node, "the processed stream", |status| pictures(status, "cam-out") > 10).await;
    let viewer = peer::watch(&http(&node, "cam-out/whep")).await;
    viewer.until_cards(None, 10).await;
    let began = Instant::now();
    // The limit and what a loaded machine may add.
    let status = node.terminate(Duration::from_secs(5 + 10)).await;
    println!(
        "SIGTERM to exit: {} ms with publisher and viewer; {}",
        began.elapsed().as_millis(),
        load()
    );
    assert!(status.success(), "{status}: {}", node.log());
    assert!(node.log().contains("stopped"));
    drop((push, viewer));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_same_data_directory_serves_again() {
    let _alone = alone().await;
    let dir = TempDir::new().unwrap();
    let line = "up --set pipeline.graph=passthrough";
    let keys = |name: &str| std::fs::read(dir.path().join("node/keys").join(name)).unwrap();
    let mut before = None;
    for _ in 0..3 {
        let mut node = Process::start(&dir, "node", line).await;
        let same = (keys("gateway.key"), keys("orchestrator.key"));
        assert_eq!(*before.get_or_insert_with(|| same.clone()), same, "keys stay");
        let push = Push::rtmp(Card::SMALL, LIVE, &rtmp(&node, "cam"));
        until(&node, "the processed stream", |status| pictures(status, "cam-out") > 30).await;
        node.kill().await;
        drop(push);
    }
}
