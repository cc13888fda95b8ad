//! ffmpeg 5 and 9 publish and play, over the connection and as datagrams: each picture arrives bit
//! by bit as it was in the clip, each frame of sound as it was coded.

use std::path::Path;
use std::sync::Arc;

use ingest::hub::Item;
use ingest::sessions::SessionState;
use pipeline::{Codec, TrackKind};
use tempfile::tempdir;

use super::harness::*;

/// Publishes a clip and plays it at the same time; compares what comes out with what went in.
async fn through(node: &Node, dir: &Path, clip: &Path, publish: [&str; 2], play: [&str; 2]) {
    let [publisher, transport] = publish;
    let name = format!("{}-{}-{}", clip.file_stem().unwrap().to_str().unwrap(), transport, play[1]);
    let url = node.url(&name);
    let line = format!(
        "-v warning -re -i {} -c copy -strict experimental -f rtsp -rtsp_transport {transport} \
         {url}",
        clip.display()
    );
    // The player waits for the stream, which lasts for two seconds only.
    let input = format!("-rtsp_transport {} -i {url}", play[1]);
    let taking = take(play[0], dir, &input);
    node.connected(1).await;
    let sending = spawn(publisher, &line);
    finished(sending, &line).await;
    let got = taking.sums().await;
    node.connected(0).await;
    let had = take(play[0], dir, &clip_input(clip)).sums().await;
    assert_eq!(had.pictures.len(), PICTURES, "{name}");
    assert_eq!(got.pictures, had.pictures, "{name}: the pictures");
    assert!(is_within(&got.sounds, &had.sounds), "{name}: {:?} of {:?}", got.sounds, had.sounds);
    let missing = had.sounds.len() - got.sounds.len();
    assert!(missing * 10 <= had.sounds.len(), "{name}: {missing} frames of sound are missing");
}

fn clip_input(clip: &Path) -> String {
    format!("-i {}", clip.display())
}

#[tokio::test]
async fn h264_and_aac_over_the_connection() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    let x264 = "-c:v libx264 -preset veryfast -bf 0 -c:a aac";
    let clip = clip(dir.path(), "h264-aac", x264).await;
    through(&node, dir.path(), &clip, [FFMPEG_5, "tcp"], [FFMPEG_5, "tcp"]).await;
    through(&node, dir.path(), &clip, [ffmpeg_9(), "tcp"], [ffmpeg_9(), "tcp"]).await;
    assert_eq!(node.counters.snapshot().media_errors, 0);
    node.stop().await;
}

#[tokio::test]
async fn h264_and_aac_as_datagrams() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    let x264 = "-c:v libx264 -preset veryfast -b:v 300k -bf 0 -c:a aac";
    let clip = clip(dir.path(), "h264-aac", x264).await;
    through(&node, dir.path(), &clip, [FFMPEG_5, "udp"], [FFMPEG_5, "udp"]).await;
    through(&node, dir.path(), &clip, [ffmpeg_9(), "udp"], [ffmpeg_9(), "udp"]).await;
    assert_eq!(node.counters.snapshot().media_errors, 0);
    node.stop().await;
}

#[tokio::test]
async fn h264_with_reordered_pictures_and_opus() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    let x264 = "-c:v libx264 -preset veryfast -bf 3 -c:a libopus";
    let clip = clip(dir.path(), "h264-opus", x264).await;
    through(&node, dir.path(), &clip, [FFMPEG_5, "tcp"], [ffmpeg_9(), "tcp"]).await;
    node.stop().await;
}

#[tokio::test]
async fn hevc_and_g711() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    let x265 = "-c:v libx265 -preset ultrafast -x265-params log-level=error -ar 8000 -ac 1";
    for (sound, transport) in [("pcm_mulaw", "tcp"), ("pcm_alaw", "udp")] {
        let clip =
            clip(dir.path(), &format!("hevc-{sound}"), &format!("{x265} -c:a {sound}")).await;
        through(&node, dir.path(), &clip, [FFMPEG_5, transport], [ffmpeg_9(), transport]).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn vp8_vp9_and_opus() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    for (codec, transport) in [("vp8", "udp"), ("vp9", "tcp")] {
        let vpx = format!(
            "-c:v libvpx{} -deadline realtime -cpu-used 8 -auto-alt-ref 0 -c:a libopus",
            if codec == "vp9" { "-vp9" } else { "" }
        );
        let clip = clip(dir.path(), codec, &vpx).await;
        through(&node, dir.path(), &clip, [ffmpeg_9(), transport], [FFMPEG_5, transport]).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn av1_and_mp3() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    let av1 = "-c:v libsvtav1 -preset 13 -svtav1-params pred-struct=1 -c:a libmp3lame";
    let clip = clip(dir.path(), "av1-mp3", av1).await;
    through(&node, dir.path(), &clip, [ffmpeg_9(), "tcp"], [ffmpeg_9(), "tcp"]).await;
    node.stop().await;
}

#[tokio::test]
async fn a_digest_is_taken_where_a_password_is_known() {
    let (node, dir) = (Node::with_access(|_| {}, Arc::new(Password)).await, tempdir().unwrap());
    let between = Listening::before(node.addr).await;
    let clip = clip(dir.path(), "h264", "-c:v libx264 -preset veryfast -bf 0 -c:a aac").await;
    for ffmpeg in [FFMPEG_5, ffmpeg_9()] {
        let url = format!("rtsp://tom:secret@{}/cam", between.addr);
        let line = format!(
            "-v warning -re -i {} -c copy -f rtsp -rtsp_transport tcp {url}",
            clip.display()
        );
        let taking = take(ffmpeg, dir.path(), &format!("-rtsp_transport tcp -i {url}"));
        node.connected(1).await;
        finished(spawn(ffmpeg, &line), &line).await;
        assert_eq!(taking.sums().await.pictures.len(), PICTURES);
        let wrong = url.replace("secret", "wrong");
        let refused = spawn(ffmpeg, &format!("-v error -i {wrong} -f null -"));
        assert!(!refused.wait_with_output().await.unwrap().status.success());
        node.connected(0).await;
    }
    assert!(between.heard("Authorization: Digest") >= 8);
    assert_eq!(between.heard("Authorization: Basic"), 0, "no password was sent, only proofs");
    node.stop().await;
}

#[tokio::test]
async fn a_publisher_is_listed_and_its_stream_carries_times_as_they_were() {
    let (node, dir) = (Node::start(|_| {}).await, tempdir().unwrap());
    let x264 = "-c:v libx264 -preset veryfast -bf 2 -c:a aac";
    let clip = clip(dir.path(), "times", x264).await;
    let url = node.url("cam?token=secret&room=1");
    let line =
        format!("-v warning -re -i {} -c copy -f rtsp -rtsp_transport tcp {url}", clip.display());
    let sending = spawn(FFMPEG_5, &line);
    let mut reader = node.reader("cam").await;
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    let mut listed = None;
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.unwrap() {
            Item::Tracks(tracks) => {
                assert_eq!(tracks.video.as_ref().unwrap().codec, Codec::H264);
                assert_eq!(tracks.video.as_ref().unwrap().size.width, 320);
                assert_eq!(tracks.audio.as_ref().unwrap().codec, Codec::Aac);
            }
            Item::Packet(packet) if packet.kind == TrackKind::Video => {
                pictures.push((packet.pts.0, packet.dts.0));
                listed = listed.or_else(|| node.sessions[0].list().pop());
            }
            Item::Packet(packet) => sounds.push(packet.pts.0),
            Item::Lagged(count) => panic!("{count} lost"),
            Item::End => break,
        }
    }
    finished(sending, &line).await;
    let listed = listed.unwrap();
    assert_eq!((listed.state, listed.query.as_str()), (SessionState::Publish, "room=1"));
    assert!(listed.bytes_in > 1000);
    assert_eq!(pictures.len(), PICTURES);
    assert!(pictures.iter().any(|(pts, dts)| pts != dts), "the clip has reordered pictures");
    assert!(pictures.windows(2).all(|pair| pair[0].1 < pair[1].1), "decoding times rise");
    assert!(pictures.iter().all(|(pts, dts)| dts <= pts));
    let mut shown: Vec<i64> = pictures.iter().map(|times| times.0).collect();
    shown.sort_unstable();
    for pair in shown.windows(2) {
        let step = pair[1] - pair[0];
        // 25 pictures a second; reports of the sender may move pictures by a sixteenth of the time
        // between their decoding, which for neighbours on the screen is up to four pictures.
        assert!((2700..=4500).contains(&step), "{step} ticks between pictures");
    }
    // The clip's file counts milliseconds.
    assert!(sounds.windows(2).all(|pair| (pair[1] - pair[0] - 1920).abs() <= 91));
    node.stop().await;
}
