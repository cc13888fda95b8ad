//! HLS from other servers: a playlist is followed at its live edge, and what its segments hold
//! (MPEG-TS or fragmented MP4) becomes a stream.
//!
//! Of a multivariant playlist the variant with the highest bandwidth is taken. Segments are fetched
//! a few ahead of time and shown in theirs; a playlist with an end is played once. Encrypted
//! segments and sound in a playlist of its own are refused with the reason, low-latency parts are
//! passed over.

mod fetch;
pub(crate) mod fuzz;
mod playlist;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use crate::mp4::Mp4Error;
use crate::paced::{self, PIECES_WAITING, Piece};
use crate::remote::{Ended, Error, Options, Sink, Target};
use crate::segment::{Form, Open};
use fetch::Fetch;
use playlist::{Map, Media, Playlist, Segment};

/// Segments in a row that may fail before the attempt does.
const FAILURES_MAX: u32 = 3;

/// A playlist is asked for again after its target duration, within these bounds.
const RELOAD: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// A live playlist that shows nothing new for so many of its target durations is over.
const STALE_MAX: u32 = 6;

/// Why a playlist is not followed any longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HlsError {
    /// The server.
    #[error("{what}: {reason}")]
    Fetch {
        /// `the playlist`, `a segment`, ...
        what: &'static str,
        /// What went wrong, without the URL, which may hold a token.
        reason: String,
    },
    /// The playlist is none, or of a kind that is not followed.
    #[error("the playlist: {0}")]
    Playlist(String),
    /// A segment cannot be read.
    #[error("a segment: {0}")]
    Segment(#[from] Mp4Error),
    /// Nothing new came.
    #[error("the playlist shows nothing new for {} s", .0.as_secs())]
    Stale(Duration),
}

/// Follows a playlist into `sink` until it ends or `stop`.
///
/// # Errors
/// [`Error`] when it cannot be had or read, or the stream is somebody else's.
pub async fn pull(
    target: &Target,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let fetch = Fetch::new(target, options)?;
    let (pieces, read) = mpsc::channel(PIECES_WAITING);
    let (url, done) = (target.url().clone(), CancellationToken::new());
    let guard = done.clone().drop_guard();
    let follow = tokio::spawn(async move {
        let followed = done.run_until_cancelled(Follow { fetch, pieces: &pieces }.run(url)).await;
        if let Some(Err(Some(error))) = followed {
            let _ = pieces.send(Err(error)).await;
        }
    });
    let publisher = ("hls", target.to_string());
    let ended = paced::play(read, "following a playlist", publisher, sink, stop).await;
    drop(guard);
    follow.abort();
    ended
}

/// What goes on from segment to segment.
#[derive(Default)]
struct Reading {
    /// The init segment in force.
    map: Option<Map>,
    open: Open,
}

/// A playlist being followed.
struct Follow<'a> {
    fetch: Fetch,
    pieces: &'a mpsc::Sender<Result<Piece, HlsError>>,
}

impl Follow<'_> {
    /// Until the end of the playlist; `None` as the error: nobody takes what is read.
    async fn run(self, url: Url) -> Result<(), Option<HlsError>> {
        let (url, mut media) = self.media(url).await?;
        let mut next = media.live_edge();
        let mut queue: VecDeque<Segment> = VecDeque::new();
        let mut reading = Reading::default();
        let mut failures = 0;
        let mut new_at = Instant::now();
        info!(first = next, segments = media.segments.len(), "a playlist is followed");
        loop {
            let before = next;
            for segment in media.segments.drain(..).filter(|segment| segment.number >= before) {
                if segment.number > next {
                    warn!(missed = segment.number - next, "segments were missed");
                }
                next = segment.number.saturating_add(1);
                queue.push_back(segment);
            }
            if !queue.is_empty() {
                new_at = Instant::now();
            }
            while let Some(segment) = queue.pop_front() {
                match self.segment(&url, &segment, &mut reading).await {
                    Ok(()) => failures = 0,
                    Err(None) => return Err(None),
                    Err(Some(error)) => {
                        failures += 1;
                        if failures >= FAILURES_MAX {
                            return Err(Some(error));
                        }
                        warn!(%error, number = segment.number, "a segment is left out");
                    }
                }
            }
            if media.ended {
                return Ok(());
            }
            let target = media.target.clamp(RELOAD.0, RELOAD.1);
            if new_at.elapsed() > target * STALE_MAX {
                return Err(Some(HlsError::Stale(target * STALE_MAX)));
            }
            // Half of it where the last look showed nothing new (RFC 8216, 6.3.4).
            let wait = if next == before { target / 2 } else { target };
            tokio::time::sleep(wait.max(RELOAD.0)).await;
            media = match self.look(&url).await {
                Ok(Playlist::Media(media)) => media,
                Ok(Playlist::Variants(_)) => {
                    return Err(Some(HlsError::Playlist("it became a list of variants".into())));
                }
                Err(error) => {
                    failures += 1;
                    if failures >= FAILURES_MAX {
                        return Err(Some(error));
                    }
                    warn!(%error, "the playlist is asked for again");
                    Media { target: media.target, ..Media::default() }
                }
            };
            // A server that began anew counts from the beginning.
            let behind =
                media.segments.last().is_some_and(|last| last.number.saturating_add(1) < next);
            if behind {
                next = media.live_edge();
                reading.open.begin_again();
            }
        }
    }

    /// The playlist of segments that a URL leads to, through one of variants.
    async fn media(&self, url: Url) -> Result<(Url, Media), HlsError> {
        match self.look(&url).await? {
            Playlist::Media(media) => Ok((url, media)),
            Playlist::Variants(best) => {
                let joined =
                    url.join(&best).map_err(|error| HlsError::Playlist(error.to_string()))?;
                match self.look(&joined).await? {
                    Playlist::Media(media) => Ok((joined, media)),
                    Playlist::Variants(_) => {
                        Err(HlsError::Playlist("a variant is a list of variants again".into()))
                    }
                }
            }
        }
    }

    async fn look(&self, url: &Url) -> Result<Playlist, HlsError> {
        playlist::parse(&self.fetch.playlist(url).await?)
    }

    async fn segment(
        &self,
        playlist: &Url,
        segment: &Segment,
        reading: &mut Reading,
    ) -> Result<(), Option<HlsError>> {
        let url = |uri: &str| playlist.join(uri).map_err(|e| HlsError::Playlist(e.to_string()));
        if let Some(map) = &segment.map
            && reading.map.as_ref() != Some(map)
        {
            let init = self.fetch.segment(&url(&map.uri)?, map.range).await?;
            reading.open.init(&init).map_err(HlsError::from)?;
            reading.map = Some(map.clone());
        }
        let bytes = self.fetch.segment(&url(&segment.uri)?, segment.range).await?;
        let mut out = Vec::new();
        if segment.discontinuity {
            reading.open.begin_again();
        }
        let form = if segment.map.is_some() { Form::Fragments } else { Form::Ts };
        reading.open.segment(form, bytes, &mut out).map_err(HlsError::from)?;
        for piece in out {
            self.pieces.send(Ok(piece)).await.map_err(|_| None::<HlsError>)?;
        }
        Ok(())
    }
}
