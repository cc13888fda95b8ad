//! A set: the parameters that tickets of one sender, session, process epoch and picture size share.
//!
//! The recipient derives its secret number from every field, so it keeps no table of them and no
//! field can be changed by whoever carries the set. Two sets of one process never share a number:
//! the serial is part of it. Source: per-frame-payments.md, "Set".

use alloy_primitives::{Address, B256, U256, keccak256};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::broker::{Head, Network};
use crate::price::{PictureSize, PricePerPixel, Wei, fee_ceil};
use crate::ticket::{CreationRound, Ticket, recipient_rand_hash};

/// Highest nonce of a set.
pub const NONCE_MAX: u32 = 4096;

/// First item of the derivation: keeps it apart from anything else made with the same secret.
const DERIVATION_DOMAIN: &[u8] = b"millstream-frame-set-1";

/// The session that a set is bound to: 32 bytes that both sides know from the start exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub B256);

impl SessionId {
    /// The id of a session that is named by text.
    pub fn from_name(name: &str) -> Self {
        Self(keccak256(name.as_bytes()))
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&alloy_primitives::hex::encode(&self.0[..8]))
    }
}

/// Parameters of tickets, as quoted by the recipient.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set {
    /// Counts the sets of a session from 1; names the set on the wire.
    pub serial: u32,
    /// The recipient's process epoch: every set of an older one is sealed.
    pub epoch: u64,
    /// The session.
    pub session: SessionId,
    /// Who is paid.
    pub recipient: Address,
    /// Who pays.
    pub sender: Address,
    /// Size of the pictures that the fee is for.
    pub size: PictureSize,
    /// Fee of a frame and credit of a ticket.
    pub fee: Wei,
    /// Worth of a winner.
    pub face_value: Wei,
    /// Probability × (2^256 − 1).
    pub win_prob: U256,
    /// Commitment to the recipient's number.
    pub recipient_rand_hash: B256,
    /// From this block on the set credits nothing.
    pub seal_block: u64,
    /// Round that binds the tickets to a chain.
    pub creation: CreationRound,
}

impl Set {
    /// The ticket of this set with `nonce`.
    pub fn ticket(&self, nonce: u32) -> Ticket {
        Ticket {
            recipient: self.recipient,
            sender: self.sender,
            face_value: self.face_value,
            win_prob: self.win_prob,
            sender_nonce: nonce,
            recipient_rand_hash: self.recipient_rand_hash,
            creation: self.creation,
        }
    }

    /// The recipient's secret number: HMAC-SHA256 over the length-prefixed list of all fields
    /// (but the commitment, which follows from it) with chain id and broker.
    pub fn recipient_rand(&self, secret: &RandSecret, network: Network) -> U256 {
        let list = self.derivation_list(network);
        let mut mac = secret.mac();
        mac.update(&list);
        U256::from_be_bytes::<32>(mac.finalize().into_bytes().into())
    }

    /// Fills in the commitment: the last step of making a set. Gives back the secret number.
    pub fn commit(&mut self, secret: &RandSecret, network: Network) -> U256 {
        let rand = self.recipient_rand(secret, network);
        self.recipient_rand_hash = recipient_rand_hash(&rand);
        rand
    }

    /// The secret number if this very set was made with this secret, whatever process made it.
    pub fn open(&self, secret: &RandSecret, network: Network) -> Option<U256> {
        let rand = self.recipient_rand(secret, network);
        (recipient_rand_hash(&rand) == self.recipient_rand_hash).then_some(rand)
    }

    fn derivation_list(&self, network: Network) -> Vec<u8> {
        length_prefixed(&[
            DERIVATION_DOMAIN,
            &network.chain_id.to_be_bytes(),
            network.broker.as_slice(),
            &self.epoch.to_be_bytes(),
            &self.serial.to_be_bytes(),
            self.session.0.as_slice(),
            self.recipient.as_slice(),
            self.sender.as_slice(),
            &self.size.width.to_be_bytes(),
            &self.size.height.to_be_bytes(),
            &self.fee.0.to_be_bytes::<32>(),
            &self.face_value.0.to_be_bytes::<32>(),
            &self.win_prob.to_be_bytes::<32>(),
            &self.seal_block.to_be_bytes(),
            &self.creation.round.to_be_bytes(),
            self.creation.hash.as_slice(),
        ])
    }
}

/// Each item behind its length in four bytes: no two lists give the same bytes.
fn length_prefixed(items: &[&[u8]]) -> Vec<u8> {
    let mut list = Vec::with_capacity(items.iter().map(|item| item.len() + 4).sum());
    for item in items {
        list.extend_from_slice(&(item.len() as u32).to_be_bytes());
        list.extend_from_slice(item);
    }
    list
}

/// The recipient's secret. It is kept across starts (its file is the node's business), so that a
/// winner of an earlier process can still be opened; the epoch keeps the processes apart.
#[derive(Clone)]
pub struct RandSecret([u8; 32]);

impl RandSecret {
    /// Thirty-two bytes from the system's randomness.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self) -> Hmac<Sha256> {
        // HMAC takes a key of any length, so there is no error to pass on.
        <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("HMAC takes any key length")
    }
}

impl std::fmt::Debug for RandSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RandSecret")
    }
}

/// What a sender holds a quoted set against.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Who is to be paid: the address that signed the orchestrator's answers.
    pub recipient: Address,
    /// Our own address.
    pub sender: Address,
    /// The session.
    pub session: SessionId,
    /// The agreed price.
    pub price: PricePerPixel,
    /// The highest face value that we risk on one ticket.
    pub face_value_max: Wei,
    /// Our own view of the chain, if we have one.
    pub head: Option<Head>,
    /// The hash that every round of a local ledger has, if the set is to be settled on one.
    pub ledger_round_hash: Option<B256>,
}

/// Why a sender does not take a set. The recipient's fault, but for a differing view of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetRefusal {
    /// Names another recipient.
    #[error("the set pays {0}, not the orchestrator that was asked")]
    Recipient(Address),
    /// Names another sender.
    #[error("the set is for the sender {0}")]
    Sender(Address),
    /// Belongs to another session.
    #[error("the set belongs to another session")]
    Session,
    /// Not the size of the pictures that are sent.
    #[error("the set is for pictures of {0}")]
    Size(PictureSize),
    /// The fee is not ceil(width × height × agreed price).
    #[error("the set asks {fee:?} a frame, agreed is {agreed:?}")]
    Fee {
        /// What the set asks.
        fee: Wei,
        /// What price and size make.
        agreed: Wei,
    },
    /// The expected value, rounded down, is not the fee: the credit would not cover the frame, or
    /// the ticket would cost more than it pays.
    #[error("the set's tickets are worth {0:?}, not the fee")]
    ExpectedValue(Wei),
    /// Less than two fees.
    #[error("face value {0:?} is below two fees")]
    FaceValueLow(Wei),
    /// More than we risk on one ticket.
    #[error("face value {0:?} is above our limit")]
    FaceValueHigh(Wei),
    /// The round hash is zero: such a ticket can never be redeemed.
    #[error("the set's round {0} has a zero hash")]
    ZeroRoundHash(u64),
    /// Neither the current round nor the one before, or with another hash than we see.
    #[error("the set's round {0} is not the one that we see")]
    Round(u64),
    /// The set is sealed already.
    #[error("the set is sealed at block {seal_block}, we see block {block}")]
    Sealed {
        /// Block of the seal.
        seal_block: u64,
        /// Block that we see.
        block: u64,
    },
}

impl Set {
    /// A sender's check of a quoted set.
    ///
    /// # Errors
    /// The first of the named refusals that holds.
    pub fn check(&self, expected: &Expected) -> Result<(), SetRefusal> {
        if self.recipient != expected.recipient {
            return Err(SetRefusal::Recipient(self.recipient));
        }
        if self.sender != expected.sender {
            return Err(SetRefusal::Sender(self.sender));
        }
        if self.session != expected.session {
            return Err(SetRefusal::Session);
        }
        let agreed = fee_ceil(self.size.pixels(), expected.price);
        if self.fee != agreed {
            return Err(SetRefusal::Fee { fee: self.fee, agreed });
        }
        let value = self.ticket(1).expected_value_floor();
        if value != self.fee || self.fee.is_zero() {
            return Err(SetRefusal::ExpectedValue(value));
        }
        if self.face_value < self.fee.saturating_mul(2) {
            return Err(SetRefusal::FaceValueLow(self.face_value));
        }
        if self.face_value > expected.face_value_max {
            return Err(SetRefusal::FaceValueHigh(self.face_value));
        }
        if self.creation.hash.is_zero() {
            return Err(SetRefusal::ZeroRoundHash(self.creation.round));
        }
        if expected.ledger_round_hash.is_some_and(|hash| hash != self.creation.hash) {
            return Err(SetRefusal::Round(self.creation.round));
        }
        let Some(head) = expected.head else { return Ok(()) };
        let near = head.round.abs_diff(self.creation.round) <= 1;
        let same = head.round != self.creation.round || head.round_hash == self.creation.hash;
        if !(near && same) {
            return Err(SetRefusal::Round(self.creation.round));
        }
        if self.seal_block <= head.block {
            return Err(SetRefusal::Sealed { seal_block: self.seal_block, block: head.block });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
