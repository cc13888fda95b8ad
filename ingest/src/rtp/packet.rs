//! RTP packets over byte slices: header, header extensions, sequence and timestamp arithmetic.
//!
//! Reading borrows from the datagram, writing appends to a buffer of the caller's; neither
//! allocates. Sources: RFC 3550 5.1 (header), RFC 8285 (one-byte and two-byte extensions). Nothing
//! here decrypts: SRTP comes before reading and after writing.

use std::fmt;

/// Bytes of a header without contributing sources and extensions.
pub const HEADER_BYTES: usize = 12;

/// The name of the rendition that a packet belongs to (RFC 8852).
pub const RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";

/// The same in a packet that repairs one.
pub const REPAIRED_RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

/// `playout-delay`: how long a browser may hold a picture back.
pub const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// `transport-wide-cc`: one sequence over all streams of a session, for bandwidth feedback.
pub const TRANSPORT_CC_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// `sdes:mid`: which media section of the SDP a packet belongs to (RFC 9143).
pub const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// A sequence number as on the wire. Order is meaningful only within half the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u16);

impl Seq {
    /// The following number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Steps from `earlier` to `self`, negative when `self` is the older one.
    pub const fn since(self, earlier: Self) -> i16 {
        self.0.wrapping_sub(earlier.0) as i16
    }
}

/// A sequence number with its rollover counter (RFC 3711 3.3.1), so that order is total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    /// The part that travels.
    pub const fn seq(self) -> Seq {
        Seq(self.0 as u16)
    }

    /// The rollover counter that SRTP needs.
    pub const fn roc(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The number `steps` later.
    #[must_use]
    pub const fn plus(self, steps: u64) -> Self {
        Self(self.0.wrapping_add(steps))
    }
}

impl fmt::Display for ExtSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.roc(), self.0 as u16)
    }
}

/// Extends received sequence numbers. The first one gets rollover count 1, so that packets from
/// before it still have a number; the counter is therefore not SRTP's.
#[derive(Clone, Debug, Default)]
pub struct SeqUnwrapper {
    highest: Option<u64>,
}

impl SeqUnwrapper {
    /// One that has seen `highest`.
    pub const fn starting(highest: ExtSeq) -> Self {
        Self { highest: Some(highest.0) }
    }

    /// The extended number nearest to the highest one so far.
    pub fn unwrap(&mut self, seq: Seq) -> ExtSeq {
        let value = self.peek(seq);
        if self.highest.is_none_or(|highest| value.0 > highest) {
            self.highest = Some(value.0);
        }
        value
    }

    /// As [`Self::unwrap`], but remembers nothing.
    pub fn peek(&self, seq: Seq) -> ExtSeq {
        match self.highest {
            None => ExtSeq((1 << 16) | u64::from(seq.0)),
            Some(highest) => {
                let step = seq.since(Seq(highest as u16));
                ExtSeq(highest.saturating_add_signed(i64::from(step)))
            }
        }
    }
}

/// A media timestamp as on the wire, in ticks of the payload's clock rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// Ticks from `earlier` to `self`, negative when `self` is the older one.
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// The time `ticks` later; only the low 32 bits count.
    #[must_use]
    pub const fn plus(self, ticks: i64) -> Self {
        Self(self.0.wrapping_add(ticks as u32))
    }
}

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Fewer bytes than the header needs.
    #[error("an RTP packet of {0} bytes ends within its header")]
    Short(usize),
    /// The version is not 2.
    #[error("RTP version {0} instead of 2")]
    Version(u8),
    /// The padding count is zero or reaches into the header.
    #[error("RTP padding of {0} bytes does not fit the packet")]
    Padding(u8),
}

/// A packet read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// For video the last packet of a picture, for audio the first after silence.
    pub marker: bool,
    /// Which codec, by SDP; below 128.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: Seq,
    /// Media time.
    pub time: RtpTime,
    /// The sender's stream.
    pub ssrc: u32,
    /// The profile word and the bytes of the header extension.
    extension: Option<(u16, &'a [u8])>,
    /// What the codec gets, without padding.
    pub payload: &'a [u8],
    /// Where the payload begins in the packet.
    pub header_bytes: usize,
}

impl<'a> RtpPacket<'a> {
    /// Reads a decrypted packet.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let short = PacketError::Short(bytes.len());
        let (fixed, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
        if fixed[0] >> 6 != 2 {
            return Err(PacketError::Version(fixed[0] >> 6));
        }
        let sources = usize::from(fixed[0] & 0x0f) * 4;
        let mut rest = rest.get(sources..).ok_or(short)?;
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let (head, after) = rest.split_first_chunk::<4>().ok_or(short)?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
            let (body, after) = after.split_at_checked(length).ok_or(short)?;
            extension = Some((u16::from_be_bytes([head[0], head[1]]), body));
            rest = after;
        }
        let header_bytes = bytes.len() - rest.len();
        if fixed[0] & 0x20 != 0 {
            let padding = rest.last().copied().unwrap_or(0);
            let kept = rest.len().checked_sub(usize::from(padding));
            rest = match kept {
                Some(kept) if padding > 0 => &rest[..kept],
                _ => return Err(PacketError::Padding(padding)),
            };
        }
        Ok(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            seq: Seq(u16::from_be_bytes([fixed[2], fixed[3]])),
            time: RtpTime(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            extension,
            payload: rest,
            header_bytes,
        })
    }

    /// The value of the extension element with this id (1 to 255, from SDP), if it is there.
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions().find(|element| element.0 == id).map(|element| element.1)
    }

    /// All extension elements; a malformed element ends them.
    pub fn extensions(&self) -> Extensions<'a> {
        match self.extension {
            Some((0xBEDE, bytes)) => Extensions { bytes, two_byte: false },
            Some((profile, bytes)) if profile >> 4 == 0x100 => Extensions { bytes, two_byte: true },
            _ => Extensions { bytes: &[], two_byte: false },
        }
    }
}

/// Walks over RFC 8285 elements as id and value.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    bytes: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((&first, rest)) = self.bytes.split_first() {
            if first == 0 {
                self.bytes = rest;
                continue;
            }
            let (id, length, rest) = if self.two_byte {
                let (&length, rest) = rest.split_first()?;
                (first, usize::from(length), rest)
            } else {
                // Id 15 ends the list, RFC 8285 4.2.
                if first >> 4 == 15 {
                    return None;
                }
                (first >> 4, usize::from(first & 0x0f) + 1, rest)
            };
            let Some((value, rest)) = rest.split_at_checked(length) else {
                self.bytes = &[];
                return None;
            };
            self.bytes = rest;
            return Some((id, value));
        }
        None
    }
}

/// What goes into a header that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// For video the last packet of a picture.
    pub marker: bool,
    /// Which codec; below 128.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: Seq,
    /// Media time.
    pub time: RtpTime,
    /// Our stream.
    pub ssrc: u32,
}

impl Header {
    /// Appends the header with the given extension elements and returns how many bytes it has.
    /// Ids are 1 to 14 and values 1 to 16 bytes (the one-byte form, which every browser reads);
    /// other elements are left out, as are those that would make the block longer than 255 words.
    ///
    /// All packets of a frame must carry elements of the same lengths: they go out as segments of
    /// one size.
    pub fn write(&self, extensions: &[(u8, &[u8])], out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.push(0x80);
        out.push(u8::from(self.marker) << 7 | (self.payload_type & 0x7f));
        out.extend_from_slice(&self.seq.0.to_be_bytes());
        out.extend_from_slice(&self.time.0.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        let block = out.len();
        for &(id, value) in extensions {
            let fits = out.len() + 1 + value.len() <= block + 4 + 255 * 4;
            if (1..=14).contains(&id) && (1..=16).contains(&value.len()) && fits {
                if out.len() == block {
                    out.extend_from_slice(&[0xBE, 0xDE, 0, 0]);
                }
                out.push(id << 4 | (value.len() as u8 - 1));
                out.extend_from_slice(value);
            }
        }
        if out.len() > block {
            while !(out.len() - block).is_multiple_of(4) {
                out.push(0);
            }
            out[start] |= 0x10;
            let words = ((out.len() - block) / 4 - 1) as u16;
            out[block + 2..block + 4].copy_from_slice(&words.to_be_bytes());
        }
        out.len() - start
    }
}

/// The `playout-delay` element: bounds on how long a browser may hold a picture back, each 0 to
/// 40.95 s in steps of 10 ms. Minimum 0 with a maximum of at most 500 ms makes Chromium show each
/// picture as soon as it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayoutDelay {
    /// Least delay in milliseconds.
    pub min_ms: u16,
    /// Most delay in milliseconds.
    pub max_ms: u16,
}

impl PlayoutDelay {
    /// The value of the extension element: two numbers of 12 bits.
    pub fn bytes(self) -> [u8; 3] {
        let (min, max) = ((self.min_ms / 10).min(0xfff), (self.max_ms / 10).min(0xfff));
        [(min >> 4) as u8, (min << 4) as u8 | (max >> 8) as u8, max as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header =
        Header { marker: true, payload_type: 102, seq: Seq(65535), time: RtpTime(7), ssrc: 0xabcd };

    #[test]
    fn sequence_numbers_are_extended_over_the_wrap_and_back() {
        let mut unwrap = SeqUnwrapper::default();
        let first = unwrap.unwrap(Seq(65534));
        assert_eq!(unwrap.unwrap(Seq(1)), first.plus(3));
        assert_eq!(unwrap.unwrap(Seq(65535)), first.plus(1), "an old one keeps its number");
        assert_eq!(unwrap.unwrap(Seq(2)), first.plus(4));
        assert_eq!(first.plus(3).roc(), first.roc() + 1);
    }

    #[test]
    fn both_forms_of_extensions_are_read() {
        let mut one = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xBE, 0xDE, 0, 2];
        one.extend_from_slice(&[0x31, 7, 8, 0, 0x50, 9, 0xF0, 0, b'x']);
        let packet = RtpPacket::parse(&one).unwrap();
        assert_eq!(packet.extension(3), Some(&[7, 8][..]));
        assert_eq!(packet.extension(5), Some(&[9][..]));
        assert_eq!(packet.extension(4), None);
        assert_eq!(packet.payload, b"x");
        let mut two = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x10, 0x00, 0, 2];
        two.extend_from_slice(&[20, 0, 21, 3, 1, 2, 3, 0]);
        let packet = RtpPacket::parse(&two).unwrap();
        assert_eq!(packet.extension(20), Some(&[][..]));
        assert_eq!(packet.extension(21), Some(&[1, 2, 3][..]));
    }

    #[test]
    fn broken_headers_are_refused_with_the_reason() {
        let check = |bytes: &[u8], error| assert_eq!(RtpPacket::parse(bytes), Err(error));
        check(&[0x80; 11], PacketError::Short(11));
        check(&[0x40; 12], PacketError::Version(1));
        check(&[0x81; 12], PacketError::Short(12));
        check(&[0xa0; 12], PacketError::Padding(0));
        check(&[&[0xa0; 12][..], &[9]].concat(), PacketError::Padding(9));
        check(&[0x90; 16], PacketError::Short(16));
    }

    #[test]
    fn playout_delay_is_two_numbers_of_twelve_bits() {
        assert_eq!(PlayoutDelay { min_ms: 0, max_ms: 500 }.bytes(), [0, 0, 50]);
        assert_eq!(PlayoutDelay { min_ms: 40_950, max_ms: 40_950 }.bytes(), [255, 255, 255]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            elements in prop::collection::vec((1..=14_u8, prop::collection::vec(any::<u8>(), 1..=16)), 0..5),
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let borrowed: Vec<_> = elements.iter().map(|(id, value)| (*id, &value[..])).collect();
            let mut out = vec![1, 2, 3];
            let header_bytes = HEADER.write(&borrowed, &mut out);
            out.extend_from_slice(&payload);
            let packet = RtpPacket::parse(&out[3..]).unwrap();
            prop_assert_eq!(packet.header_bytes, header_bytes);
            prop_assert_eq!(packet.payload, &payload[..]);
            prop_assert_eq!((packet.seq, packet.time, packet.ssrc), (HEADER.seq, HEADER.time, HEADER.ssrc));
            prop_assert!(packet.marker && packet.payload_type == 102);
            prop_assert_eq!(packet.extensions().collect::<Vec<_>>(), borrowed);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = RtpPacket::parse(&bytes) {
                for (_, value) in packet.extensions() { prop_assert!(value.len() <= 255); }
            }
        }
    }
}
