//! The shell of one muxer: reads the stream, feeds the segmenter, wakes players that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use pipeline::{Codec, Packet, Tracks};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Config;
use super::playlist::{self, Source, Wanted};
use super::request::Piece;
use super::segmenter::{Format, Segmenter};
use super::window::Window;
use crate::hub::{Item, Reader};
use crate::name::StreamName;
use crate::views::{Takes, ViewError, Views};

/// What players of fragmented MP4 take. Browsers and Apple's player differ in HEVC, AV1, VP9 and
/// FLAC; who publishes them has chosen.
pub static TAKES_FMP4: Takes = Takes {
    label: "HLS",
    video: &[Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp9],
    audio: &[Codec::Aac, Codec::Opus, Codec::Mp3, Codec::Flac],
    reordering: true,
};

/// What old devices take: MPEG-TS with the codecs that HLS began with.
pub static TAKES_TS: Takes = Takes {
    label: "HLS with MPEG-TS",
    video: &[Codec::H264],
    audio: &[Codec::Aac],
    reordering: true,
};

/// How often a muxer asks for a key picture, so that segments stay short.
const KEY_EVERY: Duration = Duration::from_secs(2);

/// How often a muxer looks whether anybody is left.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a muxer waits for a publisher that is gone before its players are sent away.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// How long players are told of the end before the muxer is gone: they look once a segment.
const OVER_FOR: Duration = Duration::from_secs(10);

/// How far a muxer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No segment yet.
    Starting,
    /// Players can begin.
    Ready,
    /// It is over, with the reason if there is one.
    Over(Option<ViewError>),
}

/// One muxer.
pub(super) struct Muxer {
    pub(super) name: StreamName,
    pub(super) format: Format,
    /// What the names of its files begin with.
    pub(super) prefix: String,
    pub(super) created: SystemTime,
    begun: Instant,
    state: Mutex<State>,
    /// Phase, and a number that grows with each part.
    progress: watch::Sender<(Phase, u64)>,
    last_request: Mutex<(Instant, SystemTime)>,
    pub(super) readers: AtomicUsize,
    pub(super) bytes_out: AtomicU64,
    pub(super) lagged: AtomicU64,
    stop: CancellationToken,
}

struct State {
    segmenter: Segmenter,
    window: Window,
    source: Source,
    /// The playlists of this moment, made once for all players.
    made: Vec<(Wanted, Arc<str>)>,
}

/// What a player that waits for a playlist gets.
pub(super) enum Reload {
    Now(Arc<str>),
    /// It asks for what is too far ahead (RFC 8216bis 6.2.5.2).
    TooFar,
    Over,
}

impl Muxer {
    pub(super) fn new(name: StreamName, format: Format, config: &Config) -> Self {
        let window = Window::new(config.limits());
        let state = State {
            segmenter: Segmenter::new(format),
            window,
            source: Source::Away,
            made: Vec::new(),
        };
        Self {
            name,
            format,
            prefix: format!("{:08x}", rand::random::<u32>()),
            created: SystemTime::now(),
            begun: Instant::now(),
            state: Mutex::new(state),
            progress: watch::Sender::new((Phase::Starting, 0)),
            last_request: Mutex::new((Instant::now(), SystemTime::now())),
            readers: AtomicUsize::new(0),
            bytes_out: AtomicU64::new(0),
            lagged: AtomicU64::new(0),
            stop: CancellationToken::new(),
        }
    }

    /// Somebody wants something of it.
    pub(super) fn touch(&self) {
        *self.last_request.lock() = (Instant::now(), SystemTime::now());
    }

    pub(super) fn last_request(&self) -> SystemTime {
        self.last_request.lock().1
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.state.lock().window.held_bytes()
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until players can begin.
    pub(super) async fn ready(&self) -> Phase {
        let mut progress = self.progress.subscribe();
        match progress.wait_for(|(phase, _)| *phase != Phase::Starting).await {
            Ok(now) => now.0.clone(),
            Err(_) => Phase::Over(None),
        }
    }

    /// Whether players can begin, which is waited for until it is so old.
    pub(super) async fn is_ready_at(&self, age: Duration) -> bool {
        let by = tokio::time::Instant::from_std(self.begun + age);
        tokio::time::timeout_at(by, self.ready()).await == Ok(Phase::Ready)
    }

    /// Whether its publisher is not waited for any more.
    pub(super) fn is_over(&self) -> bool {
        self.state.lock().source == Source::Over
    }

    /// Itself as a variant whose media playlist is at `media`.
    pub(super) fn variant(&self, media: &str) -> String {
        playlist::variant(&self.state.lock().window, media)
    }

    /// How far its media playlist is, which is at `media`.
    pub(super) fn report(&self, media: &str) -> Option<String> {
        playlist::report(&self.state.lock().window, media)
    }

    /// Pixels of its pictures.
    pub(super) fn pixels(&self) -> Option<u64> {
        self.state.lock().window.facts.size.map(pipeline::Size::pixels)
    }

    /// The media playlist as it is.
    pub(super) fn media(&self, low_latency: bool, skip: bool) -> Arc<str> {
        let state = &mut *self.state.lock();
        let wanted = Wanted { format: self.format, low_latency, skip, source: state.source };
        if let Some((_, made)) = state.made.iter().find(|(w, _)| *w == wanted) {
            return Arc::clone(made);
        }
        let text: Arc<str> = playlist::media(&state.window, &self.prefix, wanted).into();
        state.made.push((wanted, Arc::clone(&text)));
        text
    }

    /// The media playlist once it has this segment, or this part of it.
    pub(super) async fn reload(
        &self,
        segment: u64,
        part: Option<usize>,
        skip: bool,
        limit: Duration,
    ) -> Reload {
        let mut progress = self.progress.subscribe();
        // What does not come in time is not there: the player sees that nothing is new and asks
        // again. While a publisher is away this keeps players that give up after errors.
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            progress.mark_unchanged();
            match self.has(segment, part) {
                _ if self.is_over() => return Reload::Now(self.media(true, skip)),
                Some(true) => return Reload::Now(self.media(true, skip)),
                Some(false) => {}
                None => return Reload::TooFar,
            }
            match tokio::time::timeout_at(deadline, progress.changed()).await {
                Err(_) => return Reload::Now(self.media(true, skip)),
                Ok(Err(_)) => return Reload::Over,
                Ok(Ok(())) => {}
            }
            if matches!(progress.borrow().0, Phase::Over(_)) {
                return Reload::Over;
            }
        }
    }

    /// Whether the playlist has it; `None` for what no player can know of.
    fn has(&self, segment: u64, part: Option<usize>) -> Option<bool> {
        let state = self.state.lock();
        let (open, parts) = state.window.edge();
        if segment > open + 1 {
            return None;
        }
        // A part behind the last one of a complete segment is the first one of the next.
        let last = state.window.segment(segment).map(|segment| segment.parts.len());
        let (segment, part) = match (part, last) {
            (Some(part), Some(count)) if part >= count => (segment + 1, Some(0)),
            (part, _) => (segment, part),
        };
        Some(segment < open || (segment == open && part.is_some_and(|part| part < parts)))
    }

    /// A piece of media; a part that comes next is waited for.
    pub(super) async fn piece(&self, piece: Piece, limit: Duration) -> Option<Vec<Bytes>> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            {
                let state = self.state.lock();
                let window = &state.window;
                match piece {
                    Piece::Init(number) => return window.init(number).map(|data| vec![data]),
                    Piece::Segment(format, number) => {
                        let segment = window.segment(number).filter(|_| format == self.format)?;
                        return Some(segment.data());
                    }
                    Piece::Part(number) if number < window.next_part => {
                        return window.part(number).map(|data| vec![data]);
                    }
                    Piece::Part(number) if number > window.next_part => return None,
                    Piece::Part(_) => {}
                }
            }
            tokio::time::timeout_at(deadline, progress.changed()).await.ok()?.ok()?;
        }
    }

    /// Reads the stream until nobody has wanted anything for a while, unless it is to go on
    /// always, or until its publisher is gone for long.
    pub(super) async fn run(&self, views: Arc<dyn Views>, config: &Config) {
        let stop = self.stop.clone();
        let problem = stop.run_until_cancelled(self.read_on(views, config)).await.flatten();
        self.progress.send_modify(|now| *now = (Phase::Over(problem), now.1 + 1));
    }

    async fn read_on(&self, views: Arc<dyn Views>, config: &Config) -> Option<ViewError> {
        let takes = match self.format {
            Format::Fmp4 => &TAKES_FMP4,
            Format::Ts => &TAKES_TS,
        };
        let mut away = Instant::now();
        let mut begun = false;
        loop {
            match views.view(&self.name, takes).await {
                Ok(reader) => {
                    begun = true;
                    self.change(|state| state.source = Source::Live);
                    if let Some(over) = self.follow(reader, config).await {
                        return over;
                    }
                    away = Instant::now();
                    self.change(|state| {
                        state.source = Source::Away;
                        state.segmenter.end_run(&mut state.window);
                    });
                }
                Err(error) if !begun || !matches!(error, ViewError::NotFound(_)) => {
                    return Some(error);
                }
                // `view` itself has waited a while.
                Err(error) if self.is_idle(config) => return Some(error),
                Err(error) if away.elapsed() > AWAY_MAX => {
                    self.change(|state| state.source = Source::Over);
                    tokio::time::sleep(OVER_FOR).await;
                    return Some(error);
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Follows one publisher. `Some` when the muxer is to end, with the reason.
    async fn follow(&self, mut reader: Reader, config: &Config) -> Option<Option<ViewError>> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut key_at = Instant::now();
        loop {
            let item = tokio::select! {
                item = reader.next() => item,
                _ = look.tick() => {
                    reader.set_audience(self.readers.load(Ordering::Relaxed) as u64);
                    if self.is_idle(config) {
                        return Some(None);
                    }
                    if key_at.elapsed() >= KEY_EVERY {
                        key_at = Instant::now();
                        reader.request_key_frame();
                    }
                    continue;
                }
            };
            match item {
                Item::Tracks(tracks) => {
                    if let Some(why) = self.set_tracks(&tracks) {
                        return Some(Some(ViewError::Unplayable { name: self.name.clone(), why }));
                    }
                }
                Item::Packet(packet) => {
                    if packet.kind.is_video() && packet.key {
                        key_at = Instant::now();
                    }
                    self.push(&packet);
                }
                Item::Lagged(missed) => {
                    self.lagged.fetch_add(missed, Ordering::Relaxed);
                }
                Item::End => return None,
            }
        }
    }

    fn set_tracks(&self, tracks: &Tracks) -> Option<String> {
        self.change(|state| {
            state.segmenter.set_tracks(tracks, &mut state.window);
            state.segmenter.problem().map(str::to_owned)
        })
    }

    fn push(&self, packet: &Packet) {
        let wall = SystemTime::now().checked_sub(packet.arrived.elapsed());
        let state = &mut *self.state.lock();
        let wall = wall.unwrap_or(SystemTime::UNIX_EPOCH);
        if state.segmenter.push(packet, wall, &mut state.window) {
            self.tell(state);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let state = &mut *self.state.lock();
        let result = change(state);
        self.tell(state);
        result
    }

    /// There is something new.
    fn tell(&self, state: &mut State) {
        state.made.clear();
        let phase = if state.window.is_ready() { Phase::Ready } else { Phase::Starting };
        self.progress.send_modify(|now| *now = (phase, now.1 + 1));
    }

    fn is_idle(&self, config: &Config) -> bool {
        !config.always && self.last_request.lock().0.elapsed() > config.close_after
    }
}
