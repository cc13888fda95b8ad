//! RTMPS with real clients, and with some that stop half-way.

use std::path::Path;
use std::time::Duration;

use ingest::rtmp::SessionState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::*;

/// A program publishes a clip over TLS, and each of its pictures comes; then it plays it.
async fn in_and_out(program: &Path, options: &str) {
    let certificate = Certificate::new();
    let node = Node::start(|config| config.tls = Some(certificate.server())).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    clip(&path).await;
    let url = node.url("rtmps", "cam");
    let line = format!("-v error -re -i {} -c copy -f flv {options} {url}", path.display());
    let (program_too, line_too) = (program.to_owned(), line.clone());
    let push = tokio::spawn(async move { run(&program_too, &line_too).await });
    let (_, packets) = read_all(node.reader("cam").await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(shown(&packets).len(), PICTURES);

    let forever = line.replace("-re", "-re -stream_loop -1");
    let _live = command(program, &forever).spawn().unwrap();
    node.reader("cam").await;
    let listed = node.sessions.list();
    assert_eq!((listed[0].protocol, listed[0].state), ("rtmps", SessionState::Publish));
    let output = run(program, &format!("-v error -xerror {options} -i {url} -t 1 -f null -")).await;
    let said = words(&output);
    assert!(output.status.success() && said.is_empty(), "{said}");
    assert_eq!(node.counters.snapshot().media_errors, 0);
}

#[tokio::test]
async fn ffmpeg_5_publishes_and_plays_over_tls() {
    in_and_out(&ffmpeg(), "").await;
}

#[tokio::test]
async fn ffmpeg_9_publishes_and_plays_over_tls() {
    in_and_out(&ffmpeg_9(), "-tls_verify 0").await;
}

#[tokio::test]
async fn gstreamer_publishes_and_plays_over_tls() {
    let certificate = Certificate::new();
    let node = Node::start(|config| config.tls = Some(certificate.server())).await;
    let url = node.url("rtmps", "studio/cam");
    let line = format!(
        "-q flvmux name=m streamable=true ! rtmp2sink tls-validation-flags=0 location={url} \
         videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! h264parse ! m."
    );
    let _live = command(&gst_launch(), &line).spawn().unwrap();
    node.reader("studio/cam").await;
    let line = format!(
        "-q rtmp2src tls-validation-flags=0 location={url} ! flvdemux ! h264parse ! avdec_h264 \
         ! fakesink num-buffers=25"
    );
    let played = run(&gst_launch(), &line).await;
    assert!(played.status.success(), "{}", words(&played));
    assert_eq!(node.counters.snapshot().media_errors, 0);
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_tls_handshake_is_ended() {
    let certificate = Certificate::new();
    let node = Node::start(|config| {
        config.tls = Some(certificate.server());
        config.handshake_timeout = Duration::from_millis(300);
    })
    .await;
    // Silence; the head of a record whose rest never comes; RTMP without TLS; no TLS at all.
    for bytes in [&b""[..], &[0x16, 3, 1, 2, 0, 1], &[3; 1537], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut socket = TcpStream::connect(node.addr).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        let _ = end.expect("the server closes");
    }
    assert_eq!(node.counters.snapshot().failed, 4);
    assert!(node.sessions.list().is_empty());
}

#[tokio::test]
async fn tls_counts_against_the_same_limit_as_the_handshake_behind_it() {
    let certificate = Certificate::new();
    let node = Node::start(|config| {
        config.tls = Some(certificate.server());
        config.handshake_timeout = Duration::from_millis(500);
    })
    .await;
    let line = format!("s_client -quiet -connect {}", node.addr);
    let mut client = command(Path::new("/usr/bin/openssl"), &line);
    client.stdin(std::process::Stdio::piped());
    let mut client = client.spawn().unwrap();
    let ended = tokio::time::timeout(PATIENCE, client.wait()).await;
    ended.expect("the server closes").unwrap();
    assert_eq!(node.counters.snapshot().failed, 1);
}
