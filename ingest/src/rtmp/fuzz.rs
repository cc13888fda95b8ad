//! What the fuzzer drives here: every parser of bytes from peers. Nothing may panic.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::amf::{self, Limits as AmfLimits};
use super::client::{self, call::Call, login::Credentials};
use super::handshake::Handshake;
use super::publish::Publish;
use super::session::{Event, Limits, Role, Session};

/// The client's half of a handshake, fed in two pieces.
pub(crate) fn handshake(bytes: &[u8]) {
    let mut handshake = Handshake::new([1; 32]);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    for piece in bytes.chunks(bytes.len() / 2 + 1) {
        input.extend_from_slice(piece);
        if !matches!(handshake.handle(&mut input, &mut output), Ok(false)) {
            return;
        }
    }
    assert!(output.len() <= 1 + 2 * super::handshake::BLOCK);
}

/// A whole session after a plain handshake, its wishes granted, its media taken.
pub(crate) fn session(bytes: &[u8]) {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let limits =
        Limits { handshake: second, command: second, idle: second, message_bytes: 1 << 20 };
    let mut session = Session::new(limits, [1; 32], now);
    let mut input = BytesMut::from(&[3_u8][..]);
    input.resize(1 + 2 * super::handshake::BLOCK, 0);
    input.extend_from_slice(bytes);
    let (mut media, mut out) = (Publish::default(), Vec::new());
    while let Ok(Some(event)) = session.handle(now, &mut input) {
        match event {
            Event::Wish(_) => session.accept(now),
            Event::Video(time, data) => drop(media.video(now, time, data, &mut out)),
            Event::Audio(time, data) => drop(media.audio(now, time, data, &mut out)),
            Event::Data(values) => media.metadata(&values, &mut out),
            Event::End => return,
        }
        out.clear();
    }
}

/// A server's half of a call, after a plain handshake, and its media.
pub(crate) fn call(bytes: &[u8]) {
    let Ok(url) = url::Url::parse("rtmp://me:secret@host/live/cam") else { return };
    let Some(address) = super::client::address::Address::of(&url) else { return };
    let credentials = Credentials { user: "me".into(), password: "secret".into() };
    let mut call = Call::new(Role::Play, address, Some(credentials), 1 << 20, [1; 32]);
    let mut input = BytesMut::from(&[3_u8][..]);
    input.resize(1 + 2 * super::handshake::BLOCK, 0);
    input.extend_from_slice(bytes);
    let (mut media, mut out) = (Publish::default(), Vec::new());
    let now = Instant::now();
    while let Ok(Some(event)) = call.handle(&mut input) {
        match event {
            client::call::Event::Video(time, data) => {
                drop(media.video(now, time, data, &mut out));
            }
            client::call::Event::Audio(time, data) => {
                drop(media.audio(now, time, data, &mut out));
            }
            client::call::Event::Data(values) => media.metadata(&values, &mut out),
            client::call::Event::Started => {}
            _ => return,
        }
        out.clear();
    }
}

/// Values of a command and of a data message.
pub(crate) fn amf(bytes: &[u8]) {
    let _ = amf::read_all(bytes, AmfLimits::COMMAND);
    if let Ok(values) = amf::read_all(bytes, AmfLimits::DATA) {
        let mut out = BytesMut::new();
        values.iter().for_each(|value| value.write(&mut out));
        assert!(amf::read_all(&out, AmfLimits::DATA).is_ok(), "what we write can be read");
    }
}

/// Media messages one after the other, each behind its type and a length of one byte.
pub(crate) fn media(mut bytes: &[u8]) {
    let (mut media, mut out) = (Publish::default(), Vec::new());
    let (now, mut time) = (Instant::now(), 0_u32);
    while let [kind, length, rest @ ..] = bytes {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        time = time.wrapping_add(u32::from(*kind) << (kind & 31));
        let body = BytesMut::from(body);
        let _ = match kind & 1 {
            0 => media.video(now, time, body, &mut out),
            _ => media.audio(now, time, body, &mut out),
        };
        out.clear();
        bytes = rest;
    }
}

/// `connect`, `createStream` and `publish`, then a picture's and a sound's header.
pub(crate) const SESSION_SEEDS: &[&[u8]] = &[
    b"\x03\0\0\0\0\0\x22\x14\0\0\0\0\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0\x03\0\x03app\x02\0\x03cam\
\0\0\x09\x43\0\0\0\0\0\x19\x14\x02\0\x0ccreateStream\0\x40\0\0\0\0\0\0\0\x05\
\x04\0\0\0\0\0\x18\x14\x01\0\0\0\x02\0\x07publish\0\x40\x08\0\0\0\0\0\0\x05\x02\0\x01k\x00\
\x06\0\0\0\0\0\x05\x09\x01\0\0\0\x17\x02\0\0\0\x46\0\0\x28\0\0\x04\x08\xaf\0\x12\x10\xc6\xaf\0\x12\x10",
    b"\x02\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x10\0\x44\xff\xff\xff\0\0\x04\x05\x01\0\0\0\0\0\x10\0\xc4",
];

/// Answers to `connect` and `createStream`, the start, a picture's header; a challenge.
pub(crate) const CALL_SEEDS: &[&[u8]] = &[
    b"\x03\0\0\0\0\0\x1d\x14\0\0\0\0\x02\0\x07_result\0\x3f\xf0\0\0\0\0\0\0\x05\x03\0\x01a\x05\0\0\x09\x05\
\x43\0\0\0\0\0\x1d\x14\x02\0\x07_result\0\x40\x10\0\0\0\0\0\0\x05\0\x3f\xf0\0\0\0\0\0\0\
\x05\0\0\0\0\0\x38\x14\x01\0\0\0\x02\0\x08onStatus\0\0\0\0\0\0\0\0\0\x05\x03\0\x04code\x02\0\x14NetStream.Play.Start\0\0\x09\
\x06\0\0\0\0\0\x05\x09\x01\0\0\0\x17\x02\0\0\0\x46\0\0\x28\0\0\x04\x08\xaf\0\x12\x10",
    b"\x03\0\0\0\0\0\x59\x14\0\0\0\0\x02\0\x06_error\0\x3f\xf0\0\0\0\0\0\0\x05\x03\0\x0bdescription\x02\0\x2f\
[ authmod=adobe ] : ?reason=needauth&salt=aaaa==\0\0\x09",
];

/// One of each kind of value.
pub(crate) const AMF_SEEDS: &[&[u8]] = &[
    b"\x02\0\x0aonMetaData\x08\0\0\0\x02\0\x01a\0\x40\0\0\0\0\0\0\0\0\x01b\x01\x01\0\0\x09\x05\x06",
    b"\x0a\0\0\0\x02\x0b\0\0\0\0\0\0\0\0\0\0\x0c\0\0\0\x01x\x03\0\0\x09\x10\0\x01c\0\0\x09",
];

/// Headers and frames, plain and enhanced; further tracks, one in a message and many.
pub(crate) const MEDIA_SEEDS: &[&[u8]] = &[
    b"\0\x2f\x17\0\0\0\0\x01\xf4\0\x0a\xff\xe1\0\x18\x67\xf4\0\x0a\x91\x96\x84\x26\xc0\x44\0\0\x03\0\
\x04\0\0\x03\0\x2a\x3c\x48\x9a\x80\x01\0\x05\x68\xce\x0f\x19\x20\x01\x04\xaf\0\x12\x10\
\0\x0e\x17\x01\0\0\x50\0\0\0\x05\x65\x88\x80\0\x55\x01\x04\xaf\x01\xaa\xbb",
    b"\x01\x04\xaf\0\x12\x10\x01\x09\x95\x00mp4a\x01\x12\x10\x01\x09\x95\x01mp4a\x01\xaa\xbb\x01\x04\xaf\x01\xaa\xbb\
\x01\x12\x95\x11mp4a\x01\0\0\x01\xaa\0\0\0\x02\xbb\xcc\x07\x01\x15\x95\x21Opus\x02\0\0\x01\xaamp4a\x01\0\0\x02\xbb\xcc",
    b"\0\x0d\x96\x23hvc1\x01\0\0\x01\x09avc1\x01\x08\x91Opusxyz\0\x0b\x97\x02\x01\x02\x03\x03avc1x",
];

/// Version 3 and nothing else; a beginning of a plain one.
pub(crate) const HANDSHAKE_SEEDS: &[&[u8]] = &[&[3], &[3; 3073]];
