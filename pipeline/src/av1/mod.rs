//! AV1 as bytes: open bitstream units, the sequence header, temporal units, and the record of FLV
//! and MP4.
//!
//! One form is used inside the node: a temporal unit of OBUs that all have a size field ("low
//! overhead", 5.2), without temporal delimiters, padding and tile lists; a key unit begins with
//! its sequence header. Numbers of sections are those of the AV1 bitstream specification (version
//! 1.0.0 with errata 1).

mod assemble;
mod record;
mod sequence;

use bytes::{BufMut, BytesMut};

pub use assemble::{Assembler, Unit};
pub use record::CodecConfiguration;
pub use sequence::SequenceHeader;

/// Bytes of a sequence header, at most.
pub const SEQUENCE_HEADER_BYTES_MAX: usize = 4096;

/// What is wrong with bytes that should be AV1. All variants are the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data ends too early.
    #[error("AV1 {what} ends before {field}")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// The field that is missing, by its name in the specification.
        field: &'static str,
    },
    /// A field has a value that the specification or this node does not allow.
    #[error("AV1 {field} is {value}, which is not allowed")]
    OutOfRange {
        /// The field, by its name in the specification.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An OBU reaches beyond the temporal unit.
    #[error("AV1 OBU at byte {at} is said to have {claimed} bytes, {left} are left")]
    Length {
        /// Byte of the OBU in the temporal unit.
        at: usize,
        /// The length that it states.
        claimed: u64,
        /// Bytes that follow its header.
        left: usize,
    },
    /// A key picture whose sequence header never came.
    #[error("AV1 key picture without a sequence header")]
    MissingSequenceHeader,
}

/// `obu_type` (6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObuKind {
    /// 1: sequence header.
    SequenceHeader,
    /// 2: temporal delimiter.
    TemporalDelimiter,
    /// 3: frame header.
    FrameHeader,
    /// 4: tile group.
    TileGroup,
    /// 5: metadata.
    Metadata,
    /// 6: frame header and tile group.
    Frame,
    /// 7: repeated frame header.
    RedundantFrameHeader,
    /// 8: tile list.
    TileList,
    /// 15: padding.
    Padding,
    /// Anything else.
    Other(u8),
}

impl ObuKind {
    /// The kind that an OBU's first byte states.
    pub const fn of(header: u8) -> Self {
        match (header >> 3) & 15 {
            1 => Self::SequenceHeader,
            2 => Self::TemporalDelimiter,
            3 => Self::FrameHeader,
            4 => Self::TileGroup,
            5 => Self::Metadata,
            6 => Self::Frame,
            7 => Self::RedundantFrameHeader,
            8 => Self::TileList,
            15 => Self::Padding,
            other => Self::Other(other),
        }
    }

    /// Whether the form of the node leaves it out.
    pub const fn is_dropped(self) -> bool {
        matches!(self, Self::TemporalDelimiter | Self::TileList | Self::Padding | Self::Other(_))
    }
}

/// One open bitstream unit (5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obu<'a> {
    /// Its first byte, `obu_header`.
    pub header: u8,
    /// `obu_extension_header`, where there is one.
    pub extension: Option<u8>,
    /// What follows header and size.
    pub payload: &'a [u8],
    /// All of it as it came.
    pub whole: &'a [u8],
}

impl Obu<'_> {
    /// What it is.
    pub const fn kind(&self) -> ObuKind {
        ObuKind::of(self.header)
    }

    /// Whether it says how long it is, so that another may follow.
    pub const fn has_size(&self) -> bool {
        self.header & 2 != 0
    }

    /// Appends it with a size field.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_u8(self.header | 2);
        if let Some(extension) = self.extension {
            out.put_u8(extension);
        }
        write_leb128(out, self.payload.len() as u64);
        out.put_slice(self.payload);
    }
}

/// The OBUs of a temporal unit or of a record; the last one may do without a size field. After an
/// error there are no more.
pub fn obus(unit: &[u8]) -> Obus<'_> {
    Obus { unit, at: 0 }
}

/// Iterator of [`obus`].
#[derive(Clone, Debug)]
pub struct Obus<'a> {
    unit: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Obus<'a> {
    type Item = Result<Obu<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.unit.len() {
            return None;
        }
        let obu = self.read();
        self.at = match &obu {
            Ok(obu) => self.at + obu.whole.len(),
            Err(_) => self.unit.len(),
        };
        Some(obu)
    }
}

impl<'a> Obus<'a> {
    fn read(&self) -> Result<Obu<'a>, Error> {
        let at = self.at;
        let rest = &self.unit[at..];
        let truncated = |field| Error::Truncated { what: "OBU", field };
        let header = rest[0];
        if header & 0x80 != 0 {
            return Err(Error::OutOfRange { field: "obu_forbidden_bit", value: 1 });
        }
        let mut begin = 1;
        let mut extension = None;
        if header & 4 != 0 {
            extension = Some(*rest.get(1).ok_or(truncated("obu_extension_header"))?);
            begin = 2;
        }
        let mut end = rest.len();
        if header & 2 != 0 {
            let (size, bytes) = leb128(&rest[begin..]).ok_or(truncated("obu_size"))?;
            begin += bytes;
            let left = rest.len() - begin;
            if size > left as u64 {
                return Err(Error::Length { at, claimed: size, left });
            }
            end = begin + size as usize;
        }
        Ok(Obu { header, extension, payload: &rest[begin..end], whole: &rest[..end] })
    }
}

/// A number of `leb128()` (4.10.5) and the bytes that it takes, 8 at most.
pub fn leb128(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (value <= u64::from(u32::MAX)).then_some((value, index + 1));
        }
    }
    None
}

/// Appends `value` as `leb128()`.
pub fn write_leb128(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests;
