//! A range over HTTP: all of it or some of its bytes, read from the disk or the store while they are
//! sent.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::Recordings;
use super::playback::problem;
use super::range::{Piece, Range, Source};
use super::stored::Vault;

/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Bytes asked of the store at once, at first and at most: pieces lie close to each other, and what
/// lies between them is little.
const FETCH_BYTES: u64 = 512 << 10;
const FETCH_BYTES_MAX: u64 = 4 << 20;

/// The bytes `first..=last` that a client asks for (RFC 9110 14.1.2); `None` for all of them.
pub(super) fn wanted(headers: &HeaderMap, length: u64) -> Option<Result<(u64, u64), ()>> {
    let text = headers.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    // Several at once are answered with everything, as is allowed.
    let (first, last) = text.split_once('-').filter(|_| !text.contains(','))?;
    let (first, last) = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.min(length.saturating_sub(1))),
        (Ok(first), Err(_)) if last.trim().is_empty() => (first, length.saturating_sub(1)),
        (Err(_), Ok(count)) if first.trim().is_empty() && count > 0 => {
            (length.saturating_sub(count), length.saturating_sub(1))
        }
        _ => return None,
    };
    Some(if first < length && first <= last { Ok((first, last)) } else { Err(()) })
}

/// The answer: all of it, or the part that is asked for.
pub(super) fn send(
    recordings: &Recordings,
    range: Range,
    headers: &HeaderMap,
    transfer: OwnedSemaphorePermit,
) -> Response {
    let length = range.length();
    let (status, first, last) = match wanted(headers, length) {
        None => (StatusCode::OK, 0, length.saturating_sub(1)),
        Some(Ok((first, last))) => (StatusCode::PARTIAL_CONTENT, first, last),
        Some(Err(())) => {
            let mut response = problem(StatusCode::RANGE_NOT_SATISFIABLE, "not that many bytes");
            put(&mut response, CONTENT_RANGE, format!("bytes */{length}"));
            return response;
        }
    };
    let pieces = cut(range.pieces, first, last);
    let sending = Sending::new(recordings, pieces, range.files);
    let mut response = Body::from_stream(stream(sending, transfer)).into_response();
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, "video/mp4".into());
    put(&mut response, ACCEPT_RANGES, "bytes".into());
    put(&mut response, CONTENT_LENGTH, (last + 1 - first).to_string());
    put(&mut response, CACHE_CONTROL, "no-store".into());
    put(&mut response, HeaderName::from_static("x-start"), range.start.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        put(&mut response, CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
    }
    response
}

fn put(response: &mut Response, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(name, value);
    }
}

/// Of all pieces the bytes `first..=last`.
fn cut(pieces: Vec<Piece>, first: u64, last: u64) -> Vec<Piece> {
    let mut at = 0;
    let mut kept = Vec::new();
    for piece in pieces {
        let begin = at;
        at += piece.length();
        let (from, to) = (first.max(begin), (last + 1).min(at));
        if from < to {
            kept.push(piece.part(from - begin, to - from));
        }
    }
    kept
}

/// What is left to send.
pub(super) struct Sending {
    pieces: std::vec::IntoIter<Piece>,
    now: Option<Piece>,
    files: Vec<Source>,
    open: Option<(usize, File)>,
    vault: Option<Arc<dyn Vault>>,
    /// What the store gave last: of which file, from where on.
    held: Option<(usize, u64, Bytes)>,
    fetch: u64,
}

/// What is to be done next.
enum Step {
    /// This is sent.
    Give(io::Result<Bytes>),
    /// These bytes of a segment are asked of the store: its number, its path, where, how many.
    Fetch(usize, String, u64, u64),
    Over,
}

impl Sending {
    pub(super) fn new(recordings: &Recordings, pieces: Vec<Piece>, files: Vec<Source>) -> Self {
        let vault = recordings.shared.stored.get().map(|stored| Arc::clone(&stored.vault));
        let pieces = pieces.into_iter();
        Self { pieces, now: None, files, open: None, vault, held: None, fetch: FETCH_BYTES }
    }

    /// The next chunk; `None` at the end.
    pub(super) async fn chunk(mut self) -> (Option<io::Result<Bytes>>, Option<Self>) {
        loop {
            let step = tokio::task::spawn_blocking(move || (self.step(), self)).await;
            let Ok((step, sending)) = step else { return (None, None) };
            self = sending;
            match step {
                Step::Give(given) => return (Some(given), Some(self)),
                Step::Over => return (None, None),
                Step::Fetch(number, name, at, count) => {
                    let Some(vault) = &self.vault else { return (None, None) };
                    match vault.read(&name, at..at + count).await {
                        Ok(bytes) if !bytes.is_empty() => self.held = Some((number, at, bytes)),
                        Ok(_) => return (Some(Err(io::ErrorKind::UnexpectedEof.into())), None),
                        Err(error) => {
                            tracing::warn!(path = name, %error, "a recording in the store cannot be read");
                            return (Some(Err(error)), None);
                        }
                    }
                }
            }
        }
    }

    /// May wait for the disk.
    fn step(&mut self) -> Step {
        let Some(piece) = self.now.take().or_else(|| self.pieces.next()) else { return Step::Over };
        let run = match piece {
            Piece::Made(bytes) => return Step::Give(Ok(bytes)),
            Piece::Stored(run) => run,
        };
        let Some(source) = self.files.get(run.file) else {
            return Step::Give(Err(io::ErrorKind::NotFound.into()));
        };
        if let Source::Store(name, size) = source {
            if let Some(data) = self.held(run.file, run.at, run.bytes) {
                let count = data.len() as u64;
                if run.bytes > count {
                    self.now = Some(Piece::Stored(run).part(count, run.bytes - count));
                }
                return Step::Give(Ok(data));
            }
            let count = self.fetch.max(run.bytes).min(FETCH_BYTES_MAX);
            let count = count.min(size.saturating_sub(run.at));
            let step = Step::Fetch(run.file, name.clone(), run.at, count);
            self.fetch = (self.fetch * 2).min(FETCH_BYTES_MAX);
            self.now = Some(Piece::Stored(run));
            return step;
        }
        let count = run.bytes.min(CHUNK_BYTES as u64);
        if run.bytes > count {
            self.now = Some(Piece::Stored(run).part(count, run.bytes - count));
        }
        Step::Give(self.read(run.file, run.at, count as usize))
    }

    /// What the store gave of these bytes, from their beginning on.
    fn held(&self, number: usize, at: u64, count: u64) -> Option<Bytes> {
        if count == 0 {
            return Some(Bytes::new());
        }
        let (_, from, bytes) = self.held.as_ref().filter(|(of, ..)| *of == number)?;
        let begin = usize::try_from(at.checked_sub(*from)?).ok().filter(|at| *at < bytes.len())?;
        let end = begin.saturating_add(usize::try_from(count).ok()?).min(bytes.len());
        Some(bytes.slice(begin..end))
    }

    fn read(&mut self, number: usize, at: u64, count: usize) -> io::Result<Bytes> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let Some(Source::Disk(path)) = self.files.get(number) else {
                return Err(io::ErrorKind::NotFound.into());
            };
            self.open = Some((number, File::open(path)?));
        }
        let Some((_, file)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let mut bytes = vec![0; count];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

fn stream(
    sending: Sending,
    transfer: OwnedSemaphorePermit,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    futures_util::stream::unfold((Some(sending), transfer), |(sending, transfer)| async {
        match sending?.chunk().await {
            (Some(Ok(bytes)), sending) => Some((Ok(bytes), (sending, transfer))),
            (Some(Err(error)), _) => Some((Err(error), (None, transfer))),
            (None, _) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_range_are_cut_to_the_byte() {
        let headers = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, text.parse().unwrap());
            headers
        };
        let check = |text: &str, bytes| assert_eq!(wanted(&headers(text), 100), bytes, "{text}");
        check("bytes=0-", Some(Ok((0, 99))));
        check("bytes=10-19", Some(Ok((10, 19))));
        check("bytes=-5", Some(Ok((95, 99))));
        check("bytes=90-200", Some(Ok((90, 99))));
        check("bytes=100-", Some(Err(())));
        check("bytes=5-4", Some(Err(())));
        check("bytes=0-1,5-6", None);
        check("lines=0-1", None);
        let pieces = vec![
            Piece::Made(Bytes::from_static(b"0123456789")),
            Piece::Stored(pipeline::fmp4::Run { file: 0, at: 1000, bytes: 90 }),
        ];
        let kept = cut(pieces, 8, 19);
        assert_eq!(kept.iter().map(Piece::length).collect::<Vec<_>>(), [2, 10]);
        assert!(matches!(&kept[1], Piece::Stored(run) if run.at == 1000));
    }
}
