//! Keys and signatures of Ethereum.
//!
//! What is here: the two layers of message signature that nodes exchange ([`sign`]), the key file
//! of a node ([`keyfile`]) and addresses as text ([`address`]). What a ticket is, what it is worth
//! and when to redeem it is not known here; that is the business of `payments`, which speaks the
//! same words ([`Address`], [`B256`], [`U256`]) without importing this crate.
//!
//! Invariant: a signature that this crate accepts is the one form that the contracts accept too:
//! 65 bytes, `v` 27 or 28, `s` in the lower half.

#![forbid(unsafe_code)]

pub mod address;
#[doc(hidden)]
pub mod fuzz;
pub mod keyfile;
pub mod sign;

pub use address::{AddressError, checksum, parse_address};
pub use alloy_primitives::{Address, B256, U256, keccak256};
pub use keyfile::{KeyError, KeyFile};
pub use sign::{
    SIGNATURE_BYTES, SecretKey, SignatureError, Signer, node_hash, personal_hash, recover_hash,
    recover_node, recover_personal, verify_hash, verify_node,
};
