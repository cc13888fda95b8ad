//! Compound packets, checked against an independent implementation.

use bytes::Bytes;
use proptest::prelude::*;
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::SourceDescription;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use super::*;

const BLOCK: ReportBlock = ReportBlock {
    ssrc: 2,
    fraction_lost: 25,
    lost: -3,
    highest: 0x0001_0005,
    jitter: 360,
    last_report: 0xaabb_ccdd,
    delay: 65_536,
};

fn compound() -> Vec<u8> {
    let lost = [Seq(65_534), Seq(65_535), Seq(0), Seq(14), Seq(15), Seq(400)];
    let mut out = Vec::new();
    Compound::new(&mut out)
        .sender_report(1, Ntp(0x0102_0304_0506_0708), RtpTime(9), (10, 11), &[BLOCK])
        .receiver_report(1, &[BLOCK, BLOCK])
        .cname(1, "millstream")
        .nack(1, 2, &lost)
        .picture_loss(1, 2)
        .full_intra(1, 2, 7)
        .bitrate(1, 2_500_000, &[2, 3])
        .goodbye(&[1, 2]);
    out
}

#[test]
fn another_implementation_reads_what_we_write() {
    let packets = rtc_rtcp::packet::unmarshal(&mut Bytes::from(compound())).unwrap();
    assert_eq!(packets.len(), 8);
    let sender = packets[0].as_any().downcast_ref::<SenderReport>().unwrap();
    assert_eq!((sender.ssrc, sender.ntp_time, sender.rtp_time), (1, 0x0102_0304_0506_0708, 9));
    assert_eq!((sender.packet_count, sender.octet_count, sender.reports.len()), (10, 11, 1));
    assert_eq!(sender.reports[0].fraction_lost, 25);
    assert_eq!(sender.reports[0].total_lost, 0xff_fffd);
    assert_eq!(sender.reports[0].last_sender_report, 0xaabb_ccdd);
    let receiver = packets[1].as_any().downcast_ref::<ReceiverReport>().unwrap();
    assert_eq!(receiver.reports.len(), 2);
    let names = packets[2].as_any().downcast_ref::<SourceDescription>().unwrap();
    assert_eq!(names.chunks[0].items[0].text, Bytes::from_static(b"millstream"));
    let nack = packets[3].as_any().downcast_ref::<TransportLayerNack>().unwrap();
    let lost: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
    assert_eq!(lost, [65_534, 65_535, 0, 14, 15, 400]);
    assert_eq!(nack.nacks.len(), 3);
    assert!(packets[4].as_any().is::<PictureLossIndication>());
    let intra = packets[5].as_any().downcast_ref::<FullIntraRequest>().unwrap();
    assert_eq!((intra.fir[0].ssrc, intra.fir[0].sequence_number), (2, 7));
    let remb = packets[6].as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>().unwrap();
    assert!((remb.bitrate - 2_500_000.0).abs() < 16.0, "{}", remb.bitrate);
    assert_eq!(remb.ssrcs, [2, 3]);
    assert_eq!(packets[7].as_any().downcast_ref::<Goodbye>().unwrap().sources, [1, 2]);
}

#[test]
fn we_read_what_we_write() {
    let bytes = compound();
    let read: Vec<_> = messages(&bytes).collect::<Result<_, _>>().unwrap();
    let Message::SenderReport { wall, time, blocks, .. } = &read[0] else {
        panic!("{:?}", read[0])
    };
    assert_eq!((*wall, *time), (Ntp(0x0102_0304_0506_0708), RtpTime(9)));
    assert_eq!(blocks.clone().collect::<Vec<_>>(), [BLOCK]);
    assert!(
        matches!(&read[1], Message::ReceiverReport { blocks, .. } if blocks.clone().count() == 2)
    );
    assert!(matches!(read[2], Message::Other { kind: 202, count: 1 }));
    let Message::Nack { sender: 1, media: 2, lost } = &read[3] else { panic!("{:?}", read[3]) };
    let lost: Vec<u16> = lost.clone().map(|seq| seq.0).collect();
    assert_eq!(lost, [65_534, 65_535, 0, 14, 15, 400]);
    assert!(matches!(read[4], Message::PictureLoss { sender: 1, media: 2 }));
    assert!(matches!(&read[5], Message::FullIntra { entries, .. } if entries.clone().eq([(2, 7)])));
    assert!(matches!(&read[6], Message::Bitrate { bitrate: 2_499_984..=2_500_000, streams, .. }
        if streams.clone().eq([2, 3])));
    assert!(matches!(&read[7], Message::Goodbye(streams) if streams.clone().eq([1, 2])));
}

#[test]
fn cut_and_foreign_packets_are_refused_with_their_place() {
    let check =
        |bytes: &[u8], error| assert_eq!(messages(bytes).last().unwrap().unwrap_err(), error);
    check(&[0x80, 201], RtcpError::Short { kind: 0, at: 0 });
    check(&[0x81, 201, 0, 1, 0, 0, 0, 1], RtcpError::Short { kind: 201, at: 0 });
    check(&[0x80, 201, 0, 9, 0, 0, 0, 1], RtcpError::Short { kind: 201, at: 0 });
    check(&[0x40, 201, 0, 0], RtcpError::Version { version: 1, at: 0 });
    check(&[0x80, 199, 0, 0, 0x80], RtcpError::Short { kind: 0, at: 4 });
    check(&[0x80, 199, 0, 0].repeat(65), RtcpError::Many);
    assert!(messages(&[]).next().is_none());
}

proptest! {
    #[test]
    fn every_list_of_lost_packets_survives(
        start in any::<u16>(), steps in prop::collection::vec(1..40_u16, 1..200),
    ) {
        let mut seq = Seq(start);
        let lost: Vec<Seq> = steps.iter().map(|step| { seq = Seq(seq.0.wrapping_add(*step)); seq }).collect();
        let mut out = Vec::new();
        Compound::new(&mut out).nack(1, 2, &lost);
        let Some(Ok(Message::Nack { lost: read, .. })) = messages(&out).next() else { panic!("no NACK") };
        prop_assert_eq!(read.collect::<Vec<_>>(), lost);
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_run_away(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::rtp::fuzz::rtcp(&bytes);
        let mut headed = vec![0x8f, 205, 0, (bytes.len() / 4) as u8];
        headed.extend_from_slice(&bytes);
        crate::rtp::fuzz::rtcp(&headed);
    }
}
