//! Firefox as viewer and as publisher, bare and on our pages.
//!
//! Firefox has H.264 by a plug-in that it downloads, or by what the system has for its player, which
//! is no use to WebRTC. Without the plug-in, as in tests, it is a peer with VP8, VP9 and AV1 alone.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::card::Card;
use crate::client::{assert_in_order, pictures};
use crate::live::assert_colours;
use crate::node::{Running, alone, find};
use crate::push::{LIVE, Push, TONE};
use crate::record::probe;
use crate::webrtc::until_forms;

#[tokio::test(flavor = "multi_thread")]
async fn firefox_watches_in_its_own_codings_bare_and_in_the_player_through_an_ice_restart() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 10).await;
    let (mut firefox, codings) = Browser::firefox().await;
    println!("Firefox has {codings:?}");
    firefox.watch("bare", &node.http("cam/whep")).await;
    firefox.open("player", &node.http("cam/?protocol=webrtc")).await;
    for page in ["bare", "player"] {
        let shown = firefox.client.until_cards(Some(page), 60).await;
        assert_in_order(&shown, false);
        assert_colours(shown.last().unwrap(), false);
        firefox.client.until_tone(Some(page), f64::from(TONE)).await;
    }
    // Both get the same form: of the sound alone where Firefox has H.264, else of the pictures too.
    let has_h264 = codings.iter().any(|coding| coding == "video/H264");
    until_forms(&node, (1, usize::from(!has_h264))).await;

    firefox.ask("restart", "bare", json!({})).await;
    let connected = |events: &[Value]| {
        let restarted = events.iter().rposition(|event| !event["restarted"].is_null())?;
        let before = pictures(&events[..restarted], Some("bare")).pop()?.number;
        let after = pictures(&events[restarted..], Some("bare"));
        after.iter().any(|picture| picture.number > before + 30).then_some(after)
    };
    let shown = firefox.client.until("pictures after the ICE restart", connected).await;
    assert_in_order(&shown, false);

    firefox.close("bare").await;
    firefox.close("player").await;
    until_forms(&node, (0, 0)).await;
    firefox.client.finish().await;
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox_publishes_on_our_page_and_viewers_of_every_kind_see_and_hear_it() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let (mut firefox, codings) = Browser::firefox().await;
    firefox.open("studio", &node.http("cam/publish")).await;
    firefox.ask("click", "studio", json!({ "selector": "#go" })).await;
    node.until_pictures("cam", 30).await;
    let status = node.until_pictures("cam-out", 30).await;
    let cam = find(&status, "cam").unwrap();
    let has_h264 = codings.iter().any(|coding| coding == "video/H264");
    let codec = if has_h264 { "H264" } else { "VP8" };
    assert_eq!((&cam["protocol"], &cam["video"]["codec"]), (&json!("webrtc"), &json!(codec)));
    // As it was published, by a protocol that carries it, and processed.
    for (url, codec) in
        [(node.rtsp("cam"), codec.to_lowercase()), (node.rtmp("cam-out"), "h264".into())]
    {
        let probed = probe(&url).await;
        let streams = probed["streams"].as_array().unwrap();
        let pictures = streams.iter().find(|stream| stream["codec_type"] == "video").unwrap();
        assert_eq!(pictures["codec_name"], codec, "{url}: {probed:#}");
        assert!(streams.iter().any(|stream| stream["codec_type"] == "audio"), "{url}: {probed:#}");
    }
    let mut chromium = Browser::start().await;
    chromium.watch("chromium", &node.http("cam-out/whep")).await;
    firefox.watch("firefox", &node.http("cam/whep")).await;
    for (browser, page) in [(&chromium, "chromium"), (&firefox, "firefox")] {
        let shown = browser.client.until_pictures(Some(page), 60).await;
        let last = shown.last().unwrap();
        assert!(last.width > 0 && last.left != [0; 3], "a black picture on {page}: {last:?}");
        browser.client.until_tone(Some(page), f64::from(TONE)).await;
    }
    // The button says "Stop" now.
    firefox.ask("click", "studio", json!({ "selector": "#go" })).await;
    node.until("the end of the stream", |status| find(status, "cam").is_none()).await;
    chromium.close("chromium").await;
    firefox.close("firefox").await;
    firefox.close("studio").await;
    node.until_idle().await;
    chromium.client.finish().await;
    firefox.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox_publishes_each_of_its_codings_through_an_ice_restart_and_watches_them() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let (mut firefox, codings) = Browser::firefox().await;
    for codec in ["VP8", "VP9", "AV1"] {
        assert!(codings.contains(&format!("video/{codec}")), "{codings:?}");
        let stream = codec.to_lowercase();
        let (camera, viewer) = (format!("camera-{stream}"), format!("viewer-{stream}"));
        firefox.publish_in(&camera, &node.http(&format!("{stream}/whip")), codec).await;
        let status = node.until_pictures(&stream, 10).await;
        let seen = find(&status, &stream).unwrap();
        assert_eq!(seen["video"]["codec"], codec, "{seen:#}");
        assert_eq!(seen["audio"]["codec"], "Opus", "{seen:#}");
        firefox.watch_in(&viewer, &node.http(&format!("{stream}/whep")), codec).await;
        firefox.client.until_pictures(Some(&viewer), 30).await;
        // Nothing is re-encoded on the way.
        until_forms(&node, (0, 0)).await;
        firefox.ask("restart", &camera, json!({})).await;
        let before = firefox.client.pictures(Some(&viewer)).len();
        firefox.client.until_pictures(Some(&viewer), before + 30).await;
        firefox.client.until_tone(Some(&viewer), f64::from(TONE)).await;
        firefox.close(&viewer).await;
        firefox.close(&camera).await;
        node.until_idle().await;
    }
    firefox.client.finish().await;
    node.stop().await;
}
