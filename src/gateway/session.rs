//! A processed stream's life: choose an orchestrator, send it the source, bring the result back,
//! and go on with another when it fails.
//!
//! Viewers of the processed stream and its sound never notice which orchestrator works: the stream
//! in the hub, its sound and its clock belong to this session and outlive every connection.
//!
//! This file is long because the one loop of a stream and what each of its events does are read
//! together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::StreamName;
use ingest::hub::{Item, Reader, Start};
use parking_lot::Mutex;
use payments::SenderCounters;
use pipeline::Tracks;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Shared;
use super::connection::{Connection, Notice};
use super::discover::Choice;
use super::job::{Counters, Job, connect};
use super::output::Output;
use super::payer::Told;
use crate::rpc::live::{Control, EngineStatus, Event};

/// Pause before everybody is asked again when nobody takes the job.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long the first picture of a connection may take: models are loaded meanwhile.
const FIRST_PICTURE_LIMIT: Duration = Duration::from_secs(10);

/// How often figures for the console are brought up to date.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// How often overdue pictures are looked for.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// Changes of parameters whose answer is awaited at the same time.
const UPDATES_WAITING: usize = 64;

/// What is asked of a session from outside.
pub(crate) enum Command {
    /// Change the graph; answered with the first frame that it affects.
    Update {
        /// Names the change.
        update_id: String,
        /// The new graph.
        prompt: Value,
        /// Gets the answer.
        answer: oneshot::Sender<UpdateAnswer>,
    },
}

/// What became of a change of parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum UpdateAnswer {
    /// In effect from this frame on.
    Applied {
        /// The first frame that it affects.
        pts: i64,
    },
    /// Refused; the old graph runs on.
    Refused {
        /// ComfyUI's error document.
        error: Value,
    },
    /// Kept for the next orchestrator, or not answered yet.
    Pending,
}

/// A session at one moment, for console and API.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// One id from publish to payment.
    pub request_id: String,
    /// The orchestrator in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator: Option<String>,
    /// Its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_id: Option<String>,
    /// What each candidate was judged at the last choice.
    pub candidates: Vec<Choice>,
    /// Swaps so far.
    pub swaps: u64,
    /// Why there is no output, if there is none.
    pub problem: Option<String>,
    /// The graph in force.
    pub prompt: Value,
    /// Smoothed milliseconds from source to processed picture.
    pub delay_ms: Option<f64>,
    /// Processed pictures written.
    pub pictures: u64,
    /// Processed pictures refused: late, repeated or never sent.
    pub refused: u64,
    /// The orchestrator's engine.
    pub engine: Option<EngineStatus>,
    /// Tickets and frames of the session with the orchestrator, if paid by frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paying: Option<SenderCounters>,
}

/// A session as others see it.
pub(crate) struct Handle {
    /// Commands to it.
    pub(crate) commands: mpsc::Sender<Command>,
    status: Arc<Mutex<Status>>,
}

impl Handle {
    /// The session at this moment.
    pub(crate) fn status(&self) -> Status {
        self.status.lock().clone()
    }
}

/// The session itself, driven by [`Session::run`].
pub(crate) struct Session {
    shared: Arc<Shared>,
    name: StreamName,
    request_id: String,
    prompt: Value,
    commands: mpsc::Receiver<Command>,
    status: Arc<Mutex<Status>>,
    output: Output,
    tracks: Tracks,
    updates: HashMap<String, Update>,
    last_input: Instant,
    /// Counters of the payer at work.
    paying: Option<Counters>,
}

/// A change of the graph that is not answered yet.
struct Update {
    prompt: Value,
    answer: oneshot::Sender<UpdateAnswer>,
}

/// Why a connection was left.
enum Left {
    /// The source is gone: so is the session.
    SourceEnded,
    /// The node stops.
    Stopped,
    /// The orchestrator failed.
    Trouble(String),
}

impl Session {
    /// A session for a stream that has just come, and its handle.
    pub(super) fn new(shared: Arc<Shared>, name: StreamName, prompt: Value) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(16);
        let request_id = format!("{:08x}", rand::random::<u32>());
        let status = Status {
            request_id: request_id.clone(),
            prompt: prompt.clone(),
            problem: Some("choosing an orchestrator".into()),
            ..Status::default()
        };
        let status = Arc::new(Mutex::new(status));
        let handle = Handle { commands: sender, status: Arc::clone(&status) };
        let hops = Arc::clone(&shared.hops);
        let output = Output::new(shared.hub.clone(), &name, request_id.clone(), hops);
        let session = Self {
            shared,
            name,
            request_id,
            prompt,
            commands,
            status,
            output,
            tracks: Tracks::default(),
            updates: HashMap::new(),
            last_input: Instant::now(),
            paying: None,
        };
        (session, handle)
    }

    /// One id from publish to payment.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Drives the stream until its source ends or the node stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let Some(mut source) = self.shared.hub.tap(&self.name, Start::LastKey) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        while self.tracks.video.is_none() {
            let item = tokio::select! {
                () = stop.cancelled() => return self.leave(&Left::Stopped),
                item = source.next() => item,
            };
            if self.take(item) {
                return self.leave(&Left::SourceEnded);
            }
        }
        loop {
            let chosen = tokio::select! {
                chosen = shared.discovery.choose() => chosen,
                left = self.idle(&mut source, &stop) => return self.leave(&left),
            };
            let mut problem = chosen.problem();
            self.status.lock().candidates = chosen.verdicts;
            let mut worked = false;
            for asked in chosen.order {
                let connected = tokio::select! {
                    connected = connect(&shared, self.job(), &asked) => connected,
                    left = self.idle(&mut source, &stop) => return self.leave(&left),
                };
                let url = asked.backend.url().to_owned();
                match connected {
                    Ok((connection, manifest_id, counters)) => {
                        info!(orchestrator = url, manifest_id, "orchestrator chosen");
                        self.begin(&url, manifest_id);
                        self.paying = counters;
                        let left = self.drive(&mut source, connection, &stop).await;
                        let Left::Trouble(reason) = &left else { return self.leave(&left) };
                        warn!(orchestrator = url, reason, "orchestrator left");
                        worked = self.swapped();
                        problem = Some(format!("{url}: {reason}"));
                    }
                    Err(error) => {
                        problem = Some(format!("{url}: {error:#}"));
                        warn!(orchestrator = url, error = format!("{error:#}"), "not taken");
                    }
                }
                shared.discovery.failed(&url);
                if worked {
                    // What the others said is old by now: everybody is asked anew.
                    break;
                }
            }
            self.status.lock().problem = problem;
            if !worked {
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    left = self.idle(&mut source, &stop) => return self.leave(&left),
                }
            }
        }
    }

    /// What an orchestrator is asked to do.
    fn job(&self) -> Job {
        Job {
            name: self.name.clone(),
            request_id: self.request_id.clone(),
            prompt: self.prompt.clone(),
            track: self.tracks.video.clone(),
            last_out: self.output.splice().last_out(),
            near: self.output.last_source(),
            delay: self.output.splice().delay(),
        }
    }

    /// Carries the stream over one connection.
    async fn drive(
        &mut self,
        source: &mut Reader,
        mut connection: Connection,
        stop: &CancellationToken,
    ) -> Left {
        let left = self.carry(source, &mut connection, stop).await;
        // The job there must end, but nobody waits for it: another may be taking over.
        tokio::spawn(connection.finish());
        left
    }

    async fn carry(
        &mut self,
        source: &mut Reader,
        connection: &mut Connection,
        stop: &CancellationToken,
    ) -> Left {
        let mut watch = tokio::time::interval(WATCH_EVERY);
        let mut report = tokio::time::interval(REPORT_EVERY);
        let before = self.output.pictures();
        loop {
            let sound_due = self.output.next_timeout();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Left::Stopped,
                notice = connection.next() => {
                    // A picture can be back before its source was looked at here.
                    while let Some(item) = source.try_next() {
                        if self.take(item) {
                            return Left::SourceEnded;
                        }
                    }
                    if let Notice::Picture(packet) = &notice {
                        let told = Told::Returned(packet.pts, !packet.data.is_empty());
                        connection.teller.tell(told).await;
                    }
                    if let Err(reason) = self.notice(notice) {
                        return Left::Trouble(reason);
                    }
                }
                item = source.next() => if self.take(item) { return Left::SourceEnded },
                () = crate::until(sound_due) => self.output.sound_due(),
                () = self.output.key_wish() => {
                    connection.control(Control::key_frame());
                }
                Some(command) = self.commands.recv() => self.command(command, Some(connection)),
                _ = watch.tick() => {
                    let first = self.output.pictures() == before;
                    if let Some(reason) = self.overdue(connection.since, first) {
                        return Left::Trouble(reason);
                    }
                }
                _ = report.tick() => self.report(),
            }
        }
    }

    /// Keeps sound and source going while no orchestrator works.
    async fn idle(&mut self, source: &mut Reader, stop: &CancellationToken) -> Left {
        loop {
            let sound_due = self.output.next_timeout();
            tokio::select! {
                () = stop.cancelled() => return Left::Stopped,
                item = source.next() => if self.take(item) { return Left::SourceEnded },
                () = crate::until(sound_due) => self.output.sound_due(),
                Some(command) = self.commands.recv() => self.command(command, None),
            }
        }
    }

    /// An item of the source; true at its end.
    fn take(&mut self, item: Item) -> bool {
        match item {
            Item::Tracks(tracks) => {
                self.tracks = (*tracks).clone();
                self.output.source_tracks(&tracks);
            }
            Item::Packet(packet) => {
                if packet.kind.is_video() {
                    self.last_input = Instant::now();
                }
                self.output.source_packet(packet);
            }
            Item::Lagged(packets) => warn!(packets, "the session is too slow for its source"),
            Item::End => return true,
        }
        false
    }

    /// What the connection tells.
    fn notice(&mut self, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Trouble(reason) => return Err(reason),
            Notice::Picture(packet) => {
                self.output.picture(packet).map_err(|error| error.to_string())?;
            }
            Notice::Track(track) => self.output.track(track),
            Notice::Event(event) => self.event(event),
            Notice::Skipped(segments) => {
                warn!(segments, "processed segments were missed");
                self.output.wait_for_key();
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::ParamsUpdate { update_id, pts, error } => {
                let answer = match (pts, error) {
                    (Some(pts), _) => UpdateAnswer::Applied { pts },
                    (None, error) => UpdateAnswer::Refused { error: error.unwrap_or_default() },
                };
                info!(update_id, ?answer, "parameters");
                if let Some(update) = self.updates.remove(&update_id) {
                    if matches!(answer, UpdateAnswer::Applied { .. }) {
                        self.set_prompt(update.prompt);
                    }
                    let _ = update.answer.send(answer);
                }
            }
            Event::Status { millstream, inference_status, .. } => {
                let mut status = self.status.lock();
                status.engine = millstream;
                if let Some(error) = inference_status.last_error {
                    status.problem = Some(error);
                }
            }
        }
    }

    fn command(&mut self, command: Command, connection: Option<&Connection>) {
        let Command::Update { update_id, prompt, answer } = command;
        let Some(connection) = connection else {
            // The next orchestrator starts with it.
            self.set_prompt(prompt);
            let _ = answer.send(UpdateAnswer::Pending);
            return;
        };
        let full = self.updates.len() >= UPDATES_WAITING;
        if full || !connection.control(Control::update(update_id.clone(), prompt.clone())) {
            let _ = answer.send(UpdateAnswer::Pending);
            return;
        }
        self.updates.insert(update_id, Update { prompt, answer });
    }

    fn set_prompt(&mut self, prompt: Value) {
        self.status.lock().prompt.clone_from(&prompt);
        self.prompt = prompt;
    }

    /// Whether pictures that were sent should have come back long ago. A source that pauses is
    /// never trouble.
    fn overdue(&self, since: Instant, first: bool) -> Option<String> {
        let splice = self.output.splice();
        let usual = Duration::from_millis(self.shared.settings.output_timeout_ms);
        let limit = if first {
            FIRST_PICTURE_LIMIT
        } else {
            usual.max(splice.delay().unwrap_or_default() * 4)
        };
        let oldest = splice.oldest_pending()?.max(since);
        let silence = self.output.silence(since);
        let late = oldest.elapsed() > limit && silence > limit;
        let running = self.last_input.elapsed() < limit / 2;
        (late && running).then(|| format!("no picture for {} ms", silence.as_millis()))
    }

    fn begin(&self, url: &str, manifest_id: String) {
        let mut status = self.status.lock();
        status.orchestrator = Some(url.to_owned());
        status.manifest_id = Some(manifest_id);
        status.problem = None;
        status.engine = None;
    }

    /// The connection is gone. True when it had worked: then another is looked for at once.
    fn swapped(&mut self) -> bool {
        self.output.wait_for_key();
        // What the last one had not answered is what the next one starts with.
        for (_, update) in std::mem::take(&mut self.updates) {
            self.set_prompt(update.prompt);
            let _ = update.answer.send(UpdateAnswer::Pending);
        }
        let mut status = self.status.lock();
        self.paying = None;
        status.paying = None;
        status.orchestrator = None;
        status.manifest_id = None;
        status.swaps += 1;
        self.output.splice().last_out().is_some()
    }

    fn report(&self) {
        let splice = self.output.splice();
        let mut status = self.status.lock();
        status.delay_ms = splice.delay().map(|delay| delay.as_secs_f64() * 1000.0);
        status.pictures = self.output.pictures();
        status.refused = splice.refused();
        status.paying = self.paying.as_ref().map(|counters| counters.lock().clone());
        if let (Some(url), Some(delay)) = (&status.orchestrator, splice.delay()) {
            self.shared.discovery.works(url, delay);
        }
    }

    fn leave(&self, left: &Left) {
        let reason = match left {
            Left::SourceEnded => "the source ended",
            Left::Stopped => "the node stops",
            Left::Trouble(reason) => reason,
        };
        info!(pictures = self.output.pictures(), reason, "processing ended");
    }
}
