//! The HTTP side: who may publish, what is taken, and the answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use super::Server;
use super::file::{File, Kind};
use super::session::{Refused, Session, Who};
use crate::auth::{self, Action};
use crate::name::StreamName;

/// Bytes of a playlist.
const PLAYLIST_BYTES_MAX: usize = 1 << 20;

/// The tag of a playlist that has all its segments.
const END: &[u8] = b"#EXT-X-ENDLIST";

/// What a publisher that came too much is told to wait, in seconds.
const RETRY_AFTER_S: &str = "1";

/// Answers what publishes segments; the rest goes on.
pub(super) fn over(server: Server, rest: Router) -> Router {
    rest.layer(middleware::from_fn_with_state(server, intercept))
}

async fn intercept(State(server): State<Server>, request: Request, next: Next) -> Response {
    let publishes = matches!(*request.method(), Method::PUT | Method::POST | Method::DELETE);
    if !publishes || File::parse(request.uri().path()).is_none() {
        return next.run(request).await;
    }
    // Publishers hang up as soon as they have sent a segment: what was sent is taken all the same.
    let taken = server.shared.runtime.clone().spawn(async move { answer(&server, request).await });
    taken.await.unwrap_or_else(|error| {
        tracing::error!(%error, "taking a segment");
        *problem(StatusCode::INTERNAL_SERVER_ERROR, "the segment was not taken")
    })
}

async fn answer(server: &Server, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let Some(file) = File::parse(&path) else { return StatusCode::NOT_FOUND.into_response() };
    let answer = match StreamName::for_publisher(file.stream) {
        Ok(name) => take(server, name, &file, request).await,
        Err(error) => Err(problem(StatusCode::BAD_REQUEST, &error.to_string())),
    };
    let answer = answer.unwrap_or_else(|mut refused| {
        // What is left of the body is not read.
        refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        *refused
    });
    tracing::debug!(%method, path, status = %answer.status(), "HTTP publisher");
    answer
}

async fn take(
    server: &Server,
    name: StreamName,
    file: &File<'_>,
    request: Request,
) -> Result<Response, Box<Response>> {
    let (head, content) = request.into_parts();
    let (session, new) = admitted(server, name, &head).await?;
    if head.method == Method::DELETE {
        // Publishers take back what players no longer need; we keep none of it.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut flying = session.as_ref().map(Session::flying);
    let config = &server.shared.config;
    let limit = if file.kind == Kind::Playlist { PLAYLIST_BYTES_MAX } else { config.segment_bytes };
    let bytes = body(server, content, limit).await?;
    let open = session.filter(|session| session.is_open());
    if file.kind == Kind::Playlist {
        if bytes.windows(END.len()).any(|window| window == END)
            && let Some(session) = open
        {
            flying.take();
            session.end().await;
        }
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let session = match open {
        Some(session) => session,
        None => begin(server, new)?,
    };
    flying.get_or_insert_with(|| Session::flying(&session));
    let taken = session.segment(file.kind, file.number, bytes, config.receive).await;
    match taken {
        Ok(_) => Ok(StatusCode::OK.into_response()),
        Err(error) => {
            let text = error.to_string();
            Err(match error {
                Refused::Unreadable(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, &text),
                Refused::TooFast => busy(&text),
                Refused::Over => problem(StatusCode::CONFLICT, &text),
            })
        }
    }
}

/// Who was let in, to begin a stream.
struct Admitted {
    peer: SocketAddr,
    question: auth::Request,
    grant: auth::Grant,
}

/// The session that the request goes on with; otherwise, may it begin one?
async fn admitted(
    server: &Server,
    name: StreamName,
    head: &Parts,
) -> Result<(Option<Arc<Session>>, Option<Admitted>), Box<Response>> {
    let shared = &server.shared;
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let peer = peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let (query, headers) = (head.uri.query().unwrap_or_default(), &head.headers);
    let question =
        auth::Request::over_http(Action::Publish, name, "http", peer.ip(), headers, query);
    let known = shared.open.lock().get(&question.name).cloned();
    let ours = |session: &Arc<Session>| session.is_open() && session.who == Who::of(&question);
    if let Some(session) = known.filter(ours) {
        session.touch();
        return Ok((Some(session), None));
    }
    let grant = shared.access.check(question.clone()).await.map_err(|refusal| {
        tracing::info!(stream = %question.name, %peer, %refusal, "HTTP publisher refused");
        let mut response = problem(
            if refusal.ask_credentials { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN },
            "not allowed",
        );
        if refusal.ask_credentials {
            let challenge = HeaderValue::from_static("Basic realm=\"millstream\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    })?;
    Ok((None, Some(Admitted { peer, question, grant })))
}

/// Begins a stream for who was let in.
fn begin(server: &Server, admitted: Option<Admitted>) -> Result<Arc<Session>, Box<Response>> {
    let over = || problem(StatusCode::CONFLICT, "the stream has ended");
    let Admitted { peer, question, grant } = admitted.ok_or_else(over)?;
    let shared = &server.shared;
    let take_over = grant.take_over.unwrap_or(shared.config.take_over);
    if !take_over && shared.hub.status(&grant.name).is_some() {
        let text = format!("stream {} has a publisher", grant.name);
        return Err(problem(StatusCode::CONFLICT, &text));
    }
    let mut open = shared.open.lock();
    if open.len() >= shared.config.sessions_max {
        return Err(busy("too many publishers"));
    }
    let session = Session::begin(server, peer, &question, &grant);
    if let Some(before) = open.insert(question.name.clone(), Arc::clone(&session)) {
        before.close();
    }
    Ok(session)
}

/// The whole body of a request.
async fn body(server: &Server, body: Body, limit: usize) -> Result<Bytes, Box<Response>> {
    let shared = &server.shared;
    let _place = shared.receiving.try_acquire().map_err(|_| busy("too many segments at once"))?;
    let read = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(shared.config.receive, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let text = format!("the body cannot be read or has more than {limit} bytes");
            Err(problem(StatusCode::PAYLOAD_TOO_LARGE, &text))
        }
        Err(_) => {
            let text = format!("the body did not come within {:?}", shared.config.receive);
            Err(problem(StatusCode::REQUEST_TIMEOUT, &text))
        }
    }
}

fn problem(status: StatusCode, text: &str) -> Box<Response> {
    Box::new((status, format!("{text}\n")).into_response())
}

fn busy(text: &str) -> Box<Response> {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}
