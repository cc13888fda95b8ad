//! Recording and playback with real programs: what is left after a kill -9, ranges over segments.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::browser::Browser;
use crate::card::Card;
use crate::control::Api;
use crate::node::{Running, alone, find};
use crate::process::Process;
use crate::programs::{self, PATIENCE};
use crate::push::{LIVE, Push, RATE};

/// The numbers of the cards that ffmpeg decodes; it must have nothing to complain of.
pub(crate) async fn decode(program: PathBuf, input: &str) -> Vec<u16> {
    let card = Card::SMALL;
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i", input]);
    command.args(["-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo"]);
    command.args(["-pix_fmt", "gray", "pipe:1"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("ffmpeg ends").unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.is_empty(), "{input}: {words}");
    let pictures = output.stdout.chunks_exact(card.width * card.height);
    let read = |luma: &[u8]| card.read(|row| &luma[row * card.width..]).expect("a card").number;
    pictures.map(read).collect()
}

fn consecutive(numbers: &[u16]) -> bool {
    numbers.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

/// What ffprobe says of a file.
pub(crate) async fn probe(input: &str) -> Value {
    let mut command = Command::new("/usr/bin/ffprobe");
    command.args(["-loglevel", "error", "-of", "json", "-show_format", "-show_streams", input]);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("ffprobe ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn seconds(probed: &Value) -> f64 {
    probed["format"]["duration"].as_str().unwrap().parse().unwrap()
}

/// The segments of a stream, by their names.
pub(crate) fn segments(folder: &Path) -> Vec<PathBuf> {
    let Ok(listed) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_everything_but_the_last_part_plays_and_the_next_start_closes_it() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let line = "up --set pipeline.graph=none --set stream_defaults.record=true";
    let mut node = Process::start(&dir, "node", line).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &format!("rtmp://{}/cam", node.address("RTMP")));
    let end = Instant::now() + PATIENCE;
    let (on_disk, written) = loop {
        let status = node.status().await;
        let stream = find(&status, "cam");
        let recorded = stream.and_then(|stream| stream["recording"]["seconds"].as_f64());
        if let Some(recorded) = recorded.filter(|recorded| *recorded > 4.0) {
            break (recorded, stream.unwrap()["frames"].as_u64().unwrap());
        }
        assert!(Instant::now() < end, "{status:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    node.kill().await;
    drop(push);
    let folder = dir.path().join("node/recordings/cam");
    let [left] = &segments(&folder)[..] else { panic!("one segment: {:?}", segments(&folder)) };
    let path = left.to_str().unwrap();
    for program in [programs::ffmpeg(), programs::ffmpeg_9()] {
        let numbers = decode(program, path).await;
        assert!(consecutive(&numbers), "{numbers:?}");
        let kept = numbers.len() as f64 / f64::from(RATE);
        assert!(kept >= on_disk - 0.1, "{kept} s of {on_disk} s that were said to be on disk");
        println!("kill -9: {written} pictures were in, {} were left", numbers.len());
    }
    let mut node = Process::start(&dir, "node", line).await;
    let end = Instant::now() + PATIENCE;
    while !node.log().contains("a segment left behind is closed") {
        assert!(Instant::now() < end, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let probed = probe(path).await;
    assert!(seconds(&probed) >= on_disk - 0.1, "{probed:#}");
    let codecs: Vec<_> = probed["streams"].as_array().unwrap().iter().collect();
    assert_eq!(codecs.len(), 2);
    assert!(node.terminate(PATIENCE).await.success());
}

/// A node that records in segments of a second, with its listener for recordings.
async fn recording() -> Running {
    Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.playback.enabled = true;
        settings.auth.read_password = "secret".into();
        settings.stream_defaults.record = Some(true);
        settings.stream_defaults.record_segment_seconds = Some(1);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_over_segments_play_in_ffmpeg_and_chromium() {
    let _alone = alone().await;
    let node = recording().await;
    // Segments are longer than a second: the publisher sends a key picture each two.
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until("three segments", |status| {
        find(status, "cam").is_some_and(|cam| cam["recording"]["segments"].as_u64() > Some(3))
    })
    .await;
    push.finish().await;
    node.until_idle().await;

    let list = node.playback("list?path=cam");
    let answer = node.client.get(&list).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let spans: Value =
        node.client.get(format!("{list}&token=secret")).send().await.unwrap().json().await.unwrap();
    let [span] = &spans.as_array().unwrap()[..] else { panic!("one range: {spans:#}") };
    let whole = span["duration"].as_f64().unwrap();
    assert!(whole > 5.5, "{spans:#}");
    let start = span["start"].as_str().unwrap();
    assert!(!span["url"].as_str().unwrap().contains("secret"), "{spans:#}");

    let get = |start: &str, duration: f64, format: &str| {
        let query = format!("path=cam&start={start}&duration={duration}&format={format}");
        node.playback(&format!("get?{query}&token=secret"))
    };
    // From within the first segment to within the third.
    let at = ingest::record::Moment::parse(start).unwrap().plus(Duration::from_millis(1000));
    for (format, program) in [
        ("fmp4", programs::ffmpeg()),
        ("mp4", programs::ffmpeg()),
        ("fmp4", programs::ffmpeg_9()),
        ("mp4", programs::ffmpeg_9()),
    ] {
        let url = get(&at.to_string(), 4.0, format);
        let numbers = decode(program, &url).await;
        assert!(consecutive(&numbers), "{format}: {numbers:?}");
        // `mp4` begins with the picture that was asked for, `fmp4` with the key picture before it.
        let first = if format == "mp4" { 29..=32 } else { 0..=0 };
        assert!(first.contains(&numbers[0]), "{format}: begins with {}", numbers[0]);
        let last = *numbers.last().unwrap();
        assert!((147..=153).contains(&last), "{format}: ends with {last}");
    }
    let probed = probe(&get(&at.to_string(), 4.0, "mp4")).await;
    assert!((seconds(&probed) - 4.0).abs() < 0.15, "{probed:#}");

    let url = get(start, whole, "mp4");
    let ranged = node.client.get(&url).header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!(ranged.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(&ranged.bytes().await.unwrap()[..], b"ftyp");
    for (query, wanted) in [
        ("path=cam&start=yesterday&duration=1", StatusCode::BAD_REQUEST),
        ("path=cam&start=2026-01-01T00:00:00Z&duration=99999999", StatusCode::BAD_REQUEST),
        ("path=../cam&start=2026-01-01T00:00:00Z&duration=1", StatusCode::BAD_REQUEST),
        ("path=cam&start=2126-01-01T00:00:00Z&duration=1", StatusCode::NOT_FOUND),
        ("path=none&start=2026-01-01T00:00:00Z&duration=1", StatusCode::NOT_FOUND),
    ] {
        let url = node.playback(&format!("get?{query}&token=secret"));
        assert_eq!(node.client.get(&url).send().await.unwrap().status(), wanted, "{query}");
    }

    let mut browser = Browser::start().await;
    for format in ["mp4", "fmp4"] {
        browser.ask("file", format, json!({ "url": get(start, whole, format) })).await;
        let ended = browser.client.until("the end", |events| {
            let own = events.iter().filter(|event| event["page"] == format);
            own.filter_map(|event| event["ended_at"].as_f64()).next_back()
        });
        let ended = ended.await;
        assert!((ended - whole).abs() < 0.3, "{format}: {ended} s of {whole} s");
        let shown = browser.client.until_cards(Some(format), 60).await;
        crate::client::assert_in_order(&shown, false);
    }
    browser.client.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_are_listed_and_removed_by_the_api() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.read_password = "secret".into();
        settings.stream_defaults.record = Some(true);
        settings.stream_defaults.record_segment_seconds = Some(1);
    })
    .await;
    let _push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("studio/cam"));
    node.until("two segments", |status| {
        find(status, "studio/cam").is_some_and(|c| c["recording"]["segments"].as_u64() > Some(1))
    })
    .await;
    let api = Api::of(&node.node, "").await;
    let (_, listed) = api.get("/v3/recordings/list", "").await;
    assert_eq!(listed["itemCount"], 1, "{listed:#}");
    assert_eq!(listed["items"][0]["name"], "studio/cam");
    let (_, one) = api.get("/v3/recordings/get/{name}", "studio/cam").await;
    let segments = one["segments"].as_array().unwrap();
    let start = |at: usize| segments[at]["start"].as_str().unwrap();
    let remove = async |start: &str| {
        let path = format!("/v3/recordings/deletesegment?path=studio/cam&start={start}");
        api.call(Method::DELETE, &path, "", None).await.0
    };
    assert_eq!(remove(start(0)).await, StatusCode::OK);
    assert_eq!(remove(start(0)).await, StatusCode::NOT_FOUND);
    assert_eq!(remove("yesterday").await, StatusCode::BAD_REQUEST);
    let (_, left) = api.get("/v3/recordings/get/{name}", "studio/cam").await;
    assert_ne!(left["segments"][0]["start"], segments[0]["start"]);
    let (status, none) = api.get("/v3/recordings/get/{name}", "nobody").await;
    assert_eq!((status, &none["status"]), (StatusCode::NOT_FOUND, &json!("error")));
    node.stop().await;
}
