//! MPEG-TS as a file.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use pipeline::mpegts::{Demuxer, Event};

use super::{FileError, Read};
use crate::paced::Piece;

/// Bytes read at once.
const PORTION_BYTES: usize = 64 << 10;

/// A file being read.
pub(super) struct Ts {
    path: PathBuf,
    file: File,
    demuxer: Demuxer,
    portion: Vec<u8>,
    events: Vec<Event>,
}

impl Ts {
    pub(super) fn new(path: &Path, file: File) -> Self {
        let (demuxer, portion, events) = (Demuxer::new(), vec![0; PORTION_BYTES], Vec::new());
        Self { path: path.to_owned(), file, demuxer, portion, events }
    }

    fn failed(&self, source: std::io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }
}

impl Read for Ts {
    fn read(&mut self, out: &mut Vec<Piece>) -> Result<bool, FileError> {
        let now = Instant::now();
        let count = match self.file.read(&mut self.portion) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(self.failed(error)),
        };
        if count == 0 {
            self.demuxer.end_of_segment(now, &mut self.events);
        } else {
            self.demuxer.push(now, &self.portion[..count], &mut self.events);
        }
        out.extend(self.events.drain(..).map(|event| match event {
            Event::Tracks(tracks) => Piece::Tracks(tracks),
            Event::Packet(packet) => Piece::Packet(packet),
        }));
        Ok(count > 0)
    }

    fn rewind(&mut self) -> Result<(), FileError> {
        // Its clock begins anew as well, without a wrap being guessed.
        self.demuxer = Demuxer::new();
        self.file.seek(SeekFrom::Start(0)).map(|_| ()).map_err(|error| self.failed(error))
    }
}
