//! A file as a live stream, over and over: `file:///media/loop.mp4`. MP4 (whole or fragmented),
//! MPEG-TS, Matroska, WebM and FLV are read by this node's own parsers; pictures and sound are copied, never re-encoded,
//! and go out in the time in which they would be watched.
//!
//! A thread reads, since files block; a task waits for each packet's time and writes it. At the end
//! the file begins anew, and its times go on where they were, so that players notice nothing but the
//! cut.

mod flv;
mod matroska;
mod mp4;
mod ts;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::matroska::MatroskaError;
use crate::mp4::Mp4Error;
use crate::paced::{self, PIECES_WAITING, Piece};
use crate::remote::{Ended, Error, Sink, Target};
use crate::rtmp::MediaError;

/// Why a file cannot be a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its bytes are of no format that is read here.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is, or is not.
        what: &'static str,
    },
    /// It is MP4 and cannot be read.
    #[error("{path}: {source}")]
    Mp4 {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Mp4Error,
    },
    /// It is Matroska or WebM and cannot be read.
    #[error("{path}: {source}")]
    Matroska {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MatroskaError,
    },
    /// It is FLV and cannot be read.
    #[error("{path}: {source}")]
    Flv {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MediaError,
    },
    /// There is neither picture nor sound in it.
    #[error("{path}: nothing in it can be shown or heard")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A file being read.
trait Read: Send {
    /// The next pieces into `out`; false at the end of the file.
    fn read(&mut self, out: &mut Vec<Piece>) -> Result<bool, FileError>;
    /// Begins at the beginning.
    fn rewind(&mut self) -> Result<(), FileError>;
}

/// Plays a file into `sink` until `stop`.
///
/// # Errors
/// [`Error`] when the URL names no file, the file cannot be read, or the stream is somebody else's.
pub async fn pull(target: &Target, sink: &Sink, stop: &CancellationToken) -> Result<Ended, Error> {
    let path = target.url().to_file_path();
    let path =
        path.map_err(|()| target.fault("a file's URL looks like file:///folder/name.mp4"))?;
    let (pieces, read) = mpsc::channel(PIECES_WAITING);
    std::thread::Builder::new()
        .name("file".into())
        .spawn(move || read_on(&path, &pieces))
        .map_err(|error| Error::protocol("reading a file", error))?;
    paced::play(read, "playing a file", ("file", target.to_string()), sink, stop).await
}

/// Reads until nobody takes what is read.
fn read_on(path: &Path, pieces: &mpsc::Sender<Result<Piece, FileError>>) {
    if let Err(Some(error)) = read_pieces(path, pieces) {
        let _ = pieces.blocking_send(Err(error));
    }
}

/// `None` as the error: nobody takes what is read.
fn read_pieces(
    path: &Path,
    pieces: &mpsc::Sender<Result<Piece, FileError>>,
) -> Result<(), Option<FileError>> {
    let mut file = open(path)?;
    info!(path = %path.display(), "playing a file");
    let mut out = Vec::new();
    loop {
        let mut packets = 0_u64;
        loop {
            let more = file.read(&mut out)?;
            for piece in out.drain(..) {
                packets += u64::from(matches!(piece, Piece::Packet(_)));
                pieces.blocking_send(Ok(piece)).map_err(|_| None::<FileError>)?;
            }
            if !more {
                break;
            }
        }
        if packets == 0 {
            return Err(Some(FileError::Empty { path: path.to_owned() }));
        }
        debug!(packets, "the file begins anew");
        file.rewind()?;
        pieces.blocking_send(Ok(Piece::Again)).map_err(|_| None::<FileError>)?;
    }
}

/// Opens a file by what its first bytes say, whatever its name says.
fn open(path: &Path) -> Result<Box<dyn Read>, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut head = [0; 189];
    let mut have = 0;
    while have < head.len() {
        match file.read(&mut head[have..]).map_err(failed)? {
            0 => break,
            count => have += count,
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let unknown = |what| Err(FileError::Format { path: path.to_owned(), what });
    match &head[..have] {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Ok(Box::new(mp4::Mp4::open(path, file)?)),
        head if head.first() == Some(&0x47) && head.get(188).is_none_or(|sync| *sync == 0x47) => {
            Ok(Box::new(ts::Ts::new(path, file)))
        }
        [0x1A, 0x45, 0xDF, 0xA3, ..] => Ok(Box::new(matroska::Matroska::open(path, file)?)),
        [b'F', b'L', b'V', 1, ..] => Ok(Box::new(flv::Flv::open(path, file)?)),
        _ => unknown("this is none of MP4, MPEG-TS, Matroska, WebM and FLV"),
    }
}
