//! MPEG-1/2 audio layer III as bytes: the header of a frame (ISO/IEC 11172-3 2.4.1.3 and
//! 13818-3 2.4.2.3). Frames are not opened.

use bytes::Bytes;

use crate::packet::{AudioTrack, Codec};

/// What is wrong with bytes that should be MP3; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The frame ends within its header.
    #[error("MP3 frame of {0} bytes is no frame")]
    Truncated(usize),
    /// Not the sync word of a frame.
    #[error("no MP3 sync word")]
    NoSync,
    /// A field has a reserved value, or one of another layer.
    #[error("MP3 {field} is {value}, which is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
}

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels, 1 or 2.
    pub channels: u8,
    /// Samples of each channel in the frame: 1152, or 576 at the low rates.
    pub samples: u32,
    /// Bytes of the whole frame; `None` in free format.
    pub frame_bytes: Option<usize>,
}

impl FrameHeader {
    /// Reads the four bytes in front of a frame.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(frame: &[u8]) -> Result<Self, Error> {
        let &[a, b, c, d] = frame.first_chunk::<4>().ok_or(Error::Truncated(frame.len()))?;
        if a != 0xff || b & 0xe0 != 0xe0 {
            return Err(Error::NoSync);
        }
        let unsupported = |field, value| Err(Error::Unsupported { field, value });
        let (halved, first) = match (b >> 3) & 3 {
            3 => (1, true),
            2 => (2, false),
            0 => (4, false),
            value => return unsupported("version", value),
        };
        if (b >> 1) & 3 != 1 {
            return unsupported("layer", (b >> 1) & 3);
        }
        let sample_rate = match (c >> 2) & 3 {
            0 => 44_100,
            1 => 48_000,
            2 => 32_000,
            value => return unsupported("sampling_frequency", value),
        } / halved;
        const FIRST: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
        const SECOND: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        let table = if first { &FIRST } else { &SECOND };
        let Some(&kbits) = table.get(usize::from(c >> 4)) else {
            return unsupported("bitrate_index", c >> 4);
        };
        let samples = if first { 1152 } else { 576 };
        let padding = u32::from((c >> 1) & 1);
        let bytes = samples / 8 * kbits * 1000 / sample_rate + padding;
        let channels = if d >> 6 == 3 { 1 } else { 2 };
        let frame_bytes = (kbits > 0).then_some(bytes as usize);
        Ok(Self { sample_rate, channels, samples, frame_bytes })
    }

    /// The track of frames with this header.
    pub fn track(&self) -> AudioTrack {
        let (sample_rate, channels, config) = (self.sample_rate, self.channels, Bytes::new());
        AudioTrack { codec: Codec::Mp3, sample_rate, channels, config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_follow_the_tables() {
        let parse = |bytes: [u8; 4]| FrameHeader::parse(&bytes).unwrap();
        let first = parse([0xff, 0xfb, 0x90, 0x64]);
        assert_eq!((first.sample_rate, first.channels, first.samples), (44_100, 2, 1152));
        assert_eq!(first.frame_bytes, Some(417));
        let second = parse([0xff, 0xf3, 0x84, 0xc0]);
        assert_eq!((second.sample_rate, second.channels, second.samples), (24_000, 1, 576));
        assert_eq!(second.frame_bytes, Some(192));
        assert_eq!(parse([0xff, 0xfb, 0x04, 0]).frame_bytes, None);
        for wrong in [[0xff, 0xf9, 0x90, 0], [0xff, 0xeb, 0x90, 0], [0xff, 0xfb, 0xf0, 0]] {
            assert!(matches!(FrameHeader::parse(&wrong), Err(Error::Unsupported { .. })));
        }
        assert_eq!(FrameHeader::parse(b"ID3\x04"), Err(Error::NoSync));
        assert_eq!(FrameHeader::parse(&[0xff]), Err(Error::Truncated(1)));
    }
}
