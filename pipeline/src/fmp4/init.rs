//! The init segment: which tracks there are and how they are coded.

use bytes::{Bytes, BytesMut};
use mp4_atom::{
    Dinf, Dref, DrefEntry, Encode as _, FixedPoint, FourCC, Ftyp, Hdlr, Matrix, Mdhd, Mdia, Minf,
    Moov, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Vmhd,
};

use crate::frame::Size;
use crate::orientation::Turn;
use crate::packet::{TrackKind, Tracks};

use super::entry::Description;
use super::{AUDIO_ID, Error, id_of};

/// `ftyp` and `moov`.
pub(super) fn init(
    tracks: &Tracks,
    video: Option<Description>,
    audio: Option<Description>,
    turn: Option<Turn>,
) -> Result<Bytes, Error> {
    let mut out = BytesMut::new();
    Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc"), FourCC::new(b"mp41")],
    }
    .encode(&mut out)?;
    let size = tracks.video.as_ref().map(|track| track.size);
    let mut traks = Vec::new();
    if let Some(description) = video {
        let side = |pixels: Option<u32>| {
            FixedPoint::new(u16::try_from(pixels.unwrap_or(0)).unwrap_or(u16::MAX), 0)
        };
        let mut trak = trak(TrackKind::Video, description);
        trak.tkhd.width = side(size.map(|size| size.width));
        trak.tkhd.height = side(size.map(|size| size.height));
        if let Some((turn, size)) = turn.zip(size) {
            trak.tkhd.matrix = matrix(turn, size);
        }
        traks.push(trak);
    }
    traks.extend(audio.map(|description| trak(TrackKind::Audio, description)));
    let trex = traks.iter().map(|trak| Trex {
        track_id: trak.tkhd.track_id,
        default_sample_description_index: 1,
        ..Trex::default()
    });
    Moov {
        mvhd: mvhd(),
        mvex: Some(Mvex { mehd: None, trex: trex.collect() }),
        trak: traks,
        ..Moov::default()
    }
    .encode(&mut out)?;
    Ok(out.freeze())
}

/// The turn, and where it brings the upper left corner back to (ISO/IEC 14496-12 8.3.2).
fn matrix(turn: Turn, size: Size) -> Matrix {
    let [a, b, c, d] = turn.matrix();
    let pixels = |pixels: u32| i32::try_from(u64::from(pixels) << 16).unwrap_or(0);
    let (x, y) = match turn {
        Turn::Quarter => (pixels(size.height), 0),
        Turn::Half => (pixels(size.width), pixels(size.height)),
        Turn::ThreeQuarters => (0, pixels(size.width)),
    };
    Matrix { a, b, c, d, x, y, ..Matrix::default() }
}

pub(super) fn mvhd() -> Mvhd {
    Mvhd {
        timescale: super::VIDEO_TIMESCALE,
        rate: FixedPoint::new(1, 0),
        volume: FixedPoint::new(1, 0),
        next_track_id: AUDIO_ID + 1,
        ..Mvhd::default()
    }
}

fn trak(kind: TrackKind, description: Description) -> Trak {
    let video = kind.is_video();
    Trak {
        tkhd: Tkhd {
            track_id: id_of(kind),
            enabled: true,
            in_movie: true,
            alternate_group: u16::from(!video),
            volume: FixedPoint::new(u8::from(!video), 0),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                timescale: description.timescale,
                language: "und".into(),
                ..Mdhd::default()
            },
            hdlr: Hdlr {
                handler: FourCC::new(if video { b"vide" } else { b"soun" }),
                name: if video { "video" } else { "audio" }.into(),
            },
            minf: Minf {
                vmhd: video.then(Vmhd::default),
                smhd: (!video).then(Smhd::default),
                stbl: Stbl {
                    stsd: Stsd { codecs: vec![description.entry] },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                // The media is in this very file.
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                ..Minf::default()
            },
        },
        ..Trak::default()
    }
}
