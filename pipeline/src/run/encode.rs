//! The side of graph and encoder: the slot before them, and the thread that works through it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{
    Dropped, FAILURES_WAITING_MAX, KEY_SPACING, MakeEncoder, MakeGraph, Shared, Sink, Timing,
};
use crate::frame::{Frame, Size};
use crate::h264;
use crate::packet::{Codec, Packet, VideoTrack};
use crate::stage::{Encoder, EncoderSettings, Stage, StageError};
use crate::time::{Pts, Ticks};

/// Frames in a row that a graph may fail on before the encoder follows the unchanged picture's
/// size. Fewer are left out where the sizes differ, so that one failure does not cost two cuts.
const FAILURES_BEFORE_RESIZE: u32 = 30;

/// One decoded frame before the graph.
pub(super) struct Waiting {
    pub(super) frame: Frame,
    pub(super) queue: Duration,
    pub(super) decode: Duration,
    pub(super) decoded: Instant,
    /// The count of wakes at which the gate refused it.
    pub(super) refused: Option<u64>,
}

struct Update {
    graph: Box<dyn Stage>,
    id: String,
}

#[derive(Default)]
struct State {
    frame: Option<Waiting>,
    wakes: u64,
    update: Option<Update>,
    superseded: Vec<String>,
    failures: Vec<(Pts, StageError)>,
    key_wanted: bool,
    ended: bool,
    stopped: bool,
}

/// The one place between decoder and graph, and what is to be told to the sink from elsewhere.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
    freed: Condvar,
}

/// What the graph's thread finds when it is woken.
enum Work {
    Frame(Waiting, u64),
    Words { failures: Vec<(Pts, StageError)>, superseded: Vec<String>, key_wanted: bool },
    Ended,
    Stop,
}

impl Slot {
    /// Puts a frame in; the newer of two stays. With `wait`, one that is about to be taken is
    /// waited for instead. Gives the one that has to go.
    pub(super) fn put(&self, waiting: Waiting, wait: bool) -> Option<(Pts, Dropped)> {
        let mut state = self.state.lock();
        while wait && !state.stopped && state.frame.as_ref().is_some_and(|f| f.refused.is_none()) {
            self.freed.wait(&mut state);
        }
        if state.stopped {
            return Some((waiting.frame.pts, Dropped::Stopped));
        }
        let old = state.frame.replace(waiting);
        drop(state);
        self.changed.notify_one();
        old.map(|old| (old.frame.pts, Dropped::Replaced))
    }

    /// Puts back a frame that the gate refused, unless a newer one has come.
    fn put_back(&self, waiting: Waiting) -> Option<(Pts, Dropped)> {
        let mut state = self.state.lock();
        if state.frame.is_some() {
            return Some((waiting.frame.pts, Dropped::Replaced));
        }
        state.frame = Some(waiting);
        drop(state);
        self.freed.notify_one();
        None
    }

    pub(super) fn set_graph(&self, graph: Box<dyn Stage>, id: String) {
        let mut state = self.state.lock();
        let old = state.update.replace(Update { graph, id });
        if let Some(Update { id, graph }) = old {
            if state.superseded.len() < FAILURES_WAITING_MAX {
                state.superseded.push(id);
            }
            drop(state);
            self.changed.notify_one();
            drop(graph); // may take long: not under the lock
        }
    }

    pub(super) fn wake(&self) {
        self.state.lock().wakes += 1;
        self.changed.notify_one();
    }

    pub(super) fn failed(&self, pts: Pts, error: StageError) {
        let mut state = self.state.lock();
        if state.failures.len() < FAILURES_WAITING_MAX {
            state.failures.push((pts, error));
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn want_key(&self) {
        self.state.lock().key_wanted = true;
        self.changed.notify_one();
    }

    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
        self.freed.notify_all();
    }

    fn next(&self) -> Work {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Work::Stop;
            }
            if state.key_wanted || !state.failures.is_empty() || !state.superseded.is_empty() {
                return Work::Words {
                    failures: std::mem::take(&mut state.failures),
                    superseded: std::mem::take(&mut state.superseded),
                    key_wanted: std::mem::take(&mut state.key_wanted),
                };
            }
            let wakes = state.wakes;
            if state.frame.as_ref().is_some_and(|waiting| waiting.refused != Some(wakes))
                && let Some(waiting) = state.frame.take()
            {
                drop(state);
                self.freed.notify_one();
                return Work::Frame(waiting, wakes);
            }
            if state.ended && state.frame.is_none() {
                state.ended = false;
                return Work::Ended;
            }
            self.changed.wait(&mut state);
        }
    }
}

/// What encoders are made for.
pub(super) struct Rate {
    pub(super) frames_per_second: f32,
    pub(super) bitrate: Option<u32>,
    pub(super) key_interval: Duration,
}

impl Rate {
    fn settings(&self, size: Size) -> EncoderSettings {
        let mut settings = EncoderSettings::for_picture(size, self.frames_per_second);
        settings.key_interval = self.key_interval;
        if let Some(bitrate) = self.bitrate {
            settings.bitrate = bitrate;
        }
        settings
    }
}

/// The graph's and encoder's thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    make_graph: MakeGraph,
    make_encoder: MakeEncoder,
    rate: Rate,
    sink: Box<dyn Sink>,
    graph: Option<Box<dyn Stage>>,
    /// The size that the graph was made for.
    input: Option<Size>,
    encoder: Option<(Box<dyn Encoder>, Size)>,
    last_key: Option<Pts>,
    failures: u32,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        make_graph: MakeGraph,
        make_encoder: MakeEncoder,
        rate: Rate,
        sink: Box<dyn Sink>,
    ) -> Self {
        Self {
            shared,
            make_graph,
            make_encoder,
            rate,
            sink,
            graph: None,
            input: None,
            encoder: None,
            last_key: None,
            failures: 0,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.shared.slot.next() {
                Work::Frame(waiting, wakes) => self.admit(waiting, wakes),
                Work::Words { failures, superseded, key_wanted } => {
                    for (pts, error) in failures {
                        self.sink.failed_frame(pts, &error);
                    }
                    for id in superseded {
                        self.sink.superseded(&id);
                    }
                    if key_wanted {
                        self.sink.source_key_wanted();
                    }
                }
                Work::Ended => self.sink.ended(),
                Work::Stop => break,
            }
        }
        let left = self.shared.slot.state.lock().frame.take();
        if let Some(waiting) = left {
            self.shared.dropped(waiting.frame.pts, Dropped::Stopped);
        }
    }

    fn admit(&mut self, mut waiting: Waiting, wakes: u64) {
        if self.shared.gate.admit(waiting.frame.pts, waiting.frame.size) {
            self.work(waiting);
            return;
        }
        waiting.refused = Some(wakes);
        if let Some((pts, why)) = self.shared.slot.put_back(waiting) {
            self.shared.dropped(pts, why);
        }
    }

    fn work(&mut self, waiting: Waiting) {
        let Waiting { frame, queue, decode, decoded, .. } = waiting;
        let (pts, arrived) = (frame.pts, frame.arrived);
        let update = self.shared.slot.state.lock().update.take();
        let mut retired = None;
        if let Some(Update { graph, id }) = update {
            retired = self.graph.replace(graph);
            self.input = Some(frame.size);
            self.sink.applied(&id, pts);
        } else if self.input != Some(frame.size) {
            // Asked once for each size: a graph that cannot be made is not tried at every frame.
            self.input = Some(frame.size);
            retired = self.graph.take();
            match (self.make_graph)(frame.size) {
                Ok(graph) => self.graph = Some(graph),
                Err(error) => self.sink.failed_frame(pts, &error),
            }
        }
        let started = Instant::now();
        let (frame, processed) = self.process(frame);
        let results = self.graph.as_mut().filter(|_| processed).and_then(|g| g.results());
        let after_graph = Instant::now();
        if processed {
            self.failures = 0;
        } else {
            self.shared.dropped(pts, Dropped::Failed);
            self.failures = self.failures.saturating_add(1);
            let other_size = self.encoder.as_ref().is_some_and(|(_, size)| *size != frame.size);
            if other_size && self.failures < FAILURES_BEFORE_RESIZE {
                return;
            }
        }
        match self.encode(&frame) {
            Ok((mut packet, track)) => {
                let encode = after_graph.elapsed();
                let wait = started.saturating_duration_since(decoded);
                let timing = Timing { queue, decode, wait, graph: after_graph - started, encode };
                packet.arrived = arrived;
                if let Some(results) = results {
                    self.attach(&mut packet, track.codec, &results);
                }
                if processed {
                    self.shared.counts.out.fetch_add(1, Ordering::Relaxed);
                    self.shared.gate.returned(pts, packet.data.len());
                }
                self.sink.packet(packet, &track, timing);
            }
            Err(error) => {
                self.encoder = None;
                if processed {
                    self.shared.dropped(pts, Dropped::Failed);
                }
                self.sink.failed_frame(pts, &error);
            }
        }
        drop(retired); // may take long: after its successor's first frame is out
    }

    /// Puts what the graph said about a picture into it.
    fn attach(&mut self, packet: &mut Packet, codec: Codec, results: &str) {
        let with = (codec == Codec::H264).then(|| h264::with_results(&packet.data, results));
        match with.flatten() {
            Some(data) => packet.data = data,
            None => self.shared.counts.result_dropped(),
        }
    }

    /// The frame after the graph, or unchanged and `false`.
    fn process(&mut self, frame: Frame) -> (Frame, bool) {
        let Some(graph) = &mut self.graph else { return (frame, false) };
        let before = frame.clone();
        let error = match graph.process(frame) {
            Ok(after) if after.pts == before.pts => return (after, true),
            Ok(after) => StageError::Failed {
                stage: "graph",
                reason: format!("it answered frame {} with frame {}", before.pts, after.pts),
            },
            Err(error) => error,
        };
        self.sink.failed_frame(before.pts, &error);
        (before, false)
    }

    fn encode(&mut self, frame: &Frame) -> Result<(Packet, VideoTrack), StageError> {
        let bitrate = self.shared.bitrate.swap(0, Ordering::AcqRel);
        if bitrate != 0 {
            self.rate.bitrate = Some(bitrate);
            if let Some((encoder, _)) = &mut self.encoder {
                encoder.set_bitrate(bitrate);
            }
        }
        if self.encoder.as_ref().is_some_and(|(_, size)| *size != frame.size) {
            self.encoder = None;
        }
        let encoder = match &mut self.encoder {
            Some((encoder, _)) => encoder,
            empty => {
                let encoder = (self.make_encoder)(self.rate.settings(frame.size))?;
                &mut empty.insert((encoder, frame.size)).0
            }
        };
        let asked = self.shared.key.load(Ordering::Acquire);
        let due = self.last_key.is_none_or(|last| {
            let since = frame.pts - last;
            since >= KEY_SPACING || since < Ticks(0)
        });
        // Taken back before the encoder works: a request during its work is a new one.
        let force = asked && due && self.shared.key.swap(false, Ordering::AcqRel);
        let group = frame.pts.0 >= self.shared.key_at.load(Ordering::Acquire);
        if group {
            self.shared.key_at.store(i64::MAX, Ordering::Release);
        }
        let force = force || group;
        let packet = encoder.encode(frame, force)?;
        if packet.key {
            self.last_key = Some(frame.pts);
        }
        Ok((packet, encoder.track()))
    }
}
