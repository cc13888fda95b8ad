//! Signatures over messages as Ethereum nodes and the TicketBroker check them.
//!
//! Two layers, not to be mixed up: *personal* prefixes the message with its length, *node* hashes
//! the message first, so that its prefix always says 32. Signing is RFC 6979 without extra
//! entropy: the same key and message give the same 65 bytes everywhere, so a ticket that is sent
//! again never becomes a second ticket. Recovery uses libsecp256k1, the fast path of validation.

use alloy_primitives::{Address, B256, keccak256};
use k256::ecdsa::SigningKey;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};

/// Bytes of a signature: r (32), s (32), v (1).
pub const SIGNATURE_BYTES: usize = 65;

/// Half the order of secp256k1, big-endian: the largest `s` that is accepted.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Why a signature is not accepted. Always the signing side's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 65 bytes; the 64-byte compact form is refused too.
    #[error("a signature has 65 bytes, this has {length}")]
    Length {
        /// Bytes seen.
        length: usize,
    },
    /// `v` is neither 27 nor 28.
    #[error("the last byte of a signature is 27 or 28, this is {v}")]
    RecoveryByte {
        /// The byte seen.
        v: u8,
    },
    /// `s` is in the upper half: another form of a valid signature, refused so that one message
    /// has one signature.
    #[error("s of the signature is in the upper half of its range")]
    HighS,
    /// No key could have made this signature.
    #[error("no key belongs to this signature")]
    Unrecoverable,
    /// A good signature of somebody else.
    #[error("signed by {recovered}, not by {claimed}")]
    WrongSigner {
        /// Who signed.
        recovered: Address,
        /// Who was said to have signed.
        claimed: Address,
    },
}

/// keccak(0x19 ‖ `Ethereum Signed Message:` ‖ newline ‖ decimal length ‖ message).
pub fn personal_hash(message: &[u8]) -> B256 {
    let prefix = format!("\x19Ethereum Signed Message:\n{}", message.len());
    let mut bytes = Vec::with_capacity(prefix.len() + message.len());
    bytes.extend_from_slice(prefix.as_bytes());
    bytes.extend_from_slice(message);
    keccak256(&bytes)
}

/// What a node signs for `message`: the personal hash of its keccak.
pub fn node_hash(message: &[u8]) -> B256 {
    personal_hash(keccak256(message).as_slice())
}

/// Who can sign. Implementations hold a key in memory and answer at once.
pub trait Signer: Send + Sync {
    /// The address of the key.
    fn address(&self) -> Address;

    /// Signs 32 bytes as they are: r ‖ s ‖ v, v 27 or 28, s in the lower half, the same bytes each
    /// time.
    fn sign_hash(&self, digest: B256) -> [u8; SIGNATURE_BYTES];

    /// Signs a message with the personal prefix (tickets: over the ticket hash).
    fn sign_personal(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.sign_hash(personal_hash(message))
    }

    /// Signs a message of one node to another.
    fn sign_node(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.sign_hash(node_hash(message))
    }
}

/// A private key in memory. Its `Debug` shows the address only.
pub struct SecretKey {
    key: SigningKey,
    address: Address,
}

impl SecretKey {
    /// The key of these 32 bytes, or `None` when they are zero or not below the curve's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = SigningKey::from_slice(bytes).ok()?;
        let point = key.verifying_key().to_sec1_point(false);
        let address = Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..]);
        Some(Self { key, address })
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.address)
    }
}

impl Signer for SecretKey {
    fn address(&self) -> Address {
        self.address
    }

    fn sign_hash(&self, digest: B256) -> [u8; SIGNATURE_BYTES] {
        let (signature, id) = self.key.sign_prehash_recoverable(&digest.0);
        let mut bytes = [0u8; SIGNATURE_BYTES];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + id.to_byte();
        bytes
    }
}

/// Who signed these 32 bytes.
///
/// # Errors
/// Everything but 65 bytes with v 27 or 28 and s in the lower half, and signatures of no key.
pub fn recover_hash(digest: &B256, signature: &[u8]) -> Result<Address, SignatureError> {
    let length = signature.len();
    if length != SIGNATURE_BYTES {
        return Err(SignatureError::Length { length });
    }
    let v = signature[64];
    if v != 27 && v != 28 {
        return Err(SignatureError::RecoveryByte { v });
    }
    if signature[32..64] > HALF_ORDER[..] {
        return Err(SignatureError::HighS);
    }
    let id = RecoveryId::from_u8_masked(v - 27);
    let public = RecoverableSignature::from_compact(&signature[..64], id)
        .and_then(|s| s.recover_ecdsa(secp256k1::Message::from_digest(digest.0)))
        .map_err(|_| SignatureError::Unrecoverable)?;
    let point = public.serialize_uncompressed();
    Ok(Address::from_slice(&keccak256(&point[1..])[12..]))
}

/// Who signed `message` with the personal prefix.
///
/// # Errors
/// As [`recover_hash`].
pub fn recover_personal(message: &[u8], signature: &[u8]) -> Result<Address, SignatureError> {
    recover_hash(&personal_hash(message), signature)
}

/// Who signed `message` as a node.
///
/// # Errors
/// As [`recover_hash`].
pub fn recover_node(message: &[u8], signature: &[u8]) -> Result<Address, SignatureError> {
    recover_hash(&node_hash(message), signature)
}

/// Accepts only a signature of `claimed` over these 32 bytes.
///
/// # Errors
/// As [`recover_hash`], and [`SignatureError::WrongSigner`].
pub fn verify_hash(
    digest: &B256,
    signature: &[u8],
    claimed: Address,
) -> Result<(), SignatureError> {
    let recovered = recover_hash(digest, signature)?;
    if recovered == claimed {
        Ok(())
    } else {
        Err(SignatureError::WrongSigner { recovered, claimed })
    }
}

/// Accepts only a node signature of `claimed` over `message`.
///
/// # Errors
/// As [`verify_hash`].
pub fn verify_node(
    message: &[u8],
    signature: &[u8],
    claimed: Address,
) -> Result<(), SignatureError> {
    verify_hash(&node_hash(message), signature, claimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, hex};
    use proptest::prelude::*;

    fn key(n: u8) -> SecretKey {
        let mut bytes = [0u8; 32];
        bytes[31] = n;
        SecretKey::from_bytes(&bytes).unwrap()
    }

    // A signature that the existing network made.
    const MESSAGE: [u8; 32] =
        hex!("b7da355477356fc4c47fcabcf232dc77a6db9b07b7e48b76261cc55cc8fbabb3");
    const SIGNATURE: [u8; 65] = hex!(
        "206443228e8f784bc3a122de0d85eb3ebff82d6a79cca26c7eeb907099a6404f6dff57bc6828f28bd6cd073c89d94cf3364204679ed8365fa45b5ee6af19a9841c"
    );
    const SIGNER: Address = address!("3BadDb1eeE2105893136A3F96c8a963E9C6309d6");

    #[test]
    fn the_networks_example_signature_names_its_signer() {
        assert_eq!(recover_personal(&MESSAGE, &SIGNATURE), Ok(SIGNER));
    }

    #[test]
    fn other_forms_of_a_signature_are_refused_each_by_name() {
        assert_eq!(
            recover_personal(&MESSAGE, &SIGNATURE[..64]),
            Err(SignatureError::Length { length: 64 })
        );
        let high = hex!(
            "e742ff452d41413616a5bf43fe15dd88294e983d3d36206c2712f39083d638bde0a0fc89be718fbc1033e1d30d78be1c68081562ed2e97af876f286f3453231d1b"
        );
        assert_eq!(recover_personal(&MESSAGE, &high), Err(SignatureError::HighS));
        for v in [0, 1, 26, 29, 0xe5] {
            let mut bytes = SIGNATURE;
            bytes[64] = v;
            assert_eq!(recover_personal(&MESSAGE, &bytes), Err(SignatureError::RecoveryByte { v }));
        }
        assert_eq!(
            recover_hash(&B256::repeat_byte(1), &{
                let mut zero = [0u8; 65];
                zero[64] = 27;
                zero
            }),
            Err(SignatureError::Unrecoverable)
        );
    }

    #[test]
    fn a_node_signs_its_checksummed_address_over_the_known_digest() {
        let key = key(1);
        let text = crate::checksum(&key.address());
        assert_eq!(text, "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
        assert_eq!(
            keccak256(&text),
            B256::from(hex!("4d5a49db91080e655190d37cddc99ea26046572ad0796bb34bdaba86f6b74672"))
        );
        assert_eq!(
            node_hash(text.as_bytes()),
            B256::from(hex!("58656fe8bd0c2b186542f829f6c5de387b108a917b38013f297aa26ca32b18b1"))
        );
        let signature = key.sign_node(text.as_bytes());
        assert_eq!(verify_node(text.as_bytes(), &signature, key.address()), Ok(()));
        assert!(matches!(
            verify_node(text.as_bytes(), &signature, SIGNER),
            Err(SignatureError::WrongSigner { .. })
        ));
    }

    // A public development key and the RFC 6979 signature over a hash.
    #[test]
    fn signing_gives_the_one_deterministic_signature() {
        let secret = hex!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a");
        let key = SecretKey::from_bytes(&secret).unwrap();
        assert_eq!(key.address(), address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"));
        let ticket = hex!("7800bc0079fe63274adf120343389b37cfca9f637bd50586a9d73f1f28ad2daa");
        assert_eq!(
            personal_hash(&ticket),
            B256::from(hex!("84d530cf53bc9c227a5ecc1009ceb515b867410945512b6b61103d89041df9f5"))
        );
        let expected = hex!(
            "a05f77516812baa56068d6b965300b1e492fcba162096e1fdcb849771fe80e555a42fdda424c3686584ed75bb476068f256d0f3fea32481a6680e992db2152661b"
        );
        assert_eq!(key.sign_personal(&ticket), expected);
    }

    #[test]
    fn a_key_is_shown_by_its_address_only() {
        assert_eq!(
            format!("{:?}", key(1)),
            "SecretKey(0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf)"
        );
        assert!(SecretKey::from_bytes(&[0; 32]).is_none());
        assert!(SecretKey::from_bytes(&[0xff; 32]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_signed_is_recovered_and_in_the_accepted_form(n in 1u8.., digest: [u8; 32]) {
            let key = key(n);
            let signature = key.sign_hash(B256::from(digest));
            prop_assert_eq!(signature, key.sign_hash(B256::from(digest)));
            prop_assert_eq!(recover_hash(&B256::from(digest), &signature), Ok(key.address()));
        }
    }
}
