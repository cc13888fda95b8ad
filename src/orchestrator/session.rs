//! One live job at the orchestrator: channels, engine and the tasks between them.
//!
//! Input segments are unpacked and pushed into the engine; what comes out is packed into the `-out`
//! channel. The control channel brings parameters and wishes, the events channel tells how it
//! goes. The session ends when its input channel does, or when payment ends it.
//!
//! This file is long because the tasks of a job end each other and are read together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use pipeline::graph::{self, Fault, FaultKind, Prompt, PromptError, Registry};
use pipeline::packet::VideoTrack;
use pipeline::run::{self, Engine, Gate};
use pipeline::stage::{Stage, StageError};
use pipeline::{Codec, Packet, Pts, Size, Tracks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::admission::Admission;
use super::channels::{Channels, publish_events, publish_output, read_document};
use super::report::{Output, STATUS_EVERY, Shared};
use super::till;
use crate::hops::{Hop, Hops};
use crate::link;
use crate::rpc::credentials::unix_millis;
use crate::rpc::live::{Control, EngineStatus, Event};

/// Coded pictures between encoder and channel; a full queue stops the graph's intake.
const OUTPUT_PACKETS: usize = 8;

/// Events between engine and channel. A status that finds it full is left out.
const EVENTS_WAITING: usize = 64;

/// How long the first segment may be waited for.
const FIRST_INPUT_LIMIT: Duration = Duration::from_secs(30);

/// Without picture or sign of life for so long the gateway is gone; it sends one every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// A silent session gives its place to its own gateway after this.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// What a session is made of.
pub(crate) struct Config {
    /// The session's name on the wire.
    pub(crate) manifest_id: String,
    /// One id from publish to payment.
    pub(crate) request_id: String,
    /// Its channels; they exist already.
    pub(crate) channels: Channels,
    /// The first graph.
    pub(crate) prompt: Prompt,
    /// Expected pictures in a second.
    pub(crate) frame_rate: f32,
    /// Node classes.
    pub(crate) registry: Arc<Registry>,
    /// Which frames may enter the graph.
    pub(crate) admission: Arc<Admission>,
    /// Who pays.
    pub(crate) sender: chain::Address,
    /// Where winners are kept.
    pub(crate) store: payments::Store,
    /// Where frame times are noted.
    pub(crate) hops: Arc<Hops>,
}

/// A running session as others see it.
pub(crate) struct Session {
    manifest_id: String,
    request_id: String,
    since: SystemTime,
    sender: chain::Address,
    /// The newest graph, for a change of picture size.
    prompt: Arc<Mutex<Prompt>>,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    stop: CancellationToken,
    reason: Mutex<Option<String>>,
}

/// A session at one moment, for console and API.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// The session's name on the wire.
    pub manifest_id: String,
    /// One id from publish to payment.
    pub request_id: String,
    /// When it began, unix milliseconds.
    pub since_ms: u64,
    /// Picture size, `0x0` before the first.
    pub size: String,
    /// Counters.
    pub engine: EngineStatus,
    /// The last failure.
    pub last_error: Option<String>,
    /// Tickets and frames, if paid by frame.
    pub money: Option<payments::RecipientCounters>,
}

impl Session {
    /// A session that [`Session::run`] will drive.
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            manifest_id: config.manifest_id.clone(),
            request_id: config.request_id.clone(),
            since: SystemTime::now(),
            sender: config.sender,
            prompt: Arc::new(Mutex::new(config.prompt.clone())),
            shared: Arc::default(),
            admission: Arc::clone(&config.admission),
            stop: CancellationToken::new(),
            reason: Mutex::new(None),
        })
    }

    /// Ends the session with a reason for the log; the first reason stays.
    pub(crate) fn end(&self, reason: impl Into<String>) {
        self.reason.lock().get_or_insert(reason.into());
        self.stop.cancel();
    }

    /// The session's name on the wire.
    pub(crate) fn manifest_id(&self) -> &str {
        &self.manifest_id
    }

    /// Whether it is this sender's and has been silent for a while: its place may be taken.
    pub(crate) fn is_stale(&self, sender: &chain::Address) -> bool {
        self.sender == *sender && self.shared.silence() > STALE_AFTER
    }

    /// Where payment and engine meet.
    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// The session at this moment.
    pub(crate) fn status(&self) -> Status {
        let report = self.shared.report.lock();
        Status {
            manifest_id: self.manifest_id.clone(),
            request_id: self.request_id.clone(),
            since_ms: unix_millis(self.since),
            size: report.size.to_string(),
            engine: self.shared.engine_status(&report),
            last_error: report.last_error.as_ref().map(|(_, text)| text.clone()),
            money: self.admission.counters(),
        }
    }

    /// Drives the session until its input ends, it is told to end, or something breaks. The
    /// channels are closed by the caller.
    pub(crate) async fn run(self: Arc<Self>, config: Config, server: trickle::Server) {
        let reason = match self.drive(config, server).await {
            Ok(reason) => reason,
            Err(error) => format!("{error:#}"),
        };
        let reason = self.reason.lock().take().unwrap_or(reason);
        self.stop.cancel();
        info!(reason, "session ended");
    }

    async fn drive(&self, config: Config, server: trickle::Server) -> anyhow::Result<String> {
        let names = &config.channels;
        let input = server.local_subscriber(&names.input, trickle::Start::At(0))?;
        let control = server.local_subscriber(&names.control, trickle::Start::At(0))?;
        let output = server.local_publisher(&names.output)?;
        let events = server.local_publisher(&names.events)?;
        let pay = server.local_subscriber(&names.payment, trickle::Start::At(0))?;
        let receipts = server.local_publisher(&names.receipts)?;
        let (event_sender, event_receiver) = mpsc::channel(EVENTS_WAITING);
        let (packet_sender, packet_receiver) = mpsc::channel(OUTPUT_PACKETS);

        // Tickets are taken from the first moment on: the first frame needs one.
        let mut money = tokio::task::JoinSet::new();
        let till = Arc::clone(&config.admission);
        money.spawn(async move { till::pay(&till, pay).await });
        let (till, store) = (Arc::clone(&config.admission), config.store.clone());
        money.spawn(async move { till::serve(&till, receipts, store).await });
        let mut receiver = link::Receiver::new(input, config.admission.skip_until());
        let first = tokio::time::timeout(FIRST_INPUT_LIMIT, first_track(&mut receiver));
        let track = tokio::select! {
            () = self.stop.cancelled() => return Ok("told to end".into()),
            track = first => match track {
                Err(_) => return Ok(format!("no input within {FIRST_INPUT_LIMIT:?}")),
                Ok(track) => match track? {
                    Some(track) => track,
                    None => return Ok("the input ended before it began".into()),
                },
            },
        };
        self.shared.report.lock().size = track.size;
        let engine =
            Arc::new(self.spawn_engine(&config, &track, packet_sender, event_sender.clone())?);
        self.admission.set_waker(engine.waker());

        let mut parts = tokio::task::JoinSet::new();
        parts.spawn(publish_output(packet_receiver, output, Arc::clone(&config.hops)));
        parts.spawn(publish_events(event_receiver, events));
        let ticks = event_sender.clone();
        let reason = tokio::select! {
            () = self.stop.cancelled() => Ok("told to end".to_owned()),
            ended = self.pump(receiver, &engine, &config.hops) => ended,
            ended = self.obey(control, &engine, &config.registry, event_sender) => ended,
            () = self.report(&engine, ticks) => {
                Ok(format!("nothing was heard of the gateway for {SILENCE_MAX:?}"))
            }
            ended = money.join_next() => match ended {
                Some(Ok(reason)) => reason.map(|reason| format!("payment: {reason}")),
                _ => Ok("payment ended".into()),
            },
            ended = parts.join_next() => Ok(match ended {
                Some(Ok(Ok(()))) | None => "an output channel was closed".to_owned(),
                Some(Ok(Err(error))) => format!("output: {error:#}"),
                Some(Err(error)) => format!("output: {error}"),
            }),
        };
        parts.abort_all();
        let counters = engine.counters();
        self.shared.report.lock().counters = counters;
        // Joining the engine's threads takes a frame time: not on a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || drop(engine)).await;
        reason
    }

    fn spawn_engine(
        &self,
        config: &Config,
        track: &VideoTrack,
        packets: mpsc::Sender<(Packet, VideoTrack)>,
        events: mpsc::Sender<Event>,
    ) -> anyhow::Result<Engine> {
        let registry = Arc::clone(&config.registry);
        let prompt = Arc::clone(&self.prompt);
        let decoder_track = track.clone();
        let name = config.manifest_id.clone();
        let engine = Engine::spawn(run::Config {
            name,
            input: run::Input::Packets {
                codec: track.codec,
                decoder: Box::new(move || codecs::video::decoder(&decoder_track)),
            },
            graph: Box::new(move |size| {
                let newest = prompt.lock().clone();
                compile_stage(&newest, &registry, size)
            }),
            encoder: Box::new(|settings| {
                codecs::h264::Encoder::new(settings).map(|encoder| Box::new(encoder) as _)
            }),
            frames_per_second: config.frame_rate,
            bitrate: None,
            key_interval: Duration::from_secs(2),
            gate: Arc::clone(&config.admission) as Arc<dyn Gate>,
            sink: Box::new(Output {
                packets,
                events,
                shared: Arc::clone(&self.shared),
                hops: Arc::clone(&config.hops),
            }),
        })?;
        if let Some(until) = config.admission.skip_until() {
            engine.start_at(Pts(until.0 + 1));
        }
        Ok(engine)
    }

    /// Source segments into the engine.
    async fn pump(
        &self,
        mut receiver: link::Receiver,
        engine: &Engine,
        hops: &Hops,
    ) -> anyhow::Result<String> {
        loop {
            match receiver.next().await? {
                None => return Ok("the input ended".into()),
                Some(link::Received::Packet(packet)) if packet.kind.is_video() => {
                    hops.mark(Hop::Uplink, packet.pts, packet.arrived, Duration::ZERO);
                    self.shared.received.fetch_add(1, Ordering::Relaxed);
                    self.shared.heard();
                    let now = unix_millis(SystemTime::now());
                    self.shared.last_input_ms.store(now, Ordering::Relaxed);
                    engine.push(packet);
                }
                Some(link::Received::Tracks(tracks)) => {
                    if let Some(video) = tracks.video {
                        self.shared.report.lock().size = video.size;
                    }
                }
                Some(link::Received::Packet(_)) => {}
                Some(link::Received::Skipped(segments)) => {
                    warn!(segments, "input segments were missed");
                }
            }
        }
    }

    /// Control documents.
    async fn obey(
        &self,
        mut control: trickle::Subscriber,
        engine: &Arc<Engine>,
        registry: &Arc<Registry>,
        events: mpsc::Sender<Event>,
    ) -> anyhow::Result<String> {
        while let Some(mut segment) = control.next().await? {
            let Some(document) = read_document(&mut segment).await? else { continue };
            self.shared.heard();
            let Ok(control) = serde_json::from_slice::<Control>(&document) else {
                debug!("a control document that is no JSON object of ours");
                continue;
            };
            if control.millstream_key_frame {
                engine.force_key();
            }
            let Some(prompt) = control.prompt else { continue };
            let update_id = control.update_id.unwrap_or_default();
            if let Err(error) = self.update(&prompt, &update_id, engine, registry).await {
                info!(update_id, %error, "parameters refused");
                let event =
                    Event::ParamsUpdate { update_id, pts: None, error: Some(error.to_json()) };
                if events.send(event).await.is_err() {
                    break;
                }
            }
        }
        Ok("the control channel ended".into())
    }

    /// Compiles a new graph beside the running one and puts it in at a frame border.
    async fn update(
        &self,
        prompt: &serde_json::Value,
        update_id: &str,
        engine: &Arc<Engine>,
        registry: &Arc<Registry>,
    ) -> Result<(), PromptError> {
        let prompt = Prompt::parse(prompt)?;
        let size = self.shared.report.lock().size;
        let (compiling, registry) = (prompt.clone(), Arc::clone(registry));
        let graph =
            tokio::task::spawn_blocking(move || graph::compile(&compiling, &registry, size))
                .await
                .unwrap_or_else(|panic| Err(cannot_build(&panic)))?;
        *self.prompt.lock() = prompt;
        engine.set_graph(Box::new(graph), update_id.to_owned());
        Ok(())
    }

    /// Tells each second how it goes, until the gateway is silent for too long.
    async fn report(&self, engine: &Engine, events: mpsc::Sender<Event>) {
        let mut ticks = tokio::time::interval(STATUS_EVERY);
        let mut before = (0, 0);
        loop {
            ticks.tick().await;
            let counters = engine.counters();
            let event = {
                let mut report = self.shared.report.lock();
                report.counters = counters;
                self.shared.status_event(&report, &mut before)
            };
            // A full channel leaves this one out; a closed one ends the session elsewhere.
            let _ = events.try_send(event);
            if self.shared.silence() > SILENCE_MAX {
                return;
            }
        }
    }
}

/// A graph as the engine takes it.
fn compile_stage(
    prompt: &Prompt,
    registry: &Registry,
    size: Size,
) -> Result<Box<dyn Stage>, StageError> {
    match graph::compile(prompt, registry, size) {
        Ok(graph) => Ok(Box::new(graph)),
        Err(error) => Err(StageError::Unsupported { stage: "graph", what: error.to_string() }),
    }
}

fn cannot_build(panic: &tokio::task::JoinError) -> PromptError {
    let fault = Fault {
        kind: FaultKind::CustomValidationFailed,
        message: "The graph could not be built".into(),
        details: panic.to_string(),
        extra_info: serde_json::Map::new(),
    };
    PromptError { error: Box::new(fault), nodes: Vec::new() }
}

async fn first_track(receiver: &mut link::Receiver) -> anyhow::Result<Option<VideoTrack>> {
    loop {
        match receiver.next().await? {
            None => return Ok(None),
            Some(link::Received::Tracks(Tracks { video: Some(track), .. })) => {
                let decoded = matches!(track.codec, Codec::H264 | Codec::Hevc);
                anyhow::ensure!(decoded, "{} is not decoded here", track.codec);
                return Ok(Some(track));
            }
            Some(_) => {}
        }
    }
}
