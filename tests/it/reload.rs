//! A settings file that changes while people publish and watch.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::card::Card;
use crate::client::assert_in_order;
use crate::node::alone;
use crate::peer;
use crate::process::Process;
use crate::programs::PATIENCE;
use crate::push::{LIVE, Push};

/// Waits until the log of the node has these words.
async fn until_logged(node: &Process, words: &str) {
    let end = Instant::now() + PATIENCE;
    while !node.log().contains(words) {
        assert!(Instant::now() < end, "{words:?} was never logged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_settings_file_keeps_publisher_and_viewer_and_counts_for_whoever_comes_next() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "pipeline.graph = \"none\"\n").unwrap();
    let node = Process::start(&dir, "node", &format!("up --config {}", file.display())).await;
    let http = |path: &str| format!("{}{path}", node.url("all streams"));
    let client = millstream::http_client().unwrap();
    let status = async |path: &str| client.get(http(path)).send().await.unwrap().status();
    let rtmp = |stream: &str| format!("rtmp://{}/{stream}", node.address("publish by RTMP"));

    let mut publisher = Push::rtmp(Card::SMALL, LIVE, &rtmp("cam"));
    let end = Instant::now() + PATIENCE;
    while status("cam/index.m3u8").await != StatusCode::OK {
        assert!(Instant::now() < end, "the stream does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let viewer = peer::watch(&http("cam/whep")).await;
    viewer.until_cards(None, 15).await;

    let changed = "pipeline.graph = \"none\"\n[auth]\nread_password = \"secret\"\n\
                   publish_password = \"hidden\"\nfailure_delay_ms_max = 0\n";
    std::fs::write(&file, changed).unwrap();
    until_logged(&node, "the settings file was read again").await;
    assert_eq!(status("cam/index.m3u8").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("cam/index.m3u8?token=secret").await, StatusCode::OK);
    let mut refused = Push::rtmp(Card::SMALL, LIVE, &rtmp("other"));
    assert!(!refused.until_ended().await, "a publisher without the password was let in");

    // A file that cannot be read changes nothing.
    std::fs::write(&file, "auth = [").unwrap();
    until_logged(&node, "the settings file cannot be used").await;
    assert_eq!(status("cam/index.m3u8").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("cam/index.m3u8?token=secret").await, StatusCode::OK);

    // Those who were there go on.
    let before = viewer.pictures(None).len();
    let seen = viewer.until_pictures(None, before + 30).await;
    assert_in_order(&seen, false);
    assert_eq!(publisher.ended(), None, "the publisher was ended");
    viewer.finish().await;
    publisher.finish().await;
}
