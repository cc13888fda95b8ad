//! The pictures that a recorded moment is decoded from: from the key picture before it up to it.

use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pipeline::packet::VideoTrack;
use pipeline::{Packet, Pts, Ticks};

use super::range::{self, Error};
use super::send::Sending;
use super::{Moment, Recordings};
use crate::mp4::{self, Movie, Packets};
use crate::name::StreamName;
use crate::paced::Piece;

/// How much of the recording is read from the moment on: the picture that is shown then.
const MOMENT: Duration = Duration::from_millis(1);

/// Bytes of such pictures, at most.
const BYTES_MAX: u64 = 64 << 20;

/// Pictures in decoding order.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they are.
    pub track: VideoTrack,
    /// The first is a key picture.
    pub packets: Vec<Packet>,
    /// The picture with the newest time up to this one is shown at the moment.
    pub until: Pts,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Nothing was recorded then, or no picture.
    #[error("there is no recording of that moment")]
    Nothing,
    /// Too much lies between the key picture and the moment.
    #[error("{0} bytes from the key picture on are more than the limit of {BYTES_MAX}")]
    Long(u64),
    /// What is stored cannot be read.
    #[error("the recording is broken: {0}")]
    Broken(String),
    /// The disk or the store.
    #[error("the recording cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl From<Error> for GroupError {
    fn from(error: Error) -> Self {
        match error {
            Error::Nothing => Self::Nothing,
            Error::Io(error) | Error::Store(error) => Self::Io(error),
            error => Self::Broken(error.to_string()),
        }
    }
}

impl From<mp4::Mp4Error> for GroupError {
    fn from(error: mp4::Mp4Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Recordings {
    /// What a stream showed at a moment.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn group(&self, name: &StreamName, at: Moment) -> Result<Group, GroupError> {
        let range = range::make(self, name, at, MOMENT, true).await?;
        let length = range.length();
        if length > BYTES_MAX {
            return Err(GroupError::Long(length));
        }
        let shown = Ticks::from_duration(at.since(range.start));
        let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        let mut sending = Some(Sending::new(self, range.pieces, range.files));
        while let Some(rest) = sending {
            let (chunk, rest) = rest.chunk().await;
            let Some(chunk) = chunk else { break };
            bytes.extend_from_slice(&chunk?);
            sending = rest;
        }
        pictures(&bytes.freeze(), shown)
    }
}

/// The pictures of a file of fragments; `shown` is how long after the first the moment is.
fn pictures(bytes: &Bytes, shown: Ticks) -> Result<Group, GroupError> {
    let (_, body, end) = mp4::find(bytes, b"moov").ok_or(GroupError::Nothing)?;
    let movie = Movie::parse(&bytes[body..end])?;
    let (mut made, mut pieces) = (Packets::new(&movie)?, Vec::new());
    mp4::fragments(&movie, &mut made, bytes, Instant::now(), &mut pieces)?;
    let (mut track, mut packets) = (None, Vec::new());
    for piece in pieces {
        match piece {
            Piece::Tracks(tracks) => track = tracks.video.or(track),
            Piece::Packet(packet) if packet.kind.is_video() => packets.push(packet),
            Piece::Packet(_) | Piece::Again => {}
        }
    }
    let first = packets.first().ok_or(GroupError::Nothing)?;
    let until = first.pts + shown;
    let track = track.ok_or(GroupError::Nothing)?;
    Ok(Group { track, packets, until })
}
