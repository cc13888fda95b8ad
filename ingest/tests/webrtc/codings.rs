//! Every coding through the node: what a publisher sends in its RTP form is in the hub in ours, and
//! viewers who offer it get the same bytes again.

use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use ingest::hub::{Item, Start};
use ingest::name::StreamName;
use ingest::rtp::packet::{ExtSeq, Header, RtpPacket, RtpTime, Seq};
use ingest::rtp::payload::{Packetiser, PictureDepacketiser};
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks, video};

use crate::harness::{Node, PPS, SPS, annex_b, slice, text};
use crate::peer::{PATIENCE, Peer};

/// A beginning of a real encoder's key picture.
pub(crate) fn key_picture(codec: Codec) -> Bytes {
    let name = match codec {
        Codec::H264 => return annex_b(&[SPS, PPS, &slice(true, 500, 1)]),
        Codec::Hevc => "hevc_unit",
        Codec::Vp8 => "vp8",
        Codec::Vp9 => "vp9",
        _ => "av1_unit",
    };
    let target = pipeline::fuzz::TARGETS.iter().find(|target| target.name == name).unwrap();
    Bytes::from_static(target.seeds[0])
}

/// The offer with these codings and no others.
fn offer(peer: &Peer, direction: &str, picture: Codec, sound: Codec) -> String {
    let offer = peer.offer(direction);
    let kept = offer.lines().filter(|line| !line.starts_with("a=fmtp:96"));
    let text: Vec<&str> = kept.collect();
    let text = text.join("\r\n") + "\r\n";
    let text = text.replace("96 H264/", &format!("96 {picture}/"));
    let text = if picture == Codec::H264 {
        text.replace(
            "a=rtcp-fb:96 nack\r\n",
            "a=fmtp:96 packetization-mode=1\r\na=rtcp-fb:96 nack\r\n",
        )
    } else {
        text
    };
    match sound {
        Codec::G711U => {
            text.replace("SAVPF 111", "SAVPF 0").replace("a=rtpmap:111 opus/48000/2\r\n", "")
        }
        Codec::G711A => text.replace("opus/48000/2", "PCMA/8000"),
        _ => text,
    }
}

async fn open(node: &Node, peer: &mut Peer, path: &str, offer: String) {
    let response = node.post(path, offer).await;
    let status = response.status();
    let answer = text(response).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    peer.answered(answer);
    peer.connect().await;
}

/// Publishes one picture and one frame of sound, and watches both.
async fn there_and_back(picture: Codec, sound: Codec) {
    let node = Node::new();
    let mut publisher = Peer::new().await;
    let first = offer(&publisher, "sendonly", picture, sound);
    open(&node, &mut publisher, "/cam/whip", first).await;
    let name = StreamName::parse("cam").unwrap();
    let mut reader = node.hub.subscribe(&name, Start::Live).unwrap();

    let unit = video::Assembler::new(picture).unwrap().unit(key_picture(picture)).unwrap().unwrap();
    let packet = |kind, data| Packet {
        kind,
        pts: Pts(0),
        dts: Pts(0),
        key: true,
        data,
        arrived: Instant::now(),
    };
    let packets =
        Packetiser::new(picture, 200).packetise(&packet(TrackKind::Video, unit.data.clone()));
    let packets = packets.unwrap();
    let number = if sound == Codec::G711U { 0 } else { 111 };
    let rate = if sound == Codec::Opus { 48_000 } else { 8000 };
    let wave: Bytes =
        if sound == Codec::Opus { vec![0x7c, 1, 2, 3] } else { vec![0x55; 160] }.into();
    for index in 0..packets.len() {
        let header = Header {
            marker: packets.marker(index),
            payload_type: 96,
            seq: Seq(index as u16),
            time: RtpTime(9000),
            ssrc: publisher.ssrc,
        };
        let mut bytes = Vec::new();
        header.write(&[], &mut bytes);
        bytes.extend_from_slice(packets.payload(index).unwrap());
        publisher.send_rtp(&bytes).await;
    }
    let header = Header {
        marker: true,
        payload_type: number,
        seq: Seq(7),
        time: RtpTime(800),
        ssrc: publisher.ssrc.wrapping_add(1),
    };
    let mut bytes = Vec::new();
    header.write(&[], &mut bytes);
    bytes.extend_from_slice(&wave);
    publisher.send_rtp(&bytes).await;

    let (mut tracks, mut seen) = (Tracks::default(), Vec::new());
    while seen.len() < 2 {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("both media") {
            Item::Tracks(new) => tracks = (*new).clone(),
            Item::Packet(packet) => seen.push(packet),
            _ => panic!("the stream ended"),
        }
    }
    assert_eq!(tracks.video.as_ref().map(|track| track.codec), Some(picture));
    let described = |track: &AudioTrack| (track.codec, track.sample_rate);
    assert_eq!(tracks.audio.as_ref().map(described), Some((sound, rate)));
    for packet in seen {
        assert_eq!(
            packet.data,
            if packet.kind.is_video() { &unit.data } else { &wave },
            "{picture}"
        );
    }

    let mut viewer = Peer::new().await;
    let second = offer(&viewer, "recvonly", picture, sound);
    open(&node, &mut viewer, "/cam/whep", second).await;
    let mut joiner = PictureDepacketiser::new(picture).unwrap();
    let shown = loop {
        let bytes = viewer.rtp(96, PATIENCE).await.expect("the picture");
        let head = RtpPacket::parse(&bytes).unwrap();
        let seq = ExtSeq(u64::from(head.seq.0));
        joiner.push(seq, head.time, head.marker, head.payload, Instant::now()).unwrap();
        if let Some(unit) = joiner.poll() {
            break unit;
        }
    };
    assert_eq!(shown.data, unit.data);
    assert!(shown.key);
    publisher
        .send_rtp(&{
            let header = Header { seq: Seq(8), time: RtpTime(960), ..header };
            let mut bytes = Vec::new();
            header.write(&[], &mut bytes);
            bytes.extend_from_slice(&wave);
            bytes
        })
        .await;
    let bytes = viewer.rtp(number, PATIENCE).await.expect("the sound");
    assert_eq!(RtpPacket::parse(&bytes).unwrap().payload, &wave[..]);
}

#[tokio::test]
async fn every_coding_travels_from_a_publisher_to_a_viewer() {
    for (picture, sound) in [
        (Codec::H264, Codec::Opus),
        (Codec::Hevc, Codec::G711U),
        (Codec::Vp8, Codec::G711A),
        (Codec::Vp9, Codec::Opus),
        (Codec::Av1, Codec::G711U),
    ] {
        there_and_back(picture, sound).await;
    }
}

#[tokio::test]
async fn viewers_of_a_stream_that_goes_on_in_another_coding_have_to_ask_again() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut viewer = Peer::new().await;
    node.open(&mut viewer, "/cam/whep").await;
    viewer.connect().await;
    assert!(viewer.rtp(96, PATIENCE).await.is_some());
    let mut assembler = video::Assembler::new(Codec::Vp9).unwrap();
    let unit = assembler.unit(key_picture(Codec::Vp9)).unwrap().unwrap();
    assert!(unit.key);
    source.writer.set_tracks(Tracks { video: assembler.track(), audio: None });
    node.until_empty().await;
}
