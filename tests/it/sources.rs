//! Streams that the node fetches and sends on, with ffmpeg at the other end.

use std::path::PathBuf;
use std::process::Stdio;

use millstream::config::{Push, Stream};
use serde_json::Value;
use tokio::process::Command;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::play::play;
use crate::programs::{self, PATIENCE};
use crate::push::{self, LIVE};
use crate::record::{probe, segments};

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

/// A clip whose left half is red and whose right half is blue, which is to be shown turned.
async fn lying(dir: &tempfile::TempDir, degrees: u32) -> PathBuf {
    let [flat, lying] = ["flat.mp4", "lying.mp4"].map(|name| dir.path().join(name));
    let drawn = "-f lavfi -i color=red:size=320x180:rate=30:duration=4 \
                 -vf drawbox=x=160:w=160:h=180:color=blue:t=fill -pix_fmt yuv420p \
                 -c:v libx264 -preset ultrafast -tune zerolatency -g 30";
    let flat_text = flat.display().to_string();
    let copied = format!("-i {flat_text} -c copy -metadata:s:v:0 rotate={degrees}");
    for (options, out) in [(drawn, &flat), (copied.as_str(), &lying)] {
        let mut command = Command::new(programs::ffmpeg());
        command.args(["-hide_banner", "-loglevel", "error", "-y"]);
        let made = command.args(options.split_whitespace()).arg(out).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    lying
}

/// The first picture as ffmpeg shows it, turned where the input says so: its size, and whether its upper
/// left and its lower right are red.
async fn shown(input: &str) -> (u64, u64, [bool; 2]) {
    let probed = probe(input).await;
    let streams = probed["streams"].as_array().unwrap();
    let video = streams.iter().find(|stream| stream["codec_type"] == "video").unwrap();
    let [width, height] = ["width", "height"].map(|side| video[side].as_u64().unwrap());
    let turned = video["side_data_list"][0]["rotation"].as_i64().is_some_and(|by| by % 180 != 0);
    let (width, height) = if turned { (height, width) } else { (width, height) };
    let mut command = Command::new(programs::ffmpeg());
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i", input]);
    command.args(["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pixels: Vec<&[u8]> = output.stdout.chunks_exact(3).collect();
    assert_eq!(pixels.len() as u64, width * height, "{input}");
    let red = |pixel: &[u8]| pixel[0] > 150 && pixel[2] < 100;
    (width, height, [red(pixels[0]), red(pixels[pixels.len() - 1])])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lies_on_its_side_is_processed_upright_and_recorded_as_it_lies() {
    let _alone = alone().await;
    for degrees in [90, 180, 270] {
        let dir = tempfile::tempdir().unwrap();
        let clip = lying(&dir, degrees).await;
        let wanted = shown(clip.to_str().unwrap()).await;
        assert_eq!((wanted.0, wanted.1), if degrees == 180 { (320, 180) } else { (180, 320) });
        assert_ne!(wanted.2[0], wanted.2[1]);
        let data = dir.path().join("node");
        let node = Running::start(|settings| {
            settings.data_dir = data.clone();
            let stream = Stream {
                source: Some(format!("file://{}", clip.display())),
                record: Some(true),
                ..Stream::default()
            };
            settings.streams.insert("clip".into(), stream);
        })
        .await;
        let status = node.until_pictures("clip-out", 30).await;
        let out = &find(&status, "clip-out").unwrap()["video"];
        assert_eq!(
            (out["width"].as_u64(), out["height"].as_u64()),
            (Some(wanted.0), Some(wanted.1))
        );
        assert_eq!(shown(&node.rtmp("clip-out")).await, wanted, "{degrees} degrees, processed");
        node.stop().await;
        let recorded = segments(&data.join("recordings/clip"));
        let first = recorded.first().expect("a recording").to_str().unwrap();
        assert_eq!(shown(first).await, wanted, "{degrees} degrees, recorded");
        let probed = probe(first).await;
        assert!(probed.to_string().contains("rotation"), "{probed:#}");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn sources_over_rtmp_srt_hls_and_udp_give_pictures_and_the_tone() {
    let _alone = alone().await;
    let there = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let published = push::Push::rtmp(Card::SMALL, LIVE, &there.rtmp("cam"));
    there.until_pictures("cam", 30).await;
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let sources = [
        ("rtmp", there.rtmp("cam")),
        ("srt", there.srt("read:cam")),
        ("hls", there.http("cam/index.m3u8")),
        ("udp", format!("udp://{address}")),
    ];
    let here = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        for (name, url) in &sources {
            let stream = Stream { source: Some(url.clone()), ..Stream::default() };
            settings.streams.insert((*name).to_owned(), stream);
        }
    })
    .await;
    // MPEG-TS in plain datagrams.
    let sent = push::Push::srt(Card::SMALL, LIVE, &format!("udp://{address}?pkt_size=1316"));
    for (name, _) in &sources {
        let status = here.until_pictures(name, 30).await;
        assert_eq!(source(&status, name).unwrap()["state"], "running", "{name}");
        let (numbers, hertz) = play(programs::ffmpeg(), &here.rtmp(name), 60).await;
        assert_eq!(numbers.len(), 60, "{name}");
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{name}: {numbers:?}");
        assert!((hertz - f64::from(push::TONE)).abs() < 20.0, "{name}: {hertz} Hz");
    }
    // What is gone there is gone here, and is tried again.
    published.finish().await;
    here.until("sources that wait", |status| {
        ["rtmp", "srt"].iter().all(|name| {
            find(status, name).is_none()
                && source(status, name).is_some_and(|source| source["state"] != "running")
        })
    })
    .await;
    drop(sent);
    here.stop().await;
    there.stop().await;
}
