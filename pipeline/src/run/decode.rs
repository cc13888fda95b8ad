//! The decoder's side: the queue before it, and the thread that decides what is decoded.
//!
//! The queue measures media time by the steps between packets, so a jump of the source's clock does
//! not read as a decoder that has fallen behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::encode::Waiting;
use super::{BEHIND_MAX, Dropped, MakeDecoder, QUEUE_BYTES_MAX, QUEUE_PACKETS_MAX, Shared};
use crate::frame::Frame;
use crate::packet::{Codec, Packet};
use crate::stage::{Decoder, StageError};
use crate::time::{Pts, Ticks};
use crate::{h264, hevc};

/// A step between two packets that is longer than this, or backwards, is a jump of the clock.
const STEP_MAX: Ticks = Ticks(10 * Ticks::SECOND.0);
/// Pictures that a decoder may hold for reordering: 16 by H.264 A.4.2, and the one just fed. What
/// exceeds it has been lost in the decoder.
const INSIDE_MAX: usize = 17;

struct Queued {
    packet: Packet,
    /// Media time on the queue's own clock.
    at: Ticks,
}

#[derive(Default)]
struct State {
    packets: VecDeque<Queued>,
    bytes: usize,
    /// The queue's clock, as of the newest packet.
    newest: Ticks,
    last_dts: Option<Pts>,
    /// Packets were thrown away for want of room; only a key packet can follow.
    gap: bool,
    ended: bool,
    stopped: bool,
}

/// What waits for the decoder.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

enum Next {
    Packet {
        packet: Packet,
        /// How far the decoder is behind with it.
        behind: Ticks,
        /// Media time of this packet on the queue's clock.
        at: Ticks,
        /// Something before it was thrown away.
        gap: bool,
    },
    End,
    Stop,
}

impl Queue {
    /// Appends a packet, and gives the times of those that had to go for it.
    pub(super) fn push(&self, packet: Packet) -> Refused {
        let mut state = self.state.lock();
        if state.stopped {
            return Refused { packets: VecDeque::new(), stopped: Some(packet.pts) };
        }
        let mut refused = VecDeque::new();
        let full = state.packets.len() >= QUEUE_PACKETS_MAX
            || state.bytes.saturating_add(packet.data.len()) > QUEUE_BYTES_MAX;
        if full {
            refused = std::mem::take(&mut state.packets);
            state.bytes = 0;
            state.gap = true;
        }
        if let Some(last) = state.last_dts {
            let step = packet.dts - last;
            if step > Ticks(0) && step <= STEP_MAX {
                state.newest.0 += step.0;
            }
        }
        state.last_dts = Some(packet.dts);
        state.bytes += packet.data.len();
        let at = state.newest;
        state.packets.push_back(Queued { packet, at });
        drop(state);
        self.filled.notify_one();
        Refused { packets: refused, stopped: None }
    }

    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.filled.notify_one();
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.filled.notify_all();
    }

    /// The packet to look at next. When the decoder is behind and a newer key packet waits, that
    /// is the one, and `skipped` takes those before it.
    fn next(&self, skipped: &mut Vec<Pts>) -> Next {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                skipped.extend(state.packets.drain(..).map(|queued| queued.packet.pts));
                return Next::Stop;
            }
            if let Some(front) = state.packets.front() {
                if state.newest.0 - front.at.0 > BEHIND_MAX.0
                    && let Some(key) = state.packets.iter().rposition(|queued| queued.packet.key)
                {
                    let passed: usize =
                        state.packets.range(..key).map(|queued| queued.packet.data.len()).sum();
                    state.bytes -= passed;
                    skipped.extend(state.packets.drain(..key).map(|queued| queued.packet.pts));
                }
                if let Some(Queued { packet, at }) = state.packets.pop_front() {
                    state.bytes -= packet.data.len();
                    let gap = std::mem::take(&mut state.gap);
                    let behind = Ticks(state.newest.0 - at.0);
                    return Next::Packet { packet, behind, at, gap };
                }
            }
            if std::mem::take(&mut state.ended) {
                return Next::End;
            }
            self.filled.wait(&mut state);
        }
    }
}

/// What a push threw away: the times of its items.
pub(super) struct Refused {
    packets: VecDeque<Queued>,
    stopped: Option<Pts>,
}

impl Refused {
    pub(super) fn report(self, shared: &Shared) {
        for queued in self.packets {
            shared.dropped(queued.packet.pts, Dropped::Skipped);
        }
        if let Some(pts) = self.stopped {
            shared.dropped(pts, Dropped::Stopped);
        }
    }
}

/// Pictures to be decoded before the decoder is judged to be too slow.
const MEASURED_MIN: u32 = 8;

/// How fast the decoder is against the stream, both as moving averages.
#[derive(Default)]
struct Pace {
    decode_ns: u64,
    /// Pictures measured so far.
    decoded: u32,
    step_ns: u64,
    last_at: Option<Ticks>,
}

impl Pace {
    fn decoded(&mut self, took: Duration) {
        average(&mut self.decode_ns, took);
        self.decoded = self.decoded.saturating_add(1);
    }

    fn packet(&mut self, at: Ticks) {
        if let Some(step) = self.last_at.and_then(|last| Ticks(at.0 - last.0).to_duration()) {
            average(&mut self.step_ns, step);
        }
        self.last_at = Some(at);
    }

    /// Whether what is late will be made up for without leaving references out: the decoder takes
    /// less than half of the stream's own time. Too little measured counts as yes: the first
    /// pictures of a session come at once, and giving up on them would cost a whole group.
    fn catches_up(&self) -> bool {
        self.decode_ns.saturating_mul(2) <= self.step_ns || self.decoded < MEASURED_MIN
    }
}

/// Moves an average over about eight values.
fn average(mean: &mut u64, value: Duration) {
    let value = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX) / 8;
    *mean = if *mean == 0 { value.saturating_mul(8) } else { *mean - *mean / 8 + value };
}

/// The decoder's thread.
pub(super) struct Worker {
    shared: Arc<Shared>,
    codec: Codec,
    make: MakeDecoder,
    decoder: Option<Box<dyn Decoder>>,
    needs_key: bool,
    pace: Pace,
    /// Names of the pictures that the decoder holds.
    inside: VecDeque<Pts>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, codec: Codec, make: MakeDecoder) -> Self {
        Self {
            shared,
            codec,
            make,
            decoder: None,
            needs_key: true,
            pace: Pace::default(),
            inside: VecDeque::with_capacity(INSIDE_MAX + 1),
        }
    }

    pub(super) fn run(mut self) {
        let mut skipped = Vec::new();
        let mut frames = Vec::new();
        loop {
            let next = self.shared.queue.next(&mut skipped);
            let why = if matches!(next, Next::Stop) { Dropped::Stopped } else { Dropped::Skipped };
            for pts in skipped.drain(..) {
                self.shared.dropped(pts, why);
            }
            match next {
                Next::Packet { packet, behind, at, gap } => {
                    self.pace.packet(at);
                    if self.wants(&packet, behind, gap) {
                        self.decode(&packet, &mut frames);
                    } else {
                        self.shared.dropped(packet.pts, Dropped::Skipped);
                    }
                }
                Next::End => self.end(&mut frames),
                Next::Stop => break,
            }
        }
        self.lose_inside(Dropped::Stopped);
    }

    /// Whether one packet is decoded, or skipped because the decoder is behind.
    fn wants(&mut self, packet: &Packet, behind: Ticks, gap: bool) -> bool {
        if packet.key {
            self.needs_key = false;
            return true;
        }
        let late = behind > BEHIND_MAX;
        if gap || (late && !self.pace.catches_up() && is_reference(self.codec, &packet.data)) {
            self.need_key();
        }
        !self.needs_key && (!late || is_reference(self.codec, &packet.data))
    }

    fn need_key(&mut self) {
        if !self.needs_key {
            self.needs_key = true;
            self.shared.slot.want_key();
        }
    }

    fn decode(&mut self, packet: &Packet, frames: &mut Vec<Frame>) {
        let started = Instant::now();
        self.inside.push_back(packet.pts);
        let (result, warm) = match &mut self.decoder {
            Some(decoder) => (decoder.decode(packet, frames), true),
            empty => match (self.make)() {
                Ok(decoder) => (empty.insert(decoder).decode(packet, frames), false),
                Err(error) => (Err(error), false),
            },
        };
        let finished = Instant::now();
        if warm {
            // The first picture pays for loading the library, which says nothing of the pace.
            self.pace.decoded(finished - started);
        }
        self.give(frames, started, finished, false);
        if let Err(error) = result {
            if !matches!(error, StageError::Broken { .. }) {
                self.decoder = None;
            }
            if let Some(place) = self.inside.iter().position(|pts| *pts == packet.pts) {
                self.inside.remove(place);
                self.shared.dropped(packet.pts, Dropped::Failed);
            }
            self.shared.slot.failed(packet.pts, error);
            self.need_key();
        }
        if self.decoder.is_none() {
            self.lose_inside(Dropped::Failed);
        }
        while self.inside.len() > INSIDE_MAX {
            if let Some(pts) = self.inside.pop_front() {
                self.shared.dropped(pts, Dropped::Failed);
            }
        }
    }

    fn give(&mut self, frames: &mut Vec<Frame>, started: Instant, finished: Instant, all: bool) {
        for frame in frames.drain(..) {
            let known = self.inside.iter().position(|pts| *pts == frame.pts);
            // A name that no packet had, or one that has been given up: nobody could account for it.
            let Some(place) = known else { continue };
            self.inside.remove(place);
            self.shared.counts.decoded.fetch_add(1, Ordering::Relaxed);
            if frame.pts.0 < self.shared.start.load(Ordering::Acquire) {
                self.shared.dropped(frame.pts, Dropped::Early);
                continue;
            }
            let waiting = Waiting {
                queue: started.saturating_duration_since(frame.arrived),
                decode: finished - started,
                decoded: finished,
                frame,
                refused: None,
            };
            if let Some((pts, why)) = self.shared.slot.put(waiting, all) {
                self.shared.dropped(pts, why);
            }
        }
    }

    fn end(&mut self, frames: &mut Vec<Frame>) {
        if let Some(decoder) = &mut self.decoder {
            let started = Instant::now();
            let result = decoder.flush(frames);
            self.give(frames, started, Instant::now(), true);
            if let Err(error) = result {
                self.decoder = None;
                if let Some(pts) = self.inside.front() {
                    self.shared.slot.failed(*pts, error);
                }
            }
        }
        self.lose_inside(Dropped::Failed);
        self.needs_key = true;
        self.shared.slot.end();
    }

    fn lose_inside(&mut self, why: Dropped) {
        for pts in self.inside.drain(..) {
            self.shared.dropped(pts, why);
        }
    }
}

/// Whether other pictures may refer to this one. Only H.264 says so where it can be seen at once;
/// for others the safe answer is yes.
fn is_reference(codec: Codec, data: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::is_reference(data),
        Codec::Hevc => hevc::is_reference(data),
        _ => true,
    }
}
