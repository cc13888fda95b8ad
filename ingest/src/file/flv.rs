//! FLV as a file (Adobe Video File Format 10.1, E): its tags are RTMP's messages.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::BytesMut;
use tracing::warn;

use super::{FileError, Read};
use crate::paced::Piece;
use crate::rtmp::flv_file::{Media, Output};

/// Bytes of a tag's head.
const TAG_HEAD_BYTES: usize = 11;

/// Bytes that stand behind each tag: its length once more.
const TAG_TAIL_BYTES: u64 = 4;

/// Tags read at once.
const TAGS: usize = 32;

/// Read buffer, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// A file being read.
pub(super) struct Flv {
    path: PathBuf,
    file: BufReader<File>,
    /// Where tags begin.
    begin: u64,
    media: Media,
    out: Vec<Output>,
    /// Messages that could not be used.
    broken: u64,
}

impl Flv {
    pub(super) fn open(path: &Path, file: File) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut head = [0; 9];
        file.read_exact(&mut head).map_err(io)?;
        // The length of the head, behind which the length of the tag before the first stands.
        let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let begin = u64::from(length) + TAG_TAIL_BYTES;
        let mut flv = Self {
            path: path.to_owned(),
            file,
            begin,
            media: Media::default(),
            out: Vec::new(),
            broken: 0,
        };
        flv.rewind()?;
        Ok(flv)
    }

    fn io(&self, source: std::io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }

    /// Fills the buffer; false at the end of the file.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, FileError> {
        match self.file.read_exact(bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| true).map_err(|error| self.io(error)),
        }
    }

    /// Reads a tag; false at the end of the file. A last one that was cut off is left out.
    fn tag(&mut self) -> Result<bool, FileError> {
        let mut head = [0; TAG_HEAD_BYTES];
        if !self.fill(&mut head)? {
            return Ok(false);
        }
        let [kind, a, b, c, t1, t2, t3, t0, ..] = head;
        let mut body = BytesMut::zeroed(u32::from_be_bytes([0, a, b, c]) as usize);
        let mut tail = [0; TAG_TAIL_BYTES as usize];
        if !self.fill(&mut body)? {
            return Ok(false);
        }
        let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);
        // Encrypted tags have another bit in their type, and are of no type here.
        let taken = self.media.tag(kind, Instant::now(), timestamp, body, &mut self.out);
        if let Err(source) = taken {
            if !source.can_pass() {
                return Err(FileError::Flv { path: self.path.clone(), source });
            }
            self.broken += 1;
        }
        self.fill(&mut tail)
    }
}

impl Read for Flv {
    fn read(&mut self, out: &mut Vec<Piece>) -> Result<bool, FileError> {
        let mut more = true;
        for _ in 0..TAGS {
            more = self.tag()?;
            if !more {
                self.media.finish(&mut self.out);
                break;
            }
        }
        out.extend(self.out.drain(..).filter_map(|output| match output {
            Output::Tracks(tracks) => Some(Piece::Tracks(tracks)),
            Output::Packet(packet) => Some(Piece::Packet(packet)),
            // Of several tracks the first are played.
            Output::Picture(..) | Output::Sound(..) | Output::Further(..) => None,
        }));
        Ok(more)
    }

    fn rewind(&mut self) -> Result<(), FileError> {
        let broken = std::mem::take(&mut self.broken);
        if broken > 0 {
            warn!(broken, path = %self.path.display(), "tags of the file cannot be used");
        }
        self.media = Media::default();
        self.file.seek(SeekFrom::Start(self.begin)).map_err(|error| self.io(error))?;
        Ok(())
    }
}
