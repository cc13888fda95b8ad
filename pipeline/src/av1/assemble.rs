//! One temporal unit after another, brought to the form of [`super`].

use bytes::{Bytes, BytesMut};

use crate::frame::Size;
use crate::packet::{Codec, VideoTrack};

use super::record::parsed;
use super::{
    CodecConfiguration, Error, Obu, ObuKind, SEQUENCE_HEADER_BYTES_MAX, SequenceHeader, obus,
};

/// A temporal unit in the form of [`super`].
#[derive(Clone, Debug)]
pub struct Unit {
    /// OBUs with size fields; begins with the sequence header if `key`.
    pub data: Bytes,
    /// Whether decoding can start here: a key frame that is shown.
    pub key: bool,
    /// Whether the sequence header in use is another than that of the last key unit.
    pub changed: bool,
}

/// Makes temporal units of one stream.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    /// The sequence header OBU with size field, and what it says.
    header: Option<(Bytes, SequenceHeader)>,
    /// The sequence header of the last key unit.
    shown: Bytes,
}

/// What one walk over a temporal unit found.
#[derive(Default)]
struct Found {
    key: bool,
    picture: bool,
    /// The bytes are in the form already.
    as_is: bool,
    /// The first OBU is a sequence header, and the only one.
    headed: bool,
}

impl Assembler {
    /// One that knows no sequence header yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the sequence header of a record. Answers whether it is another than before.
    ///
    /// # Errors
    /// Those of [`SequenceHeader::parse`].
    pub fn configure(&mut self, record: &CodecConfiguration) -> Result<bool, Error> {
        if record.sequence_header.is_empty() {
            return Ok(false);
        }
        let before = self.header.as_ref().map(|(bytes, _)| bytes.clone());
        for obu in obus(&record.sequence_header) {
            self.keep(&obu?)?;
        }
        Ok(self.header.as_ref().map(|(bytes, _)| bytes.clone()) != before)
    }

    /// Takes a sequence header OBU, such as that of a track. Answers as [`Self::configure`].
    ///
    /// # Errors
    /// Those of [`SequenceHeader::parse`].
    pub fn configure_obu(&mut self, obu: &Bytes) -> Result<bool, Error> {
        self.configure(&CodecConfiguration { sequence_header: obu.clone(), head: [0; 3] })
    }

    /// The track as the sequence header in use describes it; `None` before any came.
    pub fn track(&self) -> Option<VideoTrack> {
        let (bytes, info) = self.header.as_ref()?;
        Some(VideoTrack { codec: Codec::Av1, size: info.size, parameter_sets: bytes.clone() })
    }

    /// The sequence header in use.
    pub fn sequence_header(&self) -> Option<&SequenceHeader> {
        self.header.as_ref().map(|(_, info)| info)
    }

    /// The picture size of the sequence header in use.
    pub fn size(&self) -> Option<Size> {
        self.sequence_header().map(|info| info.size)
    }

    /// Brings a temporal unit to the form of the node. `None` when it holds no picture; a sequence
    /// header in it is kept all the same. Shares the bytes where they have that form already.
    ///
    /// # Errors
    /// [`Error::Length`] and the like for broken units, [`Error::MissingSequenceHeader`] for a key
    /// picture that cannot be decoded. The unit is lost, the stream can go on.
    pub fn unit(&mut self, unit: Bytes) -> Result<Option<Unit>, Error> {
        let found = self.walk(&unit)?;
        if !found.picture {
            return Ok(None);
        }
        let mut whole = Unit { data: unit, key: found.key, changed: false };
        let header = match (&self.header, found.key) {
            (Some((header, _)), true) => Some(header.clone()),
            (None, true) => return Err(Error::MissingSequenceHeader),
            (_, false) => None,
        };
        if !(found.as_is && (found.headed || !found.key)) {
            let mut out = BytesMut::with_capacity(whole.data.len() + 64);
            if let Some(header) = &header {
                out.extend_from_slice(header);
            }
            for obu in obus(&whole.data) {
                let obu = obu?;
                let repeated = found.key && obu.kind() == ObuKind::SequenceHeader;
                if !obu.kind().is_dropped() && !repeated {
                    obu.write(&mut out);
                }
            }
            whole.data = out.freeze();
        }
        if let Some(header) = header {
            whole.changed = header != self.shown;
            self.shown = header;
        }
        Ok(Some(whole))
    }

    /// Keeps the sequence headers of `unit` and looks at its first frame.
    fn walk(&mut self, unit: &[u8]) -> Result<Found, Error> {
        let mut found = Found { as_is: true, ..Found::default() };
        let mut shown_key = false;
        for (index, obu) in obus(unit).enumerate() {
            let obu = obu?;
            found.as_is &= obu.has_size() && !obu.kind().is_dropped();
            match obu.kind() {
                ObuKind::SequenceHeader => {
                    self.keep(&obu)?;
                    found.headed = index == 0;
                }
                ObuKind::FrameHeader | ObuKind::Frame if !found.picture => {
                    found.picture = true;
                    shown_key = is_shown_key(obu.payload);
                }
                _ => {}
            }
        }
        // Asked last: a header behind the frame goes before it in the form of the node.
        let reduced = self.sequence_header().is_some_and(|info| info.reduced);
        found.key = found.picture && (reduced || shown_key);
        Ok(found)
    }

    fn keep(&mut self, obu: &Obu<'_>) -> Result<(), Error> {
        if obu.payload.len() > SEQUENCE_HEADER_BYTES_MAX {
            let value = obu.payload.len() as u64;
            return Err(Error::OutOfRange { field: "obu_size of a sequence header", value });
        }
        if self.header.as_ref().is_some_and(|(kept, _)| kept == obu.whole) {
            return Ok(());
        }
        let mut bytes = BytesMut::with_capacity(obu.whole.len() + 2);
        obu.write(&mut bytes);
        let info = parsed(&bytes)?;
        self.header = Some((bytes.freeze(), info));
        Ok(())
    }
}

/// Whether a frame header (5.9.2) is that of a key frame that is shown.
fn is_shown_key(payload: &[u8]) -> bool {
    // show_existing_frame 0, frame_type 0, show_frame 1.
    payload.first().is_some_and(|byte| byte >> 4 == 1)
}
