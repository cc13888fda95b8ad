//! GStreamer as another stack: `rtspclientsink` publishes, `rtspsrc` plays, over the connection and
//! as datagrams, with digest where a password is asked.

use std::path::Path;
use std::sync::Arc;

use tempfile::tempdir;

use super::harness::*;

const GST: &str = "/usr/bin/gst-launch-1.0";

/// Bytes of a picture of 320 by 180 in I420.
const PICTURE: usize = 320 * 180 * 3 / 2;

/// Pictures that the source makes.
const MADE: usize = 100;

/// What publishes: encoders of pictures and sound.
fn publish(coders: [&str; 2], url: &str, more: &str) -> String {
    format!(
        "-q rtspclientsink name=sink location={url} latency=0 {more} \
         videotestsrc is-live=true num-buffers={MADE} \
         ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 ! {} ! queue ! sink.sink_0 \
         audiotestsrc is-live=true num-buffers=200 samplesperbuffer=960 \
         ! audio/x-raw,rate=48000 ! audioconvert ! audioresample ! {} ! queue ! sink.sink_1",
        coders[0], coders[1]
    )
}

/// What plays: decoders of pictures and sound, each behind the media type that it takes.
fn play(coders: [&str; 2], url: &str, more: &str, files: [&Path; 2]) -> String {
    format!(
        "-q rtspsrc name=source location={url} latency=100 {more} \
         source. ! application/x-rtp,media=video ! {} ! videoconvert \
         ! video/x-raw,format=I420 ! filesink location={} \
         source. ! application/x-rtp,media=audio ! {} ! audioconvert \
         ! audio/x-raw,format=S16LE,channels=1 ! filesink location={}",
        coders[0],
        files[0].display(),
        coders[1],
        files[1].display()
    )
}

/// Publishes and plays at the same time; whole pictures and sound have to come.
async fn through(node: &Node, name: &str, publishes: [&str; 2], plays: [&str; 2], road: &str) {
    let (dir, url) = (tempdir().unwrap(), node.url(name));
    let line = publish(publishes, &url, &format!("protocols={road}"));
    let sending = spawn(GST, &line);
    drop(node.reader(name).await);
    let files = [dir.path().join("pictures"), dir.path().join("sound")];
    let taking = play(plays, &url, &format!("protocols={road}"), [&files[0], &files[1]]);
    let playing = spawn(GST, &taking);
    finished(sending, &line).await;
    finished(playing, &taking).await;
    let [pictures, sound] = files.map(|file| std::fs::metadata(file).unwrap().len() as usize);
    assert_eq!(pictures % PICTURE, 0, "{name}");
    let pictures = pictures / PICTURE;
    // A reader gets what came since the last key picture, which is each 25th.
    assert!((MADE / 2..=MADE).contains(&pictures), "{name}: {pictures} pictures");
    assert!(sound > 8000, "{name}: {sound} bytes of sound");
    assert_eq!(node.counters.snapshot().media_errors, 0, "{name}");
}

const X264: &str = "x264enc tune=zerolatency key-int-max=25";
const H264: &str = "rtph264depay ! h264parse ! avdec_h264";

#[tokio::test]
async fn h264_and_aac_over_the_connection() {
    let node = Node::start(|_| {}).await;
    let aac = ["avenc_aac ! aacparse", "rtpmp4gdepay ! aacparse ! avdec_aac"];
    through(&node, "gst-tcp", [X264, aac[0]], [H264, aac[1]], "tcp").await;
    node.stop().await;
}

#[tokio::test]
async fn h264_and_opus_as_datagrams() {
    let node = Node::start(|_| {}).await;
    let opus = ["opusenc", "rtpopusdepay ! opusdec"];
    through(&node, "gst-udp", [X264, opus[0]], [H264, opus[1]], "udp").await;
    node.stop().await;
}

#[tokio::test]
async fn hevc_and_g711_over_the_connection() {
    let node = Node::start(|_| {}).await;
    let x265 = "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! h265parse";
    let hevc = "rtph265depay ! h265parse ! avdec_h265";
    let g711 = ["audio/x-raw,rate=8000,channels=1 ! mulawenc", "rtppcmudepay ! mulawdec"];
    through(&node, "gst-hevc", [x265, g711[0]], [hevc, g711[1]], "tcp").await;
    node.stop().await;
}

#[tokio::test]
async fn a_digest_is_taken_where_a_password_is_known() {
    let node = Node::with_access(|_| {}, Arc::new(Password)).await;
    let between = Listening::before(node.addr).await;
    let (dir, url) = (tempdir().unwrap(), format!("rtsp://{}/cam", between.addr));
    let g711 = "audio/x-raw,rate=8000,channels=1 ! alawenc";
    let line = publish([X264, g711], &url, "protocols=tcp user-id=tom user-pw=secret");
    let sending = spawn(GST, &line);
    drop(node.reader("cam").await);
    let files = [dir.path().join("pictures"), dir.path().join("sound")];
    let coders = [H264, "rtppcmadepay ! alawdec"];
    let more = "protocols=tcp user-id=tom user-pw=wrong";
    let wrong = play(coders, &url, more, [&files[0], &files[1]]);
    let output = spawn(GST, &wrong).wait_with_output().await.unwrap();
    assert!(!output.status.success(), "a wrong password plays nothing");
    let more = "protocols=tcp user-id=tom user-pw=secret";
    let taking = play(coders, &url, more, [&files[0], &files[1]]);
    let playing = spawn(GST, &taking);
    finished(sending, &line).await;
    finished(playing, &taking).await;
    assert!(std::fs::metadata(&files[0]).unwrap().len() as usize > 25 * PICTURE);
    assert!(between.heard("Authorization: Digest") >= 3);
    assert_eq!(between.heard("Authorization: Basic"), 0, "no password was sent, only proofs");
    node.stop().await;
}
