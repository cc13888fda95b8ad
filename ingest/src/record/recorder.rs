//! One stream's recorder: reads it at its own pace and writes segments.
//!
//! The stream never waits for it. What the disk cannot take in time stays in the hub's ring, which is
//! bounded; a recorder that falls out of it loses packets up to a key picture, counts them and
//! begins a new segment. Disk work is done on threads for it, one piece of a stream at a time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pipeline::fmp4::{self, Fragment, Writer};
use pipeline::{Codec, Packet, Ticks, Tracks};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::run::{Closing, Run, leads, wall_of};
use super::segment::SegmentFile;
use super::{Event, Rule, Shared};
use crate::hub::{Item, Reader};
use crate::name::StreamName;
use crate::views::Takes;

/// What MP4 carries. A stream that has something else is recorded in the form that is made for
/// readers who need that too.
pub static TAKES: Takes = Takes {
    label: "MP4",
    video: &[Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp9],
    audio: &[Codec::Aac, Codec::Opus, Codec::Mp3, Codec::Flac],
    reordering: true,
};

/// How often a publisher is asked for a key picture, so that segments can begin.
const KEY_EVERY: Duration = Duration::from_secs(2);

/// How often a recorder looks at the time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a recorder rests after the disk refused something.
const REST: Duration = Duration::from_secs(3);

/// What a recorder shows of itself.
#[derive(Default)]
pub(super) struct Seen {
    /// Why nothing is written at the moment.
    pub(super) problem: Mutex<Option<String>>,
    /// The segment that is being written.
    pub(super) path: Mutex<Option<PathBuf>>,
    pub(super) bytes: AtomicU64,
    /// Ticks of pictures (or sound) on disk.
    pub(super) ticks: AtomicU64,
    pub(super) segments: AtomicU64,
    /// Packets read and taken.
    pub(super) packets: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) restamped: AtomicU64,
    pub(super) failures: AtomicU64,
}

/// One recorder.
pub(super) struct Recorder {
    pub(super) name: StreamName,
    pub(super) shared: Arc<Shared>,
    pub(super) seen: Arc<Seen>,
    pub(super) rule: watch::Receiver<Rule>,
    pub(super) stop: CancellationToken,
}

/// What it is at.
#[derive(Default)]
struct Work {
    tracks: Option<Tracks>,
    run: Option<Run>,
    closing: Option<Closing>,
    /// Until when nothing is tried.
    rest_until: Option<Instant>,
    key_at: Option<Instant>,
    /// Another form of the stream is read.
    bridged: bool,
}

impl Recorder {
    /// Records until the stream or the recording is over.
    pub(super) async fn run(self, mut reader: Reader) {
        let mut work = Work::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let item = tokio::select! {
                () = self.stop.cancelled() => break,
                item = reader.next() => item,
                _ = look.tick() => {
                    let with_video = work.tracks.as_ref().is_some_and(|t| t.video.is_some());
                    if with_video && work.key_at.is_none_or(|at| at.elapsed() >= KEY_EVERY) {
                        work.key_at = Some(Instant::now());
                        reader.request_key_frame();
                    }
                    continue;
                }
            };
            match item {
                Item::Tracks(tracks) => {
                    if let Some(other) = self.set_tracks(&mut work, &tracks).await {
                        reader = other;
                    }
                }
                Item::Packet(packet) => self.push(&mut work, &packet).await,
                Item::Lagged(missed) => {
                    warn!(stream = %self.name, missed, "the disk is too slow for this recording");
                    self.lose(missed);
                    self.finish(&mut work).await;
                }
                Item::End => break,
            }
        }
        self.finish(&mut work).await;
    }

    /// The stream is of these tracks from now on. Gives another reader where MP4 cannot carry them
    /// as they are.
    async fn set_tracks(&self, work: &mut Work, tracks: &Tracks) -> Option<Reader> {
        if work.tracks.as_ref() == Some(tracks) {
            return None;
        }
        self.finish(work).await;
        work.tracks = Some(tracks.clone());
        let Err(error) = Writer::new(tracks) else { return None };
        match error {
            fmp4::Error::NotReady(_) | fmp4::Error::NoTrack => return None,
            fmp4::Error::Codec(codec) if !work.bridged => {
                work.bridged = true;
                match self.shared.views.view(&self.name, &TAKES).await {
                    Ok(reader) => {
                        info!(stream = %self.name, %codec, "recorded in another form");
                        work.tracks = None;
                        return Some(reader);
                    }
                    Err(error) => self.problem(error.to_string()),
                }
            }
            error => self.problem(error.to_string()),
        }
        // One of two tracks is better than nothing.
        let alone =
            [Tracks { audio: None, ..tracks.clone() }, Tracks { video: None, ..tracks.clone() }];
        work.tracks = alone.into_iter().find(|tracks| Writer::new(tracks).is_ok());
        None
    }

    async fn push(&self, work: &mut Work, packet: &Packet) {
        let Some(tracks) = &work.tracks else { return };
        let has_video = tracks.video.is_some();
        let begins = leads(packet, has_video) && packet.key;
        if begins && has_video {
            work.key_at = Some(Instant::now());
        }
        if work.rest_until.is_some_and(|until| Instant::now() < until) {
            self.lose(1);
            return;
        }
        let rule = self.rule.borrow().clone();
        if begins {
            let wall = wall_of(packet);
            let over = work.run.as_ref().is_some_and(|run| run.is_over(packet, wall, &rule));
            if over && let Some(run) = work.run.take() {
                self.finish_closing(work).await;
                work.closing = Some(Closing { run, until: packet.dts });
                if tracks_without_sound(work) {
                    self.finish_closing(work).await;
                }
            }
            if work.run.is_none()
                && let Some(tracks) = &work.tracks
            {
                work.run = Run::new(tracks, wall, packet).ok();
            }
        }
        if let Some(closing) = &mut work.closing {
            if closing.wants(packet) {
                closing.run.writer.push(packet);
                return;
            }
            if closing.is_complete(packet) {
                self.finish_closing(work).await;
            }
        }
        let Some(run) = &mut work.run else { return };
        self.seen.packets.fetch_add(1, Ordering::Relaxed);
        if let Some(fragment) = run.push(packet, &rule)
            && let Err(error) = self.write(run, fragment, &rule).await
        {
            self.fail(work, &error).await;
        }
    }

    /// Writes a part; the file is made with the first one.
    async fn write(&self, run: &mut Run, fragment: Fragment, rule: &Rule) -> io::Result<()> {
        let end = Ticks(fragment.start.0 + fragment.duration.0);
        let bytes = fragment.data.len() as u64;
        let ticks = u64::try_from(fragment.duration.0).unwrap_or(0);
        let (file, init, start) = (run.file.take(), run.writer.init().clone(), run.start);
        let (shared, template) = (Arc::clone(&self.shared), rule.template.clone());
        let name = self.name.clone();
        let fresh = file.is_none();
        let written = self.shared.disk.run(move || {
            let room = shared.config.check_room();
            let file = file.map_or_else(
                || SegmentFile::create(&shared.config.dir, &template, &name, start, init),
                Ok,
            );
            match (file, room) {
                (Ok(file), Err(error)) => (Some(file), Err(error)),
                (Ok(mut file), Ok(())) => {
                    let result = file.append(&fragment.data);
                    (Some(file), result)
                }
                (Err(error), _) => (None, Err(error)),
            }
        });
        let (file, result) = written.await?;
        run.file = file;
        result?;
        run.end = end;
        self.seen.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.seen.ticks.fetch_add(ticks, Ordering::Relaxed);
        if let Some(file) = run.file.as_ref().filter(|_| fresh) {
            self.seen.segments.fetch_add(1, Ordering::Relaxed);
            *self.seen.path.lock() = Some(file.path.clone());
            if self.seen.problem.lock().take().is_some() {
                info!(stream = %self.name, "recording goes on");
            }
            info!(stream = %self.name, path = %file.path.display(), "a segment begins");
            self.shared.tell(Event::Created { name: self.name.clone(), path: file.path.clone() });
        }
        Ok(())
    }

    async fn finish(&self, work: &mut Work) {
        self.finish_closing(work).await;
        if let Some(run) = work.run.take()
            && let Err(error) = self.finish_run(run).await
        {
            self.fail(work, &error).await;
        }
    }

    async fn finish_closing(&self, work: &mut Work) {
        if let Some(closing) = work.closing.take()
            && let Err(error) = self.finish_run(closing.run).await
        {
            self.fail(work, &error).await;
        }
    }

    /// Writes what is left and closes the file.
    async fn finish_run(&self, mut run: Run) -> io::Result<()> {
        let rule = self.rule.borrow().clone();
        let mut result = Ok(());
        if let Some(fragment) = run.writer.finish() {
            result = self.write(&mut run, fragment, &rule).await;
        }
        self.seen.restamped.fetch_add(run.writer.restamped(), Ordering::Relaxed);
        self.close(run).await.and(result)
    }

    async fn close(&self, mut run: Run) -> io::Result<()> {
        let Some(file) = run.file.take() else { return Ok(()) };
        let (path, end, bytes) = (file.path.clone(), run.end, file.bytes);
        let start = file.start;
        self.seen.path.lock().take_if(|current| *current == path);
        // A file without a part says nothing.
        if end == Ticks(0) {
            let (shared, path) = (Arc::clone(&self.shared), path.clone());
            drop(file);
            return self
                .shared
                .disk
                .run(move || super::shelf::remove(&shared.config.dir, &path))
                .await?;
        }
        self.shared.disk.run(move || file.close(end)).await??;
        let duration = end.to_duration().unwrap_or_default();
        info!(stream = %self.name, path = %path.display(), ?duration, bytes, "a segment is complete");
        let name = self.name.clone();
        self.shared.tell(Event::Completed { name, path, start, duration, bytes });
        Ok(())
    }

    /// The disk refused something: what is there is closed, and it is tried again after a while.
    async fn fail(&self, work: &mut Work, error: &io::Error) {
        self.seen.failures.fetch_add(1, Ordering::Relaxed);
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let dir = self.shared.config.dir.display();
        self.problem(match full {
            true => format!("there is no room in {dir}: {error}"),
            false => format!("cannot write in {dir}: {error}"),
        });
        work.rest_until = Some(Instant::now() + REST);
        let closing = work.closing.take().map(|closing| closing.run);
        for run in [closing, work.run.take()].into_iter().flatten() {
            // What is whole stays; closing needs no further room.
            let _ = self.close(run).await;
        }
    }

    /// Why nothing, or not everything, is written; told in the log once.
    fn problem(&self, why: String) {
        let mut problem = self.seen.problem.lock();
        if problem.as_ref() != Some(&why) {
            warn!(stream = %self.name, why, "recording has a problem");
            *problem = Some(why);
        }
    }

    fn lose(&self, packets: u64) {
        self.seen.lost.fetch_add(packets, Ordering::Relaxed);
    }
}

fn tracks_without_sound(work: &Work) -> bool {
    work.tracks.as_ref().is_none_or(|tracks| tracks.audio.is_none() || tracks.video.is_none())
}
