//! What is in a segment that comes by HTTP, pulled or pushed: MPEG-TS, or fragments that an init
//! segment describes.

use std::time::Instant;

use bytes::Bytes;
use pipeline::mpegts::{Demuxer, Event};

use crate::mp4::{self, Movie, Mp4Error, Packets};
use crate::paced::Piece;

/// What a segment is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Ts,
    /// Of fragmented MP4.
    Fragments,
}

/// What goes on from segment to segment.
#[derive(Default)]
pub(crate) struct Open {
    /// The next segment's times begin anew.
    again: bool,
    movie: Option<(Movie, Packets)>,
    demuxer: Demuxer,
    events: Vec<Event>,
}

impl Open {
    /// Takes an init segment.
    pub(crate) fn init(&mut self, bytes: &[u8]) -> Result<(), Mp4Error> {
        let body =
            mp4::find(bytes, b"moov").ok_or(Mp4Error::Tables("no moov in the init segment"))?;
        let movie = Movie::parse(&bytes[body.1..body.2])?;
        let packets = Packets::new(&movie)?;
        self.movie = Some((movie, packets));
        Ok(())
    }

    /// The times of the next segment begin anew.
    pub(crate) fn begin_again(&mut self) {
        self.again = true;
    }

    /// Takes a segment.
    pub(crate) fn segment(
        &mut self,
        form: Form,
        bytes: Bytes,
        out: &mut Vec<Piece>,
    ) -> Result<(), Mp4Error> {
        if std::mem::take(&mut self.again) {
            self.demuxer = Demuxer::new();
            out.push(Piece::Again);
        }
        let now = Instant::now();
        if let (Form::Fragments, Some((movie, packets))) = (form, &mut self.movie) {
            return mp4::fragments(movie, packets, &bytes, now, out);
        }
        self.demuxer.push(now, &bytes, &mut self.events);
        self.demuxer.end_of_segment(now, &mut self.events);
        out.extend(self.events.drain(..).map(|event| match event {
            Event::Tracks(tracks) => Piece::Tracks(tracks),
            Event::Packet(packet) => Piece::Packet(packet),
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_found_behind_others_and_what_is_cut_off_is_none() {
        let bytes = [&[0, 0, 0, 9][..], b"styp", &[7], &[0, 0, 0, 10], b"moof", &[1, 2]].concat();
        assert_eq!(mp4::find(&bytes, b"moof"), Some((9, 17, 19)));
        assert_eq!(mp4::find(&bytes[..18], b"moof"), None);
        assert_eq!(mp4::find(&bytes, b"mdat"), None);
    }

    #[test]
    fn a_segment_without_fragments_brings_nothing() {
        let mut out = Vec::new();
        let mut open = Open::default();
        open.begin_again();
        open.segment(Form::Ts, Bytes::from_static(b"nothing"), &mut out).unwrap();
        assert!(matches!(out[..], [Piece::Again]));
    }
}
