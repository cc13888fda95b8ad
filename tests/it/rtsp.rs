//! RTSP at the node: publishing into a graph, playing what comes out, in the clear and in TLS.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::programs::{self, PATIENCE};
use crate::push::{LIVE, Push};

/// The cards' numbers that an ffmpeg decodes from `url`.
async fn play(program: &std::path::Path, options: &str, url: &str, pictures: usize) -> Vec<u16> {
    let card = Card::SMALL;
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin"]);
    command.args(options.split_whitespace()).args(["-i", url]);
    let count = pictures.to_string();
    command.args(["-map", "0:v", "-frames:v", &count, "-fps_mode", "passthrough"]);
    command.args(["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let played = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = played.expect("ffmpeg does not end").unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let pictures = output.stdout.chunks_exact(card.width * card.height);
    let read = |luma: &[u8]| card.read(|row| &luma[row * card.width..]).expect("a card").number;
    pictures.map(read).collect()
}

fn in_order(numbers: &[u16], count: usize) {
    assert_eq!(numbers.len(), count);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_by_rtsp_is_processed_and_played_by_rtsp_and_rtsps() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtsp(Card::SMALL, LIVE, "tcp", &node.rtsp("cam"));
    let status = node.until_pictures("cam-out", 10).await;
    assert_eq!(find(&status, "cam").unwrap()["protocol"], "rtsp");
    for transport in ["tcp", "udp"] {
        let options = format!("-rtsp_transport {transport}");
        in_order(&play(&programs::ffmpeg_9(), &options, &node.rtsp("cam-out"), 60).await, 60);
    }
    let tls = node.node.addresses().rtsps.unwrap();
    in_order(&play(&programs::ffmpeg(), "", &format!("rtsps://{tls}/cam-out"), 60).await, 60);

    let (sessions, _) = node.node.parts().rtsp.clone().unwrap();
    let listed = sessions[0].list();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let metrics = node.client.get(node.metrics("metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("millstream_rtsp_connections_total 4"), "{metrics}");
    assert!(sessions[0].kick(&listed[0].id));
    node.until_idle().await;
    drop(push);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_by_rtsp_need_the_password_and_may_prove_it() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.publish_user = "ann".into();
        settings.auth.publish_password = "secret".into();
    })
    .await;
    let url =
        |credentials: &str| node.rtsp("cam").replace("rtsp://", &format!("rtsp://{credentials}"));
    for wrong in ["", "ann:wrong@", "bob:secret@"] {
        let mut push = Push::rtsp(Card::SMALL, LIVE, "tcp", &url(wrong));
        assert!(!push.until_ended().await, "{wrong:?} was let in");
    }
    let right = Push::rtsp(Card::SMALL, LIVE, "udp", &url("ann:secret@"));
    node.until_pictures("cam", 10).await;
    in_order(&play(&programs::ffmpeg(), "", &node.rtsp("cam"), 30).await, 30);
    tokio::time::timeout(Duration::from_secs(60), right.finish()).await.unwrap();
    node.until_idle().await;
    node.stop().await;
}
