//! Writing RTCP. Every compound begins with a report (RFC 3550 6.1); with reduced-size RTCP
//! negotiated feedback may stand alone (RFC 5506).

use super::{
    DESCRIPTION, FORMAT_APPLICATION, FORMAT_FULL_INTRA, FORMAT_NACK, FORMAT_PICTURE_LOSS,
    FORMAT_TWCC, GOODBYE, PAYLOAD_FEEDBACK, RECEIVER_REPORT, ReportBlock, SENDER_REPORT,
    TRANSPORT_FEEDBACK,
};
use crate::rtp::clock::Ntp;
use crate::rtp::packet::{RtpTime, Seq};

/// Most report blocks and SSRCs in one packet: five bits of count.
const COUNT_MAX: usize = 31;

/// Most items of one NACK packet, so that it fits a datagram.
const NACK_ITEMS_MAX: usize = 250;

/// Appends packets to a buffer.
#[derive(Debug)]
pub struct Compound<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Compound<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// A sender report; at most 31 blocks are written.
    pub fn sender_report(
        &mut self,
        ssrc: u32,
        wall: Ntp,
        time: RtpTime,
        (packets, bytes): (u32, u32),
        blocks: &[ReportBlock],
    ) -> &mut Self {
        let blocks = &blocks[..blocks.len().min(COUNT_MAX)];
        self.packet(SENDER_REPORT, blocks.len() as u8, |out| {
            put(out, ssrc);
            out.extend_from_slice(&wall.0.to_be_bytes());
            put_all(out, &[time.0, packets, bytes]);
            blocks.iter().for_each(|block| put_block(out, block));
        })
    }

    /// A receiver report; at most 31 blocks are written.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> &mut Self {
        let blocks = &blocks[..blocks.len().min(COUNT_MAX)];
        self.packet(RECEIVER_REPORT, blocks.len() as u8, |out| {
            put(out, ssrc);
            blocks.iter().for_each(|block| put_block(out, block));
        })
    }

    /// The name that joins our streams; at most 255 bytes are written.
    pub fn cname(&mut self, ssrc: u32, name: &str) -> &mut Self {
        let name = &name.as_bytes()[..name.len().min(255)];
        self.packet(DESCRIPTION, 1, |out| {
            put(out, ssrc);
            out.extend_from_slice(&[1, name.len() as u8]);
            out.extend_from_slice(name);
            // At least one zero ends the chunk, RFC 3550 6.5.
            out.push(0);
        })
    }

    /// Asks for packets again. Those that follow within 16 share an item; at most 250 items are
    /// written.
    pub fn nack(&mut self, sender: u32, media: u32, lost: &[Seq]) -> &mut Self {
        if lost.is_empty() {
            return self;
        }
        self.packet(TRANSPORT_FEEDBACK, FORMAT_NACK, |out| {
            put_all(out, &[sender, media]);
            let mut lost = lost.iter().peekable();
            for _ in 0..NACK_ITEMS_MAX {
                let Some(first) = lost.next() else { break };
                let mut bits = 0_u16;
                while let Some(next) = lost.next_if(|next| (1..=16).contains(&next.since(*first))) {
                    bits |= 1 << (next.since(*first) - 1);
                }
                out.extend_from_slice(&first.0.to_be_bytes());
                out.extend_from_slice(&bits.to_be_bytes());
            }
        })
    }

    /// Asks for a key picture.
    pub fn picture_loss(&mut self, sender: u32, media: u32) -> &mut Self {
        self.packet(PAYLOAD_FEEDBACK, FORMAT_PICTURE_LOSS, |out| {
            put_all(out, &[sender, media]);
        })
    }

    /// Demands a key picture; `number` rises with each new demand.
    pub fn full_intra(&mut self, sender: u32, media: u32, number: u8) -> &mut Self {
        self.packet(PAYLOAD_FEEDBACK, FORMAT_FULL_INTRA, |out| {
            put_all(out, &[sender, 0, media, u32::from(number) << 24]);
        })
    }

    /// Says how many bits per second may come for `streams` together (REMB).
    pub fn bitrate(&mut self, sender: u32, bitrate: u64, streams: &[u32]) -> &mut Self {
        let streams = &streams[..streams.len().min(COUNT_MAX)];
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate >> exponent) as u32;
        self.packet(PAYLOAD_FEEDBACK, FORMAT_APPLICATION, |out| {
            put_all(out, &[sender, 0]);
            out.extend_from_slice(b"REMB");
            put(out, (streams.len() as u32) << 24 | exponent << 18 | mantissa);
            streams.iter().for_each(|&stream| put(out, stream));
        })
    }

    /// Ends streams; at most 31.
    pub fn goodbye(&mut self, streams: &[u32]) -> &mut Self {
        let streams = &streams[..streams.len().min(COUNT_MAX)];
        self.packet(GOODBYE, streams.len() as u8, |out| {
            streams.iter().for_each(|&stream| put(out, stream));
        })
    }

    /// Arrival feedback, of which `write` appends what follows the SSRCs.
    pub(in crate::rtp) fn transport_feedback(
        &mut self,
        sender: u32,
        media: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Self {
        self.packet(TRANSPORT_FEEDBACK, FORMAT_TWCC, |out| {
            put_all(out, &[sender, media]);
            write(out);
        })
    }

    /// Writes header and contents, filled with zeros to whole words.
    fn packet(&mut self, kind: u8, count: u8, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.out.len();
        self.out.extend_from_slice(&[0x80 | count, kind, 0, 0]);
        write(self.out);
        while !(self.out.len() - start).is_multiple_of(4) {
            self.out.push(0);
        }
        let words = ((self.out.len() - start) / 4 - 1) as u16;
        self.out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        self
    }
}

fn put(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_all(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|&value| put(out, value));
}

fn put_block(out: &mut Vec<u8>, block: &ReportBlock) {
    let lost = block.lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0xff_ffff;
    put(out, block.ssrc);
    put(out, u32::from(block.fraction_lost) << 24 | lost);
    put_all(out, &[block.highest, block.jitter, block.last_report, block.delay]);
}
