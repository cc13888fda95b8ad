//! Streams in the form that a kind of reader can take, made once for all readers who need the same
//! and only while one does: AAC becomes Opus or Opus AAC, pictures that browsers cannot show are
//! re-encoded.
//!
//! A form is a stream of its own in the hub, named after what is done: `cam#h264+opus`. It begins
//! with its first reader and ends a while after its last. Readers are let in when it has reached
//! the live edge: pictures before it are decoded only, since nobody wants to see them.

mod lane;
mod needs;
mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use ingest::StreamName;
use ingest::hub::{Hub, Item, Publisher, Reader, Start, Writer};
use ingest::views::{Takes, ViewError, Views};
use parking_lot::Mutex;
use pipeline::packet::VideoTrack;
use pipeline::run::{self, Engine, Sink, Timing};
use pipeline::stage::{Stage, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Ticks, Tracks};
use tokio::sync::{mpsc, watch};
use tracing::{info, info_span, warn};

pub use needs::Needs;
pub use view::{BridgeView, LaneView};

use lane::{Cost, Lane};

/// How long a reader waits for its stream to appear.
const WAIT_FOR_STREAM: Duration = Duration::from_secs(2);

/// How long a reader waits for a form to reach the live edge.
const WAIT_FOR_FORM: Duration = Duration::from_secs(5);

/// How long a form without readers is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Streams that may be re-encoded at the same time; each costs most of a core.
const REENCODES_MAX: usize = 8;

/// Coded pictures between the engine and the hub; the engine waits when it is full.
const PICTURES_WAITING: usize = 8;

/// Sound older than this when a form begins is left out.
const OLD_SOUND: Ticks = Ticks::from_millis(500);

/// Makes and finds the forms. Cloning shares them.
#[derive(Clone)]
pub struct Bridges {
    hub: Hub,
    running: Arc<Mutex<HashMap<StreamName, Form>>>,
    runtime: tokio::runtime::Handle,
}

/// A form that is being made.
#[derive(Clone)]
struct Form {
    /// The stream.
    of: StreamName,
    needs: Needs,
    since: SystemTime,
    cost: Arc<Cost>,
    /// Whether it has reached the live edge.
    ready: watch::Receiver<bool>,
}

impl Bridges {
    /// Bridges over a hub. Must be called within a runtime.
    pub fn new(hub: Hub) -> Self {
        Self { hub, running: Arc::default(), runtime: tokio::runtime::Handle::current() }
    }

    /// Whether a form of a stream is being made for such readers.
    pub fn makes(&self, name: &StreamName, takes: &Takes) -> bool {
        let Some(status) = self.hub.status(name) else { return false };
        let needs = Needs::of(&status.tracks, status.reordered, takes);
        self.running.lock().contains_key(&name.derived(&needs.kind()))
    }

    async fn view(&self, name: StreamName, takes: &Takes) -> Result<Reader, ViewError> {
        let plain = self.hub.wait_subscribe(&name, Start::LastKey, WAIT_FOR_STREAM).await;
        let not_found = || ViewError::NotFound(name.clone());
        let plain = plain.ok_or_else(not_found)?;
        let status = self.hub.status(&name).ok_or_else(not_found)?;
        let needs = Needs::of(&status.tracks, status.reordered, takes);
        if needs.nothing() {
            return Ok(plain);
        }
        drop(plain);
        if let Some((None, why)) = needs.picture {
            return Err(ViewError::Unplayable { name, why });
        }
        let form = name.derived(&needs.kind());
        let mut ready = self.begin(&name, &form, needs)?;
        let late = || ViewError::Busy { name: name.clone(), why: "its form takes too long".into() };
        match tokio::time::timeout(WAIT_FOR_FORM, ready.wait_for(|ready| *ready)).await {
            Err(_) => return Err(late()),
            Ok(Err(_)) => return Err(not_found()),
            Ok(Ok(_)) => {}
        }
        self.hub.subscribe(&form, Start::LastKey).ok_or_else(not_found)
    }

    /// Starts a form of a stream unless it runs.
    fn begin(
        &self,
        name: &StreamName,
        form: &StreamName,
        needs: Needs,
    ) -> Result<watch::Receiver<bool>, ViewError> {
        let mut running = self.running.lock();
        if let Some(form) = running.get(form) {
            return Ok(form.ready.clone());
        }
        let busy = |why: String| ViewError::Busy { name: name.clone(), why };
        let reencodes = running.values().filter(|form| form.needs.picture.is_some()).count();
        if needs.picture.is_some() && reencodes >= REENCODES_MAX {
            return Err(busy(format!("{reencodes} streams are re-encoded already")));
        }
        let id = format!("{:08x}", rand::random::<u32>());
        let publisher = Publisher { protocol: "bridge", id, remote: String::new() };
        let writer = self.hub.publish(form.clone(), publisher, true);
        let writer = writer.map_err(|error| busy(error.to_string()))?;
        let source = self.hub.tap(name, Start::LastKey);
        let source = source.ok_or_else(|| ViewError::NotFound(name.clone()))?;
        let edge = self.hub.status(name).and_then(|status| status.newest);
        info!(%form, ?needs, "a form is made");
        let (tell, ready) = watch::channel(false);
        let cost = Arc::<Cost>::default();
        let work = Work {
            bridges: self.clone(),
            name: name.clone(),
            form: form.clone(),
            needs: needs.clone(),
            cost: Arc::clone(&cost),
            edge: edge.unwrap_or(Pts(i64::MIN)),
            ready: tell,
        };
        let runtime = self.runtime.clone();
        // Codecs run on a thread of their own, not on the runtime's.
        std::thread::Builder::new()
            .name(format!("bridge:{name}"))
            .spawn(move || {
                let span = info_span!("bridge", stream = %work.form);
                let _entered = span.enter();
                runtime.block_on(work.run(source, writer));
            })
            .map_err(|error| busy(error.to_string()))?;
        let (of, since) = (name.clone(), SystemTime::now());
        let made = Form { of, needs, since, cost, ready: ready.clone() };
        running.insert(form.clone(), made);
        Ok(ready)
    }
}

impl Views for Bridges {
    fn view(
        &self,
        name: &StreamName,
        takes: &'static Takes,
    ) -> BoxFuture<'_, Result<Reader, ViewError>> {
        Box::pin(self.view(name.clone(), takes))
    }
}

/// One form being made.
struct Work {
    bridges: Bridges,
    name: StreamName,
    form: StreamName,
    needs: Needs,
    cost: Arc<Cost>,
    /// The newest picture when the form began.
    edge: Pts,
    /// Told when the form has reached it.
    ready: watch::Sender<bool>,
}

impl Work {
    async fn run(self, source: Reader, writer: Writer) {
        // Taken off also when it panics.
        let _listed = Listed { bridges: self.bridges.clone(), form: self.form.clone() };
        self.carry(source, writer).await;
        info!("no longer made");
    }

    async fn carry(&self, mut source: Reader, mut writer: Writer) {
        let (pictures, mut encoded) = mpsc::channel(PICTURES_WAITING);
        let mut engine: Option<Engine> = None;
        let mut sound: Option<codecs::audio::Transcoder> = None;
        let mut wishes = writer.key_requests();
        let mut idle = tokio::time::interval(IDLE_LIMIT);
        idle.tick().await;
        let mut tracks = Tracks::default();
        let mut packets = Vec::new();
        loop {
            if let Some(renditions) = source.take_renditions() {
                writer.set_renditions(renditions);
            }
            tokio::select! {
                item = source.next() => match item {
                    Item::Tracks(new) => {
                        tracks = (*new).clone();
                        if let Some((into, _)) = self.needs.sound {
                            (tracks.audio, sound) = transcoder(&new, into);
                        }
                        match &new.video {
                            Some(video) if self.needs.picture.is_some() => {
                                // What comes out is known with the first picture.
                                tracks.video = None;
                                let made = Pictures {
                                    lane: Arc::clone(&self.cost.picture),
                                    to: pictures.clone(),
                                };
                                engine = reencoder(&self.name, video, self.into(), made);
                                if let Some(engine) = &engine {
                                    engine.start_at(self.edge);
                                }
                            }
                            _ => writer.set_tracks(tracks.clone()),
                        }
                    }
                    Item::Packet(packet) if packet.kind.is_video() => match &engine {
                        Some(engine) => {
                            self.cost.picture.take();
                            engine.push(packet);
                        }
                        None => {
                            let newest = packet.pts >= self.edge;
                            writer.write(packet);
                            self.reached(newest);
                        }
                    },
                    Item::Packet(packet) => {
                        let pts = packet.pts;
                        let old = pts.0 < self.edge.0.saturating_sub(OLD_SOUND.0);
                        match (&mut sound, &self.needs.sound) {
                            (_, None) => writer.write(packet),
                            (Some(_), Some(_)) if old => {}
                            (Some(transcoder), Some(_)) => {
                                self.transcode(transcoder, &packet, &mut packets);
                                packets.drain(..).for_each(|packet| writer.write(packet));
                            }
                            (None, Some(_)) => self.cost.sound.lost(),
                        }
                        self.reached(tracks.video.is_none() && engine.is_none() && pts >= self.edge);
                    }
                    Item::Lagged(packets) => {
                        self.cost.lagged.fetch_add(packets, Ordering::Relaxed);
                        warn!(packets, "too slow");
                    }
                    Item::End => return,
                },
                Some((packet, track)) = encoded.recv() => {
                    if tracks.video.as_ref() != Some(&track) {
                        tracks.video = Some(track);
                        writer.set_tracks(tracks.clone());
                    }
                    writer.write(packet);
                    self.reached(true);
                }
                () = wishes.next() => match &engine {
                    Some(engine) => engine.force_key(),
                    None => source.request_key_frame(),
                },
                () = writer.closed() => return,
                _ = idle.tick() => {
                    let status = self.bridges.hub.status(writer.name());
                    if status.is_none_or(|status| status.readers == 0) {
                        return;
                    }
                }
            }
        }
    }

    /// Makes a packet of sound into those of the form.
    fn transcode(
        &self,
        transcoder: &mut codecs::audio::Transcoder,
        packet: &Packet,
        made: &mut Vec<Packet>,
    ) {
        let (lane, began) = (&self.cost.sound, Instant::now());
        lane.take();
        if let Err(error) = transcoder.push(packet, made) {
            warn!(%error, "sound");
            lane.lost();
        }
        lane.made(made.len());
        lane.worked(began.elapsed());
    }

    /// What pictures are made into.
    fn into(&self) -> Codec {
        self.needs.picture.as_ref().and_then(|(codec, _)| *codec).unwrap_or(Codec::H264)
    }

    /// Lets readers in when the live edge is reached.
    fn reached(&self, edge: bool) {
        if edge && !*self.ready.borrow() {
            self.ready.send_replace(true);
        }
    }
}

/// A form in the list.
struct Listed {
    bridges: Bridges,
    form: StreamName,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.bridges.running.lock().remove(&self.form);
    }
}

/// The sound in another coding, and who makes it.
fn transcoder(
    tracks: &Tracks,
    into: Codec,
) -> (Option<pipeline::packet::AudioTrack>, Option<codecs::audio::Transcoder>) {
    let Some(audio) = &tracks.audio else { return (None, None) };
    match codecs::audio::Transcoder::new(audio, into) {
        Ok(transcoder) => (Some(transcoder.track()), Some(transcoder)),
        Err(error) => {
            warn!(%error, "the sound is left out");
            (None, None)
        }
    }
}

fn reencoder(
    name: &StreamName,
    track: &VideoTrack,
    into: Codec,
    pictures: Pictures,
) -> Option<Engine> {
    let decoder_track = track.clone();
    let config = run::Config {
        name: name.to_string(),
        input: run::Input::Packets {
            codec: track.codec,
            decoder: Box::new(move || codecs::video::decoder(&decoder_track)),
        },
        graph: Box::new(|_| Ok(Box::new(Unchanged) as _)),
        encoder: Box::new(move |settings| match into {
            Codec::Vp8 => codecs::vp8::Encoder::new(settings).map(|encoder| Box::new(encoder) as _),
            _ => codecs::h264::Encoder::new(settings).map(|encoder| Box::new(encoder) as _),
        }),
        frames_per_second: 30.0,
        bitrate: None,
        key_interval: Duration::from_secs(2),
        gate: pictures.lane.clone(),
        sink: Box::new(pictures),
    };
    Engine::spawn(config).inspect_err(|error| warn!(%error, "no re-encode")).ok()
}

/// The graph of a re-encode.
struct Unchanged;

impl Stage for Unchanged {
    fn process(&mut self, frame: Frame) -> Result<Frame, StageError> {
        Ok(frame)
    }
}

/// Where re-encoded pictures go.
struct Pictures {
    lane: Arc<Lane>,
    to: mpsc::Sender<(Packet, VideoTrack)>,
}

impl Sink for Pictures {
    fn packet(&mut self, packet: Packet, track: &VideoTrack, timing: Timing) {
        self.lane.made(1);
        self.lane.worked(timing.decode + timing.graph + timing.encode);
        let _ = self.to.blocking_send((packet, track.clone()));
    }

    fn applied(&mut self, _: &str, _: Pts) {}
}

#[cfg(test)]
mod tests;
