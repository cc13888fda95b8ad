//! What travels between two of our nodes about money: the `pay` channel ([`pay`]), the `receipts`
//! channel ([`receipt`]) and the start exchange ([`start`]).
//!
//! Both channels are runs of length-prefixed frames in any cut; [`Frames`] puts them together and
//! refuses a length beyond its limit before a byte of it is kept.

pub mod pay;
pub mod receipt;
pub mod start;

use bytes::{Buf, Bytes, BytesMut};

pub use pay::{MalformedRecord, Record, Resend, TicketRecord};
pub use receipt::{Receipt, RefusedNonce, SetReceipt};
pub use start::{Offer, StartAnswer, StartRequest};

/// Bytes that the other side should not have sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame longer than its channel allows.
    #[error("a frame of {length} bytes, {max} are allowed")]
    TooLong {
        /// Announced bytes.
        length: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// A pay record that is damaged or of no known form.
    #[error("pay record: {0}")]
    Record(#[from] MalformedRecord),
    /// A message that is no protobuf.
    #[error("not a {what}: {source}")]
    Protobuf {
        /// What it should have been.
        what: &'static str,
        /// The decoder's word.
        source: prost::DecodeError,
    },
    /// A field with a value that it cannot have.
    #[error("{what}: field {field} is out of range")]
    Field {
        /// The message.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// Puts frames (two length bytes, big-endian, then the frame) together from bytes in any cut.
///
/// Holds at most one frame and the chunk that was pushed last, if drained after each push.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    max: usize,
}

impl Frames {
    /// Frames of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max }
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets a frame that was begun: a segment was lost and the next starts at a frame border.
    pub fn restart(&mut self) {
        self.buffer.clear();
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// A frame beyond the limit; the channel cannot be read on after it.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(prefix) = self.buffer.first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*prefix));
        if length > self.max {
            return Err(WireError::TooLong { length, max: self.max });
        }
        if self.buffer.len() < 2 + length {
            return Ok(None);
        }
        self.buffer.advance(2);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// A frame with its length before it. `frame` is at most 65,535 bytes: its makers bound it.
pub(crate) fn framed(frame: &[u8]) -> Bytes {
    debug_assert!(frame.len() <= usize::from(u16::MAX));
    let mut bytes = Vec::with_capacity(2 + frame.len());
    bytes.extend_from_slice(&(frame.len() as u16).to_be_bytes());
    bytes.extend_from_slice(frame);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_whole_however_they_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            cut in 1usize..40,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|f| framed(f).to_vec()).collect();
            let mut reader = Frames::new(50);
            let mut seen = Vec::new();
            for chunk in wire.chunks(cut) {
                reader.push(chunk);
                while let Some(frame) = reader.next_frame().unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            prop_assert_eq!(seen, frames);
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_by_its_length() {
        let mut reader = Frames::new(100);
        reader.push(&[0, 101]);
        assert_eq!(reader.next_frame(), Err(WireError::TooLong { length: 101, max: 100 }));
        reader.restart();
        assert_eq!(reader.next_frame(), Ok(None));
    }
}
