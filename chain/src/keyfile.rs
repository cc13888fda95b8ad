//! The key of a node on disk: made at first start, never logged, readable by its owner only.
//!
//! The file holds 64 hexadecimal digits and a newline, mode 0600, in a folder of mode 0700. It is
//! written aside, synced and renamed, so that a crash leaves either no key or a whole one. A file
//! that others may read is refused: a key that leaked is worse than a node that does not start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256};
use rand::TryRngCore;

use crate::sign::{SIGNATURE_BYTES, SecretKey, Signer};

/// Largest key file that is read, in bytes: 64 digits with some white space around.
const FILE_BYTES_MAX: u64 = 128;

/// What is wrong with a key file. Texts never hold a part of the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system said no.
    #[error("key file {path}: {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// Somebody else may read the key.
    #[error(
        "key file {path} has mode {mode:04o}: only its owner may read it, chmod 600 and consider the key known"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not 64 hexadecimal digits of a valid key.
    #[error("key file {path} does not hold a key of 64 hexadecimal digits")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// A node's key with the file that it lives in.
pub struct KeyFile {
    path: PathBuf,
    key: SecretKey,
}

impl KeyFile {
    /// Opens the key at `path`; makes one from the system's randomness when there is none.
    ///
    /// # Errors
    /// A folder or file that cannot be made or read, a file that others may read, a file that
    /// holds no key.
    pub fn open_or_create(path: &Path) -> Result<Self, KeyError> {
        if !path.try_exists().map_err(|e| failed(path, "look", e))? {
            create(path)?;
        }
        Self::open(path)
    }

    /// Opens an existing key.
    ///
    /// # Errors
    /// As [`KeyFile::open_or_create`], and a missing file.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let file = File::open(path).map_err(|e| failed(path, "open", e))?;
        let meta = file.metadata().map_err(|e| failed(path, "look", e))?;
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| failed(path, "read", e))?;
        let mut bytes = [0u8; 32];
        let digits = text.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        hex::decode_to_slice(digits, &mut bytes)
            .ok()
            .and_then(|()| SecretKey::from_bytes(&bytes))
            .map(|key| Self { path: path.to_owned(), key })
            .ok_or_else(|| KeyError::Malformed { path: path.to_owned() })
    }

    /// Where the key lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.path)
            .field("address", &self.key.address())
            .finish_non_exhaustive()
    }
}

impl Signer for KeyFile {
    fn address(&self) -> Address {
        self.key.address()
    }

    fn sign_hash(&self, digest: B256) -> [u8; SIGNATURE_BYTES] {
        self.key.sign_hash(digest)
    }
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), doing, source }
}

fn create(path: &Path) -> Result<(), KeyError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| failed(path, "make the folder", e))?;
    }
    let mut secret = [0u8; 32];
    while SecretKey::from_bytes(&secret).is_none() {
        rand::rngs::OsRng
            .try_fill_bytes(&mut secret)
            .map_err(|e| failed(path, "ask for randomness", io::Error::other(e)))?;
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{:016x}.new", rand::random::<u64>()));
    let aside = PathBuf::from(aside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| {
            file.write_all(hex::encode(secret).as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        // A link fails when another process was first: its key wins, ours is thrown away.
        .and_then(|()| match fs::hard_link(&aside, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })
        .and_then(|()| File::open(folder)?.sync_all());
    let removed = fs::remove_file(&aside);
    written.map_err(|e| failed(path, "write", e))?;
    removed.map_err(|e| failed(path, "tidy up", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/gateway.key");
        let first = KeyFile::open_or_create(&path).unwrap();
        let again = KeyFile::open_or_create(&path).unwrap();
        assert_eq!(first.address(), again.address());
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(!format!("{first:?}").contains(fs::read_to_string(&path).unwrap().trim()));
    }

    #[test]
    fn many_that_start_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let all: Vec<_> = std::thread::scope(|s| {
            let runs: Vec<_> =
                (0..8).map(|_| s.spawn(|| KeyFile::open_or_create(&path).unwrap())).collect();
            runs.into_iter().map(|r| r.join().unwrap().address()).collect()
        });
        assert!(all.windows(2).all(|w| w[0] == w[1]));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        KeyFile::open_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyFile::open(&path), Err(KeyError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        KeyFile::open_or_create(&path).unwrap();
        for text in ["secretword", "", &"0".repeat(64), &"f".repeat(64)] {
            fs::write(&path, text).unwrap();
            let error = KeyFile::open(&path).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }));
            assert!(!error.to_string().contains("secretword"));
        }
    }
}
