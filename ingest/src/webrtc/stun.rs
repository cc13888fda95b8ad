//! The ICE-lite responder's half of STUN (RFC 8445, RFC 8489): which session a check is for,
//! whether its writer knows our password, and the answer.
//!
//! Only binding requests are read. Nothing is remembered of a check whose MESSAGE-INTEGRITY does
//! not hold: that would let anybody move a session to an address of his choice.

use std::net::SocketAddr;

use rtc_srtp::crypto::RTCCrypto;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc_stun::error_code::ErrorCodeAttribute;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, is_stun_message,
};
use rtc_stun::xoraddr::XorMappedAddress;

/// The longest message that is read in bytes; checks have about 100.
const MESSAGE_BYTES_MAX: usize = 1024;

/// A connectivity check that is well formed but whose writer is not yet known.
pub(crate) struct Check {
    message: Message,
    colon: usize,
    username: Vec<u8>,
}

/// A check whose writer knows our password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The controlling side chose this pair of addresses.
    pub(crate) nominated: bool,
    /// The peer believes that *we* control, which a lite agent never does (RFC 8445 7.3.1.1).
    pub(crate) role_conflict: bool,
}

impl Check {
    /// Reads a binding request, or `None` for anything else.
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > MESSAGE_BYTES_MAX || !is_stun_message(datagram) {
            return None;
        }
        let mut message = Message::new();
        message.unmarshal_binary(datagram).ok()?;
        // The two bits that are zero in each STUN message (RFC 8489 5) are not looked at there.
        if datagram[0] & 0xc0 != 0 {
            return None;
        }
        // Bytes after the message would shift the checksum's place; no agent sends them.
        if message.typ != BINDING_REQUEST || datagram.len() != 20 + message.length as usize {
            return None;
        }
        let username = message.get(ATTR_USERNAME).ok()?;
        let colon = username.iter().position(|&byte| byte == b':')?;
        Some(Self { message, colon, username })
    }

    /// Our user name fragment, as the peer wrote it.
    pub(crate) fn ours(&self) -> &[u8] {
        &self.username[..self.colon]
    }

    /// The peer's user name fragment.
    pub(crate) fn theirs(&self) -> &[u8] {
        &self.username[self.colon + 1..]
    }

    /// Verifies that the writer knows `password`.
    pub(crate) fn verify(&mut self, password: &str, crypto: &dyn RTCCrypto) -> Option<Verified> {
        // `MessageIntegrity::check` takes a missing attribute for an error, and so do we.
        if !self.message.contains(ATTR_MESSAGE_INTEGRITY) {
            return None;
        }
        MessageIntegrity::check(&mut self.message, password.as_bytes(), crypto).ok()?;
        Some(Verified {
            nominated: self.message.contains(ATTR_USE_CANDIDATE),
            role_conflict: self.message.contains(ATTR_ICE_CONTROLLED),
        })
    }

    /// The answer to a verified check that came from `source`; `None` only if hashing fails.
    pub(crate) fn success(
        &self,
        source: SocketAddr,
        password: &str,
        crypto: &dyn RTCCrypto,
    ) -> Option<Vec<u8>> {
        let address = XorMappedAddress { ip: source.ip().to_canonical(), port: source.port() };
        self.answer(Box::new(BINDING_SUCCESS), Box::new(address), password, crypto)
    }

    /// The answer to a check with a role conflict: the peer takes the controlling role and repeats.
    pub(crate) fn conflict(&self, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
        let code = ErrorCodeAttribute {
            code: rtc_stun::error_code::CODE_ROLE_CONFLICT,
            reason: b"Role Conflict".to_vec(),
        };
        self.answer(Box::new(BINDING_ERROR), Box::new(code), password, crypto)
    }

    fn answer<'a>(
        &self,
        kind: Box<dyn Setter + 'a>,
        body: Box<dyn Setter + 'a>,
        password: &str,
        crypto: &'a dyn RTCCrypto,
    ) -> Option<Vec<u8>> {
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
        let mut answer = Message::new();
        let transaction = Box::new(self.message.transaction_id);
        answer
            .build(&[kind, transaction, body, Box::new(integrity), Box::new(FINGERPRINT)])
            .ok()?;
        Some(answer.raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_srtp::crypto::default_provider;
    use rtc_stun::message::Getter;
    use rtc_stun::message::TransactionId;
    use rtc_stun::textattrs::TextAttribute;

    fn request(username: &str, password: &str) -> Vec<u8> {
        let provider = default_provider().unwrap();
        let mut message = Message::new();
        message
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId([7; 12])),
                Box::new(TextAttribute::new(ATTR_USERNAME, username.into())),
                Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                    password.into(),
                    provider.crypto(),
                )),
                Box::new(FINGERPRINT),
            ])
            .unwrap();
        message.raw
    }

    #[test]
    fn only_a_writer_who_knows_the_password_is_answered() {
        let provider = default_provider().unwrap();
        let mut check = Check::parse(&request("ours:theirs", "secret")).unwrap();
        assert_eq!((check.ours(), check.theirs()), (&b"ours"[..], &b"theirs"[..]));
        assert_eq!(check.verify("guess", provider.crypto()), None);
        let verified = check.verify("secret", provider.crypto()).unwrap();
        assert_eq!(verified, Verified { nominated: false, role_conflict: false });

        let from: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let raw = check.success(from, "secret", provider.crypto()).unwrap();
        let mut answer = Message::new();
        answer.unmarshal_binary(&raw).unwrap();
        let mut address = XorMappedAddress::default();
        address.get_from(&answer).unwrap();
        assert_eq!((address.ip, address.port), (from.ip(), 4711));
        assert!(MessageIntegrity::check(&mut answer, b"secret", provider.crypto()).is_ok());
    }

    #[test]
    fn a_check_without_integrity_or_with_one_bit_changed_is_not_verified() {
        let provider = default_provider().unwrap();
        let whole = request("ours:theirs", "secret");
        for index in 0..whole.len() {
            let mut bent = whole.clone();
            bent[index] ^= 1;
            if let Some(mut check) = Check::parse(&bent) {
                let protected = whole.len() - 8; // the fingerprint after it is not covered
                let known = check.verify("secret", provider.crypto()).is_some();
                assert!(!known || index >= protected, "bit of byte {index}");
            }
        }
        assert!(Check::parse(&whole[..whole.len() - 1]).is_none());
        for bit in [0x40, 0x80] {
            let mut bent = whole.clone();
            bent[0] |= bit;
            assert!(Check::parse(&bent).is_none(), "no STUN message begins with {bit:#x}");
        }
        assert!(Check::parse(b"").is_none());
    }
}
