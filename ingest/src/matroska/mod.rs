//! Matroska and WebM of other people into packets (RFC 9559). Frames are copied as they are, never
//! re-encoded.
//!
//! Elements are taken one after the other, as they lie: nothing is looked up in an index, so files
//! that were cut off, or written without knowing their end (as browsers record), are read as far
//! as they go. One picture and one sound track are taken, the first of each that can be carried.
//! What the file says is believed within the limits here.

mod block;
pub(crate) mod ebml;
pub(crate) mod fuzz;
mod track;

use std::time::Instant;

use pipeline::video::Description;
use pipeline::{Packet, TrackKind, Tracks};

use crate::mp4::{Mp4Error, Packets, Sample};
use crate::rtsp::decode_times::DecodeTimes;
use block::Block;
use ebml::{Head, children, text, unsigned};
use track::Track;

/// Bytes of the tracks' descriptions, at most.
const TRACKS_BYTES_MAX: u64 = 4 << 20;

/// Bytes of other descriptions that are read, at most.
const INFO_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a block, at most.
const BLOCK_BYTES_MAX: u64 = 16 << 20;

/// Nanoseconds of the unit of times where nothing is said: a millisecond.
const SCALE: u64 = 1_000_000;

/// Times beyond these ticks of 90 kHz, a century, are no times.
const TICKS_MAX: i64 = 100 * 366 * 86_400 * 90_000;

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const CLUSTER: u32 = 0x1F43_B675;
const TIMESTAMP: u32 = 0xE7;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatroskaError {
    /// It is EBML of something else.
    #[error("it is of type {0:?}, neither matroska nor webm")]
    Type(String),
    /// There is nothing in it that can be carried.
    #[error("no track of it can be carried: {0}")]
    NoTrack(String),
    /// Blocks come before it is said of what.
    #[error("its tracks are not described before its first block")]
    NoTracks,
    /// Larger than the limits, or without an end where one must be.
    #[error("element {id:#X} of {bytes} bytes is more than the limit of {limit}")]
    TooLarge {
        /// The element.
        id: u32,
        /// Its size.
        bytes: u64,
        /// The most that is allowed.
        limit: u64,
    },
}

/// What is to be done with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// What is in it comes next.
    Inside,
    /// Its body, which is to be given to [`Demuxer::body`].
    Body(usize),
    /// It is passed over.
    Skip(u64),
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Output {
    /// What the following packets are.
    Tracks(Tracks),
    /// The next packet in decoding order.
    Packet(Packet),
}

/// Takes a file apart.
#[derive(Default)]
pub(crate) struct Demuxer {
    scale: Option<u64>,
    tracks: Vec<Track>,
    packets: Option<Packets>,
    times: DecodeTimes,
    cluster: u64,
    /// Blocks that could not be used.
    broken: u64,
}

impl Demuxer {
    /// What is to be done with an element.
    ///
    /// # Errors
    /// [`MatroskaError::TooLarge`].
    pub(crate) fn element(&self, head: &Head) -> Result<Wants, MatroskaError> {
        let limit = match head.id {
            SEGMENT | CLUSTER => return Ok(Wants::Inside),
            TRACKS => TRACKS_BYTES_MAX,
            SIMPLE_BLOCK | BLOCK_GROUP => BLOCK_BYTES_MAX,
            EBML | INFO | TIMESTAMP => INFO_BYTES_MAX,
            _ => u64::MAX - 1,
        };
        let id = head.id;
        match head.size {
            Some(bytes) if bytes > limit => Err(MatroskaError::TooLarge { id, bytes, limit }),
            None => Err(MatroskaError::TooLarge { id, bytes: u64::MAX, limit }),
            Some(bytes) if limit < u64::MAX - 1 => Ok(Wants::Body(bytes as usize)),
            Some(bytes) => Ok(Wants::Skip(bytes)),
        }
    }

    /// Takes the body of an element that [`Self::element`] wanted.
    ///
    /// # Errors
    /// [`MatroskaError`].
    pub(crate) fn body(
        &mut self,
        id: u32,
        body: &[u8],
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), MatroskaError> {
        match id {
            EBML => {
                let told = children(body).find(|(id, _)| *id == 0x4282);
                let told = told.and_then(|(_, body)| text(body)).unwrap_or("matroska");
                if !matches!(told, "matroska" | "webm") {
                    return Err(MatroskaError::Type(told.chars().take(32).collect()));
                }
            }
            INFO => {
                let scale = children(body).find(|(id, _)| *id == 0x2A_D7B1);
                self.scale = scale.and_then(|(_, body)| unsigned(body)).filter(|scale| *scale > 0);
            }
            // Repeated in files that were written for streaming.
            TRACKS if self.packets.is_none() => self.tracks(body)?,
            TIMESTAMP => self.cluster = unsigned(body).unwrap_or(self.cluster),
            SIMPLE_BLOCK => self.block(body, now, out)?,
            BLOCK_GROUP => {
                for (_, body) in children(body).filter(|(id, _)| *id == BLOCK) {
                    self.block(body, now, out)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Blocks and pictures that could not be used since this was asked last.
    pub(crate) fn take_broken(&mut self) -> u64 {
        let pictures = self.packets.as_mut().map(|packets| std::mem::take(&mut packets.broken));
        std::mem::take(&mut self.broken) + pictures.unwrap_or(0)
    }

    fn tracks(&mut self, body: &[u8]) -> Result<(), MatroskaError> {
        let mut others = Vec::new();
        for (_, entry) in children(body).filter(|(id, _)| *id == 0xAE) {
            match Track::parse(entry) {
                Ok(track) if self.tracks.iter().any(|t| t.is_video() == track.is_video()) => {}
                Ok(track) => self.tracks.push(track),
                Err(name) => others.push(name.chars().take(64).collect::<String>()),
            }
        }
        if self.tracks.is_empty() {
            return Err(MatroskaError::NoTrack(others.join(", ")));
        }
        let packets = Packets::of(self.tracks.iter().map(|track| &track.config));
        let packets = packets.map_err(|error| match error {
            Mp4Error::NoTrack(why) => MatroskaError::NoTrack(why),
            error => MatroskaError::NoTrack(error.to_string()),
        })?;
        let depth = packets.video_track().and_then(|track| Description::of(&track).ok());
        self.times.set_depth(depth.and_then(|told| told.reorder_frames).unwrap_or(0));
        self.packets = Some(packets);
        Ok(())
    }

    fn block(
        &mut self,
        body: &[u8],
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), MatroskaError> {
        let Some(packets) = &mut self.packets else { return Err(MatroskaError::NoTracks) };
        let Some(block) = Block::parse(body) else {
            self.broken += 1;
            return Ok(());
        };
        let Some(track) = self.tracks.iter().find(|track| track.number == block.track) else {
            return Ok(());
        };
        let units = i128::from(self.cluster) + i128::from(block.time);
        let nanoseconds = units.checked_mul(i128::from(self.scale.unwrap_or(SCALE)));
        let time = nanoseconds.and_then(|time| i64::try_from(time.checked_mul(9)? / 100_000).ok());
        let Some(mut time) = time.filter(|time| time.abs() < TICKS_MAX) else {
            self.broken += 1;
            return Ok(());
        };
        for frame in block.frames {
            let data = track.whole(frame);
            let lasts = track.ticks(&data);
            let (kind, (pts, dts)) = match track.is_video() {
                true => (TrackKind::Video, self.times.push(time)),
                false => (TrackKind::Audio, (time, time)),
            };
            let sample = Sample { kind, at: 0, size: data.len() as u32, dts, pts };
            let (tracks, packet) = packets.packet(&sample, data, now);
            out.extend(tracks.map(Output::Tracks));
            out.extend(packet.map(Output::Packet));
            time = time.saturating_add(lasts);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
