//! HEVC through a whole node: as it is for those who take it, re-encoded once for those who do not.

use crate::browser::Browser;
use crate::card::Card;
use crate::client::assert_in_order;
use crate::node::{Running, alone, find};
use crate::play::play;
use crate::programs;
use crate::push::{Push, TONE};

/// HEVC as a live encoder makes it: no delay, key frames each 2 s.
const HEVC: &str = "-c:v libx265 -preset ultrafast -tune zerolatency \
                    -x265-params keyint=60:min-keyint=60:log-level=none -c:a aac";

#[tokio::test(flavor = "multi_thread")]
async fn hevc_is_read_as_it_is_by_srt_and_seen_as_h264_by_browsers_and_rtmp_players() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.pipeline.graph = "none".into()).await;
    let push = Push::srt(Card::SMALL, HEVC, &node.srt("publish:cam"));
    let status = node.until_pictures("cam", 10).await;
    let cam = find(&status, "cam").unwrap();
    assert_eq!(cam["video"]["codec"], "H265", "{cam:#}");

    let (numbers, hertz) = play(programs::ffmpeg(), &node.srt("read:cam"), 60).await;
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert!((hertz - f64::from(TONE)).abs() < 20.0, "{hertz} Hz");

    let mut browser = Browser::start().await;
    browser.watch_in("h264", &node.http("cam/whep"), "H264").await;
    let pictures = browser.client.until_cards(Some("h264"), 60).await;
    assert_in_order(&pictures, false);
    browser.client.until_tone(Some("h264"), f64::from(TONE)).await;
    let status = node.status().await;
    let why = &find(&status, "cam").unwrap()["webrtc"]["picture_reencoded"];
    assert!(why.is_string(), "the page of the stream says why: {status:#}");
    // A player that has not said that it takes HEVC.
    let (numbers, _) = play(programs::ffmpeg(), &node.rtmp("cam"), 60).await;
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");

    browser.close("h264").await;
    browser.client.finish().await;
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}
