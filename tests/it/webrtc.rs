//! WebRTC in all its codings, and its data channel, with a real browser.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::card::Card;
use crate::client::Picture;
use crate::graphs::INVERT;
use crate::node::{Running, alone, find};
use crate::programs;
use crate::push::{LIVE, Push};

/// The colours of the last picture of a page, which must have shown many pictures of colour.
fn colours(pictures: &[Picture]) -> Vec<u32> {
    let mut times: Vec<_> = pictures.iter().filter_map(|picture| picture.rtp).collect();
    times.dedup();
    assert!(times.len() >= 20, "a still picture: {times:?}");
    let last = pictures.last().unwrap();
    assert!(last.width > 0, "{last:?}");
    let colours: Vec<_> = last.left.into_iter().chain(last.right).collect();
    let (least, most) = (colours.iter().min().unwrap(), colours.iter().max().unwrap());
    assert!(most - least > 60, "Chromium's own picture is green, not {colours:?}");
    colours
}

/// Waits until so many forms of streams are made, so many of them with pictures re-encoded.
async fn until_forms(node: &Running, wanted: (usize, usize)) {
    let end = Instant::now() + programs::PATIENCE;
    loop {
        let made = node.node.parts().bridges.as_ref().map(|bridges| bridges.counts());
        if made == Some(wanted) {
            return;
        }
        assert!(Instant::now() < end, "{made:?} forms are made, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_publishes_vp8_vp9_and_av1_and_every_viewer_sees_them() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let mut browser = Browser::start().await;
    for codec in ["VP8", "VP9", "AV1"] {
        let stream = codec.to_lowercase();
        let (camera, own, h264) =
            (format!("camera-{stream}"), format!("own-{stream}"), format!("h264-{stream}"));
        browser.publish_in(&camera, &node.http(&format!("{stream}/whip")), codec).await;
        let status = node.until_pictures(&stream, 10).await;
        let seen = find(&status, &stream).unwrap();
        assert_eq!(seen["video"]["codec"], codec, "{seen:#}");
        let whep = node.http(&format!("{stream}/whep"));
        // As it was published, and as those see it who have nothing but H.264.
        browser.watch_in(&own, &whep, codec).await;
        let as_published = colours(&browser.client.until_pictures(Some(&own), 30).await);
        until_forms(&node, (0, 0)).await;
        browser.watch_in(&h264, &whep, "H264").await;
        let bridged = colours(&browser.client.until_pictures(Some(&h264), 30).await);
        // Chromium shows a VP8 picture by BT.709, though RFC 6386 9.2 has BT.601, which the
        // re-encoded one states: a green of 77 and one of 135.
        for (one, other) in as_published.iter().zip(&bridged) {
            assert!(one.abs_diff(*other) < 70, "{as_published:?} became {bridged:?}");
        }
        until_forms(&node, (1, 1)).await;
        for page in [&camera, &own, &h264] {
            browser.close(page).await;
        }
        node.until_idle().await;
        until_forms(&node, (0, 0)).await;
    }
    browser.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_without_h264_gets_vp8() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 5).await;
    let mut browser = Browser::start().await;
    browser.watch_in("vp8", &node.http("cam/whep"), "VP8").await;
    let pictures = browser.client.until_cards(Some("vp8"), 60).await;
    crate::client::assert_in_order(&pictures, false);
    browser.close("vp8").await;
    browser.client.finish().await;
    push.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_changes_the_graph_on_its_data_channel_and_learns_which_picture_is_the_first() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 10).await;
    let mut browser = Browser::start().await;
    browser.watch("out", &node.http("cam-out/whep")).await;
    browser.client.until_cards(Some("out"), 30).await;
    let heard = |events: &[Value], wanted: &dyn Fn(&Value) -> bool| {
        events.iter().map(|event| &event["heard"]).find(|heard| wanted(heard)).cloned()
    };
    let graph = json!({ "id": "1", "type": "graph" });
    browser.ask("tell", "out", json!({ "text": graph.to_string() })).await;
    let answer = browser.client.until("the graph", |e| heard(e, &|h| h["id"] == "1")).await;
    assert_eq!(answer["prompt"], pipeline::graph::passthrough_prompt());
    let update = json!({ "id": "2", "type": "update", "prompt": *INVERT });
    browser.ask("tell", "out", json!({ "text": update.to_string() })).await;
    let answer = browser.client.until("the change", |e| heard(e, &|h| h["id"] == "2")).await;
    assert_eq!(answer["state"], "applied", "{answer:#}");
    let first = answer["rtp"].as_u64().expect("a timestamp") as u32;
    let shown =
        browser.client.until_picture(Some("out"), "an inverted picture", |p| p.inverted).await;
    for picture in shown.iter().filter(|picture| !picture.unreadable) {
        let rtp = picture.rtp.expect("Chromium says it");
        // Half the range: a picture is at or after the first one, or before it.
        let after = rtp.wrapping_sub(first) < 1 << 31;
        assert_eq!(picture.inverted, after, "{picture:?}, changed at {first}");
    }
    push.finish().await;
    let told = |h: &Value| h["type"] == "stream" && h["state"] == "offline";
    browser.client.until("the end of the stream", |e| heard(e, &told)).await;
    browser.close("out").await;
    browser.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_finds_nothing() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 5).await;
    for arguments in [
        vec!["publish".to_owned(), node.http("free/whip")],
        vec!["watch".to_owned(), node.http("cam/whep"), "--fill".into(), "300".into()],
    ] {
        let suite = tokio::process::Command::new(programs::python())
            .arg(programs::root().join("tests/conformance/whip.py"))
            .args(arguments)
            .output();
        let output = tokio::time::timeout(programs::PATIENCE, suite).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{said}");
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("\nnote"), "{said}");
    }
    push.finish().await;
    node.stop().await;
}
