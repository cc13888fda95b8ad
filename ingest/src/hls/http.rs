//! The HTTP side: who may read, which answer, and how it may be kept.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::Server;
use super::muxer::{Muxer, Phase, Reload};
use super::playlist::SESSION;
use super::readers::Refused;
use super::request::{BadDirective, Directives, File, Piece, Route};
use super::segmenter::Format;
use super::variants;
use crate::auth::{self, Action};
use crate::name::StreamName;
use crate::refuse::{busy, not_allowed, refuse};
use crate::views::ViewError;

/// How long the first player of a stream waits for its first segment. Longer than the distance of
/// key pictures of most encoders.
const READY_MAX: Duration = Duration::from_secs(20);

/// Pieces never change: who has one may keep it as long as it can be of use.
const KEEP: &str = "max-age=60";
const KEEP_NOT: &str = "no-cache";

/// Answers what is HLS's; the rest goes on.
pub(super) fn over(server: Server, rest: Router) -> Router {
    rest.layer(middleware::from_fn_with_state(server, intercept))
}

async fn intercept(State(server): State<Server>, request: Request, next: Next) -> Response {
    let Some(route) = Route::parse(request.uri().path()) else {
        return next.run(request).await;
    };
    let name = StreamName::parse(route.stream);
    let head = Head::of(&request);
    let mut response = match (request.method().clone(), name) {
        (_, Err(error)) => *refuse(StatusCode::NOT_FOUND, &error.to_string()),
        (Method::GET | Method::HEAD, Ok(name)) => {
            let answer = serve(&server, &name, route, &head).await;
            answer.unwrap_or_else(|response| *response)
        }
        (Method::OPTIONS, Ok(_)) => options(),
        _ => {
            let allow = [(ALLOW, "GET, HEAD, OPTIONS")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, "not served here\n").into_response()
        }
    };
    allow_origin(&server.shared.config.origins, head.headers.get(ORIGIN), response.headers_mut());
    if request.method() == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

/// What is looked at of a request, which has no body.
struct Head {
    query: String,
    headers: HeaderMap,
    peer: SocketAddr,
}

impl Head {
    fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        Self {
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
            peer: peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        }
    }
}

type Answer = Result<Response, Box<Response>>;

async fn serve(server: &Server, name: &StreamName, route: Route<'_>, head: &Head) -> Answer {
    let directives = Directives::parse(&head.query)
        .map_err(|BadDirective(what)| refuse(StatusCode::BAD_REQUEST, what))?;
    let format = match route.file {
        File::Index(format) | File::Media(format) => format,
        File::Piece(_, Piece::Segment(format, _)) => format,
        File::Piece(..) => Format::Fmp4,
    };
    let session = session(server, name, format, &directives, head).await?;
    let name = match route.rendition {
        None => session.name.clone(),
        Some(rid) => {
            let name = session.name.of_rendition(rid);
            // Its players are carried over while its publisher, and so the rendition, is away.
            let known = server.shared.hub.renditions(&session.name).contains(&name)
                || server.running(&name, format).is_some();
            known.then_some(name).ok_or_else(not_found)?
        }
    };
    match route.file {
        File::Index(_) => {
            // The stream first: renditions take what places are left.
            server.begin_again(&name, format);
            begun(server, &name, format)?;
            let renditions = variants::begin(server, &name, format);
            let muxer = ready(server, &name, format).await?;
            let text = variants::multivariant(&muxer, &renditions).await;
            Ok(session.playlist(server, &muxer, &text))
        }
        File::Media(_) => {
            let muxer = ready(server, &name, format).await?;
            let low_latency = server.shared.config.low_latency && format == Format::Fmp4;
            let text = match directives.segment.filter(|_| low_latency) {
                None => muxer.media(low_latency, directives.skip),
                Some(segment) => reload(server, &muxer, segment, &directives).await?,
            };
            let reports = match low_latency {
                true => variants::reports(server, &session.name, &muxer),
                false => String::new(),
            };
            match reports.is_empty() {
                true => Ok(session.playlist(server, &muxer, &text)),
                false => Ok(session.playlist(server, &muxer, &format!("{text}{reports}"))),
            }
        }
        File::Piece(prefix, piece) => {
            let muxer = server.running(&name, format);
            let muxer = muxer.filter(|muxer| muxer.prefix == prefix).ok_or_else(not_found)?;
            muxer.touch();
            let _place = waiting(server)?;
            let limit = server.shared.config.waiting_time_max;
            let data = muxer.piece(piece, limit).await.ok_or_else(not_found)?;
            let kind = match piece {
                Piece::Segment(Format::Ts, _) => "video/mp2t",
                _ => "video/mp4",
            };
            Ok(session.media(server, &muxer, data, kind))
        }
    }
}

/// The playlist when it has what the player asks for.
async fn reload(
    server: &Server,
    muxer: &Muxer,
    segment: u64,
    directives: &Directives,
) -> Result<Arc<str>, Box<Response>> {
    let _place = waiting(server)?;
    let limit = server.shared.config.waiting_time_max;
    match muxer.reload(segment, directives.part, directives.skip, limit).await {
        Reload::Now(text) => Ok(text),
        Reload::TooFar => Err(refuse(StatusCode::BAD_REQUEST, "_HLS_msn is too far ahead")),
        Reload::Over => Err(not_found()),
    }
}

/// A place among the requests that wait.
fn waiting(server: &Server) -> Result<tokio::sync::SemaphorePermit<'_>, Box<Response>> {
    server.shared.waiting.try_acquire().map_err(|_| busy("too many requests wait"))
}

/// The muxer of a stream, begun if it does not run.
fn begun(server: &Server, name: &StreamName, format: Format) -> Result<Arc<Muxer>, Box<Response>> {
    let muxer = server.muxer(name, format).ok_or_else(|| busy("too many streams are watched"))?;
    muxer.touch();
    Ok(muxer)
}

/// The muxer of a stream once players can begin.
async fn ready(
    server: &Server,
    name: &StreamName,
    format: Format,
) -> Result<Arc<Muxer>, Box<Response>> {
    let muxer = begun(server, name, format)?;
    let _place = waiting(server)?;
    match tokio::time::timeout(READY_MAX, muxer.ready()).await {
        Ok(Phase::Ready | Phase::Starting) => Ok(muxer),
        Ok(Phase::Over(Some(error @ ViewError::NotFound(_)))) => {
            Err(refuse(StatusCode::NOT_FOUND, &error.to_string()))
        }
        Ok(Phase::Over(Some(ViewError::Busy { why, .. }))) => Err(busy(&why)),
        Ok(Phase::Over(Some(error))) => {
            Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error.to_string()))
        }
        Ok(Phase::Over(None)) => Err(not_found()),
        Err(_) => Err(busy("no key picture came yet")),
    }
}

/// A player that may read.
struct Session {
    name: StreamName,
    secret: String,
}

/// The session that the request names, or a new one if its credentials allow that.
async fn session(
    server: &Server,
    name: &StreamName,
    format: Format,
    directives: &Directives,
    head: &Head,
) -> Result<Session, Box<Response>> {
    let readers = &server.shared.readers;
    if let Some(secret) = &directives.session {
        match readers.check(secret, name) {
            Ok(name) => return Ok(Session { name, secret: secret.clone() }),
            Err(Refused::Over) => return Err(refuse(StatusCode::FORBIDDEN, "not allowed")),
            Err(Refused::Unknown) => {}
        }
    }
    let Head { query, headers, peer } = head;
    let question =
        auth::Request::over_http(Action::Read, name.clone(), "hls", peer.ip(), headers, query);
    let grant = server.shared.access.check(question.clone()).await.map_err(|refusal| {
        tracing::info!(stream = %name, %peer, %refusal, "hls refused");
        not_allowed(&refusal)
    })?;
    let name = grant.name.clone();
    let secret = readers.begin(*peer, &question, grant, format);
    let secret = secret.ok_or_else(|| busy("too many players"))?;
    Ok(Session { name, secret })
}

impl Session {
    /// A playlist with this session in its addresses.
    fn playlist(&self, server: &Server, muxer: &Muxer, text: &str) -> Response {
        let text = text.replace(SESSION, &format!("?session={}", self.secret));
        self.count(server, muxer, text.len());
        let kind = HeaderValue::from_static("application/vnd.apple.mpegurl");
        let keep = HeaderValue::from_static(KEEP_NOT);
        ([(CONTENT_TYPE, kind), (CACHE_CONTROL, keep)], text).into_response()
    }

    /// A piece of media; its chunks are sent as they are.
    fn media(
        &self,
        server: &Server,
        muxer: &Muxer,
        data: Vec<Bytes>,
        kind: &'static str,
    ) -> Response {
        let length = data.iter().map(Bytes::len).sum();
        self.count(server, muxer, length);
        let chunks = data.into_iter().map(Ok::<_, std::convert::Infallible>);
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
            (CACHE_CONTROL, HeaderValue::from_static(KEEP)),
            (CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        (headers, body).into_response()
    }

    fn count(&self, server: &Server, muxer: &Muxer, bytes: usize) {
        server.shared.readers.is_at(&self.secret, (&muxer.name, muxer.format));
        muxer.bytes_out.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
        server.shared.readers.sent(&self.secret, bytes as u64);
    }
}

fn options() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let put = |headers: &mut HeaderMap, name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    put(headers, ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS");
    put(headers, ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Range");
    put(headers, ACCESS_CONTROL_MAX_AGE, "600");
    response
}

/// Lets pages of the allowed origins read the answer.
fn allow_origin(allowed: &[String], origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if allowed.iter().any(|allowed| allowed == "*") {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return;
    }
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let listed = |origin: &&HeaderValue| allowed.iter().any(|a| a.as_bytes() == origin.as_bytes());
    if let Some(origin) = origin.filter(listed) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

fn not_found() -> Box<Response> {
    refuse(StatusCode::NOT_FOUND, "there is nothing here")
}
