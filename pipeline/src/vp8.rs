//! VP8 as bytes: the uncompressed data chunk in front of a frame (RFC 6386 9.1).

use bytes::Bytes;

use crate::frame::Size;
use crate::packet::{Codec, VideoTrack};

/// What is wrong with bytes that should be VP8; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The frame ends within its head.
    #[error("VP8 frame of {0} bytes is no frame")]
    Truncated(usize),
    /// A key frame without its start code.
    #[error("VP8 key frame without start code")]
    StartCode,
    /// A picture without pixels, or larger than this node takes.
    #[error("VP8 picture of {0}")]
    Size(Size),
}

/// The size that a frame states; `None` when it is no key frame.
///
/// # Errors
/// [`Error`] for what is no VP8.
pub fn key_frame(frame: &[u8]) -> Result<Option<Size>, Error> {
    let truncated = Error::Truncated(frame.len());
    let &[first, ..] = frame.first_chunk::<3>().ok_or(truncated)?;
    if first & 1 == 1 {
        return Ok(None);
    }
    let &[_, _, _, a, b, c, w0, w1, h0, h1] = frame.first_chunk::<10>().ok_or(truncated)?;
    if [a, b, c] != [0x9d, 0x01, 0x2a] {
        return Err(Error::StartCode);
    }
    // The upper two bits are a hint to scale, which players leave to the page.
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let size = Size::new(side(w0, w1), side(h0, h1));
    if size.is_valid() { Ok(Some(size)) } else { Err(Error::Size(size)) }
}

/// Looks at the frames of one stream; there is nothing to put together.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    size: Option<Size>,
}

/// A frame.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The bytes as they came.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub key: bool,
    /// Whether the size is another than that of the last key frame.
    pub changed: bool,
}

impl Assembler {
    /// One that has seen no key frame yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The track as the last key frame describes it.
    pub fn track(&self) -> Option<VideoTrack> {
        let parameter_sets = Bytes::new();
        self.size.map(|size| VideoTrack { codec: Codec::Vp8, size, parameter_sets })
    }

    /// Looks at a frame. `None` for an empty one, which says that a frame was skipped.
    ///
    /// # Errors
    /// [`Error`] for what is no VP8.
    pub fn frame(&mut self, data: Bytes) -> Result<Option<Unit>, Error> {
        if data.is_empty() {
            return Ok(None);
        }
        let Some(size) = key_frame(&data)? else {
            return Ok(Some(Unit { data, key: false, changed: false }));
        };
        let changed = self.size.replace(size) != Some(size);
        Ok(Some(Unit { data, key: true, changed }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_states_its_size() {
        let key = [0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x40];
        assert_eq!(key_frame(&key), Ok(Some(Size::new(320, 180))));
        assert_eq!(key_frame(&[0x11, 2, 0]), Ok(None));
        assert_eq!(key_frame(&key[..9]), Err(Error::Truncated(9)));
        let mut other = key;
        other[3] = 0;
        assert_eq!(key_frame(&other), Err(Error::StartCode));
        let empty = [0x10, 2, 0, 0x9d, 0x01, 0x2a, 0, 0, 0, 0];
        assert_eq!(key_frame(&empty), Err(Error::Size(Size::new(0, 0))));
        let mut assembler = Assembler::new();
        assert!(assembler.frame(Bytes::copy_from_slice(&key)).unwrap().unwrap().changed);
        assert!(!assembler.frame(Bytes::copy_from_slice(&key)).unwrap().unwrap().changed);
        assert_eq!(assembler.track().unwrap().size, Size::new(320, 180));
    }
}
