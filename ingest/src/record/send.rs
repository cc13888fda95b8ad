//! A range over HTTP: all of it or some of its bytes, read from disk while they are sent.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::playback::problem;
use super::range::{Piece, Range};

/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 256 << 10;

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
pub(super) fn send(range: Range, headers: &HeaderMap, transfer: OwnedSemaphorePermit) -> Response {
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
    let mut response = Body::from_stream(stream(pieces, range.files, transfer)).into_response();
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
struct Sending {
    pieces: std::vec::IntoIter<Piece>,
    now: Option<Piece>,
    files: Vec<PathBuf>,
    open: Option<(usize, File)>,
    _transfer: OwnedSemaphorePermit,
}

impl Sending {
    /// The next chunk; may wait for the disk.
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let piece = self.now.take().or_else(|| self.pieces.next())?;
        let run = match piece {
            Piece::Made(bytes) => return Some(Ok(bytes)),
            Piece::Stored(run) => run,
        };
        let count = run.bytes.min(CHUNK_BYTES as u64);
        if run.bytes > count {
            self.now = Some(Piece::Stored(run).part(count, run.bytes - count));
        }
        Some(self.read(run.file, run.at, count as usize))
    }

    fn read(&mut self, number: usize, at: u64, count: usize) -> io::Result<Bytes> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = self.files.get(number).ok_or(io::ErrorKind::NotFound)?;
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
    pieces: Vec<Piece>,
    files: Vec<PathBuf>,
    transfer: OwnedSemaphorePermit,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    let pieces = pieces.into_iter();
    let sending = Sending { pieces, now: None, files, open: None, _transfer: transfer };
    futures_util::stream::unfold(Some(sending), |sending| async {
        let mut sending = sending?;
        let read = tokio::task::spawn_blocking(move || (sending.next(), sending)).await;
        match read {
            Ok((Some(Ok(bytes)), sending)) => Some((Ok(bytes), Some(sending))),
            Ok((Some(Err(error)), _)) => Some((Err(error), None)),
            Ok((None, _)) | Err(_) => None,
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
