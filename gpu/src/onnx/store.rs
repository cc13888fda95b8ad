//! The folder of model files that graphs may name.
//!
//! A name is a plain file name ending in `.onnx`: no folder, nothing hidden, no link out of the
//! folder. A file `SHA256SUMS` beside the models, as `sha256sum *.onnx` prints it, is kept to: what
//! it lists must match. Who may write into the folder decides what runs in this process.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::Error;
use super::session::MODEL_BYTES_MAX;

/// Most models that one folder may offer; further ones are left out.
pub const MODELS_MAX: usize = 1024;

/// The list of what the models' hashes must be.
const SUMS: &str = "SHA256SUMS";

/// Most bytes of that list.
const SUMS_BYTES_MAX: u64 = 1 << 20;

/// A folder of models.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store in `dir`, which may be missing: it offers nothing then.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The models' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        let offered = |name: &String| self.path(name).is_ok();
        let mut names: Vec<String> = entries.filter_map(name).filter(offered).collect();
        names.sort();
        names.truncate(MODELS_MAX);
        names
    }

    /// The file of a model.
    ///
    /// # Errors
    /// [`Error::Name`] for what is not the name of a file in the folder.
    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let refuse = |reason| Error::Name { name: name.chars().take(80).collect(), reason };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+ ()".contains(c);
        if name.starts_with('.') || name.len() > 255 || !name.chars().all(plain) {
            return Err(refuse("letters, digits and ._-+() only, and no folder"));
        }
        if !name.ends_with(".onnx") {
            return Err(refuse("it must end in .onnx"));
        }
        let path = self.dir.join(name);
        let kind = fs::symlink_metadata(&path).map_err(|_| refuse("there is no such file"))?;
        if kind.is_symlink() {
            let inside = |path: &Path| {
                let (file, dir) = (path.canonicalize().ok()?, self.dir.canonicalize().ok()?);
                (file.is_file() && file.starts_with(dir)).then_some(())
            };
            inside(&path).ok_or_else(|| refuse("it links out of the folder"))?;
        } else if !kind.is_file() {
            return Err(refuse("it is not a file"));
        }
        Ok(path)
    }

    /// The bytes of a model.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Read`], and [`Error::Refused`] above [`MODEL_BYTES_MAX`] or for
    /// another hash than the folder's list has.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(name)?;
        let failed = |error: std::io::Error| Error::Read {
            name: name.to_owned(),
            reason: error.to_string(),
        };
        let refused = |reason: String| Error::Refused { name: name.to_owned(), reason };
        let bytes = read_within(&path, MODEL_BYTES_MAX).map_err(failed)?;
        let bytes = bytes
            .ok_or_else(|| refused(format!("it is larger than {} MiB", MODEL_BYTES_MAX >> 20)))?;
        if let Some(listed) = self.listed(name).map_err(failed)? {
            let hash = Sha256::digest(&bytes);
            let found: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            if !listed.eq_ignore_ascii_case(&found) {
                return Err(refused(format!("its SHA-256 is {found}, but {SUMS} has {listed}")));
            }
        }
        Ok(bytes)
    }

    /// The hash that the folder's list has for a model.
    fn listed(&self, name: &str) -> std::io::Result<Option<String>> {
        let path = self.dir.join(SUMS);
        if !path.exists() {
            return Ok(None);
        }
        let too_large = || std::io::Error::other(format!("{SUMS} is too large"));
        let list = read_within(&path, SUMS_BYTES_MAX)?.ok_or_else(too_large)?;
        let list = String::from_utf8_lossy(&list);
        let entry = |line: &str| {
            let (hash, file) = line.split_once(char::is_whitespace)?;
            // sha256sum marks files read as binary with a star.
            (file.trim().trim_start_matches('*') == name).then(|| hash.to_owned())
        };
        Ok(list.lines().find_map(entry))
    }
}

/// A file's bytes, or `None` when it has more than `most`, even if it grows meanwhile.
fn read_within(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > most {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let store = Store::new(dir.path());
        (dir, store)
    }

    #[test]
    fn only_plain_names_of_files_in_the_folder_are_models() {
        let (dir, store) = store(&[("b.onnx", b"x"), ("a b.onnx", b"y"), ("notes.txt", b"")]);
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.onnx"), "z").unwrap();
        fs::create_dir(dir.path().join("folder.onnx")).unwrap();
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        };
        link(&outside.path().join("secret.onnx"), "out.onnx");
        link(&dir.path().join("b.onnx"), "in.onnx");
        assert_eq!(store.names(), ["a b.onnx", "b.onnx", "in.onnx"]);
        let climbing = format!("../{}/secret.onnx", outside.path().display());
        for name in [
            climbing.as_str(),
            "/etc/passwd",
            "../b.onnx",
            "./b.onnx",
            ".onnx",
            "b.onnx\0",
            "",
            "none.onnx",
            "out.onnx",
            "folder.onnx",
            "notes.txt",
        ] {
            assert!(matches!(store.read(name), Err(Error::Name { .. })), "{name}");
        }
        assert_eq!(store.read("in.onnx").unwrap(), b"x");
    }

    #[test]
    fn a_model_that_is_too_large_is_not_read() {
        let (dir, store) = store(&[("big.onnx", b"")]);
        let file = File::options().write(true).open(dir.path().join("big.onnx")).unwrap();
        file.set_len(MODEL_BYTES_MAX + 1).unwrap();
        let error = store.read("big.onnx").unwrap_err().to_string();
        assert!(error.contains("larger than 1024 MiB"), "{error}");
    }

    #[test]
    fn a_model_must_have_the_hash_that_the_folder_lists() {
        let hash = "2D711642B726B04401627CA9FBAC32F5C8530FB1903CC4DB02258717921A4881";
        let list = format!("{hash}  x.onnx\n{hash} *other.onnx\n");
        let (_dir, store) = store(&[
            ("x.onnx", b"x"),
            ("other.onnx", b"y"),
            ("unlisted.onnx", b"z"),
            (SUMS, list.as_bytes()),
        ]);
        assert_eq!(store.read("x.onnx").unwrap(), b"x");
        assert_eq!(store.read("unlisted.onnx").unwrap(), b"z");
        let error = store.read("other.onnx").unwrap_err().to_string();
        assert!(error.contains("SHA-256"), "{error}");
    }
}
