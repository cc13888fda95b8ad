//! The renditions of one stream being made: one decoder, and for each rendition a thread that scales
//! and encodes.
//!
//! The engine of the largest rendition decodes; what enters its graph goes to the engines of the
//! others as well, before it is scaled, so all of them work at the same time. A thread that is
//! behind drops what it has for what is newer, by the rules of [`pipeline::run`], and holds no
//! other up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ingest::StreamName;
use ingest::hub::{
    Item, KeyRequests, PublishError, Publisher, Reader, Start, StreamStatus, Writer,
};
use pipeline::packet::VideoTrack;
use pipeline::run::{self, Engine, Feed, Input, NoGate, Sink, Timing};
use pipeline::stage::{Stage, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Size, Ticks, Tracks};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Ladder, Ladders, rung};
use crate::config::Rendition;

/// How long renditions that nobody reads are still made.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How often readers and settings are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest group of a rendition; those of the source end it before.
const KEY_INTERVAL: Duration = Duration::from_secs(10);

/// Coded pictures between the engines and the hub; engines wait when it is full.
const PICTURES_WAITING: usize = 16;

/// Steps from picture to picture after which the rate of the source is known, ...
const RATE_STEPS: u32 = 5;

/// ... unless it takes so many looks.
const RATE_LOOKS_MAX: u32 = 2;

/// The rate where it is not known.
const RATE: f32 = 30.0;

/// A step that is not within this is a jump of the source's clock, in ticks.
const STEP: std::ops::Range<i64> = 1..Ticks::SECOND.0 * 2;

/// Sound older than this when renditions begin is left out.
const OLD_SOUND: Ticks = Ticks::from_millis(500);

/// What makes the renditions of a stream.
pub(super) struct Work {
    ladders: Ladders,
    name: StreamName,
    wanted: Vec<Rendition>,
    ladder: Arc<Ladder>,
    /// What the stream was when the sizes were chosen.
    video: VideoTrack,
    source: Reader,
    /// By rendition.
    writers: Vec<Writer>,
    wishes: Vec<KeyRequests>,
    rate: Rate,
}

/// Pictures in a second of the source, for rate control.
#[derive(Debug, Default)]
struct Rate {
    first: Option<Pts>,
    newest: Option<Pts>,
    steps: u32,
}

impl Rate {
    fn picture(&mut self, dts: Pts) {
        let jumped = self.newest.is_some_and(|newest| !STEP.contains(&(dts - newest).0));
        if self.first.is_none() || jumped {
            (self.first, self.steps) = (Some(dts), 0);
        } else {
            self.steps += 1;
        }
        self.newest = Some(dts);
    }

    fn get(&self) -> Option<f32> {
        let passed = self.newest? - self.first?;
        let rate = self.steps as f32 * Ticks::SECOND.0 as f32 / passed.0.max(1) as f32;
        (self.steps >= RATE_STEPS).then(|| rate.clamp(1.0, 240.0))
    }
}

/// A coded picture of the rendition at this place.
type Made = (usize, Packet, VideoTrack);

/// Why the loop was left.
enum Left {
    /// Somebody reads.
    Wanted,
    /// Nobody has read for a while.
    Idle,
    /// The stream has ended, or it or its settings are others now.
    Over,
}

impl Work {
    /// Claims the names of a stream's renditions and says that it has them.
    pub(super) fn new(
        ladders: Ladders,
        status: &StreamStatus,
        wanted: Vec<Rendition>,
        ladder: Arc<Ladder>,
    ) -> Result<Self, PublishError> {
        let hub = &ladders.shared.hub;
        let open = |rung: &rung::Rung| {
            let id = format!("{:08x}", rand::random::<u32>());
            let publisher = Publisher { protocol: "rendition", id, remote: String::new() };
            hub.publish(status.name.of_rendition(&rung.name), publisher, true)
        };
        let writers: Vec<Writer> = ladder.rungs.iter().map(open).collect::<Result<_, _>>()?;
        let wishes = writers.iter().map(Writer::key_requests).collect();
        let gone = || PublishError::TooMany(0);
        let source = hub.tap(&status.name, Start::Live).ok_or_else(gone)?;
        let video = status.tracks.video.clone().ok_or_else(gone)?;
        let names: Vec<StreamName> = writers.iter().map(|writer| writer.name().clone()).collect();
        hub.set_renditions(&status.name, names);
        let name = status.name.clone();
        let rate = Rate::default();
        Ok(Self { ladders, name, wanted, ladder, video, source, writers, wishes, rate })
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.ladders.shared);
        let stop = shared.stop.clone();
        loop {
            match stop.run_until_cancelled(self.rest()).await {
                Some(Left::Wanted) => {}
                Some(Left::Idle) => continue,
                Some(Left::Over) | None => break,
            }
            if !self.ladders.begin_making(&self.ladder) {
                let limit = super::MAKING_MAX;
                warn!(limit, "renditions of too many streams are made already");
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            info!(renditions = self.writers.len(), "renditions are made");
            let left = stop.run_until_cancelled(self.make()).await;
            self.ladder.making.store(false, Ordering::Relaxed);
            info!("no longer made");
            // Who comes back later does not want the pictures of now.
            self.writers.iter_mut().for_each(Writer::forget);
            if !matches!(left, Some(Left::Idle)) {
                break;
            }
        }
        // Of a stream that goes on, with other settings or other pictures.
        if self.are_ours() {
            shared.hub.set_renditions(&self.name, []);
        }
    }

    /// Whether the stream has the renditions that are made here.
    fn are_ours(&self) -> bool {
        let known = self.ladders.shared.hub.renditions(&self.name);
        known.iter().eq(self.writers.iter().map(Writer::name))
    }

    /// Waits until somebody reads a rendition, and looks meanwhile how many pictures a second has.
    async fn rest(&mut self) -> Left {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut looks = 0;
        loop {
            tokio::select! {
                item = self.source.next() => match item {
                    Item::End => return Left::Over,
                    Item::Tracks(tracks) if !self.fits(&tracks) => return Left::Over,
                    Item::Packet(packet) if packet.kind.is_video() => self.rate.picture(packet.dts),
                    _ => {}
                },
                _ = look.tick() => {
                    looks += 1;
                    if self.has_changed() {
                        return Left::Over;
                    }
                }
            }
            // A source with a picture now and then has no rate worth waiting for.
            let rested = self.rate.get().is_some() || looks >= RATE_LOOKS_MAX;
            if rested && self.is_wanted() {
                return Left::Wanted;
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.writers.iter().any(Writer::is_wanted)
    }

    /// Makes them until nobody reads any more.
    async fn make(&mut self) -> Left {
        let hub = self.ladders.shared.hub.clone();
        let Some(source) = hub.tap(&self.name, Start::LastKey) else { return Left::Over };
        self.source = source;
        let edge = hub.status(&self.name).and_then(|status| status.newest);
        let edge = edge.unwrap_or(Pts(i64::MIN));
        let (tell, mut made) = mpsc::channel(PICTURES_WAITING);
        let engines = match self.engines(&tell) {
            Ok(engines) => engines,
            Err(error) => {
                warn!(%error, "no renditions");
                return Left::Over;
            }
        };
        drop(tell);
        let Some(decoding) = engines.first() else { return Left::Over };
        decoding.start_at(edge);
        let mut sound = None;
        let mut pictures: Vec<Option<VideoTrack>> = vec![None; engines.len()];
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut read_at = tokio::time::Instant::now();
        let left = loop {
            tokio::select! {
                item = self.source.next() => match item {
                    Item::Tracks(tracks) if self.fits(&tracks) => {
                        sound = tracks.audio.clone();
                        for (writer, video) in self.writers.iter_mut().zip(&pictures) {
                            if let Some(video) = video.clone() {
                                let audio = sound.clone();
                                writer.set_tracks(Tracks { video: Some(video), audio });
                            }
                        }
                    }
                    Item::Tracks(_) | Item::End => break Left::Over,
                    Item::Packet(packet) if packet.kind.is_video() => {
                        for (wish, engine) in self.wishes.iter_mut().zip(&engines) {
                            if wish.try_next() {
                                engine.force_key();
                            }
                        }
                        if packet.key {
                            engines.iter().for_each(|engine| engine.key_at(packet.pts));
                        }
                        decoding.push(packet);
                    }
                    Item::Packet(packet) => {
                        let old = packet.pts.0 < edge.0.saturating_sub(OLD_SOUND.0);
                        for (writer, known) in self.writers.iter_mut().zip(&pictures) {
                            if known.is_some() && !old {
                                writer.write(packet.clone());
                            }
                        }
                    }
                    Item::Lagged(packets) => warn!(packets, "too slow"),
                },
                Some((place, packet, track)) = made.recv() => {
                    let known = pictures[place].as_ref() == Some(&track);
                    let writer = &mut self.writers[place];
                    if !known {
                        let video = Some(pictures[place].insert(track).clone());
                        writer.set_tracks(Tracks { video, audio: sound.clone() });
                    }
                    writer.write(packet);
                },
                _ = look.tick() => {
                    if self.has_changed() || engines.iter().any(|engine| !engine.is_running()) {
                        break Left::Over;
                    }
                    if self.is_wanted() {
                        read_at = tokio::time::Instant::now();
                    } else if read_at.elapsed() >= IDLE_LIMIT {
                        break Left::Idle;
                    }
                },
            }
        };
        // Joining their threads takes a frame time: not on a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || drop(engines)).await;
        left
    }

    /// Whether the stream still is what the sizes were chosen for.
    fn fits(&self, tracks: &Tracks) -> bool {
        let same =
            |video: &VideoTrack| video.codec == self.video.codec && video.size == self.video.size;
        tracks.video.as_ref().is_some_and(same)
    }

    /// Whether the settings are others now, or the publisher sends renditions of its own.
    fn has_changed(&self) -> bool {
        let shared = &self.ladders.shared;
        !self.are_ours() || rung::wanted(&shared.streams, &self.name) != self.wanted
    }

    /// An engine for each rendition; that of the first one decodes for all.
    fn engines(&self, tell: &mpsc::Sender<Made>) -> std::io::Result<Vec<Engine>> {
        let mut others = Vec::new();
        let mut engines = Vec::with_capacity(self.writers.len());
        for place in (1..self.writers.len()).rev() {
            let engine = Engine::spawn(self.config(place, Input::Frames, tell, Vec::new()))?;
            others.push(engine.feed());
            engines.push(engine);
        }
        let track = self.video.clone();
        let decoder = Box::new(move || codecs::video::decoder(&track));
        let input = Input::Packets { codec: self.video.codec, decoder };
        engines.push(Engine::spawn(self.config(0, input, tell, others))?);
        engines.reverse();
        Ok(engines)
    }

    /// The engine of one rendition, which hands its frames on to `others`.
    fn config(
        &self,
        place: usize,
        input: Input,
        tell: &mpsc::Sender<Made>,
        others: Vec<Feed>,
    ) -> run::Config {
        let rung = &self.ladder.rungs[place];
        let (size, vp8) = (rung.size, self.video.codec == Codec::Vp8);
        let scale = move |_: Size| -> Result<Box<dyn Stage>, StageError> {
            let scaler = codecs::scale::Scaler::new(size)?;
            Ok(Box::new(Scale { scaler, others: others.clone() }))
        };
        run::Config {
            name: format!("{}:{}", rung.name, self.name),
            input,
            graph: Box::new(scale),
            // As the stream where we can: WebRTC viewers cannot change their codec on the way.
            encoder: Box::new(move |settings| match vp8 {
                true => codecs::vp8::Encoder::new(settings).map(|encoder| Box::new(encoder) as _),
                false => codecs::h264::Encoder::new(settings).map(|encoder| Box::new(encoder) as _),
            }),
            frames_per_second: self.rate.get().unwrap_or(RATE),
            bitrate: Some(rung.bitrate),
            key_interval: KEY_INTERVAL,
            gate: Arc::new(NoGate),
            sink: Box::new(Pictures { place, ladder: Arc::clone(&self.ladder), to: tell.clone() }),
        }
    }
}

/// The graph of a rendition.
struct Scale {
    scaler: codecs::scale::Scaler,
    others: Vec<Feed>,
}

impl Stage for Scale {
    fn process(&mut self, frame: Frame) -> Result<Frame, StageError> {
        self.others.iter().for_each(|other| other.push(frame.clone()));
        self.scaler.process(frame)
    }
}

struct Pictures {
    place: usize,
    ladder: Arc<Ladder>,
    to: mpsc::Sender<Made>,
}

impl Sink for Pictures {
    fn packet(&mut self, packet: Packet, track: &VideoTrack, timing: Timing) {
        self.ladder.rungs[self.place].made(timing.decode + timing.graph + timing.encode);
        let _ = self.to.blocking_send((self.place, packet, track.clone()));
    }

    fn applied(&mut self, _: &str, _: Pts) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_source_is_known_after_some_pictures_and_outlives_a_jump_of_its_clock() {
        let mut rate = Rate::default();
        for n in 0..6 {
            assert_eq!(rate.get(), None);
            rate.picture(Pts(n * 1500));
        }
        assert_eq!(rate.get(), Some(60.0));
        rate.picture(Pts(90_000_000));
        assert_eq!(rate.get(), None);
        (1..6).for_each(|n| rate.picture(Pts(90_000_000 + n * 3000)));
        assert_eq!(rate.get(), Some(30.0));
    }
}
