//! Segments one after the other: which is new, and what is in it.

use std::cmp::Ordering;

use bytes::Bytes;

use super::file::{self, Kind};
use crate::mp4::Mp4Error;
use crate::paced::Piece;
use crate::segment::{Form, Open};

/// What goes on from segment to segment.
#[derive(Default)]
pub(super) struct Order {
    open: Open,
    /// The name of the one that was taken last.
    last: Option<Box<str>>,
    /// What a segment that was refused has said of those after it: that times begin anew, and the
    /// tracks.
    again: Option<Piece>,
    tracks: Option<Piece>,
}

impl Order {
    /// Takes an init segment.
    pub(super) fn init(&mut self, bytes: &[u8]) -> Result<(), Mp4Error> {
        self.open.init(bytes)
    }

    /// What is in a segment; `None` for one that was taken before. The error is why it cannot be
    /// used.
    pub(super) fn read(
        &mut self,
        kind: Kind,
        name: &str,
        bytes: Bytes,
    ) -> Result<Option<Vec<Piece>>, String> {
        match self.last.as_deref().and_then(|last| file::place(name, last)) {
            Some(Ordering::Equal) => return Ok(None),
            Some(Ordering::Less) => self.open.begin_again(),
            Some(Ordering::Greater) | None => {}
        }
        let form = if kind == Kind::Mp4 { Form::Fragments } else { Form::Ts };
        let left = self.again.take().into_iter().chain(self.tracks.take());
        let mut pieces: Vec<Piece> = left.collect();
        let read = self.open.segment(form, bytes, &mut pieces);
        let shows = pieces.iter().any(|piece| matches!(piece, Piece::Packet(_)));
        let problem = match read {
            Ok(()) if shows => {
                self.last = Some(name.into());
                return Ok(Some(pieces));
            }
            Ok(()) => "no picture and no sound was found in the segment".to_owned(),
            Err(error) => error.to_string(),
        };
        for piece in pieces {
            match piece {
                Piece::Again => self.again = Some(piece),
                Piece::Tracks(_) => self.tracks = Some(piece),
                Piece::Packet(_) => {}
            }
        }
        Err(problem)
    }
}
