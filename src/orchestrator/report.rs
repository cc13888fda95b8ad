//! What a session tells of itself: written by the engine's threads, read by tasks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use pipeline::packet::VideoTrack;
use pipeline::run::{self, Sink, Timing};
use pipeline::stage::StageError;
use pipeline::{Packet, Pts, Size};
use tokio::sync::mpsc;
use tracing::debug;

use crate::hops::{Hop, Hops};
use crate::rpc::credentials::unix_millis;
use crate::rpc::live::{EngineStatus, Event, InferenceStatus, InputStatus};

/// How often Millstreams are told how the job goes.
pub(super) const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Durations kept for medians.
const DURATIONS_KEPT: usize = 64;

/// What the engine's threads write and tasks read.
pub(crate) struct Shared {
    pub(super) received: AtomicU64,
    /// Milliseconds from `since` to the last sign of the gateway.
    pub(super) heard_ms: AtomicU64,
    pub(super) since: Instant,
    pub(super) last_input_ms: AtomicU64,
    pub(super) last_output_ms: AtomicU64,
    pub(super) broken: AtomicBool,
    pub(super) report: Mutex<Report>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            received: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            since: Instant::now(),
            last_input_ms: AtomicU64::new(0),
            last_output_ms: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            report: Mutex::default(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Report {
    pub(super) decode: Durations,
    pub(super) graph: Durations,
    pub(super) encode: Durations,
    pub(super) last_error: Option<(u64, String)>,
    pub(super) size: Size,
    pub(super) counters: run::Counters,
}

/// The newest durations of one kind.
#[derive(Default)]
pub(crate) struct Durations(VecDeque<Duration>);

impl Durations {
    fn push(&mut self, duration: Duration) {
        if self.0.len() == DURATIONS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(duration);
    }

    fn median_ms(&self) -> f64 {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    }
}

impl Shared {
    /// A sign of the gateway.
    pub(super) fn heard(&self) {
        let ms = self.since.elapsed().as_millis() as u64;
        self.heard_ms.store(ms, Ordering::Relaxed);
    }

    /// How long there was none.
    pub(super) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(heard)
    }

    pub(super) fn engine_status(&self, report: &Report) -> EngineStatus {
        let counters = report.counters;
        EngineStatus {
            received: self.received.load(Ordering::Relaxed),
            decoded: counters.decoded,
            processed: counters.out,
            dropped: counters.replaced,
            skipped: counters.skipped,
            failed: counters.failed,
            results_dropped: counters.results_dropped,
            decode_ms: report.decode.median_ms(),
            graph_ms: report.graph.median_ms(),
            encode_ms: report.encode.median_ms(),
        }
    }

    pub(super) fn status_event(&self, report: &Report, before: &mut (u64, u64)) -> Event {
        let status = self.engine_status(report);
        let now = unix_millis(SystemTime::now());
        let input_fps = (status.received - before.0) as f64 / STATUS_EVERY.as_secs_f64();
        let output_fps = (status.processed - before.1) as f64 / STATUS_EVERY.as_secs_f64();
        *before = (status.received, status.processed);
        let some = |ms: &AtomicU64| Some(ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0);
        let state = match (input_fps > 0.0, self.broken.load(Ordering::Relaxed)) {
            (false, _) => "DEGRADED_INPUT",
            (true, true) => "DEGRADED_INFERENCE",
            (true, false) => "ONLINE",
        };
        Event::Status {
            pipeline: crate::rpc::capabilities::MODEL.into(),
            state: state.into(),
            timestamp: now,
            input_status: InputStatus {
                last_input_time: some(&self.last_input_ms),
                fps: input_fps,
            },
            inference_status: InferenceStatus {
                last_output_time: some(&self.last_output_ms),
                fps: output_fps,
                last_error_time: report.last_error.as_ref().map(|(ms, _)| *ms),
                last_error: report.last_error.as_ref().map(|(_, text)| text.clone()),
                restart_count: 0,
            },
            millstream: Some(status),
        }
    }
}

/// Takes what the engine puts out, on the engine's thread.
pub(crate) struct Output {
    pub(super) packets: mpsc::Sender<(Packet, VideoTrack)>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) shared: Arc<Shared>,
    pub(super) hops: Arc<Hops>,
}

impl Sink for Output {
    fn packet(&mut self, packet: Packet, track: &VideoTrack, timing: Timing) {
        let now = Instant::now();
        let pts = packet.pts;
        let mut at = packet.arrived;
        for (hop, took) in [
            (Hop::Queue, timing.queue),
            (Hop::Decode, timing.decode),
            (Hop::Wait, timing.wait),
            (Hop::Graph, timing.graph),
            (Hop::Encode, timing.encode),
        ] {
            at = (at + took).min(now);
            self.hops.note(hop, pts, at, took);
        }
        self.shared.last_output_ms.store(unix_millis(SystemTime::now()), Ordering::Relaxed);
        self.shared.broken.store(false, Ordering::Relaxed);
        {
            let mut report = self.shared.report.lock();
            report.decode.push(timing.decode);
            report.graph.push(timing.graph);
            report.encode.push(timing.encode);
        }
        // Waiting here stops the graph's intake, which is what a slow way out must do.
        let _ = self.packets.blocking_send((packet, track.clone()));
    }

    fn applied(&mut self, update_id: &str, first: Pts) {
        let event = Event::ParamsUpdate {
            update_id: update_id.to_owned(),
            pts: Some(first.0),
            error: None,
        };
        let _ = self.events.blocking_send(event);
    }

    fn superseded(&mut self, update_id: &str) {
        let error = serde_json::json!({"error": {
            "type": "superseded",
            "message": "a newer change took its place before the next frame",
        }});
        let update_id = update_id.to_owned();
        let event = Event::ParamsUpdate { update_id, pts: None, error: Some(error) };
        let _ = self.events.blocking_send(event);
    }

    fn failed_frame(&mut self, pts: Pts, error: &StageError) {
        debug!(%pts, %error, "frame failed");
        self.shared.broken.store(true, Ordering::Relaxed);
        let now = unix_millis(SystemTime::now());
        self.shared.report.lock().last_error = Some((now, error.to_string()));
    }
}
