//! The hub: named streams, each with one writer and any number of readers.
//!
//! A stream keeps a ring of its newest packets, bounded in bytes and in media time. The writer
//! never waits; a reader that falls out of the ring is told how much it missed and goes on at the
//! newest key packet. Nothing here knows a protocol, and no task runs: everything happens in the
//! caller, woken through [`tokio::sync::Notify`].
//!
//! This file is long because the ring, its writer and its readers share one lock and are read
//! together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use pipeline::packet::AudioTrack;
use pipeline::{Packet, Pts, Ticks, TrackKind, Tracks};
use tokio::sync::{Notify, broadcast};

use crate::name::{SOUNDS_MAX, StreamName};

/// Requests for a key frame are merged into one per stream and this time.
pub const KEY_REQUEST_SPACING: Duration = Duration::from_millis(500);

/// Streams with other renditions of a stream's pictures, at most.
pub const RENDITIONS_MAX: usize = 4;

/// Online and offline notices kept for a slow listener.
const EVENTS_KEPT: usize = 256;

/// How much of a stream is kept for its readers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of packets kept per stream.
    pub ring_bytes: usize,
    /// Media time kept per stream.
    pub ring_span: Ticks,
    /// Streams at the same time. Forms and renditions of them are not counted: whoever makes those
    /// bounds them for each stream.
    pub streams: usize,
}

impl Default for Limits {
    /// 32 MiB or 20 s a stream (a group of 8.3 s at 20 Mbit/s fits), 1,000 streams.
    fn default() -> Self {
        Self { ring_bytes: 32 << 20, ring_span: Ticks(20 * Ticks::SECOND.0), streams: 1000 }
    }
}

/// Who writes a stream.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// `rtmp`, `webrtc`, `pipeline`, ...
    pub protocol: &'static str,
    /// Session id, unique in this process.
    pub id: String,
    /// The peer's address as text, empty for the node itself.
    pub remote: String,
}

/// Why a stream cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Somebody publishes under this name already and may not be replaced.
    #[error("stream {name} already has a publisher ({protocol} from {remote})")]
    Taken {
        /// The name.
        name: StreamName,
        /// The present publisher's protocol.
        protocol: &'static str,
        /// The present publisher's address.
        remote: String,
    },
    /// [`Limits::streams`] is reached.
    #[error("this node carries {0} streams, its limit")]
    TooMany(usize),
}

/// A stream came or went.
#[derive(Clone, Debug)]
pub enum Event {
    /// The first packet after tracks were known is about to come.
    Online(StreamName),
    /// The writer is gone.
    Offline(StreamName),
}

/// Where a new reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the newest cached key picture, so that decoding begins at once.
    LastKey,
    /// At the next packet that is written.
    Live,
}

/// What a reader gets.
#[derive(Clone, Debug)]
pub enum Item {
    /// The tracks, first of all and after each change.
    Tracks(Arc<Tracks>),
    /// The next packet in decoding order.
    Packet(Packet),
    /// The reader was too slow: so many packets are lost to it; the next is a key picture.
    Lagged(u64),
    /// The writer is gone and everything was read.
    End,
}

/// Counters and facts of one stream at one moment.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// The name.
    pub name: StreamName,
    /// Who writes it.
    pub publisher: Publisher,
    /// Its tracks.
    pub tracks: Arc<Tracks>,
    /// When the publisher came.
    pub since: SystemTime,
    /// Coded bytes written.
    pub bytes: u64,
    /// Pictures written.
    pub frames: u64,
    /// Audio frames written.
    pub audio_frames: u64,
    /// Who watches or listens at this moment, in forms made for kinds of readers too. The node's
    /// own readers ([`Hub::tap`]) are left out.
    pub readers: usize,
    /// The newest picture, or sound where there is no picture.
    pub newest: Option<Pts>,
    /// Packets that readers lost by being slow.
    pub lagged: u64,
    /// Media time between the last two key pictures.
    pub key_interval: Option<Ticks>,
    /// Whether pictures come out of presentation order.
    pub reordered: bool,
}

/// All streams of the node. Cloning shares them.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    streams: Mutex<HashMap<StreamName, Arc<Stream>>>,
    events: broadcast::Sender<Event>,
}

struct Stream {
    name: StreamName,
    publisher: Publisher,
    since: SystemTime,
    ring: Mutex<Ring>,
    /// Wakes readers after each write and at the end.
    written: Notify,
    /// Wakes the writer: a key frame is wanted.
    key_wanted: Notify,
    key_pending: AtomicBool,
    /// Wakes the writer: it was replaced or kicked.
    closed: Notify,
    closing: AtomicBool,
    /// People behind the readers.
    readers: AtomicU64,
    /// Readers, the node's own among them.
    reading: AtomicU64,
    lagged: AtomicU64,
}

#[derive(Default)]
struct Ring {
    packets: VecDeque<Packet>,
    /// When each of them was written.
    written: VecDeque<Instant>,
    /// The number of the packet at the front.
    first: u64,
    bytes: usize,
    /// The number of the newest key picture (or audio packet where there is no picture).
    last_key: Option<u64>,
    last_key_dts: Option<Pts>,
    /// Time of the newest picture, or sound where there is no picture.
    newest: Option<Pts>,
    key_interval: Option<Ticks>,
    reordered: bool,
    tracks: Arc<Tracks>,
    /// Grows with each change of `tracks`.
    tracks_version: u64,
    /// Streams with smaller renditions of the same pictures, by name.
    renditions: Arc<[StreamName]>,
    /// Grows with each change of `renditions`.
    renditions_version: u64,
    total_bytes: u64,
    frames: u64,
    audio_frames: u64,
    ended: bool,
}

impl Hub {
    /// A hub without streams.
    pub fn new(limits: Limits) -> Self {
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let streams = Mutex::new(HashMap::new());
        Self { shared: Arc::new(Shared { limits, streams, events }) }
    }

    /// Claims a name. With `take_over` a present publisher is told to leave and its readers end.
    ///
    /// # Errors
    /// [`PublishError`] when the name is taken or the node is full.
    pub fn publish(
        &self,
        name: StreamName,
        publisher: Publisher,
        take_over: bool,
    ) -> Result<Writer, PublishError> {
        let mut streams = self.shared.streams.lock();
        if let Some(present) = streams.get(&name) {
            if !take_over {
                return Err(PublishError::Taken {
                    name,
                    protocol: present.publisher.protocol,
                    remote: present.publisher.remote.clone(),
                });
            }
            present.close();
            present.end();
        } else if !name.is_derived() {
            let count = streams.keys().filter(|name| !name.is_derived()).count();
            if count >= self.shared.limits.streams {
                return Err(PublishError::TooMany(count));
            }
        }
        let stream = Arc::new(Stream {
            name: name.clone(),
            publisher,
            since: SystemTime::now(),
            ring: Mutex::default(),
            written: Notify::new(),
            key_wanted: Notify::new(),
            key_pending: AtomicBool::new(false),
            closed: Notify::new(),
            closing: AtomicBool::new(false),
            readers: AtomicU64::new(0),
            reading: AtomicU64::new(0),
            lagged: AtomicU64::new(0),
        });
        streams.insert(name, Arc::clone(&stream));
        Ok(Writer { stream, shared: Arc::clone(&self.shared), online: false })
    }

    /// Begins to read a stream, or `None` when there is none of that name.
    pub fn subscribe(&self, name: &StreamName, start: Start) -> Option<Reader> {
        let mut reader = self.tap(name, start)?;
        reader.set_audience(1);
        Some(reader)
    }

    /// As [`Self::subscribe`], for the node's own purposes: the reader counts as nobody until
    /// [`Reader::set_audience`].
    pub fn tap(&self, name: &StreamName, start: Start) -> Option<Reader> {
        let stream = Arc::clone(self.shared.streams.lock().get(name)?);
        let ring = stream.ring.lock();
        let end = ring.first + ring.packets.len() as u64;
        let next = match start {
            Start::LastKey => ring.last_key.unwrap_or(end).max(ring.first),
            Start::Live => end,
        };
        drop(ring);
        stream.reading.fetch_add(1, Ordering::AcqRel);
        Some(Reader {
            stream,
            next,
            tracks_version: 0,
            renditions_version: 0,
            renditions: None,
            to_key: false,
            written: None,
            audience: 0,
        })
    }

    /// Begins to read a stream, waiting up to `limit` for its publisher.
    pub async fn wait_subscribe(
        &self,
        name: &StreamName,
        start: Start,
        limit: Duration,
    ) -> Option<Reader> {
        let mut events = self.events();
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(reader) = self.subscribe(name, start) {
                return Some(reader);
            }
            match tokio::time::timeout_at(deadline, events.recv()).await {
                Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
                _ => return self.subscribe(name, start),
            }
        }
    }

    /// Notices of streams that come and go from now on. A listener that lags must look at
    /// [`Self::list`].
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Tells a stream's publisher to leave; false when there is no such stream.
    pub fn kick(&self, name: &StreamName) -> bool {
        self.shared.streams.lock().get(name).is_some_and(|stream| {
            stream.close();
            true
        })
    }

    /// Asks a stream's publisher for a key frame, as [`Reader::request_key_frame`].
    pub fn request_key_frame(&self, name: &StreamName) {
        if let Some(stream) = self.shared.streams.lock().get(name) {
            stream.request_key_frame();
        }
    }

    /// Whether a stream is there and its tracks are known.
    pub fn is_online(&self, name: &StreamName) -> bool {
        let streams = self.shared.streams.lock();
        streams.get(name).is_some_and(|stream| stream.ring.lock().tracks_version > 0)
    }

    /// The streams with other renditions of a stream's pictures ([`Writer::set_renditions`]).
    pub fn renditions(&self, name: &StreamName) -> Arc<[StreamName]> {
        let streams = self.shared.streams.lock();
        streams.get(name).map(|stream| stream.ring.lock().renditions.clone()).unwrap_or_default()
    }

    /// The streams with a stream's pictures and further sounds of its publisher
    /// ([`StreamName::of_sound`]) that are there now, each with what the sound is.
    pub fn sounds(&self, name: &StreamName) -> Vec<(StreamName, AudioTrack)> {
        let streams = self.shared.streams.lock();
        let sound = |number| {
            let name = name.of_sound(number);
            let track = streams.get(&name)?.ring.lock().tracks.audio.clone();
            Some((name, track?))
        };
        (1..=SOUNDS_MAX).filter_map(sound).collect()
    }

    /// As [`Writer::set_renditions`], for who makes renditions of a stream that somebody else writes.
    pub fn set_renditions(&self, name: &StreamName, names: impl Into<Arc<[StreamName]>>) {
        if let Some(stream) = self.shared.streams.lock().get(name) {
            stream.ring.lock().set_renditions(names.into());
        }
    }

    /// How many people watch a stream, in forms made for kinds of readers too.
    pub fn audience(&self, name: &StreamName) -> usize {
        let streams = self.shared.streams.lock();
        let of = streams.values().filter(|stream| stream.name.base() == name.as_str());
        of.map(|stream| stream.readers.load(Ordering::Relaxed) as usize).sum()
    }

    /// One stream's counters.
    pub fn status(&self, name: &StreamName) -> Option<StreamStatus> {
        self.shared.streams.lock().get(name).map(|stream| stream.status())
    }

    /// All streams' counters by name. Forms derived for kinds of readers are left out, their
    /// readers are counted where they come from.
    pub fn list(&self) -> Vec<StreamStatus> {
        let streams = self.shared.streams.lock();
        let mut list: Vec<_> =
            streams.values().filter(|s| !s.name.is_derived()).map(|s| s.status()).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let counted = |name: &StreamName| name.is_derived() && !name.is_always();
        for form in streams.values().filter(|stream| counted(&stream.name)) {
            let place = list.binary_search_by(|status| status.name.as_str().cmp(form.name.base()));
            if let Ok(place) = place {
                list[place].readers += form.readers.load(Ordering::Relaxed) as usize;
            }
        }
        list
    }
}

impl Ring {
    fn set_renditions(&mut self, names: Arc<[StreamName]>) {
        self.renditions = names;
        self.renditions_version += 1;
    }
}

impl Stream {
    fn request_key_frame(&self) {
        if !self.key_pending.swap(true, Ordering::AcqRel) {
            self.key_wanted.notify_one();
        }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.closed.notify_one();
    }

    fn end(&self) {
        self.ring.lock().ended = true;
        self.written.notify_waiters();
    }

    fn status(&self) -> StreamStatus {
        let ring = self.ring.lock();
        StreamStatus {
            name: self.name.clone(),
            publisher: self.publisher.clone(),
            tracks: Arc::clone(&ring.tracks),
            since: self.since,
            bytes: ring.total_bytes,
            frames: ring.frames,
            audio_frames: ring.audio_frames,
            readers: self.readers.load(Ordering::Relaxed) as usize,
            newest: ring.newest,
            lagged: self.lagged.load(Ordering::Relaxed),
            key_interval: ring.key_interval,
            reordered: ring.reordered,
        }
    }
}

/// The one who writes a stream. Dropping it ends the stream for its readers.
pub struct Writer {
    stream: Arc<Stream>,
    shared: Arc<Shared>,
    online: bool,
}

impl Writer {
    /// The stream's name.
    pub fn name(&self) -> &StreamName {
        &self.stream.name
    }

    /// Who this is.
    pub fn publisher(&self) -> &Publisher {
        &self.stream.publisher
    }

    /// Says what the following packets are; readers get it in order with them.
    pub fn set_tracks(&mut self, tracks: Tracks) {
        let mut ring = self.stream.ring.lock();
        if *ring.tracks == tracks && ring.tracks_version > 0 {
            return;
        }
        ring.tracks = Arc::new(tracks);
        ring.tracks_version += 1;
        drop(ring);
        if !self.online {
            self.online = true;
            let _ = self.shared.events.send(Event::Online(self.stream.name.clone()));
        }
        self.stream.written.notify_waiters();
    }

    /// Says which streams have other renditions of the same pictures, under the same times: the
    /// simulcast layers of a publisher, or its further tracks. They may have the sound too.
    pub fn set_renditions(&mut self, names: impl Into<Arc<[StreamName]>>) {
        self.stream.ring.lock().set_renditions(names.into());
    }

    /// Forgets the packets that are kept: who comes later begins with what is written from here on.
    pub fn forget(&mut self) {
        let mut ring = self.stream.ring.lock();
        ring.first += ring.packets.len() as u64;
        ring.packets.clear();
        ring.written.clear();
        (ring.bytes, ring.last_key, ring.newest) = (0, None, None);
    }

    /// Appends a packet, forgetting the oldest ones beyond the limits. Never waits.
    pub fn write(&mut self, packet: Packet) {
        let limits = self.shared.limits;
        let mut ring = self.stream.ring.lock();
        let number = ring.first + ring.packets.len() as u64;
        ring.total_bytes += packet.data.len() as u64;
        match packet.kind {
            TrackKind::Video => {
                ring.frames += 1;
                ring.reordered |= packet.pts != packet.dts;
            }
            TrackKind::Audio => ring.audio_frames += 1,
        }
        let starts_group = match packet.kind {
            TrackKind::Video => packet.key,
            TrackKind::Audio => ring.tracks.video.is_none(),
        };
        if starts_group {
            ring.key_interval = ring.last_key_dts.map(|last| packet.dts - last);
            ring.last_key_dts = Some(packet.dts);
            ring.last_key = Some(number);
            if packet.kind == TrackKind::Video {
                self.stream.key_pending.store(false, Ordering::Release);
            }
        }
        if packet.kind == TrackKind::Video || ring.tracks.video.is_none() {
            ring.newest = Some(packet.pts);
        }
        ring.bytes += packet.data.len();
        let newest = packet.dts;
        ring.packets.push_back(packet);
        ring.written.push_back(Instant::now());
        while ring.packets.len() > 1
            && (ring.bytes > limits.ring_bytes
                || ring.packets.front().is_some_and(|p| newest - p.dts > limits.ring_span))
        {
            ring.written.pop_front();
            if let Some(old) = ring.packets.pop_front() {
                ring.bytes -= old.data.len();
                ring.first += 1;
            }
        }
        drop(ring);
        self.stream.written.notify_waiters();
    }

    /// Whether somebody reads, be it the node itself.
    pub fn is_wanted(&self) -> bool {
        self.stream.reading.load(Ordering::Acquire) > 0
    }

    /// A handle that waits for readers' wishes, for the task that can pass them on.
    pub fn key_requests(&self) -> KeyRequests {
        KeyRequests { stream: Arc::clone(&self.stream), last: None }
    }

    /// Whether this writer was replaced or kicked; it must then be dropped.
    pub fn is_closed(&self) -> bool {
        self.stream.closing.load(Ordering::Acquire)
    }

    /// Waits until this writer was replaced or kicked; it must then be dropped.
    pub async fn closed(&self) {
        while !self.stream.closing.load(Ordering::Acquire) {
            self.stream.closed.notified().await;
        }
        self.stream.closed.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut streams = self.shared.streams.lock();
        let mine = streams.get(&self.stream.name).is_some_and(|s| Arc::ptr_eq(s, &self.stream));
        if mine {
            streams.remove(&self.stream.name);
        }
        drop(streams);
        // Only now: who reads the end and asks again does not find the same stream.
        self.stream.end();
        if self.online && mine {
            let _ = self.shared.events.send(Event::Offline(self.stream.name.clone()));
        }
    }
}

/// Key-frame wishes of all readers of a stream, merged.
pub struct KeyRequests {
    stream: Arc<Stream>,
    last: Option<Instant>,
}

impl KeyRequests {
    /// Waits for the next wish, at most one each [`KEY_REQUEST_SPACING`]. A wish that a key
    /// picture has answered meanwhile is forgotten.
    pub async fn next(&mut self) {
        loop {
            while !self.stream.key_pending.load(Ordering::Acquire) {
                self.stream.key_wanted.notified().await;
            }
            if let Some(last) = self.last {
                tokio::time::sleep_until((last + KEY_REQUEST_SPACING).into()).await;
            }
            if self.try_next() {
                return;
            }
        }
    }

    /// Whether there is a wish now, for writers that look once a picture.
    pub fn try_next(&mut self) -> bool {
        // Nearly always there is none: no clock is read then.
        if !self.stream.key_pending.load(Ordering::Acquire) {
            return false;
        }
        let rested = self.last.is_none_or(|last| last.elapsed() >= KEY_REQUEST_SPACING);
        let wished = rested && self.stream.key_pending.swap(false, Ordering::AcqRel);
        if wished {
            self.last = Some(Instant::now());
        }
        wished
    }
}

/// One who reads a stream at its own pace.
pub struct Reader {
    stream: Arc<Stream>,
    next: u64,
    tracks_version: u64,
    renditions_version: u64,
    renditions: Option<Arc<[StreamName]>>,
    to_key: bool,
    written: Option<Instant>,
    audience: u64,
}

impl Reader {
    /// The stream's name.
    pub fn name(&self) -> &StreamName {
        &self.stream.name
    }

    /// The next item. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Item {
        loop {
            let stream = Arc::clone(&self.stream);
            let mut written = std::pin::pin!(stream.written.notified());
            written.as_mut().enable();
            if let Some(item) = self.try_next() {
                return item;
            }
            written.await;
        }
    }

    /// The next item if there is one now.
    pub fn try_next(&mut self) -> Option<Item> {
        let ring = self.stream.ring.lock();
        if ring.renditions_version > self.renditions_version {
            self.renditions_version = ring.renditions_version;
            self.renditions = Some(Arc::clone(&ring.renditions));
        }
        if ring.tracks_version > self.tracks_version {
            self.tracks_version = ring.tracks_version;
            return Some(Item::Tracks(Arc::clone(&ring.tracks)));
        }
        let end = ring.first + ring.packets.len() as u64;
        if self.next < ring.first || (self.to_key && self.next < end) {
            let target = match ring.last_key {
                Some(key) if key >= ring.first && key >= self.next => key,
                _ if self.to_key && self.next >= ring.first => self.next,
                _ => end,
            };
            let missed = target - self.next;
            self.to_key = false;
            self.next = target;
            if missed > 0 {
                self.stream.lagged.fetch_add(missed, Ordering::Relaxed);
                return Some(Item::Lagged(missed));
            }
        }
        let place = (self.next - ring.first) as usize;
        if let Some(packet) = ring.packets.get(place) {
            self.next += 1;
            self.written = ring.written.get(place).copied();
            return Some(Item::Packet(packet.clone()));
        }
        ring.ended.then_some(Item::End)
    }

    /// The number of the packet that comes next. Packets of a stream are numbered without gaps.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Goes on at the packet of this number, since others before it came in another way.
    pub fn seek(&mut self, position: u64) {
        self.next = position;
    }

    /// Another reader at the same place. It counts as nobody until [`Self::set_audience`].
    #[must_use]
    pub fn beside(&self) -> Self {
        let (stream, renditions) = (Arc::clone(&self.stream), self.renditions.clone());
        stream.reading.fetch_add(1, Ordering::AcqRel);
        Self { stream, renditions, audience: 0, written: None, ..*self }
    }

    /// Whether the other reads the same stream and knows the same tracks.
    pub fn matches(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream) && self.tracks_version == other.tracks_version
    }

    /// Says how many people are behind this reader, where one reader serves many. It is 1 at first,
    /// and nobody for a [`Hub::tap`].
    pub fn set_audience(&mut self, count: u64) {
        self.stream.readers.fetch_add(count.wrapping_sub(self.audience), Ordering::Relaxed);
        self.audience = count;
    }

    /// The streams with other renditions of the same pictures ([`Writer::set_renditions`]), once
    /// after each change that was seen by [`Self::next`].
    pub fn take_renditions(&mut self) -> Option<Arc<[StreamName]>> {
        self.renditions.take()
    }

    /// When the packet that was given last was written, for figures of latency.
    pub fn last_written(&self) -> Option<Instant> {
        self.written
    }

    /// Packets written but not yet read by this reader.
    pub fn behind(&self) -> u64 {
        let ring = self.stream.ring.lock();
        (ring.first + ring.packets.len() as u64).saturating_sub(self.next)
    }

    /// Gives up what is waiting: goes on at the newest key picture if one lies ahead.
    pub fn skip_to_key(&mut self) {
        self.to_key = true;
    }

    /// Asks the publisher for a key frame; wishes of all readers are merged.
    pub fn request_key_frame(&self) {
        self.stream.request_key_frame();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.readers.fetch_sub(self.audience, Ordering::Relaxed);
        self.stream.reading.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
