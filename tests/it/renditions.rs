//! Renditions that the node makes: found by HLS players, given to WebRTC viewers on narrow ways,
//! made while somebody wants them.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream::config::{self, H264Profile, Rendition};
use serde_json::json;

use crate::browser::Browser;
use crate::card::Card;
use crate::client::pictures;
use crate::link::{Link, Way};
use crate::node::{Running, alone, find};
use crate::play::play;
use crate::programs;
use crate::push::{Push, TONE};

/// A group of 2 s, and enough bits that a narrow way is too narrow.
const RICH: &str = "-c:v libx264 -preset veryfast -tune zerolatency -g 60 -qp 18 -c:a aac -b:a 48k";

fn rendition(name: &str, height: u32, bitrate_kbps: u32) -> Rendition {
    Rendition { name: name.into(), height, bitrate_kbps, ..Rendition::default() }
}

/// A node whose stream `cam` has two renditions, and one that is no smaller.
async fn node() -> Running {
    let hd = rendition("hd", 720, 900);
    node_with(vec![rendition("tiny", 90, 60), rendition("small", 180, 60), hd]).await
}

/// A node whose stream `cam` has these renditions.
async fn node_with(renditions: Vec<Rendition>) -> Running {
    Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let cam = config::Stream { renditions: Some(renditions), ..config::Stream::default() };
        settings.streams.insert("cam".into(), cam);
    })
    .await
}

async fn text(node: &Running, url: &str) -> String {
    let answer = node.client.get(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    answer.text().await.unwrap()
}

/// The wall times of a playlist's segments in milliseconds.
fn times(playlist: &str) -> BTreeSet<i64> {
    let date = |line: &str| {
        let text = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:")?;
        let at = humantime::parse_rfc3339(text).unwrap();
        Some(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64)
    };
    playlist.lines().filter_map(date).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_players_find_each_rendition_with_every_picture_and_groups_that_begin_together() {
    let _alone = alone().await;
    let node = node().await;
    let _push = Push::rtmp(Card::USUAL, RICH, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    let status = node
        .until("the renditions", |status| {
            let cam = find(status, "cam");
            cam.is_some_and(|cam| cam["renditions"].as_array().is_some_and(|all| all.len() == 2))
        })
        .await;
    let cam = find(&status, "cam").unwrap();
    assert_eq!(cam["renditions"][0]["name"], "small");
    assert_eq!(cam["renditions"][0]["made"]["running"], false, "nobody wants it: {cam}");

    let index = text(&node, &node.http("cam/index.m3u8")).await;
    let sizes: Vec<&str> = index
        .lines()
        .filter_map(|line| line.split("RESOLUTION=").nth(1)?.split(',').next())
        .collect();
    assert_eq!(sizes, ["640x360", "320x180", "160x90"], "{index}");
    let media: Vec<&str> = index.lines().filter(|line| !line.starts_with('#')).collect();
    let small = node.http(&format!("cam/{}", media[1]));
    for program in [programs::ffmpeg(), programs::ffmpeg_9()] {
        let (numbers, hertz) = play(program, &small, 90).await;
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        assert_eq!(numbers.len(), 90);
        assert!((hertz - f64::from(TONE)).abs() < 20.0, "{hertz} Hz");
    }
    let whole = text(&node, &node.http(&format!("cam/{}", media[0]))).await;
    let smaller = text(&node, &small).await;
    assert!(whole.contains("#EXT-X-RENDITION-REPORT:URI=\"@small/stream.m3u8?"), "{whole}");
    assert!(smaller.contains("URI=\"../stream.m3u8?"), "{smaller}");
    assert!(smaller.contains("URI=\"../@tiny/stream.m3u8?"), "{smaller}");
    let (whole, smaller) = (times(&whole), times(&smaller));
    let near = |at: &&i64| whole.range(*at - 20..=*at + 20).next().is_some();
    let common = smaller.iter().filter(near).count();
    assert!(common >= 2, "groups begin apart: {whole:?} {smaller:?}");

    let unknown = node.client.get(node.http("cam/@huge/stream.m3u8")).send().await.unwrap();
    assert_eq!(unknown.status(), reqwest::StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendition_has_the_rate_and_the_profile_that_the_settings_name() {
    let _alone = alone().await;
    let (fps, profile) = (Some(15), Some(H264Profile::Main));
    let node = node_with(vec![Rendition { fps, profile, ..rendition("calm", 180, 60) }]).await;
    let _push = Push::rtmp(Card::USUAL, RICH, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    node.until("the rendition", |status| {
        let cam = find(status, "cam");
        cam.is_some_and(|cam| cam["renditions"].as_array().is_some_and(|all| all.len() == 1))
    })
    .await;
    let index = text(&node, &node.http("cam/index.m3u8")).await;
    assert!(index.to_lowercase().contains("avc1.4d"), "no Main profile: {index}");
    let media: Vec<&str> = index.lines().filter(|line| !line.starts_with('#')).collect();
    let calm = node.http(&format!("cam/{}", media[1]));
    let (numbers, hertz) = play(programs::ffmpeg(), &calm, 45).await;
    // It begins with the picture of the moment, which may be one that no group counts from.
    let apart = numbers.windows(2).filter(|pair| pair[0] + 2 != pair[1]).count();
    assert!(numbers.len() == 45 && apart <= 1, "not every other picture: {numbers:?}");
    assert!((hertz - f64::from(TONE)).abs() < 20.0, "{hertz} Hz");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "in one run of three no picture comes to Chromium; cargo test --test it a_webrtc_viewer_on -- --ignored"]
async fn a_webrtc_viewer_on_a_narrow_way_gets_a_rendition_that_the_node_makes() {
    let _alone = alone().await;
    let node = node().await;
    let _push = Push::rtmp(Card::USUAL, RICH, &node.rtmp("cam"));
    node.until_pictures("cam", 30).await;
    let mut browser = Browser::start().await;
    let far = node.node.addresses().webrtc.unwrap();
    let wire = Way { queue: Duration::from_millis(400), ..Way::of(10) };
    let link = Link::start(far, 11, wire, Way { rate: Some(24_000), ..wire });
    let whep = node.http("cam/whep?transport=udp");
    browser.watch("wide", &whep).await;
    let narrow = json!({ "whep": whep, "via": link.addr().to_string() });
    browser.ask("watch", "narrow", narrow).await;
    let in_a_row = async |page: &str, of: std::ops::Range<u32>| {
        browser
            .client
            .until("pictures of one size in a row", |events| {
                let shown = pictures(events, Some(page));
                let last = shown.last_chunk::<20>()?;
                last.iter().all(|picture| of.contains(&picture.width)).then_some(())
            })
            .await;
    };
    in_a_row("narrow", 100..640).await;
    in_a_row("wide", 640..641).await;
    for page in ["wide", "narrow"] {
        browser.close(page).await;
    }
    browser.client.finish().await;
    // Nobody wants them any more.
    node.until("an end of the work", |status| {
        let small = find(status, "cam").map(|cam| &cam["renditions"][0]["made"]);
        small.is_some_and(|made| made["running"] == false && made["pictures"].as_u64() > Some(20))
    })
    .await;
    node.stop().await;
}
