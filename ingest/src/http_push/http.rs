//! The HTTP side: who may publish, what is taken, and the answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use super::Server;
use super::file::{File, Kind};
use super::session::{Refused, Session, Who};
use crate::auth::{self, Action};
use crate::name::StreamName;
use crate::refuse::{busy, not_allowed, refuse};

/// Bytes of a playlist.
const PLAYLIST_BYTES_MAX: usize = 1 << 20;

/// The tag of a playlist that has all its segments.
const END: &[u8] = b"#EXT-X-ENDLIST";

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
        *refuse(StatusCode::INTERNAL_SERVER_ERROR, "the segment was not taken")
    })
}

async fn answer(server: &Server, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let Some(file) = File::parse(&path) else { return StatusCode::NOT_FOUND.into_response() };
    let own_page = is_own_page(&request);
    let answer = match StreamName::for_publisher(file.stream) {
        _ if !own_page => {
            Err(refuse(StatusCode::FORBIDDEN, "pages of other sites may not publish"))
        }
        Ok(name) => take(server, name, &file, request).await,
        Err(error) => Err(refuse(StatusCode::BAD_REQUEST, &error.to_string())),
    };
    let answer = answer.unwrap_or_else(|mut refused| {
        // What is left of the body is not read.
        refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        *refused
    });
    tracing::debug!(%method, path, status = %answer.status(), "HTTP publisher");
    answer
}

/// Whether a page, if it is one that asks, comes from this server. Browsers let every page `POST` to
/// any address without asking there first, be it a node that is open because it is on loopback.
fn is_own_page(request: &Request) -> bool {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !request.headers().contains_key(ORIGIN) {
        return true;
    }
    let site = text(ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    // HTTP/2 has the host in the address.
    let host = text(HOST).or_else(|| request.uri().authority().map(|host| host.as_str()));
    site.zip(host).is_some_and(|(site, host)| site.eq_ignore_ascii_case(host))
}

async fn take(
    server: &Server,
    name: StreamName,
    file: &File<'_>,
    request: Request,
) -> Result<Response, Box<Response>> {
    let (head, content) = request.into_parts();
    let publisher = admitted(server, name, &head).await?;
    if head.method == Method::DELETE {
        // Publishers take back what players no longer need; we keep none of it.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let shared = &server.shared;
    // Kept until the answer: a segment is in memory until it is taken.
    let place = shared.receiving.try_acquire();
    let _place = place.map_err(|_| busy("too many segments at once"))?;
    if file.kind == Kind::Playlist {
        let bytes = body(server, content, PLAYLIST_BYTES_MAX).await?;
        if bytes.windows(END.len()).any(|window| window == END)
            && let Publisher::Known(session) = publisher
        {
            session.end();
        }
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let bytes = body(server, content, shared.config.segment_bytes);
    let (flying, bytes) = match publisher {
        Publisher::Known(session) => {
            let flying = Session::set_out(&session).map_err(refused)?;
            (flying, bytes.await?)
        }
        Publisher::New(admitted) => {
            let bytes = bytes.await?;
            (Session::set_out(&begin(server, &admitted)?).map_err(refused)?, bytes)
        }
    };
    flying.land(file, bytes, shared.config.receive).await.map_err(refused)?;
    Ok(StatusCode::OK.into_response())
}

fn refused(error: Refused) -> Box<Response> {
    let text = error.to_string();
    match error {
        Refused::Unreadable(_) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &text),
        Refused::TooFast => busy(&text),
        Refused::Over => refuse(StatusCode::CONFLICT, &text),
    }
}

/// Who sends a request.
enum Publisher {
    /// Whose stream goes on.
    Known(Arc<Session>),
    /// Who may begin one.
    New(Box<Admitted>),
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
) -> Result<Publisher, Box<Response>> {
    let shared = &server.shared;
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let peer = peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let (query, headers) = (head.uri.query().unwrap_or_default(), &head.headers);
    let question =
        auth::Request::over_http(Action::Publish, name, "http", peer.ip(), headers, query);
    let known = shared.open.lock().get(&question.name).cloned();
    let ours = |session: &Arc<Session>| session.is_open() && session.who == Who::of(&question);
    if let Some(session) = known.filter(ours) {
        return Ok(Publisher::Known(session));
    }
    let grant = shared.access.check(question.clone()).await.map_err(|refusal| {
        tracing::info!(stream = %question.name, %peer, %refusal, "HTTP publisher refused");
        not_allowed(&refusal)
    })?;
    Ok(Publisher::New(Box::new(Admitted { peer, question, grant })))
}

/// The stream of who was let in: a new one, unless another request of the same publisher has begun
/// it since. Publishers send an init segment and what it describes at the same time.
fn begin(server: &Server, admitted: &Admitted) -> Result<Arc<Session>, Box<Response>> {
    let Admitted { peer, question, grant } = admitted;
    let shared = &server.shared;
    let mut open = shared.open.lock();
    let present = open.get(&question.name).filter(|session| session.is_open());
    if let Some(session) = present
        && session.who == Who::of(question)
    {
        return Ok(Arc::clone(session));
    }
    let taken = present.is_some() || shared.hub.status(&grant.name).is_some();
    if taken && !grant.take_over.unwrap_or(shared.config.take_over) {
        let text = format!("stream {} has a publisher", grant.name);
        return Err(refuse(StatusCode::CONFLICT, &text));
    }
    if open.len() >= shared.config.sessions_max && !open.contains_key(&question.name) {
        return Err(busy("too many publishers"));
    }
    let session = Session::begin(server, *peer, question, grant);
    if let Some(before) = open.insert(question.name.clone(), Arc::clone(&session)) {
        before.cut();
    }
    Ok(session)
}

/// The whole body of a request.
async fn body(server: &Server, body: Body, limit: usize) -> Result<Bytes, Box<Response>> {
    let receive = server.shared.config.receive;
    match tokio::time::timeout(receive, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let text = format!("the body cannot be read or has more than {limit} bytes");
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, &text))
        }
        Err(_) => {
            let text = format!("the body did not come within {receive:?}");
            Err(refuse(StatusCode::REQUEST_TIMEOUT, &text))
        }
    }
}
