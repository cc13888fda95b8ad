//! Both halves of the RTMP handshake: the server's, plain (Adobe RTMP 1.0, 5.2) and with digests,
//! which clients that follow Flash Player 9 and later expect to be answered in kind; and the
//! client's, which is plain and which every server understands.
//!
//! A client's digest is looked for in both places that are in use; where none fits, the plain
//! answer is given. RTMPE (version 6) is refused: it protects nothing.

use bytes::{Buf, BufMut, BytesMut};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use ring::hmac;

/// Bytes of C1, C2, S1 and S2 each.
pub(crate) const BLOCK: usize = 1536;

const DIGEST: usize = 32;

/// Signs what the client sends; public since 2009.
const PLAYER_KEY: &[u8] = b"Genuine Adobe Flash Player 001";

/// Signs what the server sends: the first 36 bytes in S1, all of them in S2.
const SERVER_KEY: &[u8; 68] = b"Genuine Adobe Flash Media Server 001\
\xF0\xEE\xC2\x4A\x80\x68\xBE\xE8\x2E\x00\xD0\xD1\x02\x9E\x7E\x57\
\x6E\xEC\x5D\x2D\x29\x80\x6F\xAB\x93\xB8\xE6\x36\xCF\xEB\x31\xAE";

/// The version in S1 that tells clients to look for a digest.
const SERVER_VERSION: [u8; 4] = [5, 0, 3, 1];

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first byte is not RTMP's version.
    #[error("handshake: the first byte is {0:#04x}, not version 3")]
    Version(u8),
    /// The peer wants RTMPE.
    #[error("handshake: encrypted RTMP (version 6) is not served")]
    Encrypted,
}

/// Where a digest lies in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Offset in bytes 8 to 11, digest in the first half.
    First,
    /// Offset in bytes 772 to 775, digest in the second half.
    Second,
}

impl Scheme {
    /// Where the digest begins in `block`.
    fn digest_at(self, block: &[u8; BLOCK]) -> usize {
        let pointer = match self {
            Self::First => 8,
            Self::Second => 772,
        };
        let sum: usize = block[pointer..pointer + 4].iter().map(|byte| usize::from(*byte)).sum();
        pointer + 4 + sum % 728
    }

    /// The digest of `block` under `key`, over everything but the digest's own place.
    fn digest(self, key: &[u8], block: &[u8; BLOCK]) -> [u8; DIGEST] {
        let at = self.digest_at(block);
        sign(key, &[&block[..at], &block[at + DIGEST..]])
    }

    fn stored(self, block: &[u8; BLOCK]) -> &[u8] {
        let at = self.digest_at(block);
        &block[at..at + DIGEST]
    }

    /// Puts the digest of `block` under `key` in its place.
    pub(crate) fn imprint(self, key: &[u8], block: &mut [u8; BLOCK]) {
        let digest = self.digest(key, block);
        let at = self.digest_at(block);
        block[at..at + DIGEST].copy_from_slice(&digest);
    }
}

fn sign(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; DIGEST];
    digest.copy_from_slice(context.sign().as_ref());
    digest
}

/// The server's half, fed with the client's bytes as they come.
pub(crate) struct Handshake {
    chance: StdRng,
    answered: bool,
}

impl Handshake {
    /// A handshake whose random bytes follow from `seed`.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { chance: StdRng::from_seed(seed), answered: false }
    }

    /// Takes whole parts of the handshake off `input` and appends the answer to `output`. True
    /// when it is complete; what is then left of `input` is the chunk stream.
    ///
    /// # Errors
    /// [`HandshakeError`] when the peer speaks something else.
    pub(crate) fn handle(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<bool, HandshakeError> {
        if !self.answered {
            match input.first() {
                None => return Ok(false),
                Some(3) => {}
                Some(6) => return Err(HandshakeError::Encrypted),
                Some(other) => return Err(HandshakeError::Version(*other)),
            }
            let Some(block) = input.get(1..).and_then(|rest| rest.first_chunk::<BLOCK>()) else {
                return Ok(false);
            };
            self.answer(block, output);
            input.advance(1 + BLOCK);
            self.answered = true;
        }
        if input.len() < BLOCK {
            return Ok(false);
        }
        // C2 echoes S1. Clients differ in how exactly, and nothing depends on it.
        input.advance(BLOCK);
        Ok(true)
    }

    fn answer(&mut self, c1: &[u8; BLOCK], output: &mut BytesMut) {
        let mut s1 = [0; BLOCK];
        self.chance.fill_bytes(&mut s1[8..]);
        output.put_u8(3);
        match scheme_of(c1) {
            Some(scheme) => {
                s1[4..8].copy_from_slice(&SERVER_VERSION);
                scheme.imprint(&SERVER_KEY[..36], &mut s1);
                output.put_slice(&s1);
                let mut s2 = [0; BLOCK];
                self.chance.fill_bytes(&mut s2[..BLOCK - DIGEST]);
                let key = sign(SERVER_KEY, &[scheme.stored(c1)]);
                let signature = sign(&key, &[&s2[..BLOCK - DIGEST]]);
                s2[BLOCK - DIGEST..].copy_from_slice(&signature);
                output.put_slice(&s2);
            }
            None => {
                output.put_slice(&s1);
                output.put_slice(c1);
            }
        }
    }
}

/// The client's half.
pub(crate) struct ClientHandshake {
    greeted: bool,
}

impl ClientHandshake {
    /// Begins it: appends C0 and C1 to `output`. The random bytes follow from `seed`.
    pub(crate) fn new(seed: [u8; 32], output: &mut BytesMut) -> Self {
        let mut c1 = [0; BLOCK];
        // Time and version of zero say that there is no digest.
        StdRng::from_seed(seed).fill_bytes(&mut c1[8..]);
        output.put_u8(3);
        output.put_slice(&c1);
        Self { greeted: false }
    }

    /// Takes whole parts of the server's half off `input` and appends the answer to `output`. True
    /// when it is complete; what is then left of `input` is the chunk stream.
    ///
    /// # Errors
    /// [`HandshakeError`] when the peer speaks something else.
    pub(crate) fn handle(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<bool, HandshakeError> {
        if !self.greeted {
            match input.first() {
                None => return Ok(false),
                Some(3) => {}
                Some(6) => return Err(HandshakeError::Encrypted),
                Some(other) => return Err(HandshakeError::Version(*other)),
            }
            if input.len() < 1 + BLOCK {
                return Ok(false);
            }
            // C2 echoes S1.
            output.put_slice(&input[1..=BLOCK]);
            input.advance(1 + BLOCK);
            self.greeted = true;
        }
        if input.len() < BLOCK {
            return Ok(false);
        }
        input.advance(BLOCK);
        Ok(true)
    }
}

/// The place of the client's digest, or `None` for a plain handshake.
fn scheme_of(c1: &[u8; BLOCK]) -> Option<Scheme> {
    // The plain form has zero where the others have their version.
    if c1[4..8] == [0; 4] {
        return None;
    }
    [Scheme::First, Scheme::Second]
        .into_iter()
        .find(|scheme| scheme.digest(PLAYER_KEY, c1) == scheme.stored(c1))
}

/// The client's first bytes, C0 and C1, for tests and seeds.
#[cfg(test)]
pub(crate) fn client_hello(scheme: Option<Scheme>, seed: u8) -> Vec<u8> {
    let mut c1 = [0; BLOCK];
    StdRng::from_seed([seed; 32]).fill_bytes(&mut c1[8..]);
    if let Some(scheme) = scheme {
        c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
        scheme.imprint(PLAYER_KEY, &mut c1);
    }
    [&[3], c1.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shake(hello: &[u8]) -> BytesMut {
        let mut handshake = Handshake::new([7; 32]);
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        for byte in hello {
            input.put_u8(*byte);
            assert_eq!(handshake.handle(&mut input, &mut output), Ok(false));
        }
        assert_eq!(output.len(), 1 + 2 * BLOCK, "the answer does not wait for C2");
        input.put_bytes(0, BLOCK);
        input.put_slice(b"rest");
        assert_eq!(handshake.handle(&mut input, &mut output), Ok(true));
        assert_eq!(&input[..], b"rest");
        output
    }

    #[test]
    fn a_plain_client_gets_its_bytes_back() {
        let hello = client_hello(None, 1);
        let answer = shake(&hello);
        assert_eq!(answer[0], 3);
        assert_eq!(answer[5..9], [0; 4]);
        assert_eq!(answer[1 + BLOCK..], hello[1..]);
    }

    #[test]
    fn our_client_and_our_server_understand_each_other_byte_by_byte() {
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        let mut client = ClientHandshake::new([9; 32], &mut up);
        let mut server = Handshake::new([7; 32]);
        assert_eq!(server.handle(&mut up, &mut down), Ok(false));
        let mut given = BytesMut::new();
        let mut done = false;
        while !down.is_empty() {
            given.put_u8(down.get_u8());
            done = client.handle(&mut given, &mut up).unwrap();
        }
        assert!(done && given.is_empty() && up.len() == BLOCK);
        assert_eq!(server.handle(&mut up, &mut down), Ok(true));
        let mut junk = BytesMut::from(&b"HTTP/1.1"[..]);
        let client = &mut ClientHandshake::new([9; 32], &mut up);
        assert_eq!(client.handle(&mut junk, &mut up), Err(HandshakeError::Version(b'H')));
    }

    #[test]
    fn both_digest_forms_are_answered_in_kind() {
        for scheme in [Scheme::First, Scheme::Second] {
            for seed in 0..20 {
                let hello = client_hello(Some(scheme), seed);
                let answer = shake(&hello);
                let s1: &[u8; BLOCK] = answer[1..].first_chunk().unwrap();
                let s2: &[u8; BLOCK] = answer[1 + BLOCK..].first_chunk().unwrap();
                assert_eq!(scheme.digest(&SERVER_KEY[..36], s1), scheme.stored(s1));
                let c1: &[u8; BLOCK] = hello[1..].first_chunk().unwrap();
                let key = sign(SERVER_KEY, &[scheme.stored(c1)]);
                assert_eq!(s2[BLOCK - 32..], sign(&key, &[&s2[..BLOCK - 32]]));
            }
        }
    }

    #[test]
    fn a_digest_that_does_not_fit_gets_the_plain_answer() {
        let mut hello = client_hello(Some(Scheme::First), 3);
        hello[1500] ^= 1;
        let answer = shake(&hello);
        assert_eq!(answer[1 + BLOCK..], hello[1..]);
    }

    #[test]
    fn other_protocols_are_refused_at_the_first_byte() {
        let first = |byte: u8| {
            let mut input = BytesMut::from(&[byte][..]);
            Handshake::new([0; 32]).handle(&mut input, &mut BytesMut::new())
        };
        assert_eq!(first(b'G'), Err(HandshakeError::Version(b'G')));
        assert_eq!(first(6), Err(HandshakeError::Encrypted));
        assert_eq!(first(3), Ok(false));
    }
}
