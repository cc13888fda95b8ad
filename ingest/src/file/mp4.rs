//! MP4 as a file: one with tables for the whole, or one of fragments.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::BytesMut;
use tracing::warn;

use super::{FileError, Read};
use crate::mp4::{Head, MOOF_BYTES_MAX, MOOV_BYTES_MAX, Movie, Mp4Error, Packets, Sample};
use crate::paced::Piece;

/// Samples read at once.
const SAMPLES: usize = 32;

/// A file being read.
pub(super) struct Mp4 {
    path: PathBuf,
    file: File,
    bytes: u64,
    movie: Movie,
    packets: Packets,
    /// What the tables list, or the present fragment.
    samples: Vec<Sample>,
    /// The next of them.
    next: usize,
    /// Where fragments begin, and where the next of them does; `None` for a file of tables.
    fragments: Option<(u64, u64)>,
}

impl Mp4 {
    pub(super) fn open(path: &Path, mut file: File) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let fault = |source| FileError::Mp4 { path: path.to_owned(), source };
        let bytes = file.metadata().map_err(io)?.len();
        let mut at = 0;
        let (movie, behind) = loop {
            let head = head(&mut file, at, bytes).map_err(io)?;
            let head = head.ok_or(fault(Mp4Error::Tables("the file has no moov box")))?;
            let end = head.bytes.map_or(bytes, |size| at.saturating_add(size));
            if &head.kind == b"moov" {
                let size = end - at - head.head_bytes;
                if size > MOOV_BYTES_MAX || end > bytes {
                    let (what, limit) = ("its moov box", MOOV_BYTES_MAX);
                    return Err(fault(Mp4Error::TooLarge { what, bytes: size, limit }));
                }
                let body = bytes_at(&mut file, at + head.head_bytes, size).map_err(io)?;
                break (Movie::parse(&body).map_err(fault)?, end);
            }
            at = end;
        };
        let samples = movie.samples(bytes).map_err(fault)?;
        let fragments = samples.is_empty().then_some((behind, behind));
        let packets = Packets::new(&movie).map_err(fault)?;
        Ok(Self { path: path.to_owned(), file, bytes, movie, packets, samples, next: 0, fragments })
    }

    fn io(&self, source: std::io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }

    fn fault(&self, source: Mp4Error) -> FileError {
        FileError::Mp4 { path: self.path.clone(), source }
    }

    /// Goes on to the next fragment; false at the end of the file. A last one that was cut off is
    /// left out.
    fn next_fragment(&mut self) -> Result<bool, FileError> {
        let Some((first, mut at)) = self.fragments else { return Ok(false) };
        loop {
            let head = head(&mut self.file, at, self.bytes).map_err(|error| self.io(error))?;
            let Some(head) = head else { return Ok(false) };
            let end = head.bytes.map_or(self.bytes, |size| at.saturating_add(size));
            if end > self.bytes {
                return Ok(false);
            }
            if &head.kind == b"moof" {
                let (size, limit) = (end - at, MOOF_BYTES_MAX);
                if size > limit {
                    let what = "a moof box";
                    return Err(self.fault(Mp4Error::TooLarge { what, bytes: size, limit }));
                }
                let moof = bytes_at(&mut self.file, at, size).map_err(|error| self.io(error))?;
                let samples = self.movie.fragment(&moof, at, self.bytes);
                self.samples = samples.map_err(|source| self.fault(source))?;
                self.next = 0;
                self.fragments = Some((first, end));
                return Ok(true);
            }
            at = end;
        }
    }
}

impl Read for Mp4 {
    fn read(&mut self, out: &mut Vec<Piece>) -> Result<bool, FileError> {
        if self.next == self.samples.len() && !self.next_fragment()? {
            return Ok(false);
        }
        let now = Instant::now();
        for _ in 0..SAMPLES.min(self.samples.len() - self.next) {
            let sample = self.samples[self.next];
            let data = bytes_at(&mut self.file, sample.at, sample.size.into());
            let data = data.map_err(|error| self.io(error))?;
            let (tracks, packet) = self.packets.packet(&sample, data, now);
            out.extend(tracks.map(Piece::Tracks));
            out.extend(packet.map(Piece::Packet));
            self.next += 1;
        }
        Ok(self.next < self.samples.len() || self.fragments.is_some())
    }

    fn rewind(&mut self) -> Result<(), FileError> {
        let broken = std::mem::take(&mut self.packets.broken);
        if broken > 0 {
            warn!(broken, path = %self.path.display(), "pictures of the file cannot be used");
        }
        self.next = 0;
        if let Some((first, next)) = &mut self.fragments {
            *next = *first;
            self.samples.clear();
        }
        Ok(())
    }
}

/// The head of the box at byte `at`; `None` at the end of the file.
fn head(file: &mut File, at: u64, bytes: u64) -> std::io::Result<Option<Head>> {
    let have = bytes.saturating_sub(at).min(16);
    if have < 8 {
        return Ok(None);
    }
    Ok(Head::parse(&bytes_at(file, at, have)?))
}

/// Bytes of the file; callers have checked that they are not too many.
fn bytes_at(file: &mut File, at: u64, count: u64) -> std::io::Result<BytesMut> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = BytesMut::zeroed(usize::try_from(count).map_err(std::io::Error::other)?);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
