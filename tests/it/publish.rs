//! Publishers over WebRTC, and publishers that come and go.

use serde_json::Value;

use crate::browser::Browser;
use crate::card::Card;
use crate::client::{Picture, assert_in_order, load, spread};
use crate::graphs::{INVERT, graph_file};
use crate::node::{Running, alone, find};
use crate::peer;
use crate::push::{LIVE, Push, TONE};

fn print_ages(title: &str, pictures: &[Picture]) {
    let ages = pictures.iter().map(|picture| f64::from(picture.age_ms())).collect();
    println!("{title}: ms behind the drawing: {}; {}", spread(ages), load());
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_publishes_its_camera_and_another_page_watches_it_processed() {
    let _alone = alone().await;
    let graph = graph_file(&INVERT);
    let path = graph.path().to_str().unwrap().to_owned();
    let node = Running::start(|settings| settings.pipeline.graph = path).await;
    let mut browser = Browser::start().await;
    browser.publish("camera", &node.http("cam/whip")).await;
    let status = node.until_pictures("cam-out", 30).await;
    let camera = find(&status, "cam").unwrap();
    assert_eq!(
        (&camera["protocol"], &camera["video"]["codec"]),
        (&"webrtc".into(), &"H264".into())
    );
    browser.watch("out", &node.http("cam-out/whep")).await;
    browser.watch("raw", &node.http("cam/whep")).await;
    browser.client.until_pictures(Some("out"), 60).await;
    browser.client.until_pictures(Some("raw"), 60).await;
    // The fake microphone beeps.
    for page in ["out", "raw"] {
        let what = format!("a beep on {page}");
        let loud =
            |event: &&Value| event["page"] == page && event["sound"]["level"].as_f64() > Some(0.01);
        browser.client.until(&what, |events| events.iter().find(loud).cloned()).await;
    }
    let last = |page| browser.client.pictures(Some(page)).pop().unwrap();
    let (out, raw) = (last("out"), last("raw"));
    assert_eq!((raw.width, raw.height), (out.width, out.height));
    for (out, raw) in
        out.left.into_iter().chain(out.right).zip(raw.left.into_iter().chain(raw.right))
    {
        assert!((out + raw).abs_diff(255) < 40, "not the opposite: {out} and {raw}");
    }
    browser.shot("raw", "camera-raw").await;
    browser.shot("out", "camera-inverted").await;
    for page in ["camera", "out", "raw"] {
        browser.close(page).await;
    }
    browser.client.finish().await;
    node.until_idle().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aiortc_publishes_and_aiortc_watches() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let publisher = peer::publish(&node.http("cam/whip")).await;
    node.until_pictures("cam-out", 1).await;
    let viewer = peer::watch(&node.http("cam-out/whep")).await;
    let pictures = viewer.until_cards(None, 60).await;
    viewer.until_tone(None, peer::TONE).await;
    assert_in_order(&pictures, false);
    print_ages("aiortc to aiortc, cam-out", &pictures);
    viewer.finish().await;
    publisher.finish().await;
    node.until_idle().await;
    node.stop().await;
}

/// FFmpeg 9 publishes by WHIP, aiortc watches what comes out.
async fn ffmpeg_to_aiortc(flags: &str) {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::whip(Card::SMALL, flags, &node.http("cam/whip"));
    node.until_pictures("cam-out", 1).await;
    let viewer = peer::watch(&node.http("cam-out/whep")).await;
    let pictures = viewer.until_cards(None, 90).await;
    viewer.until_tone(None, f64::from(TONE)).await;
    assert_in_order(&pictures, false);
    print_ages(&format!("FFmpeg 9 WHIP {flags} to aiortc, cam-out"), &pictures);
    viewer.finish().await;
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_by_whip_as_dtls_server() {
    ffmpeg_to_aiortc("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_by_whip_as_dtls_client() {
    ffmpeg_to_aiortc("-whip_flags dtls_active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_on_and_off_leaves_nothing_behind() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let mut after_first = 0;
    for round in 0..10 {
        let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
        node.until_pictures("cam-out", 5).await;
        // Some leave politely, some are cut off.
        if round % 2 == 0 {
            push.finish().await;
        } else {
            drop(push);
        }
        node.until_idle().await;
        if round == 1 {
            after_first = threads();
        }
    }
    let (rtmp, _) = node.node.parts().rtmp.clone().unwrap();
    assert!(rtmp.list().is_empty(), "{:?}", rtmp.list());
    assert!(node.node.parts().gateway.as_ref().unwrap().list().is_empty());
    // The runtime's own threads for files come and go; codecs' threads would grow each round.
    let left = threads();
    assert!(left < after_first + 8, "{after_first} threads became {left}");
    node.stop().await;
}
