//! Recordings over HTTP, in the forms that MediaMTX's users know:
//!
//! - `GET /list?path=cam[&start=][&end=]`: what there is, as ranges of time without gaps.
//! - `GET /get?path=cam&start=2026-11-21T16:00:00Z&duration=60[&format=fmp4|mp4]`: a range.
//!
//! Credentials are those of [`Action::Playback`], in the header or the query. `mp4` begins exactly at
//! `start` and can be asked for in pieces (`Range`); `fmp4` begins with the key picture before it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, RawQuery, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE,
    RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::range::{self, Piece, Range};
use super::{Moment, Recordings};
use crate::auth::{self, Action, Credentials, SharedAccess};
use crate::name::StreamName;
use crate::sessions::{new_id, without_secrets};

/// The longest range that is sent at once: a day.
const DURATION_MAX: Duration = Duration::from_secs(86_400);

/// Ranges listed at once, the newest ones.
const LIST_MAX: usize = 10_000;

/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Characters of a client's name for itself that are kept.
const USER_AGENT_MAX: usize = 256;

/// Seconds after which a client is to ask again.
const RETRY_AFTER_S: &str = "2";

/// What the server needs to know.
#[derive(Clone)]
pub struct Config {
    /// Origins whose pages may read the answers; `*` for any.
    pub origins: Vec<String>,
    /// Ranges that are sent at the same time.
    pub transfers_max: usize,
}

#[derive(Clone)]
struct Face {
    recordings: Recordings,
    access: SharedAccess,
    transfers: Arc<Semaphore>,
}

/// The routes.
pub fn router(recordings: Recordings, access: SharedAccess, config: &Config) -> Router {
    let any = config.origins.iter().any(|origin| origin == "*");
    let listed = config.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let origins = if any { AllowOrigin::any() } else { AllowOrigin::list(listed) };
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([http::Method::GET])
        .allow_headers([http::header::AUTHORIZATION, RANGE])
        .expose_headers([CONTENT_RANGE, CONTENT_LENGTH]);
    let transfers = Arc::new(Semaphore::new(config.transfers_max));
    Router::new()
        .route("/list", get(list))
        .route("/get", get(range_of))
        .layer(cors)
        .with_state(Face { recordings, access, transfers })
}

type Refused = Box<Response>;

#[derive(Deserialize)]
struct ListQuery {
    path: String,
    start: Option<String>,
    end: Option<String>,
}

#[derive(Deserialize)]
struct GetQuery {
    path: String,
    start: String,
    duration: String,
    format: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    start: String,
    /// Seconds.
    duration: f64,
    url: String,
}

async fn list(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let Query(query) = query.map_err(|error| bad(&error.body_text()))?;
        let raw = raw.unwrap_or_default();
        let name = admit(&face, &query.path, peer, &raw, &headers).await?;
        let time =
            |text: Option<String>, key: &str| text.map(|text| parse_time(&text, key)).transpose();
        let (start, end) = (time(query.start, "start")?, time(query.end, "end")?);
        let spans = range::spans(&face.recordings, &name).await.map_err(|error| broken(&error))?;
        let cut = spans.into_iter().filter_map(|span| span.within(start, end));
        let mut cut: Vec<_> = cut.collect();
        cut.drain(..cut.len().saturating_sub(LIST_MAX));
        if cut.is_empty() {
            return Err(refuse(StatusCode::NOT_FOUND, "there is no recording"));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let own = [("path", query.path.as_str())];
        let others = without_own(&without_secrets(&raw));
        let listed = cut.into_iter().map(|span| {
            let (start, seconds) = (span.start.to_string(), span.duration().as_secs_f64());
            let url = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(own)
                .append_pair("start", &start)
                .append_pair("duration", &seconds.to_string())
                .extend_pairs(&others)
                .finish();
            Listed { start, duration: seconds, url: format!("http://{host}/get?{url}") }
        });
        Ok(Json(listed.collect::<Vec<_>>()).into_response())
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// What else was in the query, to be handed on.
fn without_own(query: &str) -> Vec<(String, String)> {
    let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
    pairs.filter(|(key, _)| !["path", "start", "end", "duration"].contains(&&**key)).collect()
}

async fn range_of(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    query: Result<Query<GetQuery>, axum::extract::rejection::QueryRejection>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let Query(query) = query.map_err(|error| bad(&error.body_text()))?;
        let name = admit(&face, &query.path, peer, &raw.unwrap_or_default(), &headers).await?;
        let start = parse_time(&query.start, "start")?;
        let duration = parse_duration(&query.duration)
            .ok_or_else(|| bad("duration is not a number of seconds above 0, 86400 at most"))?;
        let fragmented = match query.format.as_deref() {
            None | Some("" | "fmp4") => true,
            Some("mp4") => false,
            Some(_) => return Err(bad("format is not known: fmp4 or mp4")),
        };
        let transfer = Arc::clone(&face.transfers).try_acquire_owned().map_err(|_| {
            let mut response =
                problem(StatusCode::SERVICE_UNAVAILABLE, "too many recordings are being sent");
            let retry = HeaderValue::from_static(RETRY_AFTER_S);
            response.headers_mut().insert(RETRY_AFTER, retry);
            Box::new(response)
        })?;
        let made = range::make(&face.recordings, &name, start, duration, fragmented).await;
        let range = made.map_err(|error| match error {
            range::Error::Nothing => refuse(StatusCode::NOT_FOUND, "there is no recording"),
            range::Error::Io(error) => broken(&error),
            error => refuse(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        })?;
        Ok(send(range, &headers, transfer))
    };
    answer.await.unwrap_or_else(|refused: Refused| *refused)
}

/// The stream that may be played back.
async fn admit(
    face: &Face,
    path: &str,
    peer: SocketAddr,
    query: &str,
    headers: &HeaderMap,
) -> Result<StreamName, Refused> {
    let name = StreamName::parse(path).map_err(|error| bad(&error.to_string()))?;
    let found = Credentials::of(headers, query);
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    let question = auth::Request {
        action: Action::Playback,
        name,
        protocol: "playback",
        id: new_id(),
        ip: peer.ip().to_canonical(),
        user: found.user,
        password: found.password,
        token: found.token,
        query: query.to_owned(),
        user_agent: agent.unwrap_or_default().chars().take(USER_AGENT_MAX).collect(),
    };
    match face.access.check(question).await {
        Ok(grant) => Ok(grant.name),
        Err(refusal) => {
            tracing::info!(path, %peer, %refusal, "playback refused");
            let mut response = match refusal.ask_credentials {
                true => problem(StatusCode::UNAUTHORIZED, "not allowed"),
                false => problem(StatusCode::FORBIDDEN, "not allowed"),
            };
            if refusal.ask_credentials {
                let challenge = HeaderValue::from_static("Basic realm=\"millstream\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            Err(Box::new(response))
        }
    }
}

fn parse_time(text: &str, key: &str) -> Result<Moment, Refused> {
    Moment::parse(text).ok_or_else(|| bad(&format!("{key} is not a time after RFC 3339")))
}

/// Seconds as a number, or as Go's tools write them (`1m30.5s`).
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let (mut sum, mut number) = (0.0, String::new());
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                let unit = match c {
                    '0'..='9' | '.' => {
                        number.push(c);
                        continue;
                    }
                    'm' if chars.peek() == Some(&'s') => {
                        chars.next();
                        0.001
                    }
                    'h' => 3600.0,
                    'm' => 60.0,
                    's' => 1.0,
                    _ => return None,
                };
                sum += number.parse::<f64>().ok()? * unit;
                number.clear();
            }
            number.is_empty().then_some(sum)?
        }
    };
    let within = seconds > 0.0 && seconds <= DURATION_MAX.as_secs_f64();
    within.then(|| Duration::from_secs_f64(seconds))
}

/// The bytes `first..=last` that a client asks for (RFC 9110 14.1.2); `None` for all of them.
fn wanted(headers: &HeaderMap, length: u64) -> Option<Result<(u64, u64), ()>> {
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

fn send(range: Range, headers: &HeaderMap, transfer: OwnedSemaphorePermit) -> Response {
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

fn problem(status: StatusCode, text: &str) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "error": text })))
        .into_response()
}

fn refuse(status: StatusCode, text: &str) -> Refused {
    Box::new(problem(status, text))
}

fn bad(text: &str) -> Refused {
    refuse(StatusCode::BAD_REQUEST, text)
}

fn broken(error: &io::Error) -> Refused {
    tracing::warn!(%error, "a recording cannot be read");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "the recording cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_as_go_writes_them() {
        let check = |text: &str, wanted: Option<f64>| {
            assert_eq!(parse_duration(text), wanted.map(Duration::from_secs_f64), "{text}");
        };
        check("60", Some(60.0));
        check("2.5", Some(2.5));
        check("1m30.5s", Some(90.5));
        check("1h", Some(3600.0));
        check("250ms", Some(0.25));
        for bad in ["", "0", "-1", "nan", "inf", "1e9", "5x", "s", "1m5", "99999999h"] {
            check(bad, None);
        }
    }

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
