//! The pictures of a publisher, of which simulcast sends several renditions: each is put in order,
//! joined and named on the common clock by itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Packet, Pts, TrackKind, Tracks, video};

use super::answer::{Medium, Simulcast};
use super::line::{Kept, Line};
use crate::hub::Writer;
use crate::rtp::key_wish::KeyWish;
use crate::rtp::packet::{ExtSeq, RtpPacket};
use crate::rtp::payload::PictureDepacketiser;
use crate::rtp::source_clock::SourceClock;

/// A rendition without a picture for so long is not sent any more: encoders stop the larger ones when
/// the way or the processor is too narrow for them.
const ALIVE: Duration = Duration::from_secs(2);

/// One rendition of the pictures.
pub(crate) struct Video {
    pub(crate) line: Line,
    pub(crate) wish: KeyWish,
    pub(crate) clock: SourceClock,
    pub(crate) track: Option<VideoTrack>,
    depacketiser: PictureDepacketiser,
    assembler: video::Assembler,
    /// Where it is written beside the stream, if there are several, with the stream's sound.
    own: Option<Writer>,
    sound: Option<AudioTrack>,
    newest: Option<Instant>,
}

impl Video {
    /// A rendition of which nothing has come; `None` where the codec has no pictures.
    pub(crate) fn new(medium: &Medium, own: Option<Writer>, sound_rate: u32) -> Option<Self> {
        Some(Self {
            line: Line::new(medium),
            wish: KeyWish::default(),
            clock: SourceClock::new(sound_rate),
            track: None,
            depacketiser: PictureDepacketiser::new(medium.codec)?,
            assembler: video::Assembler::new(medium.codec)?,
            own,
            sound: None,
            newest: None,
        })
    }

    /// Takes the next packet in order and appends the pictures that it completes to `out`.
    pub(crate) fn push(&mut self, now: Instant, seq: ExtSeq, kept: Kept, out: &mut Vec<Packet>) {
        let Kept { time, marker, payload, arrived } = kept;
        if let Err(error) = self.depacketiser.push(seq, time, marker, &payload, arrived) {
            tracing::debug!(%error, "rtp payload refused");
        }
        if self.depacketiser.awaits_key() {
            self.wish.want();
        }
        while let Some(raw) = self.depacketiser.poll() {
            let unit = match self.assembler.unit(raw.data) {
                Ok(Some(unit)) => unit,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, "picture refused");
                    self.wish.want();
                    continue;
                }
            };
            if unit.key {
                self.wish.answered();
            }
            if unit.changed || (unit.key && self.track.is_none()) {
                self.track = self.assembler.track();
                self.tell_tracks();
            }
            if self.track.is_none() {
                continue;
            }
            self.newest = Some(now);
            let pts = self.clock.pts(TrackKind::Video, raw.time, raw.arrived);
            let packet = picture(pts, unit.key, unit.data, raw.arrived);
            if let Some(own) = &mut self.own {
                own.write(packet.clone());
            }
            out.push(packet);
        }
    }

    /// Takes the sound of the stream, which the first pictures do not wait for.
    pub(crate) fn sound(&mut self, track: Option<&AudioTrack>, packet: &Packet) {
        if self.own.is_none() || self.track.is_none() {
            return;
        }
        if self.sound.as_ref() != track {
            self.sound = track.cloned();
            self.tell_tracks();
        }
        if let Some(own) = &mut self.own {
            own.write(packet.clone());
        }
    }

    fn tell_tracks(&mut self) {
        if let Some(own) = &mut self.own {
            own.set_tracks(Tracks { video: self.track.clone(), audio: self.sound.clone() });
        }
    }

    /// Pixels of its pictures while they come.
    fn pixels(&self, now: Instant) -> Option<u64> {
        let newest = self.newest?;
        let alive = now.saturating_duration_since(newest) < ALIVE;
        self.track.as_ref().filter(|_| alive).map(|track| track.size.pixels())
    }
}

fn picture(pts: Pts, key: bool, data: Bytes, arrived: Instant) -> Packet {
    Packet { kind: TrackKind::Video, pts, dts: pts, key, data, arrived }
}

/// The rendition that a packet belongs to: by its source, or by the name that the first packets of a
/// source carry.
pub(crate) fn of_packet(
    videos: &mut [Video],
    simulcast: &Simulcast,
    head: &RtpPacket<'_>,
) -> Option<usize> {
    let ours =
        |video: &Video| video.line.ssrc == Some(head.ssrc) || video.line.repair == Some(head.ssrc);
    if let Some(known) = videos.iter().position(ours) {
        return Some(known);
    }
    let named = |id: Option<u8>| {
        let name = head.extension(id?)?;
        simulcast.rids.iter().position(|rid| rid.as_bytes() == name)
    };
    let media = named(Some(simulcast.rid));
    let repaired = if media.is_none() { named(simulcast.repaired) } else { None };
    if let Some(video) = repaired.and_then(|index| videos.get_mut(index)) {
        video.line.repair = Some(head.ssrc);
    }
    media.or(repaired).filter(|&index| index < videos.len())
}

/// The largest rendition of which pictures come.
pub(crate) fn largest(videos: &[Video], now: Instant) -> Option<usize> {
    let alive = videos.iter().enumerate().filter_map(|(n, video)| Some((video.pixels(now)?, n)));
    // Of equal ones the first.
    alive.max_by_key(|&(pixels, n)| (pixels, std::cmp::Reverse(n))).map(|(_, n)| n)
}
