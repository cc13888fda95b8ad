//! What a publisher's packets become in the hub, and what it is asked for.

use std::time::Duration;

use ingest::hub::{Item, Reader, Start};
use ingest::name::StreamName;
use ingest::rtp::packet::{Header, RtpTime, Seq};
use ingest::rtp::rtcp::{Compound, Message, messages};
use ingest::rtp::rtx;
use pipeline::{Packet, TrackKind};

use crate::harness::{Node, PPS, SPS, annex_b, slice};
use crate::peer::{PATIENCE, Peer, SILENCE};

fn packet(peer: &Peer, kind: u8, seq: u16, time: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let header =
        Header { marker, payload_type: kind, seq: Seq(seq), time: RtpTime(time), ssrc: peer.ssrc };
    let mut out = Vec::new();
    header.write(&[], &mut out);
    out.extend_from_slice(payload);
    out
}

/// STAP-A of both parameter sets.
fn sets() -> Vec<u8> {
    let mut stap = vec![0x78];
    for set in [SPS, PPS] {
        stap.extend_from_slice(&(set.len() as u16).to_be_bytes());
        stap.extend_from_slice(set);
    }
    stap
}

async fn key_picture(peer: &mut Peer, seq: u16, time: u32) {
    for (offset, marker, payload) in [(0, false, sets()), (1, true, slice(true, 200, 1))] {
        let bytes = packet(peer, 96, seq + offset, time, marker, &payload);
        peer.send_rtp(&bytes).await;
    }
}

async fn delta(peer: &mut Peer, seq: u16, time: u32, fill: u8) {
    let bytes = packet(peer, 96, seq, time, true, &slice(false, 100, fill));
    peer.send_rtp(&bytes).await;
}

async fn next_packet(reader: &mut Reader) -> Packet {
    loop {
        let item = tokio::time::timeout(PATIENCE, reader.next()).await.expect("a packet");
        match item {
            Item::Packet(packet) => return packet,
            Item::End => panic!("the stream ended"),
            _ => {}
        }
    }
}

async fn publishing(node: &Node) -> (Peer, Reader) {
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whip").await;
    peer.connect().await;
    let name = StreamName::parse("cam").unwrap();
    let reader = node.hub.subscribe(&name, Start::Live).unwrap();
    (peer, reader)
}

/// The next message for which `pick` has an answer.
async fn feedback<T>(peer: &mut Peer, pick: impl Fn(Message<'_>) -> Option<T>) -> Option<T> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let rest = end.saturating_duration_since(std::time::Instant::now());
        let rtcp = peer.media(rest).await?;
        if let Some(found) = messages(&rtcp).flatten().find_map(&pick) {
            return Some(found);
        }
    }
}

#[tokio::test]
async fn pictures_and_sound_come_out_in_canonical_form_on_one_clock() {
    let node = Node::new();
    let (mut peer, mut reader) = publishing(&node).await;
    key_picture(&mut peer, 100, 9000).await;
    let first = next_packet(&mut reader).await;
    assert!(first.key);
    assert_eq!(first.data, annex_b(&[SPS, PPS, &slice(true, 200, 1)]));
    delta(&mut peer, 102, 12_000, 2).await;
    let second = next_packet(&mut reader).await;
    assert_eq!((second.pts - first.pts).0, 3000);
    let sound = packet(&peer, 111, 7, 48_000, false, b"\xfcsound");
    // Sound has a source of its own.
    let mut sound = sound;
    sound[8..12].copy_from_slice(&1_u32.to_be_bytes());
    peer.send_rtp(&sound).await;
    let heard = next_packet(&mut reader).await;
    assert_eq!((heard.kind, &heard.data[..]), (TrackKind::Audio, &b"\xfcsound"[..]));
    let tracks = node.hub.status(&StreamName::parse("cam").unwrap()).unwrap().tracks;
    assert_eq!(tracks.video.as_ref().unwrap().size, pipeline::Size::new(640, 360));
    assert_eq!(tracks.audio.as_ref().unwrap().channels, 2);
}

#[tokio::test]
async fn a_hole_is_asked_for_and_filled_from_the_repair_stream() {
    let node = Node::new();
    let (mut peer, mut reader) = publishing(&node).await;
    key_picture(&mut peer, 100, 9000).await;
    next_packet(&mut reader).await;
    delta(&mut peer, 103, 15_000, 3).await;
    let wanted = feedback(&mut peer, |message| match message {
        Message::Nack { lost, .. } => Some(lost.collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(wanted.await, Some(vec![Seq(102)]));
    let mut payload = Vec::new();
    rtx::wrap(Seq(102), &slice(false, 100, 2), &mut payload);
    let mut repair = packet(&peer, 97, 1, 12_000, true, &payload);
    repair[8..12].copy_from_slice(&2_u32.to_be_bytes());
    peer.send_rtp(&repair).await;
    assert_eq!(next_packet(&mut reader).await.data, annex_b(&[&slice(false, 100, 2)]));
    assert_eq!(next_packet(&mut reader).await.data, annex_b(&[&slice(false, 100, 3)]));
    node.until("the figures", |s| s[0].nacks > 0 && s[0].packets_resent == 1).await;
}

#[tokio::test]
async fn after_a_loss_nothing_is_shown_until_the_key_picture_that_is_asked_for() {
    let node = Node::new();
    let (mut peer, mut reader) = publishing(&node).await;
    key_picture(&mut peer, 100, 9000).await;
    next_packet(&mut reader).await;
    delta(&mut peer, 103, 15_000, 3).await;
    let pli = |message: Message<'_>| match message {
        Message::PictureLoss { media, .. } => Some(media),
        _ => None,
    };
    assert_eq!(feedback(&mut peer, pli).await, Some(peer.ssrc));
    delta(&mut peer, 104, 18_000, 4).await;
    key_picture(&mut peer, 105, 21_000).await;
    assert!(next_packet(&mut reader).await.key, "a damaged picture was shown");
}

#[tokio::test]
async fn a_readers_wish_and_the_interval_for_cuts_become_picture_loss_indications() {
    let config = ingest::webrtc::Config {
        key_interval: Some(Duration::from_millis(300)),
        ..Default::default()
    };
    let node = Node::with(config);
    let (mut peer, mut reader) = publishing(&node).await;
    key_picture(&mut peer, 100, 9000).await;
    next_packet(&mut reader).await;
    let pli = |message: Message<'_>| matches!(message, Message::PictureLoss { .. }).then_some(());
    assert!(feedback(&mut peer, pli).await.is_some(), "the interval");
    key_picture(&mut peer, 102, 12_000).await;
    next_packet(&mut reader).await;

    let node = Node::with(ingest::webrtc::Config { key_interval: None, ..Default::default() });
    let (mut peer, mut reader) = publishing(&node).await;
    key_picture(&mut peer, 100, 9000).await;
    next_packet(&mut reader).await;
    tokio::time::sleep(SILENCE).await;
    reader.request_key_frame();
    assert!(feedback(&mut peer, pli).await.is_some(), "the wish");
}

#[tokio::test]
async fn reports_and_a_bitrate_go_to_the_publisher() {
    let node = Node::new();
    let (mut peer, mut reader) = publishing(&node).await;
    key_picture(&mut peer, 100, 9000).await;
    next_packet(&mut reader).await;
    let block = feedback(&mut peer, |message| match message {
        Message::ReceiverReport { mut blocks, .. } => blocks.next(),
        _ => None,
    });
    assert_eq!(block.await.unwrap().ssrc, peer.ssrc);
    let rate = feedback(&mut peer, |message| match message {
        Message::Bitrate { bitrate, .. } => Some(bitrate),
        _ => None,
    });
    assert!(rate.await.unwrap() >= 1_500_000);
}

#[tokio::test]
async fn a_second_publisher_is_refused_or_takes_over() {
    let node = Node::with(ingest::webrtc::Config { take_over: true, ..Default::default() });
    let (mut first, _) = publishing(&node).await;
    let mut second = Peer::new().await;
    node.open(&mut second, "/cam/whip").await;
    let goodbye = |message: Message<'_>| matches!(message, Message::Goodbye(_)).then_some(());
    assert!(feedback(&mut first, goodbye).await.is_some());
    node.until("one session", |sessions| sessions.len() == 1).await;
    second.connect().await;
    node.until_connected().await;
}

#[tokio::test]
async fn a_publisher_that_says_goodbye_or_nothing_frees_its_name() {
    let config = ingest::webrtc::Config {
        publisher_timeout: Duration::from_millis(500),
        ..Default::default()
    };
    let node = Node::with(config);
    let (mut peer, mut reader) = publishing(&node).await;
    key_picture(&mut peer, 100, 9000).await;
    next_packet(&mut reader).await;
    let mut rtcp = Vec::new();
    Compound::new(&mut rtcp).receiver_report(peer.ssrc, &[]).goodbye(&[peer.ssrc]);
    peer.send_rtcp(&rtcp).await;
    node.until_empty().await;
    let (_peer, _reader) = publishing(&node).await;
    node.until_empty().await;
}
