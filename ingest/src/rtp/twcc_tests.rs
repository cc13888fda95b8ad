//! Arrival reports, checked against an independent reader.

use bytes::Bytes;
use proptest::prelude::*;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use super::*;
use crate::rtp::rtcp::{Message, messages};

fn report(arrivals: &mut Arrivals, now: Instant) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    arrivals.poll(now, 1, 2, &mut Compound::new(&mut out)).then_some(out)
}

fn read(bytes: &[u8]) -> Vec<(Seq, Option<i64>)> {
    let Some(Ok(Message::TransportFeedback { feedback, .. })) = messages(bytes).next() else {
        panic!("no feedback in {bytes:02x?}")
    };
    feedback.collect()
}

#[test]
fn another_implementation_reads_the_same() {
    let start = Instant::now();
    let mut arrivals = Arrivals::default();
    for (seq, ms) in [(65_533_u16, 0), (65_534, 1), (1, 40), (2, 140), (3, 139), (20, 150)] {
        arrivals.on_packet(start + Duration::from_millis(ms), Seq(seq));
    }
    let bytes = report(&mut arrivals, start + Duration::from_millis(160)).unwrap();
    let packets = rtc_rtcp::packet::unmarshal(&mut Bytes::from(bytes.clone())).unwrap();
    let other = packets[0].as_any().downcast_ref::<TransportLayerCc>().unwrap();
    assert_eq!((other.base_sequence_number, other.packet_status_count), (65_533, 24));
    let deltas: Vec<i64> = other.recv_deltas.iter().map(|delta| delta.delta).collect();
    let told: Vec<_> = read(&bytes).into_iter().filter_map(|(_, at)| at).collect();
    assert_eq!(told, [0, 1_000, 40_000, 140_000, 139_000, 150_000]);
    let mut last = 0;
    let ours: Vec<i64> = told.iter().map(|at| at - std::mem::replace(&mut last, *at)).collect();
    assert_eq!(deltas, ours);
}

#[test]
fn a_report_comes_ten_times_a_second_and_not_without_packets() {
    let start = Instant::now();
    let mut arrivals = Arrivals::default();
    assert_eq!(arrivals.next_timeout(), None);
    arrivals.on_packet(start, Seq(1));
    assert_eq!(arrivals.next_timeout(), Some(start + INTERVAL));
    assert!(report(&mut arrivals, start + INTERVAL / 2).is_none());
    assert!(report(&mut arrivals, start + INTERVAL).is_some());
    assert!(report(&mut arrivals, start + INTERVAL * 2).is_none());
    assert_eq!(arrivals.next_timeout(), None);
}

proptest! {
    #[test]
    fn every_arrival_is_told_once_within_a_step(
        packets in prop::collection::vec((1..30_u16, 0..30_000_u64), 1..1500), base in any::<u16>(),
    ) {
        let start = Instant::now();
        let mut arrivals = Arrivals::default();
        let (mut seq, mut at, mut sent) = (base, 0, Vec::new());
        let mut told = Vec::new();
        for (step, pause) in packets {
            seq = seq.wrapping_add(if step > 20 { step } else { 1 });
            at += if step % 3 == 0 { pause } else { 100 };
            let now = start + Duration::from_micros(at);
            arrivals.on_packet(now, Seq(seq));
            sent.push((Seq(seq), at as i64));
            while let Some(bytes) = report(&mut arrivals, now) { told.extend(read(&bytes)); }
        }
        let end = start + Duration::from_micros(at) + INTERVAL;
        while let Some(bytes) = report(&mut arrivals, end) { told.extend(read(&bytes)); }
        prop_assert!(told.windows(2).all(|pair| pair[1].0 == pair[0].0.next()), "no hole between reports");
        let told: Vec<_> = told.into_iter().filter_map(|(seq, at)| Some((seq, at?))).collect();
        prop_assert_eq!(told.len(), sent.len());
        let origin = sent[0].1;
        for (told, sent) in told.iter().zip(&sent) {
            prop_assert_eq!(told.0, sent.0);
            prop_assert!((sent.1 - origin - told.1).abs() < 250, "{} {}", sent.1 - origin, told.1);
        }
    }
}
