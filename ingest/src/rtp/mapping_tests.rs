//! One viewer's numbers over wraps, skips and splices.

use std::time::Instant;

use bytes::Bytes;
use pipeline::{Packet, Pts, TrackKind};

use super::*;

fn frame(index: u64, packets: usize) -> FramePackets {
    let data = Bytes::from(vec![0; packets * 10]);
    let pts = Pts(index as i64 * 3000);
    let packet = Packet {
        kind: TrackKind::Video,
        pts,
        dts: pts,
        key: index == 0,
        data,
        arrived: Instant::now(),
    };
    let ends = (1..=packets as u32).map(|n| n * 10).collect();
    let mut frame = FramePackets::new(&packet, packet.data.clone(), ends);
    (frame.index, frame.first_packet) = (index, index * PACKETS_MAX);
    frame
}

/// Frames of these tests are numbered as if each had so many packets, so that all but those with so
/// many begin a stretch.
const PACKETS_MAX: u64 = 4;

#[test]
fn numbers_go_on_over_skipped_frames_and_over_the_wrap() {
    let mut mapping = Mapping::new(Seq(0x7ff0), RtpTime(u32::MAX - 5000), 90_000, 1024);
    let mut expected = mapping.next_seq();
    let mut last_time = None;
    for step in 0..30_000_u64 {
        // Half of the stream's frames are left out.
        let frame = frame(step * 2, (step % 4 + 1) as usize);
        let placed = mapping.place(&frame, Ticks(step as i64 * 6000));
        assert_eq!(placed.first, expected, "no gap, no repeat");
        expected = expected.plus(frame.len() as u64);
        let time: RtpTime = placed.time;
        if let Some(last) = last_time.replace(time) {
            assert_eq!(time.since(last), 6000);
        }
        for packet in 0..frame.len() {
            let sent = mapping.lookup(placed.first.plus(packet as u64).seq()).unwrap();
            assert_eq!(sent.packet, step * 2 * PACKETS_MAX + packet as u64);
            assert_eq!(mapping.time_of(&frame, &sent), time);
            assert_eq!(sent.seq, placed.first.plus(packet as u64), "with its rollover count");
        }
    }
    assert_eq!(expected.roc(), 1, "75,000 packets wrap once");
    assert_eq!(mapping.stretches.len(), STRETCHES_MAX, "each skip is one");
}

#[test]
fn a_viewer_that_gets_everything_is_remembered_in_a_line() {
    let mut mapping = Mapping::new(Seq(7), RtpTime(99), 48_000, 1024);
    // Who catches up gets frames closer together than they are named.
    let hurry = |step: u64| Ticks((step * 3000).min(step * 1000 + 200_000) as i64);
    let mut placed = Vec::new();
    for step in 0..1000 {
        let frame = frame(step, PACKETS_MAX as usize);
        let time = mapping.place(&frame, hurry(step)).time;
        assert_eq!(mapping.time_of_frame(&frame), Some(time));
        placed.push((frame, time));
        let remembered = placed.iter().rev().take(1024 / PACKETS_MAX as usize);
        for (frame, time) in remembered.step_by(16) {
            assert_eq!(mapping.time_of_frame(frame), Some(*time));
        }
    }
    let mut mapping = Mapping::new(Seq(7), RtpTime(99), 48_000, 1024);
    for (frame, _) in &placed {
        let late = if frame.index < 60 { 1000 * (60 - frame.index as i64) } else { 0 };
        mapping.place(frame, Ticks(frame.pts.0 + late));
    }
    assert_eq!(mapping.stretches.len(), 1);
    assert!(mapping.stretches.capacity() <= STRETCHES_USUAL, "{:?}", mapping.stretches.capacity());
    assert_eq!(mapping.time_of_frame(&placed[10].0), None, "long ago, under another timing");
}

#[test]
fn only_what_is_remembered_is_found() {
    let mut mapping = Mapping::new(Seq(100), RtpTime(0), 90_000, 2);
    assert_eq!(mapping.lookup(Seq(99)), None);
    assert_eq!(mapping.lookup(Seq(100)), None);
    let first = mapping.place(&frame(0, 3), Ticks(0)).first;
    mapping.place(&frame(1, 1), Ticks(3000));
    mapping.place(&frame(2, 1), Ticks(6000));
    assert_eq!(mapping.lookup(first.seq()), None, "forgotten");
    assert_eq!(mapping.lookup(first.plus(3).seq()).map(|sent| sent.packet), Some(PACKETS_MAX));
    assert_eq!(mapping.lookup(first.plus(4).seq()).map(|sent| sent.packet), Some(2 * PACKETS_MAX));
    assert_eq!(mapping.lookup(first.plus(5).seq()), None, "not sent yet");
}

#[test]
fn timestamps_only_rise_and_follow_the_payload_clock() {
    let mut mapping = Mapping::new(Seq(1), RtpTime(1000), 48_000, 0);
    assert_eq!(mapping.place(&frame(0, 1), Ticks(1800)).time, RtpTime(1960));
    assert_eq!(mapping.place(&frame(1, 1), Ticks(0)).time, RtpTime(1961), "a step back");
    assert_eq!(mapping.place(&frame(2, 1), Ticks(3600)).time, RtpTime(2920));
    assert_eq!(mapping.time_at(Ticks(90_000)), RtpTime(49_000));
    assert_eq!((mapping.packets(), mapping.bytes()), (3, 30));
}

#[test]
fn a_viewer_that_asks_for_everything_does_not_get_it_twice() {
    let mut mapping = Mapping::new(Seq(1), RtpTime(0), 90_000, 16);
    let burst = (0..10_000).take_while(|_| mapping.may_resend()).count();
    assert_eq!(burst, 512);
    let mut resent = 0;
    for step in 0..1000 {
        mapping.place(&frame(step, 3), Ticks(step as i64 * 3000));
        resent += (0..10).take_while(|_| mapping.may_resend()).count();
    }
    assert_eq!(resent, 1500, "half of 3000");
}
