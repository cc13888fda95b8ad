//! Passwords as settings hold them: plain, or as hashes in the forms that MediaMTX's users know.
//!
//! An argon2 check costs memory and time by intention. Few run at once, and what was right a while
//! ago is remembered, so that a player that asks for a segment each second costs one check.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::signing;

/// Prefix of a hash by argon2 (RFC 9106) in PHC form.
const ARGON2: &str = "argon2:";

/// Prefix of a SHA-256 hash in base64.
const SHA256: &str = "sha256:";

/// Argon2 checks at the same time; each takes some 20 MiB and a core.
const CHECKS_MAX: usize = 2;

/// Right passwords that are remembered.
const REMEMBERED_MAX: usize = 1024;

/// How long a right password is remembered.
const REMEMBERED_LIMIT: Duration = Duration::from_secs(600);

/// An argon2 hash as settings take it.
///
/// # Errors
/// When the system gives no random numbers.
pub fn hash(password: &str) -> Result<String, String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| format!("{ARGON2}{hash}")).map_err(|error| error.to_string())
}

/// Why a text of the settings is no password.
///
/// # Errors
/// When it begins as a hash and is none.
pub fn check_form(stored: &str) -> Result<(), String> {
    if let Some(text) = stored.strip_prefix(ARGON2) {
        PasswordHash::new(text).map_err(|error| format!("is no argon2 hash: {error}"))?;
    } else if let Some(text) = stored.strip_prefix(SHA256) {
        let length = STANDARD.decode(text).map(|bytes| bytes.len());
        if length != Ok(32) {
            return Err("is no base64 of a SHA-256 hash".into());
        }
    }
    Ok(())
}

/// Whether a stored password is kept as it is typed.
pub(super) fn is_plain(stored: &str) -> bool {
    !stored.starts_with(ARGON2) && !stored.starts_with(SHA256)
}

/// Checks passwords.
pub struct Passwords {
    room: Semaphore,
    /// By keyed hash of stored and given text, so that nothing in memory tells a password.
    right: Mutex<HashMap<[u8; 32], Instant>>,
    key: [u8; 32],
}

impl Default for Passwords {
    fn default() -> Self {
        let key = rand::random();
        Self { room: Semaphore::new(CHECKS_MAX), right: Mutex::default(), key }
    }
}

impl Passwords {
    /// Whether `given` is the password that the settings hold as `stored`.
    pub async fn matches(&self, stored: &str, given: &str) -> bool {
        if let Some(text) = stored.strip_prefix(SHA256) {
            let hash = Sha256::digest(given.as_bytes());
            return STANDARD.decode(text).is_ok_and(|wanted| same(&wanted, &hash));
        }
        let Some(hash) = stored.strip_prefix(ARGON2) else {
            return same(stored.as_bytes(), given.as_bytes());
        };
        let length = (stored.len() as u64).to_be_bytes();
        let name = signing::code(&self.key, &[&length, stored.as_bytes(), given.as_bytes()]);
        let known = self.right.lock().get(&name).is_some_and(|at| at.elapsed() < REMEMBERED_LIMIT);
        if known {
            return true;
        }
        let Ok(_permit) = self.room.acquire().await else { return false };
        let (hash, given) = (hash.to_owned(), given.to_owned());
        let checked = tokio::task::spawn_blocking(move || {
            let Ok(hash) = PasswordHash::new(&hash) else { return false };
            Argon2::default().verify_password(given.as_bytes(), &hash).is_ok()
        });
        let right = checked.await.unwrap_or(false);
        if right {
            let mut remembered = self.right.lock();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.retain(|_, at| at.elapsed() < REMEMBERED_LIMIT);
            }
            if remembered.len() < REMEMBERED_MAX {
                remembered.insert(name, Instant::now());
            }
        }
        right
    }
}

/// Takes the same time however much is the same.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    bool::from(a.ct_eq(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_and_hashed_passwords_are_told_right_from_wrong() {
        let passwords = Passwords::default();
        let argon2 = hash("secret").unwrap();
        // `printf secret | openssl dgst -sha256 -binary | base64`
        let sha256 = "sha256:K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=";
        for stored in ["secret", &argon2, sha256] {
            check_form(stored).unwrap();
            assert!(passwords.matches(stored, "secret").await, "{stored}");
            assert!(!passwords.matches(stored, "Secret").await, "{stored}");
            assert!(!passwords.matches(stored, stored).await || stored == "secret");
        }
        assert!(check_form("argon2:secret").is_err() && check_form("sha256:c2hvcnQ=").is_err());
    }

    #[tokio::test]
    async fn a_hash_of_another_program_is_known() {
        // `echo -n secret | argon2 somesalt -id -t 3 -m 12 -p 1 -e`, the parameters of MediaMTX.
        let passwords = Passwords::default();
        let made = Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            argon2::Params::new(4096, 3, 1, None).unwrap(),
        );
        let hash = made.hash_password(b"secret").unwrap().to_string();
        assert!(hash.contains("m=4096,t=3,p=1"), "{hash}");
        assert!(passwords.matches(&format!("argon2:{hash}"), "secret").await);
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_and_a_wrong_one_is_not() {
        let passwords = Passwords::default();
        let stored = hash("secret").unwrap();
        passwords.matches(&stored, "secret").await;
        passwords.matches(&stored, "wrong").await;
        assert_eq!(passwords.right.lock().len(), 1);
        passwords.room.close();
        assert!(passwords.matches(&stored, "secret").await, "without another check");
        assert!(!passwords.matches(&stored, "wrong").await);
    }
}
