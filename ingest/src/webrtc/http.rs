//! The HTTP side of WHIP (RFC 9725) and WHEP: an offer in, an answer and a session URL out.
//!
//! Everything about an offer is decided here, off the worker's thread; the worker only says
//! whether there is room. Session URLs hold 190 random bits and need no other credentials.
//!
//! This file is long because all routes of RFC 9725 and their statuses are compared side by side.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, OriginalUri, Request, State};
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE,
    ETAG, IF_MATCH, LINK, LOCATION, ORIGIN, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pipeline::Codec;
use tokio::sync::oneshot;

use super::admission::Full;
use super::answer::{self, Coded, Local};
use super::counters;
use super::formats;
use super::ice;
use super::layer::{self, RELATION};
use super::order::{Command, Open, OpenMedia, Patch, PatchAnswer, PatchError};
use super::sdp::{Offer, SDP_BYTES_MAX};
use super::session::Facts;
use super::strays;
use super::workers::Gone;
use super::{Login, Role, Server};
use crate::auth::{self, Action, Grant};
use crate::hub::{self, PublishError, Publisher};
use crate::name::StreamName;
use crate::views::{Takes, ViewError};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// The longest wait for [`crate::views::Views`], which may have to start a re-encode.
const VIEW_WAIT_MAX: Duration = Duration::from_secs(20);

/// How long a stream may take from its beginning until its picture is known.
const DESCRIBED_WITHIN: Duration = Duration::from_secs(1);

/// How often that is looked at.
const DESCRIBED_EVERY: Duration = Duration::from_millis(20);

/// What a client that came too early or too much is told to wait, in seconds.
const RETRY_AFTER_S: u64 = 2;

pub(super) fn router(server: Server) -> Router {
    Router::new().fallback(handle).with_state(server)
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    stream: &'a str,
    role: Role,
    /// The secret of a session URL.
    session: Option<&'a str>,
    /// The choice of a rendition below the session of a viewer.
    layer: bool,
}

impl<'a> Route<'a> {
    /// `/{stream}/whip`, `/{stream}/whep`, a session below one of them, or a viewer's choice.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let role = |word: &str| match word {
            "whip" => Some(Role::Publisher),
            "whep" => Some(Role::Viewer),
            _ => None,
        };
        let (rest, last) = path.trim_start_matches('/').rsplit_once('/')?;
        if let Some(role) = role(last) {
            return Some(Self { stream: rest, role, session: None, layer: false });
        }
        let (stream, word) = rest.rsplit_once('/')?;
        if let Some(role) = role(word) {
            return Some(Self { stream, role, session: Some(last), layer: false });
        }
        let (stream, role) = stream.rsplit_once('/').map(|(stream, w)| (stream, role(w)))?;
        let role = role.filter(|role| *role == Role::Viewer && last == "layer")?;
        Some(Self { stream, role, session: Some(word), layer: true })
    }
}

async fn handle(
    State(server): State<Server>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let answer = match Route::parse(uri.path()) {
        Some(route) => serve(&server, route, &uri, request).await,
        None => Err(Problem::new(StatusCode::NOT_FOUND, "no such page".into())),
    };
    let mut response = answer.unwrap_or_else(Problem::into_response);
    allow_origin(&server.shared.config.origins, origin, response.headers_mut());
    response
}

async fn serve(
    server: &Server,
    route: Route<'_>,
    uri: &http::Uri,
    request: Request,
) -> Result<Response, Problem> {
    match (request.method(), route.session) {
        (&Method::OPTIONS, _) => Ok(options(server)),
        (&Method::POST, None) => post(server, route, uri, request).await,
        (&Method::POST, Some(secret)) if route.layer => layer::post(server, secret, request).await,
        (&Method::PATCH, Some(secret)) if !route.layer => {
            patch(server, route.role, secret, request).await
        }
        (&Method::DELETE, Some(secret)) if !route.layer => delete(server, route.role, secret).await,
        (_, session) => {
            let at_session = session.is_some() && !route.layer;
            let allowed = if at_session { "OPTIONS, PATCH, DELETE" } else { "OPTIONS, POST" };
            let method = request.method();
            Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{method} is not served here"),
            )
            .with(ALLOW, allowed))
        }
    }
}

fn options(server: &Server) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("accept-post"), HeaderValue::from_static(SDP));
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("OPTIONS, POST, PATCH, DELETE"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Content-Type, If-Match"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // Whoever asks before there is a session may be anybody: credentials are for those let in.
    for one in server.shared.config.ice_servers.iter().filter(|one| one.login == Login::Open) {
        if let Ok(value) = HeaderValue::from_str(&one.link(SystemTime::now(), "")) {
            headers.append(LINK, value);
        }
    }
    response
}

async fn post(
    server: &Server,
    route: Route<'_>,
    uri: &http::Uri,
    request: Request,
) -> Result<Response, Problem> {
    let shared = &server.shared;
    let role = route.role;
    let name = match role {
        Role::Publisher => StreamName::for_publisher(route.stream),
        Role::Viewer => StreamName::parse(route.stream),
    };
    let name = name.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let peer = peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let (parts, body) = request.into_parts();
    let body = read(&parts.headers, SDP, body).await?;
    let offer = Offer::parse(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;

    let query = uri.query().unwrap_or_default();
    let transports = ice::Transports::of_query(query, shared.config.tcp)
        .map_err(|text| Problem::new(StatusCode::BAD_REQUEST, text))?;
    let id = ice::secret()[..16].to_owned();
    let action = if role == Role::Publisher { Action::Publish } else { Action::Read };
    let question = auth::Request {
        id: id.clone(),
        ..auth::Request::over_http(action, name.clone(), "webrtc", peer.ip(), &parts.headers, query)
    };
    let user_agent = question.user_agent.clone();
    let steering = auth::Request {
        action: Action::Publish,
        name: name.source().unwrap_or_else(|| name.clone()),
        ..question.clone()
    };
    let grant = shared.access.check(question).await.map_err(|refusal| {
        tracing::info!(stream = %name, %peer, role = role.route(), %refusal, "webrtc refused");
        if refusal.ask_credentials {
            Problem::new(StatusCode::UNAUTHORIZED, "not allowed".into())
                .with(WWW_AUTHENTICATE, "Bearer")
        } else {
            Problem::new(StatusCode::FORBIDDEN, "not allowed".into())
        }
    })?;
    let Grant { name, lifetime, take_over } = grant;

    let (seat, pushed) = shared.admission.admit(peer.ip()).map_err(|refused| {
        counters::add(&shared.counters.sessions_refused, 1);
        full(refused)
    })?;
    counters::add(&shared.counters.gave_way, pushed.into());
    let worker = seat.worker();
    let credentials = ice::Credentials::generate(worker);
    let view = match role {
        Role::Viewer => Some(view(server, &name, &offer).await?),
        Role::Publisher => None,
    };
    let local = Local {
        credentials: &credentials,
        fingerprint: shared.identity.fingerprint(),
        candidates: &shared.candidates,
        transports,
        stream: view.as_ref().map(|(reader, _)| coded(server, reader)).unwrap_or_default(),
    };
    let (agreed, text) = answer::answer(&offer, role, &local)
        .map_err(|refused| Problem::new(StatusCode::NOT_ACCEPTABLE, refused.to_string()))?;
    // Who only watches is asked about no more than that, unless there are channels to steer by.
    let may_steer = match role {
        Role::Publisher => true,
        Role::Viewer => agreed.data.is_some() && shared.access.check(steering).await.is_ok(),
    };
    let media = match view {
        Some((reader, takes)) => OpenMedia::View(reader, takes),
        None => {
            let publisher =
                Publisher { protocol: "webrtc", id: id.clone(), remote: peer.to_string() };
            let take_over = take_over.unwrap_or(shared.config.take_over);
            let writer = shared.hub.publish(name.clone(), publisher, take_over);
            OpenMedia::Publish(writer.map_err(taken)?)
        }
    };
    let (secret, etag) = (ice::session_secret(worker), ice::secret()[..16].to_owned());
    let facts = Facts {
        id: id.clone(),
        secret: secret.clone(),
        etag: etag.clone(),
        role,
        stream: name.clone(),
        may_steer,
        requested_from: peer,
        user_agent,
        mids: agreed.mids.clone(),
        transports,
        since: SystemTime::now(),
        until: lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime)),
    };
    let open = Open { facts, agreed, credentials, media, seat };
    let (reply, opened) = oneshot::channel();
    shared.workers.send(worker, Command::Open(Box::new(open), reply)).await.map_err(stopping)?;
    let opened = opened.await.map_err(|_| stopping(Gone))?;
    opened.map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry()
    })?;
    let location = format!("{}/{secret}", uri.path().trim_end_matches('/'));
    let renditions = role == Role::Viewer && !shared.hub.renditions(&name).is_empty();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    put(headers, LOCATION, &location);
    put(headers, ETAG, &format!("\"{etag}\""));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT));
    ice_servers(server, &id, headers);
    if renditions && let Ok(link) = format!("<{location}/layer>; rel=\"{RELATION}\"").parse() {
        headers.append(LINK, link);
    }
    Ok(response)
}

/// A reader of the stream in a form that the offer has a payload type for.
async fn view(
    server: &Server,
    name: &StreamName,
    offer: &Offer,
) -> Result<(hub::Reader, &'static Takes), Problem> {
    described(server, name).await;
    let status = server.shared.hub.status(name);
    let sound = status.and_then(|status| status.tracks.audio.clone());
    // RTP has fixed numbers for G.711 at 8 kHz in mono only (RFC 3551 6).
    let other = sound.filter(|sound| (sound.sample_rate, sound.channels) != (8000, 1));
    let other = other.map(|sound| sound.codec).filter(|&codec| codec != Codec::Opus);
    let takes = formats::takes(offer, other.as_slice());
    let view = tokio::time::timeout(VIEW_WAIT_MAX, server.shared.views.view(name, takes)).await;
    let late = || ViewError::Busy { name: name.clone(), why: "it takes too long to start".into() };
    let reader = view.unwrap_or_else(|_| Err(late())).map_err(|error| {
        let text = error.to_string();
        match error {
            ViewError::NotFound(_) => Problem::new(StatusCode::NOT_FOUND, text).retry(),
            ViewError::Unplayable { .. } => Problem::new(StatusCode::NOT_ACCEPTABLE, text),
            ViewError::Busy { .. } => Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).retry(),
        }
    })?;
    Ok((reader, takes))
}

/// Waits a moment for a young stream's first picture, which says how it is coded.
async fn described(server: &Server, name: &StreamName) {
    let known = || match server.shared.hub.status(name) {
        Some(status) => {
            status.tracks.video.is_some()
                || status.since.elapsed().is_ok_and(|age| age > DESCRIBED_WITHIN)
        }
        None => true,
    };
    let end = Instant::now() + DESCRIBED_WITHIN;
    while !known() && Instant::now() < end {
        tokio::time::sleep(DESCRIBED_EVERY).await;
    }
}

/// The codings of the stream that a reader is going to get. The profile of H.264 is the byte after
/// the type of its sequence parameter set.
fn coded(server: &Server, reader: &hub::Reader) -> Coded {
    let Some(status) = server.shared.hub.status(reader.name()) else { return Coded::default() };
    let video = status.tracks.video.as_ref();
    let sets = video.filter(|video| video.codec == Codec::H264).map(|video| &video.parameter_sets);
    let sps = |w: &[u8]| (w[..3] == [0, 0, 1] && w[3] & 0x1f == 7).then_some(w[4]);
    Coded {
        video: video.map(|video| video.codec),
        audio: status.tracks.audio.as_ref().map(|audio| audio.codec),
        profile: sets.and_then(|sets| sets.windows(5).find_map(sps)),
    }
}

async fn patch(
    server: &Server,
    role: Role,
    secret: &str,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read(&parts.headers, FRAGMENT, body).await?;
    let tag = parts.headers.get(IF_MATCH).and_then(|value| value.to_str().ok());
    let Some(tag) = tag else {
        let text = "If-Match is missing: the entity tag of the session, or * for an ICE restart";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, text.into()));
    };
    let fragment = Offer::parse_fragment(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let tag = tag.trim();
    let etag = (tag != "*").then(|| tag.trim_start_matches("W/").trim_matches('"').to_owned());
    let patch = Patch { role, secret: secret.to_owned(), etag, fragment };
    let (reply, answer) = oneshot::channel();
    of_session(server, secret, Command::Patch(Box::new(patch), reply)).await?;
    let answer = answer.await.map_err(|_| stopping(Gone))?.map_err(|error| {
        let status = match error {
            PatchError::NoSession => StatusCode::NOT_FOUND,
            PatchError::EntityTag => StatusCode::PRECONDITION_FAILED,
            PatchError::NoPassword => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, error.to_string())
    })?;
    let mut response = Response::new(Body::empty());
    match answer {
        PatchAnswer::Trickled => *response.status_mut() = StatusCode::NO_CONTENT,
        PatchAnswer::Restarted { credentials, etag, mids, transports } => {
            let candidates = &server.shared.candidates;
            let text = answer::restart_fragment(&mids, &credentials, candidates, transports);
            *response.body_mut() = Body::from(text);
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
            put(headers, ETAG, &format!("\"{etag}\""));
        }
    }
    Ok(response)
}

async fn delete(server: &Server, role: Role, secret: &str) -> Result<Response, Problem> {
    let (reply, answer) = oneshot::channel();
    of_session(server, secret, Command::Close { role, secret: secret.to_owned(), reply }).await?;
    if answer.await.unwrap_or(false) {
        Ok(Response::new(Body::empty()))
    } else {
        Err(Problem::new(StatusCode::NOT_FOUND, PatchError::NoSession.to_string()))
    }
}

pub(super) async fn read(
    headers: &HeaderMap,
    wanted: &str,
    body: Body,
) -> Result<Vec<u8>, Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(wanted) {
        let text = format!("the body is {kind:?}, wanted is {wanted}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let body = axum::body::to_bytes(body, SDP_BYTES_MAX).await.map_err(|_| {
        let text = format!("the body cannot be read or has more than {SDP_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    Ok(body.into())
}

/// Tells the worker of a session something.
pub(super) async fn of_session(
    server: &Server,
    secret: &str,
    command: Command,
) -> Result<(), Problem> {
    let workers = &server.shared.workers;
    let worker = strays::worker_of(secret.as_bytes()).filter(|worker| workers.knows(*worker));
    let none = || Problem::new(StatusCode::NOT_FOUND, PatchError::NoSession.to_string());
    workers.send(worker.ok_or_else(none)?, command).await.map_err(stopping)
}

pub(super) fn stopping(_: Gone) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping".into()).retry()
}

fn taken(error: PublishError) -> Problem {
    let text = error.to_string();
    match error {
        PublishError::Taken { .. } => Problem::new(StatusCode::CONFLICT, text),
        PublishError::TooMany(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).retry(),
    }
}

fn full(error: Full) -> Problem {
    let status = match error {
        Full::FromAddress(_) => StatusCode::TOO_MANY_REQUESTS,
        Full::Sessions(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, error.to_string()).retry()
}

fn ice_servers(server: &Server, id: &str, headers: &mut HeaderMap) {
    for one in &server.shared.config.ice_servers {
        if let Ok(value) = HeaderValue::from_str(&one.link(SystemTime::now(), id)) {
            headers.append(LINK, value);
        }
    }
}

fn allow_origin(allowed: &[String], origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    let any = allowed.iter().any(|one| one == "*");
    let value = if any {
        Some(HeaderValue::from_static("*"))
    } else {
        headers.append(VARY, HeaderValue::from_static("Origin"));
        origin.filter(|origin| allowed.iter().any(|one| one.as_bytes() == origin.as_bytes()))
    };
    if let Some(value) = value {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Location, ETag, Link, Accept-Patch, Retry-After"),
        );
    }
}

/// Header values here are made of URL paths and our own text; what would not fit is left out.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A refusal, said in the body in words.
pub(super) struct Problem {
    status: StatusCode,
    text: String,
    headers: HeaderMap,
}

impl Problem {
    pub(super) fn new(status: StatusCode, text: String) -> Self {
        Self { status, text, headers: HeaderMap::new() }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    fn retry(mut self) -> Self {
        self.headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        self
    }

    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.text + "\n"));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_may_hold_slashes() {
        let check = |path: &str, wanted: Option<(&str, Role, Option<&str>)>| {
            let wanted = wanted.map(|(stream, role, session)| Route {
                stream,
                role,
                session,
                layer: path.ends_with("/layer"),
            });
            assert_eq!(Route::parse(path), wanted, "{path}");
        };
        check("/cam/whip", Some(("cam", Role::Publisher, None)));
        check("/a/b/whep", Some(("a/b", Role::Viewer, None)));
        check("/a/b/whep/s3cret", Some(("a/b", Role::Viewer, Some("s3cret"))));
        check("/whip/whip", Some(("whip", Role::Publisher, None)));
        check("/a/b/whep/s3cret/layer", Some(("a/b", Role::Viewer, Some("s3cret"))));
        check("/a/b/whip/s3cret/layer", None);
        check("/whip", None);
        check("/cam/", None);
        check("/cam/watch", None);
    }
}
