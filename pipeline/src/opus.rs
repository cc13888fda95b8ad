//! Opus as bytes: how long a packet lasts (RFC 6716 3.1) and how MPEG-TS frames it (the Opus-in-TS
//! draft that FFmpeg, GStreamer and the network's gateways follow). Packets are not decoded.

use bytes::{BufMut, BytesMut};

/// Samples in a second of Opus time, whatever was encoded.
pub const SAMPLE_RATE: u32 = 48_000;

/// The longest packet, in samples at 48 kHz: 120 ms.
pub const PACKET_SAMPLES_MAX: u32 = 5760;

/// The longest packet in bytes: 48 frames of 1,275 bytes with their lengths and padding, rounded up.
pub const PACKET_BYTES_MAX: usize = 63 * 1024;

/// What is wrong with bytes that should be Opus; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The packet or header ends too early.
    #[error("Opus {what} ends before {field}")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// The field that is missing.
        field: &'static str,
    },
    /// A packet of no frames, or longer than 120 ms (RFC 6716 3.2.5).
    #[error("Opus packet of {frames} frames of {samples} samples each")]
    Duration {
        /// Frames in the packet.
        frames: u32,
        /// Samples in each, at 48 kHz.
        samples: u32,
    },
    /// A control header without its 11 bits of prefix.
    #[error("Opus control header begins with {0:#06x}")]
    NoControlHeader(u16),
}

/// Samples at 48 kHz that `packet` lasts, from its first one or two bytes.
///
/// # Errors
/// [`Error::Truncated`] for an empty packet, [`Error::Duration`] for a forbidden length.
pub fn packet_samples(packet: &[u8]) -> Result<u32, Error> {
    let what = "packet";
    let &toc = packet.first().ok_or(Error::Truncated { what, field: "TOC" })?;
    let samples = match toc >> 3 {
        // SILK: 10, 20, 40, 60 ms.
        silk @ 0..=11 => [480, 960, 1920, 2880][usize::from(silk & 3)],
        // Hybrid: 10, 20 ms.
        hybrid @ 12..=15 => [480, 960][usize::from(hybrid & 1)],
        // CELT: 2.5, 5, 10, 20 ms.
        celt => [120, 240, 480, 960][usize::from(celt & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => {
            let &count = packet.get(1).ok_or(Error::Truncated { what, field: "frame count" })?;
            u32::from(count & 0x3f)
        }
    };
    let total = frames * samples;
    if frames == 0 || total > PACKET_SAMPLES_MAX {
        return Err(Error::Duration { frames, samples });
    }
    Ok(total)
}

/// The header in front of each Opus packet in MPEG-TS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlHeader {
    /// Bytes of the packet that follows.
    pub packet_bytes: usize,
    /// Samples at 48 kHz to leave out at the start, 0 to 8,191.
    pub start_trim: Option<u16>,
    /// Samples at 48 kHz to leave out at the end, 0 to 8,191.
    pub end_trim: Option<u16>,
}

impl ControlHeader {
    /// Reads a header; answers it and the bytes it takes.
    ///
    /// # Errors
    /// [`Error::NoControlHeader`], [`Error::Truncated`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Error> {
        let truncated = |field| Error::Truncated { what: "control header", field };
        let Some((&prefix, mut rest)) = bytes.split_first_chunk::<2>() else {
            return Err(truncated("control_header_prefix"));
        };
        let prefix = u16::from_be_bytes(prefix);
        if prefix & 0xffe0 != 0x7fe0 {
            return Err(Error::NoControlHeader(prefix));
        }
        let mut packet_bytes = 0;
        loop {
            let (&byte, tail) = rest.split_first().ok_or(truncated("payload_size"))?;
            rest = tail;
            packet_bytes += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
        let mut trim = |present: bool, field| -> Result<Option<u16>, Error> {
            if !present {
                return Ok(None);
            }
            let (value, tail) = rest.split_first_chunk::<2>().ok_or(truncated(field))?;
            rest = tail;
            Ok(Some(u16::from_be_bytes(*value) & 0x1fff))
        };
        let start_trim = trim(prefix & 0x10 != 0, "start_trim")?;
        let end_trim = trim(prefix & 0x08 != 0, "end_trim")?;
        if prefix & 0x04 != 0 {
            let (&length, tail) =
                rest.split_first().ok_or(truncated("control_extension_length"))?;
            rest = tail.get(usize::from(length)..).ok_or(truncated("control_extension"))?;
        }
        Ok((Self { packet_bytes, start_trim, end_trim }, bytes.len() - rest.len()))
    }

    /// Appends the header's bytes. Trims over 8,191 samples are cut to that.
    pub fn write(&self, out: &mut BytesMut) {
        let flag = |present: bool, bit: u16| if present { bit } else { 0 };
        let flags = flag(self.start_trim.is_some(), 0x10) | flag(self.end_trim.is_some(), 0x08);
        out.put_u16(0x7fe0 | flags);
        out.put_bytes(0xff, self.packet_bytes / 255);
        out.put_u8((self.packet_bytes % 255) as u8);
        for trim in [self.start_trim, self.end_trim].into_iter().flatten() {
            out.put_u16(trim.min(0x1fff));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_follow_the_table_of_contents() {
        for (packet, samples) in [
            (&[0x00][..], 480),
            (&[0x18], 2880),
            (&[0x78], 960),
            (&[0x80], 120),
            (&[0xfc], 960),
            (&[0xfd], 1920),
            (&[0xff, 0x03], 2880),
            (&[0x83, 48], 5760),
        ] {
            assert_eq!(packet_samples(packet), Ok(samples), "{packet:02x?}");
        }
        assert_eq!(packet_samples(&[0xff, 7]), Err(Error::Duration { frames: 7, samples: 960 }));
        assert_eq!(packet_samples(&[0xff, 0]), Err(Error::Duration { frames: 0, samples: 960 }));
        assert!(packet_samples(&[]).is_err());
        assert!(packet_samples(&[0xff]).is_err());
    }

    #[test]
    fn a_control_extension_is_passed_over() {
        let (header, length) = ControlHeader::parse(&[0x7f, 0xe4, 255, 1, 2, 9, 9, 0xfc]).unwrap();
        assert_eq!((header.packet_bytes, length), (256, 7));
        assert_eq!(ControlHeader::parse(&[0x12, 0x34, 1]), Err(Error::NoControlHeader(0x1234)));
    }

    proptest! {
        #[test]
        fn a_control_header_survives_both_ways(
            packet_bytes in 0..PACKET_BYTES_MAX,
            start_trim in prop::option::of(0_u16..8192), end_trim in prop::option::of(0_u16..8192),
        ) {
            let header = ControlHeader { packet_bytes, start_trim, end_trim };
            let mut bytes = BytesMut::new();
            header.write(&mut bytes);
            prop_assert_eq!(ControlHeader::parse(&bytes), Ok((header, bytes.len())));
            prop_assert!(ControlHeader::parse(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
