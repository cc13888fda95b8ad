//! Publishing by HTTP, one request a segment: ffmpeg's `hls` muxer, and the way of Livepeer's
//! gateways.

use std::process::Stdio;

use ingest::hub::{Item, Start};
use millstream::config;
use reqwest::StatusCode;
use tokio::process::Command;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::play::play;
use crate::programs::{self, PATIENCE};
use crate::push::{Push, TONE};

#[tokio::test(flavor = "multi_thread")]
async fn what_ffmpeg_puts_in_either_form_is_seen_and_heard_without_a_gap() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.publish_password = "secret".into();
    })
    .await;
    let fmp4 = "-hls_segment_type fmp4";
    for (name, program, flags) in [
        ("ts", programs::ffmpeg(), ""),
        ("mp4", programs::ffmpeg(), fmp4),
        ("mp4-9", programs::ffmpeg_9(), fmp4),
    ] {
        let url = node.http(&format!("{name}/index.m3u8")).replace("://", "://any:secret@");
        let push = Push::hls(program, Card::SMALL, flags, &url);
        let status = node.until_pictures(name, 30).await;
        assert_eq!(find(&status, name).unwrap()["protocol"], "http");
        let (numbers, hertz) = play(programs::ffmpeg(), &node.rtmp(name), 60).await;
        assert_eq!(numbers.len(), 60, "{name}");
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{name}: {numbers:?}");
        assert!((hertz - f64::from(TONE)).abs() < 20.0, "{name}: {hertz} Hz");
        push.finish().await;
        // The playlist has an end, and what was sent is shown before.
        node.until("the end of the stream", |status| find(status, name).is_none()).await;
    }
    node.stop().await;
}

/// A clip of two seconds with a key picture each second, as two segments.
async fn segments(dir: &tempfile::TempDir) -> [Vec<u8>; 2] {
    let options = "-hide_banner -loglevel error -y -f lavfi -i testsrc=size=320x180:rate=30:duration=2 \
                   -pix_fmt yuv420p -c:v libx264 -preset ultrafast -tune zerolatency -g 30 \
                   -f segment -segment_time 1 -segment_format mpegts";
    let mut command = Command::new(programs::ffmpeg());
    command.args(options.split_whitespace()).arg(dir.path().join("%d.ts"));
    let made = command.stdin(Stdio::null()).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    ["0.ts", "1.ts"].map(|name| std::fs::read(dir.path().join(name)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_need_a_password_come_once_and_bad_ones_are_refused_with_the_reason() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = segments(&dir).await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.publish_password = "secret".into();
        settings.hls.segment_bytes_max = 1 << 20;
        let take_over = config::Stream { take_over: Some(true), ..config::Stream::default() };
        settings.streams.insert("open".into(), take_over);
    })
    .await;
    let put = async |path: &str, body: &[u8]| {
        let answer = node.client.put(node.http(path)).body(body.to_vec()).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(put("live/cam/0.ts", &first).await.0, StatusCode::UNAUTHORIZED);
    let page = node.client.post(node.http("live/cam/0.ts?token=secret")).body(first.clone());
    let page = page.header("origin", "http://elsewhere.example").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    let secret = "?token=secret";
    let cam = |number: u32| format!("live/cam/{number}.ts{secret}");
    let (status, text) = put(&cam(0), &[0x47; 1880]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
    assert!(text.contains("no picture"), "{text}");
    assert_eq!(put(&cam(0), &vec![0; 2 << 20]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        put(&format!("cam/1.m4s{secret}"), &first).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(put(&format!("live/cam-out/0.ts{secret}"), &first).await.0, StatusCode::BAD_REQUEST);

    assert_eq!(put(&cam(0), &first).await.0, StatusCode::OK);
    node.until_pictures("cam", 1).await;
    let mut reader = node.reader("cam", Start::LastKey).await;
    // Sent again, as those do who heard no answer.
    assert_eq!(put(&cam(0), &first).await.0, StatusCode::OK);
    assert_eq!(put(&cam(1), &second).await.0, StatusCode::OK);
    // Somebody else, with a password too.
    let other = "live/cam/0.ts?user=any&pass=secret";
    let (status, text) = put(other, &first).await;
    assert_eq!(status, StatusCode::CONFLICT, "{text}");
    let playlist = format!("live/cam/index.m3u8{secret}");
    let (status, _) = put(&playlist, b"#EXTM3U\n#EXT-X-ENDLIST\n").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let mut times = Vec::new();
    let all = async {
        loop {
            match reader.next().await {
                Item::Packet(packet) => times.push(packet.pts.0),
                Item::End => return,
                Item::Tracks(_) => {}
                Item::Lagged(count) => panic!("{count} lost"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the stream ends");
    assert_eq!(times.len(), 60);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 3000), "{times:?}");
    let deleted = node.client.delete(node.http(&cam(0))).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);

    // Where it is allowed, a second publisher has the stream from its first segment on.
    let open = |pass: &str| format!("live/open/0.ts?{pass}");
    assert_eq!(put(&open("token=secret"), &first).await.0, StatusCode::OK);
    node.until_pictures("open", 1).await;
    assert_eq!(put(&open("user=any&pass=secret"), &first).await.0, StatusCode::OK);
    node.stop().await;
}
