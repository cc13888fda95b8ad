//! What lies in the folder of recordings: found by the names of files, forgotten when it is old.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::moment::Moment;
use super::template::Template;
use crate::name::StreamName;

/// Folders within folders that are looked into: as many as a name and a template can have.
const DEPTH_MAX: usize = 300;

/// Files that are looked at in one walk.
const FILES_MAX: usize = 1_000_000;

/// A segment, on disk or in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its stream.
    pub name: StreamName,
    /// When it begins.
    pub start: Moment,
    /// The file; of a segment in the store what is remembered of it.
    pub path: PathBuf,
    /// The same below the folder of recordings, with `/` between its parts.
    pub relative: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written last.
    pub modified: Moment,
    /// Whether its media are in the store only.
    pub stored: bool,
}

/// A stream's segments by their beginning.
pub(super) fn of_stream(
    dir: &Path,
    template: &Template,
    name: &StreamName,
) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    walk(dir, &template.folder(name), &mut |file| {
        if let Some((whose, start)) = template.read(&file.relative)
            && whose == *name
        {
            found.push(file.into_found(whose, start));
        }
    })?;
    found.sort_by_key(|found: &Found| found.start);
    Ok(found)
}

/// All segments that any of the templates names, by stream and beginning.
pub(super) fn all(dir: &Path, templates: &[Template]) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    walk(dir, "", &mut |file| {
        let read = templates.iter().find_map(|template| template.read(&file.relative));
        if let Some((name, start)) = read {
            found.push(file.into_found(name, start));
        }
    })?;
    found.sort_by(|a: &Found, b| a.name.cmp(&b.name).then(a.start.cmp(&b.start)));
    Ok(found)
}

/// Removes a segment, and the folders that are empty without it.
pub(super) fn remove(dir: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut folder = path.parent();
    while let Some(inner) = folder.filter(|folder| *folder != dir && folder.starts_with(dir)) {
        if fs::remove_dir(inner).is_err() {
            break;
        }
        folder = inner.parent();
    }
    Ok(())
}

/// Whether a segment is older than `limit`: by its beginning, and by when it was last written, so
/// that one that is being written is not old.
pub(super) fn is_old(found: &Found, limit: Duration, now: Moment) -> bool {
    now.since(found.start.max(found.modified)) > limit
}

struct Entry {
    path: PathBuf,
    relative: String,
    bytes: u64,
    modified: Moment,
}

impl Entry {
    fn into_found(self, name: StreamName, start: Moment) -> Found {
        let Self { path, relative, bytes, modified } = self;
        Found { name, start, path, relative, bytes, modified, stored: false }
    }
}

/// Shows every plain file below a folder. Links are not followed: they could lead elsewhere.
fn walk(dir: &Path, below: &str, seen: &mut dyn FnMut(Entry)) -> io::Result<()> {
    let mut folders = vec![(below.to_owned(), 0)];
    let mut files = 0;
    while let Some((folder, depth)) = folders.pop() {
        let listed = match fs::read_dir(dir.join(&folder)) {
            // It may go while this looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed?,
        };
        for entry in listed {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let Some(name) = name.to_str() else { continue };
            let relative = match folder.is_empty() {
                true => name.to_owned(),
                false => format!("{folder}/{name}"),
            };
            if kind.is_dir() && depth < DEPTH_MAX {
                folders.push((relative, depth + 1));
            } else if kind.is_file() {
                files += 1;
                if files > FILES_MAX {
                    let what = format!("more than {FILES_MAX} files in {}", dir.display());
                    return Err(io::Error::other(what));
                }
                let Ok(facts) = entry.metadata() else { continue };
                let modified = facts.modified().map(Moment::of).unwrap_or_default();
                seen(Entry { path: entry.path(), relative, bytes: facts.len(), modified });
            }
        }
    }
    Ok(())
}
