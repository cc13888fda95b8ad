//! RTSP at the node: publishing into a graph, playing what comes out, in the clear and in TLS; cameras and
//! other nodes as sources and destinations.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use millstream::config;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
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
    let connections: Value = node
        .client
        .get(node.admin("v3/rtspconns/list"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let connection = &connections["items"][0];
    assert_eq!(
        (&connection["id"], &connection["session"]),
        (&listed[0].id.as_str().into(), &connection["id"])
    );
    assert!(connection["inboundBytes"].as_u64() > Some(1000), "{connection}");
    let kick = format!("v3/rtspsessions/kick/{}", connection["session"].as_str().unwrap());
    assert!(node.client.post(node.admin(&kick)).send().await.unwrap().status().is_success());
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

/// What `docs/sources.md` tells to find a certificate's fingerprint.
pub(crate) async fn fingerprint(certificate: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate);
    let said = command.output().await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.trim().split_once('=').expect("a fingerprint").1.to_owned()
}

fn state<'a>(status: &'a Value, list: &str) -> Option<&'a str> {
    status[list][0]["state"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_pushed_to_another_node_and_pulled_from_there_in_the_clear_and_in_tls() {
    let _alone = alone().await;
    let mut certificate = PathBuf::new();
    let there = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.publish_user = "ann".into();
        settings.auth.publish_password = "secret".into();
        settings.auth.read_user = "bob".into();
        settings.auth.read_password = "hidden".into();
        certificate = settings.data_dir.join("cert.pem");
    })
    .await;
    let fingerprint = fingerprint(&certificate).await;
    let plain = there.node.addresses().rtsp.unwrap();
    let tls = there.node.addresses().rtsps.unwrap();
    for (scheme, to, from) in [("rtsps", tls, plain), ("rtsp", plain, tls)] {
        let here = Running::start(|settings| {
            settings.pipeline.graph = "none".into();
            let fingerprint = fingerprint.clone();
            let url = format!("{scheme}://ann:secret@{to}/far");
            let push = config::Push { url, fingerprint: fingerprint.clone(), ..Default::default() };
            let pushes = Some(vec![push]);
            settings.streams.insert("cam".into(), config::Stream { pushes, ..Default::default() });
            let scheme = if scheme == "rtsp" { "rtsps" } else { "rtsp" };
            let back = config::Stream {
                source: Some(format!("{scheme}://bob:hidden@{from}/far")),
                source_fingerprint: Some(fingerprint),
                ..Default::default()
            };
            settings.streams.insert("back".into(), back);
        })
        .await;
        // The source is always on, and waits for what is not there yet.
        let status = here.until("a failed attempt", |status| {
            status["sources"][0]["last_error"].as_str().is_some_and(|error| error.contains("404"))
        });
        assert_eq!(state(&status.await, "pushes"), Some("idle"));
        let publisher = Push::rtmp(Card::SMALL, LIVE, &here.rtmp("cam"));
        let status = here.until_pictures("back", 30).await;
        assert_eq!(find(&status, "back").unwrap()["protocol"], "rtsp");
        assert_eq!(
            (state(&status, "pushes"), state(&status, "sources")),
            (Some("running"), Some("running"))
        );
        assert!(status["pushes"][0]["bytes"].as_u64() > Some(1000), "{status}");
        for secret in ["secret", "hidden"] {
            assert!(!status.to_string().contains(secret), "{status}");
        }
        in_order(&play(&programs::ffmpeg(), "", &here.rtsp("back"), 30).await, 30);
        publisher.finish().await;
        here.until("an idle push and a waiting source", |status| {
            state(status, "pushes") == Some("idle") && state(status, "sources") == Some("waiting")
        })
        .await;
        here.stop().await;
        there.until_idle().await;
    }
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cameras_are_pulled_on_demand_or_always_and_come_back_after_they_were_away() {
    let _alone = alone().await;
    let script = programs::root().join("ingest/tests/rtsp/camera.py");
    let camera = async |port: &str| {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(&script).args(["digest", port]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        (child, port.expect("gir1.2-gst-rtsp-server-1.0 and python3-gi: run ./x test"))
    };
    let (mut first, port) = camera("0").await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let stream = config::Stream {
            source: Some(format!("rtsp://admin:secret@127.0.0.1:{port}/$G1")),
            source_on_demand: Some(true),
            source_close_after_seconds: Some(1),
            source_transport: Some(config::Transport::Udp),
            ..config::Stream::default()
        };
        settings.streams.insert("~^door-(.+)$".into(), stream);
        let source = Some(format!("rtsp://admin:secret@127.0.0.1:{port}/opus"));
        settings.streams.insert("lobby".into(), config::Stream { source, ..Default::default() });
    })
    .await;
    let sources = |status: &Value| status["sources"].as_array().map_or(0, Vec::len);
    assert_eq!(sources(&node.status().await), 1, "nobody is at the door");
    let mut command = Command::new(programs::ffmpeg());
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-rtsp_transport", "tcp"]);
    command.args(["-i", &node.rtsp("door-cam"), "-frames:v", "50", "-f", "null", "-"]);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let played = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = played.expect("ffmpeg does not end").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    node.until("nobody at the door", |status| sources(status) == 1).await;

    let lobby = |status: &Value| {
        let sources = status["sources"].as_array().unwrap().clone();
        sources.into_iter().find(|source| source["stream"] == "lobby").expect("a source")
    };
    node.until_pictures("lobby", 25).await;
    first.kill().await.unwrap();
    let away = |status: &Value| {
        let source = lobby(status);
        source["state"] == "waiting" && source["retries"].as_u64() > Some(0)
    };
    let status = node.until("a source that is tried again", away).await;
    assert!(find(&status, "lobby").is_none() && !status.to_string().contains("secret"), "{status}");
    let (_second, _) = camera(&port).await;
    node.until("the camera", |status| lobby(status)["state"] == "running").await;
    node.until_pictures("lobby", 25).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_second_publisher_replaces_the_first_is_a_stream_s_own_setting() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let open = config::Stream { take_over: Some(true), ..config::Stream::default() };
        settings.streams.insert("open".into(), open);
    })
    .await;
    let publish = |protocol: &str, stream: &str| match protocol {
        "rtsp" => Push::rtsp(Card::SMALL, LIVE, "tcp", &node.rtsp(stream)),
        "rtmp" => Push::rtmp(Card::SMALL, LIVE, &node.rtmp(stream)),
        _ => Push::srt(Card::SMALL, LIVE, &node.srt(&format!("publish:{stream}"))),
    };
    for (stream, replaces) in [("open", true), ("kept", false)] {
        let mut present = publish("rtsp", stream);
        node.until_pictures(stream, 5).await;
        for protocol in ["rtmp", "srt", "rtsp"] {
            let mut second = publish(protocol, stream);
            if replaces {
                node.until(protocol, |status| {
                    find(status, stream).is_some_and(|found| found["protocol"] == protocol)
                })
                .await;
                present = second;
            } else {
                assert!(!second.until_ended().await, "{protocol} was let in");
                assert_eq!(find(&node.status().await, stream).unwrap()["protocol"], "rtsp");
            }
        }
        drop(present);
    }
    node.stop().await;
}
