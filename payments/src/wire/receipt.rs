//! Messages of the `receipts` channel, recipient to sender, as protobuf so that fields can be
//! added; each is one frame behind its length.
//!
//! A receipt states totals, never differences: any one of them may be lost.

use alloy_primitives::{Address, B256, U256};
use bytes::Bytes;
use prost::Message;

use super::{WireError, framed};
use crate::price::{PictureSize, Wei};
use crate::set::{SessionId, Set};
use crate::ticket::CreationRound;

/// Longest receipt, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 8 * 1024;

/// Most sets that one receipt speaks of: the current one and the one before.
pub const RECEIPT_SETS_MAX: usize = 2;

/// Most refused nonces in a receipt; a session is over long before.
pub const REFUSED_MAX: usize = 64;

/// Why a nonce was refused, as told to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// No such set in this session.
    UnknownSet,
    /// The set is sealed: it credits nothing any more.
    SealedSet,
    /// Nonce 0, above 4,096, or too far ahead of the settled ones.
    NonceRange,
    /// More tickets a second than the stream can need.
    Rate,
    /// A code of a newer peer.
    Other(u32),
}

impl RefusalCode {
    fn to_wire(self) -> u32 {
        match self {
            Self::UnknownSet => 1,
            Self::SealedSet => 2,
            Self::NonceRange => 3,
            Self::Rate => 4,
            Self::Other(code) => code,
        }
    }

    fn from_wire(code: u32) -> Self {
        match code {
            1 => Self::UnknownSet,
            2 => Self::SealedSet,
            3 => Self::NonceRange,
            4 => Self::Rate,
            code => Self::Other(code),
        }
    }
}

/// A nonce that was not credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedNonce {
    /// Serial of the set that the ticket named.
    pub serial: u32,
    /// The nonce.
    pub nonce: u32,
    /// Why.
    pub code: RefusalCode,
}

/// What became of one set's tickets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetReceipt {
    /// Serial of the set.
    pub serial: u32,
    /// Every nonce from 1 to this is settled: credited or refused for good, and, if it won, stored.
    pub settled: u32,
}

/// The state of a session as the recipient books it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Per set.
    pub sets: Vec<SetReceipt>,
    /// Refused nonces, newest last.
    pub refused: Vec<RefusedNonce>,
    /// Frames admitted to the graph, in all.
    pub admitted: u64,
    /// Frames that came out of the graph and were sent back, in all.
    pub returned: u64,
    /// Frames that were seen and will not come back, in all: not paid.
    pub dropped: u64,
    /// Every frame that arrived with a PTS up to this is in the counts.
    pub seen_pts: Option<i64>,
    /// Fees of admitted frames less those dropped, in all.
    pub debit: Wei,
    /// Wei of accepted tickets, in all.
    pub credit: Wei,
    /// How many frames the recipient runs ahead of payment (Ko).
    pub frames_at_risk: u32,
    /// The set to use from now on, until it has been used.
    pub next_set: Option<Box<Set>>,
}

impl Receipt {
    /// The receipt behind its length, as it goes onto the channel.
    pub fn encode(&self) -> Bytes {
        framed(&ReceiptMessage::from(self).encode_to_vec())
    }

    /// Reads a receipt without its length.
    ///
    /// # Errors
    /// Names what is no protobuf and which field is out of range.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let message = ReceiptMessage::decode(frame)
            .map_err(|source| WireError::Protobuf { what: "receipt", source })?;
        Self::try_from(message)
    }
}

const fn field(field: &'static str) -> WireError {
    WireError::Field { what: "receipt", field }
}

/// A set as protobuf.
#[derive(Clone, PartialEq, Message)]
pub struct SetMessage {
    /// See [`Set::serial`].
    #[prost(uint32, tag = "1")]
    pub serial: u32,
    /// See [`Set::epoch`].
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub session: Vec<u8>,
    /// 20 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub recipient: Vec<u8>,
    /// 20 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub sender: Vec<u8>,
    /// Columns of the picture.
    #[prost(uint32, tag = "6")]
    pub width: u32,
    /// Rows of the picture.
    #[prost(uint32, tag = "7")]
    pub height: u32,
    /// Wei, big-endian, at most 32 bytes.
    #[prost(bytes = "vec", tag = "8")]
    pub fee: Vec<u8>,
    /// Wei, big-endian, at most 32 bytes.
    #[prost(bytes = "vec", tag = "9")]
    pub face_value: Vec<u8>,
    /// Big-endian, at most 32 bytes.
    #[prost(bytes = "vec", tag = "10")]
    pub win_prob: Vec<u8>,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "11")]
    pub recipient_rand_hash: Vec<u8>,
    /// See [`Set::seal_block`].
    #[prost(uint64, tag = "12")]
    pub seal_block: u64,
    /// See [`CreationRound::round`].
    #[prost(uint64, tag = "13")]
    pub creation_round: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "14")]
    pub creation_round_hash: Vec<u8>,
}

impl From<&Set> for SetMessage {
    fn from(set: &Set) -> Self {
        Self {
            serial: set.serial,
            epoch: set.epoch,
            session: set.session.0.to_vec(),
            recipient: set.recipient.to_vec(),
            sender: set.sender.to_vec(),
            width: set.size.width,
            height: set.size.height,
            fee: set.fee.0.to_be_bytes_trimmed_vec(),
            face_value: set.face_value.0.to_be_bytes_trimmed_vec(),
            win_prob: set.win_prob.to_be_bytes_trimmed_vec(),
            recipient_rand_hash: set.recipient_rand_hash.to_vec(),
            seal_block: set.seal_block,
            creation_round: set.creation.round,
            creation_round_hash: set.creation.hash.to_vec(),
        }
    }
}

impl TryFrom<SetMessage> for Set {
    type Error = WireError;

    fn try_from(m: SetMessage) -> Result<Self, WireError> {
        Ok(Self {
            serial: m.serial,
            epoch: m.epoch,
            session: SessionId(hash(&m.session, "session")?),
            recipient: address(&m.recipient, "recipient")?,
            sender: address(&m.sender, "sender")?,
            size: PictureSize::new(m.width, m.height).ok_or(field("size"))?,
            fee: Wei(number(&m.fee, "fee")?),
            face_value: Wei(number(&m.face_value, "face_value")?),
            win_prob: number(&m.win_prob, "win_prob")?,
            recipient_rand_hash: hash(&m.recipient_rand_hash, "recipient_rand_hash")?,
            seal_block: m.seal_block,
            creation: CreationRound {
                round: m.creation_round,
                hash: hash(&m.creation_round_hash, "creation_round_hash")?,
            },
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct RefusedMessage {
    #[prost(uint32, tag = "1")]
    serial: u32,
    #[prost(uint32, tag = "2")]
    nonce: u32,
    #[prost(uint32, tag = "3")]
    code: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SetReceiptMessage {
    #[prost(uint32, tag = "1")]
    serial: u32,
    #[prost(uint32, tag = "2")]
    settled: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ReceiptMessage {
    #[prost(message, repeated, tag = "1")]
    sets: Vec<SetReceiptMessage>,
    #[prost(uint64, tag = "2")]
    admitted: u64,
    #[prost(uint64, tag = "3")]
    returned: u64,
    #[prost(uint64, tag = "4")]
    dropped: u64,
    #[prost(sint64, optional, tag = "5")]
    seen_pts: Option<i64>,
    #[prost(bytes = "vec", tag = "6")]
    debit: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    credit: Vec<u8>,
    #[prost(uint32, tag = "8")]
    frames_at_risk: u32,
    #[prost(message, optional, tag = "9")]
    next_set: Option<SetMessage>,
    #[prost(message, repeated, tag = "10")]
    refused: Vec<RefusedMessage>,
}

impl From<&Receipt> for ReceiptMessage {
    fn from(r: &Receipt) -> Self {
        let set = |s: &SetReceipt| SetReceiptMessage { serial: s.serial, settled: s.settled };
        let refused = |r: &RefusedNonce| RefusedMessage {
            serial: r.serial,
            nonce: r.nonce,
            code: r.code.to_wire(),
        };
        Self {
            sets: r.sets.iter().map(set).collect(),
            refused: r.refused.iter().map(refused).collect(),
            admitted: r.admitted,
            returned: r.returned,
            dropped: r.dropped,
            seen_pts: r.seen_pts,
            debit: r.debit.0.to_be_bytes_trimmed_vec(),
            credit: r.credit.0.to_be_bytes_trimmed_vec(),
            frames_at_risk: r.frames_at_risk,
            next_set: r.next_set.as_deref().map(SetMessage::from),
        }
    }
}

impl TryFrom<ReceiptMessage> for Receipt {
    type Error = WireError;

    fn try_from(m: ReceiptMessage) -> Result<Self, WireError> {
        if m.sets.len() > RECEIPT_SETS_MAX {
            return Err(field("sets"));
        }
        if m.refused.len() > REFUSED_MAX {
            return Err(field("refused"));
        }
        let set = |s: &SetReceiptMessage| SetReceipt { serial: s.serial, settled: s.settled };
        let refused = |r: &RefusedMessage| RefusedNonce {
            serial: r.serial,
            nonce: r.nonce,
            code: RefusalCode::from_wire(r.code),
        };
        Ok(Self {
            sets: m.sets.iter().map(set).collect(),
            refused: m.refused.iter().map(refused).collect(),
            admitted: m.admitted,
            returned: m.returned,
            dropped: m.dropped,
            seen_pts: m.seen_pts,
            debit: Wei(number(&m.debit, "debit")?),
            credit: Wei(number(&m.credit, "credit")?),
            frames_at_risk: m.frames_at_risk,
            next_set: m.next_set.map(|s| Set::try_from(s).map(Box::new)).transpose()?,
        })
    }
}

pub(super) fn number(bytes: &[u8], name: &'static str) -> Result<U256, WireError> {
    if bytes.len() > 32 {
        return Err(field(name));
    }
    Ok(U256::from_be_slice(bytes))
}

pub(super) fn hash(bytes: &[u8], name: &'static str) -> Result<B256, WireError> {
    B256::try_from(bytes).map_err(|_| field(name))
}

pub(super) fn address(bytes: &[u8], name: &'static str) -> Result<Address, WireError> {
    Address::try_from(bytes).map_err(|_| field(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            sets: vec![
                SetReceipt { serial: 1, settled: 3600 },
                SetReceipt { serial: 2, settled: 9 },
            ],
            refused: vec![RefusedNonce { serial: 2, nonce: 11, code: RefusalCode::Rate }],
            admitted: 3610,
            returned: 3600,
            dropped: 4,
            seen_pts: Some(-5),
            debit: Wei::new(3610 << 64),
            credit: Wei::new(3609 << 64),
            frames_at_risk: 18,
            next_set: Some(Box::new(crate::testing::set())),
        }
    }

    #[test]
    fn a_receipt_comes_back_as_it_went() {
        for receipt in [receipt(), Receipt::default()] {
            let wire = receipt.encode();
            assert_eq!(Receipt::decode(&wire[2..]), Ok(receipt));
        }
    }

    #[test]
    fn the_largest_receipt_is_within_its_limit() {
        let code = RefusalCode::Other(u32::MAX);
        let refused = RefusedNonce { serial: u32::MAX, nonce: u32::MAX, code };
        let set = SetReceipt { serial: u32::MAX, settled: u32::MAX };
        let receipt = Receipt { sets: vec![set; 2], refused: vec![refused; 64], ..receipt() };
        assert!(receipt.encode().len() <= RECEIPT_BYTES_MAX);
    }

    #[test]
    fn counts_and_sizes_beyond_their_limits_are_refused_by_field() {
        let check = |message: ReceiptMessage, name| {
            assert_eq!(Receipt::decode(&message.encode_to_vec()), Err(field(name)));
        };
        let good = ReceiptMessage::from(&receipt());
        check(
            ReceiptMessage { sets: vec![SetReceiptMessage::default(); 3], ..good.clone() },
            "sets",
        );
        check(ReceiptMessage { debit: vec![1; 33], ..good.clone() }, "debit");
        let mut no_width = good.clone();
        no_width.next_set.as_mut().unwrap().width = 0;
        check(no_width, "size");
        let mut short = good;
        short.next_set.as_mut().unwrap().sender.pop();
        check(short, "sender");
        assert!(matches!(Receipt::decode(&[0xff; 9]), Err(WireError::Protobuf { .. })));
    }
}
