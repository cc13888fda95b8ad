//! Where the receiving half of a session writes: into the hub, once the stream is its own.

use std::time::Duration;

use pipeline::{Packet, Tracks};

use crate::hub::Writer;

/// How long the first pictures wait for the first sound, or the other way round.
const BOTH_WITHIN: Duration = Duration::from_millis(500);

/// Packets that wait so, at most.
const HELD_MAX: usize = 512;

/// A stream that is written, or is going to be.
#[derive(Default)]
pub(crate) struct Outlet {
    /// `None` until the stream is claimed: what comes before is not kept.
    writer: Option<Writer>,
    /// `None` once readers were told what the stream has.
    held: Option<Held>,
    /// Coded pictures and frames of sound of the stream.
    pub(crate) written: u64,
}

/// The beginning of a stream that is to have picture and sound.
#[derive(Default)]
struct Held {
    tracks: Tracks,
    packets: Vec<Packet>,
}

impl Outlet {
    /// A stream that was claimed.
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer: Some(writer), held: None, written: 0 }
    }

    /// The same for one that is going to have picture and sound: who waits for it hears of both at
    /// once, and so gets it in a form that has both.
    pub(crate) fn of_both(writer: Writer) -> Self {
        Self { held: Some(Held::default()), ..Self::new(writer) }
    }

    /// Tells readers what the stream has.
    pub(crate) fn describe(&mut self, tracks: &Tracks) {
        match (&mut self.held, &mut self.writer) {
            (Some(held), _) => {
                held.tracks = tracks.clone();
                if tracks.video.is_some() && tracks.audio.is_some() {
                    self.release();
                }
            }
            (None, Some(writer)) => writer.set_tracks(tracks.clone()),
            (None, None) => {}
        }
    }

    /// Gives readers a picture or a frame of sound.
    pub(crate) fn write(&mut self, packet: Packet) {
        let Some(writer) = &mut self.writer else { return };
        self.written += 1;
        let Some(held) = &mut self.held else { return writer.write(packet) };
        let first = held.packets.first().map_or(packet.arrived, |first| first.arrived);
        let waited = packet.arrived.saturating_duration_since(first);
        held.packets.push(packet);
        if waited >= BOTH_WITHIN || held.packets.len() >= HELD_MAX {
            self.release();
        }
    }

    /// Readers get what was held.
    fn release(&mut self) {
        let (Some(held), Some(writer)) = (self.held.take(), &mut self.writer) else { return };
        writer.set_tracks(held.tracks);
        held.packets.into_iter().for_each(|packet| writer.write(packet));
    }

    /// Whether the stream was taken over, or its writer told to leave.
    pub(crate) fn is_closed(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::is_closed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use pipeline::packet::{AudioTrack, VideoTrack};
    use pipeline::{Codec, Pts, Size, TrackKind};

    use super::*;
    use crate::hub::{Hub, Item, Limits, Publisher, Start};
    use crate::name::StreamName;

    fn packet(kind: TrackKind, arrived: Instant) -> Packet {
        let data = Bytes::from_static(&[0, 0, 0, 1, 0x65, 1]);
        Packet { kind, pts: Pts(0), dts: Pts(0), key: true, data, arrived }
    }

    fn tracks(sound: bool) -> Tracks {
        let (codec, config) = (Codec::Opus, Bytes::new());
        let audio = AudioTrack { codec, sample_rate: 48_000, channels: 2, config };
        let (size, parameter_sets) = (Size::new(640, 360), Bytes::new());
        let video = VideoTrack { codec: Codec::Vp8, size, parameter_sets };
        Tracks { video: Some(video), audio: sound.then_some(audio) }
    }

    #[test]
    fn the_first_that_readers_hear_is_of_both_unless_one_never_comes() {
        for comes in [true, false] {
            let hub = Hub::new(Limits::default());
            let name = StreamName::parse("cam").unwrap();
            let publisher =
                Publisher { protocol: "test", id: String::new(), remote: String::new() };
            let writer = hub.publish(name.clone(), publisher, false).unwrap();
            let mut reader = hub.subscribe(&name, Start::Live).unwrap();
            let mut outlet = Outlet::of_both(writer);
            let began = Instant::now();
            outlet.describe(&tracks(false));
            outlet.write(packet(TrackKind::Video, began));
            assert!(reader.try_next().is_none(), "told too early");
            if comes {
                outlet.describe(&tracks(true));
                outlet.write(packet(TrackKind::Audio, began));
            } else {
                outlet.write(packet(TrackKind::Video, began + BOTH_WITHIN));
            }
            let told = reader.try_next();
            assert!(matches!(told, Some(Item::Tracks(told)) if *told == tracks(comes)));
            for _ in 0..2 {
                assert!(matches!(reader.try_next(), Some(Item::Packet(_))));
            }
            assert!(reader.try_next().is_none() && outlet.written == 2);
        }
    }

    #[test]
    fn before_the_stream_is_claimed_nothing_is_kept() {
        let mut outlet = Outlet::default();
        outlet.describe(&tracks(true));
        outlet.write(packet(TrackKind::Video, Instant::now()));
        assert!(outlet.written == 0 && !outlet.is_closed());
    }
}
