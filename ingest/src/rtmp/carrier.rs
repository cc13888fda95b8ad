//! A publisher's tracks on their way into the hub: the stream itself, and beside it what multitrack
//! brings.
//!
//! A further track of pictures becomes a rendition of the stream, as a layer of simulcast does, with
//! the stream's sound. A further sound becomes a stream with the same pictures and that sound
//! ([`StreamName::of_sound`]), which readers ask for by its name.

use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Packet, TrackKind, Tracks};
use tracing::{info, warn};

use super::publish::{LeftOut, Output, PICTURES_MAX, SOUNDS_MAX};
use crate::hub::{Hub, Publisher, Writer};
use crate::name::StreamName;

/// Writes what [`super::publish::Publish`] hands out.
pub(super) struct Carrier {
    hub: Hub,
    publisher: Publisher,
    /// The stream itself.
    writer: Writer,
    tracks: Tracks,
    /// By number less one.
    pictures: [Option<Beside<VideoTrack>>; PICTURES_MAX as usize],
    sounds: [Option<Beside<AudioTrack>>; SOUNDS_MAX as usize],
}

/// A stream with one further track in place of the publisher's own of that kind.
struct Beside<T> {
    writer: Writer,
    track: T,
}

impl Carrier {
    /// Beside the stream that `writer` writes.
    pub(super) fn new(hub: Hub, writer: Writer) -> Self {
        let publisher = writer.publisher().clone();
        let (pictures, sounds) = Default::default();
        Self { hub, publisher, writer, tracks: Tracks::default(), pictures, sounds }
    }

    /// The writer of the stream itself.
    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Writes one thing.
    pub(super) fn put(&mut self, output: Output) {
        match output {
            Output::Tracks(tracks) => {
                self.writer.set_tracks(tracks.clone());
                self.tracks = tracks;
                self.pictures.iter_mut().flatten().for_each(|of| of.set_tracks(&self.tracks));
                self.sounds.iter_mut().flatten().for_each(|of| of.set_tracks(&self.tracks));
            }
            Output::Packet(packet) => {
                self.copy(&packet);
                self.writer.write(packet);
            }
            Output::Picture(number, track) => self.picture(number, track),
            Output::Sound(number, track) => self.sound(number, track),
            Output::Further(number, packet) => {
                let place = usize::from(number) - 1;
                let writer = match packet.kind {
                    TrackKind::Video => self.pictures[place].as_mut().map(|of| &mut of.writer),
                    TrackKind::Audio => self.sounds[place].as_mut().map(|of| &mut of.writer),
                };
                if let Some(writer) = writer {
                    writer.write(packet);
                }
            }
        }
    }

    /// A packet of the stream goes where it is the other track's company.
    fn copy(&mut self, packet: &Packet) {
        match packet.kind {
            TrackKind::Video => {
                self.sounds.iter_mut().flatten().for_each(|of| of.writer.write(packet.clone()));
            }
            TrackKind::Audio => {
                self.pictures.iter_mut().flatten().for_each(|of| of.writer.write(packet.clone()));
            }
        }
    }

    fn picture(&mut self, number: u8, track: VideoTrack) {
        let place = usize::from(number) - 1;
        if let Some(of) = &mut self.pictures[place] {
            of.track = track;
            of.set_tracks(&self.tracks);
            return;
        }
        let (codec, size) = (track.codec, track.size);
        info!(number, %codec, ?size, "RTMP publisher has a further picture");
        let name = self.writer.name().of_rendition(&number.to_string());
        let Some(writer) = self.open(name) else { return };
        self.pictures[place].insert(Beside { writer, track }).set_tracks(&self.tracks);
        let names = self.pictures.iter().flatten().map(|of| of.writer.name().clone());
        self.writer.set_renditions(names.collect::<Vec<_>>());
    }

    fn sound(&mut self, number: u8, track: AudioTrack) {
        let place = usize::from(number) - 1;
        if let Some(of) = &mut self.sounds[place] {
            of.track = track;
            of.set_tracks(&self.tracks);
            return;
        }
        let (codec, name) = (track.codec, self.writer.name().of_sound(number));
        info!(number, %codec, %name, "RTMP publisher has a further sound");
        let Some(writer) = self.open(name) else { return };
        self.sounds[place].insert(Beside { writer, track }).set_tracks(&self.tracks);
    }

    /// A stream beside the publisher's own. Its name belongs to whoever has that one.
    fn open(&self, name: StreamName) -> Option<Writer> {
        if self.writer.is_closed() {
            return None;
        }
        match self.hub.publish(name, self.publisher.clone(), true) {
            Ok(writer) => Some(writer),
            Err(error) => {
                warn!(%error, "RTMP publisher's further track is left out");
                None
            }
        }
    }
}

impl Beside<VideoTrack> {
    fn set_tracks(&mut self, stream: &Tracks) {
        let video = Some(self.track.clone());
        self.writer.set_tracks(Tracks { video, audio: stream.audio.clone() });
    }
}

impl Beside<AudioTrack> {
    fn set_tracks(&mut self, stream: &Tracks) {
        let audio = Some(self.track.clone());
        self.writer.set_tracks(Tracks { video: stream.video.clone(), audio });
    }
}

/// Says that a further track is left out, or something of it.
pub(super) fn tell(left: &LeftOut) {
    let (number, kind) = (left.number, if left.kind.is_video() { "picture" } else { "sound" });
    match &left.error {
        Some(error) => {
            warn!(number, kind, %error, "something of an RTMP publisher's further track is left out")
        }
        None => warn!(
            number,
            kind,
            pictures_max = PICTURES_MAX,
            sounds_max = SOUNDS_MAX,
            "RTMP publisher's further track is left out: its number is too high"
        ),
    }
}
