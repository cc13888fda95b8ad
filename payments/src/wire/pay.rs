//! Records of the `pay` channel, sender to recipient.
//!
//! A record is: kind (1 byte), body, check (4 bytes: the first of the keccak of what precedes). The
//! check guards nothing against a forger, whom the signature stops; it gives damage a name before
//! anything costly is done, and covers the PTS, which no signature covers. All integers are
//! big-endian.
//!
//! | kind | body |
//! | --- | --- |
//! | 1 ticket | set serial (4), nonce (4), PTS (8), signature (65) |
//! | 2 pre-roll | PTS before which frames are neither processed nor paid (8) |
//! | 3 sent again | nonce (4), signature (65), the set as in the receipt |

use alloy_primitives::keccak256;
use bytes::Bytes;
use prost::Message;

use super::receipt::SetMessage;
use super::{WireError, framed};
use crate::set::Set;
use crate::ticket::Signature;

/// Longest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 640;

const KIND_TICKET: u8 = 1;
const KIND_PREROLL: u8 = 2;
const KIND_RESEND: u8 = 3;
const CHECK_BYTES: usize = 4;
const TICKET_BYTES: usize = 1 + 4 + 4 + 8 + 65;

/// A ticket for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRecord {
    /// Serial of the set.
    pub serial: u32,
    /// Nonce, from 1.
    pub nonce: u32,
    /// The frame that called for it, in 90 kHz ticks; for the log, not for money.
    pub pts: i64,
    /// Signature over the ticket.
    pub signature: Signature,
}

/// A ticket of an older process of the recipient, sent so that a winner is kept; it is credited
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resend {
    /// The whole set: the recipient kept no table.
    pub set: Box<Set>,
    /// Nonce, from 1.
    pub nonce: u32,
    /// The same signature as the first time.
    pub signature: Signature,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A ticket for a frame.
    Ticket(TicketRecord),
    /// Frames before this PTS only warm up the decoder: neither processed nor paid.
    Preroll {
        /// First PTS that counts.
        until: i64,
    },
    /// A ticket of an earlier session.
    Resend(Resend),
    /// A kind that a newer peer knows; skipped.
    Unknown(u8),
}

/// What is wrong with a record. The sender's fault, or a damaged wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRecord {
    /// Not the length of its kind.
    #[error("{length} bytes are no record of kind {kind}")]
    Length {
        /// Kind, 0 when there is none.
        kind: u8,
        /// Bytes seen.
        length: usize,
    },
    /// The check does not fit.
    #[error("damaged: its check does not fit")]
    Check,
    /// The set within is malformed.
    #[error("the set within is malformed")]
    Set,
}

impl Record {
    /// The record with its length before it, as it goes onto the channel.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(TICKET_BYTES + CHECK_BYTES);
        match self {
            Record::Ticket(ticket) => {
                bytes.push(KIND_TICKET);
                bytes.extend_from_slice(&ticket.serial.to_be_bytes());
                bytes.extend_from_slice(&ticket.nonce.to_be_bytes());
                bytes.extend_from_slice(&ticket.pts.to_be_bytes());
                bytes.extend_from_slice(&ticket.signature);
            }
            Record::Preroll { until } => {
                bytes.push(KIND_PREROLL);
                bytes.extend_from_slice(&until.to_be_bytes());
            }
            Record::Resend(resend) => {
                bytes.push(KIND_RESEND);
                bytes.extend_from_slice(&resend.nonce.to_be_bytes());
                bytes.extend_from_slice(&resend.signature);
                bytes.extend_from_slice(&SetMessage::from(&*resend.set).encode_to_vec());
            }
            Record::Unknown(kind) => bytes.push(*kind),
        }
        let check = keccak256(&bytes);
        bytes.extend_from_slice(&check[..CHECK_BYTES]);
        framed(&bytes)
    }

    /// Reads a record without its length.
    ///
    /// # Errors
    /// Names a wrong length, a failed check, a malformed set.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let Some((content, check)) = frame.split_last_chunk::<CHECK_BYTES>() else {
            return Err(MalformedRecord::Length { kind: 0, length: frame.len() }.into());
        };
        let Some((&kind, body)) = content.split_first() else {
            return Err(MalformedRecord::Length { kind: 0, length: frame.len() }.into());
        };
        if keccak256(content)[..CHECK_BYTES] != check[..] {
            return Err(MalformedRecord::Check.into());
        }
        let wrong = MalformedRecord::Length { kind, length: frame.len() };
        let mut body = Body(body);
        let record = match kind {
            KIND_TICKET => Record::Ticket(TicketRecord {
                serial: u32::from_be_bytes(body.take().ok_or(wrong)?),
                nonce: u32::from_be_bytes(body.take().ok_or(wrong)?),
                pts: i64::from_be_bytes(body.take().ok_or(wrong)?),
                signature: body.take().ok_or(wrong)?,
            }),
            KIND_PREROLL => {
                Record::Preroll { until: i64::from_be_bytes(body.take().ok_or(wrong)?) }
            }
            KIND_RESEND => {
                let nonce = u32::from_be_bytes(body.take().ok_or(wrong)?);
                let signature = body.take().ok_or(wrong)?;
                let set = SetMessage::decode(std::mem::take(&mut body.0))
                    .map_err(|_| MalformedRecord::Set)?;
                let set = Box::new(Set::try_from(set).map_err(|_| MalformedRecord::Set)?);
                Record::Resend(Resend { set, nonce, signature })
            }
            other => return Ok(Record::Unknown(other)),
        };
        if body.0.is_empty() { Ok(record) } else { Err(wrong.into()) }
    }
}

struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Record {
        let signature = std::array::from_fn(|i| i as u8);
        Record::Ticket(TicketRecord { serial: 2, nonce: 77, pts: -9000, signature })
    }

    #[test]
    fn every_record_comes_back_as_it_went() {
        let set = Box::new(crate::testing::set());
        let resend = Record::Resend(Resend { set, nonce: 4096, signature: [9; 65] });
        for record in [ticket(), Record::Preroll { until: i64::MIN }, resend, Record::Unknown(99)] {
            let wire = record.encode();
            assert!(wire.len() <= RECORD_BYTES_MAX, "{} bytes", wire.len());
            assert_eq!(usize::from(wire[0]) << 8 | usize::from(wire[1]), wire.len() - 2);
            assert_eq!(Record::decode(&wire[2..]), Ok(record));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_damage_with_a_name() {
        let wire = ticket().encode();
        for bit in 0..(wire.len() - 2) * 8 {
            let mut frame = wire[2..].to_vec();
            frame[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&frame), Err(MalformedRecord::Check.into()), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
            // The same with a check that fits, so that the reader goes on to the body.
            let mut frame = bytes.clone();
            frame.extend_from_slice(&keccak256(&bytes)[..4]);
            if let Ok(record) = Record::decode(&frame)
                && !matches!(record, Record::Resend(_) | Record::Unknown(_))
            {
                prop_assert_eq!(&record.encode()[2..], &frame[..]);
            }
        }
    }
}
