//! AV1CodecConfigurationRecord (AV1 in ISO base media files, 2.3.3): what FLV and MP4 say before
//! the first picture.

use bytes::{BufMut, Bytes, BytesMut};

use crate::h264::ChromaFormat;

use super::{Error, ObuKind, SEQUENCE_HEADER_BYTES_MAX, SequenceHeader, obus};

/// The record: four bytes that repeat what the sequence header says, and the header itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecConfiguration {
    /// The sequence header OBU with a size field; empty where the writer left it to the stream.
    pub sequence_header: Bytes,
    /// `seq_profile`, `seq_level_idx_0` and the flags behind them, as they stand in the record.
    pub head: [u8; 3],
}

impl CodecConfiguration {
    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::OutOfRange`] for another version, and those of the sequence
    /// header in it.
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        let Some((&[version, a, b, c], rest)) = record.split_first_chunk::<4>() else {
            let what = "codec configuration record";
            return Err(Error::Truncated { what, field: "initial_presentation_delay" });
        };
        if version != 0x81 {
            return Err(Error::OutOfRange { field: "version", value: version.into() });
        }
        if rest.len() > SEQUENCE_HEADER_BYTES_MAX {
            return Err(Error::OutOfRange { field: "configOBUs", value: rest.len() as u64 });
        }
        let mut sequence_header = BytesMut::new();
        for obu in obus(rest) {
            let obu = obu?;
            if obu.kind() == ObuKind::SequenceHeader && sequence_header.is_empty() {
                SequenceHeader::parse(obu.payload)?;
                obu.write(&mut sequence_header);
            }
        }
        Ok(Self { sequence_header: sequence_header.freeze(), head: [a, b, c] })
    }

    /// The record for a sequence header OBU with size field (as in
    /// [`crate::packet::VideoTrack::parameter_sets`]).
    ///
    /// # Errors
    /// Those of [`SequenceHeader::parse`]; [`Error::MissingSequenceHeader`] when there is none.
    pub fn from_sequence_header(obu: &Bytes) -> Result<Self, Error> {
        let info = parsed(obu)?;
        let flag = |set: bool, bit: u8| u8::from(set) << bit;
        let (x, y) = match info.chroma_format {
            ChromaFormat::Monochrome | ChromaFormat::Yuv420 => (true, true),
            ChromaFormat::Yuv422 => (true, false),
            ChromaFormat::Yuv444 => (false, false),
        };
        let third = flag(info.high_tier, 7)
            | flag(info.bit_depth > 8, 6)
            | flag(info.bit_depth == 12, 5)
            | flag(info.chroma_format == ChromaFormat::Monochrome, 4)
            | flag(x, 3)
            | flag(y, 2)
            | (info.chroma_position & 3);
        let head = [info.profile << 5 | info.level, third, 0];
        Ok(Self { sequence_header: obu.clone(), head })
    }

    /// The record's bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(4 + self.sequence_header.len());
        out.put_u8(0x81);
        out.put_slice(&self.head);
        out.put_slice(&self.sequence_header);
        out.freeze()
    }
}

/// What the first sequence header among `bytes` says.
pub(super) fn parsed(bytes: &[u8]) -> Result<SequenceHeader, Error> {
    for obu in obus(bytes) {
        let obu = obu?;
        if obu.kind() == ObuKind::SequenceHeader {
            return SequenceHeader::parse(obu.payload);
        }
    }
    Err(Error::MissingSequenceHeader)
}
