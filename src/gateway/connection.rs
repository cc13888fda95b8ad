//! One job at one orchestrator: the tasks that carry pictures there and back.
//!
//! What happens on its channels reaches the stream's session as [`Notice`]s; dropping the
//! connection ends all of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::StreamName;
use ingest::hub::{Hub, Item, Start};
use ingest::views::{Takes, Views};
use payments::FrameRate;
use pipeline::packet::VideoTrack;
use pipeline::video::Description;
use pipeline::{Codec, Packet, Pts, Tracks};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug};

use super::backend::Backend;
use super::payer::{Payer, Teller, Told};
use crate::hops::{Hop, Hops};
use crate::link;
use crate::orchestrator::read_document;
use crate::rpc::live::{Control, Event, JSON, MPEG_TS, StartAnswer};

/// Notices that wait for the session; a full queue makes the channel wait.
const NOTICES_WAITING: usize = 64;

/// Control documents that wait for the channel; a further one is refused.
const CONTROLS_WAITING: usize = 16;

/// How often a sign of life goes out, as the network wants it.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// How long the closing of a job may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What a connection tells its session.
#[derive(Debug)]
pub(crate) enum Notice {
    /// What the processed pictures are.
    Track(VideoTrack),
    /// A processed picture.
    Picture(Packet),
    /// The orchestrator says something.
    Event(Event),
    /// Segments were missed on the way back: the next picture is a key picture.
    Skipped(u64),
    /// The connection cannot go on.
    Trouble(String),
}

/// A running job.
pub(crate) struct Connection {
    notices: mpsc::Receiver<Notice>,
    controls: mpsc::Sender<Control>,
    /// Tells the payer of frames.
    pub(crate) teller: Teller,
    /// When it was begun.
    pub(crate) since: Instant,
    stop: CancellationToken,
    closed: oneshot::Receiver<()>,
    _tasks: JoinSet<()>,
}

/// What a connection is made of.
pub(crate) struct Parts {
    /// The orchestrator.
    pub(crate) backend: Backend,
    /// Its answer to the start request.
    pub(crate) answer: StartAnswer,
    /// Where the source is.
    pub(crate) hub: Hub,
    /// Sources in the form that the link carries.
    pub(crate) views: Arc<dyn Views>,
    /// The source's name.
    pub(crate) source: StreamName,
    /// A frame name near the present ones.
    pub(crate) near: Option<Pts>,
    /// Frames up to this one were delivered by another: they are sent, not paid.
    pub(crate) skip_until: Option<Pts>,
    /// Who pays, and who tells it; nobody where the work costs nothing.
    pub(crate) payer: Option<Payer>,
    /// Tells the payer.
    pub(crate) teller: Teller,
    /// Where frame times are noted.
    pub(crate) hops: Arc<Hops>,
}

impl Connection {
    /// Opens the channels and begins to carry pictures, from the newest key picture on.
    ///
    /// # Errors
    /// When a channel cannot be opened.
    pub(crate) async fn open(parts: Parts) -> anyhow::Result<Self> {
        let Parts { backend, answer, hub, views, source, near, skip_until, payer, teller, hops } =
            parts;
        let input = backend.publisher(&answer.publish_url, MPEG_TS).await?;
        let output = backend.subscriber(&answer.subscribe_url).await?;
        let control = backend.publisher(&answer.control_url, JSON).await?;
        let events = backend.subscriber(&answer.events_url).await?;
        let (notify, notices) = mpsc::channel(NOTICES_WAITING);
        let (controls, wishes) = mpsc::channel(CONTROLS_WAITING);

        let mut tasks = JoinSet::new();
        let mut spawn = |name: &'static str, task: TaskFuture| {
            let notify = notify.clone();
            let watched = async move {
                let text = match task.await {
                    Ok(reason) => format!("{name}: {reason}"),
                    Err(error) => format!("{name}: {error:#}"),
                };
                let _ = notify.send(Notice::Trouble(text)).await;
            };
            tasks.spawn(watched.in_current_span());
        };
        let stop = CancellationToken::new();
        let (done, closed) = oneshot::channel();
        let told = teller.clone();
        let way = Uplink { hub, views, source, skip_until, teller: told, hops, stop: stop.clone() };
        spawn(
            "input",
            Box::pin(async move {
                let result = way.run(input).await;
                let _ = done.send(());
                result
            }),
        );
        if let Some(payer) = payer {
            spawn("payment", Box::pin(payer.run()));
        }
        spawn("output", Box::pin(downlink(output, near, notify.clone())));
        spawn("control", Box::pin(control_channel(wishes, control)));
        spawn("events", Box::pin(events_channel(events, notify.clone())));
        Ok(Self { notices, controls, teller, since: Instant::now(), stop, closed, _tasks: tasks })
    }

    /// What happens next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Notice {
        match self.notices.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    /// Closes the input channel, which ends the job there, and drops the rest.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.closed).await;
    }

    /// Sends a control document; false when the channel does not keep up.
    pub(crate) fn control(&self, control: Control) -> bool {
        self.controls.try_send(control).is_ok()
    }
}

type TaskFuture = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<&'static str>> + Send>>;

/// What goes to an orchestrator: pictures that MPEG-TS carries. Sound stays at the gateway.
static LINK: Takes = Takes {
    label: "orchestrators",
    video: &[Codec::H264, Codec::Hevc],
    audio: &[Codec::Aac, Codec::Opus, Codec::Mp3, Codec::Flac, Codec::G711U, Codec::G711A],
    reordering: true,
};

/// Source pictures from the hub to the orchestrator.
struct Uplink {
    hub: Hub,
    views: Arc<dyn Views>,
    source: StreamName,
    skip_until: Option<Pts>,
    teller: Teller,
    hops: Arc<Hops>,
    /// Close the channel: nothing more comes.
    stop: CancellationToken,
}

impl Uplink {
    async fn run(self, publisher: trickle::Publisher) -> anyhow::Result<&'static str> {
        let Self { hub, views, source, skip_until, teller, hops, stop } = self;
        let Some(mut reader) = hub.tap(&source, Start::LastKey) else {
            return Ok("the source is gone");
        };
        let codec =
            hub.status(&source).and_then(|status| Some(status.tracks.video.as_ref()?.codec));
        if codec.is_some_and(|codec| !LINK.video.contains(&codec)) {
            // Bridged once for all who need it; the times of its pictures are those of the source.
            reader = views.view(&source, &LINK).await?;
        }
        let mut tracks = Tracks::default();
        let mut publisher = Some(publisher);
        let mut sender: Option<link::Sender> = None;
        loop {
            let item = tokio::select! {
                item = reader.next() => item,
                () = stop.cancelled() => Item::End,
            };
            match item {
                Item::Tracks(new) => {
                    // Sound stays at the gateway.
                    tracks = Tracks { video: new.video.clone(), audio: None };
                    if let Some(video) = &tracks.video {
                        teller.tell(Told::Picture(video.size, frame_rate(video))).await;
                    }
                    if let Some(sender) = &mut sender {
                        sender.set_tracks(&tracks)?;
                    }
                }
                Item::Packet(packet) if packet.kind.is_video() => {
                    if sender.is_none()
                        && let Some(publisher) = publisher.take()
                    {
                        sender = Some(link::Sender::new(publisher, &tracks)?);
                    }
                    let Some(sender) = &mut sender else { continue };
                    // Told first: in one process the picture may be back before the next line.
                    if skip_until.is_none_or(|until| packet.pts > until) {
                        teller.tell(Told::Sent(packet.pts)).await;
                    }
                    if !sender.send(&packet).await? {
                        continue;
                    }
                    let now = Instant::now();
                    let written = reader.last_written().unwrap_or(now);
                    let ingest = written.saturating_duration_since(packet.arrived);
                    hops.note(Hop::Ingest, packet.pts, written, ingest);
                    let hub = now.saturating_duration_since(written);
                    hops.note(Hop::Hub, packet.pts, now, hub);
                }
                Item::Packet(_) => {}
                Item::Lagged(packets) => debug!(packets, "the way to the orchestrator is too slow"),
                Item::End => {
                    if let Some(sender) = sender {
                        sender.close().await;
                    }
                    return Ok("the source ended");
                }
            }
        }
    }
}

/// Processed pictures back.
async fn downlink(
    subscriber: trickle::Subscriber,
    near: Option<Pts>,
    notify: mpsc::Sender<Notice>,
) -> anyhow::Result<&'static str> {
    let mut receiver = link::Receiver::new(subscriber, near);
    while let Some(received) = receiver.next().await? {
        let notice = match received {
            link::Received::Tracks(Tracks { video: Some(track), .. }) => Notice::Track(track),
            link::Received::Packet(packet) if packet.kind.is_video() => Notice::Picture(packet),
            link::Received::Skipped(segments) => Notice::Skipped(segments),
            _ => continue,
        };
        if notify.send(notice).await.is_err() {
            return Ok("nobody listens");
        }
    }
    Ok("the orchestrator ended it")
}

async fn control_channel(
    mut wishes: mpsc::Receiver<Control>,
    mut publisher: trickle::Publisher,
) -> anyhow::Result<&'static str> {
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    alive.tick().await;
    loop {
        let control = tokio::select! {
            wish = wishes.recv() => match wish {
                Some(wish) => wish,
                None => return Ok("nobody steers"),
            },
            _ = alive.tick() => Control::alive(),
        };
        let mut segment = publisher.next().await?;
        segment.write(serde_json::to_vec(&control)?.into()).await?;
        drop(segment.close());
    }
}

async fn events_channel(
    mut subscriber: trickle::Subscriber,
    notify: mpsc::Sender<Notice>,
) -> anyhow::Result<&'static str> {
    while let Some(mut segment) = subscriber.next().await? {
        let Some(document) = read_document(&mut segment).await? else { continue };
        // Events of kinds that are not known here are for others.
        let Ok(event) = serde_json::from_slice::<Event>(&document) else { continue };
        if notify.send(Notice::Event(event)).await.is_err() {
            return Ok("nobody listens");
        }
    }
    Ok("the orchestrator ended it")
}

/// Pictures in a second as the source states it, else 30.
pub(crate) fn frame_rate(track: &VideoTrack) -> FrameRate {
    let stated = Description::of(track).ok().and_then(|told| told.frames_per_kilosecond);
    let stated = stated.map(|rate| rate as f64 / 1000.0);
    let rate = stated.filter(|rate| (1.0..=240.0).contains(rate)).unwrap_or(30.0);
    FrameRate::from_milli((rate * 1000.0) as u32)
}
