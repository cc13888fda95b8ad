//! Segments whose media are in a store.
//!
//! Of each there is a ghost in a folder of its own: a file of the same length and under the same
//! name with everything but the media. Pictures and sound are holes in it, which take no room, so a
//! ghost is some thousandths of its segment. What is asked about a segment (how long it is, where
//! which sample lies) is read from its ghost as from the segment itself; the store is asked for
//! media only. Ghosts survive whatever ends the process: one is whole before it has its name.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pipeline::fmp4::{self, Index};

use super::shelf::{self, Found};
use super::{Recordings, ShelfError};

/// Bytes of a fragment's media that a ghost has: the head of its box, in its longer form.
const MEDIA_HEAD_BYTES: u64 = 16;

/// The extension of a ghost in the making, which no template has.
const UNFINISHED: &str = "unfinished";

/// A store of segments, which are named by their paths below the folder of recordings. Limits on
/// how many requests there are at a time and how long one may take are its own.
pub trait Vault: Send + Sync + 'static {
    /// These bytes of a segment.
    fn read(&self, relative: &str, range: Range<u64>) -> BoxFuture<'_, io::Result<Bytes>>;
    /// Whether it has a segment.
    fn has(&self, relative: &str) -> BoxFuture<'_, io::Result<bool>>;
    /// Removes a segment. One that is not there is none too many.
    fn remove(&self, relative: &str) -> BoxFuture<'_, io::Result<()>>;
}

/// The store of a node's recordings.
pub(super) struct Stored {
    /// Where ghosts lie.
    pub(super) dir: PathBuf,
    pub(super) vault: Arc<dyn Vault>,
}

impl Recordings {
    /// Says which store has segments, and the folder for what is remembered of them. Only the first
    /// one counts.
    pub fn store_in(&self, dir: PathBuf, vault: Arc<dyn Vault>) {
        let _ = self.shared.stored.set(Stored { dir, vault });
    }

    /// Remembers a segment that the store has, so that it is found when it is no longer here. False
    /// for a file that no recorder of ours wrote, of which nothing is remembered.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn remember(&self, found: &Found) -> io::Result<bool> {
        let Some(stored) = self.shared.stored.get() else { return Ok(false) };
        let (from, ghost) = (found.path.clone(), stored.dir.join(&found.relative));
        self.shared.disk.run(move || make(&from, &ghost)).await?
    }

    /// All segments that are remembered to be in the store, by stream and beginning.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn remembered(&self) -> io::Result<Vec<Found>> {
        let shared = Arc::clone(&self.shared);
        let find = move || match shared.stored.get() {
            Some(stored) => shelf::all(&stored.dir, &shared.rules.templates()),
            None => Ok(Vec::new()),
        };
        self.shared.disk.run(find).await?
    }

    /// Forgets a segment that the store has no longer.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn forget(&self, relative: &str) -> io::Result<()> {
        let (shared, relative) = (Arc::clone(&self.shared), relative.to_owned());
        let remove = move || match shared.stored.get() {
            Some(stored) => shelf::remove(&stored.dir, &stored.dir.join(relative)),
            None => Ok(()),
        };
        self.shared.disk.run(remove).await?
    }

    /// Removes a segment from the store if it is there.
    pub(super) async fn remove_stored(&self, found: &Found) -> Result<(), ShelfError> {
        let Some(stored) = self.shared.stored.get() else { return Ok(()) };
        if stored.dir.join(&found.relative).exists() {
            stored.vault.remove(&found.relative).await.map_err(ShelfError::Store)?;
            self.forget(&found.relative).await?;
        }
        Ok(())
    }
}

/// Of the segments of both places each once; those that are here are preferred.
pub(super) fn joined(here: Vec<Found>, ghosts: Vec<Found>) -> Vec<Found> {
    if ghosts.is_empty() {
        return here;
    }
    let known: std::collections::HashSet<&str> =
        here.iter().map(|found| found.relative.as_str()).collect();
    let others: Vec<_> = ghosts
        .into_iter()
        .filter(|ghost| !known.contains(ghost.relative.as_str()))
        .map(|ghost| Found { stored: true, ..ghost })
        .collect();
    let mut all = here;
    all.extend(others);
    all.sort_by(|a, b| a.name.cmp(&b.name).then(a.start.cmp(&b.start)));
    all
}

/// Makes the ghost of a segment.
fn make(from: &Path, ghost: &Path) -> io::Result<bool> {
    let mut file = File::open(from)?;
    let length = file.metadata()?.len();
    if fs::metadata(ghost).is_ok_and(|facts| facts.len() == length) {
        return Ok(true);
    }
    let index = match Index::read(&mut file) {
        Ok(index) if !index.fragments.is_empty() => index,
        Err(fmp4::Error::Io(error)) => return Err(error),
        Ok(_) | Err(_) => return Ok(false),
    };
    if let Some(folder) = ghost.parent() {
        fs::create_dir_all(folder)?;
    }
    let unfinished = ghost.with_extension(UNFINISHED);
    let mut out = File::create(&unfinished)?;
    out.set_len(length)?;
    out.write_all(&index.init)?;
    for place in &index.fragments {
        let mut size = [0; 4];
        file.seek(SeekFrom::Start(place.at))?;
        file.read_exact(&mut size)?;
        let kept = (u64::from(u32::from_be_bytes(size)) + MEDIA_HEAD_BYTES).min(place.bytes);
        file.seek(SeekFrom::Start(place.at))?;
        out.seek(SeekFrom::Start(place.at))?;
        io::copy(&mut (&mut file).take(kept), &mut out)?;
    }
    out.sync_all()?;
    fs::rename(&unfinished, ghost)?;
    Ok(true)
}
