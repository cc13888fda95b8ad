//! Keys, sets and a view for the tests of this crate.
//!
//! Signing and recovery here come from another library than the node's own.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, keccak256};
use k256::ecdsa::{RecoveryId, Signature as EcdsaSignature, SigningKey, VerifyingKey};
use parking_lot::Mutex;

use crate::broker::{BrokerView, Funds, Head, Network};
use crate::price::{PictureSize, Wei, win_prob_for};
use crate::set::{RandSecret, SessionId, Set};
use crate::ticket::{CreationRound, Signature, TicketSigner};

pub(crate) struct Key(SigningKey);

pub(crate) fn key_of(bytes: [u8; 32]) -> Arc<Key> {
    Arc::new(Key(SigningKey::from_slice(&bytes).unwrap()))
}

pub(crate) fn key(n: u8) -> Arc<Key> {
    key_of([n; 32])
}

fn address_of(key: &VerifyingKey) -> Address {
    Address::from_slice(&keccak256(&key.to_sec1_point(false).as_bytes()[1..])[12..])
}

impl Key {
    pub(crate) fn address(&self) -> Address {
        address_of(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, digest: B256) -> Signature {
        let (signature, id) = self.0.sign_prehash_recoverable(&digest.0);
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + id.to_byte();
        bytes
    }
}

impl TicketSigner for Key {
    fn address(&self) -> Address {
        self.address()
    }
    fn sign(&self, digest: B256) -> Signature {
        self.sign(digest)
    }
}

pub(crate) fn recover(digest: &B256, signature: &Signature) -> Option<Address> {
    let id = RecoveryId::from_byte(signature[64].checked_sub(27)?).filter(|id| id.to_byte() < 2)?;
    let parsed = EcdsaSignature::from_slice(&signature[..64]).ok()?;
    if parsed.normalize_s() != parsed {
        return None;
    }
    VerifyingKey::recover_from_prehash(&digest.0, &parsed, id).ok().map(|k| address_of(&k))
}

pub(crate) fn secret() -> RandSecret {
    RandSecret::new([3; 32])
}

pub(crate) fn size() -> PictureSize {
    PictureSize::new(640, 360).unwrap()
}

/// A committed set of `key(1)` paying `key(2)`, fee 1000, probability 1/4.
pub(crate) fn set() -> Set {
    let mut set = Set {
        serial: 1,
        epoch: 5,
        session: SessionId::from_name("a session"),
        recipient: key(2).address(),
        sender: key(1).address(),
        size: size(),
        fee: Wei::new(1000),
        face_value: Wei::new(4000),
        win_prob: win_prob_for(Wei::new(1000), Wei::new(4000)).unwrap(),
        recipient_rand_hash: B256::ZERO,
        seal_block: 100,
        creation: CreationRound { round: 3, hash: B256::repeat_byte(9) },
    };
    set.commit(&secret(), Network::default());
    set
}

/// A broker whose state the test sets.
pub(crate) struct View(pub(crate) Mutex<(Head, Funds)>);

impl View {
    pub(crate) fn new() -> Arc<Self> {
        let head = Head {
            block: 10,
            round: 1,
            round_start_block: 0,
            round_length: 1000,
            round_hash: B256::repeat_byte(9),
            ticket_validity_rounds: 2,
        };
        let funds = Funds {
            deposit: Wei::ZERO,
            reserve: Wei(U256::MAX >> 8),
            claimable_reserve: Wei(U256::MAX >> 8),
            withdraw_round: 0,
            recipient_active: true,
        };
        Arc::new(Self(Mutex::new((head, funds))))
    }
}

impl BrokerView for View {
    fn network(&self) -> Network {
        Network::default()
    }
    fn head(&self) -> Option<Head> {
        Some(self.0.lock().0)
    }
    fn funds(&self, _: Address, _: Address) -> Option<Funds> {
        Some(self.0.lock().1)
    }
}
