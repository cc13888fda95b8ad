//! Movies that this node's own writer made, and broken ones.

use bytes::{Bytes, BytesMut};
use pipeline::fmp4::Writer;
use pipeline::packet::{AudioTrack, Packet};
use pipeline::{Codec, Pts, TrackKind, Tracks};
use std::time::Instant;

use super::*;

/// An init segment and a fragment of Opus: 20 ms each.
fn opus(frames: i64) -> (Bytes, Bytes) {
    opus_of(frames, 4)
}

/// The same with frames of so many bytes.
fn opus_of(frames: i64, bytes: usize) -> (Bytes, Bytes) {
    let audio =
        AudioTrack { codec: Codec::Opus, sample_rate: 48_000, channels: 2, config: Bytes::new() };
    let mut writer = Writer::new(&Tracks { video: None, audio: Some(audio) }).unwrap();
    for number in 0..frames {
        let time = Pts::from_millis(20 * number);
        // One frame of 20 ms (RFC 6716, table 2).
        let mut data = vec![0xF8, number as u8, 1, 2];
        data.resize(bytes, 3);
        let data = Bytes::from(data);
        let (kind, key, arrived) = (TrackKind::Audio, true, Instant::now());
        writer.push(&Packet { kind, pts: time, dts: time, key, data, arrived });
    }
    let init = writer.init().clone();
    (init, writer.finish().unwrap().data)
}

/// The body of the `moov` in an init segment.
fn moov(init: &[u8]) -> &[u8] {
    let mut at = 0;
    loop {
        let head = Head::parse(&init[at..]).unwrap();
        let end = at + head.bytes.unwrap() as usize;
        if &head.kind == b"moov" {
            return &init[at + head.head_bytes as usize..end];
        }
        at = end;
    }
}

#[test]
fn what_our_writer_wrote_is_read_back_with_its_times_and_bytes() {
    let (init, fragment) = opus(3);
    let movie = Movie::parse(moov(&init)).unwrap();
    let mut packets = Packets::new(&movie).unwrap();
    assert!(movie.samples(init.len() as u64).unwrap().is_empty(), "all is in fragments");
    let at = fragment.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
    let head = Head::parse(&fragment[at..]).unwrap();
    let moof = &fragment[at..at + head.bytes.unwrap() as usize];
    let samples = movie.fragment(moof, at as u64, fragment.len() as u64).unwrap();
    assert_eq!(samples.iter().map(|s| s.dts / 90).collect::<Vec<_>>(), [0, 20, 40]);
    let data = |sample: &Sample| {
        let at = sample.at as usize;
        BytesMut::from(&fragment[at..at + sample.size as usize])
    };
    let (tracks, first) = packets.packet(&samples[0], data(&samples[0]), Instant::now());
    assert_eq!(tracks.unwrap().audio.unwrap().codec, Codec::Opus);
    assert_eq!(first.unwrap().data[..], [0xF8, 0, 1, 2]);
    let (tracks, last) = packets.packet(&samples[2], data(&samples[2]), Instant::now());
    assert!(tracks.is_none(), "nothing has changed");
    assert_eq!(last.unwrap().data[1], 2);
}

#[test]
fn samples_outside_of_the_fragment_are_refused() {
    let (init, fragment) = opus(3);
    let movie = Movie::parse(moov(&init)).unwrap();
    let at = fragment.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
    let head = Head::parse(&fragment[at..]).unwrap();
    let moof = &fragment[at..at + head.bytes.unwrap() as usize];
    let end = (fragment.len() - 1) as u64;
    assert!(matches!(movie.fragment(moof, at as u64, end), Err(Mp4Error::Tables(_))));
    assert!(Movie::parse(&moov(&init)[..40]).is_err());
}

#[test]
fn fragments_that_name_the_same_bytes_again_and_again_are_refused() {
    let (init, fragment) = opus_of(1, 1000);
    let movie = Movie::parse(moov(&init)).unwrap();
    let read = |bytes: &[u8]| {
        let mut packets = Packets::new(&movie).unwrap();
        let (bytes, mut out) = (Bytes::copy_from_slice(bytes), Vec::new());
        fragments(&movie, &mut packets, &bytes, Instant::now(), &mut out).map(|()| out.len())
    };
    assert_eq!(read(&fragment).unwrap(), 2, "the tracks and a packet");
    let at = fragment.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
    let head = Head::parse(&fragment[at..]).unwrap();
    let moof = &fragment[at..at + head.bytes.unwrap() as usize];
    let many = [moof.repeat(100).as_slice(), &fragment[at..]].concat();
    assert!(matches!(read(&many), Err(Mp4Error::Tables("samples overlap"))));
}

#[test]
fn heads_that_are_impossible_are_none() {
    assert_eq!(Head::parse(&[0, 0, 0, 4, 1, 1, 1, 1]), None);
    assert_eq!(Head::parse(&[0, 0, 0, 9, 1]), None);
    let whole = Head::parse(&[0, 0, 0, 0, b'm', b'd', b'a', b't']).unwrap();
    assert_eq!(whole.bytes, None);
}
