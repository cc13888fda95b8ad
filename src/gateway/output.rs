//! The processed stream in the hub: pictures from whichever orchestrator works, sound from the
//! source, one clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::StreamName;
use ingest::hub::{Hub, KeyRequests, PublishError, Publisher, Writer};
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Packet, Pts, TrackKind, Tracks};

use super::splice::{Returned, Splice};
use crate::hops::{Hop, Hops};

/// The processed stream of one source.
pub(crate) struct Output {
    hub: Hub,
    name: StreamName,
    id: String,
    hops: Arc<Hops>,
    splice: Splice,
    writer: Option<(Writer, KeyRequests)>,
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
    pictures: u64,
    last_source: Option<Pts>,
    last_picture: Option<Instant>,
}

impl Output {
    /// A stream that appears in the hub with its first picture. `id` names its session.
    pub(crate) fn new(hub: Hub, source: &StreamName, id: String, hops: Arc<Hops>) -> Self {
        Self {
            hub,
            name: source.out(),
            id,
            hops,
            splice: Splice::new(),
            writer: None,
            video: None,
            audio: None,
            pictures: 0,
            last_source: None,
            last_picture: None,
        }
    }

    /// The source's tracks, at its begin and after each change.
    pub(crate) fn source_tracks(&mut self, tracks: &Tracks) {
        self.audio.clone_from(&tracks.audio);
        self.announce();
    }

    /// A packet of the source.
    pub(crate) fn source_packet(&mut self, packet: Packet) {
        match packet.kind {
            TrackKind::Video => {
                self.last_source = Some(packet.pts);
                self.splice.sent(packet.pts, packet.arrived);
            }
            TrackKind::Audio => self.splice.sound(packet),
        }
    }

    /// What the following processed pictures are.
    pub(crate) fn track(&mut self, track: VideoTrack) {
        self.video = Some(track);
        self.announce();
    }

    /// A processed picture; true when viewers get it.
    ///
    /// # Errors
    /// When somebody else writes a stream of this name.
    pub(crate) fn picture(&mut self, packet: Packet) -> Result<bool, PublishError> {
        let now = Instant::now();
        let Returned::Write(delay) = self.splice.returned(&packet, now) else { return Ok(false) };
        if self.writer.is_none() {
            let publisher =
                Publisher { protocol: "pipeline", id: self.id.clone(), remote: String::new() };
            let writer = self.hub.publish(self.name.clone(), publisher, true)?;
            let wishes = writer.key_requests();
            self.writer = Some((writer, wishes));
            self.announce();
        }
        self.sound_due();
        let (pts, arrived) = (packet.pts, packet.arrived);
        if let Some((writer, _)) = &mut self.writer {
            writer.write(packet);
        }
        self.pictures += 1;
        self.last_picture = Some(now);
        let done = Instant::now();
        self.hops.note(Hop::Splice, pts, done, done.saturating_duration_since(arrived));
        self.hops.note(Hop::Road, pts, done, delay);
        Ok(true)
    }

    /// Writes the sound that is due.
    pub(crate) fn sound_due(&mut self) {
        let now = Instant::now();
        while let Some(packet) = self.splice.due_sound(now) {
            // Before the first picture there is no stream that sound could belong to.
            if let Some((writer, _)) = &mut self.writer {
                writer.write(packet);
            }
        }
    }

    /// When the next sound is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.splice.next_timeout()
    }

    /// Waits for a viewer's wish for a key frame.
    pub(crate) async fn key_wish(&mut self) {
        match &mut self.writer {
            Some((_, wishes)) => wishes.next().await,
            None => std::future::pending().await,
        }
    }

    /// Pictures go on at the next key picture beyond the last.
    pub(crate) fn wait_for_key(&mut self) {
        self.splice.swap();
    }

    /// The splice's counters and times.
    pub(crate) fn splice(&self) -> &Splice {
        &self.splice
    }

    /// Processed pictures written.
    pub(crate) fn pictures(&self) -> u64 {
        self.pictures
    }

    /// The newest frame of the source.
    pub(crate) fn last_source(&self) -> Option<Pts> {
        self.last_source
    }

    /// How long no processed picture has been written.
    pub(crate) fn silence(&self, since: Instant) -> Duration {
        self.last_picture.map_or(since, |last| last.max(since)).elapsed()
    }

    fn announce(&mut self) {
        if let (Some((writer, _)), Some(video)) = (&mut self.writer, &self.video) {
            let (video, audio) = (Some(video.clone()), self.audio.clone());
            writer.set_tracks(Tracks { video, audio });
        }
    }
}
