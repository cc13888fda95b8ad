//! FLAC as bytes: the stream's head (RFC 9639 8). Frames are not opened.
//!
//! A track's config is the signature `fLaC` and the STREAMINFO block with its header, marked as the
//! last one: 42 bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;
use crate::packet::{AudioTrack, Codec};

/// Bytes of a track's config.
pub const CONFIG_BYTES: usize = 42;

/// Bytes of a STREAMINFO block.
const STREAM_INFO_BYTES: usize = 34;

/// What is wrong with bytes that should be the head of a FLAC stream; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither the signature nor a STREAMINFO block.
    #[error("no FLAC stream information")]
    NoStreamInfo,
    /// A stream of no rate, which would have no time.
    #[error("FLAC stream with a sample rate of 0")]
    NoRate,
}

/// What STREAMINFO says (8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Samples of a channel in a block, at most.
    pub block_samples: u16,
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels, 1 to 8.
    pub channels: u8,
    /// Bits of a sample, 4 to 32.
    pub bit_depth: u8,
    /// The block as it came.
    block: [u8; STREAM_INFO_BYTES],
}

impl StreamInfo {
    /// Reads a config: the signature with the first block, or the block with or without its header.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(config: &[u8]) -> Result<Self, Error> {
        let rest = config.strip_prefix(b"fLaC").unwrap_or(config);
        let block = match rest.first_chunk::<4>() {
            // Type 0 and a length of 34, the last block or not.
            Some([0 | 0x80, 0, 0, 34]) => &rest[4..],
            _ if rest.len() == STREAM_INFO_BYTES => rest,
            _ => return Err(Error::NoStreamInfo),
        };
        let block = *block.first_chunk::<STREAM_INFO_BYTES>().ok_or(Error::NoStreamInfo)?;
        let mut bits = BitReader::new(&block[2..]);
        let mut take = |count| bits.bits(count).ok_or(Error::NoStreamInfo);
        let block_samples = take(16)? as u16;
        take(24)?;
        take(24)?;
        let sample_rate = take(20)?;
        let channels = take(3)? as u8 + 1;
        let bit_depth = take(5)? as u8 + 1;
        if sample_rate == 0 {
            return Err(Error::NoRate);
        }
        Ok(Self { block_samples, sample_rate, channels, bit_depth, block })
    }

    /// The block with its header, as MP4's `dfLa` has it.
    pub fn block(&self) -> Bytes {
        self.config().slice(4..)
    }

    /// The config of a track.
    pub fn config(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(CONFIG_BYTES);
        out.put_slice(b"fLaC\x80\0\0\x22");
        out.put_slice(&self.block);
        out.freeze()
    }

    /// The track of such a stream.
    pub fn track(&self) -> AudioTrack {
        let (sample_rate, channels, config) = (self.sample_rate, self.channels, self.config());
        AudioTrack { codec: Codec::Flac, sample_rate, channels, config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 48 kHz, stereo, 16 bits, blocks of 4,608 samples.
    const BLOCK: [u8; STREAM_INFO_BYTES] = [
        0x12, 0x00, 0x12, 0x00, 0, 0, 0, 0, 0, 0, 0x0b, 0xb8, 0x02, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn all_spellings_of_the_head_are_read() {
        let info = StreamInfo::parse(&BLOCK).unwrap();
        assert_eq!((info.sample_rate, info.channels, info.bit_depth), (48_000, 2, 16));
        assert_eq!(info.block_samples, 4608);
        assert_eq!(StreamInfo::parse(&info.config()), Ok(info));
        assert_eq!(StreamInfo::parse(&info.block()), Ok(info));
        assert_eq!((info.config().len(), info.block().len()), (CONFIG_BYTES, 38));
        let mut more = info.config().to_vec();
        more[4] = 0;
        more.extend([0x84, 0, 0, 0]);
        assert_eq!(StreamInfo::parse(&more), Ok(info));
        for end in 0..CONFIG_BYTES {
            let cut = StreamInfo::parse(&info.config()[..end]);
            assert!(cut.is_err(), "{end}");
        }
        assert_eq!(StreamInfo::parse(&[0; STREAM_INFO_BYTES]), Err(Error::NoRate));
    }
}
