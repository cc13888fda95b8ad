//! Targets for the fuzzer: everything here that reads bytes from outside.

use std::time::{Duration, Instant};

use super::packet::RtpPacket;
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

/// Feeds packets, each behind its length in one byte, through reordering and depacketising.
pub fn depacketise(mut bytes: &[u8]) {
    let mut now = Instant::now();
    let mut reorder = Reorder::new(true);
    let mut depacketiser = Depacketiser::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (packet, rest) = rest.split_at(usize::from(length).min(rest.len()));
        bytes = rest;
        if let Ok(packet) = RtpPacket::parse(packet) {
            reorder.insert(now, packet.seq, packet);
        }
        while let Some(output) = reorder.poll(now) {
            if let Output::Packet(seq, packet) = output {
                let (time, marker) = (packet.time, packet.marker);
                let _ = depacketiser.push(seq, time, marker, packet.payload, now);
                while let Some(unit) = depacketiser.poll() {
                    assert!(unit.data.starts_with(&[0, 0, 0, 1]));
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

/// Seeds of [`depacketise`]: a single unit, an aggregate, two fragments.
pub const DEPACKETISE_SEEDS: &[&[u8]] = &[
    b"\x0e\x80\xe0\0\x01\0\0\0\x02\0\0\0\x03\x65\x88",
    b"\x15\x80\x60\0\x01\0\0\0\x02\0\0\0\x03\x78\0\x02\x67\x42\0\x02\x68\xce\
      \x0f\x80\x60\0\x02\0\0\0\x02\0\0\0\x03\x7c\x85\x88\
      \x0f\x80\xe0\0\x03\0\0\0\x02\0\0\0\x03\x7c\x45\x80",
];
