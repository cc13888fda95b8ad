//! HLS: low-latency HLS on fragmented MP4 (RFC 8216bis), plain HLS, and MPEG-TS for old devices.
//!
//! A muxer makes the segments of one stream in one form for all its players. It begins with the
//! first of them (or with the stream, by setting) and ends a while after the last. Over a change of
//! tracks and a restart of the publisher it goes on: players see a discontinuity.
//!
//! | address | is |
//! | --- | --- |
//! | `/{stream}/index.m3u8` | the multivariant playlist; credentials are asked here |
//! | `/{stream}/stream.m3u8` | the media playlist, with parts and blocking reload |
//! | `/{stream}/index_ts.m3u8`, `/{stream}/stream_ts.m3u8` | the same in MPEG-TS |
//! | `/{stream}/@{rendition}/stream.m3u8` | that of a smaller rendition; likewise in MPEG-TS |
//! | `/{stream}/{muxer}_init1.mp4`, `_seg7.mp4`, `_part35.mp4`, `_seg7.ts` | media |
//!
//! Players cannot send headers with every request: a session's secret is in all addresses of the
//! playlists that it is given.

#[doc(hidden)]
pub mod fuzz;
mod http;
mod muxer;
mod playlist;
mod readers;
mod request;
mod segmenter;
mod variants;
mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use axum::Router;
use parking_lot::Mutex;
use pipeline::Ticks;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use muxer::{TAKES_FMP4, TAKES_TS};

use crate::auth::SharedAccess;
use crate::hub::{Event, Hub};
use crate::name::StreamName;
use crate::sessions::Sessions;
use crate::views::Views;
use muxer::Muxer;
use readers::Readers;
use segmenter::Format;
use window::Limits;

/// How often players that went are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Parts, blocking reload and preload hints in the playlists of fragmented MP4.
    pub low_latency: bool,
    /// Muxers run for every stream as long as it is published.
    pub always: bool,
    /// Segments in a playlist.
    pub segments: usize,
    /// The shortest segment.
    pub segment: Duration,
    /// How long a part should be.
    pub part: Duration,
    /// Bytes of one segment, at most.
    pub segment_bytes: usize,
    /// Bytes that one muxer holds, at most (but for its last three segments).
    pub muxer_bytes: usize,
    /// How long a muxer goes on when nobody asks it for anything.
    pub close_after: Duration,
    /// Muxers at the same time.
    pub muxers_max: usize,
    /// Players at the same time.
    pub sessions_max: usize,
    /// Requests that wait for something to come, at the same time.
    pub waiting_max: usize,
    /// How long such a request waits.
    pub waiting_time_max: Duration,
    /// Origins whose pages may read; `*` for any.
    pub origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            low_latency: true,
            always: false,
            segments: 7,
            segment: Duration::from_secs(1),
            part: Duration::from_millis(200),
            segment_bytes: 50_000_000,
            muxer_bytes: 200_000_000,
            close_after: Duration::from_secs(60),
            muxers_max: 200,
            sessions_max: 10_000,
            waiting_max: 10_000,
            waiting_time_max: Duration::from_secs(10),
            origins: vec!["*".into()],
        }
    }
}

impl Config {
    fn limits(&self) -> Limits {
        Limits {
            segments: self.segments,
            segment: Ticks::from_duration(self.segment),
            part: Ticks::from_duration(self.part),
            segment_bytes: self.segment_bytes,
            bytes: self.muxer_bytes,
        }
    }
}

/// One muxer at one moment.
#[derive(Clone, Debug)]
pub struct MuxerStatus {
    /// The stream.
    pub name: StreamName,
    /// `fmp4` or `ts`.
    pub format: &'static str,
    /// When it began.
    pub created: SystemTime,
    /// When it was last asked for something.
    pub last_request: SystemTime,
    /// Players at this moment.
    pub readers: usize,
    /// Bytes sent to players.
    pub bytes_out: u64,
    /// Bytes of media held.
    pub held_bytes: usize,
    /// Packets of the stream that it lost by being slow.
    pub lagged: u64,
}

/// The HLS server. Cloning shares it.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: Config,
    hub: Hub,
    access: SharedAccess,
    views: Arc<dyn Views>,
    muxers: Mutex<HashMap<(StreamName, Format), Arc<Muxer>>>,
    readers: Readers,
    waiting: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// A server of the streams in `hub`. Muxers end with `stop`.
    pub fn new(
        config: Config,
        hub: Hub,
        access: SharedAccess,
        views: Arc<dyn Views>,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            readers: Readers::new(config.sessions_max),
            waiting: Semaphore::new(config.waiting_max.min(Semaphore::MAX_PERMITS)),
            config,
            hub,
            access,
            views,
            muxers: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers what is HLS's and passes every other request on to `rest`.
    pub fn over(&self, rest: Router) -> Router {
        http::over(self.clone(), rest)
    }

    /// The players, for the API.
    pub fn sessions(&self) -> Sessions {
        self.shared.readers.sessions()
    }

    /// The muxers, for the API.
    pub fn muxers(&self) -> Vec<MuxerStatus> {
        let muxers: Vec<_> = self.shared.muxers.lock().values().cloned().collect();
        let mut list: Vec<_> = muxers
            .iter()
            .map(|muxer| MuxerStatus {
                name: muxer.name.clone(),
                format: match muxer.format {
                    Format::Fmp4 => "fmp4",
                    Format::Ts => "ts",
                },
                created: muxer.created,
                last_request: muxer.last_request(),
                readers: muxer.readers.load(Ordering::Relaxed),
                bytes_out: muxer.bytes_out.load(Ordering::Relaxed),
                held_bytes: muxer.held_bytes(),
                lagged: muxer.lagged.load(Ordering::Relaxed),
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name).then(a.format.cmp(b.format)));
        list
    }

    /// Keeps the lists until the server is stopped, then waits for its muxers.
    pub async fn run(self) {
        let stop = self.shared.stop.clone();
        let mut events = self.shared.hub.events();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        if self.shared.config.always {
            self.start_all();
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = sweep.tick() => self.count_readers(),
                event = events.recv() => match event {
                    Ok(Event::Online(name)) if self.shared.config.always && !name.is_derived() => {
                        let _ = self.muxer(&name, Format::Fmp4);
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) if self.shared.config.always => {
                        self.start_all();
                    }
                    Err(broadcast::error::RecvError::Closed) => break,
                    _ => {}
                },
            }
        }
        self.shared.muxers.lock().values().for_each(|muxer| muxer.stop());
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn start_all(&self) {
        for status in self.shared.hub.list() {
            let _ = self.muxer(&status.name, Format::Fmp4);
        }
    }

    fn count_readers(&self) {
        let counts = self.shared.readers.sweep();
        for muxer in self.shared.muxers.lock().values() {
            let key = (muxer.name.clone(), muxer.format);
            muxer.readers.store(counts.get(&key).copied().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The muxer of a stream, begun if there is none; `None` when there are too many.
    fn muxer(&self, name: &StreamName, format: Format) -> Option<Arc<Muxer>> {
        let shared = &self.shared;
        let mut muxers = shared.muxers.lock();
        if let Some(muxer) = muxers.get(&(name.clone(), format)) {
            return Some(Arc::clone(muxer));
        }
        if muxers.len() >= shared.config.muxers_max || shared.stop.is_cancelled() {
            return None;
        }
        let muxer = Arc::new(Muxer::new(name.clone(), format, &shared.config));
        muxers.insert((name.clone(), format), Arc::clone(&muxer));
        drop(muxers);
        let (server, running) = (self.clone(), Arc::clone(&muxer));
        shared.tasks.spawn(async move {
            tracing::info!(stream = %running.name, ?format, "HLS muxer begins");
            let shared = &server.shared;
            running.run(Arc::clone(&shared.views), &shared.config).await;
            let mut muxers = shared.muxers.lock();
            let key = (running.name.clone(), format);
            if muxers.get(&key).is_some_and(|muxer| Arc::ptr_eq(muxer, &running)) {
                muxers.remove(&key);
            }
            drop(muxers);
            tracing::info!(stream = %running.name, ?format, "HLS muxer ends");
        });
        Some(muxer)
    }

    /// Who begins to play does not get what is over: the publisher may be back.
    fn begin_again(&self, name: &StreamName, format: Format) {
        let mut muxers = self.shared.muxers.lock();
        let key = (name.clone(), format);
        if let Some(muxer) = muxers.get(&key).filter(|muxer| muxer.is_over()) {
            muxer.stop();
            muxers.remove(&key);
        }
    }

    /// The muxer of a stream if it runs.
    fn running(&self, name: &StreamName, format: Format) -> Option<Arc<Muxer>> {
        self.shared.muxers.lock().get(&(name.clone(), format)).cloned()
    }
}

#[cfg(test)]
mod tests;
