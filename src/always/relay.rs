//! One always-available stream for one kind of reader: the publisher while there is one, else the
//! slate and silence, under one clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use ingest::StreamName;
use ingest::hub::{Hub, Item, KeyRequests, Reader, Writer};
use ingest::views::{Takes, ViewError, Views};
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Packet, Pts, Size, TrackKind, Tracks};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::silence::Silence;
use super::slate::{CANVAS, RATE, Slate};
use super::timeline::Timeline;
use crate::streams::StreamSettings;

/// How often readers are counted.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// How long a relay without readers is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Pause before the publisher is looked for again where that does not wait by itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Pause after a publisher that such readers cannot have.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

/// A key picture that came in so long ago at most is the live edge.
const LIVE_WITHIN: Duration = Duration::from_millis(400);

/// What the hub keeps of a stream came in so long ago at most.
const BEFORE: Duration = Duration::from_secs(60);

/// How long a publisher that began with sound may take to name its pictures.
const DESCRIBED_WITHIN: Duration = Duration::from_millis(700);

/// How long a reader waits for the beginning; then the slate is the beginning.
const FIRST_WITHIN: Duration = Duration::from_millis(1500);

/// What a relay works with.
pub(super) struct Relay {
    pub(super) hub: Hub,
    /// The stream as it is published.
    pub(super) views: Arc<dyn Views>,
    pub(super) streams: StreamSettings,
    pub(super) name: StreamName,
    pub(super) takes: &'static Takes,
    pub(super) stop: CancellationToken,
}

/// What it writes.
struct Out {
    writer: Writer,
    wishes: KeyRequests,
    timeline: Timeline,
    /// The size and sound that the last publisher had.
    canvas: Size,
    sound: Sound,
    idle: Option<Instant>,
}

/// What is known of a publisher's sound.
enum Sound {
    /// Nobody has published.
    Unknown,
    /// There was none.
    None,
    /// This.
    Of(AudioTrack),
}

/// A publisher, and where it begins.
struct Found {
    reader: Reader,
    tracks: Arc<Tracks>,
    first: Packet,
}

impl Relay {
    /// Until nobody has read for a while, or `stop`.
    pub(super) async fn run(self, writer: Writer) -> Option<Writer> {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.relay(writer)).await
    }

    async fn relay(&self, writer: Writer) -> Writer {
        let began = Instant::now();
        let mut out = Out {
            wishes: writer.key_requests(),
            writer,
            timeline: Timeline::new(began.checked_sub(BEFORE).unwrap_or(began)),
            canvas: CANVAS,
            sound: Sound::Unknown,
            idle: None,
        };
        let mut found = None;
        if self.hub.is_online(&self.name) {
            found = tokio::time::timeout(FIRST_WITHIN, self.find(false)).await.ok();
        }
        loop {
            let publisher = match found.take() {
                Some(publisher) => publisher,
                None => match self.away(&mut out).await {
                    Some(publisher) => publisher,
                    None => return out.writer,
                },
            };
            info!(stream = %self.name, "the publisher is shown");
            if !self.live(&mut out, publisher).await {
                return out.writer;
            }
            info!(stream = %self.name, "the slate is shown");
        }
    }

    /// Shows the publisher; false when nobody reads any more.
    async fn live(&self, out: &mut Out, publisher: Found) -> bool {
        let Found { mut reader, mut tracks, first } = publisher;
        out.tracks(&tracks);
        out.timeline.begin(&first);
        out.write(first);
        let mut count = tokio::time::interval(COUNT_EVERY);
        loop {
            tokio::select! {
                item = reader.next() => match item {
                    Item::Tracks(new) if self.goes_on(&tracks, &new) => {
                        out.tracks(&new);
                        tracks = new;
                    }
                    // It needs another form.
                    Item::Tracks(_) => return true,
                    Item::Packet(packet) => out.write(packet),
                    Item::Lagged(packets) => debug!(stream = %self.name, packets, "a relay lags"),
                    Item::End => return true,
                },
                () = out.wishes.next() => reader.request_key_frame(),
                _ = count.tick() => {
                    let readers = self.readers(out);
                    reader.set_audience(readers);
                    if out.is_idle(readers) {
                        return false;
                    }
                }
            }
        }
    }

    /// Shows the slate until a publisher is there; `None` when nobody reads any more.
    async fn away(&self, out: &mut Out) -> Option<Found> {
        let mut find = std::pin::pin!(self.find(true));
        let mut making = self.make(out.canvas);
        let mut showing: Option<(Slate, Option<Silence>)> = None;
        let mut tick = tokio::time::interval(Duration::from_millis(1000 / RATE as u64));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = tokio::time::interval(COUNT_EVERY);
        loop {
            tokio::select! {
                found = &mut find => return Some(found),
                made = &mut making, if showing.is_none() => match made {
                    Ok(Ok(slate)) => showing = Some(out.begin_slate(slate, self.takes)),
                    Ok(Err(error)) => {
                        warn!(stream = %self.name, error = format!("{error:#}"), "no slate");
                        return None;
                    }
                    Err(error) => {
                        warn!(stream = %self.name, %error, "no slate");
                        return None;
                    }
                },
                _ = tick.tick() => if let Some((slate, silence)) = &mut showing {
                    out.still(slate, silence.as_mut());
                },
                () = out.wishes.next() => if let Some((slate, _)) = &mut showing {
                    slate.restart();
                },
                _ = count.tick() => if out.is_idle(self.readers(out)) {
                    return None;
                },
            }
        }
    }

    /// Makes the slate of the settings in force; a file that is none is named, and the drawn one
    /// shown instead.
    fn make(&self, canvas: Size) -> JoinHandle<Result<Slate>> {
        let name = self.name.clone();
        let settings = self.streams.of(&name.source().unwrap_or_else(|| name.clone()));
        let file = settings.always_available_picture.clone().filter(|path| !path.is_empty());
        let file = file.map(PathBuf::from);
        tokio::task::spawn_blocking(move || match &file {
            None => Slate::new(&name, canvas, None),
            Some(path) => Slate::new(&name, canvas, Some(path)).or_else(|error| {
                warn!(stream = %name, error = format!("{error:#}"), "the picture of the slate");
                Slate::new(&name, canvas, None)
            }),
        })
    }

    /// Waits for a publisher and a picture to begin with: with `live` one that comes in now, so that
    /// nothing old is shown after the slate.
    async fn find(&self, live: bool) -> Found {
        let mut told = None;
        loop {
            match self.views.view(&self.name, self.takes).await {
                Ok(reader) => match self.entry(reader, live).await {
                    Some(found) => return found,
                    None => tokio::time::sleep(LOOK_EVERY).await,
                },
                Err(ViewError::NotFound(_)) => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => {
                    if told.as_ref() != Some(&error) {
                        warn!(stream = %self.name, %error, "the publisher cannot be shown");
                        told = Some(error);
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    /// The first packet that a decoder can begin with; `None` when the stream ended before, or needs
    /// another form than it was read in.
    async fn entry(&self, mut reader: Reader, live: bool) -> Option<Found> {
        let began = Instant::now();
        let mut tracks = Arc::<Tracks>::default();
        loop {
            match reader.next().await {
                Item::Tracks(new) if *tracks == Tracks::default() => tracks = new,
                Item::Tracks(new) if self.goes_on(&tracks, &new) => tracks = new,
                Item::Tracks(_) | Item::End => return None,
                Item::Packet(first) => {
                    let pictures = tracks.video.is_some();
                    let young = !pictures && began.elapsed() < DESCRIBED_WITHIN;
                    if young || (pictures && (first.kind != TrackKind::Video || !first.key)) {
                        continue;
                    }
                    if !live || first.arrived.elapsed() <= LIVE_WITHIN {
                        return self.suits(&tracks).then_some(Found { reader, tracks, first });
                    }
                    reader.request_key_frame();
                }
                Item::Lagged(_) => {}
            }
        }
    }

    /// Whether such readers can take these tracks.
    fn suits(&self, tracks: &Tracks) -> bool {
        let video = tracks.video.as_ref().is_none_or(|v| self.takes.video.contains(&v.codec));
        video && tracks.audio.as_ref().is_none_or(|a| self.takes.audio.contains(&a.codec))
    }

    /// Whether a form that was made for a stream still is the right one. Which it needs is decided
    /// by what is known of its pictures at the beginning.
    fn goes_on(&self, old: &Tracks, new: &Tracks) -> bool {
        self.suits(new) && old.video.is_some() == new.video.is_some()
    }

    fn readers(&self, out: &Out) -> u64 {
        self.hub.status(out.writer.name()).map_or(0, |status| status.readers as u64)
    }
}

/// Whether sound can be described in the same words: extensions behind AAC's first two bytes only
/// say what is not there (ISO/IEC 14496-3 1.6.5).
fn is_same(a: &AudioTrack, b: &AudioTrack) -> bool {
    let head = |track: &AudioTrack| track.config.get(..2).map(<[u8]>::to_vec);
    let plain = a.codec != Codec::Aac || head(a).is_some_and(|head| head[0] >> 3 == 2);
    (a.codec, a.sample_rate, a.channels) == (b.codec, b.sample_rate, b.channels)
        && plain
        && match a.codec {
            Codec::Aac => head(a) == head(b),
            _ => a.config == b.config,
        }
}

impl Out {
    /// The publisher's tracks, remembered for the slate after it.
    fn tracks(&mut self, tracks: &Tracks) {
        if let Some(video) = tracks.video.as_ref().filter(|video| video.size.pixels() > 0) {
            self.canvas = video.size;
        }
        self.sound = match (&tracks.audio, &self.sound) {
            (Some(audio), Sound::Of(last)) if is_same(audio, last) => Sound::Of(last.clone()),
            (Some(audio), _) => Sound::Of(audio.clone()),
            (None, _) => Sound::None,
        };
        let audio = match &self.sound {
            Sound::Of(track) => Some(track.clone()),
            Sound::None | Sound::Unknown => None,
        };
        self.writer.set_tracks(Tracks { video: tracks.video.clone(), audio });
    }

    fn write(&mut self, packet: Packet) {
        if let Some(packet) = self.timeline.place(packet) {
            self.writer.write(packet);
        }
    }

    /// From here on the slate, with silence where the publisher had sound.
    fn begin_slate(&mut self, slate: Slate, takes: &Takes) -> (Slate, Option<Silence>) {
        let mut silence = match &self.sound {
            Sound::Unknown => Silence::of(takes.audio),
            Sound::None => None,
            Sound::Of(track) => Silence::after(track),
        };
        // A publisher of the same sound is described as this: RTSP readers are told once.
        if let Some(silence) = &silence {
            self.sound = Sound::Of(silence.track().clone());
        }
        if let Some(silence) = &mut silence {
            let at = self.timeline.now(Instant::now());
            silence.begin(at, self.timeline.last_sound());
        }
        let audio = silence.as_ref().map(|silence| silence.track().clone());
        self.writer.set_tracks(Tracks { video: Some(slate.track.clone()), audio });
        (slate, silence)
    }

    /// One picture of the slate, and the silence up to it.
    fn still(&mut self, slate: &mut Slate, silence: Option<&mut Silence>) {
        let at = self.timeline.now(Instant::now());
        let (data, key) = slate.next();
        self.put(TrackKind::Video, at, key, data);
        let Some(silence) = silence else { return };
        while let Some((pts, data)) = silence.next_before(at) {
            self.put(TrackKind::Audio, pts, true, data);
        }
    }

    fn put(&mut self, kind: TrackKind, at: Pts, key: bool, data: Bytes) {
        if self.timeline.note(kind, at, at) {
            let arrived = Instant::now();
            self.writer.write(Packet { kind, pts: at, dts: at, key, data, arrived });
        }
    }

    fn is_idle(&mut self, readers: u64) -> bool {
        match readers {
            0 => self.idle.get_or_insert_with(Instant::now).elapsed() >= IDLE_LIMIT,
            _ => {
                self.idle = None;
                false
            }
        }
    }
}
