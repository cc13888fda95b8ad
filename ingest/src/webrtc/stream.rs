//! One stream as its WebRTC viewers get it: packetised once, kept once for retransmission and for
//! those who join, whatever their number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pipeline::packet::VideoTrack;
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks};
use tokio::sync::{mpsc, watch};

use super::mux::Key;
use super::renditions::{self, Renditions};
use super::results;
use super::worker::Event;
use crate::hub::{Hub, Item, Reader};
use crate::name::StreamName;
use crate::rtp::frame::FramePackets;
use crate::rtp::payload::{PAYLOAD_BYTES_DEFAULT, Packetiser};
use crate::rtp::ring::{Ring, RingLimits};
use crate::views::{Takes, ViewError, Views};

/// How often a stream whose publisher went is looked for again.
const REJOIN_EVERY: Duration = Duration::from_millis(200);

/// By so many viewers the order in which they get a frame turns from one frame to the next: a
/// prime, so that it comes round to everybody.
const TURN_STEP: usize = 127;

/// What is kept of a stream.
pub(crate) struct Stream {
    /// The name that viewers asked for.
    pub(crate) name: StreamName,
    /// The name under which packets are written, which may be a form derived for viewers.
    source: StreamName,
    hub: Hub,
    tracks: Arc<Tracks>,
    pictures: Option<Packetiser>,
    sounds: Option<Packetiser>,
    video: Ring,
    audio: Ring,
    /// Smaller renditions of the same pictures.
    renditions: Renditions,
    pub(crate) viewers: Vec<Key>,
    /// Tells the feed how many they are.
    audience: watch::Sender<u64>,
    feed: Option<tokio::task::AbortHandle>,
    complained: bool,
    turn: usize,
}

impl Stream {
    /// A stream that `feed` brings the packets of `source` to, if not whoever made it.
    pub(crate) fn new(
        name: StreamName,
        source: StreamName,
        hub: Hub,
        audience: watch::Sender<u64>,
        feed: Option<tokio::task::AbortHandle>,
    ) -> Self {
        Self {
            name,
            source,
            hub,
            tracks: Arc::default(),
            pictures: None,
            sounds: None,
            video: Ring::new(RingLimits::default()),
            audio: sound_ring(),
            renditions: Renditions::new(),
            viewers: Vec::new(),
            audience,
            feed,
            complained: false,
            turn: 0,
        }
    }

    /// Takes the next packet; `None` for what WebRTC viewers cannot play or the packetiser
    /// refuses. A refused picture is asked for anew as a key picture.
    pub(crate) fn packet(&mut self, now: Instant, packet: &Packet) -> Option<Arc<FramePackets>> {
        let packetiser = match packet.kind {
            TrackKind::Video => self.pictures.as_ref()?,
            TrackKind::Audio => self.sounds.as_ref()?,
        };
        if packet.kind.is_video() {
            self.renditions.main(now, packet.data.len(), self.tracks.video.as_ref());
        }
        match packetiser.packetise(packet) {
            Ok(mut frame) => {
                self.complained = false;
                if packet.kind.is_video() && self.codec(TrackKind::Video) == Some(Codec::H264) {
                    frame.results = results::of_picture(&packet.data);
                }
                let ring = match packet.kind {
                    TrackKind::Video => &mut self.video,
                    TrackKind::Audio => &mut self.audio,
                };
                Some(ring.push(frame))
            }
            Err(error) => {
                if !self.complained {
                    self.complained = true;
                    tracing::warn!(stream = %self.name, pts = %packet.pts, %error, "not packetised");
                }
                if packet.kind == TrackKind::Video {
                    self.request_key_frame();
                }
                None
            }
        }
    }

    /// The stream has these smaller renditions from now on; `number` is its own in the worker.
    pub(crate) fn set_renditions(
        &mut self,
        number: u64,
        names: &[StreamName],
        events: &mpsc::Sender<Event>,
    ) {
        self.renditions.set(number, names, &self.hub, events);
    }

    /// The next item of a smaller rendition; the frame that viewers on narrow ways get.
    pub(crate) fn rendition(
        &mut self,
        now: Instant,
        place: usize,
        item: &Item,
    ) -> Option<Arc<FramePackets>> {
        match item {
            Item::Tracks(tracks) => {
                self.renditions.set_track(place, tracks.video.clone());
                None
            }
            Item::Packet(packet) => {
                self.renditions.packet(now, place, packet, self.tracks.video.as_ref())
            }
            Item::Lagged(_) | Item::End => None,
        }
    }

    /// Bits a second of the renditions that are to be had, the stream itself first.
    pub(crate) fn offers(&self) -> &[Option<u64>] {
        self.renditions.offers()
    }

    /// The place of the rendition that the publisher calls `rid`; the largest is the stream itself.
    pub(crate) fn place(&self, rid: &str) -> Option<usize> {
        self.renditions.place(rid, self.tracks.video.as_ref())
    }

    /// The name by which viewers know a rendition, and what it is.
    pub(crate) fn described(&self, place: usize) -> (Option<&str>, Option<&VideoTrack>) {
        match self.renditions.get(place) {
            Some((name, track)) => (name.rendition(), track),
            None => (None, self.tracks.video.as_ref()),
        }
    }

    /// Adds a viewer.
    pub(crate) fn join(&mut self, key: Key) {
        self.viewers.push(key);
        self.audience.send_replace(self.viewers.len() as u64);
    }

    /// A viewer leaves.
    pub(crate) fn leave(&mut self, key: Key) {
        self.viewers.retain(|viewer| *viewer != key);
        self.audience.send_replace(self.viewers.len() as u64);
    }

    /// Where among the viewers the next frame begins.
    pub(crate) fn turn(&mut self) -> usize {
        self.turn = self.turn.wrapping_add(TURN_STEP);
        self.turn % self.viewers.len().max(1)
    }

    /// What the following packets are. Frames of another coding are forgotten.
    pub(crate) fn set_tracks(&mut self, tracks: Arc<Tracks>) {
        let before = [TrackKind::Video, TrackKind::Audio].map(|kind| self.codec(kind));
        self.tracks = tracks;
        let bytes = PAYLOAD_BYTES_DEFAULT;
        self.pictures = self.codec(TrackKind::Video).map(|codec| Packetiser::new(codec, bytes));
        self.sounds = self.tracks.audio.as_ref().map(|track| Packetiser::sound(track, bytes));
        if before[0] != self.codec(TrackKind::Video) {
            self.video = Ring::new(RingLimits::default());
        }
        if before[1] != self.codec(TrackKind::Audio) {
            self.audio = sound_ring();
        }
    }

    /// The coding of a track, if there is one.
    pub(crate) fn codec(&self, kind: TrackKind) -> Option<Codec> {
        match kind {
            TrackKind::Video => self.tracks.video.as_ref().map(|video| video.codec),
            TrackKind::Audio => self.tracks.audio.as_ref().map(|audio| audio.codec),
        }
    }

    /// Asks the publisher for a key picture; the hub merges wishes.
    pub(crate) fn request_key_frame(&self) {
        self.request_key_of(0);
    }

    /// The same for one of the renditions.
    pub(crate) fn request_key_of(&self, place: usize) {
        let name = self.renditions.get(place).map_or(&self.source, |(name, _)| name);
        self.hub.request_key_frame(name);
    }

    /// The cached group of pictures, where a viewer begins.
    pub(crate) fn group(&self) -> impl Iterator<Item = Arc<FramePackets>> {
        self.video.group().cloned()
    }

    /// The picture of this name in the cached group.
    pub(crate) fn picture(&self, pts: Pts) -> Option<&FramePackets> {
        self.video.group().find(|frame| frame.pts == pts).map(|frame| &**frame)
    }

    /// The frame that had this packet, and the packet's place in it.
    pub(crate) fn with_packet(
        &self,
        kind: TrackKind,
        number: u64,
    ) -> Option<(&Arc<FramePackets>, usize)> {
        match kind {
            TrackKind::Video if renditions::of(number) == 0 => self.video.with_packet(number),
            TrackKind::Video => self.renditions.with_packet(number),
            TrackKind::Audio => self.audio.with_packet(number),
        }
    }
}

fn sound_ring() -> Ring {
    Ring::new(RingLimits { bytes: 1 << 20, packets: 4096, ..RingLimits::default() })
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(feed) = &self.feed {
            feed.abort();
        }
    }
}

/// Carries a stream's packets to the worker, over the publisher's going and coming back. A full
/// queue makes it wait, and the hub then tells it what it missed. It counts as all of the stream's
/// viewers, whose number `audience` has.
pub(crate) async fn feed(
    stream: u64,
    name: StreamName,
    mut reader: Reader,
    (views, takes): (Arc<dyn Views>, &'static Takes),
    rejoin: Duration,
    mut audience: watch::Receiver<u64>,
    events: mpsc::Sender<Event>,
) {
    let begun = Instant::now();
    let presence = |online| events.send(Event::Presence(stream, online));
    loop {
        let item = tokio::select! {
            biased;
            Ok(()) = audience.changed() => {
                reader.set_audience(*audience.borrow_and_update());
                continue;
            }
            item = reader.next() => item,
        };
        match item {
            Item::End => {
                // Without a worker nobody has to be told.
                let _ = presence(false).await;
                let Some(next) = again(&name, (views.as_ref(), takes), rejoin).await else {
                    let _ =
                        events.send(Event::Feed { stream, item: Item::End, written: None }).await;
                    return;
                };
                let _ = presence(true).await;
                reader = next;
                reader.set_audience(*audience.borrow());
            }
            item => {
                // What was cached when this began says nothing about latency.
                let written = reader.last_written().filter(|&at| at >= begun);
                if let Some(names) = reader.take_renditions()
                    && events.send(Event::Renditions(stream, names)).await.is_err()
                {
                    return;
                }
                if events.send(Event::Feed { stream, item, written }).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn again(
    name: &StreamName,
    (views, takes): (&dyn Views, &'static Takes),
    limit: Duration,
) -> Option<Reader> {
    let search = async {
        loop {
            match views.view(name, takes).await {
                Ok(reader) => return Some(reader),
                Err(ViewError::Unplayable { .. }) => return None,
                Err(_) => tokio::time::sleep(REJOIN_EVERY).await,
            }
        }
    };
    tokio::time::timeout(limit, search.boxed()).await.ok().flatten()
}
