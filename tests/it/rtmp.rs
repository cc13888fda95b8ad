//! RTMP as it is in the field, through the whole node: TLS, and publishers whose pictures change
//! their size, whose sound comes late or never, and whose clocks jump and wrap.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use ingest::hub::{Item, Reader, Start};
use pipeline::{Packet, TrackKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::programs::{self, PATIENCE};
use crate::push::{LIVE, Push};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_published_over_tls_is_processed_like_any_other() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmps("cam"));
    let status = node.until_pictures("cam-out", 10).await;
    assert_eq!(find(&status, "cam").unwrap()["protocol"], "rtmps");
    assert_eq!(node.node.parts().rtmps.as_ref().unwrap().0.list().len(), 1);
    assert!(node.node.parts().rtmp.as_ref().unwrap().0.list().is_empty());
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}

/// A message of a publisher: type, time in milliseconds, body.
type Tag = (u8, u32, Vec<u8>);

/// Picture and sound in the types of messages.
const SOUND: u8 = 8;
const PICTURE: u8 = 9;

/// What ffmpeg makes of so many seconds of test picture and tone, as messages.
async fn clip(size: &str, rate: u32, seconds: u32) -> Vec<Tag> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    let line = format!(
        "-v error -f lavfi -i testsrc2=size={size}:rate={rate} \
         -f lavfi -i sine=sample_rate=48000 -t {seconds} -pix_fmt yuv420p -c:v libx264 \
         -preset ultrafast -tune zerolatency -g {rate} -c:a aac -f flv {}",
        path.display()
    );
    let mut command = Command::new(programs::ffmpeg());
    command.args(line.split_whitespace()).stdin(Stdio::null());
    assert!(command.status().await.unwrap().success());
    let file = std::fs::read(path).unwrap();
    let mut rest = &file[13..];
    let mut tags = Vec::new();
    while let [kind, a, b, c, t1, t2, t3, t0, _, _, _, body @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        tags.push((*kind, u32::from_be_bytes([*t0, *t1, *t2, *t3]), body[..length].to_vec()));
        rest = &body[length + 4..];
    }
    tags
}

/// A chunk that is a whole message.
fn message(kind: u8, stream: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let chunk_stream = if matches!(kind, SOUND | PICTURE) { kind } else { 3 };
    let length = (body.len() as u32).to_be_bytes();
    let mut bytes = vec![chunk_stream];
    bytes.extend(&time.min(0xFF_FFFF).to_be_bytes()[1..]);
    bytes.extend(&length[1..]);
    bytes.extend([kind, stream, 0, 0, 0]);
    if time >= 0xFF_FFFF {
        bytes.extend(time.to_be_bytes());
    }
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&[2, 0, text.len() as u8], text.as_bytes()].concat()
}

fn number(number: f64) -> Vec<u8> {
    [&[0], &number.to_be_bytes()[..]].concat()
}

/// Publishes messages bit by bit: `at` is the millisecond at which each is sent. It goes when it has
/// sent them and `leave` says so.
fn publish(
    addr: SocketAddr,
    name: &'static str,
    tags: Vec<(u64, Tag)>,
    leave: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
        tokio::spawn(async move { while matches!(read.read(&mut [0; 4096]).await, Ok(1..)) {} });
        let mut hello = vec![3];
        hello.resize(1 + 2 * 1536, 0);
        hello.extend(message(1, 0, 0, &0xFF_FFFF_u32.to_be_bytes()));
        let app = [&[3, 0, 3][..], b"app", &text(name), &[0, 0, 9]].concat();
        hello.extend(message(20, 0, 0, &[text("connect"), number(1.0), app].concat()));
        let create = [text("createStream"), number(2.0), vec![5]].concat();
        hello.extend(message(20, 0, 0, &create));
        let publish = [text("publish"), number(3.0), vec![5], text(""), text("live")].concat();
        hello.extend(message(20, 1, 0, &publish));
        write.write_all(&hello).await.unwrap();
        let began = Instant::now();
        for (at, (kind, time, body)) in tags {
            tokio::time::sleep_until(began + Duration::from_millis(at)).await;
            if write.write_all(&message(kind, 1, time, &body)).await.is_err() {
                return;
            }
        }
        let _ = leave.await;
    })
}

/// Messages at their own times.
fn timed(tags: Vec<Tag>) -> Vec<(u64, Tag)> {
    tags.into_iter().map(|tag| (tag.1.into(), tag)).collect()
}

/// Everything that a reader gets to the end, and each size of the picture.
async fn read_all(mut reader: Reader) -> (Vec<Packet>, Vec<(u32, u32)>, bool) {
    let (mut packets, mut sizes, mut sound) = (Vec::new(), Vec::new(), false);
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("the stream goes on") {
            Item::Tracks(tracks) => {
                sound |= tracks.audio.is_some();
                if let Some(video) = &tracks.video {
                    sizes.push((video.size.width, video.size.height));
                    sizes.dedup();
                }
            }
            Item::Packet(packet) => packets.push(packet),
            Item::Lagged(_) => {}
            Item::End => return (packets, sizes, sound),
        }
    }
}

fn times(packets: &[Packet], kind: TrackKind) -> Vec<i64> {
    packets.iter().filter(|p| p.kind == kind).map(|p| p.dts.as_millis()).collect()
}

/// What came of a publisher's messages.
struct Came {
    /// Pictures sent.
    sent: usize,
    raw: Vec<Packet>,
    sizes: Vec<(u32, u32)>,
    sound: bool,
    /// Pictures that came out of the graph.
    processed: usize,
    jumps: u64,
}

/// Sends messages to a node with a graph that passes pictures through, and reads both streams.
async fn through(tags: Vec<(u64, Tag)>) -> Came {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let coded = |tag: &&(u64, Tag)| tag.1.0 == PICTURE && tag.1.2.get(1) == Some(&1);
    let sent = tags.iter().filter(coded).count();
    // The graph may take longer to begin than some of the clips last.
    let (leave, left) = oneshot::channel();
    let publisher = publish(node.node.addresses().rtmp.unwrap(), "cam", tags, left);
    let raw = tokio::spawn(read_all(node.reader("cam", Start::LastKey).await));
    let out = tokio::spawn(read_all(node.reader("cam-out", Start::LastKey).await));
    leave.send(()).unwrap();
    publisher.await.unwrap();
    let (raw, sizes, sound) = raw.await.unwrap();
    let (out, ..) = out.await.unwrap();
    let counted = node.node.parts().rtmp.as_ref().unwrap().1.snapshot();
    assert_eq!((counted.media_errors, counted.failed), (0, 0));
    node.until_idle().await;
    node.stop().await;
    let processed = times(&out, TrackKind::Video).len();
    Came { sent, raw, sizes, sound, processed, jumps: counted.clock_jumps }
}

impl Came {
    /// Every picture came in, and pictures came out to the end.
    fn assert_whole(&self) {
        let pictures = times(&self.raw, TrackKind::Video);
        assert_eq!(pictures.len(), self.sent);
        assert!(pictures.windows(2).all(|pair| pair[0] < pair[1]), "{pictures:?}");
        println!("{} of {} pictures came out", self.processed, self.sent);
        assert!(self.processed > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_changes_in_mid_stream_is_followed() {
    let mut tags = clip("320x180", 25, 3).await;
    let later = clip("640x360", 25, 3).await;
    tags.extend(later.into_iter().map(|(kind, time, body)| (kind, time + 3000, body)));
    let came = through(timed(tags)).await;
    came.assert_whole();
    assert_eq!(came.sizes, [(320, 180), (640, 360)]);
    assert!(came.processed > 75, "nothing came out after the change: {}", came.processed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_without_sound_is_carried_without_waiting_for_it() {
    let tags = clip("320x180", 25, 3).await.into_iter();
    // Nor do the metadata tell of one.
    let came = through(timed(tags.filter(|tag| tag.0 == PICTURE).collect())).await;
    came.assert_whole();
    assert!(!came.sound && times(&came.raw, TrackKind::Audio).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_comes_late_joins_the_picture_in_step() {
    let tags = clip("320x180", 25, 4).await.into_iter();
    let late = tags.filter(|(kind, time, body)| {
        // Headers too: the node learns of the sound when it begins.
        *kind == PICTURE || (*kind == SOUND && (*time >= 2000 || body.get(1) == Some(&0)))
    });
    let late = late.map(|(kind, time, body)| match (kind, body.get(1)) {
        (SOUND, Some(0)) => (2000, (kind, 2000, body)),
        _ => (time.into(), (kind, time, body)),
    });
    let mut tags: Vec<_> = late.collect();
    tags.sort_by_key(|(at, _)| *at);
    let came = through(tags).await;
    came.assert_whole();
    assert!(came.sound);
    let (video, audio) = (times(&came.raw, TrackKind::Video), times(&came.raw, TrackKind::Audio));
    assert!((1950..2100).contains(&(audio[0] - video[0])), "{} {}", audio[0], video[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_and_far_ahead_leaves_one_line_of_time() {
    let tags = clip("320x180", 25, 4).await.into_iter();
    let jumped = tags.map(|(kind, time, body)| {
        let shown = match time {
            0..1300 => time + 50_000,
            1300..2600 => time,
            _ => time + 3_600_000,
        };
        (u64::from(time), (kind, shown, body))
    });
    let came = through(jumped.collect()).await;
    came.assert_whole();
    assert!(came.jumps >= 2, "{}", came.jumps);
    let video = times(&came.raw, TrackKind::Video);
    let gap = video.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(gap < 200, "a gap of {gap} ms");
    let span = video[video.len() - 1] - video[0];
    assert!((3800..4300).contains(&span), "{span}");
    assert!(came.processed > 60, "{}", came.processed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_wraps_at_32_bits_goes_on() {
    let tags = clip("320x180", 25, 3).await.into_iter();
    let wrapped =
        tags.map(|(kind, time, body)| (u64::from(time), (kind, time.wrapping_sub(1500), body)));
    let came = through(wrapped.collect()).await;
    came.assert_whole();
    assert_eq!(came.jumps, 0);
    let video = times(&came.raw, TrackKind::Video);
    assert!(video.windows(2).all(|pair| (39..=41).contains(&(pair[1] - pair[0]))), "{video:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_picture_a_second_and_a_hundred_and_twenty_are_carried() {
    for (rate, seconds) in [(1, 5), (120, 2)] {
        let came = through(timed(clip("322x182", rate, seconds).await)).await;
        came.assert_whole();
        assert_eq!(came.sent as u32, rate * seconds);
    }
}
