//! AV1: lengths, headers of every kind, and units from senders of different habits. Streams of
//! real encoders are in `video_tests.rs`.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::bits::BitWriter;
use crate::frame::Size;

/// The payload of a sequence header of this size, main profile, level 4.0.
fn sequence(width: u32, height: u32) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.bits(0, 3);
    w.bits(0, 2);
    // 30 pictures a second, and a decoder model, as encoders for broadcast write it.
    w.bit(true);
    w.bits(1, 32);
    w.bits(30, 32);
    w.bit(true);
    w.ue(0);
    w.bit(true);
    w.bits(19, 5);
    w.bits(1, 32);
    w.bits(0, 10);
    w.bit(true);
    w.bits(0, 5);
    w.bits(0, 12);
    w.bits(8, 5);
    w.bit(true);
    w.bit(true);
    w.bits(7, 20);
    w.bits(9, 20);
    w.bit(false);
    w.bit(true);
    w.bits(3, 4);
    w.bits(12, 4);
    w.bits(12, 4);
    w.bits(width - 1, 13);
    w.bits(height - 1, 13);
    w.bit(false);
    w.bits(0, 3);
    w.bits(0, 4);
    w.bit(true);
    w.bits(0, 2);
    w.bit(true);
    w.bit(true);
    w.bits(6, 3);
    w.bits(0, 3);
    // 10 bits, colours of HDR.
    w.bit(true);
    w.bit(false);
    w.bit(true);
    w.bits(0x09_10_09, 24);
    w.bit(false);
    w.bits(1, 2);
    w.bit(false);
    w.bit(false);
    w.bit(true);
    w.into_bytes()
}

fn obu(kind: u8, sized: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let obu = Obu { header: kind << 3, extension: None, payload, whole: &[] };
    obu.write(&mut out);
    if !sized {
        return [&[kind << 3][..], payload].concat();
    }
    out.to_vec()
}

const KEY: &[u8] = &[0x10, 1, 2];
const INTER: &[u8] = &[0x30, 1, 2];
const SHOWN_AGAIN: &[u8] = &[0x90];

#[test]
fn a_sequence_header_is_read_past_timing_and_operating_points() {
    let info = SequenceHeader::parse(&sequence(1920, 1080)).unwrap();
    assert_eq!((info.profile, info.level, info.high_tier), (0, 8, true));
    assert_eq!((info.size, info.bit_depth), (Size::new(1920, 1080), 10));
    assert_eq!(info.frames_per_second(), Some(30.0));
    let color = info.color.unwrap();
    assert_eq!((color.primaries, color.transfer, color.matrix), (9, 16, 9));
    assert_eq!(info.chroma_position, 1);
    let whole = sequence(1920, 1080);
    for end in 0..whole.len() - 1 {
        assert!(SequenceHeader::parse(&whole[..end]).is_err(), "{end}");
    }
}

#[test]
fn units_of_any_sender_come_out_alike() {
    let header = obu(1, true, &sequence(640, 360));
    let key = obu(6, true, KEY);
    let canonical = [&header[..], &key].concat();
    for (what, unit) in [
        ("as it should be", canonical.clone()),
        ("with delimiter", [&obu(2, true, &[])[..], &canonical].concat()),
        ("last without size", [&header[..], &obu(6, false, KEY)].concat()),
        ("with padding", [&canonical[..], &obu(15, true, &[0; 9])].concat()),
        ("header twice", [&header[..], &header, &key].concat()),
    ] {
        let mut assembler = Assembler::new();
        let unit = assembler.unit(Bytes::from(unit)).unwrap().unwrap();
        assert!(unit.key && unit.changed, "{what}");
        assert_eq!(unit.data[..], canonical, "{what}");
        assert_eq!(assembler.size(), Some(Size::new(640, 360)));
    }
    // A record brings the header for a key unit that has none.
    let mut assembler = Assembler::new();
    assert_eq!(assembler.unit(Bytes::from(key.clone())).unwrap_err(), Error::MissingSequenceHeader);
    let record = CodecConfiguration::from_sequence_header(&Bytes::from(header.clone())).unwrap();
    assert_eq!(CodecConfiguration::parse(&record.to_bytes()), Ok(record.clone()));
    assert!(assembler.configure(&record).unwrap());
    assert!(!assembler.configure(&record).unwrap());
    let unit = assembler.unit(Bytes::from(key)).unwrap().unwrap();
    assert_eq!(unit.data[..], canonical);
    for payload in [INTER, SHOWN_AGAIN] {
        let other = Bytes::from(obu(3, true, payload));
        let unit = assembler.unit(other.clone()).unwrap().unwrap();
        assert!(!unit.key && unit.data.as_ptr() == other.as_ptr());
    }
    assert!(assembler.unit(Bytes::from(obu(2, true, &[]))).unwrap().is_none());
}

#[test]
fn lengths_beyond_the_unit_are_named() {
    let mut unit = obu(6, true, KEY);
    unit[1] = 100;
    let error = Assembler::new().unit(Bytes::from(unit)).unwrap_err();
    assert_eq!(error, Error::Length { at: 0, claimed: 100, left: 3 });
    assert_eq!(leb128(&[0xe5, 0x8e, 0x26]), Some((624_485, 3)));
    assert_eq!(leb128(&[0x80; 9]), None);
    assert_eq!(leb128(&[0xff, 0xff, 0xff, 0xff, 0x7f]), None, "more than 32 bits");
    let forbidden = Assembler::new().unit(Bytes::from_static(&[0x80, 0])).unwrap_err();
    assert!(matches!(forbidden, Error::OutOfRange { field: "obu_forbidden_bit", .. }));
}

proptest! {
    #[test]
    fn numbers_survive(value in 0..=u64::from(u32::MAX)) {
        let mut out = BytesMut::new();
        write_leb128(&mut out, value);
        prop_assert_eq!(leb128(&out), Some((value, out.len())));
    }

    #[test]
    fn any_bytes_end_in_units_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SequenceHeader::parse(&bytes);
        let _ = CodecConfiguration::parse(&bytes);
        let _ = Assembler::new().unit(Bytes::from(bytes));
    }

    #[test]
    fn broken_headers_never_panic(at in 0_usize..40, value in any::<u8>()) {
        let mut payload = sequence(1920, 1080);
        let at = at % payload.len();
        payload[at] = value;
        if let Ok(info) = SequenceHeader::parse(&payload) {
            prop_assert!(info.size.is_valid());
        }
    }
}
