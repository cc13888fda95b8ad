//! The runner of one stream: decode, graph, encode; every frame comes out or is counted as dropped.
//!
//! Two threads belong to an [`Engine`]: one decodes (unless frames come decoded, [`Input::Frames`]),
//! the other runs the graph and the encoder. What
//! may wait between them, and what becomes of it when the machine is too slow, is fixed here:
//!
//! | place | holds | when it is full |
//! | --- | --- | --- |
//! | before the decoder | [`QUEUE_PACKETS_MAX`] packets, [`QUEUE_BYTES_MAX`] bytes | all of it is skipped, decoding goes on at the next key packet |
//! | decoder, behind by [`BEHIND_MAX`] | – | skips what nothing refers to; jumps to a newer key packet that waits; if it cannot catch up, skips to the next key packet |
//! | between decoder and graph | one frame | the newer frame wins |
//! | graph and encoder | the frame they work on | they take the next when they are done |
//!
//! So latency is bounded however slow a stage is. Sound does not pass here, and neither do vendor
//! libraries, money or sockets: decoder, graph and encoder come from factories, a [`Gate`] says
//! which frame may enter the graph, a [`Sink`] takes what comes out.

mod counters;
mod decode;
mod encode;
mod handles;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::frame::{Frame, Size};
use crate::packet::{Codec, Packet, VideoTrack};
use crate::stage::{Decoder, Encoder, EncoderSettings, Stage, StageError};
use crate::time::{Pts, Ticks};

pub use counters::Counters;
pub use handles::{Feed, Waker};

use counters::Counts;

/// Packets that may wait for the decoder.
pub const QUEUE_PACKETS_MAX: usize = 1024;
/// Bytes that may wait for the decoder.
pub const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Media time between the newest waiting packet and the one to be decoded, above which the decoder
/// counts as behind.
pub const BEHIND_MAX: Ticks = Ticks::from_millis(200);
/// Requests for key frames within this media time of the last key frame wait until it has passed.
pub const KEY_SPACING: Ticks = Ticks::from_millis(500);
/// How long a stopping engine waits for its threads before it leaves them to end alone.
pub const STOP_WITHIN: Duration = Duration::from_secs(2);
/// Failures of the decoder that may wait for the sink; more are only counted.
const FAILURES_WAITING_MAX: usize = 64;

/// Makes a decoder: at the start, and again after one has failed.
pub type MakeDecoder = Box<dyn FnMut() -> Result<Box<dyn Decoder>, StageError> + Send>;
/// Makes the graph in force for a picture size: at the first frame, and when the size changes.
pub type MakeGraph = Box<dyn FnMut(Size) -> Result<Box<dyn Stage>, StageError> + Send>;
/// Makes an encoder: at the first frame, when the size changes, and after one has failed.
pub type MakeEncoder =
    Box<dyn FnMut(EncoderSettings) -> Result<Box<dyn Encoder>, StageError> + Send>;

/// Where an engine's pictures come from.
pub enum Input {
    /// Coded, by [`Engine::push`].
    Packets {
        /// Their coding, to tell pictures that nothing refers to.
        codec: Codec,
        /// Where decoders come from.
        decoder: MakeDecoder,
    },
    /// Decoded by somebody else, by [`Engine::push_frame`]: one decoder serves several engines.
    Frames,
}

/// What an engine is made of.
pub struct Config {
    /// The stream's name, for thread names and logs.
    pub name: String,
    /// Where pictures come from.
    pub input: Input,
    /// Where graphs come from when the size changes; see also [`Engine::set_graph`].
    pub graph: MakeGraph,
    /// Where encoders come from.
    pub encoder: MakeEncoder,
    /// Pictures in a second to expect, for rate control only.
    pub frames_per_second: f32,
    /// Target in bits per second; without it [`EncoderSettings::for_picture`] decides.
    pub bitrate: Option<u32>,
    /// Longest distance between key frames.
    pub key_interval: Duration,
    /// Which frames may enter the graph.
    pub gate: Arc<dyn Gate>,
    /// Who takes what comes out.
    pub sink: Box<dyn Sink>,
}

/// Why a picture that was pushed did not come out processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// The decoder was behind, or waits for a key packet. Never admitted.
    Skipped,
    /// A newer frame took its place before the graph. Never admitted.
    Replaced,
    /// It could not be decoded, processed or encoded. One that the graph failed on had been
    /// admitted; it may still be passed on unchanged.
    Failed,
    /// The engine stopped first. Never admitted.
    Stopped,
    /// It lies before [`Engine::start_at`] and was decoded only. Never admitted.
    Early,
}

/// Says which frames may enter the graph. Payment per frame hooks in here.
///
/// Called from the engine's threads and from [`Engine::push`], without any lock of the engine held; it must not block.
pub trait Gate: Send + Sync {
    /// Whether this frame may enter the graph now. A frame that may not waits until
    /// [`Engine::wake`] or until a newer frame takes its place; then this is asked again.
    fn admit(&self, pts: Pts, size: Size) -> bool;
    /// An admitted frame has come out, processed and encoded in `coded_bytes`.
    fn returned(&self, pts: Pts, coded_bytes: usize);
    /// A picture will not come out processed. Only [`Dropped::Failed`] can name an admitted one.
    fn dropped(&self, pts: Pts, why: Dropped);
}

/// A gate that is always open.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGate;

impl Gate for NoGate {
    fn admit(&self, _: Pts, _: Size) -> bool {
        true
    }
    fn returned(&self, _: Pts, _: usize) {}
    fn dropped(&self, _: Pts, _: Dropped) {}
}

/// Where one picture's time went. The sum, from `arrived` on, is its time in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From arrival to the decoder, waiting for reordering included.
    pub queue: Duration,
    /// In the decoder.
    pub decode: Duration,
    /// Between decoder and graph: for the frame before, or for admission.
    pub wait: Duration,
    /// In the graph.
    pub graph: Duration,
    /// In the encoder.
    pub encode: Duration,
}

/// Takes what an engine puts out. All calls come from the graph's thread and delay the next frame.
pub trait Sink: Send {
    /// One coded picture. `track` is the encoder's, as of this packet.
    fn packet(&mut self, packet: Packet, track: &VideoTrack, timing: Timing);
    /// The graph of this update has taken its first frame, which is called `first`.
    fn applied(&mut self, update_id: &str, first: Pts);
    /// The graph of this update was replaced by a newer one before it had taken a frame.
    fn superseded(&mut self, update_id: &str) {
        let _ = update_id;
    }
    /// A picture could not be decoded, processed or encoded. One that only the graph failed on is
    /// passed on unchanged.
    fn failed_frame(&mut self, pts: Pts, error: &StageError) {
        let _ = (pts, error);
    }
    /// The decoder cannot go on before the source's next key frame.
    fn source_key_wanted(&mut self) {}
    /// [`Engine::end`] was called and every frame before it has come out.
    fn ended(&mut self) {}
}

/// What both threads and the handle share.
struct Shared {
    gate: Arc<dyn Gate>,
    counts: Counts,
    /// Bits per second asked for since the last frame, zero for none.
    bitrate: AtomicU32,
    /// Frames before this are decoded only; see [`Engine::start_at`].
    start: AtomicI64,
    key: AtomicBool,
    /// The first frame from here on is to be a key frame; see [`Engine::key_at`].
    key_at: AtomicI64,
    queue: decode::Queue,
    slot: encode::Slot,
    /// Threads that still run.
    running: Mutex<u8>,
    ended: Condvar,
}

impl Shared {
    fn dropped(&self, pts: Pts, why: Dropped) {
        self.counts.dropped(why);
        self.gate.dropped(pts, why);
    }
}

/// Marks a thread as ended when it leaves, also by a panic.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.ended.notify_all();
        // A thread that has gone by a panic takes the other along.
        self.0.queue.stop();
        self.0.slot.stop();
    }
}

/// A running stream. Dropping it stops it; see [`STOP_WITHIN`].
pub struct Engine {
    name: String,
    shared: Arc<Shared>,
    /// It has a decoder of its own.
    decodes: bool,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts the threads of a stream: two, or one where frames are pushed. Decoder, graph and encoder are made on them, when first
    /// needed; what fails there is told to the sink.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(config: Config) -> std::io::Result<Self> {
        let Config {
            name,
            input,
            graph,
            encoder,
            frames_per_second,
            bitrate,
            key_interval,
            gate,
            sink,
        } = config;
        let shared = Arc::new(Shared {
            gate,
            counts: Counts::default(),
            bitrate: AtomicU32::new(0),
            start: AtomicI64::new(i64::MIN),
            key: AtomicBool::new(false),
            key_at: AtomicI64::new(i64::MAX),
            queue: decode::Queue::default(),
            slot: encode::Slot::default(),
            running: Mutex::new(0),
            ended: Condvar::new(),
        });
        let mut engine = Self { name, shared, decodes: false, threads: Vec::with_capacity(2) };
        if let Input::Packets { codec, decoder } = input {
            let shared = engine.shared.clone();
            engine.thread("dec", move || decode::Worker::new(shared, codec, decoder).run())?;
            engine.decodes = true;
        }
        let shared = engine.shared.clone();
        let settings = encode::Rate { frames_per_second, bitrate, key_interval };
        engine.thread("gra", move || {
            encode::Worker::new(shared, graph, encoder, settings, sink).run();
        })?;
        Ok(engine)
    }

    fn thread(&mut self, part: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        // Linux shows 15 bytes of a thread's name: the part comes first.
        let name = format!("{part}:{}", self.name.replace('\0', "_"));
        *self.shared.running.lock() += 1;
        let running = Running(self.shared.clone());
        let handle = std::thread::Builder::new().name(name).spawn(move || {
            let _running = running;
            run();
        })?;
        self.threads.push(handle);
        Ok(())
    }

    /// Hands one coded picture to the decoder. Never blocks; see the table at the head of this
    /// file for what happens when the decoder is behind.
    pub fn push(&self, packet: Packet) {
        self.shared.counts.packets.fetch_add(1, Ordering::Relaxed);
        self.shared.queue.push(packet).report(&self.shared);
    }

    /// Hands one decoded frame to the graph, in whose place a newer one may come. Never blocks. For
    /// an engine of [`Input::Frames`].
    pub fn push_frame(&self, frame: Frame) {
        self.feed().push(frame);
    }

    /// A handle for [`Self::push_frame`] that does not keep the engine running.
    pub fn feed(&self) -> Feed {
        Feed::of(&self.shared)
    }

    /// Says that no more pictures come: what decoder and slot hold is put out, then the sink is
    /// told.
    pub fn end(&self) {
        match self.decodes {
            true => self.shared.queue.end(),
            false => self.shared.slot.end(),
        }
    }

    /// Puts `graph` in place of the one that runs, at the next frame that enters the graph. The
    /// sink is told that frame's name.
    pub fn set_graph(&self, graph: Box<dyn Stage>, update_id: String) {
        self.shared.slot.set_graph(graph, update_id);
    }

    /// Has frames before `pts` decoded only, on the way to the live edge: [`Dropped::Early`].
    pub fn start_at(&self, pts: Pts) {
        self.shared.start.store(pts.0, Ordering::Release);
    }

    /// Asks for a key frame. Requests within [`KEY_SPACING`] are one.
    pub fn force_key(&self) {
        self.shared.key.store(true, Ordering::Release);
    }

    /// Has the first frame from `pts` on be a key frame, where one of the source is: so that the
    /// groups of several codings of the same pictures begin together. One such wish waits at a
    /// time; [`KEY_SPACING`] does not hold for it.
    pub fn key_at(&self, pts: Pts) {
        let free = i64::MAX;
        let (set, read) = (Ordering::AcqRel, Ordering::Acquire);
        // A wish that is still open comes first.
        let _ = self.shared.key_at.compare_exchange(free, pts.0, set, read);
    }

    /// Changes the target rate from the next frame on, in bits per second.
    pub fn set_bitrate(&self, bitrate: u32) {
        self.shared.bitrate.store(bitrate.max(1), Ordering::Release);
    }

    /// Has the gate asked again about the frame that waits before the graph.
    pub fn wake(&self) {
        self.shared.slot.wake();
    }

    /// A handle for [`Self::wake`] that can be kept by the gate's owner.
    pub fn waker(&self) -> Waker {
        Waker::of(&self.shared)
    }

    /// What has been counted so far. Single figures are exact, their sum only while nothing moves.
    pub fn counters(&self) -> Counters {
        self.shared.counts.snapshot()
    }

    /// Whether all threads are alive. False after a panic in one of the stages.
    pub fn is_running(&self) -> bool {
        usize::from(*self.shared.running.lock()) == self.threads.len()
    }

    /// Stops and gives the last count. Nothing comes out any more when this returns, unless a
    /// stage hangs for longer than [`STOP_WITHIN`].
    pub fn stop(mut self) -> Counters {
        self.halt();
        self.counters()
    }

    fn halt(&mut self) {
        self.shared.queue.stop();
        self.shared.slot.stop();
        let deadline = Instant::now() + STOP_WITHIN;
        let mut running = self.shared.running.lock();
        while *running > 0 {
            if self.shared.ended.wait_until(&mut running, deadline).timed_out() {
                tracing::error!(stream = %self.name, "a stage hangs; its thread is left behind");
                self.threads.clear();
                return;
            }
        }
        drop(running);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(stream = %self.name, "a stage panicked");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.halt();
        }
    }
}
