//! Many viewers of one stream: they share the work of sending, and nothing that one of them does
//! reaches the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use ingest::StreamName;
use ingest::auth::{Access, Grant, Refusal, Request};
use ingest::hub::{Publisher, Writer};
use ingest::sessions::SessionState;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Codec, Packet, Pts, Size, TrackKind, Tracks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kit::{Node, PATIENCE};

/// Parameter sets of a 64x64 stream, each with its start code.
const PARAMETER_SETS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0xf4, 0x00, 0x0a, 0x91, 0x96, 0x84, 0x26, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00,
    0x04, 0x00, 0x00, 0x03, 0x00, 0x2a, 0x3c, 0x48, 0x9a, 0x80, 0, 0, 0, 1, 0x68, 0xce, 0x0f, 0x19,
    0x20,
];

/// What stands before the number in a picture.
const MARK: &[u8] = b"\xf0NUMBER\xf1";

/// Every so many pictures one is a key.
const GROUP: u32 = 10;

fn tracks(audio: bool) -> Tracks {
    let parameter_sets = Bytes::from_static(PARAMETER_SETS);
    let video = VideoTrack { codec: Codec::H264, size: Size::new(64, 64), parameter_sets };
    let (codec, config) = (Codec::Aac, Bytes::from_static(&[0x11, 0x90]));
    let sound = AudioTrack { codec, sample_rate: 48_000, channels: 2, config };
    Tracks { video: Some(video), audio: audio.then_some(sound) }
}

/// A picture of so many bytes with its number in it.
fn picture(number: u32, bytes: usize) -> Packet {
    let key = number.is_multiple_of(GROUP);
    let mut data = if key { PARAMETER_SETS.to_vec() } else { Vec::new() };
    data.extend([0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 0x9a]);
    data.extend(MARK);
    // No byte of it may make a start code.
    data.extend(format!("{number:08}").bytes());
    data.resize(bytes.max(data.len()), 0x5A);
    // Close together, so that a stream keeps them all however slow the machine is.
    let pts = Pts::from_millis(i64::from(number) * 5);
    let (kind, arrived) = (TrackKind::Video, Instant::now());
    Packet { kind, pts, dts: pts, key, data: data.into(), arrived }
}

fn publish(node: &Node) -> Writer {
    let publisher = Publisher { protocol: "test", id: "test".into(), remote: String::new() };
    let name = StreamName::parse("cam").unwrap();
    let mut writer = node.hub.publish(name, publisher, false).unwrap();
    writer.set_tracks(tracks(false));
    writer
}

/// Writes pictures until it is told to stop.
fn go_on(mut writer: Writer, bytes: usize, stop: CancellationToken) -> JoinHandle<Writer> {
    tokio::spawn(async move {
        for number in 0.. {
            writer.write(picture(number, bytes));
            if number == 100 {
                writer.set_tracks(tracks(true));
            }
            if tokio::time::timeout(Duration::from_millis(10), stop.cancelled()).await.is_ok() {
                break;
            }
        }
        writer
    })
}

/// A bare RTMP viewer.
struct Viewer {
    socket: TcpStream,
    /// The end of what was read, in which a mark may be cut.
    rest: Vec<u8>,
    /// Numbers of the pictures that came.
    numbers: Vec<u32>,
    /// Bytes that came.
    read: u64,
    /// Messages with metadata, of which one precedes each change of the tracks.
    told: usize,
}

impl Viewer {
    async fn join(addr: SocketAddr, query: &str) -> Self {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let mut hello = vec![3];
        hello.resize(1 + 2 * 1536, 0);
        let app = [&[3, 0, 3][..], b"app", &text(&format!("cam{query}")), &[0, 0, 9]].concat();
        hello.extend(message(20, &[text("connect"), number(1.0), app].concat()));
        let create = [text("createStream"), number(2.0), vec![5]].concat();
        hello.extend(message(20, &create));
        hello.extend(message(20, &[text("play"), number(3.0), vec![5], text("")].concat()));
        socket.write_all(&hello).await.unwrap();
        Self { socket, rest: Vec::new(), numbers: Vec::new(), read: 0, told: 0 }
    }

    /// Reads once; false at the end.
    async fn read(&mut self) -> bool {
        let mut bytes = vec![0; 64 << 10];
        let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut bytes)).await;
        let Ok(count @ 1..) = read.expect("the stream goes on") else { return false };
        self.read += count as u64;
        self.rest.extend_from_slice(&bytes[..count]);
        let mut at = 0;
        while let Some(found) = find(&self.rest[at..], MARK) {
            let Some(number) = self.rest.get(at + found + 8..at + found + 16) else { break };
            self.numbers.push(std::str::from_utf8(number).unwrap().parse().unwrap());
            at += found + 16;
        }
        let keep = self.rest.len().saturating_sub(15).max(at);
        // Those that begin before `keep`, each of which is seen once.
        let whole = &self.rest[..(keep + 9).min(self.rest.len())];
        self.told += whole.windows(10).filter(|bytes| bytes == b"onMetaData").count();
        self.rest.drain(..keep);
        true
    }

    /// Reads until picture `number` has come.
    async fn until(&mut self, number: u32) {
        while self.numbers.last().is_none_or(|last| *last < number) {
            assert!(self.read().await, "the server hung up after {:?}", self.numbers.last());
        }
    }

    /// It began with a key picture, and each came once and in its place.
    fn assert_whole(&self) {
        assert!(self.numbers[0].is_multiple_of(GROUP), "{:?}", self.numbers);
        assert!(self.numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{:?}", self.numbers);
    }

    /// Asks the server for a sign of life (7.1.7).
    async fn ping(&mut self) {
        let bytes = [&[2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0][..], &[0, 6, 1, 2, 3, 4]].concat();
        self.socket.write_all(&bytes).await.unwrap();
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A message in chunks of 128 bytes, the size at the begin.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![3, 0, 0, 0];
    bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, 1, 0, 0, 0]);
    for (index, chunk) in body.chunks(128).enumerate() {
        if index > 0 {
            bytes.push(0xC3);
        }
        bytes.extend(chunk);
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&[2, 0, text.len() as u8], text.as_bytes()].concat()
}

fn number(number: f64) -> Vec<u8> {
    [&[0], &number.to_be_bytes()[..]].concat()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn watching(node: &Node) -> usize {
    let sessions = node.sessions.list();
    sessions.iter().filter(|session| session.state == SessionState::Read).count()
}

/// Viewers of two rows come while the stream runs, some of them talk, and its tracks change.
async fn everybody_gets_everything(merge: Duration) {
    let node = Node::start(|config| {
        config.merge = merge;
        config.idle_connections_max = 1000;
    })
    .await;
    let stop = CancellationToken::new();
    let writing = go_on(publish(&node), 1000, stop.clone());
    let viewers = (0..300).map(|index| async move {
        let mut viewer = Viewer::join(node.addr, "").await;
        viewer.until(30).await;
        if index % 10 == 0 {
            viewer.ping().await;
        }
        let so_far = viewer.numbers[viewer.numbers.len() - 1];
        viewer.until(so_far.max(100) + 20).await;
        viewer.assert_whole();
        viewer
    });
    let mut viewers = join_all(viewers).await;
    stop.cancel();
    drop(writing.await.unwrap());
    for viewer in &mut viewers {
        while viewer.read().await {}
        viewer.assert_whole();
        assert!(viewer.told >= 1);
    }
    until("the end of all", || node.sessions.list().is_empty()).await;
    let read: u64 = viewers.iter().map(|viewer| viewer.read).sum();
    let counted = node.counters.snapshot();
    assert_eq!((counted.bytes_out, counted.failed), (read, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_viewers_gets_every_picture_once_and_in_order() {
    everybody_gets_everything(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_viewers_gets_every_picture_when_writes_are_merged() {
    everybody_gets_everything(Duration::from_millis(40)).await;
}

/// Far more than the sockets of both sides hold, far less than a stream keeps.
const PICTURES: u32 = 400;
const PICTURE_BYTES: usize = 50_000;

#[tokio::test]
async fn a_viewer_that_pauses_gets_what_it_missed_and_nobody_waits_for_it() {
    let node = Node::start(|config| config.write_timeout = PATIENCE).await;
    let mut writer = publish(&node);
    let mut pausing = Viewer::join(node.addr, "").await;
    let mut reading = Viewer::join(node.addr, "").await;
    until("two viewers", || watching(&node) == 2).await;
    for number in 0..PICTURES {
        writer.write(picture(number, PICTURE_BYTES));
        reading.until(number).await;
    }
    assert!(pausing.numbers.is_empty());
    pausing.until(PICTURES - 1).await;
    // It is back among the others.
    writer.write(picture(PICTURES, 1000));
    for viewer in [&mut pausing, &mut reading] {
        viewer.until(PICTURES).await;
        viewer.assert_whole();
    }
    assert_eq!(node.counters.snapshot().failed, 0);
}

#[tokio::test]
async fn a_viewer_that_reads_nothing_is_let_go() {
    let node = Node::start(|config| config.write_timeout = Duration::from_secs(2)).await;
    let mut writer = publish(&node);
    let mut reading = Viewer::join(node.addr, "").await;
    let deaf = Viewer::join(node.addr, "").await;
    until("two viewers", || watching(&node) == 2).await;
    for number in 0..PICTURES {
        writer.write(picture(number, PICTURE_BYTES));
        reading.until(number).await;
    }
    until("its end", || watching(&node) == 1).await;
    assert_eq!(node.counters.snapshot().failed, 1);
    writer.write(picture(PICTURES, 1000));
    reading.until(PICTURES).await;
    reading.assert_whole();
    drop(deaf);
}

#[tokio::test]
async fn a_viewer_can_be_sent_away_though_nothing_is_sent() {
    let node = Node::start(|_| {}).await;
    let mut writer = publish(&node);
    writer.write(picture(0, 1000));
    let mut viewers = [Viewer::join(node.addr, "").await, Viewer::join(node.addr, "").await];
    for viewer in &mut viewers {
        viewer.until(0).await;
    }
    let sessions = node.sessions.list();
    let watches = sessions.iter().find(|session| session.state == SessionState::Read);
    assert!(node.sessions.kick(&watches.unwrap().id));
    until("its end", || watching(&node) == 1).await;
    // The other one goes on, and so does the stream when both are gone.
    let [first, second] = &mut viewers;
    let (other, gone) = tokio::select! {
        biased;
        went_on = first.read() => { assert!(!went_on); (second, first) }
        went_on = second.read() => { assert!(!went_on); (first, second) }
    };
    assert_eq!(gone.numbers, [0]);
    writer.write(picture(1, 1000));
    other.until(1).await;
    drop(viewers);
    until("the end of all", || node.sessions.list().is_empty()).await;
    writer.write(picture(2, 1000));
    Viewer::join(node.addr, "").await.until(2).await;
}

#[tokio::test]
async fn viewers_of_a_publisher_end_with_it_and_those_of_the_next_begin_with_that() {
    let node = Node::start(|_| {}).await;
    for first in [0, 500] {
        let mut writer = publish(&node);
        writer.write(picture(first, 1000));
        let mut viewer = Viewer::join(node.addr, "").await;
        for number in first + 1..first + 5 {
            viewer.until(number - 1).await;
            writer.write(picture(number, 1000));
        }
        drop(writer);
        while viewer.read().await {}
        assert_eq!(viewer.numbers, (first..first + 5).collect::<Vec<_>>());
    }
}

/// Breaks where `panic` is asked for, and lets in everybody else.
struct Breaks;

impl Access for Breaks {
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        Box::pin(async move {
            assert!(request.query != "panic", "on purpose");
            Ok(Grant::of(&request))
        })
    }
}

#[tokio::test]
async fn what_breaks_in_one_session_ends_that_session_alone() {
    let node = Node::with_access(|_| {}, Arc::new(Breaks)).await;
    let mut writer = publish(&node);
    writer.write(picture(0, 1000));
    let mut viewer = Viewer::join(node.addr, "").await;
    viewer.until(0).await;
    let mut broken = Viewer::join(node.addr, "?panic").await;
    while broken.read().await {}
    assert!(broken.numbers.is_empty());
    until("the count", || node.counters.snapshot().failed == 1).await;
    writer.write(picture(1, 1000));
    viewer.until(1).await;
}
