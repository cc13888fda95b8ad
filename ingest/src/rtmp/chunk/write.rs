//! Chunks out: messages cut for the peer, with the shortest headers that all clients read alike.

use bytes::{BufMut, Bytes, BytesMut};

use crate::rtmp::outbox::Outbox;

use super::{CHUNK_SIZE_MAX, CHUNK_SIZE_START, EXTENDED, SET_CHUNK_SIZE};

/// Cuts messages into chunks.
pub(crate) struct Writer {
    chunk_size: usize,
    streams: Vec<Outgoing>,
}

struct Outgoing {
    id: u8,
    timestamp: u32,
    /// Distance of the last two messages; `None` after a full header, whose meaning for a type 3
    /// header clients disagree about.
    delta: Option<u32>,
    length: usize,
    kind: u8,
    stream: u32,
}

impl Default for Writer {
    fn default() -> Self {
        Self { chunk_size: CHUNK_SIZE_START, streams: Vec::new() }
    }
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Tells the peer of a new chunk size and uses it from there on.
    pub(crate) fn set_chunk_size(&mut self, size: u32, out: &mut BytesMut) {
        debug_assert!(size >= 1 && size as usize <= CHUNK_SIZE_MAX);
        self.write(out, 2, SET_CHUNK_SIZE, 0, 0, &[&size.to_be_bytes()]);
        self.chunk_size = size as usize;
    }

    /// Appends a message whose payload is `parts` one after the other, at most 16 MiB.
    /// `chunk_stream` is from 2 to 63.
    pub(crate) fn write(
        &mut self,
        out: &mut BytesMut,
        chunk_stream: u8,
        kind: u8,
        stream: u32,
        timestamp: u32,
        parts: &[&[u8]],
    ) {
        debug_assert!((2..64).contains(&chunk_stream));
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        debug_assert!(length <= CHUNK_SIZE_MAX);
        out.reserve(length + 18 + (length / self.chunk_size) * 5);
        let extended = self.header(out, chunk_stream, kind, stream, timestamp, length);
        let mut room = self.chunk_size;
        for part in parts {
            let mut part = *part;
            while !part.is_empty() {
                if room == 0 {
                    out.put_u8(0xC0 | chunk_stream);
                    if extended {
                        out.put_u32(timestamp);
                    }
                    room = self.chunk_size;
                }
                let (now, later) = part.split_at(part.len().min(room));
                out.put_slice(now);
                room -= now.len();
                part = later;
            }
        }
    }

    /// Appends a message of `head` and `body`, of which the second is not copied.
    #[allow(clippy::too_many_arguments, reason = "the fields of a message")]
    pub(crate) fn write_shared(
        &mut self,
        out: &mut Outbox,
        chunk_stream: u8,
        kind: u8,
        stream: u32,
        timestamp: u32,
        head: &[u8],
        body: &Bytes,
    ) {
        debug_assert!((2..64).contains(&chunk_stream));
        let length = head.len() + body.len();
        debug_assert!(length <= CHUNK_SIZE_MAX && head.len() <= self.chunk_size);
        let tail = out.tail();
        let extended = self.header(tail, chunk_stream, kind, stream, timestamp, length);
        tail.put_slice(head);
        let mut room = self.chunk_size - head.len();
        let mut body = body.clone();
        while !body.is_empty() {
            if room == 0 {
                out.tail().put_u8(0xC0 | chunk_stream);
                if extended {
                    out.tail().put_u32(timestamp);
                }
                room = self.chunk_size;
            }
            let now = body.split_to(body.len().min(room));
            room -= now.len();
            out.push(now);
        }
    }

    /// Writes the shortest header that every client reads alike; true when its timestamp is in
    /// the extended field.
    fn header(
        &mut self,
        out: &mut BytesMut,
        id: u8,
        kind: u8,
        stream: u32,
        timestamp: u32,
        length: usize,
    ) -> bool {
        let index = self.streams.iter().position(|known| known.id == id);
        let last = index.map(|index| &mut self.streams[index]);
        // A delta that needs the extended field, or goes back, is sent as a full header instead.
        let delta = last
            .as_ref()
            .filter(|last| last.stream == stream && timestamp >= last.timestamp)
            .map(|last| timestamp - last.timestamp)
            .filter(|delta| *delta < EXTENDED);
        let put24 = |out: &mut BytesMut, value: u32| out.put_slice(&value.to_be_bytes()[1..]);
        let mut extended = false;
        match (&last, delta) {
            (Some(last), Some(delta)) if last.length == length && last.kind == kind => {
                if last.delta == Some(delta) {
                    out.put_u8(0xC0 | id);
                } else {
                    out.put_u8(0x80 | id);
                    put24(out, delta);
                }
            }
            (Some(_), Some(delta)) => {
                out.put_u8(0x40 | id);
                put24(out, delta);
                put24(out, length as u32);
                out.put_u8(kind);
            }
            _ => {
                extended = timestamp >= EXTENDED;
                out.put_u8(id);
                put24(out, timestamp.min(EXTENDED));
                put24(out, length as u32);
                out.put_u8(kind);
                out.put_u32_le(stream);
                if extended {
                    out.put_u32(timestamp);
                }
            }
        }
        let now = Outgoing { id, timestamp, delta, length, kind, stream };
        match last {
            Some(last) => *last = now,
            None => self.streams.push(now),
        }
        extended
    }
}
