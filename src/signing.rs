//! Signatures of what the node posts, so that the receiver knows who it is from and when.
//!
//! The header [`HEADER`] holds `t=SECONDS,v1=HEX`: the Unix time, and HMAC-SHA256 (RFC 2104) of that
//! time, a dot and the body. A receiver refuses old times, so that nothing can be sent again.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The header of a signed request.
pub const HEADER: &str = "X-Millstream-Signature";

/// The header's value for a body that is sent at `seconds` of Unix time.
pub fn sign(secret: &str, seconds: u64, body: &[u8]) -> String {
    let code = code(secret.as_bytes(), &[seconds.to_string().as_bytes(), b".", body]);
    format!("t={seconds},v1={}", hex::encode(code))
}

/// Unix time in whole seconds.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// HMAC-SHA256 of the parts put together.
pub fn code(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_of_the_rfc() {
        // RFC 4231, test case 2.
        let code = code(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(code), wanted);
    }

    #[test]
    fn time_and_body_are_signed() {
        let first = sign("secret", 1_700_000_000, b"{}");
        assert!(first.starts_with("t=1700000000,v1="));
        for other in [sign("secret", 1_700_000_001, b"{}"), sign("secret", 1_700_000_000, b"[]")] {
            assert_ne!(first.split(',').nth(1), other.split(',').nth(1));
        }
    }
}
