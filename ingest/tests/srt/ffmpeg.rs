//! ffmpeg publishes and reads.

use ingest::StreamName;
use tokio::process::Command;

use crate::node::{Node, PATIENCE, PUBLISH_SECRET, clip, pictures, run};

async fn ffmpeg_publishes(stream: &str, options: &str) {
    let node = Node::start(|config| {
        config.default_stream = Some(StreamName::parse("encoder").unwrap());
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    clip(&path).await;
    let line = format!(
        "-v error -re -i {} -c copy -f mpegts srt://{}?{options}&linger=2",
        path.display(),
        node.addr
    );
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    let count = pictures(node.reader(stream).await).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(count, 100);
    assert_eq!(node.counters.snapshot().lost, 0);
    node.stop().await;
}

#[tokio::test]
async fn ffmpeg_publishes_by_the_colon_spelling() {
    ffmpeg_publishes("studio/cam", "streamid=publish:studio/cam").await;
}

#[tokio::test]
async fn ffmpeg_publishes_by_the_access_control_spelling() {
    ffmpeg_publishes("cam", "streamid=#!::m=publish,r=cam").await;
}

#[tokio::test]
async fn ffmpeg_publishes_without_stream_id_to_the_default_stream() {
    ffmpeg_publishes("encoder", "pkt_size=1316").await;
}

#[tokio::test]
async fn ffmpeg_publishes_encrypted() {
    ffmpeg_publishes_with_passphrase(PUBLISH_SECRET, 100).await;
}

#[tokio::test]
async fn ffmpeg_with_a_wrong_passphrase_is_refused() {
    ffmpeg_publishes_with_passphrase("not the passphrase", 0).await;
}

async fn ffmpeg_publishes_with_passphrase(passphrase: &str, wanted: usize) {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    clip(&path).await;
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-re", "-i"]).arg(&path);
    command.args(["-c", "copy", "-f", "mpegts", "-passphrase", passphrase, "-pbkeylen", "32"]);
    command.arg(format!("srt://{}?streamid=publish:secret&linger=2", node.addr)).kill_on_drop(true);
    let push = tokio::spawn(async move {
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
    });
    if wanted > 0 {
        assert_eq!(pictures(node.reader("secret").await).await, wanted);
    }
    let output = push.await.unwrap();
    assert_eq!(output.status.success(), wanted > 0);
    assert_eq!(node.counters.snapshot().refused > 0, wanted == 0);
    node.stop().await;
}

#[tokio::test]
async fn ffmpeg_reads_what_ffmpeg_publishes() {
    let node = Node::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let (path, got) = (dir.path().join("clip.ts"), dir.path().join("got.ts"));
    clip(&path).await;
    let line = format!(
        "-v error -re -stream_loop 1 -i {} -c copy -f mpegts srt://{}?streamid=publish:cam",
        path.display(),
        node.addr
    );
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    drop(node.reader("cam").await);
    let line = format!(
        "-v error -y -i srt://{}?streamid=read:cam -t 3 -c copy -f mpegts {}",
        node.addr,
        got.display()
    );
    let output = run("ffmpeg", &line).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = format!(
        "-v error -count_frames -select_streams v -show_entries stream=nb_read_frames \
         -of csv=p=0 {}",
        got.display()
    );
    let probed = run("ffprobe", &line).await;
    // A transport stream's picture is listed once more with its program.
    let text = String::from_utf8_lossy(&probed.stdout).into_owned();
    let digits = text.split(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty());
    let frames: u32 = digits.and_then(|word| word.parse().ok()).expect("frames are counted");
    assert!((70..=80).contains(&frames), "{frames} frames in 3 s");
    push.abort();
    node.stop().await;
}

#[tokio::test]
async fn a_reader_of_no_stream_is_refused() {
    let node = Node::start(|_| {}).await;
    let line = format!("-v error -i srt://{}?streamid=read:nothing -f null -", node.addr);
    assert!(!run("ffmpeg", &line).await.status.success());
    assert_eq!(node.counters.snapshot().refused, 1);
    node.stop().await;
}
