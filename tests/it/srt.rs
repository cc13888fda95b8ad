//! Broadcasters and players over SRT.

use ingest::hub::{Item, Start};

use crate::card::Card;
use crate::client::assert_in_order;
use crate::node::{Running, alone, find};
use crate::play::play;
use crate::push::{LIVE, Push, TONE};
use crate::{peer, programs};

/// The sound's frequency is found within this, in hertz.
const NEAR: f64 = 20.0;

fn assert_every_card((numbers, hertz): (Vec<u16>, f64), who: &str) {
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{who}: {numbers:?}");
    assert!((hertz - f64::from(TONE)).abs() < NEAR, "{who}: {hertz} Hz");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_by_srt_is_watched_by_webrtc_rtmp_and_srt() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::srt(Card::SMALL, LIVE, &node.srt("publish:cam"));
    node.until_pictures("cam-out", 30).await;
    let viewer = peer::watch(&node.http("cam-out/whep")).await;
    assert_in_order(&viewer.until_cards(None, 60).await, false);
    viewer.until_tone(None, f64::from(TONE)).await;
    viewer.finish().await;
    for (program, url) in [
        (programs::ffmpeg(), node.rtmp("cam")),
        (programs::ffmpeg(), node.srt("read:cam")),
        (programs::ffmpeg_9(), node.srt("%23!::m=request,r=cam")),
    ] {
        assert_every_card(play(program, &url, 60).await, &url);
    }
    // A busy machine leaves out pictures when it processes; their order stays.
    let (numbers, _) = play(programs::ffmpeg(), &node.srt("read:cam-out"), 60).await;
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let status = node.status().await;
    assert_eq!(find(&status, "cam").unwrap()["protocol"], "srt");
    let publisher = &status["srt"][0];
    assert_eq!((&publisher["state"], &publisher["stream"]), (&"publish".into(), &"cam".into()));
    let figures = &publisher["figures"];
    assert!(figures["packetsReceived"].as_u64() > Some(100), "{figures:#}");
    assert!(figures["msRTT"].as_f64() > Some(0.0), "{figures:#}");
    assert_eq!(figures["packetsReceivedDrop"], 0, "{figures:#}");
    assert_eq!(figures["msReceiveTsbPdDelay"], 120, "{figures:#}");
    let metrics = node.client.get(node.metrics("metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("\nmillstream_srt_connections_total 4\n"), "{metrics}");
    assert!(metrics.contains("millstream_srt_connection_rtt_seconds{id="), "{metrics}");
    push.finish().await;
    node.until_idle().await;
    node.until("no connection", |status| status["srt"].as_array().is_some_and(Vec::is_empty)).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passphrases_are_a_streams_own_for_each_direction() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.srt.default_stream = "encoder".into();
        let streams = "[encoder]\nsrt_read_passphrase = \"for-the-viewers\"\nsrt_latency_ms = 300\n\
             ['~^vault/']\nsrt_publish_passphrase = \"for-the-encoder\"\n";
        settings.streams = toml::from_str(streams).unwrap();
    })
    .await;
    // No stream id: the stream that is set for such encoders.
    let plain = node.srt("");
    let plain = plain.split('?').next().unwrap();
    let open = Push::srt(Card::SMALL, LIVE, plain);
    let vault = format!("{}&passphrase=for-the-encoder&pbkeylen=32", node.srt("publish:vault/a"));
    let closed = Push::srt(Card::SMALL, LIVE, &vault);
    for stream in ["encoder", "vault/a"] {
        let mut reader = node.reader(stream, Start::LastKey).await;
        while !matches!(reader.next().await, Item::Packet(_)) {}
    }
    let url = format!("{}&passphrase=for-the-viewers", node.srt("read:encoder"));
    assert_every_card(play(programs::ffmpeg(), &url, 30).await, &url);
    assert_every_card(play(programs::ffmpeg(), &node.srt("read:vault/a"), 30).await, "plain");
    let status = node.status().await;
    let encoder = status["srt"].as_array().unwrap().iter().find(|one| one["stream"] == "encoder");
    assert_eq!(encoder.unwrap()["figures"]["msReceiveTsbPdDelay"], 300, "{:#}", status["srt"]);
    // Neither without a passphrase, nor with the other direction's, nor with one where none is set.
    for (id, passphrase) in [
        ("publish:vault/b", ""),
        ("publish:vault/b", "&passphrase=for-the-viewers"),
        ("publish:studio", "&passphrase=for-the-encoder"),
    ] {
        let mut refused = Push::srt(Card::SMALL, LIVE, &format!("{}{passphrase}", node.srt(id)));
        assert!(!refused.until_ended().await, "{id}{passphrase}");
    }
    let counters = &node.node.parts().srt.as_ref().unwrap().1;
    assert_eq!(counters.snapshot().refused, 3);
    open.finish().await;
    closed.finish().await;
    node.stop().await;
}
