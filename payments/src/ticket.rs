//! A lottery ticket exactly as the TicketBroker knows it: its hash, its win test, its value.
//!
//! This file knows nothing of sessions or frames and holds no key: who signs is a [`TicketSigner`],
//! who recovers a [`Recover`].

use alloy_primitives::{Address, B256, U256, keccak256};

use crate::price::{Wei, expected_value_floor};

/// A signature over a ticket: r ‖ s ‖ v, v 27 or 28, s in the lower half.
pub type Signature = [u8; 65];

/// Recovers the signer of a 32-byte digest; `None` for every signature that the contract would not
/// take (length, v, high s, no key).
pub type Recover = fn(digest: &B256, signature: &Signature) -> Option<Address>;

/// The sender's key. Signing must be deterministic (RFC 6979 without extra entropy), so that a
/// ticket that is made again is the same ticket.
pub trait TicketSigner: Send + Sync {
    /// The address that pays.
    fn address(&self) -> Address;
    /// Signs 32 bytes as they are.
    fn sign(&self, digest: B256) -> Signature;
}

/// The round that a ticket was made in: the only thing that binds it to a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CreationRound {
    /// Number of the round.
    pub round: u64,
    /// Block hash that the broker holds for it.
    pub hash: B256,
}

impl CreationRound {
    /// The 64 bytes of auxData, or nothing when both parts are zero.
    pub fn aux_data(&self) -> Vec<u8> {
        if self.round == 0 && self.hash.is_zero() {
            return Vec::new();
        }
        let mut bytes = U256::from(self.round).to_be_bytes_vec();
        bytes.extend_from_slice(self.hash.as_slice());
        bytes
    }
}

/// A ticket without its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Who is paid.
    pub recipient: Address,
    /// Who pays.
    pub sender: Address,
    /// What a winner is worth.
    pub face_value: Wei,
    /// Probability × (2^256 − 1).
    pub win_prob: U256,
    /// Different in each ticket of a set; from 1.
    pub sender_nonce: u32,
    /// Keccak of the number that the recipient keeps secret.
    pub recipient_rand_hash: B256,
    /// The round that it was made in.
    pub creation: CreationRound,
}

impl Ticket {
    /// The hash that names the ticket: keccak over the tight packing of its fields.
    pub fn hash(&self) -> B256 {
        let mut bytes = [0u8; 232];
        bytes[..20].copy_from_slice(self.recipient.as_slice());
        bytes[20..40].copy_from_slice(self.sender.as_slice());
        bytes[40..72].copy_from_slice(&self.face_value.0.to_be_bytes::<32>());
        bytes[72..104].copy_from_slice(&self.win_prob.to_be_bytes::<32>());
        bytes[132..136].copy_from_slice(&self.sender_nonce.to_be_bytes());
        bytes[136..168].copy_from_slice(self.recipient_rand_hash.as_slice());
        let creation = &self.creation;
        if creation.round == 0 && creation.hash.is_zero() {
            return keccak256(&bytes[..168]);
        }
        bytes[192..200].copy_from_slice(&creation.round.to_be_bytes());
        bytes[200..232].copy_from_slice(creation.hash.as_slice());
        keccak256(bytes)
    }

    /// The 32 bytes that are signed: the ticket hash behind the personal prefix.
    pub fn digest(&self) -> B256 {
        signing_digest(&self.hash())
    }

    /// What an accepted ticket is credited: the expected value, rounded down.
    pub fn expected_value_floor(&self) -> Wei {
        expected_value_floor(self.face_value, self.win_prob)
    }
}

/// keccak(`\x19Ethereum Signed Message:\n32` ‖ ticket hash).
pub fn signing_digest(ticket_hash: &B256) -> B256 {
    const PREFIX: &[u8; 28] = b"\x19Ethereum Signed Message:\n32";
    let mut bytes = [0u8; 60];
    bytes[..28].copy_from_slice(PREFIX);
    bytes[28..].copy_from_slice(ticket_hash.as_slice());
    keccak256(bytes)
}

/// keccak of the recipient's number as 32 bytes: the commitment that a set carries.
pub fn recipient_rand_hash(recipient_rand: &U256) -> B256 {
    keccak256(recipient_rand.to_be_bytes::<32>())
}

/// keccak(signature ‖ recipientRand), the number that is compared with the probability.
pub fn win_value(signature: &Signature, recipient_rand: &U256) -> U256 {
    let mut bytes = [0u8; 97];
    bytes[..65].copy_from_slice(signature);
    bytes[65..].copy_from_slice(&recipient_rand.to_be_bytes::<32>());
    U256::from_be_bytes(keccak256(bytes).0)
}

/// The contract's win test: strictly below the probability.
pub fn wins(signature: &Signature, recipient_rand: &U256, win_prob: &U256) -> bool {
    win_value(signature, recipient_rand) < *win_prob
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256, hex};

    const FOO: B256 = b256!("41b1a0649752af1b28b3dc29a1556eee781e4a4c3a1f7f53f90fa834de098c4d");

    // Hashes that the contract gave.
    #[test]
    fn hashes_are_those_of_the_broker() {
        let check = |ticket: Ticket, expected: B256| assert_eq!(ticket.hash(), expected);
        let none = Ticket::default;
        check(
            Ticket { sender_nonce: u32::MAX, ..none() },
            b256!("e1393fc7f6de093780674022f96cb8e3872235167d037c04d554e58c0e63d280"),
        );
        check(
            Ticket { sender_nonce: 1, ..none() },
            b256!("ce0918ba94518293e9712effbe5fca4f1f431089833a5b8c257cb1e024595f68"),
        );
        check(
            Ticket { face_value: Wei::new(1), win_prob: U256::from(500), ..none() },
            b256!("87ef13f2d37e4d5352a01d3c77b8179d80e0887f1953bfabfd0bfd7b0f689ddd"),
        );
        check(
            Ticket { face_value: Wei::new(500), win_prob: U256::from(1), ..none() },
            b256!("aa4b35071043587992ac8b9dd1b2cf1d8311130e6458cf0b2342484e21af5f5b"),
        );
        check(
            Ticket { recipient: address!("73AEd7b5dEb30222fa896f399d46cC99c7BEe57F"), ..none() },
            b256!("81e353ae39046e2b77b9f996abbaeed527fda559b61ef90f299c4499dd508ccc"),
        );
        check(
            Ticket { recipient_rand_hash: FOO, ..none() },
            b256!("be5eaf9a49a39540b9bb02f1a21904f61324a29819e2c032824bfaa10c100b17"),
        );
        check(
            Ticket { creation: CreationRound { round: 10, hash: FOO }, ..none() },
            b256!("e502907c16036ab3d11b78c5a2e93c20f3d6415c67f91de4ed01348182b3b2e2"),
        );
    }

    #[test]
    fn aux_data_is_empty_only_when_both_parts_are_zero() {
        let hash = b256!("7624778dedc75f8b322b9fa1632a610d40b85e106c7d9bf0e743a9ce291b9c6f");
        let both = CreationRound { round: 5, hash }.aux_data();
        assert_eq!((both.len(), both[31], &both[32..]), (64, 5, hash.as_slice()));
        assert_eq!(CreationRound { round: 0, hash }.aux_data().len(), 64);
        assert_eq!(CreationRound { round: 5, hash: B256::ZERO }.aux_data().len(), 64);
        assert!(CreationRound::default().aux_data().is_empty());
    }

    /// A ticket that was redeemed on chain.
    fn redeemed() -> (Ticket, Signature, U256) {
        let number = |text| U256::from_str_radix(text, 10).unwrap();
        let ticket = Ticket {
            recipient: address!("9C10672CEE058Fd658103d90872FE431bb6C0AFa"),
            sender: address!("3eE860A4abA830AF84EbBCE2b381fc11DB8493e2"),
            face_value: Wei::new(24_703_611_594_215_916),
            win_prob: number(
                "4687253472865791949219216447262131914283161967982656133076290000000000000000",
            ),
            sender_nonce: 1,
            recipient_rand_hash: b256!(
                "d00ef48a6825d9ae93097ad55bc76057fb50afc203aa98fd4e01aa6576d71298"
            ),
            creation: CreationRound {
                round: 0x689,
                hash: b256!("a9f81d59be53a90a12cb12f627aa9e87c505320bad20a98fd98d5ed23bfe9a54"),
            },
        };
        let signature = hex!(
            "5ff5265992f1a6563851d085f363b16ad65416baaee090ee368b59082437df7a0237214659511fc188d6a4ef57c988bb18faa3e99826c78e9e75eb29366745891b"
        );
        let rand =
            number("21160157592767011607011497540409649304524524744605816319294275445072062630355");
        (ticket, signature, rand)
    }

    #[test]
    fn a_ticket_redeemed_on_chain_is_recomputed_whole() {
        let (ticket, signature, rand) = redeemed();
        assert_eq!(
            ticket.hash(),
            b256!("63d432158a2a3a15bdb5a87712e5cf0d1655d018a615d2e8806346536c0154c0")
        );
        assert_eq!(recipient_rand_hash(&rand), ticket.recipient_rand_hash);
        let value = win_value(&signature, &rand);
        assert_eq!(
            B256::from(value),
            b256!("032acb381b86925047219e35056c8ed0de09d7ca369a7221c1ce9f8221b37732")
        );
        assert!(wins(&signature, &rand, &ticket.win_prob));
        let ev = ticket.expected_value_floor();
        assert!(ev == Wei::new(1_000_000_000_000_000) || ev == Wei::new(999_999_999_999_999));
        assert_eq!(crate::testing::recover(&ticket.digest(), &signature), Some(ticket.sender));
    }

    // A ticket that the contract's tests sign.
    #[test]
    fn a_signed_ticket_is_the_same_to_the_last_byte() {
        let key = crate::testing::key_of(hex!(
            "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
        ));
        let ticket = Ticket {
            recipient: address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
            sender: key.address(),
            face_value: Wei::new(1_000_000_000_000_000),
            win_prob: U256::MAX / U256::from(2),
            sender_nonce: 1,
            recipient_rand_hash: recipient_rand_hash(&U256::from(1337)),
            creation: CreationRound { round: 10, hash: FOO },
        };
        assert_eq!(
            ticket.digest(),
            b256!("84d530cf53bc9c227a5ecc1009ceb515b867410945512b6b61103d89041df9f5")
        );
        let signature = key.sign(ticket.digest());
        assert_eq!(
            signature,
            hex!(
                "a05f77516812baa56068d6b965300b1e492fcba162096e1fdcb849771fe80e555a42fdda424c3686584ed75bb476068f256d0f3fea32481a6680e992db2152661b"
            )
        );
        let value = win_value(&signature, &U256::from(1337));
        assert_eq!(
            B256::from(value),
            b256!("3c796d3632cea13670f11319e5407283a77fe6d5630f19be33c4ebd7a66348fd")
        );
        assert!(wins(&signature, &U256::from(1337), &ticket.win_prob));
    }

    // The example of the existing network hashes a signature of three bytes, which no ticket has;
    // the digest is checked on the same function of bytes.
    #[test]
    fn the_bounds_of_the_win_test_are_strict() {
        let mut bytes = b"foo".to_vec();
        bytes.extend(U256::from(10).to_be_bytes::<32>());
        assert_eq!(
            keccak256(&bytes),
            b256!("212117bf5ec66d480ab4d362ce2f1ae19d6b5df92c5f8633bcecf62bfaea6810")
        );
        assert_eq!(
            recipient_rand_hash(&U256::from(10)),
            b256!("c65a7bb8d6351c1cf70c95a316cc6a92839c986682d98bc35f958f4883f9d2a8")
        );
        let (signature, rand) = ([7u8; 65], U256::from(10));
        let value = win_value(&signature, &rand);
        assert!(!wins(&signature, &rand, &U256::ZERO));
        assert!(!wins(&signature, &rand, &value));
        assert!(wins(&signature, &rand, &(value + U256::from(1))));
        assert!(wins(&signature, &rand, &U256::MAX));
    }

    #[test]
    fn a_million_draws_win_as_often_as_they_should() {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(4);
        let (draws, win_prob) = (1_000_000u32, U256::MAX / U256::from(4));
        let mut signature = [0u8; 65];
        let won = (0..draws)
            .filter(|_| {
                rng.fill(&mut signature[..64]);
                wins(&signature, &U256::from(77), &win_prob)
            })
            .count() as f64;
        // A binomial with p = 1/4: sigma is the root of 1,000,000 x 1/4 x 3/4.
        let (mean, sigma) = (250_000.0, 433.0);
        assert!((won - mean).abs() < 4.0 * sigma, "{won}");
    }
}
