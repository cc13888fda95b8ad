//! One file on disk: written part by part so that whatever ends the process leaves all parts but the
//! one in the making, and mended when it was not closed.
//!
//! # What is on disk when
//! A part is given to the system with one write and then flushed to the disk (`fdatasync`) before
//! the next one is begun. So a killed process loses what was not yet a part, a second by default, and
//! a power cut no more than that on disks that keep their word. The folder is flushed (`fsync`) when
//! a file is made in it. The duration is written into the head when the file is closed; a head
//! without one is how a file is known that was not ([`mend`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pipeline::Ticks;
use pipeline::fmp4::{self, Index};

use super::moment::Moment;
use super::template::Template;
use crate::name::StreamName;

/// Names tried for a segment that begins in the same microsecond as one that is there.
const NAMES_MAX: i64 = 16;

/// Bytes of a file's beginning that are read to see whether it was closed: `ftyp` and the first
/// boxes of `moov`.
const HEAD_BYTES_MAX: u64 = 512;

/// An open segment.
pub(super) struct SegmentFile {
    file: File,
    pub(super) path: PathBuf,
    pub(super) start: Moment,
    init: Bytes,
    /// Whole parts, and the init segment.
    pub(super) bytes: u64,
}

impl SegmentFile {
    /// Makes the file with its init segment. A name that is taken gives way to one a microsecond
    /// later.
    pub(super) fn create(
        dir: &Path,
        template: &Template,
        name: &StreamName,
        start: Moment,
        init: Bytes,
    ) -> io::Result<Self> {
        for later in 0..NAMES_MAX {
            let start = Moment(start.0 + later);
            let path = dir.join(template.path(name, start));
            let folder = path.parent().unwrap_or(dir);
            fs::create_dir_all(folder)?;
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    let mut made = Self { file, path: path.clone(), start, init, bytes: 0 };
                    let init = made.init.clone();
                    let written = made.append(&init).and_then(|()| File::open(folder)?.sync_all());
                    return written.map(|()| made).inspect_err(|_| {
                        let _ = fs::remove_file(&path);
                    });
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Appends a part, all of it or nothing.
    pub(super) fn append(&mut self, part: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(part).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.bytes += part.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was written of it is cut off again, so that the file stays whole.
                let _ = self.file.set_len(self.bytes);
                let _ = self.file.seek(SeekFrom::Start(self.bytes));
                Err(error)
            }
        }
    }

    /// Closes the file and says in its head how long it is.
    pub(super) fn close(mut self, duration: Ticks) -> io::Result<()> {
        write_duration(&mut self.file, &self.init, duration)
    }
}

fn write_duration(file: &mut File, init: &[u8], duration: Ticks) -> io::Result<()> {
    if let Some(patch) = fmp4::duration_patch(init, duration) {
        file.seek(SeekFrom::Start(patch.at))?;
        file.write_all(&patch.bytes)?;
    }
    file.sync_all()
}

/// What became of a file that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mended {
    /// It was closed in order.
    Whole,
    /// It was not; what was cut off is gone and its duration is in its head.
    Closed,
    /// There was no picture or sound in it, and it is gone.
    Removed,
}

/// How long a file is, by its head; `None` for one that was not closed.
pub(super) fn duration_of(path: &Path) -> io::Result<Option<Ticks>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES_MAX).read_to_end(&mut head)?;
    Ok(fmp4::duration_of(&head).filter(|duration| *duration > Ticks(0)))
}

/// Closes a file that a process left behind which did not end in order.
pub(super) fn mend(path: &Path) -> io::Result<Mended> {
    if duration_of(path)?.is_some() {
        return Ok(Mended::Whole);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    match Index::read(&mut file) {
        Ok(index) if !index.fragments.is_empty() => {
            file.set_len(index.whole_bytes)?;
            write_duration(&mut file, &index.init, index.duration())?;
            Ok(Mended::Closed)
        }
        Err(fmp4::Error::Io(error)) => Err(error),
        // A head without media says nothing; what is no recording of ours is left alone.
        Ok(_) => fs::remove_file(path).map(|()| Mended::Removed),
        Err(fmp4::Error::NoInit) if begins_as_ours(&mut file)? => {
            fs::remove_file(path).map(|()| Mended::Removed)
        }
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Whether a file without a whole head is nothing but the beginning of one.
fn begins_as_ours(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() >= fmp4::INIT_BYTES_MAX {
        return Ok(false);
    }
    let mut head = Vec::new();
    file.rewind()?;
    file.take(8).read_to_end(&mut head)?;
    Ok(head.get(4..).is_none_or(|kind| b"ftyp".starts_with(kind)))
}
