//! RTCP over byte slices: reading compound packets in place, writing them into a buffer of the
//! caller's. Sources: RFC 3550 6 (reports, SDES, BYE), RFC 4585 6 (NACK, PLI), RFC 5104 4.3.1
//! (FIR), draft-alvestrand-rmcat-remb-03 (REMB), draft-holmer-rmcat-transport-wide-cc-01.
//!
//! Nothing is allocated for a report, so that thousands of viewers may report each second. What we
//! do not use (APP, XR, other feedback) is passed over by its length.

mod write;

use super::clock::Ntp;
use super::packet::{RtpTime, Seq};
use super::twcc::Feedback;

pub use write::Compound;

/// Whether the second byte of a datagram belongs to RTCP (RFC 5761 4).
pub const fn is_rtcp(second_byte: u8) -> bool {
    192 <= second_byte && second_byte <= 223
}

/// Most packets that are read from one datagram.
const PACKETS_MAX: usize = 64;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const FORMAT_NACK: u8 = 1;
const FORMAT_TWCC: u8 = 15;
const FORMAT_PICTURE_LOSS: u8 = 1;
const FORMAT_FULL_INTRA: u8 = 4;
const FORMAT_APPLICATION: u8 = 15;

const REPORT_BLOCK_BYTES: usize = 24;

/// What is wrong with RTCP bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// A packet reaches beyond the datagram, or its contents beyond the packet.
    #[error("RTCP packet type {kind} at byte {at} is cut")]
    Short {
        /// The packet type, zero when there is not even that.
        kind: u8,
        /// Where the packet begins.
        at: usize,
    },
    /// The version is not 2.
    #[error("RTCP version {version} at byte {at} instead of 2")]
    Version {
        /// The version.
        version: u8,
        /// Where the packet begins.
        at: usize,
    },
    /// More than 64 packets in one datagram.
    #[error("more than {PACKETS_MAX} RTCP packets in one datagram")]
    Many,
}

/// How well one stream arrives (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream that is reported on.
    pub ssrc: u32,
    /// Loss since the last report in parts of 256.
    pub fraction_lost: u8,
    /// Packets lost since the start, 24 bits signed.
    pub lost: i32,
    /// Highest sequence number with the count of wraps above it.
    pub highest: u32,
    /// Spread of arrival in ticks of the payload clock.
    pub jitter: u32,
    /// [`Ntp::middle`] of the last sender report, zero if none came.
    pub last_report: u32,
    /// Time since that report in 1/65536 s.
    pub delay: u32,
}

impl ReportBlock {
    fn parse(bytes: &[u8; REPORT_BLOCK_BYTES]) -> Self {
        Self {
            ssrc: word(bytes, 0),
            fraction_lost: bytes[4],
            lost: ((word(bytes, 4) << 8) as i32) >> 8,
            highest: word(bytes, 8),
            jitter: word(bytes, 12),
            last_report: word(bytes, 16),
            delay: word(bytes, 20),
        }
    }

    /// The round trip in 1/65536 s, for a report that came at wall time `now` (RFC 3550 A.8);
    /// `None` without a sender report to refer to or when the times contradict each other.
    pub fn round_trip(&self, now: Ntp) -> Option<u32> {
        let trip = now.middle().wrapping_sub(self.last_report).wrapping_sub(self.delay);
        (self.last_report != 0 && trip < 1 << 31).then_some(trip)
    }
}

/// One packet of a compound.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A sender's clock and counts.
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// Wall time of the report.
        wall: Ntp,
        /// The same moment on the media clock.
        time: RtpTime,
        /// Packets sent.
        packets: u32,
        /// Bytes of payload sent.
        bytes: u32,
        /// What the sender receives.
        blocks: ReportBlocks<'a>,
    },
    /// What a receiver receives.
    ReceiverReport {
        /// The receiver.
        ssrc: u32,
        /// One for each stream.
        blocks: ReportBlocks<'a>,
    },
    /// Streams that end.
    Goodbye(Words<'a>),
    /// Packets to send again.
    Nack {
        /// Who asks.
        sender: u32,
        /// The stream.
        media: u32,
        /// The packets, at most 17 for each four bytes.
        lost: Nacks<'a>,
    },
    /// A key picture is needed.
    PictureLoss {
        /// Who asks.
        sender: u32,
        /// The stream.
        media: u32,
    },
    /// A key picture is demanded; a repeated number is the same demand (RFC 5104 4.3.1.1).
    FullIntra {
        /// Who asks.
        sender: u32,
        /// Stream and number of each demand.
        entries: FullIntras<'a>,
    },
    /// The most that should be sent to a receiver.
    Bitrate {
        /// The receiver.
        sender: u32,
        /// Bits per second.
        bitrate: u64,
        /// The streams that it holds for together.
        streams: Words<'a>,
    },
    /// When each packet of a session arrived.
    TransportFeedback {
        /// The receiver.
        sender: u32,
        /// The arrivals.
        feedback: Feedback<'a>,
    },
    /// Anything else.
    Other {
        /// Packet type.
        kind: u8,
        /// Count or format.
        count: u8,
    },
}

/// The packets of a decrypted datagram. An error ends them: what comes after it cannot be found.
pub fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages { datagram, at: 0, left: PACKETS_MAX }
}

/// Walks over a compound packet.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    datagram: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.datagram.get(self.at..).filter(|rest| !rest.is_empty())?;
        let result = if self.left == 0 { Err(RtcpError::Many) } else { self.read(rest) };
        match result {
            Ok((message, length)) => {
                self.at += length;
                self.left -= 1;
                Some(Ok(message))
            }
            Err(error) => {
                self.at = self.datagram.len();
                Some(Err(error))
            }
        }
    }
}

impl<'a> Messages<'a> {
    fn read(&self, rest: &'a [u8]) -> Result<(Message<'a>, usize), RtcpError> {
        let at = self.at;
        let head = rest.first_chunk::<4>().ok_or(RtcpError::Short { kind: 0, at })?;
        if head[0] >> 6 != 2 {
            return Err(RtcpError::Version { version: head[0] >> 6, at });
        }
        let (count, kind) = (head[0] & 0x1f, head[1]);
        let short = RtcpError::Short { kind, at };
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4 + 4;
        let mut body = rest.get(4..length).ok_or(short)?;
        if head[0] & 0x20 != 0 {
            let padding = usize::from(*body.last().ok_or(short)?);
            body = body.get(..body.len().wrapping_sub(padding)).ok_or(short)?;
        }
        Ok((parse(kind, count, body).ok_or(short)?, length))
    }
}

/// Reads the contents of one packet; `None` when they are cut.
fn parse(kind: u8, count: u8, body: &[u8]) -> Option<Message<'_>> {
    let blocks = |from: usize| {
        let length = usize::from(count) * REPORT_BLOCK_BYTES;
        body.get(from..from + length).map(|bytes| ReportBlocks { bytes })
    };
    Some(match (kind, count) {
        (SENDER_REPORT, _) => {
            let head = body.first_chunk::<24>()?;
            Message::SenderReport {
                ssrc: word(head, 0),
                wall: Ntp(u64::from(word(head, 4)) << 32 | u64::from(word(head, 8))),
                time: RtpTime(word(head, 12)),
                packets: word(head, 16),
                bytes: word(head, 20),
                blocks: blocks(24)?,
            }
        }
        (RECEIVER_REPORT, _) => {
            Message::ReceiverReport { ssrc: word(body.first_chunk::<4>()?, 0), blocks: blocks(4)? }
        }
        (GOODBYE, _) => Message::Goodbye(Words { bytes: body.get(..usize::from(count) * 4)? }),
        (TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK, format) => {
            let (head, rest) = body.split_first_chunk::<8>()?;
            let (sender, media) = (word(head, 0), word(head, 4));
            match (kind, format) {
                (TRANSPORT_FEEDBACK, FORMAT_NACK) => Message::Nack {
                    sender,
                    media,
                    lost: Nacks { bytes: rest, first: Seq(0), bits: 0 },
                },
                (TRANSPORT_FEEDBACK, FORMAT_TWCC) => {
                    Message::TransportFeedback { sender, feedback: Feedback::parse(rest)? }
                }
                (PAYLOAD_FEEDBACK, FORMAT_PICTURE_LOSS) => Message::PictureLoss { sender, media },
                (PAYLOAD_FEEDBACK, FORMAT_FULL_INTRA) => {
                    Message::FullIntra { sender, entries: FullIntras { bytes: rest } }
                }
                (PAYLOAD_FEEDBACK, FORMAT_APPLICATION) if rest.starts_with(b"REMB") => {
                    let (head, streams) = rest.split_first_chunk::<8>()?;
                    let exponent = head[5] >> 2;
                    let mantissa = u64::from(word(head, 4) & 0x3ffff);
                    let bitrate = mantissa.checked_mul(1_u64.checked_shl(u32::from(exponent))?);
                    let streams = streams.get(..usize::from(head[4]) * 4)?;
                    Message::Bitrate {
                        sender,
                        bitrate: bitrate.unwrap_or(u64::MAX),
                        streams: Words { bytes: streams },
                    }
                }
                _ => Message::Other { kind, count },
            }
        }
        _ => Message::Other { kind, count },
    })
}

/// Four bytes at `at`, which the caller has checked.
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Walks over report blocks.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a> {
    bytes: &'a [u8],
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.bytes.split_first_chunk::<REPORT_BLOCK_BYTES>()?;
        self.bytes = rest;
        Some(ReportBlock::parse(block))
    }
}

/// Walks over a list of SSRCs.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    bytes: &'a [u8],
}

impl Iterator for Words<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (value, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest;
        Some(u32::from_be_bytes(*value))
    }
}

/// Walks over stream and number of full intra requests.
#[derive(Clone, Debug)]
pub struct FullIntras<'a> {
    bytes: &'a [u8],
}

impl Iterator for FullIntras<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (entry, rest) = self.bytes.split_first_chunk::<8>()?;
        self.bytes = rest;
        Some((word(entry, 0), entry[4]))
    }
}

/// Walks over the packets of a NACK.
#[derive(Clone, Debug)]
pub struct Nacks<'a> {
    bytes: &'a [u8],
    first: Seq,
    /// Bit n: the packet n + 1 after `first` is lost too.
    bits: u16,
}

impl Iterator for Nacks<'_> {
    type Item = Seq;

    fn next(&mut self) -> Option<Seq> {
        if self.bits != 0 {
            let bit = self.bits.trailing_zeros() as u16;
            self.bits &= self.bits - 1;
            return Some(Seq(self.first.0.wrapping_add(bit + 1)));
        }
        let (item, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest;
        self.first = Seq(u16::from_be_bytes([item[0], item[1]]));
        self.bits = u16::from_be_bytes([item[2], item[3]]);
        Some(self.first)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
