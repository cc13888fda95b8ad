//! A broadcaster pushes by RTMP, a browser watches: the whole road.

use std::collections::HashMap;
use std::time::SystemTime;

use ingest::hub::{Item, Start};

use crate::browser::Browser;
use crate::card::Card;
use crate::client::{Picture, assert_in_order, load, spread};
use crate::graphs::{INVERT, graph_file};
use crate::node::{Running, alone, find};
use crate::push::{DEFAULT, LIVE, Push, RATE, TONE};

/// Cards that have to be seen.
const CARDS: usize = 150;

/// Shows the lower fields as they were drawn, or as their opposites.
pub(crate) fn assert_colours(picture: &Picture, inverted: bool) {
    let turn = |rgb: [u32; 3]| rgb.map(|value| if inverted { 255 - value } else { value });
    let ([red, g1, b1], [r2, g2, blue]) = (turn(picture.left), turn(picture.right));
    assert!(red > 180 && g1 < 90 && b1 < 90, "no red on the left: {picture:?}");
    assert!(blue > 180 && r2 < 90 && g2 < 90, "no blue on the right: {picture:?}");
}

/// Wall clock milliseconds, on the cards' scale, at which each picture of `stream` came in.
/// Cards leave in steps of one picture, so the time stamp names the card.
async fn note_arrivals(node: &Running, stream: &str) -> tokio::task::JoinHandle<HashMap<u16, u32>> {
    let mut reader = node.reader(stream, Start::LastKey).await;
    tokio::spawn(async move {
        let mut arrivals = HashMap::new();
        let mut first = None;
        loop {
            let packet = match reader.next().await {
                Item::Packet(packet) if packet.kind.is_video() => packet,
                Item::End => return arrivals,
                _ => continue,
            };
            let first = *first.get_or_insert(packet.pts);
            let pictures = (packet.pts.0 - first.0) * i64::from(RATE);
            let number = (pictures + 45_000) / 90_000;
            let at = SystemTime::now() - packet.arrived.elapsed();
            let ms = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
            arrivals.insert(number as u16, (ms % (1 << 20)) as u32);
        }
    })
}

fn ages_since_ingest(pictures: &[Picture], arrivals: &HashMap<u16, u32>) -> Vec<f64> {
    let known = pictures.iter().filter_map(|p| Some((arrivals.get(&p.number)?, p.now)));
    known.map(|(from, to)| f64::from(crate::card::elapsed_ms(*from, to))).collect()
}

/// ffmpeg to `cam`; Chromium shows `cam` and, on the product's page, `cam-out`.
async fn watched_in_chromium(graph: &str, inverted: bool, title: &str) {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = graph.into()).await;
    let push = Push::rtmp(Card::USUAL, LIVE, &node.rtmp("cam"));
    let arrivals = note_arrivals(&node, "cam").await;
    node.until_pictures("cam-out", 1).await;

    let mut browser = Browser::start().await;
    browser.open("out", &node.http("cam-out/")).await;
    browser.watch("raw", &node.http("cam/whep")).await;
    browser.client.until_cards(Some("out"), CARDS).await;
    browser.client.until_cards(Some("raw"), CARDS).await;
    let heard = browser.client.until_tone(Some("out"), f64::from(TONE)).await;
    browser.client.until_tone(Some("raw"), f64::from(TONE)).await;
    browser.shot("out", title).await;
    let (out, raw) = (browser.client.pictures(Some("out")), browser.client.pictures(Some("raw")));
    assert_in_order(&out, inverted);
    assert_in_order(&raw, false);
    assert_colours(out.last().unwrap(), inverted);
    assert_colours(raw.last().unwrap(), false);
    assert_eq!((out[0].width, out[0].height), (640, 360));

    let status = node.status().await;
    let view = find(&status, "cam").unwrap();
    assert!(view["webrtc"]["picture_reencoded"].is_null(), "nothing to re-encode: {view:#}");
    browser.close("out").await;
    browser.close("raw").await;
    browser.client.finish().await;
    push.finish().await;
    node.until_idle().await;
    node.stop().await;

    let arrivals = arrivals.await.unwrap();
    let settled = |pictures: &[Picture]| pictures[pictures.len().min(60)..].to_vec();
    for (name, pictures) in [("cam-out", settled(&out)), ("cam", settled(&raw))] {
        println!(
            "{title}: {name} ms behind ingest in Chromium: {}; behind the drawing: {}; {} cards of {}; {}",
            spread(ages_since_ingest(&pictures, &arrivals)),
            spread(pictures.iter().map(|p| f64::from(p.age_ms())).collect()),
            pictures.len(),
            pictures.last().map_or(0, |l| l.number - pictures[0].number + 1),
            load(),
        );
    }
    println!("{title}: tone of {} Hz at level {:.3}", heard.hertz, heard.level);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_clip_is_watched_in_a_browser_raw_and_passed_through() {
    watched_in_chromium("passthrough", false, "passthrough").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_clip_is_watched_in_a_browser_inverted() {
    let graph = graph_file(&INVERT);
    watched_in_chromium(graph.path().to_str().unwrap(), true, "inverted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpegs_default_line_is_watched_raw_and_processed_and_the_status_says_why() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, DEFAULT, &node.rtmp("cam"));
    node.until_pictures("cam-out", 1).await;
    let mut browser = Browser::start().await;
    browser.watch("out", &node.http("cam-out/whep")).await;
    browser.watch("raw", &node.http("cam/whep")).await;
    browser.watch("raw too", &node.http("cam/whep")).await;
    for page in ["out", "raw", "raw too"] {
        let pictures = browser.client.until_cards(Some(page), CARDS).await;
        assert_in_order(&pictures, false);
        browser.client.until_tone(Some(page), f64::from(TONE)).await;
    }
    let status = node.status().await;
    let raw = &find(&status, "cam").unwrap()["webrtc"];
    let why = raw["picture_reencoded"].as_str().unwrap();
    assert!(why.contains("B-frames"), "{why}");
    assert_eq!(raw["running"], true);
    let out = &find(&status, "cam-out").unwrap()["webrtc"];
    assert!(out["picture_reencoded"].is_null(), "{out:#}");
    browser.shot("raw", "default-line-raw").await;
    for page in ["out", "raw", "raw too"] {
        let ages = browser.client.pictures(Some(page));
        let ages = ages.iter().map(|p| f64::from(p.age_ms())).collect();
        println!("default line: {page} ms behind the drawing: {}; {}", spread(ages), load());
    }
    browser.client.finish().await;
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}
