//! Nodes joined by WebRTC: one pushes by WHIP, one pulls by WHEP, in the clear and in TLS.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ingest::hub::Start;
use millstream::config;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::card::Card;
use crate::graphs::read_cards;
use crate::node::{Running, alone, find};
use crate::programs::{self, PATIENCE};
use crate::push::{LIVE, Push, TONE};
use crate::rtsp::fingerprint;

/// The end of this stream in a list of the status.
fn end_of<'a>(status: &'a Value, list: &str, stream: &str) -> Option<&'a Value> {
    status[list].as_array()?.iter().find(|end| end["stream"] == stream)
}

fn has_state(status: &Value, list: &str, stream: &str, wanted: &str) -> bool {
    end_of(status, list, stream).is_some_and(|end| end["state"] == wanted)
}

/// The numbers of so many cards of a stream, one after the other.
async fn in_order(node: &Running, stream: &str, count: usize) {
    let mut reader = node.reader(stream, Start::LastKey).await;
    let cards = read_cards(&mut reader, |cards| cards.len() >= count).await;
    let numbers: Vec<u16> = cards.values().map(|card| card.expect("a card").number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_to_another_node_by_whips_and_comes_back_by_wheps() {
    let _alone = alone().await;
    let mut certificate = PathBuf::new();
    let there = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.publish_user = "ann".into();
        settings.auth.publish_password = "secret".into();
        settings.auth.read_user = "bob".into();
        settings.auth.read_password = "hidden".into();
        certificate = settings.data_dir.join("cert.pem");
    })
    .await;
    let fingerprint = fingerprint(&certificate).await;
    let place = there.node.addresses().http.unwrap();
    let here = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let push = config::Push {
            url: format!("whips://ann:secret@{place}/far/whip"),
            fingerprint: fingerprint.clone(),
            ..Default::default()
        };
        // Another certificate than the one that is wanted.
        let url = push.url.replace("far", "else");
        let wrong = config::Push { url, fingerprint: "ab".repeat(32), ..push.clone() };
        let pushes = Some(vec![push, wrong]);
        settings.streams.insert("cam".into(), config::Stream { pushes, ..Default::default() });
        let back = |source: String, bearer: Option<&str>| config::Stream {
            source: Some(source),
            source_fingerprint: Some(fingerprint.clone()),
            source_bearer: bearer.map(str::to_owned),
            ..Default::default()
        };
        let secured = back(format!("wheps://{place}/far/whep"), Some("bob:hidden"));
        settings.streams.insert("back".into(), secured);
        let plain = back(format!("whep://bob:hidden@{place}/far/whep"), None);
        settings.streams.insert("plain".into(), plain);
    })
    .await;
    // The sources are always on, and wait for what is not there yet.
    here.until("failed attempts", |status| {
        ["back", "plain"].into_iter().all(|stream| {
            let source = end_of(status, "sources", stream);
            source.is_some_and(|s| s["last_error"].as_str().is_some_and(|e| e.contains("404")))
        })
    })
    .await;
    let publisher = Push::rtmp(Card::SMALL, LIVE, &here.rtmp("cam"));
    for stream in ["back", "plain"] {
        let status = here.until_pictures(stream, 30).await;
        let found = find(&status, stream).unwrap();
        assert_eq!(found["protocol"], "webrtc");
        assert_eq!(
            (&found["video"]["codec"], &found["audio"]["codec"]),
            (&json!("H264"), &json!("Opus"))
        );
        in_order(&here, stream, 45).await;
    }
    let status = here
        .until("a push that stops at the certificate", |status| {
            let pushes = status["pushes"].as_array().unwrap();
            let told =
                |p: &Value| p["last_error"].as_str().is_some_and(|e| e.contains("certificate"));
            pushes.iter().any(told) && pushes.iter().any(|push| push["state"] == "running")
        })
        .await;
    for secret in ["secret", "hidden"] {
        assert!(!status.to_string().contains(secret), "{status}");
    }
    publisher.finish().await;
    here.until("idle pushes and waiting sources", |status| {
        status["pushes"].as_array().unwrap().iter().all(|push| push["state"] == "idle")
            && has_state(status, "sources", "back", "waiting")
            && has_state(status, "sources", "plain", "waiting")
    })
    .await;
    here.stop().await;
    there.until_idle().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_another_node_are_pulled_on_demand_or_always_and_again_when_it_is_back() {
    let _alone = alone().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = free.local_addr().unwrap();
    drop(free);
    let far = async || {
        Running::start(|settings| {
            settings.pipeline.graph = "none".into();
            settings.http.listen = place;
        })
        .await
    };
    let first = far().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let source = Some(format!("whep://{place}/cam/whep"));
        settings.streams.insert("always".into(), config::Stream { source, ..Default::default() });
        let wanted = config::Stream {
            source: Some(format!("whep://{place}/$G1/whep")),
            source_on_demand: Some(true),
            source_close_after_seconds: Some(1),
            ..Default::default()
        };
        settings.streams.insert("~^wanted-(\\w+)$".into(), wanted);
    })
    .await;
    let publisher = Push::rtmp(Card::SMALL, LIVE, &first.rtmp("cam"));
    node.until_pictures("always", 30).await;
    assert_eq!(node.status().await["sources"].as_array().unwrap().len(), 1);

    // Picture and sound through both nodes, for as long as somebody looks.
    let mut command = Command::new(programs::ffmpeg());
    command.args(["-hide_banner", "-nostdin", "-i", &node.rtmp("wanted-cam"), "-t", "3"]);
    command.args(["-af", &format!("bandpass=f={TONE}:w=50,volumedetect"), "-f", "null", "-"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let played = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = played.expect("ffmpeg does not end").unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains("Video: h264"), "{words}");
    let level = words.split("mean_volume: ").nth(1).and_then(|rest| rest.split(' ').next());
    let level: f64 = level.unwrap_or_else(|| panic!("no sound: {words}")).parse().unwrap();
    assert!(level > -30.0, "the tone is lost: {level} dB");
    node.until("nobody who looks", |status| end_of(status, "sources", "wanted-cam").is_none())
        .await;
    let sessions = first.node.parts().webrtc.clone().unwrap();
    let end = Instant::now() + PATIENCE;
    while sessions.sessions().await.len() != 1 {
        assert!(Instant::now() < end, "its session stays there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    drop(publisher);
    first.stop().await;
    node.until("a source that is tried again", |status| {
        has_state(status, "sources", "always", "waiting")
            && end_of(status, "sources", "always").unwrap()["last_error"].is_string()
    })
    .await;
    assert!(find(&node.status().await, "always").is_none());
    let second = far().await;
    let publisher = Push::rtmp(Card::SMALL, LIVE, &second.rtmp("cam"));
    let status = node.until_pictures("always", 30).await;
    assert!(
        end_of(&status, "sources", "always").unwrap()["retries"].as_u64() > Some(0),
        "{status}"
    );
    in_order(&node, "always", 30).await;
    publisher.finish().await;
    node.stop().await;
    second.stop().await;
}
