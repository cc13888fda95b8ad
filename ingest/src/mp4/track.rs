//! What a `moov` says of its tracks.

use bytes::Bytes;
use mp4_atom::{Atom as _, Codec as Entry, Moov, Trak};
use pipeline::aac::AudioSpecificConfig;
use pipeline::orientation::Turn;
use pipeline::packet::AudioTrack;
use pipeline::{Codec, TrackKind};

use super::{Mp4Error, ticks};

/// The tracks of a file that are carried.
#[derive(Debug)]
pub(crate) struct Movie {
    pub(crate) tracks: Vec<Track>,
    pub(super) moov: Moov,
}

/// One track.
#[derive(Debug)]
pub(crate) struct Track {
    pub(super) id: u32,
    /// Its place in the file's list.
    pub(super) index: usize,
    pub(crate) kind: TrackKind,
    pub(super) timescale: u32,
    /// Added to its times so that both tracks are on one line, in ticks (edit lists).
    pub(super) shift: i64,
    pub(crate) config: Config,
    /// How its pictures are turned to stand upright.
    pub(super) turn: Option<Turn>,
}

/// What decoders must know.
#[derive(Clone, Debug)]
pub(crate) enum Config {
    /// The codec and its record.
    Video(Codec, Vec<u8>),
    /// The track.
    Audio(AudioTrack),
}

impl Movie {
    /// Reads the body of a `moov` box.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Mp4Error> {
        let moov = Moov::decode_body(&mut &body[..])?;
        let mut tracks: Vec<Track> = Vec::new();
        let mut others = Vec::new();
        for (index, trak) in moov.trak.iter().enumerate() {
            let entry = trak.mdia.minf.stbl.stsd.codecs.first();
            let Some(config) = entry.and_then(config) else {
                others.push(trak.mdia.hdlr.handler.to_string());
                continue;
            };
            let kind = match config {
                Config::Video(..) => TrackKind::Video,
                Config::Audio(_) => TrackKind::Audio,
            };
            if tracks.iter().any(|track| track.kind == kind) {
                continue;
            }
            let timescale = trak.mdia.mdhd.timescale;
            if timescale == 0 {
                return Err(Mp4Error::Tables("a track's clock has no rate"));
            }
            let shift = shift(trak, timescale, moov.mvhd.timescale);
            let matrix = &trak.tkhd.matrix;
            let turn = Turn::of_matrix([matrix.a, matrix.b, matrix.c, matrix.d]);
            let id = trak.tkhd.track_id;
            tracks.push(Track { id, index, kind, timescale, shift, config, turn });
        }
        if tracks.is_empty() {
            return Err(Mp4Error::NoTrack(format!("it has {}", others.join(", "))));
        }
        Ok(Self { tracks, moov })
    }
}

/// What the edit list says of the track's beginning: an empty edit delays it, the first real one
/// names the media time that is shown first.
fn shift(trak: &Trak, timescale: u32, movie_timescale: u32) -> i64 {
    let list = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref());
    let mut delay = 0_i64;
    for edit in list.map(|list| &list.entries[..]).unwrap_or_default() {
        let clamped = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        match edit.media_time {
            None => {
                delay =
                    delay.saturating_add(ticks(clamped(edit.segment_duration), movie_timescale));
            }
            Some(first) => return delay.saturating_sub(ticks(clamped(first), timescale)),
        }
    }
    delay
}

fn config(entry: &Entry) -> Option<Config> {
    fn record<T: mp4_atom::Atom>(codec: Codec, of: &T) -> Option<Config> {
        let mut bytes = Vec::new();
        of.encode_body(&mut bytes).ok()?;
        Some(Config::Video(codec, bytes))
    }
    let audio = |codec, sample_rate, channels, config| {
        Some(Config::Audio(AudioTrack { codec, sample_rate, channels, config }))
    };
    match entry {
        Entry::Avc1(avc1) => record(Codec::H264, &avc1.avcc),
        Entry::Avc3(avc3) => record(Codec::H264, &avc3.avcc),
        Entry::Hvc1(hvc1) => record(Codec::Hevc, &hvc1.hvcc),
        Entry::Hev1(hev1) => record(Codec::Hevc, &hev1.hvcc),
        Entry::Av01(av01) => record(Codec::Av1, &av01.av1c),
        // A key frame says all that is needed.
        Entry::Vp09(_) => Some(Config::Video(Codec::Vp9, Vec::new())),
        Entry::Vp08(_) => Some(Config::Video(Codec::Vp8, Vec::new())),
        Entry::Mp4a(mp4a) => {
            let told = &mp4a.esds.es_desc.dec_config;
            match told.object_type_indication {
                // MPEG-1 and MPEG-2 audio (ISO/IEC 14496-1 table 5).
                0x69 | 0x6B => {
                    let channels = u8::try_from(mp4a.audio.channel_count).ok()?;
                    let rate = u32::from(mp4a.audio.sample_rate.integer());
                    audio(Codec::Mp3, rate, channels, Bytes::new())
                }
                0x40 | 0x66..=0x68 => {
                    let raw = &told.dec_specific.as_ref()?.raw;
                    let config = AudioSpecificConfig::parse(raw).ok()?;
                    let (rate, channels) = (config.output_rate(), config.output_channels());
                    audio(Codec::Aac, rate, channels, Bytes::copy_from_slice(raw))
                }
                _ => None,
            }
        }
        Entry::Opus(opus) if opus.dops.channel_mapping.is_none() => {
            let channels = opus.dops.output_channel_count.max(1);
            audio(Codec::Opus, pipeline::opus::SAMPLE_RATE, channels, Bytes::new())
        }
        _ => None,
    }
}
