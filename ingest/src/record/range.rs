//! A range of time out of a stream's segments: which there are, and the bytes that are sent. Segments
//! in the store are looked up in what is remembered of them ([`super::stored`]).

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use pipeline::Ticks;
use pipeline::fmp4::{self, Index, Layout, Place, Run};

use super::moment::Moment;
use super::shelf::Found;
use super::{Recordings, segment};
use crate::name::StreamName;

/// How far two segments may be apart and are still one range: what a key picture is late.
const GAP_MAX: Duration = Duration::from_millis(1500);

/// Segments of one range, at most.
const SEGMENTS_MAX: usize = 10_000;

/// Segments of one range that the store is asked about before it is sent, at most.
const ASKED_MAX: usize = 1000;

/// The same at a time.
const ASKED_AT_ONCE: usize = 8;

/// Times that a range is made anew without segments that are gone.
const LOOKS_MAX: usize = 3;

/// Why there is no range.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nothing was recorded then.
    #[error("there is no recording")]
    Nothing,
    /// Too much at once.
    #[error("the range has more than {SEGMENTS_MAX} segments")]
    Segments,
    /// What is stored makes no file.
    #[error(transparent)]
    Mp4(#[from] fmp4::Error),
    /// The store does not answer.
    #[error("the store: {0}")]
    Store(io::Error),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A time without gaps for which there are recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Moment,
    pub(super) end: Moment,
}

impl Span {
    pub(super) fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    /// What of it lies between these times.
    pub(super) fn within(self, start: Option<Moment>, end: Option<Moment>) -> Option<Self> {
        let start = start.map_or(self.start, |start| start.max(self.start));
        let end = end.map_or(self.end, |end| end.min(self.end));
        (start < end).then_some(Self { start, end })
    }
}

/// Where a segment ends: by its head, or by its boxes while it is written.
fn end_of(found: &Found) -> io::Result<Option<Moment>> {
    let duration = match segment::duration_of(&found.path)? {
        Some(duration) => duration,
        None => match Index::read(&mut File::open(&found.path)?) {
            Ok(index) => index.duration(),
            Err(_) => return Ok(None),
        },
    };
    let duration = duration.to_duration().unwrap_or_default();
    Ok((duration > Duration::ZERO).then(|| found.start.plus(duration)))
}

/// All that there is of a stream.
pub(super) async fn spans(recordings: &Recordings, name: &StreamName) -> io::Result<Vec<Span>> {
    let found = recordings.of_stream(name).await?;
    let join = move || {
        let mut spans: Vec<Span> = Vec::new();
        for segment in &found {
            // One that is removed meanwhile is not there.
            let Ok(Some(end)) = end_of(segment) else { continue };
            match spans.last_mut() {
                Some(last) if segment.start <= last.end.plus(GAP_MAX) => {
                    last.end = last.end.max(end);
                }
                _ => spans.push(Span { start: segment.start, end }),
            }
        }
        spans
    };
    recordings.shared.disk.run(join).await
}

/// Bytes that are sent: made here, or as they lie in a file.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Made(Bytes),
    Stored(Run),
}

impl Piece {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Made(bytes) => bytes.len() as u64,
            Self::Stored(run) => run.bytes,
        }
    }

    /// `count` of its bytes from `from` on, which it has.
    pub(super) fn part(self, from: u64, count: u64) -> Self {
        match self {
            Self::Made(bytes) => Self::Made(bytes.slice(from as usize..(from + count) as usize)),
            Self::Stored(run) => Self::Stored(Run { at: run.at + from, bytes: count, ..run }),
        }
    }
}

/// What pieces lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file on disk.
    Disk(PathBuf),
    /// A segment in the store, by its path, and its size.
    Store(String, u64),
}

/// A range that can be sent.
pub(super) struct Range {
    pub(super) pieces: Vec<Piece>,
    /// What they lie in.
    pub(super) files: Vec<Source>,
    /// When its first picture was taken.
    pub(super) start: Moment,
}

impl Range {
    pub(super) fn length(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum()
    }
}

/// The range that begins at `start`, or with the next segment after it.
pub(super) async fn make(
    recordings: &Recordings,
    name: &StreamName,
    start: Moment,
    duration: Duration,
    fragmented: bool,
) -> Result<Range, Error> {
    for _ in 0..LOOKS_MAX {
        let found = recordings.of_stream(name).await?;
        let make = move || gather(&found, start, start.plus(duration), fragmented);
        let range = recordings.shared.disk.run(make).await??;
        if all_there(recordings, &range.files).await? {
            return Ok(range);
        }
    }
    Err(Error::Nothing)
}

/// Whether the store has what lies in it; what it has not is forgotten.
async fn all_there(recordings: &Recordings, files: &[Source]) -> Result<bool, Error> {
    let Some(stored) = recordings.shared.stored.get() else { return Ok(true) };
    let name = |file: &Source| match file {
        Source::Store(name, _) => Some(name.clone()),
        Source::Disk(_) => None,
    };
    let names: Vec<String> = files.iter().filter_map(name).take(ASKED_MAX).collect();
    let ask = |name: String| async move {
        let has = stored.vault.has(&name).await;
        has.map(|has| (!has).then_some(name))
    };
    let asked = futures_util::stream::iter(names).map(ask);
    let answers: Vec<_> = asked.buffered(ASKED_AT_ONCE).collect().await;
    let mut all = true;
    for gone in answers {
        if let Some(name) = gone.map_err(Error::Store)? {
            tracing::warn!(path = name, "a segment is no longer in the store");
            recordings.forget(&name).await?;
            all = false;
        }
    }
    Ok(all)
}

/// Whether a segment that begins then can have anything of the range: it ends where the next one
/// begins at the latest, but for some slack.
fn may_hold(found: &[Found], at: usize, start: Moment, end: Moment) -> bool {
    let next = found.get(at + 1).map(|next| next.start.plus(GAP_MAX));
    found[at].start < end && next.is_none_or(|next| next > start)
}

fn gather(found: &[Found], start: Moment, end: Moment, fragmented: bool) -> Result<Range, Error> {
    let mut layout = Layout::default();
    let mut files: Vec<Source> = Vec::new();
    let mut first: Option<(Index, Moment)> = None;
    // Where the segments so far end on the range's clock.
    let mut so_far: Option<Ticks> = None;
    for (at, segment) in found.iter().enumerate() {
        if !may_hold(found, at, start, end) {
            continue;
        }
        if files.len() >= SEGMENTS_MAX {
            return Err(Error::Segments);
        }
        let Ok(mut file) = File::open(&segment.path) else { continue };
        let Ok(index) = Index::read(&mut file) else { continue };
        let ticks = |moment: Moment| Ticks((moment.0 - segment.start.0) * 9 / 100);
        let (from, until) = (ticks(start), ticks(end));
        let chosen = choose(&index.fragments, from, until);
        let Some(begin) = chosen.first() else { continue };
        if first.as_ref().is_some_and(|(model, _)| !model.same_tracks(&index)) {
            // Another size or codec has no place in the same file: the range ends here.
            break;
        }
        let mut samples = Vec::new();
        for place in chosen {
            samples.extend(index.samples(&mut file, place)?);
        }
        let lead = index.tracks[0].kind;
        let time = |sample: &fmp4::Sample| index.ticks(sample.kind, sample.time);
        let (key, skip) = if first.is_none() {
            // From the last picture on that decoding can start at and that is not after the
            // beginning.
            let keys = samples.iter().filter(|sample| sample.kind == lead && sample.key);
            let key = keys.map(time).take_while(|key| *key <= from).last();
            let key = key.unwrap_or(begin.start);
            (key, Ticks((from.0 - key.0).max(0)))
        } else {
            (Ticks(i64::MIN), Ticks(0))
        };
        samples.retain(|sample| time(sample) >= key && time(sample) < until);
        if samples.is_empty() {
            continue;
        }
        let origin = match &first {
            Some((_, origin)) => *origin,
            None => {
                let begins = Moment(segment.start.0 + key.0.max(0) * 100 / 9);
                // What is shown first: `start`, or what there is after it.
                let origin = if fragmented { begins } else { begins.max(start) };
                if !fragmented {
                    layout = layout.skipping(skip);
                }
                origin
            }
        };
        let by_wall = Ticks((segment.start.0 - origin.0) * 9 / 100);
        // Segments are dated by the wall, which is never exact: what follows on is joined by the
        // pictures' own time.
        let shift = match so_far {
            Some(so_far) if by_wall.0 - so_far.0 <= Ticks::from_duration(GAP_MAX).0 => so_far,
            _ => by_wall,
        };
        so_far = Some(Ticks(shift.0 + index.duration().0));
        layout.add(&index, &samples, shift)?;
        files.push(match segment.stored {
            false => Source::Disk(segment.path.clone()),
            true => Source::Store(segment.relative.clone(), segment.bytes),
        });
        if first.is_none() {
            first = Some((index, origin));
        }
    }
    let Some((_, origin)) = first else { return Err(Error::Nothing) };
    let pieces = match fragmented {
        false => {
            let (head, runs) = layout.progressive()?;
            let runs = runs.into_iter().map(Piece::Stored);
            [Piece::Made(head)].into_iter().chain(runs).collect()
        }
        true => {
            let (init, fragments) = layout.fragmented()?;
            let fragments = fragments
                .into_iter()
                .flat_map(|fragment| [Piece::Made(fragment.head), Piece::Stored(fragment.media)]);
            [Piece::Made(init)].into_iter().chain(fragments).collect()
        }
    };
    Ok(Range { pieces, files, start: origin })
}

/// The fragments of a range, with those before it that its first picture needs.
fn choose(fragments: &[Place], from: Ticks, until: Ticks) -> &[Place] {
    let inside = |place: &Place| place.end > from && place.start < until;
    let Some(first) = fragments.iter().position(inside) else { return &[] };
    let last = fragments.iter().rposition(inside).map_or(first, |last| last + 1);
    let needed = fragments[..=first].iter().rposition(|place| place.key && place.start <= from);
    &fragments[needed.unwrap_or(first)..last]
}
