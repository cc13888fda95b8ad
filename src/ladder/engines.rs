//! The engines of a stream's renditions: one decoder for all, and for each rendition a thread that
//! scales and encodes.
//!
//! The engine of the largest rendition decodes. Frames go to all engines right after the decoder,
//! before any of them scales: a thread that is behind drops what it has for what is newer, by the
//! rules of [`pipeline::run`], and holds no other up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::h264::{Options, Profile};
use ingest::StreamName;
use pipeline::packet::VideoTrack;
use pipeline::run::{Config, Engine, Feed, Input, Sink, Timing};
use pipeline::stage::{Decoder, Stage, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Size};
use tokio::sync::mpsc;
use tracing::warn;

use super::Ladder;
use super::rate::{Rate, Thinning};
use crate::config::H264Profile;

/// Longest group of a rendition; those of the source end it before.
const KEY_INTERVAL: Duration = Duration::from_secs(10);

/// Pictures of a rendition that fail are told of once in so long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// What renditions are made of.
pub(super) struct Source<'a> {
    pub(super) name: &'a StreamName,
    pub(super) video: &'a VideoTrack,
    pub(super) rate: &'a Rate,
    /// Pictures before this only lead to the live edge.
    pub(super) edge: Pts,
}

/// What an engine says.
pub(super) enum Told {
    /// A coded picture of the rendition at this place.
    Picture(usize, Packet, VideoTrack),
    /// The decoder cannot go on before a key picture.
    KeyWanted,
}

/// The engines by rendition, the largest first. Dropping them waits for their threads.
pub(super) struct Engines {
    list: Vec<(Engine, Arc<Thinning>)>,
}

impl Engines {
    /// Starts their threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn spawn(
        ladder: &Arc<Ladder>,
        source: &Source<'_>,
        tell: &mpsc::Sender<Told>,
    ) -> std::io::Result<Self> {
        let mut list = Vec::with_capacity(ladder.rungs.len());
        let mut others = Vec::new();
        for place in (0..ladder.rungs.len()).rev() {
            let input = match place {
                0 => decoding(source, std::mem::take(&mut others)),
                _ => Input::Frames,
            };
            let thinning = Arc::new(Thinning::new(ladder.rungs[place].fps));
            let config = config((ladder, place), source, (input, &thinning), tell);
            let engine = Engine::spawn(config)?;
            others.push(engine.feed());
            list.push((engine, thinning));
        }
        list.reverse();
        if let Some((first, _)) = list.first() {
            first.start_at(source.edge);
        }
        Ok(Self { list })
    }

    /// Hands a coded picture to the decoder. Groups begin where those of the source do.
    pub(super) fn push(&self, packet: Packet) {
        if packet.key {
            for (engine, thinning) in &self.list {
                thinning.group_at(packet.pts);
                engine.key_at(packet.pts);
            }
        }
        if let Some((first, _)) = self.list.first() {
            first.push(packet);
        }
    }

    /// Asks for a key picture of the rendition at this place.
    pub(super) fn force_key(&self, place: usize) {
        if let Some((engine, _)) = self.list.get(place) {
            engine.force_key();
        }
    }

    /// Whether all threads are alive.
    pub(super) fn are_running(&self) -> bool {
        self.list.iter().all(|(engine, _)| engine.is_running())
    }
}

/// The input of the engine that decodes for `others` too.
fn decoding(source: &Source<'_>, others: Vec<Feed>) -> Input {
    let (track, edge) = (source.video.clone(), source.edge);
    let decoder = Box::new(move || -> Result<Box<dyn Decoder>, StageError> {
        let decoder = codecs::video::decoder(&track)?;
        Ok(Box::new(Shared { decoder, edge, others: others.clone() }))
    });
    Input::Packets { codec: source.video.codec, decoder }
}

/// The engine of the rendition at a place.
fn config(
    (ladder, place): (&Arc<Ladder>, usize),
    source: &Source<'_>,
    (input, thinning): (Input, &Arc<Thinning>),
    tell: &mpsc::Sender<Told>,
) -> Config {
    let rung = &ladder.rungs[place];
    let (vp8, profile) = (source.video.codec == Codec::Vp8, profile(rung.profile));
    let fitting = Arc::clone(ladder);
    let scale = move |from: Size| -> Result<Box<dyn Stage>, StageError> {
        Ok(Box::new(codecs::scale::Scaler::new(fitting.rungs[place].fit(from))?))
    };
    Config {
        name: format!("{}:{}", rung.name, source.name),
        input,
        graph: Box::new(scale),
        // As the stream where we can: WebRTC viewers cannot change their codec on the way.
        encoder: Box::new(move |settings| match vp8 {
            true => codecs::vp8::Encoder::new(settings).map(|encoder| Box::new(encoder) as _),
            false => {
                let options = Options { profile, ..Options::default() };
                let encoder = codecs::h264::Encoder::with_options(settings, options);
                encoder.map(|encoder| Box::new(encoder) as _)
            }
        }),
        frames_per_second: source.rate.expected(rung.fps),
        bitrate: Some(rung.bitrate),
        key_interval: KEY_INTERVAL,
        gate: thinning.clone(),
        sink: Box::new(Pictures {
            place,
            ladder: Arc::clone(ladder),
            stream: source.name.clone(),
            to: tell.clone(),
            failed: 0,
            complained: None,
        }),
    }
}

fn profile(wanted: H264Profile) -> Profile {
    match wanted {
        H264Profile::Baseline => Profile::ConstrainedBaseline,
        H264Profile::Main => Profile::Main,
        H264Profile::High => Profile::High,
    }
}

/// A decoder whose frames go to other engines as well.
struct Shared {
    decoder: Box<dyn Decoder>,
    edge: Pts,
    others: Vec<Feed>,
}

impl Shared {
    fn hand_on(&self, frames: &[Frame]) {
        for frame in frames.iter().filter(|frame| frame.pts >= self.edge) {
            self.others.iter().for_each(|other| other.push(frame.clone()));
        }
    }
}

impl Decoder for Shared {
    fn decode(&mut self, packet: &Packet, out: &mut Vec<Frame>) -> Result<(), StageError> {
        let before = out.len();
        let result = self.decoder.decode(packet, out);
        self.hand_on(&out[before..]);
        result
    }

    fn flush(&mut self, out: &mut Vec<Frame>) -> Result<(), StageError> {
        let before = out.len();
        let result = self.decoder.flush(out);
        self.hand_on(&out[before..]);
        result
    }
}

/// Takes what comes out of an engine.
struct Pictures {
    place: usize,
    ladder: Arc<Ladder>,
    stream: StreamName,
    to: mpsc::Sender<Told>,
    /// Pictures that failed since this was told of.
    failed: u64,
    complained: Option<Instant>,
}

impl Sink for Pictures {
    fn packet(&mut self, packet: Packet, track: &VideoTrack, timing: Timing) {
        self.ladder.rungs[self.place].made(timing.decode + timing.graph + timing.encode);
        let _ = self.to.blocking_send(Told::Picture(self.place, packet, track.clone()));
    }

    fn applied(&mut self, _: &str, _: Pts) {}

    fn failed_frame(&mut self, pts: Pts, error: &StageError) {
        self.failed += 1;
        if self.complained.is_some_and(|at| at.elapsed() < COMPLAIN_EVERY) {
            return;
        }
        let rendition = self.ladder.rungs[self.place].name.as_str();
        let failed = std::mem::take(&mut self.failed);
        warn!(stream = %self.stream, rendition, %pts, failed, %error, "pictures fail");
        self.complained = Some(Instant::now());
    }

    fn source_key_wanted(&mut self) {
        let _ = self.to.blocking_send(Told::KeyWanted);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use bytes::Bytes;
    use pipeline::TrackKind;
    use pipeline::frame::{Color, HostPlanes, PixelFormat, Plane, Surface};
    use pipeline::run::NoGate;
    use pipeline::stage::Encoder;

    use super::*;

    /// Longer than any step takes on a loaded machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    const SIZE: Size = Size::new(2, 2);

    fn packet(at: i64) -> Packet {
        let (pts, data) = (Pts(at), Bytes::from_static(b"coded"));
        let (kind, arrived) = (TrackKind::Video, Instant::now());
        Packet { kind, pts, dts: pts, key: true, data, arrived }
    }

    /// Gives a frame for each packet, is a graph that changes nothing and an encoder that says little.
    struct Fake;

    impl Decoder for Fake {
        fn decode(&mut self, packet: &Packet, out: &mut Vec<Frame>) -> Result<(), StageError> {
            let plane = Plane { offset: 0, stride: 1, row_bytes: 1, rows: 1 };
            let planes = HostPlanes::new(Arc::new(vec![0_u8]), vec![plane; 3]).unwrap();
            out.push(Frame {
                pts: packet.pts,
                size: SIZE,
                format: PixelFormat::I420,
                color: Color::unsignalled(SIZE),
                surface: Surface::Host(planes),
                arrived: packet.arrived,
            });
            Ok(())
        }

        fn flush(&mut self, _: &mut Vec<Frame>) -> Result<(), StageError> {
            Ok(())
        }
    }

    impl Stage for Fake {
        fn process(&mut self, frame: Frame) -> Result<Frame, StageError> {
            Ok(frame)
        }
    }

    impl Encoder for Fake {
        fn encode(&mut self, frame: &Frame, _: bool) -> Result<Packet, StageError> {
            Ok(packet(frame.pts.0))
        }

        fn set_bitrate(&mut self, _: u32) {}

        fn track(&self) -> VideoTrack {
            VideoTrack { codec: Codec::H264, size: SIZE, parameter_sets: Bytes::new() }
        }
    }

    struct Times(SyncSender<Pts>);

    impl Sink for Times {
        fn packet(&mut self, packet: Packet, _: &VideoTrack, _: Timing) {
            let _ = self.0.send(packet.pts);
        }

        fn applied(&mut self, _: &str, _: Pts) {}
    }

    /// A graph that says which frame it has and keeps it until it is let go on.
    struct Slow(SyncSender<Pts>, Receiver<()>);

    impl Stage for Slow {
        fn process(&mut self, frame: Frame) -> Result<Frame, StageError> {
            let _ = self.0.send(frame.pts);
            let _ = self.1.recv();
            Ok(frame)
        }
    }

    fn engine(input: Input, mut graph: Option<Box<dyn Stage>>) -> (Engine, Receiver<Pts>) {
        let (tell, times) = sync_channel(100);
        let config = Config {
            name: "test".to_owned(),
            input,
            graph: Box::new(move |_| Ok(graph.take().unwrap_or_else(|| Box::new(Fake)))),
            encoder: Box::new(|_| Ok(Box::new(Fake))),
            frames_per_second: 30.0,
            bitrate: None,
            key_interval: KEY_INTERVAL,
            gate: Arc::new(NoGate),
            sink: Box::new(Times(tell)),
        };
        (Engine::spawn(config).unwrap(), times)
    }

    #[test]
    fn the_largest_rendition_holds_no_other_up_however_slow_it_is() {
        let (other, times) = engine(Input::Frames, None);
        let others = vec![other.feed()];
        let decoder = Box::new(move || -> Result<Box<dyn Decoder>, StageError> {
            Ok(Box::new(Shared { decoder: Box::new(Fake), edge: Pts(1), others: others.clone() }))
        });
        let (entering, entered) = sync_channel(100);
        let (leave, wait) = sync_channel(100);
        let slow: Box<dyn Stage> = Box::new(Slow(entering, wait));
        let input = Input::Packets { codec: Codec::H264, decoder };
        let (largest, largest_times) = engine(input, Some(slow));
        largest.start_at(Pts(1));
        // Before the live edge: for nobody.
        largest.push(packet(0));
        largest.push(packet(1));
        assert_eq!(entered.recv_timeout(PATIENCE), Ok(Pts(1)));
        assert_eq!(times.recv_timeout(PATIENCE), Ok(Pts(1)));
        for at in 2..6 {
            largest.push(packet(at));
            assert_eq!(times.recv_timeout(PATIENCE), Ok(Pts(at)), "while the largest works");
        }
        while largest.counters().replaced < 3 {
            std::thread::yield_now();
        }
        leave.send(()).unwrap();
        assert_eq!(largest_times.recv_timeout(PATIENCE), Ok(Pts(1)));
        assert_eq!(entered.recv_timeout(PATIENCE), Ok(Pts(5)), "it goes on with the newest");
        drop(leave);
    }
}
