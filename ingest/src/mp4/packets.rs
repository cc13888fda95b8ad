//! Samples into packets in the node's own form.

use std::time::Instant;

use bytes::BytesMut;
use pipeline::orientation::{self, Turn};
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::video::Assembler;
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks};

use super::track::Config;
use super::{Movie, Mp4Error, Sample};

/// Makes packets of one movie's samples.
pub(crate) struct Packets {
    video: Option<Assembler>,
    /// What key pictures are told to say, where the file says it of the whole track.
    turn: Option<(Codec, Turn)>,
    audio: Option<AudioTrack>,
    told: Option<Tracks>,
    seen_key: bool,
    /// Samples that could not be used.
    pub(crate) broken: u64,
}

impl Packets {
    /// For the tracks of a movie.
    pub(crate) fn new(movie: &Movie) -> Result<Self, Mp4Error> {
        let mut packets = Self::of(movie.tracks.iter().map(|track| &track.config))?;
        packets.turn = movie.tracks.iter().find_map(|track| match track.config {
            Config::Video(codec, _) => track.turn.map(|turn| (codec, turn)),
            Config::Audio(_) => None,
        });
        Ok(packets)
    }

    /// For these tracks, one of each kind at most.
    pub(crate) fn of<'a>(configs: impl Iterator<Item = &'a Config>) -> Result<Self, Mp4Error> {
        let mut packets =
            Self { video: None, turn: None, audio: None, told: None, seen_key: false, broken: 0 };
        for config in configs {
            match config {
                Config::Audio(track) => packets.audio = Some(track.clone()),
                Config::Video(codec, record) => {
                    let mut assembler = Assembler::new(*codec)
                        .ok_or_else(|| Mp4Error::NoTrack(codec.to_string()))?;
                    if !record.is_empty() {
                        let configured = assembler.configure(record);
                        configured.map_err(|error| Mp4Error::NoTrack(error.to_string()))?;
                    }
                    packets.video = Some(assembler);
                }
            }
        }
        Ok(packets)
    }

    /// What the pictures are, as far as the file's head says.
    pub(crate) fn video_track(&self) -> Option<VideoTrack> {
        self.video.as_ref().and_then(Assembler::track)
    }

    /// The packet of a sample, and the tracks when they are others than before. Pictures before
    /// the first key picture are left out.
    pub(crate) fn packet(
        &mut self,
        sample: &Sample,
        data: BytesMut,
        now: Instant,
    ) -> (Option<Tracks>, Option<Packet>) {
        let (kind, pts, dts, arrived) = (sample.kind, Pts(sample.pts), Pts(sample.dts), now);
        let packet = match kind {
            TrackKind::Audio => {
                let data = data.freeze();
                (!data.is_empty()).then_some(Packet { kind, pts, dts, key: true, data, arrived })
            }
            TrackKind::Video => {
                let Some(assembler) = &mut self.video else { return (None, None) };
                match assembler.sample(data) {
                    Ok(Some(unit)) if unit.key || self.seen_key => {
                        self.seen_key = true;
                        let key = unit.key;
                        // What was recorded here says it in the picture, too.
                        let told = self.turn.filter(|_| key).and_then(|(codec, turn)| {
                            let says = orientation::turn_of(codec, &unit.data) == Some(turn);
                            (!says).then(|| orientation::with_turn(codec, &unit.data, turn))?
                        });
                        let data = told.unwrap_or(unit.data);
                        Some(Packet { kind, pts, dts, key, data, arrived })
                    }
                    Ok(_) => None,
                    Err(_) => {
                        self.broken += 1;
                        None
                    }
                }
            }
        };
        let due = packet.as_ref().is_some_and(|packet| packet.key && kind.is_video());
        if !due && self.told.is_some() {
            return (None, packet);
        }
        let video = self.video.as_ref().and_then(Assembler::track);
        // Sound of before the first picture waits for nobody: it tells what there will be.
        let tracks = Tracks { video, audio: self.audio.clone() };
        let changed = self.told.as_ref() != Some(&tracks) && packet.is_some();
        if changed {
            self.told = Some(tracks.clone());
        }
        (changed.then_some(tracks), packet)
    }
}
