//! HEVC on a stream of our own making: numbers at their limits, units in every order.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::bits::BitWriter;
use crate::frame::Size;

/// Two bytes of header: type, layer 0, temporal id 0.
fn head(kind: u8) -> Vec<u8> {
    vec![kind << 1, 1]
}

fn vps() -> Vec<u8> {
    [head(32), vec![0x0c, 0x01, 0xff, 0xff]].concat()
}

/// An SPS of `width` by `height` with `reorder` pictures of reordering and a set of references
/// that is told by the one before it.
pub(crate) fn sps(id: u32, width: u32, height: u32, reorder: u32) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.bits(0, 4);
    w.bits(0, 3);
    w.bit(true);
    // Main, level 3.1.
    w.bits(1, 8);
    w.bits(0x6000_0000, 32);
    w.bits(0x9000_0000, 32);
    w.bits(0, 16);
    w.bits(93, 8);
    w.ue(id);
    w.ue(1);
    w.ue(width.next_multiple_of(8));
    w.ue(height.next_multiple_of(8));
    w.bit(true);
    for offset in
        [0, (width.next_multiple_of(8) - width) / 2, 0, (height.next_multiple_of(8) - height) / 2]
    {
        w.ue(offset);
    }
    w.ue(0);
    w.ue(0);
    w.ue(4);
    w.bit(true);
    w.ue(4);
    w.ue(reorder);
    w.ue(0);
    for value in [0, 2, 0, 2, 1, 1] {
        w.ue(value);
    }
    w.bit(false);
    w.bits(0b000, 3);
    // Two sets: one picture before, then the same one picture further on.
    w.ue(2);
    w.ue(1);
    w.ue(0);
    w.ue(0);
    w.bit(true);
    w.bit(true);
    w.bit(true);
    w.ue(0);
    w.bit(true);
    w.bit(true);
    w.bits(0, 1);
    w.bits(0b11, 2);
    // Usability information: pixels of 4:3 and 25 pictures a second.
    w.bit(true);
    w.bit(true);
    w.bits(14, 8);
    w.bits(0, 3);
    w.bits(0, 4);
    w.bit(true);
    w.bits(1, 32);
    w.bits(25, 32);
    w.bits(0, 3);
    let mut nal = head(33);
    w.finish_into(&mut nal);
    nal
}

fn pps(id: u32, sps: u32) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.ue(id);
    w.ue(sps);
    w.bits(0, 7);
    let mut nal = head(34);
    w.finish_into(&mut nal);
    nal
}

fn slice(kind: u8, pps: u32) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.bit(true);
    if kind >= 16 {
        w.bit(false);
    }
    w.ue(pps);
    w.bits(0x5a5a, 16);
    let mut nal = head(kind);
    w.finish_into(&mut nal);
    nal
}

fn unit(nals: &[Vec<u8>]) -> Bytes {
    let mut out = BytesMut::new();
    nals.iter().for_each(|nal| crate::annexb::push(&mut out, nal));
    out.freeze()
}

#[test]
fn an_sps_says_size_shape_rate_and_reordering() {
    let info = SpsInfo::parse(&sps(3, 1918, 1078, 2)).unwrap();
    assert_eq!((info.id, info.size), (3, Size::new(1918, 1078)));
    assert_eq!(info.coded_size, Size::new(1920, 1080));
    assert_eq!((info.reorder_frames, info.buffering_minus1, info.sub_layers), (2, 4, 1));
    assert_eq!(info.vui.as_ref().unwrap().sample_aspect, Some((4, 3)));
    assert_eq!(info.frames_per_second(), Some(25.0));
    assert_eq!(info.profile.codec_string(), "1.6.L93.90");
    assert_eq!(info.profile.profile_name(), "Main");
    let whole = sps(3, 1918, 1078, 2);
    for end in 0..whole.len() - 1 {
        assert!(SpsInfo::parse(&whole[..end]).is_err(), "{end}");
    }
    assert!(matches!(SpsInfo::parse(&pps(0, 0)), Err(Error::WrongNal { nal_type: 34, .. })));
}

#[test]
fn a_codec_string_leaves_out_what_is_empty() {
    let of = |profile, high_tier, compatibility: u32, constraints| ProfileTierLevel {
        profile_space: 0,
        high_tier,
        profile,
        compatibility,
        constraints,
        level: 120,
    };
    assert_eq!(of(1, false, 0x6000_0000, 0xb000_0000_0000).codec_string(), "1.6.L120.B0");
    assert_eq!(of(2, true, 0x2000_0000, 0).codec_string(), "2.4.H120");
    assert_eq!(of(4, false, 0x0800_0000, 0x9000_0800_0000).codec_string(), "4.10.L120.90.0.8");
    let spaced = ProfileTierLevel { profile_space: 1, ..of(1, false, 0x6000_0000, 0) };
    assert_eq!(spaced.codec_string(), "A1.6.L120");
}

#[test]
fn reordering_is_taken_out_and_the_rest_kept() {
    let before = sps(0, 1280, 720, 3);
    let after = with_no_reordering(&before).unwrap();
    let (old, new) = (SpsInfo::parse(&before).unwrap(), SpsInfo::parse(&after).unwrap());
    assert_eq!(new, SpsInfo { reorder_frames: 0, ..old });
    assert_eq!(with_no_reordering(&after).unwrap(), after);
    let key = unit(&[vps(), before, pps(0, 0), slice(19, 0)]);
    let rewritten = unit_with_no_reordering(&key).unwrap();
    assert_eq!(nals(&rewritten).count(), 4);
    assert_eq!(nals(&rewritten).nth(1).unwrap(), after);
    let other = unit(&[slice(1, 0)]);
    assert_eq!(unit_with_no_reordering(&other).unwrap().as_ptr(), other.as_ptr());
}

#[test]
fn key_units_get_the_sets_that_came_before() {
    let mut assembler = Assembler::new();
    let missing = assembler.annex_b(unit(&[slice(19, 0)])).unwrap_err();
    assert_eq!(missing, Error::MissingParameterSets { pps: 0 });
    let sets = unit(&[vps(), sps(0, 640, 360, 0), pps(0, 0)]);
    assert!(assembler.annex_b(sets.clone()).unwrap().is_none(), "no picture in it");
    assert_eq!(assembler.size(), None, "not in use before a picture refers to them");
    let key = assembler.annex_b(unit(&[head(35), slice(20, 0)])).unwrap().unwrap();
    assert!(key.key && key.idr && key.changed && key.reference);
    assert_eq!(key.data, unit(&[vps(), sps(0, 640, 360, 0), pps(0, 0), slice(20, 0)]));
    assert_eq!(assembler.size(), Some(Size::new(640, 360)));
    assert_eq!(assembler.track().unwrap().parameter_sets, sets);
    // A clean random access picture is one to start at, and no IDR.
    let cra = assembler.annex_b(unit(&[slice(21, 0)])).unwrap().unwrap();
    assert!(cra.key && !cra.idr && !cra.changed);
    // Trailing pictures: even numbers are not referred to.
    assert!(assembler.annex_b(unit(&[slice(1, 0)])).unwrap().unwrap().reference);
    assert!(!assembler.annex_b(unit(&[slice(0, 0)])).unwrap().unwrap().reference);
    // Another size, in band and in the wrong place.
    let late = unit(&[slice(19, 0), sps(0, 320, 180, 0)]);
    let late = assembler.annex_b(late).unwrap().unwrap();
    assert!(late.changed);
    assert_eq!(nals(&late.data).nth(1).unwrap(), sps(0, 320, 180, 0));
    assert_eq!(assembler.size(), Some(Size::new(320, 180)));
}

#[test]
fn a_record_with_lengths_is_understood() {
    let sets = unit(&[vps(), sps(0, 640, 360, 0), pps(0, 0)]);
    let record = DecoderConfiguration::from_annex_b(&sets).unwrap();
    assert_eq!(DecoderConfiguration::parse(&record.to_bytes()), Ok(record.clone()));
    assert_eq!(record.annex_b(), sets);
    let bytes = record.to_bytes();
    for end in 0..bytes.len() {
        assert!(DecoderConfiguration::parse(&bytes[..end]).is_err(), "{end}");
    }
    let mut assembler = Assembler::new();
    assert!(assembler.configure(&record).unwrap());
    let nal = slice(19, 0);
    let mut sample = BytesMut::new();
    sample.put_u32(nal.len() as u32);
    sample.put_slice(&nal);
    let key = assembler.length_prefixed(sample.clone()).unwrap().unwrap();
    assert!(key.key && key.data.starts_with(&sets));
    sample.truncate(sample.len() - 1);
    let cut = assembler.length_prefixed(sample).unwrap_err();
    let (claimed, left) = (nal.len(), nal.len() - 1);
    assert_eq!(cut, Error::Length(LengthError { at: 0, claimed, left }));
    let half = unit(&[vps(), sps(0, 640, 360, 0)]);
    assert!(DecoderConfiguration::from_annex_b(&half).is_err());
}

#[test]
fn sets_without_end_are_refused_and_the_stream_goes_on() {
    let mut assembler = Assembler::new();
    let mut refused = 0;
    for id in 0..64 {
        let mut big = pps(id, 0);
        big.resize(2000, 0xff);
        refused += usize::from(assembler.annex_b(unit(&[big])).is_err());
    }
    assert_eq!(refused, 1);
    let key = unit(&[vps(), sps(0, 640, 360, 0), pps(0, 0), slice(19, 0)]);
    assert!(assembler.annex_b(key).unwrap().unwrap().key);
}

proptest! {
    #[test]
    fn any_bytes_end_in_units_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = SpsInfo::parse(&bytes);
        let _ = DecoderConfiguration::parse(&bytes);
        let _ = with_no_reordering(&bytes);
        let mut assembler = Assembler::new();
        let _ = assembler.annex_b(Bytes::from(bytes.clone()));
        let _ = assembler.length_prefixed(BytesMut::from(&bytes[..]));
    }

    #[test]
    fn broken_parameter_sets_never_panic(at in 2_usize..40, value in any::<u8>(), end in 2_usize..60) {
        let mut nal = sps(0, 1280, 720, 2);
        let at = at.min(nal.len() - 1);
        nal[at] = value;
        nal.truncate(end);
        if let Ok(info) = SpsInfo::parse(&nal) {
            prop_assert!(info.size.is_valid());
        }
    }
}
