//! Bytes that wait to be sent: what was written for one peer, and payloads shared by all peers of a
//! stream, which are not copied. A socket takes several pieces in one call.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// A shared payload shorter than this is copied: a piece of its own costs more, in bytes.
const COPIED_BELOW: usize = 512;

/// Bytes in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Bytes of all of `pieces`.
    waiting: usize,
    /// What comes after them.
    tail: BytesMut,
}

impl Outbox {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Where bytes for this peer alone are appended.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a payload that others share.
    pub(crate) fn push(&mut self, payload: Bytes) {
        if payload.len() < COPIED_BELOW {
            self.tail.extend_from_slice(&payload);
            return;
        }
        if !self.tail.is_empty() {
            let before = self.tail.split().freeze();
            self.waiting += before.len();
            self.pieces.push_back(before);
        }
        self.waiting += payload.len();
        self.pieces.push_back(payload);
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.waiting + self.tail.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it in one piece, for tests.
    #[cfg(test)]
    pub(crate) fn split(&mut self) -> BytesMut {
        let length = self.len();
        BytesMut::from(&self.copy_to_bytes(length)[..])
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail[..], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, parts: &mut [IoSlice<'a>]) -> usize {
        let tail = [&self.tail[..]];
        let all = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        let mut count = 0;
        for (part, bytes) in parts.iter_mut().zip(all.filter(|bytes| !bytes.is_empty())) {
            *part = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                self.tail.advance(count);
                return;
            };
            let now = count.min(piece.len());
            piece.advance(now);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            self.waiting -= now;
            count -= now;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;

    use super::*;

    #[test]
    fn own_and_shared_bytes_leave_in_the_order_in_which_they_came() {
        let (large, small) = (Bytes::from(vec![7; 1000]), Bytes::from_static(b"small"));
        let mut out = Outbox::new();
        out.tail().put_slice(b"head");
        out.push(large.clone());
        out.push(small);
        out.tail().put_slice(b"tail");
        let wanted = [b"head", &[7; 1000][..], b"small", b"tail"].concat();
        assert_eq!(out.len(), wanted.len());
        let mut parts = [IoSlice::new(&[]); 8];
        assert_eq!(out.chunks_vectored(&mut parts), 3, "what is small joins its neighbours");
        assert_eq!(parts[1].as_ptr(), large.as_ptr(), "what is large is not copied");
        // Taken in steps, across the borders of pieces.
        let mut taken = Vec::new();
        while !out.is_empty() {
            let step = out.len().min(3);
            let mut left = step;
            while left > 0 {
                let chunk = out.chunk();
                let now = chunk.len().min(left);
                taken.extend_from_slice(&chunk[..now]);
                out.advance(now);
                left -= now;
            }
        }
        assert_eq!(taken, wanted);
        assert_eq!(out.chunks_vectored(&mut [IoSlice::new(&[]); 2]), 0);
    }
}
