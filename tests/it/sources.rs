//! Streams that the node fetches and sends on, with ffmpeg at the other end.

use std::path::PathBuf;
use std::process::Stdio;

use millstream::config::{Push, Stream};
use serde_json::Value;
use tokio::process::Command;

use crate::card::Card;
use crate::node::{Running, alone};
use crate::programs::{self, PATIENCE};
use crate::push::{self, LIVE};

/// A clip of two seconds with a tone.
async fn clip(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("clip.mp4");
    let options = "-hide_banner -loglevel error -y -f lavfi -i testsrc=size=320x180:rate=30:duration=2 \
                   -f lavfi -i sine=frequency=1000:sample_rate=48000:duration=2 -pix_fmt yuv420p \
                   -c:v libx264 -preset ultrafast -tune zerolatency -g 30 -c:a aac";
    let mut command = Command::new(programs::ffmpeg());
    let made = command.args(options.split_whitespace()).arg(&path).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    path
}

fn source<'a>(status: &'a Value, stream: &str) -> Option<&'a Value> {
    status["sources"].as_array()?.iter().find(|source| source["stream"] == stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_begins_with_its_first_viewer_and_ends_after_the_last() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", clip(&dir).await.display());
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let stream = Stream {
            source: Some(url),
            source_on_demand: Some(true),
            source_close_after_seconds: Some(1),
            ..Stream::default()
        };
        settings.streams.insert("~^clip\\d$".into(), stream);
    })
    .await;
    assert_eq!(node.status().await["sources"], serde_json::json!([]));
    // More pictures than the file has, by a viewer who comes first.
    let mut command = Command::new(programs::ffmpeg());
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i", &node.rtmp("clip1")]);
    command.args(["-map", "0:v", "-frames:v", "90", "-f", "null", "-"]);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let player = command.spawn().unwrap();
    let status = node.until("a running source", |status| {
        source(status, "clip1").is_some_and(|source| source["state"] == "running")
    });
    assert_eq!(source(&status.await, "clip1").unwrap()["on_demand"], true);
    let played = tokio::time::timeout(PATIENCE, player.wait_with_output()).await;
    let played = played.expect("ffmpeg does not end").unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    node.until("the source's end", |status| source(status, "clip1").is_none()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_pushed_by_srt_to_a_server_that_comes_later() {
    let _alone = alone().await;
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let url = format!("srt://{address}?passphrase=a-long-secret");
        let pushes = Some(vec![Push { url, ..Push::default() }]);
        settings.streams.insert("cam".into(), Stream { pushes, ..Stream::default() });
    })
    .await;
    let state = |status: &Value| status["pushes"][0]["state"].as_str().map(str::to_owned);
    assert_eq!(state(&node.status().await).as_deref(), Some("idle"));
    let publisher = push::Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until("a failed attempt", |status| status["pushes"][0]["last_error"].is_string()).await;
    let mut command = Command::new(programs::ffmpeg());
    let url = format!("srt://{address}?mode=listener&passphrase=a-long-secret");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i", &url]);
    command.args(["-map", "0:v", "-map", "0:a", "-frames:v", "60", "-f", "null", "-"]);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let server = command.spawn().unwrap();
    let status =
        node.until("a running push", |status| state(status).as_deref() == Some("running")).await;
    assert!(!status.to_string().contains("secret"), "{status}");
    let taken = tokio::time::timeout(PATIENCE, server.wait_with_output()).await;
    let taken = taken.expect("ffmpeg does not end").unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let status = node.status().await;
    assert!(status["pushes"][0]["bytes"].as_u64() > Some(0), "{status}");
    drop(publisher);
    node.until("an idle push", |status| state(status).as_deref() == Some("idle")).await;
    node.stop().await;
}
