//! A publisher's messages become the hub's packets: canonical form, times that grow, tracks known
//! before their packets.
//!
//! Packets wait here until it is clear which tracks the stream itself has: both, or one and the word
//! of the metadata, or one and no sign of the other for [`WAIT_MAX`] of media. The stream's own
//! tracks are those of number 0; further ones (multitrack of Enhanced RTMP v2) come out beside it,
//! those of numbers up to [`PICTURES_MAX`] and [`SOUNDS_MAX`].

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Packet, Pts, Ticks, TrackKind, Tracks};

use super::amf::Value;
use super::clock::Clock;
use super::flv::{self, MediaError, Parts};
use super::lane::{Came, Heard, Picture, Sound};

/// Further tracks of pictures: as many as a stream has renditions.
pub(crate) const PICTURES_MAX: u8 = crate::hub::RENDITIONS_MAX as u8;

/// Further tracks of sound.
pub(crate) const SOUNDS_MAX: u8 = crate::name::SOUNDS_MAX;

/// How much media is waited for a second track.
const WAIT_MAX: Ticks = Ticks::from_millis(500);

/// Pictures waited for a second track that nobody announced.
const WAIT_PICTURES: usize = 2;

/// Packets that wait at most, whatever their times say.
const WAIT_PACKETS: usize = 256;

/// What comes out.
#[derive(Debug)]
pub(crate) enum Output {
    /// What the following packets of the stream are.
    Tracks(Tracks),
    /// The next packet of the stream in decoding order of its track.
    Packet(Packet),
    /// What the following pictures of a further track are.
    Picture(u8, VideoTrack),
    /// What the following sound of a further track is.
    Sound(u8, AudioTrack),
    /// The next packet of a further track; it says of what kind.
    Further(u8, Packet),
}

/// The media of one publisher.
#[derive(Debug, Default)]
pub(crate) struct Publish {
    clock: Clock,
    picture: Picture,
    sound: Sound,
    /// Further tracks by number less one.
    pictures: Vec<Picture>,
    sounds: Vec<Sound>,
    start: Start,
    /// Messages of further tracks that could not be used.
    left_out: u64,
    /// Further tracks of which something was left out: bit n of the picture's, of the sound's.
    left_tracks: [[u64; 4]; 2],
    /// The newest of them, and why it was left out, until somebody asks.
    news: Option<LeftOut>,
}

/// A further track that is not carried, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Of the picture or of the sound.
    pub(crate) kind: TrackKind,
    /// Its number.
    pub(crate) number: u8,
    /// Why; `None` for more tracks than are taken.
    pub(crate) error: Option<MediaError>,
}

impl Publish {
    /// Takes a video message that came at `now`. Trouble of a further track is that track's alone
    /// ([`Self::take_left_out`]).
    ///
    /// # Errors
    /// [`MediaError`]; unless [`MediaError::can_pass`] says no, the next message may follow.
    pub(crate) fn video(
        &mut self,
        now: Instant,
        timestamp: u32,
        data: BytesMut,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        self.message(TrackKind::Video, Came { now, timestamp }, flv::video(data), out)
    }

    /// Takes an audio message that came at `now`.
    ///
    /// # Errors
    /// As [`Self::video`].
    pub(crate) fn audio(
        &mut self,
        now: Instant,
        timestamp: u32,
        data: BytesMut,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        self.message(TrackKind::Audio, Came { now, timestamp }, flv::audio(data), out)
    }

    fn message(
        &mut self,
        kind: TrackKind,
        came: Came,
        parts: Parts,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        let mut own = Ok(());
        for (number, tag) in parts {
            match (number, kind) {
                (0, _) => {
                    let taken = tag.and_then(|tag| match kind {
                        TrackKind::Video => self.own_picture(came, tag, out),
                        TrackKind::Audio => self.own_sound(came, tag, out),
                    });
                    own = own.and(taken);
                }
                _ => {
                    let taken = tag.map_err(Some).and_then(|tag| match kind {
                        TrackKind::Video => self.further_picture(number, came, tag, out),
                        TrackKind::Audio => self.further_sound(number, came, tag, out),
                    });
                    if let Err(error) = taken {
                        self.leave_out(LeftOut { kind, number, error });
                    }
                }
            }
        }
        own
    }

    fn own_picture(
        &mut self,
        came: Came,
        tag: flv::Tag,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        let (changed, packet) = self.picture.take(&mut self.clock, came, tag)?;
        if changed {
            self.start.tracks.video.clone_from(&self.picture.track);
            self.start.tracks_changed(out);
        }
        if let Some(packet) = packet {
            self.start.put(Output::Packet(packet), out);
        }
        Ok(())
    }

    fn own_sound(
        &mut self,
        came: Came,
        tag: flv::Tag,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        let Self { sound, clock, start, .. } = self;
        sound.take(clock, came, tag, &mut |sound, heard| match heard {
            Heard::Track => {
                start.tracks.audio.clone_from(&sound.track);
                start.tracks_changed(out);
            }
            Heard::Packet(packet) => start.put(Output::Packet(packet), out),
        })
    }

    fn further_picture(
        &mut self,
        number: u8,
        came: Came,
        tag: flv::Tag,
        out: &mut Vec<Output>,
    ) -> Result<(), Option<MediaError>> {
        let picture = lane(&mut self.pictures, number, PICTURES_MAX).ok_or(None)?;
        let (changed, packet) = picture.take(&mut self.clock, came, tag).map_err(Some)?;
        let track = picture.track.clone().filter(|_| changed);
        if let Some(track) = track {
            self.start.put(Output::Picture(number, track), out);
        }
        if let Some(packet) = packet {
            self.start.put(Output::Further(number, packet), out);
        }
        Ok(())
    }

    fn further_sound(
        &mut self,
        number: u8,
        came: Came,
        tag: flv::Tag,
        out: &mut Vec<Output>,
    ) -> Result<(), Option<MediaError>> {
        let Self { sounds, clock, start, .. } = self;
        let sound = lane(sounds, number, SOUNDS_MAX).ok_or(None)?;
        let taken = sound.take(clock, came, tag, &mut |sound, heard| match heard {
            Heard::Track => {
                if let Some(track) = sound.track.clone() {
                    start.put(Output::Sound(number, track), out);
                }
            }
            Heard::Packet(packet) => start.put(Output::Further(number, packet), out),
        });
        taken.map_err(Some)
    }

    /// Takes the values of a data message; anything but `onMetaData` is passed over.
    pub(crate) fn metadata(&mut self, values: &[Value], out: &mut Vec<Output>) {
        let named = |value: &Value| value.as_str() == Some("onMetaData");
        let Some(at) = values.iter().position(named) else { return };
        let Some(facts) = values.get(at + 1) else { return };
        let announced = (facts.get("videocodecid").is_some(), facts.get("audiocodecid").is_some());
        // A writer that names neither says nothing.
        if announced != (false, false) {
            self.start.announced = Some(announced);
            self.start.start_if_known(out);
        }
    }

    /// Nothing follows: what waits for a second track is given out without it.
    pub(crate) fn finish(&mut self, out: &mut Vec<Output>) {
        let begun = self.start.waiting.iter().any(|waiting| matches!(waiting, Output::Packet(_)));
        if begun && !self.start.started {
            self.start.begin(out);
        }
    }

    /// Jumps of the publisher's clock that were repaired.
    pub(crate) fn repaired(&self) -> u64 {
        self.clock.repaired
    }

    /// Messages of further tracks that could not be used.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// A further track of which something was left out for the first time since this was asked.
    pub(crate) fn take_left_out(&mut self) -> Option<LeftOut> {
        self.news.take()
    }

    fn leave_out(&mut self, left: LeftOut) {
        let bits = &mut self.left_tracks[usize::from(!left.kind.is_video())];
        let (word, bit) = (usize::from(left.number) / 64, 1 << (left.number % 64));
        if bits[word] & bit == 0 {
            bits[word] |= bit;
            self.news = Some(left);
        }
        self.left_out += 1;
    }
}

/// What waits until it is clear which tracks the stream has.
#[derive(Debug, Default)]
struct Start {
    tracks: Tracks,
    /// What the metadata says there will be: a picture, a sound.
    announced: Option<(bool, bool)>,
    started: bool,
    waiting: VecDeque<Output>,
}

impl Start {
    fn tracks_changed(&self, out: &mut Vec<Output>) {
        if self.started {
            out.push(Output::Tracks(self.tracks.clone()));
        }
    }

    fn put(&mut self, output: Output, out: &mut Vec<Output>) {
        if self.started {
            out.push(output);
            return;
        }
        // Further tracks without the stream's own make no stream.
        if !matches!(output, Output::Packet(_)) && self.waiting.len() >= WAIT_PACKETS {
            return;
        }
        self.waiting.push_back(output);
        self.start_if_known(out);
    }

    fn start_if_known(&mut self, out: &mut Vec<Output>) {
        if !self.started && self.known() {
            self.begin(out);
        }
    }

    fn begin(&mut self, out: &mut Vec<Output>) {
        self.started = true;
        out.push(Output::Tracks(self.tracks.clone()));
        out.extend(std::mem::take(&mut self.waiting));
    }

    /// Whether it is clear, or late enough to say, which tracks the stream has.
    fn known(&self) -> bool {
        let own = |output: &Output| match output {
            Output::Packet(packet) => Some((packet.kind, packet.dts)),
            _ => None,
        };
        let packets = || self.waiting.iter().filter_map(own);
        let times = || packets().map(|(_, dts)| dts);
        let Some(first) = times().min() else { return false };
        let have = (self.tracks.video.is_some(), self.tracks.audio.is_some());
        if have == (true, true) || self.announced == Some(have) {
            return true;
        }
        let span = times().max().unwrap_or(Pts(0)) - first;
        let pictures = || packets().filter(|(kind, _)| kind.is_video()).count();
        span >= WAIT_MAX
            || self.waiting.len() >= WAIT_PACKETS
            || (self.announced.is_none() && pictures() >= WAIT_PICTURES)
    }
}

/// The lane of a further track, begun if it is new; `None` beyond the limit.
fn lane<T: Default>(lanes: &mut Vec<T>, number: u8, max: u8) -> Option<&mut T> {
    let place = usize::from(number.checked_sub(1)?);
    if number > max {
        return None;
    }
    if lanes.len() <= place {
        lanes.resize_with(place + 1, T::default);
    }
    lanes.get_mut(place)
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
