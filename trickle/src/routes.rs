//! The HTTP face of a server: requests in, the rules of the channel, answers in the network's
//! exact words out.
//!
//! One thing of the reference server is missing: it sends an interim `100 Continue` each 10 s
//! while a publish request waits for its first byte; hyper cannot send interim answers. Peers
//! only use it against idle time-outs on the way.

use std::io;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::any;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper_util::server::conn::auto;

use crate::channel::Read;
use crate::config::{Access, Ask, Wish};
use crate::error::Refusal;
use crate::http::{self, Answer, Operation, Place};
use crate::live::{Live, OpenedHandle, ReadHandle, WriteHandle};
use crate::server::Server;

/// Bytes that one HTTP/2 stream may send ahead of its reader.
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes that a whole HTTP/2 connection may send ahead: out of reach, so that no stream waits
/// for another one's reader.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS: u32 = 4096;

#[derive(Clone)]
struct Face {
    server: Server,
    base: Arc<str>,
}

impl Server {
    /// Routes below `base` (`/ai/trickle` on an orchestrator), for HTTP/1.1 and HTTP/2. Serve
    /// them on connections prepared by [`tune_connection`], with `TCP_NODELAY` set.
    pub fn router(&self, base: &str) -> Router {
        let base = base.trim_end_matches('/');
        let face = Face { server: self.clone(), base: base.into() };
        Router::new().route(&format!("{base}/{{*place}}"), any(handle)).with_state(face)
    }
}

/// Prepares connections for live video: header names as peers write them, and HTTP/2 windows
/// that a segment in flight does not exhaust.
pub fn tune_connection<E>(connection: &mut auto::Builder<E>) {
    connection.http1().title_case_headers(true);
    connection
        .http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS);
}

async fn handle(State(face): State<Face>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().strip_prefix(&*face.base).and_then(|p| p.strip_prefix('/'));
    let place = match Place::parse(path.unwrap_or_default()) {
        Ok(place) => place,
        Err(refusal) => {
            let is_delete = *request.method() == Method::DELETE;
            let operation = if is_delete { Operation::Close } else { Operation::Create };
            face.server.count_refusal();
            return whole(Answer::refused(&refusal, operation, ""));
        }
    };
    let (name, place) = resolve(&face.server, place);
    let Some(operation) = Operation::of(request.method(), place.as_deref()) else {
        let allow = if place.is_none() { "POST, DELETE" } else { "GET, POST, DELETE" };
        return whole(Answer::error(405, "Method Not Allowed").with("allow", allow));
    };
    let requested = place.unwrap_or_default();
    match perform(&face.server, operation, &name, &requested, request).await {
        Ok(response) => response,
        Err(refusal) => {
            face.server.count_refusal();
            tracing::debug!(channel = %name, ?operation, %requested, %refusal, "refused");
            whole(Answer::refused(&refusal, operation, &requested))
        }
    }
}

/// Decides what a path means now that the channels are known (see [`Place`]).
fn resolve(server: &Server, place: Place) -> (String, Option<String>) {
    match place {
        Place::Channel(name) => (name, None),
        Place::Segment { name, place } => (name, Some(place)),
        Place::Either { first, last } => {
            let both = format!("{first}/{last}");
            let is_segment =
                server.config().autocreate || http::is_place(&last) || server.contains(&first);
            let is_channel = server.contains(&both) || !is_segment;
            if is_channel { (both, None) } else { (first, Some(last)) }
        }
    }
}

async fn perform(
    server: &Server,
    operation: Operation,
    name: &str,
    requested: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    match operation {
        Operation::Create => {
            let mime = http::mime_header(headers, http::EXPECT_CONTENT);
            find_or_create(server, name, mime, headers).await?;
            Ok(whole(Answer::ok()))
        }
        Operation::Close => {
            let live = server.find(name)?;
            may_publish(&live)?;
            ask(server, Wish::Close, name, headers).await?;
            server.close(name)?;
            Ok(whole(Answer::ok()))
        }
        Operation::Publish => {
            let mime = http::mime_header(headers, header::CONTENT_TYPE);
            let live = find_or_create(server, name, mime, headers).await?;
            may_publish(&live)?;
            let target = http::publish_index(requested)?;
            let reset = http::flag_header(headers, http::RESET);
            match live.open(target, reset)? {
                OpenedHandle::Over { index } => Ok(whole(Answer::published(index, true, false))),
                OpenedHandle::Open(segment) => publish(server, segment, body).await,
            }
        }
        Operation::Subscribe => {
            let live = server.find(name)?;
            may_subscribe(&live)?;
            subscribe(live.subscribe(http::subscribe_index(requested)?)?).await
        }
        Operation::Head => {
            let live = server.find(name)?;
            may_subscribe(&live)?;
            let (latest, closed) = live.head();
            Ok(whole(Answer::next(latest, closed)))
        }
        Operation::CloseSegment => {
            let live = server.find(name)?;
            may_publish(&live)?;
            live.delete(http::delete_index(requested)?)?;
            Ok(whole(Answer::ok()))
        }
    }
}

fn may_publish(live: &Live) -> Result<(), Refusal> {
    if live.access.publish { Ok(()) } else { Err(Refusal::PublishNotAllowed) }
}

fn may_subscribe(live: &Live) -> Result<(), Refusal> {
    if live.access.subscribe { Ok(()) } else { Err(Refusal::SubscribeNotAllowed) }
}

async fn ask(server: &Server, wish: Wish, name: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(hook) = &server.config().hook else { return Ok(()) };
    hook.ask(Ask { wish, name: name.to_owned(), headers: headers.clone() }).await
}

async fn find_or_create(
    server: &Server,
    name: &str,
    mime: Option<String>,
    headers: &HeaderMap,
) -> Result<Arc<Live>, Refusal> {
    match server.find(name) {
        Err(Refusal::NotFound) if server.config().autocreate => {
            ask(server, Wish::Create, name, headers).await?;
            match server.create(name, mime.as_deref().unwrap_or_default(), Access::ALL) {
                Ok(()) | Err(Refusal::Exists) => server.find(name),
                Err(refusal) => Err(refusal),
            }
        }
        found => found,
    }
}

/// Takes the body of a publish request into its segment.
async fn publish(
    server: &Server,
    mut segment: WriteHandle,
    mut body: Body,
) -> Result<Response<Body>, Refusal> {
    let (index, silence) = (segment.index, server.config().limits.write_silence);
    loop {
        let frame = if segment.wrote() {
            let Ok(frame) = tokio::time::timeout(silence, body.frame()).await else {
                return Ok(whole(Answer::error(500, "Server error")));
            };
            frame
        } else {
            tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = segment.over() => None,
            }
        };
        match frame {
            None => break,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    segment.append(data)?;
                }
            }
            Some(Err(_)) => return Ok(whole(Answer::error(500, "Server error"))),
        }
    }
    let empty = !segment.wrote();
    let closed = segment.finish();
    Ok(whole(Answer::published(index, empty, closed)))
}

/// Answers with a segment once its first byte is there.
async fn subscribe(mut segment: ReadHandle) -> Result<Response<Body>, Refusal> {
    let first = match segment.next().await {
        Read::Chunk(chunk) => chunk,
        Read::End { closed, latest } => {
            return Ok(whole(Answer::empty_segment(segment.index, latest, closed)));
        }
        Read::Cut | Read::Wait => {
            let (latest, _) = segment.channel().head();
            return Err(Refusal::NotAvailable { latest });
        }
    };
    let mut answer = Answer::ok().with(http::SEQ, segment.index);
    if segment.latest != segment.index {
        answer = answer.with(http::LATEST, segment.latest);
    }
    let mut headers = answer.headers;
    if let Ok(mime) = HeaderValue::from_str(&segment.channel().mime) {
        headers.insert(header::CONTENT_TYPE, mime);
    }
    let chunks = stream::unfold((Some(first), Some(segment)), |(first, segment)| async move {
        let mut segment = segment?;
        if let Some(first) = first {
            return Some((Ok(first), (None, Some(segment))));
        }
        match segment.next().await {
            Read::Chunk(chunk) => Some((Ok(chunk), (None, Some(segment)))),
            Read::End { .. } => None,
            // Breaks the connection, so that the reader knows this is not the segment's end.
            Read::Cut | Read::Wait => {
                Some((Err(io::Error::other("the segment is gone")), (None, None)))
            }
        }
    });
    let mut response = Response::new(Body::from_stream(chunks));
    *response.headers_mut() = headers;
    Ok(response)
}

fn whole(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
