//! VP9 as bytes: the beginning of the uncompressed header (VP9 bitstream specification 0.6, 6.2)
//! and the record of FLV and MP4 (VP codec in ISO base media files, 1.0).

use bytes::{Bytes, BytesMut};

use crate::bits::BitReader;
use crate::frame::Size;
use crate::h264::ChromaFormat;
use crate::packet::{Codec, VideoTrack};

/// What is wrong with bytes that should be VP9; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data ends too early.
    #[error("VP9 {what} ends before {field}")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// The field that is missing.
        field: &'static str,
    },
    /// A field has a value that the specification or this node does not allow.
    #[error("VP9 {field} is {value}, which is not allowed")]
    OutOfRange {
        /// The field, by its name in the specification.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// What a key frame says about the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrame {
    /// Profile, 0 to 3.
    pub profile: u8,
    /// Picture size in pixels.
    pub size: Size,
    /// Bits of a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// Chroma sampling.
    pub chroma_format: ChromaFormat,
    /// `color_space`: 0 unknown, 1 BT.601, 2 BT.709, 5 BT.2020, 7 RGB.
    pub color_space: u8,
    /// `color_range`.
    pub full_range: bool,
}

impl KeyFrame {
    /// What the frame, or the first of a superframe, says; `None` when it is no key frame.
    ///
    /// # Errors
    /// [`Error`] for what is no VP9.
    pub fn parse(frame: &[u8]) -> Result<Option<Self>, Error> {
        let mut bits = BitReader::new(frame);
        let mut take = |count, field| {
            bits.bits(count).ok_or(Error::Truncated { what: "uncompressed header", field })
        };
        let range = |field, value, ok: bool| {
            if ok { Ok(()) } else { Err(Error::OutOfRange { field, value }) }
        };
        let marker = take(2, "frame_marker")?;
        range("frame_marker", marker, marker == 2)?;
        let low = take(1, "profile_low_bit")?;
        let profile = take(1, "profile_high_bit")? << 1 | low;
        if profile == 3 {
            let reserved = take(1, "reserved_zero")?;
            range("reserved_zero", reserved, reserved == 0)?;
        }
        if take(1, "show_existing_frame")? == 1 || take(1, "frame_type")? == 1 {
            return Ok(None);
        }
        take(2, "show_frame")?;
        let sync = take(24, "frame_sync_code")?;
        range("frame_sync_code", sync, sync == 0x49_8342)?;
        let bit_depth = match profile {
            0 | 1 => 8,
            _ if take(1, "ten_or_twelve_bit")? == 1 => 12,
            _ => 10,
        };
        let color_space = take(3, "color_space")?;
        let odd = profile & 1 == 1;
        let (mut full_range, mut sampling) = (true, 0);
        if color_space != 7 {
            full_range = take(1, "color_range")? == 1;
            sampling = if odd { take(2, "subsampling_x")? } else { 3 };
        }
        if odd {
            take(1, "reserved_zero")?;
        }
        let width = take(16, "frame_width_minus_1")? + 1;
        let height = take(16, "frame_height_minus_1")? + 1;
        let size = Size::new(width, height);
        range("frame_width_minus_1", width.max(height), size.is_valid())?;
        let chroma_format = match sampling {
            3 => ChromaFormat::Yuv420,
            2 => ChromaFormat::Yuv422,
            // 4:4:0 has no name of its own here.
            _ => ChromaFormat::Yuv444,
        };
        let (profile, color_space) = (profile as u8, color_space as u8);
        Ok(Some(Self { profile, size, bit_depth, chroma_format, color_space, full_range }))
    }

    /// `VPCodecConfigurationRecord`, without the head of the box that it stands in. The level is
    /// the lowest that allows pictures of this size 60 times a second, as the stream does not say.
    pub fn record(&self) -> [u8; 8] {
        let chroma = match self.chroma_format {
            ChromaFormat::Yuv422 => 2,
            ChromaFormat::Yuv444 => 3,
            ChromaFormat::Yuv420 | ChromaFormat::Monochrome => 1,
        };
        let third = self.bit_depth << 4 | chroma << 1 | u8::from(self.full_range);
        let [primaries, transfer, matrix] = match self.color_space {
            1 => [6, 6, 6],
            2 => [1, 1, 1],
            3 => [6, 6, 6],
            4 => [7, 7, 7],
            5 => [9, 14, 9],
            7 => [1, 13, 0],
            _ => [2, 2, 2],
        };
        [self.profile, level(self.size), third, primaries, transfer, matrix, 0, 0]
    }

    /// The track of a stream that begins with this frame; its parameter sets are the record.
    pub fn track(&self) -> VideoTrack {
        let parameter_sets = Bytes::copy_from_slice(&self.record());
        VideoTrack { codec: Codec::Vp9, size: self.size, parameter_sets }
    }
}

/// The lowest level for pictures of `size` at 60 frames a second (VP9 levels, largest picture and
/// luma samples a second).
pub(crate) fn level(size: Size) -> u8 {
    const LEVELS: [(u8, u64, u64); 11] = [
        (10, 36_864, 829_440),
        (11, 73_728, 2_764_800),
        (20, 122_880, 4_608_000),
        (21, 245_760, 9_216_000),
        (30, 552_960, 20_736_000),
        (31, 983_040, 36_864_000),
        (40, 2_228_224, 83_558_400),
        (41, 2_228_224, 160_432_128),
        (50, 8_912_896, 311_951_360),
        (51, 8_912_896, 588_251_136),
        (52, 8_912_896, 1_176_502_272),
    ];
    let pixels = size.pixels();
    let fits = |level: &&(u8, u64, u64)| pixels <= level.1 && pixels * 60 <= level.2;
    LEVELS.iter().find(fits).map_or(60, |level| level.0)
}

/// Looks at the frames of one stream; there is nothing to put together.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    key: Option<KeyFrame>,
}

/// A frame or superframe.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The bytes as they came.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub key: bool,
    /// Whether size, profile or colours are others than those of the last key frame.
    pub changed: bool,
}

impl Assembler {
    /// One that has seen no key frame yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The track as the last key frame describes it.
    pub fn track(&self) -> Option<VideoTrack> {
        self.key.as_ref().map(KeyFrame::track)
    }

    /// What the last key frame said.
    pub fn key_frame(&self) -> Option<&KeyFrame> {
        self.key.as_ref()
    }

    /// Looks at a frame. `None` for an empty one, which says that a frame was skipped.
    ///
    /// # Errors
    /// [`Error`] for what is no VP9.
    pub fn frame(&mut self, data: Bytes) -> Result<Option<Unit>, Error> {
        if data.is_empty() {
            return Ok(None);
        }
        let Some(key) = KeyFrame::parse(&data)? else {
            return Ok(Some(Unit { data, key: false, changed: false }));
        };
        let changed = self.key.replace(key) != Some(key);
        Ok(Some(Unit { data, key: true, changed }))
    }
}

/// The parameter sets that a record stands for: what [`KeyFrame::record`] gives. Some writers put
/// the head of the box (version 1, flags 0) in front; it is taken off.
///
/// # Errors
/// [`Error::Truncated`] for less than a record.
pub fn record(bytes: &[u8]) -> Result<Bytes, Error> {
    let bytes = bytes.strip_prefix(&[1, 0, 0, 0]).unwrap_or(bytes);
    let record: &[u8; 8] = bytes.first_chunk().ok_or(Error::Truncated {
        what: "VPCodecConfigurationRecord",
        field: "codecInitializationDataSize",
    })?;
    Ok(BytesMut::from(&record[..]).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Profile 0, 352x288, as libvpx begins a stream.
    const KEY: &[u8] =
        &[0x82, 0x49, 0x83, 0x42, 0x00, 0x15, 0xf0, 0x11, 0xf0, 0x00, 0x38, 0x24, 0x1c, 0x18];

    #[test]
    fn a_key_frame_says_what_the_record_needs() {
        let key = KeyFrame::parse(KEY).unwrap().unwrap();
        assert_eq!((key.profile, key.size), (0, Size::new(352, 288)));
        assert_eq!(key.record(), [0, 21, 0x82, 2, 2, 2, 0, 0]);
        assert_eq!(record(&key.record()).unwrap()[..], key.record());
        let boxed = [&[1, 0, 0, 0][..], &key.record()].concat();
        assert_eq!(record(&boxed).unwrap()[..], key.record());
    }

    #[test]
    fn other_frames_are_told_from_key_frames() {
        let mut assembler = Assembler::new();
        assert!(!assembler.frame(Bytes::from_static(&[0x86, 0x00])).unwrap().unwrap().key);
        assert!(assembler.track().is_none());
        let first = assembler.frame(Bytes::from_static(KEY)).unwrap().unwrap();
        assert!(first.key && first.changed);
        let again = assembler.frame(Bytes::from_static(KEY)).unwrap().unwrap();
        assert!(again.key && !again.changed);
        assert!(assembler.frame(Bytes::new()).unwrap().is_none());
        assert!(assembler.frame(Bytes::from_static(&[0x12])).is_err());
        for end in 1..9 {
            assert!(KeyFrame::parse(&KEY[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn levels_grow_with_the_picture() {
        let of = |width, height| level(Size::new(width, height));
        assert_eq!([of(176, 144), of(1280, 720), of(1920, 1080)], [11, 40, 41]);
        assert_eq!([of(3840, 2160), of(8192, 8192)], [51, 60]);
    }
}
