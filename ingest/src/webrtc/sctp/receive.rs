//! What comes in: DATA chunks put in order and joined to messages (RFC 9260 6).
//!
//! Messages are delivered in the order of their TSNs, which suits ordered and unordered streams
//! alike; so one message is being joined at a time and no stream has a state of its own. Partial
//! reliability (RFC 3758) is not offered, so no number is ever left out. What waits for a missing
//! chunk is bounded in chunks and bytes; the window that peers are told says so.

use std::collections::BTreeMap;

use super::wire::{u16_at, u32_at};
use super::{MESSAGE_BYTES_MAX, Violation};

/// Bytes that may wait: a message that is being joined and another behind a hole.
const WINDOW_BYTES: usize = 2 * MESSAGE_BYTES_MAX;

/// Chunks that may wait behind a hole.
const EARLY_MAX: usize = 256;

/// Gap blocks named in a SACK.
const GAPS_MAX: usize = 16;

const FLAG_BEGIN: u8 = 2;
const FLAG_END: u8 = 1;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) stream: u16,
    /// Payload protocol identifier: what it is (RFC 8831 8).
    pub(crate) protocol: u32,
    pub(crate) data: Vec<u8>,
}

/// One DATA chunk.
struct Fragment {
    begins: bool,
    ends: bool,
    stream: u16,
    protocol: u32,
    data: Vec<u8>,
}

/// The receiving half of an association.
pub(super) struct Inbound {
    /// The last TSN in sequence, counted on beyond 32 bits.
    cumulative: u64,
    early: BTreeMap<u64, Fragment>,
    early_bytes: usize,
    partial: Option<Message>,
    /// Data came that was not acknowledged.
    pub(super) owes_sack: bool,
}

impl Inbound {
    /// Waits for `first`.
    pub(super) fn new(first: u32) -> Self {
        Self {
            // One round up, so that numbers before the first are numbers too.
            cumulative: (1 << 32) + u64::from(first) - 1,
            early: BTreeMap::new(),
            early_bytes: 0,
            partial: None,
            owes_sack: false,
        }
    }

    /// Bytes that the peer may send.
    pub(super) fn window(&self) -> u32 {
        let joined = self.partial.as_ref().map_or(0, |message| message.data.len());
        let free = WINDOW_BYTES.saturating_sub(self.early_bytes + joined);
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    /// The last TSN in sequence.
    pub(super) fn cumulative(&self) -> u32 {
        self.cumulative as u32
    }

    /// Takes a DATA chunk; messages that it completes go to `messages`.
    pub(super) fn data(
        &mut self,
        flags: u8,
        body: &[u8],
        messages: &mut Vec<Message>,
    ) -> Result<(), Violation> {
        let (Some(tsn), Some(stream), Some(protocol)) =
            (u32_at(body, 0), u16_at(body, 4), u32_at(body, 8))
        else {
            return Err(Violation("a DATA chunk without a header"));
        };
        let data = body.get(12..).filter(|data| !data.is_empty());
        let data = data.ok_or(Violation("a DATA chunk without data"))?;
        self.owes_sack = true;
        // Distances are signed: what is behind came before.
        let ahead = i64::from(tsn.wrapping_sub(self.cumulative as u32).cast_signed());
        let Ok(ahead) = u64::try_from(ahead) else { return Ok(()) };
        let fragment = || Fragment {
            begins: flags & FLAG_BEGIN != 0,
            ends: flags & FLAG_END != 0,
            stream,
            protocol,
            data: data.to_vec(),
        };
        if ahead == 1 {
            self.append(fragment(), messages)?;
            while let Some(next) = self.early.remove(&(self.cumulative + 1)) {
                self.early_bytes -= next.data.len();
                self.append(next, messages)?;
            }
        } else if ahead > 1
            && ahead <= EARLY_MAX as u64
            && self.early_bytes + data.len() <= MESSAGE_BYTES_MAX
        {
            let place = self.cumulative + ahead;
            if let std::collections::btree_map::Entry::Vacant(place) = self.early.entry(place) {
                self.early_bytes += data.len();
                place.insert(fragment());
            }
        }
        Ok(())
    }

    /// The next chunk in sequence.
    fn append(&mut self, fragment: Fragment, messages: &mut Vec<Message>) -> Result<(), Violation> {
        self.cumulative += 1;
        let Fragment { begins, ends, stream, protocol, data } = fragment;
        let message = match (self.partial.take(), begins) {
            (None, true) => Message { stream, protocol, data },
            (Some(mut message), false) if message.stream == stream => {
                message.data.extend_from_slice(&data);
                message
            }
            (Some(_), true) => return Err(Violation("a message that begins inside another")),
            (_, false) => return Err(Violation("a piece of a message that never began")),
        };
        if message.data.len() > MESSAGE_BYTES_MAX {
            return Err(Violation("a message of more than 65,536 bytes"));
        }
        if ends {
            messages.push(message);
        } else {
            self.partial = Some(message);
        }
        Ok(())
    }

    /// The body of a SACK.
    pub(super) fn sack(&mut self) -> Vec<u8> {
        self.owes_sack = false;
        let mut gaps: Vec<(u16, u16)> = Vec::new();
        for tsn in self.early.keys() {
            // Distances are at most EARLY_MAX.
            let at = (tsn - self.cumulative) as u16;
            let count = gaps.len();
            match gaps.last_mut() {
                Some((_, end)) if *end + 1 == at => *end = at,
                _ if count == GAPS_MAX => break,
                _ => gaps.push((at, at)),
            }
        }
        let mut body = Vec::with_capacity(12 + gaps.len() * 4);
        body.extend_from_slice(&self.cumulative().to_be_bytes());
        body.extend_from_slice(&self.window().to_be_bytes());
        body.extend_from_slice(&(gaps.len() as u16).to_be_bytes());
        body.extend_from_slice(&[0; 2]);
        for (start, end) in gaps {
            body.extend_from_slice(&start.to_be_bytes());
            body.extend_from_slice(&end.to_be_bytes());
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(tsn: u32, data: &[u8]) -> Vec<u8> {
        let mut body = tsn.to_be_bytes().to_vec();
        body.extend_from_slice(&[0, 4, 0, 0, 0, 0, 0, 51]);
        body.extend_from_slice(data);
        body
    }

    fn texts(messages: &[Message]) -> Vec<&str> {
        messages.iter().map(|m| std::str::from_utf8(&m.data).unwrap()).collect()
    }

    #[test]
    fn pieces_are_joined_in_order_whatever_order_they_come_in() {
        let first = u32::MAX - 1;
        let pieces = [("a", 2), ("b", 0), ("c", 1), ("whole", 3)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let (mut inbound, mut messages) = (Inbound::new(first), Vec::new());
            for at in order {
                let (text, flags) = pieces[at];
                let tsn = first.wrapping_add(at as u32);
                for _ in 0..2 {
                    inbound.data(flags, &chunk(tsn, text.as_bytes()), &mut messages).unwrap();
                }
            }
            assert_eq!(texts(&messages), ["abc", "whole"], "{order:?}");
            assert_eq!(inbound.cumulative(), 1);
            assert_eq!(inbound.window() as usize, WINDOW_BYTES);
        }
    }

    #[test]
    fn holes_are_named() {
        let (mut inbound, mut messages) = (Inbound::new(10), Vec::new());
        for tsn in [10, 12, 13, 16, 9] {
            inbound.data(3, &chunk(tsn, b"x"), &mut messages).unwrap();
        }
        assert!(inbound.owes_sack);
        let sack = inbound.sack();
        assert_eq!(sack[..4], [0, 0, 0, 10]);
        assert_eq!(sack[8..], [0, 2, 0, 0, 0, 2, 0, 3, 0, 6, 0, 6]);
        assert!(!inbound.owes_sack);
    }

    #[test]
    fn what_waits_is_bounded_and_the_missing_chunk_is_always_taken() {
        let (mut inbound, mut messages) = (Inbound::new(0), Vec::new());
        for tsn in 1..100_000 {
            inbound.data(3, &chunk(tsn, b"x"), &mut messages).unwrap();
            inbound.data(3, &chunk(tsn, &[b'y'; 1000]), &mut messages).unwrap();
        }
        assert!(inbound.early.len() <= EARLY_MAX);
        let (mut inbound, mut messages) = (Inbound::new(0), Vec::new());
        for tsn in 1..200 {
            inbound.data(3, &chunk(tsn, &[b'y'; 1000]), &mut messages).unwrap();
        }
        assert!(inbound.early_bytes <= MESSAGE_BYTES_MAX);
        let before = inbound.early.len();
        inbound.data(3, &chunk(0, b"x"), &mut messages).unwrap();
        assert_eq!(messages.len(), before + 1);
    }

    #[test]
    fn what_no_sender_does_is_a_violation() {
        let check = |chunks: &[(u8, &[u8])], wanted: &str| {
            let (mut inbound, mut messages) = (Inbound::new(0), Vec::new());
            let mut result = Ok(());
            for (tsn, (flags, data)) in chunks.iter().enumerate() {
                result = inbound.data(*flags, &chunk(tsn as u32, data), &mut messages);
            }
            assert_eq!(result.unwrap_err().to_string(), wanted);
        };
        check(&[(3, b"")], "a DATA chunk without data");
        check(&[(0, b"x")], "a piece of a message that never began");
        check(&[(2, b"x"), (2, b"x")], "a message that begins inside another");
        let long = [b'x'; 40_000];
        check(&[(2, &long), (0, &long)], "a message of more than 65,536 bytes");
        let error = Inbound::new(0).data(3, &[0; 7], &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "a DATA chunk without a header");
    }
}
