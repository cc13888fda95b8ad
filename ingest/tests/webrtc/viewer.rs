//! What a viewer gets: the cached group, retransmissions, key pictures on request, the goodbye.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest::rtp::packet::{RtpPacket, Seq};
use ingest::rtp::rtcp::{Compound, Message, messages};
use ingest::rtp::rtx;

use crate::harness::{Node, PPS, SPS, Source};
use crate::peer::{PATIENCE, Peer, SILENCE};

fn ssrc(peer: &Peer) -> u32 {
    let line = peer.answer_value("a=ssrc-group:FID ");
    line.split(' ').next().unwrap().parse().unwrap()
}

fn lost(peer: &Peer, seqs: &[Seq]) -> Vec<u8> {
    let mut rtcp = Vec::new();
    Compound::new(&mut rtcp).receiver_report(peer.ssrc, &[]).nack(peer.ssrc, ssrc(peer), seqs);
    rtcp
}

/// A connected viewer and the packets of the first key picture.
async fn watching(node: &Node, source: &mut Source) -> (Peer, BTreeMap<u16, Vec<u8>>) {
    source.picture(true, 5000);
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    peer.connect().await;
    let mut packets = BTreeMap::new();
    loop {
        let packet = peer.rtp(96, PATIENCE).await.expect("the cached key picture");
        let head = RtpPacket::parse(&packet).unwrap();
        let (seq, marker) = (head.seq.0, head.marker);
        packets.insert(seq, packet);
        if marker {
            return (peer, packets);
        }
    }
}

#[tokio::test]
async fn a_viewer_begins_with_the_cached_group_and_goes_on_live() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 3000);
    for _ in 0..5 {
        source.picture(false, 1500);
    }
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    peer.connect().await;
    let mut pictures = Vec::new();
    let mut last: Option<u16> = None;
    while pictures.len() < 7 {
        if pictures.len() == 6 {
            source.picture(false, 1500);
        }
        let packet = peer.rtp(96, PATIENCE).await.expect("a picture");
        let head = RtpPacket::parse(&packet).unwrap();
        assert!(last.is_none_or(|last| head.seq.0 == last.wrapping_add(1)), "a gap");
        last = Some(head.seq.0);
        assert_eq!(head.ssrc, ssrc(&peer));
        if head.marker {
            pictures.push(head.time);
        }
    }
    assert!(pictures.windows(2).all(|pair| pair[1].since(pair[0]) > 0), "{pictures:?}");
}

#[tokio::test]
async fn parameter_sets_stand_before_the_first_picture() {
    let node = Node::new();
    let mut source = node.publish("cam");
    let (_, packets) = watching(&node, &mut source).await;
    let first = packets.values().next().unwrap();
    let payload = RtpPacket::parse(first).unwrap().payload;
    let find = |wanted: &[u8]| payload.windows(wanted.len()).any(|window| window == wanted);
    assert!(find(SPS) && find(PPS), "{payload:x?}");
}

#[tokio::test]
async fn a_lost_packet_comes_again_on_the_repair_stream() {
    let node = Node::new();
    let mut source = node.publish("cam");
    let (mut peer, packets) = watching(&node, &mut source).await;
    let (&seq, original) = packets.iter().nth(1).unwrap();
    let rtcp = lost(&peer, &[Seq(seq)]);
    peer.send_rtcp(&rtcp).await;
    let repair = peer.rtp(97, PATIENCE).await.expect("a retransmission");
    let (head, original) =
        (RtpPacket::parse(&repair).unwrap(), RtpPacket::parse(original).unwrap());
    assert_eq!(rtx::unwrap(head.payload), Some((Seq(seq), original.payload)));
    assert_eq!((head.time, head.marker), (original.time, original.marker));
    node.until("the figures", |sessions| sessions[0].nacks == 1 && sessions[0].packets_resent == 1)
        .await;
    let unknown = lost(&peer, &[Seq(seq.wrapping_add(20_000))]);
    peer.send_rtcp(&unknown).await;
    assert_eq!(peer.rtp(97, SILENCE).await, None);
}

#[tokio::test]
async fn without_a_repair_stream_the_very_same_packet_comes_again() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 5000);
    let mut peer = Peer::new().await;
    let offer = peer.offer("recvonly").replace("rtx/90000", "x/90000");
    let response = node.post("/cam/whep", offer).await;
    peer.answered(crate::harness::text(response).await);
    peer.ice().await;
    assert!(peer.dtls().await);
    let sealed = loop {
        let datagram = peer.receive(PATIENCE).await.expect("a picture");
        if datagram[0] >= 128 && datagram[1] & 0x7f == 96 {
            break datagram;
        }
    };
    let media = u32::from_be_bytes([sealed[8], sealed[9], sealed[10], sealed[11]]);
    let seq = Seq(u16::from_be_bytes([sealed[2], sealed[3]]));
    let mut rtcp = Vec::new();
    Compound::new(&mut rtcp).receiver_report(9, &[]).nack(9, media, &[seq]);
    peer.send_rtcp(&rtcp).await;
    loop {
        let datagram = peer.receive(PATIENCE).await.expect("the packet again");
        if datagram == sealed {
            return;
        }
    }
}

#[tokio::test]
async fn a_wish_for_a_key_picture_reaches_the_publisher() {
    let node = Node::new();
    let mut source = node.publish("cam");
    let mut requests = source.writer.key_requests();
    let (mut peer, _) = watching(&node, &mut source).await;
    let mut rtcp = Vec::new();
    Compound::new(&mut rtcp).picture_loss(peer.ssrc, ssrc(&peer));
    peer.send_rtcp(&rtcp).await;
    tokio::time::timeout(PATIENCE, requests.next()).await.expect("the wish");
    node.until("the figure", |sessions| sessions[0].plis == 1).await;
}

#[tokio::test]
async fn reports_put_sound_and_picture_on_one_clock() {
    let node = Node::new();
    let mut source = node.publish("cam");
    let (mut peer, _) = watching(&node, &mut source).await;
    source.sound(b"\xfcsound");
    source.picture(false, 500);
    let mut walls = BTreeMap::new();
    while walls.len() < 2 {
        let packet = peer.media(PATIENCE).await.expect("a report");
        for message in messages(&packet).flatten() {
            if let Message::SenderReport { ssrc, wall, packets, .. } = message {
                assert!(packets > 0);
                walls.insert(ssrc, wall);
            }
        }
        if walls.len() < 2 {
            source.sound(b"\xfcsound");
        }
    }
    let distance = walls.values().max_by_key(|w| w.0).unwrap().0
        - walls.values().min_by_key(|w| w.0).unwrap().0;
    assert!(distance >> 32 < 5, "{walls:?}");
}

#[tokio::test]
async fn the_end_is_told_to_both_sides() {
    let node = Node::new();
    let mut source = node.publish("cam");
    let (mut peer, _) = watching(&node, &mut source).await;
    let id = node.server.sessions().await[0].id.clone();
    assert!(!node.server.kick("nobody").await);
    assert!(node.server.kick(&id).await);
    loop {
        let rtcp = peer.media(PATIENCE).await.expect("a goodbye");
        if messages(&rtcp).flatten().any(|message| matches!(message, Message::Goodbye(_))) {
            break;
        }
    }
    let alert = peer.receive(PATIENCE).await.expect("close_notify");
    assert_eq!(alert[0], 21);
    assert!(node.server.sessions().await.is_empty());

    let (mut peer, _) = watching(&node, &mut source).await;
    let mut rtcp = Vec::new();
    Compound::new(&mut rtcp).receiver_report(peer.ssrc, &[]).goodbye(&[peer.ssrc]);
    peer.send_rtcp(&rtcp).await;
    node.until_empty().await;
}

#[tokio::test]
async fn viewers_stay_when_the_publisher_comes_back_and_go_when_it_does_not() {
    let config = ingest::webrtc::Config {
        rejoin_timeout: Duration::from_millis(1500),
        ..Default::default()
    };
    let node = Node::with(config);
    let mut source = node.publish("cam");
    let (mut peer, packets) = watching(&node, &mut source).await;
    drop(source);
    let mut source = node.publish("cam");
    source.picture(true, 700);
    let packet = peer.rtp(96, PATIENCE).await.expect("the new publisher's picture");
    let head = RtpPacket::parse(&packet).unwrap();
    let last = *packets.keys().next_back().unwrap();
    assert_eq!(head.seq.0, last.wrapping_add(1), "numbers go on");
    drop(source);
    node.until_empty().await;
}
