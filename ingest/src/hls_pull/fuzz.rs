//! For the fuzzer: playlists and segments of other servers.

use std::sync::OnceLock;

use bytes::Bytes;
use pipeline::fmp4::Writer;
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Tracks};

use super::playlist::{self, Playlist};
use crate::segment::{Form, Open};

pub(crate) const PLAYLIST_SEEDS: &[&[u8]] = &[
    b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2.0,\ns7.ts\n#EXT-X-ENDLIST\n",
    b"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"9@0\"\n\
      #EXT-X-DISCONTINUITY\n#EXTINF:2,\n#EXT-X-BYTERANGE:50@100\na.mp4\n",
    b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=500,CODECS=\"avc1.64001f\"\nmiddle.m3u8\n",
];

/// A `moof` with one sample of four bytes, and its `mdat`.
pub(crate) const SEGMENT_SEEDS: &[&[u8]] = &[
    b"\0\0\0\x58moof\0\0\0\x10mfhd\0\0\0\0\0\0\0\x01\0\0\0\x40traf\
      \0\0\0\x10tfhd\0\x02\0\0\0\0\0\x02\0\0\0\x10tfdt\0\0\0\0\0\0\0\0\
      \0\0\0\x18trun\0\0\x02\x01\0\0\0\x01\0\0\0\x60\0\0\0\x04\
      \0\0\0\x0cmdat\xf8\0\x01\x02",
    b"\x47\x40\x11\x10",
];

pub(crate) fn playlist(bytes: &[u8]) {
    if let Ok(Playlist::Media(media)) = playlist::parse(bytes) {
        let _ = media.live_edge();
    }
}

/// An init segment of Opus.
fn init() -> &'static Bytes {
    static INIT: OnceLock<Bytes> = OnceLock::new();
    INIT.get_or_init(|| {
        let (codec, config) = (Codec::Opus, Bytes::new());
        let audio = AudioTrack { codec, sample_rate: 48_000, channels: 2, config };
        let writer = Writer::new(&Tracks { video: None, audio: Some(audio) });
        writer.map(|writer| writer.init().clone()).unwrap_or_default()
    })
}

pub(crate) fn segment(bytes: &[u8]) {
    let mut open = Open::default();
    let _ = open.init(bytes);
    let _ = open.init(init());
    let mut out = Vec::new();
    for form in [Form::Fragments, Form::Ts] {
        let _ = open.segment(form, Bytes::copy_from_slice(bytes), &mut out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paced::Piece;

    #[test]
    fn the_seed_is_a_segment_with_a_packet() {
        let mut open = Open::default();
        open.init(init()).unwrap();
        let mut out = Vec::new();
        open.segment(Form::Fragments, Bytes::from_static(SEGMENT_SEEDS[0]), &mut out).unwrap();
        let packets = out.iter().filter(|piece| matches!(piece, Piece::Packet(_))).count();
        assert_eq!(packets, 1, "{out:?}");
    }
}
