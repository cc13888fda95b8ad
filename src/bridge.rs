//! Streams in the form that WebRTC viewers can play, made once for all of them and only when a
//! viewer needs it: AAC becomes Opus, pictures that browsers cannot show are re-encoded.
//!
//! The form is a stream of its own in the hub, named `cam#webrtc`. It begins with its first viewer
//! and ends a while after its last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ingest::StreamName;
use ingest::hub::{Hub, Item, Publisher, Reader, Start, Writer};
use ingest::webrtc::{ViewError, Views};
use parking_lot::Mutex;
use pipeline::packet::VideoTrack;
use pipeline::run::{self, Engine, NoGate, Sink, Timing};
use pipeline::stage::{Stage, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Tracks, h264};
use tokio::sync::mpsc;
use tracing::{info, info_span, warn};

/// How long a viewer waits for its stream to appear.
const WAIT_FOR_STREAM: Duration = Duration::from_secs(2);

/// How long a form without viewers is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Streams that may be re-encoded at the same time; each costs most of a core.
const REENCODES_MAX: usize = 8;

/// Coded pictures between the engine and the hub; the engine waits when it is full.
const PICTURES_WAITING: usize = 8;

/// What has to be done to a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Why the pictures are re-encoded, if they are.
    pub picture: Option<String>,
    /// Why the sound is re-encoded, if it is.
    pub sound: Option<String>,
}

impl Needs {
    /// What a stream of these tracks needs; `reordered` when its pictures come out of order.
    pub fn of(tracks: &Tracks, reordered: bool) -> Self {
        let picture = tracks.video.as_ref().and_then(|video| match video.codec {
            Codec::H264 => {
                let mut assembler = h264::Assembler::new();
                let _ = assembler.configure_annex_b(&video.parameter_sets);
                let stated = assembler.sps().and_then(h264::webrtc_obstacle);
                let seen = reordered.then_some(h264::Obstacle::Reordering(1));
                stated.or(seen).map(|obstacle| obstacle.to_string())
            }
            codec => Some(format!("the stream is {codec}, not every browser takes it")),
        });
        let sound = tracks.audio.as_ref().and_then(|audio| match audio.codec {
            Codec::Aac => Some("the sound is AAC, WebRTC takes Opus".to_owned()),
            _ => None,
        });
        Self { picture, sound }
    }

    /// Whether the stream can be taken as it is.
    pub fn nothing(&self) -> bool {
        self.picture.is_none() && self.sound.is_none()
    }
}

/// Makes and finds the forms. Cloning shares them.
#[derive(Clone)]
pub struct Bridges {
    hub: Hub,
    running: Arc<Mutex<HashMap<StreamName, Needs>>>,
    runtime: tokio::runtime::Handle,
}

impl Bridges {
    /// Bridges over a hub. Must be called within a runtime.
    pub fn new(hub: Hub) -> Self {
        Self { hub, running: Arc::default(), runtime: tokio::runtime::Handle::current() }
    }

    /// What is being done to a stream for its WebRTC viewers.
    pub fn needs(&self, name: &StreamName) -> Option<Needs> {
        self.running.lock().get(name).cloned()
    }

    async fn view(&self, name: StreamName) -> Result<Reader, ViewError> {
        let plain = self.hub.wait_subscribe(&name, Start::LastKey, WAIT_FOR_STREAM).await;
        let not_found = || ViewError::NotFound(name.clone());
        let plain = plain.ok_or_else(not_found)?;
        let status = self.hub.status(&name).ok_or_else(not_found)?;
        let needs = Needs::of(&status.tracks, status.reordered);
        if needs.nothing() {
            return Ok(plain);
        }
        self.begin(&name, needs)?;
        let derived = name.derived("webrtc");
        self.hub.subscribe(&derived, Start::LastKey).ok_or_else(not_found)
    }

    /// Starts the form of a stream unless it runs.
    fn begin(&self, name: &StreamName, needs: Needs) -> Result<(), ViewError> {
        let mut running = self.running.lock();
        if running.contains_key(name) {
            return Ok(());
        }
        let busy = |why: String| ViewError::Busy { name: name.clone(), why };
        let reencodes = running.values().filter(|needs| needs.picture.is_some()).count();
        if needs.picture.is_some() && reencodes >= REENCODES_MAX {
            return Err(busy(format!("{reencodes} streams are re-encoded already")));
        }
        let id = format!("{:08x}", rand::random::<u32>());
        let publisher = Publisher { protocol: "bridge", id, remote: String::new() };
        let writer = self
            .hub
            .publish(name.derived("webrtc"), publisher, true)
            .map_err(|error| busy(error.to_string()))?;
        let source = self.hub.subscribe(name, Start::LastKey);
        let source = source.ok_or_else(|| ViewError::NotFound(name.clone()))?;
        info!(stream = %name, ?needs, "made playable for WebRTC");
        let work = Work { bridges: self.clone(), name: name.clone(), needs: needs.clone() };
        let runtime = self.runtime.clone();
        // Codecs run on a thread of their own, not on the runtime's.
        std::thread::Builder::new()
            .name(format!("bridge:{name}"))
            .spawn(move || {
                let span = info_span!("bridge", stream = %work.name);
                let _entered = span.enter();
                runtime.block_on(work.run(source, writer));
            })
            .map_err(|error| busy(error.to_string()))?;
        running.insert(name.clone(), needs);
        Ok(())
    }
}

impl Views for Bridges {
    fn webrtc(&self, name: &StreamName) -> BoxFuture<'_, Result<Reader, ViewError>> {
        Box::pin(self.view(name.clone()))
    }
}

/// One form being made.
struct Work {
    bridges: Bridges,
    name: StreamName,
    needs: Needs,
}

impl Work {
    async fn run(self, source: Reader, writer: Writer) {
        self.carry(source, writer).await;
        self.bridges.running.lock().remove(&self.name);
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
            tokio::select! {
                item = source.next() => match item {
                    Item::Tracks(new) => {
                        tracks = (*new).clone();
                        if self.needs.sound.is_some() {
                            (tracks.audio, sound) = opus(&new);
                        }
                        match &new.video {
                            Some(video) if self.needs.picture.is_some() => {
                                // What comes out is known with the first picture.
                                tracks.video = None;
                                engine = reencoder(&self.name, video, pictures.clone());
                            }
                            _ => writer.set_tracks(tracks.clone()),
                        }
                    }
                    Item::Packet(packet) if packet.kind.is_video() => match &engine {
                        Some(engine) => engine.push(packet),
                        None => writer.write(packet),
                    },
                    Item::Packet(packet) => match &mut sound {
                        Some(transcoder) => {
                            if let Err(error) = transcoder.push(&packet, &mut packets) {
                                warn!(%error, "sound");
                            }
                            packets.drain(..).for_each(|packet| writer.write(packet));
                        }
                        None => writer.write(packet),
                    },
                    Item::Lagged(packets) => warn!(packets, "too slow"),
                    Item::End => return,
                },
                Some((packet, track)) = encoded.recv() => {
                    if tracks.video.as_ref() != Some(&track) {
                        tracks.video = Some(track);
                        writer.set_tracks(tracks.clone());
                    }
                    writer.write(packet);
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
}

/// The sound as Opus, and who makes it.
fn opus(
    tracks: &Tracks,
) -> (Option<pipeline::packet::AudioTrack>, Option<codecs::audio::Transcoder>) {
    let Some(audio) = &tracks.audio else { return (None, None) };
    match codecs::audio::Transcoder::new(audio, Codec::Opus) {
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
    pictures: mpsc::Sender<(Packet, VideoTrack)>,
) -> Option<Engine> {
    let decoder_track = track.clone();
    let config = run::Config {
        name: name.to_string(),
        codec: track.codec,
        decoder: Box::new(move || {
            codecs::h264::Decoder::new(&decoder_track).map(|decoder| Box::new(decoder) as _)
        }),
        graph: Box::new(|_| Ok(Box::new(Unchanged) as _)),
        encoder: Box::new(|settings| {
            codecs::h264::Encoder::new(settings).map(|encoder| Box::new(encoder) as _)
        }),
        frames_per_second: 30.0,
        bitrate: None,
        key_interval: Duration::from_secs(2),
        gate: Arc::new(NoGate),
        sink: Box::new(Pictures(pictures)),
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

struct Pictures(mpsc::Sender<(Packet, VideoTrack)>);

impl Sink for Pictures {
    fn packet(&mut self, packet: Packet, track: &VideoTrack, _: Timing) {
        let _ = self.0.blocking_send((packet, track.clone()));
    }

    fn applied(&mut self, _: &str, _: Pts) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipeline::Size;
    use pipeline::packet::AudioTrack;

    use super::*;

    fn tracks(codec: Codec, audio: Option<Codec>) -> Tracks {
        let audio = audio.map(|codec| AudioTrack {
            codec,
            sample_rate: 48_000,
            channels: 2,
            config: Bytes::new(),
        });
        let parameter_sets = Bytes::new();
        Tracks { video: Some(VideoTrack { codec, size: Size::new(2, 2), parameter_sets }), audio }
    }

    #[test]
    fn only_what_browsers_cannot_play_is_re_encoded_and_the_reason_is_said() {
        let needs = |codec, audio, reordered| Needs::of(&tracks(codec, audio), reordered);
        assert!(needs(Codec::H264, Some(Codec::Opus), false).nothing());
        assert!(needs(Codec::H264, None, false).nothing());
        let aac = needs(Codec::H264, Some(Codec::Aac), false);
        assert_eq!((aac.picture, aac.sound.is_some()), (None, true));
        let reordered = needs(Codec::H264, None, true).picture.unwrap();
        assert!(reordered.contains("B-frames"), "{reordered}");
        assert!(needs(Codec::Hevc, None, false).picture.is_some());
    }
}
