//! Short opaque tokens of this node, for places where a signed one does not fit: SRT's stream id has
//! 512 bytes, an encoder's key field often fewer.
//!
//! A token is `ms_` and 22 characters (128 random bits). Kept are only its hash, what it is for and its
//! end, in a file of the data directory, so that tokens survive a restart and can be taken back.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Asked;
use super::users::Rights;
use crate::config::Permission;
use crate::{identity, signing};

/// How every token begins.
const PREFIX: &str = "ms_";

/// Tokens at the same time.
const TOKENS_MAX: usize = 10_000;

/// Permissions of one token.
const PERMISSIONS_MAX: usize = 100;

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The node holds as many as it may.
    #[error("this node holds {TOKENS_MAX} tokens, its limit")]
    Full,
    /// What it is for is not right.
    #[error("{0}")]
    Permissions(String),
    /// The file cannot be written.
    #[error("{0:#}")]
    File(anyhow::Error),
}

/// The tokens of this node.
pub struct Tokens {
    path: Option<PathBuf>,
    by_hash: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    kept: Kept,
    rights: Rights,
}

/// What is kept of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// SHA-256 of the token in hexadecimal digits; its name when it is taken back.
    pub id: String,
    /// Who it is for, as said when it was made.
    pub note: String,
    /// What it is good for.
    pub permissions: Vec<Permission>,
    /// When it ends, in seconds of Unix time.
    pub end: u64,
}

/// What a text is.
pub(super) enum Found {
    /// No token of ours by its form.
    None,
    /// Good for this.
    Right,
    /// Good for other things.
    MayNot,
    /// Unknown, taken back or run out.
    Wrong,
}

impl Tokens {
    /// The tokens kept in this file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: PathBuf) -> anyhow::Result<Self> {
        let kept: Vec<Kept> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => anyhow::bail!("{}: {error}", path.display()),
        };
        let entries = kept.into_iter().map(|kept| {
            let rights = Rights::new(&kept.permissions).map_err(anyhow::Error::msg)?;
            Ok((kept.id.clone(), Entry { kept, rights }))
        });
        let by_hash = entries.collect::<anyhow::Result<_>>()?;
        Ok(Self { path: Some(path), by_hash: Mutex::new(by_hash) })
    }

    /// Tokens that are kept in memory only.
    pub fn in_memory() -> Self {
        Self { path: None, by_hash: Mutex::default() }
    }

    /// Makes a token and tells it, this once.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn make(
        &self,
        note: &str,
        permissions: Vec<Permission>,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(String, Kept), TokenError> {
        if permissions.is_empty() || permissions.len() > PERMISSIONS_MAX {
            let text = format!("a token has 1 to {PERMISSIONS_MAX} permissions");
            return Err(TokenError::Permissions(text));
        }
        let rights = Rights::new(&permissions).map_err(TokenError::Permissions)?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()));
        let end = signing::seconds(now).saturating_add(lifetime.as_secs());
        let kept = Kept { id: id_of(&token), note: note.to_owned(), permissions, end };
        let mut tokens = self.by_hash.lock();
        tokens.retain(|_, entry| entry.kept.end > signing::seconds(now));
        if tokens.len() >= TOKENS_MAX {
            return Err(TokenError::Full);
        }
        tokens.insert(kept.id.clone(), Entry { kept: kept.clone(), rights });
        if let Err(error) = self.write(&tokens) {
            tokens.remove(&kept.id);
            return Err(TokenError::File(error));
        }
        Ok((token, kept))
    }

    /// Takes a token back; false when there is none of that id.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take_back(&self, id: &str) -> anyhow::Result<bool> {
        let mut tokens = self.by_hash.lock();
        if tokens.remove(id).is_none() {
            return Ok(false);
        }
        self.write(&tokens)?;
        Ok(true)
    }

    /// All tokens, those that end first before the others.
    pub fn list(&self) -> Vec<Kept> {
        let mut list: Vec<Kept> =
            self.by_hash.lock().values().map(|entry| entry.kept.clone()).collect();
        list.sort_by(|a, b| a.end.cmp(&b.end).then_with(|| a.id.cmp(&b.id)));
        list
    }

    pub(super) fn check(&self, text: &str, asked: &Asked<'_>, now: SystemTime) -> Found {
        if !text.starts_with(PREFIX) || text.len() != PREFIX.len() + 22 {
            return Found::None;
        }
        let tokens = self.by_hash.lock();
        let entry = tokens.get(&id_of(text));
        match entry.filter(|entry| entry.kept.end > signing::seconds(now)) {
            None => Found::Wrong,
            Some(entry) if entry.rights.allow(asked.right, asked.stream) => Found::Right,
            Some(_) => Found::MayNot,
        }
    }

    fn write(&self, tokens: &HashMap<String, Entry>) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let kept: Vec<&Kept> = tokens.values().map(|entry| &entry.kept).collect();
        identity::write_secret(path, &serde_json::to_vec(&kept)?)
    }
}

fn id_of(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Right;

    #[test]
    fn a_token_is_good_for_what_it_says_until_its_end_or_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        let tokens = Tokens::open(path.clone()).unwrap();
        let now = SystemTime::now();
        let permissions = vec![Permission { action: Right::Publish, path: "~^cam".into() }];
        let made = tokens.make("van 3", permissions, Duration::from_secs(60), now);
        let (token, kept) = made.unwrap();
        assert_eq!(token.len(), 25);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&token), "only its hash is kept");
        let again = Tokens::open(path).unwrap();
        let check = |right, stream, now| {
            let ip = [127, 0, 0, 1].into();
            let asked = Asked { right, stream, ip, user: "", password: "", token: "", query: "" };
            match again.check(&token, &asked, now) {
                Found::None => "none",
                Found::Right => "right",
                Found::MayNot => "may not",
                Found::Wrong => "wrong",
            }
        };
        assert_eq!(check(Right::Publish, "cam1", now), "right");
        assert_eq!(check(Right::Publish, "studio", now), "may not");
        assert_eq!(check(Right::Read, "cam1", now), "may not");
        assert_eq!(check(Right::Publish, "cam1", now + Duration::from_secs(60)), "wrong");
        assert_eq!(again.list().len(), 1);
        assert!(again.take_back(&kept.id).unwrap());
        assert!(!again.take_back(&kept.id).unwrap());
        assert_eq!(check(Right::Publish, "cam1", now), "wrong");
    }
}
