//! Targets for the fuzzer: everything here that reads bytes from outside.

use std::time::{Duration, Instant};

use pipeline::Codec;

use super::packet::RtpPacket;
use super::payload::aac::Lengths;
use super::payload::{PictureDepacketiser, SoundDepacketiser, SoundFormat, UNIT_BYTES_MAX};
use super::reorder::{Output, Reorder};
use super::rtcp::{Message, messages};

/// Reads a header and its extensions.
pub fn header(bytes: &[u8]) {
    if let Ok(packet) = RtpPacket::parse(bytes) {
        assert!(packet.header_bytes + packet.payload.len() <= bytes.len());
        assert!(packet.extensions().count() <= bytes.len());
        assert!(super::opus::duration(packet.payload).is_err() || !packet.payload.is_empty());
        let _ = super::rtx::unwrap(packet.payload);
    }
}

/// Reads a compound packet to the end of each list in it.
pub fn rtcp(bytes: &[u8]) {
    for message in messages(bytes).flatten() {
        match message {
            Message::SenderReport { blocks, .. } | Message::ReceiverReport { blocks, .. } => {
                assert!(blocks.count() <= 31);
            }
            Message::Nack { lost, .. } => assert!(lost.count() <= bytes.len() * 17),
            Message::FullIntra { entries, .. } => assert!(entries.count() <= bytes.len()),
            Message::Goodbye(words) | Message::Bitrate { streams: words, .. } => {
                assert!(words.count() <= bytes.len());
            }
            Message::TransportFeedback { feedback, .. } => {
                assert!(feedback.count() <= usize::from(u16::MAX));
            }
            _ => {}
        }
    }
}

/// Feeds packets, each behind its length in one byte, through reordering and the depacketiser that
/// the first byte chooses.
pub fn depacketise(bytes: &[u8]) {
    let Some((&choice, mut bytes)) = bytes.split_first() else { return };
    let (mut pictures, mut sounds) = (None, None);
    match choice % 9 {
        0 => pictures = PictureDepacketiser::new(Codec::H264),
        1 => pictures = PictureDepacketiser::new(Codec::Hevc),
        2 => pictures = PictureDepacketiser::new(Codec::Vp8),
        3 => pictures = PictureDepacketiser::new(Codec::Vp9),
        4 => pictures = PictureDepacketiser::new(Codec::Av1),
        5 => sounds = Some(SoundFormat::Aac { lengths: Lengths::HBR, step: 1024 }),
        6 => sounds = Some(SoundFormat::Latm { step: 1024 }),
        7 => sounds = Some(SoundFormat::Mpa),
        _ => sounds = Some(SoundFormat::Opus),
    }
    let mut sounds = sounds.map(SoundDepacketiser::new);
    let mut now = Instant::now();
    let mut reorder = Reorder::new(true);
    while let Some((&length, rest)) = bytes.split_first() {
        let (packet, rest) = rest.split_at(usize::from(length).min(rest.len()));
        bytes = rest;
        if let Ok(packet) = RtpPacket::parse(packet) {
            reorder.insert(now, packet.seq, packet);
        }
        while let Some(output) = reorder.poll(now) {
            let Output::Packet(seq, packet) = output else { continue };
            let (time, marker) = (packet.time, packet.marker);
            if let Some(pictures) = &mut pictures {
                let _ = pictures.push(seq, time, marker, packet.payload, now);
                while let Some(unit) = pictures.poll() {
                    assert!(!unit.data.is_empty() && unit.data.len() <= UNIT_BYTES_MAX);
                }
            }
            if let Some(sounds) = &mut sounds {
                let _ = sounds.push(seq, time, marker, packet.payload, now);
                while let Some(unit) = sounds.poll() {
                    assert!(!unit.data.is_empty());
                }
            }
        }
        now += Duration::from_millis(7);
    }
}

/// Seeds of [`header`]: a plain packet, one with one-byte and one with two-byte extensions.
pub const HEADER_SEEDS: &[&[u8]] = &[
    b"\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x65\x88",
    b"\x90\x60\0\x01\0\0\0\x02\0\0\0\x03\xbe\xde\0\x02\x31\x07\x08\0\x50\x09\xf0\0x",
    b"\x90\x60\0\x01\0\0\0\x02\0\0\0\x03\x10\0\0\x02\x14\0\x15\x03\x01\x02\x03\0",
];

/// Seeds of [`rtcp`]: reports, NACK with PLI, REMB, transport-wide feedback, goodbye.
pub const RTCP_SEEDS: &[&[u8]] = &[
    b"\x80\xc8\0\x06\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\0\0\0\x06",
    b"\x81\xc9\0\x07\0\0\0\x01\0\0\0\x02\x10\0\0\x03\0\0\0\x04\0\0\0\x05\0\0\0\x06\0\0\0\x07",
    b"\x81\xcd\0\x03\0\0\0\x01\0\0\0\x02\0\x05\x80\x01\x81\xce\0\x02\0\0\0\x01\0\0\0\x02",
    b"\x8f\xce\0\x05\0\0\0\x01\0\0\0\0REMB\x01\x0f\xff\xff\0\0\0\x02",
    b"\x8f\xcd\0\x06\0\0\0\x01\0\0\0\x02\0\x05\0\x03\0\0\x01\0\x20\x03\x04\x08\x0c\0\0\0",
    b"\x81\xcb\0\x01\0\0\0\x01",
];

/// Seeds of [`depacketise`]: for each format a key frame in pieces, or frames together.
pub const DEPACKETISE_SEEDS: &[&[u8]] = &[
    b"\x00\x0e\x80\xe0\0\x01\0\0\0\x02\0\0\0\x03\x65\x88",
    b"\x00\x15\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x78\0\x02\x67\x42\0\x02\x68\xce\
      \x0f\x80\x60\0\x02\0\0\0\x02\0\0\0\x03\x7c\x85\x88\
      \x0f\x80\xe0\0\x03\0\0\0\x02\0\0\0\x03\x7c\x45\x80",
    b"\x01\x16\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x60\x01\0\x03\x40\x01\x0c\0\x01\x42\
      \x10\x80\x60\0\x02\0\0\0\x02\0\0\0\x03\x62\x01\x93\xaf\
      \x10\x80\xe0\0\x03\0\0\0\x02\0\0\0\x03\x62\x01\x53\x08",
    b"\x02\x13\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x90\xe0\x91\x22\x07\x40\x10\
      \x0f\x80\xe0\0\x02\0\0\0\x02\0\0\0\x03\0\x02\0",
    b"\x03\x19\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x8a\x91\x22\x18\x02\x80\x01\x68\x01\x04\x01\x82\x49\
      \x0f\x80\xe0\0\x02\0\0\0\x02\0\0\0\x03\x04\x83\x42",
    b"\x04\x12\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x68\x03\x08\x05\x06\x30\
      \x0e\x80\xe0\0\x02\0\0\0\x02\0\0\0\x03\x90\x10",
    b"\x05\x17\x80\xe0\0\x01\0\0\0\x02\0\0\0\x03\0\x20\0\x10\0\x18\x01\x02\x03\x04\x05\
      \x12\x80\x60\0\x02\0\0\0\x03\0\0\0\x03\0\x10\0\x28\x01\x02\
      \x13\x80\xe0\0\x03\0\0\0\x03\0\0\0\x03\0\x10\0\x28\x03\x04\x05",
    b"\x06\x0f\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x03\x01\x02\
      \x10\x80\xe0\0\x02\0\0\0\x02\0\0\0\x03\x03\x02\x08\x09",
    b"\x07\x14\x80\xe0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\xff\xfb\x94\x40\
      \x12\x80\xe0\0\x02\0\0\0\x02\0\0\0\x03\0\0\0\x04\x01\x02",
    b"\x08\x0e\x80\xe0\0\x01\0\0\0\x02\0\0\0\x03\xfc\x01",
];
