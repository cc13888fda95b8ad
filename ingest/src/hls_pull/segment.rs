//! What is in a segment: MPEG-TS, or fragments that an init segment describes.

use std::time::Instant;

use bytes::Bytes;
use pipeline::mpegts::{Demuxer, Event};

use super::playlist::{Map, Segment};
use crate::mp4::{self, Movie, Mp4Error, Packets};
use crate::paced::Piece;

/// What goes on from segment to segment.
#[derive(Default)]
pub(crate) struct Open {
    /// The init segment in force.
    pub(crate) map: Option<Map>,
    /// The next segment's times begin anew.
    pub(crate) again: bool,
    movie: Option<(Movie, Packets)>,
    demuxer: Demuxer,
    events: Vec<Event>,
}

impl Open {
    /// Takes an init segment.
    pub(crate) fn init(&mut self, map: Map, bytes: &[u8]) -> Result<(), Mp4Error> {
        let body =
            mp4::find(bytes, b"moov").ok_or(Mp4Error::Tables("no moov in the init segment"))?;
        let movie = Movie::parse(&bytes[body.1..body.2])?;
        let packets = Packets::new(&movie)?;
        (self.map, self.movie) = (Some(map), Some((movie, packets)));
        Ok(())
    }

    /// Takes a segment.
    pub(crate) fn segment(
        &mut self,
        segment: &Segment,
        bytes: Bytes,
        out: &mut Vec<Piece>,
    ) -> Result<(), Mp4Error> {
        if segment.discontinuity || std::mem::take(&mut self.again) {
            self.demuxer = Demuxer::new();
            out.push(Piece::Again);
        }
        let now = Instant::now();
        if let (Some(_), Some((movie, packets))) = (&segment.map, &mut self.movie) {
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
        let segment = Segment {
            number: 0,
            uri: String::new(),
            seconds: 1.0,
            range: None,
            discontinuity: true,
            map: None,
        };
        Open::default().segment(&segment, Bytes::from_static(b"nothing"), &mut out).unwrap();
        assert!(matches!(out[..], [Piece::Again]));
    }
}
