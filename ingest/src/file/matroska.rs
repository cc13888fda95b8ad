//! Matroska and WebM as a file.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tracing::warn;

use super::{FileError, Read};
use crate::matroska::ebml::{HEAD_BYTES_MAX, Head};
use crate::matroska::{Demuxer, MatroskaError, Output, Wants};
use crate::paced::Piece;

/// Elements read at once.
const ELEMENTS: usize = 32;

/// A file being read.
pub(super) struct Matroska {
    path: PathBuf,
    file: File,
    /// Where the next element begins.
    at: u64,
    /// Of the file.
    bytes: u64,
    demuxer: Demuxer,
    body: Vec<u8>,
    out: Vec<Output>,
}

impl Matroska {
    pub(super) fn open(path: &Path, file: File) -> Result<Self, FileError> {
        let bytes =
            file.metadata().map_err(|source| FileError::Io { path: path.into(), source })?;
        let (path, bytes, demuxer) = (path.to_owned(), bytes.len(), Demuxer::default());
        Ok(Self { path, file, at: 0, bytes, demuxer, body: Vec::new(), out: Vec::new() })
    }

    fn io(&self, source: std::io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }

    fn fault(&self, source: MatroskaError) -> FileError {
        FileError::Matroska { path: self.path.clone(), source }
    }

    /// Reads the next element; false at the end of the file. A last one that was cut off is left
    /// out.
    fn element(&mut self) -> Result<bool, FileError> {
        let mut head = [0; HEAD_BYTES_MAX];
        let have = self.bytes.saturating_sub(self.at).min(HEAD_BYTES_MAX as u64) as usize;
        self.fill(&mut head[..have]).map_err(|error| self.io(error))?;
        let Some(head) = Head::parse(&head[..have]) else { return Ok(false) };
        let wants = self.demuxer.element(&head).map_err(|error| self.fault(error))?;
        self.at += head.bytes as u64;
        match wants {
            Wants::Inside => {}
            Wants::Skip(bytes) => self.at = self.at.saturating_add(bytes),
            Wants::Body(bytes) => {
                if self.bytes.saturating_sub(self.at) < bytes as u64 {
                    return Ok(false);
                }
                let mut body = std::mem::take(&mut self.body);
                body.resize(bytes, 0);
                self.fill(&mut body).map_err(|error| self.io(error))?;
                self.at += bytes as u64;
                let taken = self.demuxer.body(head.id, &body, Instant::now(), &mut self.out);
                self.body = body;
                taken.map_err(|error| self.fault(error))?;
            }
        }
        Ok(true)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.at))?;
        self.file.read_exact(bytes)
    }
}

impl Read for Matroska {
    fn read(&mut self, out: &mut Vec<Piece>) -> Result<bool, FileError> {
        let mut more = true;
        for _ in 0..ELEMENTS {
            more = self.element()?;
            if !more {
                break;
            }
        }
        out.extend(self.out.drain(..).map(|output| match output {
            Output::Tracks(tracks) => Piece::Tracks(tracks),
            Output::Packet(packet) => Piece::Packet(packet),
        }));
        Ok(more)
    }

    fn rewind(&mut self) -> Result<(), FileError> {
        let broken = self.demuxer.take_broken();
        if broken > 0 {
            warn!(broken, path = %self.path.display(), "blocks of the file cannot be used");
        }
        (self.at, self.demuxer) = (0, Demuxer::default());
        Ok(())
    }
}
