//! Fuzz targets for everything here that reads bytes from outside.
//!
//! Each target takes any bytes, must end in bounded time and memory, and asserts what holds for
//! all inputs: nothing panics, and cutting a stream elsewhere changes nothing.
//!
//! This file is long because all targets and their seeds stand side by side.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::aac::{AdtsHeader, AudioSpecificConfig};
use crate::h264::{self, Assembler, DecoderConfiguration, SliceHead, SpsInfo};
use crate::mpegts::{Demuxer, Event};
use crate::opus::{self, ControlHeader};
use crate::orientation::{Turn, turn_of, with_turn};
use crate::{av1, flac, hevc, mp3, video, vp8, vp9};

/// One reader of outside bytes.
pub struct Target {
    /// Its name, unique in the crate.
    pub name: &'static str,
    /// Runs it over any bytes; must not panic.
    pub run: fn(&[u8]),
    /// Inputs that make sense, to start from.
    pub seeds: &'static [&'static [u8]],
}

const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
    0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
];

const KEY_UNIT: &[u8] = &[
    0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40, 0,
    0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 1, 6, 6, 1, 0xc4, 0x80, 0, 0, 1, 0x65, 0x88, 0x84, 0x12,
];

/// A picture with `{"3":1}` in front.
const RESULTS_UNIT: &[u8] = &[
    0, 0, 0, 1, 6, 5, 23, 0x73, 0x0c, 0x0b, 0x15, 0x27, 0x1b, 0x42, 0x7f, 0x8b, 0xe3, 0xef, 0x5a,
    0x2c, 0xa4, 0x28, 0x5f, b'{', b'"', b'3', b'"', b':', b'1', b'}', 0x80, 0, 0, 0, 1, 0x41, 0x9a,
];

/// A picture that is to be turned by a quarter.
const TURNED_UNIT: &[u8] =
    &[0, 0, 0, 1, 6, 47, 3, 0x18, 0, 9, 0x80, 0, 0, 0, 1, 0x65, 0x88, 0x84, 0x12];

const RECORD: &[u8] = &[
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5,
    0x40, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80,
];

/// x265's, of 320x180.
const HEVC_SPS: &[u8] = &[
    0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 8, 0x0c, 0x1f,
    0x3e, 0x59, 0x59, 0x52, 0x93, 0x0b, 0xc0, 0x5a, 2, 0, 0, 3, 0, 2, 0, 0, 3, 0, 0x3c, 0x10,
];

/// With a delimiter in front and the beginning of its picture.
const HEVC_KEY_UNIT: &[u8] = &[
    0, 0, 0, 1, 0x46, 1, 0x50, 0, 0, 0, 1, 0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60, 0, 0, 3, 0, 0x90,
    0, 0, 3, 0, 0, 3, 0, 0x3c, 0x95, 0x94, 9, 0, 0, 0, 1, 0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0,
    0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 8, 0x0c, 0x1f, 0x3e, 0x59, 0x59, 0x52, 0x93, 0x0b, 0xc0,
    0x5a, 2, 0, 0, 3, 0, 2, 0, 0, 3, 0, 0x3c, 0x10, 0, 0, 0, 1, 0x44, 1, 0xc0, 0x73, 0xc1, 0x89, 0,
    0, 0, 1, 0x28, 1, 0xac, 0x21, 0x30, 0xb9, 0x82, 0xcc, 0x53, 0x69, 0xed, 0x3f, 0xb0, 0xa2, 0x3e,
    0xa9, 0x52, 0xe3, 0x23, 0x81, 0xdf, 0xc4, 0x83, 0xae,
];

const HEVC_RECORD: &[u8] = &[
    1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x3c, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3,
    0xa0, 0, 1, 0, 0x18, 0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3,
    0, 0x3c, 0x95, 0x94, 9, 0xa1, 0, 1, 0, 0x2b, 0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0,
    0, 3, 0, 0x3c, 0xa0, 0x0a, 8, 0x0c, 0x1f, 0x3e, 0x59, 0x59, 0x52, 0x93, 0x0b, 0xc0, 0x5a, 2, 0,
    0, 3, 0, 2, 0, 0, 3, 0, 0x3c, 0x10, 0xa2, 0, 1, 0, 6, 0x44, 1, 0xc0, 0x73, 0xc1, 0x89,
];

/// Profile 0, 352x288.
const VP9_KEY: &[u8] =
    &[0x82, 0x49, 0x83, 0x42, 0x00, 0x15, 0xf0, 0x11, 0xf0, 0x00, 0x38, 0x24, 0x1c, 0x18];

/// SVT-AV1's, of 320x180, and the beginning of a key frame.
const AV1_KEY_UNIT: &[u8] = b"\x12\0\x0a\x0b\0\0\0\x04<\xfe\xcc\xfb\xf9\0@\x32\x04\x10\x01\x02\x03";

const FLAC_HEAD: &[u8] =
    b"fLaC\x80\0\0\x22\x12\0\x12\0\0\0\0\0\0\0\x0b\xb8\x02\xf0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// All targets of this crate.
pub const TARGETS: &[Target] = &[
    Target {
        name: "orientation",
        run: orientation,
        seeds: &[KEY_UNIT, HEVC_KEY_UNIT, RESULTS_UNIT, TURNED_UNIT],
    },
    Target {
        name: "graph_prompt",
        run: crate::graph::fuzz::prompt,
        seeds: crate::graph::fuzz::SEEDS,
    },
    Target { name: "h264_sps", run: sps, seeds: &[SPS] },
    Target { name: "h264_unit", run: unit, seeds: &[KEY_UNIT] },
    Target { name: "h264_results", run: results, seeds: &[RESULTS_UNIT, KEY_UNIT] },
    Target {
        name: "h264_length_prefixed",
        run: length_prefixed,
        seeds: &[&[4, 0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 3, 0x65, 0x88, 0x84]],
    },
    Target { name: "h264_decoder_configuration", run: decoder_configuration, seeds: &[RECORD] },
    Target { name: "hevc_sps", run: hevc_sps, seeds: &[HEVC_SPS] },
    Target { name: "hevc_unit", run: hevc_unit, seeds: &[HEVC_KEY_UNIT] },
    Target {
        name: "hevc_decoder_configuration",
        run: hevc_decoder_configuration,
        seeds: &[HEVC_RECORD],
    },
    Target { name: "av1_unit", run: av1_unit, seeds: &[AV1_KEY_UNIT] },
    Target {
        name: "av1_configuration",
        run: av1_configuration,
        seeds: &[b"\x81\0\x0c\0\x0a\x0b\0\0\0\x04<\xfe\xcc\xfb\xf9\0@"],
    },
    Target { name: "vp9", run: vp9_frame, seeds: &[VP9_KEY, b"\0\x15\x82\x02\x02\x02\0\0"] },
    Target {
        name: "vp8",
        run: vp8_frame,
        seeds: &[&[0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0]],
    },
    Target { name: "mp3", run: mp3_frame, seeds: &[&[0xff, 0xfb, 0x90, 0x64]] },
    Target { name: "flac", run: flac_head, seeds: &[FLAC_HEAD] },
    Target {
        name: "aac",
        run: aac,
        seeds: &[
            &[0x12, 0x10],
            &[0x13, 0x90, 0x56, 0xe5, 0xa0],
            &[0xff, 0xf1, 0x50, 0x80, 1, 0x1f, 0xfc],
        ],
    },
    Target { name: "opus", run: opus, seeds: &[&[0x7f, 0xe0, 3, 0xfc, 1, 2], &[0x83, 48]] },
    Target {
        name: "mpegts",
        run: mpegts,
        seeds: &[include_bytes!("mpegts/seed_aac.ts"), include_bytes!("mpegts/seed_opus.ts")],
    },
];

fn sps(bytes: &[u8]) {
    let parsed = SpsInfo::parse(bytes);
    let rewritten = h264::with_no_reordering(bytes);
    assert_eq!(parsed.is_ok(), rewritten.is_ok());
    if let (Ok(info), Ok(rewritten)) = (parsed, rewritten) {
        let _ = (info.color(), info.frames_per_second(), h264::webrtc_obstacle(&info));
        let again = SpsInfo::parse(&rewritten);
        assert!(
            again.is_ok_and(|again| again.reorder_frames == Some(0) && again.size == info.size)
        );
    }
}

fn unit(bytes: &[u8]) {
    let mut assembler = Assembler::new();
    let _ = (h264::is_idr(bytes), h264::is_reference(bytes), h264::is_recovery_point(bytes));
    let slices = h264::nals(bytes).filter_map(SliceHead::parse);
    assert!(slices.into_iter().all(|slice| slice.pps <= 255));
    let Ok(Some(first)) = assembler.annex_b(Bytes::copy_from_slice(bytes)) else { return };
    // What is canonical stays as it is.
    let again = assembler.annex_b(first.data.clone());
    assert!(again.is_ok_and(|again| again.is_some_and(|again| again.data == first.data)));
    let _ = h264::unit_with_no_reordering(&first.data);
    let _ = h264::to_length_prefixed(&first.data);
}

fn results(bytes: &[u8]) {
    let text = h264::results(bytes);
    assert!(text.is_none_or(|text| text.len() <= h264::RESULTS_BYTES_MAX));
    // What is put in comes out, whatever else stands in the unit.
    if let Some(unit) = h264::with_results(b"\0\0\0\x01\x41\x9a", &String::from_utf8_lossy(bytes)) {
        assert_eq!(h264::results(&unit).as_deref(), Some(&*String::from_utf8_lossy(bytes)));
    }
}

fn length_prefixed(bytes: &[u8]) {
    let Some((&size, unit)) = bytes.split_first() else { return };
    if let Ok(out) = h264::to_annex_b(BytesMut::from(unit), size % 6) {
        assert!(out.len() <= unit.len() * 4);
    }
    let _ = Assembler::new().length_prefixed(BytesMut::from(unit));
}

fn decoder_configuration(bytes: &[u8]) {
    let Ok(record) = DecoderConfiguration::parse(bytes) else { return };
    if let Ok(written) = record.to_bytes() {
        assert_eq!(DecoderConfiguration::parse(&written).as_ref(), Ok(&record));
    }
    let mut assembler = Assembler::new();
    let _ = assembler.configure(&record);
    let _ = assembler.track();
}

fn hevc_sps(bytes: &[u8]) {
    let parsed = hevc::SpsInfo::parse(bytes);
    if let (Ok(info), Ok(rewritten)) = (parsed, hevc::with_no_reordering(bytes)) {
        let _ = (info.color(), info.frames_per_second(), info.profile.codec_string());
        let again = hevc::SpsInfo::parse(&rewritten);
        assert!(again.is_ok_and(|again| again.reorder_frames == 0 && again.size == info.size));
    }
}

/// What an assembler made canonical stays as it is.
fn stays(mut assembler: video::Assembler, bytes: &[u8]) {
    let Ok(Some(first)) = assembler.unit(Bytes::copy_from_slice(bytes)) else { return };
    let again = assembler.unit(first.data.clone());
    assert!(again.is_ok_and(|again| again.is_some_and(|again| again.data == first.data)));
    if let Some(track) = assembler.track() {
        assert!(track.size.is_valid());
        let _ = video::Description::of(&track);
    }
}

fn hevc_unit(bytes: &[u8]) {
    stays(video::Assembler::Hevc(hevc::Assembler::new()), bytes);
    let _ = hevc::unit_with_no_reordering(&Bytes::copy_from_slice(bytes));
    let _ = hevc::Assembler::new().length_prefixed(BytesMut::from(bytes));
}

fn hevc_decoder_configuration(bytes: &[u8]) {
    let Ok(record) = hevc::DecoderConfiguration::parse(bytes) else { return };
    assert_eq!(hevc::DecoderConfiguration::parse(&record.to_bytes()).as_ref(), Ok(&record));
    let mut assembler = hevc::Assembler::new();
    let _ = assembler.configure(&record);
    let _ = assembler.track();
}

fn av1_unit(bytes: &[u8]) {
    stays(video::Assembler::Av1(av1::Assembler::new()), bytes);
}

fn av1_configuration(bytes: &[u8]) {
    let Ok(record) = av1::CodecConfiguration::parse(bytes) else { return };
    assert_eq!(av1::CodecConfiguration::parse(&record.to_bytes()).as_ref(), Ok(&record));
    let mut assembler = av1::Assembler::new();
    let _ = assembler.configure(&record);
    let _ = assembler.track().map(|track| video::Description::of(&track));
}

fn vp9_frame(bytes: &[u8]) {
    stays(video::Assembler::Vp9(vp9::Assembler::new()), bytes);
    let _ = vp9::record(bytes);
}

fn vp8_frame(bytes: &[u8]) {
    stays(video::Assembler::Vp8(vp8::Assembler::new()), bytes);
}

fn mp3_frame(bytes: &[u8]) {
    if let Ok(header) = mp3::FrameHeader::parse(bytes) {
        assert!(header.sample_rate >= 8000 && header.frame_bytes != Some(0));
    }
}

fn flac_head(bytes: &[u8]) {
    if let Ok(info) = flac::StreamInfo::parse(bytes) {
        assert_eq!(flac::StreamInfo::parse(&info.config()), Ok(info));
    }
}

fn aac(bytes: &[u8]) {
    if let Ok(config) = AudioSpecificConfig::parse(bytes) {
        let _ = config.adts_header(bytes.len());
        let _ = config.to_bytes();
    }
    if let Ok(Some(header)) = AdtsHeader::parse(bytes) {
        assert!(header.header_bytes <= header.frame_bytes);
        let _ = header.config();
    }
}

fn opus(bytes: &[u8]) {
    if let Ok(samples) = opus::packet_samples(bytes) {
        assert!((1..=opus::PACKET_SAMPLES_MAX).contains(&samples));
    }
    if let Ok((_, length)) = ControlHeader::parse(bytes) {
        assert!(length <= bytes.len());
    }
}

/// The first byte says how the rest is cut; the events must not depend on it.
fn mpegts(bytes: &[u8]) {
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let now = Instant::now();
    let read = |portions: &mut dyn Iterator<Item = &[u8]>| {
        let mut demuxer = Demuxer::new();
        let mut events = Vec::new();
        portions.for_each(|portion| demuxer.push(now, portion, &mut events));
        demuxer.end_of_segment(now, &mut events);
        (events, demuxer.stats())
    };
    let (whole, stats) = read(&mut std::iter::once(stream));
    let (cut, cut_stats) = read(&mut stream.chunks(usize::from(cut) + 1));
    assert_eq!(stats, cut_stats);
    assert_eq!(whole.len(), cut.len());
    assert!(whole.iter().zip(&cut).all(|(a, b)| same(a, b)));
}

fn same(a: &Event, b: &Event) -> bool {
    match (a, b) {
        (Event::Tracks(a), Event::Tracks(b)) => a == b,
        (Event::Packet(a), Event::Packet(b)) => {
            (a.kind, a.pts, a.dts, a.key, &a.data) == (b.kind, b.pts, b.dts, b.key, &b.data)
        }
        _ => false,
    }
}

/// Reads how a picture stands, and tells it something else.
fn orientation(bytes: &[u8]) {
    for codec in [crate::Codec::H264, crate::Codec::Hevc] {
        let said = turn_of(codec, bytes);
        let Some(told) = with_turn(codec, bytes, Turn::Quarter) else { continue };
        assert!(told.len() > bytes.len());
        // Who speaks first is heard.
        assert!(said.is_none() || turn_of(codec, &told) == said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator (xorshift), so that runs repeat.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n.max(1) as u64) as usize
        }
    }

    #[test]
    fn no_target_panics_on_damaged_seeds() {
        for target in TARGETS {
            for (number, seed) in target.seeds.iter().enumerate() {
                let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ number as u64);
                (target.run)(seed);
                for _ in 0..1000 {
                    let mut bytes = seed.to_vec();
                    for _ in 0..=chance.below(8) {
                        let at = chance.below(bytes.len());
                        match chance.below(5) {
                            0 => bytes.truncate(at),
                            1 => bytes.insert(at, chance.below(256) as u8),
                            2 if at < bytes.len() => drop(bytes.remove(at)),
                            3 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
                            _ if at < bytes.len() => bytes[at] = chance.below(256) as u8,
                            _ => {}
                        }
                    }
                    (target.run)(&bytes);
                }
            }
        }
    }
}
