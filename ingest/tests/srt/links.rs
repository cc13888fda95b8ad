//! Over links that lose, delay and reorder: what was sent is there, and the link is what it says.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingest::hub::{Item, Reader};
use pipeline::TrackKind;
use pipeline::mpegts::{Demuxer, Event};

use crate::link::{Link, Way};
use crate::node::{Node, PATIENCE, clip, clip_of, run};

/// Each picture's bytes, until the stream ends.
async fn pictures(mut reader: Reader) -> Vec<Bytes> {
    let mut all = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("the stream goes on") {
            Item::Packet(packet) if packet.kind == TrackKind::Video => all.push(packet.data),
            Item::Lagged(lost) => panic!("{lost} packets lost"),
            Item::End => return all,
            _ => {}
        }
    }
}

/// The same of a file.
fn pictures_of(path: &Path) -> Vec<Bytes> {
    let (mut demuxer, mut events, now) = (Demuxer::new(), Vec::new(), Instant::now());
    demuxer.push(now, &std::fs::read(path).unwrap(), &mut events);
    demuxer.end_of_segment(now, &mut events);
    let pictures = events.into_iter().filter_map(|event| match event {
        Event::Packet(packet) if packet.kind == TrackKind::Video => Some(packet.data),
        _ => None,
    });
    pictures.collect()
}

/// ffmpeg publishes a clip over such a link; every byte of every picture arrives.
async fn arrives_whole(seed: u64, way: Way, latency_ms: u64) {
    let node = Node::start(|config| config.latency = Duration::from_millis(latency_ms)).await;
    let link = Link::both(node.addr, seed, way);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    clip(&path).await;
    // ffmpeg's latency is in microseconds.
    let line = format!(
        "-v error -re -i {} -c copy -f mpegts srt://{}?streamid=publish:cam&linger=3&latency={}",
        path.display(),
        link.addr(),
        latency_ms * 1000,
    );
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    let reader = node.reader("cam").await;
    let got = pictures(reader).await;
    let output = push.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = link.seen();
    let counters = Arc::clone(&node.counters);
    // What a session lost is counted when it is over.
    node.stop().await;
    let counted = counters.snapshot();
    println!("{way:?}: {seen:?}, {counted:?}");
    assert_eq!(counted.lost, 0, "packets that never came");
    assert!(seen[0].lost > 0 || way.loss == 0.0, "the link lost nothing: {seen:?}");
    assert_eq!(got.len(), 100);
    assert!(got == pictures_of(&path), "pictures differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_percent_loss_on_the_way_in_leaves_the_picture_whole() {
    arrives_whole(5, Way::of(10).losing(0.05), 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_in_bursts_reordering_and_doubles_leave_the_picture_whole() {
    let way = Way { burst: 3, twice: 0.02, ..Way::of(20).losing(0.06).shaking(8) };
    arrives_whole(6, way, 800).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_percent_loss_on_the_way_out_leaves_the_picture_whole() {
    let node = Node::start(|config| config.latency = Duration::from_millis(500)).await;
    let link = Link::both(node.addr, 7, Way::of(10).losing(0.05));
    let dir = tempfile::tempdir().unwrap();
    let (path, got) = (dir.path().join("clip.ts"), dir.path().join("got.ts"));
    clip_of(&path, 8).await;
    let line = format!(
        "-v error -re -i {} -c copy -f mpegts srt://{}?streamid=publish:cam",
        path.display(),
        node.addr
    );
    let push = tokio::spawn(async move { run("ffmpeg", &line).await });
    drop(node.reader("cam").await);
    let line = format!(
        "-v error -y -i srt://{}?streamid=read:cam&latency=500000 -t 4 -c copy -f mpegts {}",
        link.addr(),
        got.display()
    );
    let output = run("ffmpeg", &line).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = link.seen();
    assert!(seen[1].lost > 0, "the link lost nothing: {seen:?}");
    push.abort();
    node.stop().await;
    // What the player wrote is a stretch of what was published; at the player's end pictures are cut
    // off.
    let (sent, mut played) = (pictures_of(&path), pictures_of(&got));
    played.truncate(played.len().saturating_sub(3));
    assert!(played.len() > 75, "{} pictures", played.len());
    let start = sent.iter().position(|picture| same(picture, &played[0])).expect("it is known");
    for (index, picture) in played.iter().enumerate() {
        assert!(same(picture, &sent[start + index]), "picture {index} of {}", played.len());
    }
}

/// Whether two coded pictures are the same but for parameter sets, delimiters and notes around them,
/// which muxers add and leave out.
fn same(one: &[u8], other: &[u8]) -> bool {
    slices(one) == slices(other)
}

fn slices(picture: &[u8]) -> Vec<Vec<u8>> {
    let text = picture.windows(3).enumerate().filter(|(_, bytes)| *bytes == [0, 0, 1]);
    let starts: Vec<usize> = text.map(|(at, _)| at + 3).collect();
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([picture.len()]);
    let units = starts.iter().zip(ends).map(|(start, end)| &picture[*start..end]);
    let trim = |unit: &[u8]| {
        let end = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        unit[..end].to_vec()
    };
    units.filter(|unit| matches!(unit[0] & 0x1F, 1 | 5)).map(trim).collect()
}

/// Numbered datagrams through a link to a socket; what arrives, and how long each took.
fn numbered(link: &Link, far: &UdpSocket, count: u32) -> Vec<(u32, Duration)> {
    far.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let receiving = far.try_clone().unwrap();
    let start = Instant::now();
    let receiver = std::thread::spawn(move || {
        let (mut buffer, mut got) = ([0; 100], Vec::new());
        while let Ok((length, _)) = receiving.recv_from(&mut buffer) {
            assert_eq!(length, 12);
            let number = u32::from_be_bytes(buffer[..4].try_into().unwrap());
            let sent = u64::from_be_bytes(buffer[4..12].try_into().unwrap());
            got.push((number, start.elapsed() - Duration::from_nanos(sent)));
        }
        got
    });
    for number in 0..count {
        let sent = start.elapsed().as_nanos() as u64;
        let datagram = [&number.to_be_bytes()[..], &sent.to_be_bytes()[..]].concat();
        near.send_to(&datagram, link.addr()).unwrap();
        std::thread::sleep(Duration::from_micros(500));
    }
    receiver.join().unwrap()
}

#[test]
fn a_link_without_faults_changes_nothing_and_adds_next_to_nothing() {
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    let link = Link::both(far.local_addr().unwrap(), 1, Way::default());
    let got = numbered(&link, &far, 2000);
    assert!(got.iter().map(|(number, _)| *number).eq(0..2000), "in order, all of them");
    let mut times: Vec<_> = got.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    // How fast a loaded machine is says nothing about the code.
    println!("a link adds p50 {:?}, p99 {:?}", times[1000], times[1980]);
}

#[test]
fn a_link_loses_delays_reorders_and_cuts_as_it_is_told_and_the_same_each_time() {
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = far.local_addr().unwrap();
    let way = Way { twice: 0.05, ..Way::of(20).losing(0.1).shaking(5) };
    let run = |seed| {
        let link = Link::both(to, seed, way);
        let got = numbered(&link, &far, 2000);
        let seen = link.seen()[0];
        assert!(got.iter().all(|(_, time)| *time >= Duration::from_millis(20)));
        let mut numbers: Vec<_> = got.iter().map(|(number, _)| *number).collect();
        assert!(!numbers.is_sorted() && seen.overtaken > 0, "nothing was overtaken: {seen:?}");
        numbers.sort_unstable();
        let all = numbers.len();
        numbers.dedup();
        assert!((1..200).contains(&(all - numbers.len())), "{} doubles", all - numbers.len());
        assert_eq!((seen.datagrams, seen.lost), (2000, 2000 - numbers.len() as u64));
        numbers
    };
    let once = run(11);
    assert!((1700..1900).contains(&once.len()), "{} of 2000 at 10 % loss", once.len());
    assert_eq!(once, run(11), "the same seed");
    assert_ne!(once, run(12), "another seed");

    let link = Link::both(to, 1, Way { cut: true, ..Way::default() });
    assert!(numbered(&link, &far, 20).is_empty());
    link.set(Way::default(), Way::default());
    assert_eq!(numbered(&link, &far, 20).len(), 20);
    // 12 bytes each 0.5 ms are 24 kB/s: half of it fits.
    let way = Way { rate: Some(12_000), queue: Duration::from_millis(50), ..Way::default() };
    link.set(way, way);
    let got = numbered(&link, &far, 1000).len();
    assert!(got < 950, "{got} of 1000 at half the rate");
}
