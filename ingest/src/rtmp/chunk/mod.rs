//! The chunk stream in both directions (Adobe RTMP 1.0, 5.3 and 5.4): messages cut into chunks,
//! several of them interleaved.
//!
//! The reader believes no number of the peer: a message's memory grows with the bytes that have
//! come, and messages, chunk streams and the sum of unfinished messages are limited.

mod read;
mod write;

use bytes::BytesMut;

pub(crate) use read::{Limits, Reader};
pub(crate) use write::Writer;

/// Chunk size of both directions until somebody says otherwise.
const CHUNK_SIZE_START: usize = 128;

/// No message is longer, so no chunk is (5.4.1).
const CHUNK_SIZE_MAX: usize = 0xFF_FFFF;

/// This timestamp field says that the real one follows in four bytes (5.3.1.3).
const EXTENDED: u32 = 0xFF_FFFF;

/// Control messages that change the chunk stream itself.
const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;

/// Why bytes are not a chunk stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Zero, or the top bit set.
    #[error("chunk size {0:#x} is not one")]
    Size(u32),
    /// The declared length of a message is over the limit.
    #[error(
        "a message of {length} bytes on chunk stream {chunk_stream}, at most {limit} are taken"
    )]
    Long {
        /// Where.
        chunk_stream: u32,
        /// What was declared.
        length: usize,
        /// What is taken at this point of the session.
        limit: usize,
    },
    /// The unfinished messages together are over the limit.
    #[error("more than {0} bytes of unfinished messages")]
    Unfinished(usize),
    /// More chunk streams than anybody needs.
    #[error("more than {0} chunk streams")]
    Streams(usize),
    /// A short header without a full one before it.
    #[error(
        "chunk stream {chunk_stream} begins with header type {format}, which needs one before it"
    )]
    Fresh {
        /// Where.
        chunk_stream: u32,
        /// The header type.
        format: u8,
    },
    /// A new message before the last one on the same chunk stream was complete.
    #[error("a message on chunk stream {chunk_stream} is cut off after {have} of {length} bytes")]
    Interrupted {
        /// Where.
        chunk_stream: u32,
        /// Bytes that came.
        have: usize,
        /// Bytes declared.
        length: usize,
    },
    /// A control message without its four bytes.
    #[error("control message {0} is too short")]
    Control(u8),
}

/// One message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Message type id (5.4 and 7.1).
    pub(crate) kind: u8,
    /// Message stream id.
    pub(crate) stream: u32,
    /// Milliseconds, wrapping at 32 bits.
    pub(crate) timestamp: u32,
    /// The payload, alone in its buffer.
    pub(crate) data: BytesMut,
}

/// The four bytes that a control message consists of.
pub(crate) fn control(message: &Message) -> Result<u32, ChunkError> {
    message
        .data
        .first_chunk()
        .map(|b| u32::from_be_bytes(*b))
        .ok_or(ChunkError::Control(message.kind))
}

#[cfg(test)]
mod tests;
