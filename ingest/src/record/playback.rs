//! Recordings over HTTP, in the forms that MediaMTX's users know:
//!
//! - `GET /list?path=cam[&start=][&end=]`: what there is, as ranges of time without gaps.
//! - `GET /get?path=cam&start=2026-11-21T16:00:00Z&duration=60[&format=fmp4|mp4]`: a range.
//!
//! Credentials are those of [`Action::Playback`], in the header or the query. `mp4` begins exactly at
//! `start` and can be asked for in pieces (`Range`); `fmp4` begins with the key picture before it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Query, RawQuery, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, HOST, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{Moment, Recordings, range, send};
use crate::auth::{self, Action, SharedAccess};
use crate::name::StreamName;
use crate::sessions::without_secrets;

/// The longest range that is sent at once: a day.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(86_400);

/// Ranges listed at once, the newest ones.
const LIST_MAX: usize = 10_000;

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
        let transfer = Arc::clone(&face.transfers)
            .try_acquire_owned()
            .map_err(|_| later("too many recordings are being sent"))?;
        let made = range::make(&face.recordings, &name, start, duration, fragmented).await;
        let range = made.map_err(|error| match error {
            range::Error::Nothing => refuse(StatusCode::NOT_FOUND, "there is no recording"),
            range::Error::Io(error) => broken(&error),
            range::Error::Store(error) => {
                tracing::warn!(%error, "a recording in the store cannot be read");
                later("the store of recordings does not answer")
            }
            error => refuse(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        })?;
        Ok(send::send(&face.recordings, range, &headers, transfer))
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
    let question =
        auth::Request::over_http(Action::Playback, name, "playback", peer.ip(), headers, query);
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
    within.then(|| Duration::from_secs_f64(seconds)).filter(|duration| !duration.is_zero())
}

pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "error": text })))
        .into_response()
}

fn refuse(status: StatusCode, text: &str) -> Refused {
    Box::new(problem(status, text))
}

fn later(text: &str) -> Refused {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    Box::new(response)
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
}
