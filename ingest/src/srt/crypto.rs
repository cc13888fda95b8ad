//! Encryption: key material as bytes, keys from a passphrase, and AES in counter mode over packets
//! (draft-sharabayko-srt-01, sections 3.2.2 and 6).
//!
//! Payloads are encrypted but not signed: SRT keeps a stream secret and does not prove that nobody
//! changed it. The caller makes the key of a connection, and both directions use it.

use std::num::NonZeroU32;

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256, Block};
use bytes::{BufMut, Bytes};
use ring::pbkdf2;

use super::wire::{KeySlot, PAYLOAD_BYTES_MAX, Seq};

/// Rounds that make the key of keys from a passphrase (6.1.4).
const ROUNDS: NonZeroU32 = NonZeroU32::new(2048).unwrap();

/// Blocks of AES in the largest payload.
const BLOCKS_MAX: usize = PAYLOAD_BYTES_MAX.div_ceil(16);

/// Bytes that key wrapping puts in front (RFC 3394 2.2.3.1).
const WRAP_CHECK: [u8; 8] = [0xA6; 8];

/// How long a passphrase may be in bytes; shorter and longer ones cannot be set in other SRTs.
pub const PASSPHRASE_BYTES: std::ops::RangeInclusive<usize> = 10..=79;

/// Length of the key that encrypts a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLength {
    /// AES-128.
    Aes128,
    /// AES-192.
    Aes192,
    /// AES-256.
    Aes256,
}

impl KeyLength {
    /// 16, 24 or 32.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// The key length of so many bytes.
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            16 => Some(Self::Aes128),
            24 => Some(Self::Aes192),
            32 => Some(Self::Aes256),
            _ => None,
        }
    }
}

/// Why key material is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("malformed key material")]
    Malformed,
    #[error("cipher other than AES in counter mode")]
    Cipher,
    #[error("wrong passphrase")]
    Passphrase,
}

enum Cipher {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl Cipher {
    /// `key` is as long as one of [`KeyLength`].
    fn new(key: &[u8]) -> Self {
        match key.len() {
            16 => Self::Aes128(Aes128::new(GenericArray::from_slice(key))),
            24 => Self::Aes192(Aes192::new(GenericArray::from_slice(key))),
            _ => Self::Aes256(Aes256::new(GenericArray::from_slice(key))),
        }
    }

    fn encrypt(&self, blocks: &mut [Block]) {
        match self {
            Self::Aes128(aes) => aes.encrypt_blocks(blocks),
            Self::Aes192(aes) => aes.encrypt_blocks(blocks),
            Self::Aes256(aes) => aes.encrypt_blocks(blocks),
        }
    }

    fn decrypt(&self, block: &mut Block) {
        match self {
            Self::Aes128(aes) => aes.decrypt_block(block),
            Self::Aes192(aes) => aes.decrypt_block(block),
            Self::Aes256(aes) => aes.decrypt_block(block),
        }
    }
}

/// The keys of a connection: of its packets, and what protects new ones on their way.
pub(super) struct Crypto {
    length: KeyLength,
    /// Made of passphrase and salt, which costs a millisecond; it stays the same as the salt does.
    wrapping: Box<Cipher>,
    salt: [u8; 16],
    even: Option<(Box<Cipher>, Vec<u8>)>,
    odd: Option<(Box<Cipher>, Vec<u8>)>,
}

impl Crypto {
    /// Fresh keys for a caller: `chance` becomes salt and key, the first key is the even one.
    pub(super) fn make(passphrase: &str, length: KeyLength, chance: &[u8; 48]) -> Self {
        let (salt, key) = chance.split_at(16);
        let salt = salt.try_into().unwrap_or_default();
        let wrapping = Box::new(key_of_keys(passphrase, &salt, length));
        let mut crypto = Self { length, wrapping, salt, even: None, odd: None };
        crypto.put(KeySlot::Even, &key[..length.bytes()]);
        crypto
    }

    /// The keys of a peer's key material.
    ///
    /// # Errors
    /// What is wrong with it; [`KeyError::Passphrase`] when it was made with another passphrase.
    pub(super) fn open(passphrase: &str, material: &[u8]) -> Result<Self, KeyError> {
        let material = Material::parse(material)?;
        let Material { length, salt, .. } = material;
        let wrapping = Box::new(key_of_keys(passphrase, &salt, length));
        let keys = material.unwrap(&wrapping)?;
        let mut crypto = Self { length, wrapping, salt, even: None, odd: None };
        crypto.take(keys);
        Ok(crypto)
    }

    /// Takes new keys of a peer beside those that are known.
    ///
    /// # Errors
    /// As [`Self::open`]; the old keys then stay.
    pub(super) fn update(&mut self, material: &[u8]) -> Result<(), KeyError> {
        let material = Material::parse(material)?;
        if material.length != self.length || material.salt != self.salt {
            return Err(KeyError::Malformed);
        }
        self.take(material.unwrap(&self.wrapping)?);
        Ok(())
    }

    /// The slot that packets are sent with at first.
    pub(super) fn first_slot(&self) -> KeySlot {
        if self.even.is_some() { KeySlot::Even } else { KeySlot::Odd }
    }

    pub(super) fn length(&self) -> KeyLength {
        self.length
    }

    /// Puts a key where it will be used from the next change on; `chance` is its bytes.
    pub(super) fn put(&mut self, slot: KeySlot, chance: &[u8]) {
        let key = chance[..self.length.bytes()].to_vec();
        let cipher = Some((Box::new(Cipher::new(&key)), key));
        match slot {
            KeySlot::Plain => {}
            KeySlot::Even => self.even = cipher,
            KeySlot::Odd => self.odd = cipher,
        }
    }

    /// The message that tells the peer the keys in `slots`, one or both.
    pub(super) fn material(&self, slots: &[KeySlot]) -> Bytes {
        let has = |slot| slots.contains(&slot);
        let even = self.even.as_ref().filter(|_| has(KeySlot::Even));
        let odd = self.odd.as_ref().filter(|_| has(KeySlot::Odd));
        let flags = u8::from(even.is_some()) | u8::from(odd.is_some()) << 1;
        let mut out = Vec::with_capacity(super::handshake::KM_BYTES_MAX);
        out.put_slice(&[0x12, 0x20, 0x29, flags]);
        out.put_u32(0);
        out.put_slice(&[2, 0, 2, 0, 0, 0, 4, (self.length.bytes() / 4) as u8]);
        out.put_slice(&self.salt);
        let keys: Vec<u8> = even.into_iter().chain(odd).flat_map(|(_, key)| key.clone()).collect();
        out.extend(wrap(&self.wrapping, &keys));
        out.into()
    }

    /// Encrypts or decrypts the payload of a packet in place; false when there is no such key.
    pub(super) fn apply(&self, slot: KeySlot, seq: Seq, payload: &mut [u8]) -> bool {
        let cipher = match slot {
            KeySlot::Plain => return true,
            KeySlot::Even => &self.even,
            KeySlot::Odd => &self.odd,
        };
        let Some((cipher, _)) = cipher else { return false };
        // 6.2.2: the counter's upper 112 bits are the salt with the packet's number added in.
        let mut counter = Block::default();
        counter[..14].copy_from_slice(&self.salt[..14]);
        for (byte, number) in counter[10..14].iter_mut().zip(seq.bits().to_be_bytes()) {
            *byte ^= number;
        }
        let mut stream = [Block::default(); BLOCKS_MAX];
        for part in payload.chunks_mut(BLOCKS_MAX * 16) {
            let blocks = &mut stream[..part.len().div_ceil(16)];
            for (index, block) in blocks.iter_mut().enumerate() {
                *block = counter;
                block[14..].copy_from_slice(&(index as u16).to_be_bytes());
            }
            cipher.encrypt(blocks);
            let bytes = blocks.iter().flatten();
            part.iter_mut().zip(bytes).for_each(|(byte, key)| *byte ^= key);
        }
        true
    }

    fn take(&mut self, keys: KeyPair) {
        for (slot, key) in [KeySlot::Even, KeySlot::Odd].into_iter().zip(keys) {
            if let Some(key) = key {
                self.put(slot, &key);
            }
        }
    }
}

/// The even and the odd key, as far as they are there.
type KeyPair = [Option<Vec<u8>>; 2];

/// Key material, taken apart.
struct Material<'a> {
    length: KeyLength,
    salt: [u8; 16],
    /// Whether an even and an odd key are in it.
    slots: [bool; 2],
    wrapped: &'a [u8],
}

impl<'a> Material<'a> {
    fn parse(material: &'a [u8]) -> Result<Self, KeyError> {
        let (head, rest) = material.split_first_chunk::<16>().ok_or(KeyError::Malformed)?;
        let (salt, wrapped) = rest.split_first_chunk::<16>().ok_or(KeyError::Malformed)?;
        if head[0] != 0x12 || head[1..3] != [0x20, 0x29] || head[14] != 4 {
            return Err(KeyError::Malformed);
        }
        if head[8] != 2 || head[9] != 0 {
            return Err(KeyError::Cipher);
        }
        let slots = [head[3] & 1 != 0, head[3] & 2 != 0];
        let count = slots.iter().filter(|there| **there).count();
        let length = KeyLength::from_bytes(usize::from(head[15]) * 4).ok_or(KeyError::Malformed)?;
        if count == 0 || wrapped.len() != 8 + count * length.bytes() {
            return Err(KeyError::Malformed);
        }
        Ok(Self { length, salt: *salt, slots, wrapped })
    }

    fn unwrap(&self, wrapping: &Cipher) -> Result<KeyPair, KeyError> {
        let keys = unwrap_keys(wrapping, self.wrapped).ok_or(KeyError::Passphrase)?;
        let mut keys = keys.chunks(self.length.bytes()).map(<[u8]>::to_vec);
        Ok(self.slots.map(|there| there.then(|| keys.next()).flatten()))
    }
}

fn key_of_keys(passphrase: &str, salt: &[u8; 16], length: KeyLength) -> Cipher {
    let mut key = [0; 32];
    let key = &mut key[..length.bytes()];
    let method = pbkdf2::PBKDF2_HMAC_SHA1;
    pbkdf2::derive(method, ROUNDS, &salt[8..], passphrase.as_bytes(), key);
    Cipher::new(key)
}

/// RFC 3394, 2.2.1.
fn wrap(cipher: &Cipher, keys: &[u8]) -> Vec<u8> {
    let mut out = [&WRAP_CHECK[..], keys].concat();
    let count = keys.len() / 8;
    let mut block = Block::default();
    for step in 1..=6 * count as u64 {
        let at = 8 * ((step as usize - 1) % count + 1);
        block[..8].copy_from_slice(&out[..8]);
        block[8..].copy_from_slice(&out[at..at + 8]);
        cipher.encrypt(std::slice::from_mut(&mut block));
        for (byte, count) in block.iter_mut().zip(step.to_be_bytes()) {
            *byte ^= count;
        }
        out[..8].copy_from_slice(&block[..8]);
        out[at..at + 8].copy_from_slice(&block[8..]);
    }
    out
}

/// RFC 3394, 2.2.2; `None` when the check fails.
fn unwrap_keys(cipher: &Cipher, wrapped: &[u8]) -> Option<Vec<u8>> {
    let mut out = wrapped.to_vec();
    let count = wrapped.len() / 8 - 1;
    let mut block = Block::default();
    for step in (1..=6 * count as u64).rev() {
        let at = 8 * ((step as usize - 1) % count + 1);
        block[..8].copy_from_slice(&out[..8]);
        block[8..].copy_from_slice(&out[at..at + 8]);
        for (byte, count) in block.iter_mut().zip(step.to_be_bytes()) {
            *byte ^= count;
        }
        cipher.decrypt(&mut block);
        out[..8].copy_from_slice(&block[..8]);
        out[at..at + 8].copy_from_slice(&block[8..]);
    }
    (out[..8] == WRAP_CHECK).then(|| out.split_off(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_3394() {
        let check = |key: &str, data: &str, wrapped: &str| {
            let cipher = Cipher::new(&hex::decode(key).unwrap());
            let (data, wrapped) = (hex::decode(data).unwrap(), hex::decode(wrapped).unwrap());
            assert_eq!(wrap(&cipher, &data), wrapped);
            assert_eq!(unwrap_keys(&cipher, &wrapped), Some(data));
            let mut broken = wrapped;
            broken[9] ^= 1;
            assert_eq!(unwrap_keys(&cipher, &broken), None);
        };
        check(
            "000102030405060708090A0B0C0D0E0F",
            "00112233445566778899AABBCCDDEEFF",
            "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5",
        );
        check(
            "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
            "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
            "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
        );
    }

    #[test]
    fn both_sides_of_a_passphrase_agree_and_another_does_not() {
        for length in [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256] {
            let chance = std::array::from_fn(|n| n as u8);
            let mut ours = Crypto::make("a long passphrase", length, &chance);
            let material = ours.material(&[KeySlot::Even]);
            let mut theirs = Crypto::open("a long passphrase", &material).unwrap();
            let plain: Vec<u8> = (0..1316_u32).map(|n| n as u8).collect();
            let mut data = plain.clone();
            assert!(ours.apply(KeySlot::Even, Seq::new(9), &mut data));
            assert_ne!(data, plain);
            assert!(theirs.apply(KeySlot::Even, Seq::new(9), &mut data));
            assert_eq!(data, plain);
            assert!(!theirs.apply(KeySlot::Odd, Seq::new(9), &mut data), "not known yet");
            ours.put(KeySlot::Odd, &[9; 32]);
            theirs.update(&ours.material(&[KeySlot::Even, KeySlot::Odd])).unwrap();
            assert!(ours.apply(KeySlot::Odd, Seq::new(10), &mut data));
            assert!(theirs.apply(KeySlot::Odd, Seq::new(10), &mut data));
            assert_eq!(data, plain);
            let wrong = Crypto::open("another passphrase", &material).err();
            assert_eq!(wrong, Some(KeyError::Passphrase));
        }
    }

    #[test]
    fn material_of_any_wrong_length_is_refused() {
        let good = Crypto::make("a long passphrase", KeyLength::Aes128, &[1; 48]);
        let material = good.material(&[KeySlot::Even]);
        for end in 0..material.len() {
            let error = Crypto::open("a long passphrase", &material[..end]).err();
            assert_eq!(error, Some(KeyError::Malformed), "{end}");
        }
        // Both keys promised, one there; no key; a length that is none.
        for (at, value) in [(3, 3), (3, 0), (15, 5), (15, 255), (14, 200)] {
            let mut broken = material.to_vec();
            broken[at] = value;
            assert_eq!(Crypto::open("a long passphrase", &broken).err(), Some(KeyError::Malformed));
        }
    }
}
