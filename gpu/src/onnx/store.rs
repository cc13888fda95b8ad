//! The folder of model files that graphs may name.
//!
//! A name is a plain file name ending in `.onnx`: no folder, nothing hidden, no link out of the
//! folder. Who may write into the folder decides what runs in this process.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::session::MODEL_BYTES_MAX;

/// Most models that one folder may offer; further ones are left out.
pub const MODELS_MAX: usize = 1024;

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
    /// [`Error::Name`], [`Error::Read`], and [`Error::Refused`] above [`MODEL_BYTES_MAX`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(name)?;
        let failed = |error: std::io::Error| Error::Read {
            name: name.to_owned(),
            reason: error.to_string(),
        };
        let file = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        // One byte more than allowed, so that a file that grows meanwhile is seen too.
        file.take(MODEL_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MODEL_BYTES_MAX {
            let reason = format!("it is larger than {} MiB", MODEL_BYTES_MAX >> 20);
            return Err(Error::Refused { name: name.to_owned(), reason });
        }
        Ok(bytes)
    }
}
