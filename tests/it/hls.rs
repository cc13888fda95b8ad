//! Watching by HLS: ffmpeg as a player, and the playlists as players see them.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use crate::browser::Browser;
use crate::card::Card;
use crate::node::{Running, alone};
use crate::play::play;
use crate::programs::{self, PATIENCE};
use crate::push::{LIVE, Push, TONE};

async fn get(node: &Running, url: &str) -> (StatusCode, String) {
    let answer = node.client.get(url).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// The media playlist's address from the multivariant one.
async fn media_of(node: &Running, path: &str) -> String {
    let (status, text) = get(node, &node.http(path)).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains("CODECS=\"avc1.") && text.contains("RESOLUTION=320x180"), "{text}");
    let media = text.lines().find(|line| !line.starts_with('#')).unwrap();
    node.http(&format!("cam/{media}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_every_picture_and_the_tone_in_both_forms() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let _push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    for (program, path) in [
        (programs::ffmpeg(), "cam/index.m3u8"),
        (programs::ffmpeg_9(), "cam/index.m3u8"),
        (programs::ffmpeg(), "cam/index_ts.m3u8"),
    ] {
        let (numbers, hertz) = play(program, &node.http(path), 90).await;
        assert_eq!(numbers.len(), 90, "{path}");
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{path}: {numbers:?}");
        assert!((hertz - f64::from(TONE)).abs() < 20.0, "{path}: {hertz} Hz");
    }
    let muxers = node.node.parts().hls.as_ref().unwrap().muxers();
    assert_eq!(muxers.len(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_waits_for_the_part_and_a_publisher_that_comes_back_is_a_discontinuity() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    let media = media_of(&node, "cam/index.m3u8").await;
    let (_, text) = get(&node, &media).await;
    let segments = |text: &str| text.lines().filter(|line| line.contains("_seg")).count() as u64;
    let first: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"))
        .unwrap()
        .parse()
        .unwrap();
    let next = first + segments(&text);
    // Its first part comes only with it.
    let (status, later) = get(&node, &format!("{media}&_HLS_msn={}&_HLS_part=0", next + 1)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(later.contains(&format!("_seg{next}.mp4")), "{later}");
    let (status, _) = get(&node, &format!("{media}&_HLS_msn={}", next + 1000)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    // The part that is hinted at can be asked for before it is there.
    let hint = later.lines().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT")).unwrap();
    let part = hint.split('"').nth(1).unwrap();
    let answer = node.client.get(node.http(&format!("cam/{part}"))).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(&answer.bytes().await.unwrap()[4..8], b"moof");

    push.finish().await;
    let _push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    let came = async {
        loop {
            let (status, text) = get(&node, &media).await;
            assert_eq!(status, StatusCode::OK, "{text}");
            if text.contains("#EXT-X-DISCONTINUITY\n") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, came).await.expect("the stream goes on");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn players_need_credentials_once_and_can_be_ended() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.read_password = "secret".into();
    })
    .await;
    let _push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    let (status, _) = get(&node, &node.http("cam/index.m3u8")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let media = media_of(&node, "cam/index.m3u8?token=secret").await;
    let (status, text) = get(&node, &media).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!text.contains("secret"));
    // The session is for this stream and these files only.
    let bare = media.split('?').next().unwrap();
    assert_eq!(get(&node, bare).await.0, StatusCode::UNAUTHORIZED);
    let other = media.replace("/cam/", "/other/");
    assert_eq!(get(&node, &other).await.0, StatusCode::UNAUTHORIZED);
    let sessions = node.node.parts().hls.as_ref().unwrap().sessions();
    let listed = sessions.list();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].bytes_out > 0 && !listed[0].query.contains("secret"));
    assert!(sessions.kick(&listed[0].id));
    assert_eq!(get(&node, &media).await.0, StatusCode::FORBIDDEN);
    let (status, _) = get(&node, &node.http("nobody/index.m3u8?token=secret")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_js_plays_both_forms_without_errors() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let _push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    let mut browser = Browser::start().await;
    for (page, path) in [("fmp4", "cam/index.m3u8"), ("ts", "cam/index_ts.m3u8")] {
        browser.ask("hls", page, json!({ "url": node.http(path) })).await;
        let shown = browser.client.until_cards(Some(page), 90).await;
        // The first pictures may be those of an empty element.
        let first = shown.iter().position(|picture| !picture.unreadable).unwrap();
        crate::client::assert_in_order(&shown[first..], false);
        let (low_latency, latency) = browser
            .client
            .until("hls.js's figures", |events| {
                let own = || events.iter().rev().filter(|event| event["page"] == page);
                let fatal = own().find(|event| event["fatal"] == true);
                assert!(fatal.is_none(), "{fatal:?}");
                let low = own().find_map(|event| event["low_latency"].as_bool())?;
                Some((low, own().find_map(|event| event["latency"].as_f64())?))
            })
            .await;
        assert_eq!(low_latency, page == "fmp4");
        println!("hls.js {page}: {latency:.2} s behind");
        browser.close(page).await;
    }
    browser.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_player_falls_back_to_hls_when_webrtc_media_does_not_get_through() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let _push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    let mut browser = Browser::start().await;
    browser.ask("open", "blocked", json!({ "url": node.http("cam/"), "blocked": true })).await;
    let shown = browser.client.until_cards(Some("blocked"), 60).await;
    let first = shown.iter().position(|picture| !picture.unreadable).unwrap();
    crate::client::assert_in_order(&shown[first..], false);
    let muxers = node.node.parts().hls.as_ref().unwrap().muxers();
    assert_eq!(muxers.len(), 1, "it is HLS that is watched");
    browser.close("blocked").await;
    browser.client.finish().await;
    node.stop().await;
}
