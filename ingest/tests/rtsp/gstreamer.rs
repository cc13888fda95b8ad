//! GStreamer as another stack: `rtspclientsink` publishes, `rtspsrc` plays, over the connection and
//! as datagrams, with digest where a password is asked.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tempfile::tempdir;
use tokio::process::{Child, Command};

use super::harness::*;

const GST: &str = "/usr/bin/gst-launch-1.0";

/// Bytes of a picture of 320 by 180 in I420.
const PICTURE: usize = 320 * 180 * 3 / 2;

/// What has to come of a stream: pictures, and bytes of sound.
const WANTED: [usize; 2] = [50 * PICTURE, 16_000];

/// What publishes: encoders of pictures and sound.
fn publish(coders: [&str; 2], url: &str, more: &str) -> String {
    format!(
        "-q rtspclientsink name=sink location={url} latency=0 {more} \
         videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 \
         ! {} ! queue ! sink.sink_0 \
         audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000 \
         ! audioconvert ! audioresample ! {} ! queue ! sink.sink_1",
        coders[0], coders[1]
    )
}

/// A player: decoders of pictures and sound, each behind the media type that it takes.
struct Player {
    line: String,
    child: Child,
    files: [PathBuf; 2],
}

impl Player {
    fn start(coders: [&str; 2], url: &str, more: &str, dir: &Path) -> Self {
        let files = ["pictures", "sound"].map(|kind| dir.join(kind));
        let line = format!(
            "rtspsrc name=source location={url} latency=100 {more} \
             queue name=video ! {} ! videoconvert ! video/x-raw,format=I420 \
             ! filesink buffer-mode=2 location={} \
             queue name=audio ! {} ! audioconvert ! audio/x-raw,format=S16LE,channels=1 \
             ! filesink buffer-mode=2 location={}",
            coders[0],
            files[0].display(),
            coders[1],
            files[1].display()
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rtsp/player.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(&line).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self { child: command.spawn().unwrap(), line, files }
    }

    /// Waits for what has to come.
    async fn taken(&mut self) {
        let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |file| file.len() as usize);
        let come = async {
            while self.files.iter().zip(WANTED).any(|(file, wanted)| size(file) < wanted) {
                assert_eq!(self.child.try_wait().unwrap(), None, "{} has ended", self.line);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let come = tokio::time::timeout(PATIENCE, come).await;
        let sizes: Vec<usize> = self.files.iter().map(size).collect();
        come.unwrap_or_else(|_| panic!("{}: {sizes:?} bytes of {WANTED:?}", self.line));
    }
}

/// Publishes and plays at the same time; the end of the publisher is that of the player.
async fn through(node: &Node, name: &str, publishes: [&str; 2], plays: [&str; 2], road: &str) {
    let (dir, url) = (tempdir().unwrap(), node.url(name));
    let sending = spawn(GST, &publish(publishes, &url, &format!("protocols={road}")));
    drop(node.reader(name).await);
    let mut player = Player::start(plays, &url, &format!("protocols={road}"), dir.path());
    player.taken().await;
    drop(sending);
    finished(player.child, &player.line).await;
    let pictures = std::fs::metadata(&player.files[0]).unwrap().len() as usize;
    assert_eq!(pictures % PICTURE, 0, "{name}");
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
    let coders = [H264, "rtppcmadepay ! alawdec"];
    let wrong = Player::start(coders, &url, "protocols=tcp user-id=tom user-pw=wrong", dir.path());
    let output = tokio::time::timeout(PATIENCE, wrong.child.wait_with_output()).await;
    assert!(!output.unwrap().unwrap().status.success(), "a wrong password plays nothing");
    let right = "protocols=tcp user-id=tom user-pw=secret";
    Player::start(coders, &url, right, dir.path()).taken().await;
    drop(sending);
    assert!(between.heard("Authorization: Digest") >= 3);
    assert_eq!(between.heard("Authorization: Basic"), 0, "no password was sent, only proofs");
    node.stop().await;
}
