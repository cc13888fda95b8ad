//! Chunks in: messages put together from what a peer sends.

use bytes::{Buf, BufMut, BytesMut};

use super::{
    ABORT, CHUNK_SIZE_MAX, CHUNK_SIZE_START, ChunkError, EXTENDED, Message, SET_CHUNK_SIZE, control,
};

/// Memory taken for a message when its first chunk comes.
pub(super) const FIRST_RESERVE: usize = 16 << 10;

/// What a reader takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one message.
    pub(crate) message_bytes: usize,
    /// Bytes of all unfinished messages together.
    pub(crate) unfinished_bytes: usize,
    /// Chunk streams.
    pub(crate) streams: usize,
}

/// Puts messages together.
pub(crate) struct Reader {
    limits: Limits,
    chunk_size: usize,
    streams: Vec<Incoming>,
    unfinished: usize,
    /// The chunk whose payload is being read: index into `streams` and bytes that are missing.
    chunk: Option<(usize, usize)>,
    /// The peer was seen to leave extended timestamps out of type 3 headers.
    bare_type_3: bool,
}

struct Incoming {
    id: u32,
    timestamp: u32,
    delta: u32,
    length: usize,
    kind: u8,
    stream: u32,
    /// The last header's extended field, if it had one.
    extended: Option<u32>,
    data: BytesMut,
    /// Whether a message has begun and is not complete.
    open: bool,
}

impl Reader {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: CHUNK_SIZE_START,
            streams: Vec::new(),
            unfinished: 0,
            chunk: None,
            bare_type_3: false,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Memory held for unfinished messages, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.streams.iter().map(|stream| stream.data.capacity()).sum()
    }

    /// Takes bytes off `input` until a message is complete. `None` when more bytes are needed;
    /// `input` then holds at most the beginning of a header.
    ///
    /// # Errors
    /// [`ChunkError`]; the stream cannot be read further.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        loop {
            let (index, missing) = match self.chunk.take() {
                Some(chunk) => chunk,
                None => match self.header(input)? {
                    Some(chunk) => chunk,
                    None => return Ok(None),
                },
            };
            let stream = &mut self.streams[index];
            let taken = missing.min(input.len());
            if taken > 0 {
                make_room(&mut stream.data, taken, stream.length);
                stream.data.put_slice(&input[..taken]);
                input.advance(taken);
                self.unfinished += taken;
                if self.unfinished > self.limits.unfinished_bytes {
                    return Err(ChunkError::Unfinished(self.limits.unfinished_bytes));
                }
            }
            if taken < missing {
                self.chunk = Some((index, missing - taken));
                return Ok(None);
            }
            if stream.data.len() < stream.length {
                continue;
            }
            stream.open = false;
            self.unfinished -= stream.length;
            let message = Message {
                kind: stream.kind,
                stream: stream.stream,
                timestamp: stream.timestamp,
                data: std::mem::take(&mut stream.data),
            };
            match message.kind {
                SET_CHUNK_SIZE => self.set_chunk_size(&message)?,
                ABORT => self.abort(&message)?,
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Reads one chunk's header if it is all there.
    fn header(&mut self, input: &mut BytesMut) -> Result<Option<(usize, usize)>, ChunkError> {
        let Some((format, id, basic)) = basic_header(input) else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.id == id);
        let fields = [11, 7, 3, 0][usize::from(format)];
        let Some(header) = input.get(basic..basic + fields) else { return Ok(None) };
        let field = if fields == 0 { None } else { Some(be24(header)) };
        let extended = match (field, known) {
            (Some(field), _) => field == EXTENDED,
            (None, Some(index)) => self.streams[index].extended.is_some() && !self.bare_type_3,
            (None, None) => false,
        };
        let mut length = basic + fields;
        let mut extended_value = None;
        if extended {
            let Some(value) = input.get(length..length + 4) else { return Ok(None) };
            extended_value = Some(be32(value));
            length += 4;
        }
        let index = match known {
            Some(index) => index,
            // Old clients begin the control stream with a type 1 header.
            None if format <= 1 => self.add(id)?,
            None => return Err(ChunkError::Fresh { chunk_stream: id, format }),
        };
        let stream = &mut self.streams[index];
        if let Some(field) = field {
            if stream.open {
                let (have, length) = (stream.data.len(), stream.length);
                return Err(ChunkError::Interrupted { chunk_stream: id, have, length });
            }
            let value = extended_value.unwrap_or(field);
            stream.extended = extended_value;
            stream.delta = value;
            stream.timestamp =
                if format == 0 { value } else { stream.timestamp.wrapping_add(value) };
            if format <= 1 {
                stream.length = (usize::from(header[3]) << 16)
                    | (usize::from(header[4]) << 8)
                    | usize::from(header[5]);
                stream.kind = header[6];
            }
            if format == 0 {
                stream.stream = u32::from_le_bytes([header[7], header[8], header[9], header[10]]);
            }
        } else {
            if let (Some(value), Some(last)) = (extended_value, stream.extended)
                && value != last
                && value != stream.timestamp
            {
                // Some clients do not repeat the field (5.3.1.3 leaves room for doubt): what was
                // read here is payload.
                self.bare_type_3 = true;
                length -= 4;
            }
            if !stream.open {
                stream.timestamp = stream.timestamp.wrapping_add(stream.delta);
            }
        }
        if !stream.open {
            if stream.length > self.limits.message_bytes {
                let limit = self.limits.message_bytes;
                return Err(ChunkError::Long { chunk_stream: id, length: stream.length, limit });
            }
            stream.open = true;
        }
        input.advance(length);
        let missing = (stream.length - stream.data.len()).min(self.chunk_size);
        Ok(Some((index, missing)))
    }

    fn add(&mut self, id: u32) -> Result<usize, ChunkError> {
        if self.streams.len() >= self.limits.streams {
            return Err(ChunkError::Streams(self.limits.streams));
        }
        self.streams.push(Incoming {
            id,
            timestamp: 0,
            delta: 0,
            length: 0,
            kind: 0,
            stream: 0,
            extended: None,
            data: BytesMut::new(),
            open: false,
        });
        Ok(self.streams.len() - 1)
    }

    fn set_chunk_size(&mut self, message: &Message) -> Result<(), ChunkError> {
        let size = control(message)?;
        if size == 0 || size >> 31 != 0 {
            return Err(ChunkError::Size(size));
        }
        self.chunk_size = (size as usize).min(CHUNK_SIZE_MAX);
        Ok(())
    }

    fn abort(&mut self, message: &Message) -> Result<(), ChunkError> {
        let id = control(message)?;
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            self.unfinished -= stream.data.len();
            stream.data = BytesMut::new();
            stream.open = false;
        }
        Ok(())
    }
}

/// Makes room for `more` bytes in a message of `length`, doubling, and never beyond its end.
fn make_room(data: &mut BytesMut, more: usize, length: usize) {
    if data.capacity() - data.len() < more {
        let wanted = (data.len() + more).max(2 * data.capacity()).max(FIRST_RESERVE).min(length);
        data.reserve(wanted - data.len());
    }
}

/// Header type, chunk stream id and the number of bytes that say so.
fn basic_header(input: &[u8]) -> Option<(u8, u32, usize)> {
    let first = *input.first()?;
    let format = first >> 6;
    match first & 0x3F {
        0 => Some((format, 64 + u32::from(*input.get(1)?), 2)),
        1 => Some((format, 64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), 3)),
        id => Some((format, u32::from(id), 1)),
    }
}

fn be24(bytes: &[u8]) -> u32 {
    (u32::from(bytes[0]) << 16) | (u32::from(bytes[1]) << 8) | u32::from(bytes[2])
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
