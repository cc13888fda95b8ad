//! What the ring keeps and lets go.

use std::time::Instant;

use bytes::Bytes;
use pipeline::{Packet, Pts, TrackKind};

use super::*;

fn frame(kind: TrackKind, ms: i64, key: bool) -> FramePackets {
    let (pts, data) = (Pts::from_millis(ms), Bytes::from(vec![0; 1000]));
    let packet = Packet { kind, pts, dts: pts, key, data, arrived: Instant::now() };
    FramePackets::new(&packet, packet.data.clone(), Box::new([500, 1000]))
}

#[test]
fn the_group_being_written_is_kept_whole_and_a_short_past_before_it() {
    let mut ring =
        Ring::new(RingLimits { span: Ticks::from_millis(1000), ..RingLimits::default() });
    for number in 0..200_u64 {
        let key = number % 80 == 0;
        let frame = ring.push(frame(TrackKind::Video, number as i64 * 50, key));
        assert_eq!(frame.index, number);
        let group: Vec<u64> = ring.group().map(|frame| frame.index).collect();
        assert_eq!(group, (number / 80 * 80..=number).collect::<Vec<_>>());
        for packet in [0, 1] {
            let number = number.saturating_sub(20);
            let (frame, place) = ring.with_packet(2 * number + packet).unwrap();
            assert_eq!((frame.index, place), (number, packet as usize));
        }
        assert!(ring.frames.len() <= 80 + 21, "{}", ring.frames.len());
    }
    assert!(ring.with_packet(0).is_none(), "gone");
    assert!(ring.with_packet(400).is_none(), "not there yet");
    assert_eq!(ring.end(), 200);
}

#[test]
fn sound_is_kept_by_time_alone() {
    let mut ring = Ring::new(RingLimits::default());
    for number in 0..500 {
        ring.push(frame(TrackKind::Audio, number * 20, true));
    }
    assert_eq!(ring.frames.len(), 101);
}

#[test]
fn bytes_bound_even_the_group() {
    let mut ring = Ring::new(RingLimits { bytes: 10_000, ..RingLimits::default() });
    for number in 0..50 {
        ring.push(frame(TrackKind::Video, number * 33, number == 0));
        assert!(ring.bytes() <= 10_000);
    }
    assert_eq!(ring.group().len(), 0, "its key picture is gone");
    ring.push(frame(TrackKind::Video, 2000, true));
    assert_eq!(ring.group().len(), 1);
}
