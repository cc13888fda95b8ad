//! Whether a caller may do what it wants, asked in the order of what an answer costs: stream id,
//! passphrase, the owner, the hub.

use std::sync::Arc;

use tracing::Span;

use super::accept::{Offer, Wish};
use super::connection::Terms;
use super::handshake::Reject;
use super::link::now;
use super::server::Shared;
use super::streamid::StreamId;
use crate::auth::{Action, Grant, Request};
use crate::hub::{PublishError, Publisher, Reader, Writer};
use crate::sessions::{Open, SessionState};
use crate::views::ViewError;

/// What a caller does once it is let in.
pub(super) enum Task {
    Publish(Writer),
    Read(Reader),
}

/// The code for the caller, and the reason for the log.
type Refused = (Reject, String);

/// What was agreed with the caller, the answer that says so, and what it is let in for.
///
/// # Errors
/// The code for the caller, and the reason for the log.
pub(super) async fn admit(
    shared: &Shared,
    open: &mut Open,
    wish: &Arc<Wish>,
) -> Result<((Terms, Vec<u8>), Task), Refused> {
    let config = &shared.config;
    let id = StreamId::parse(wish.stream_id(), config.default_stream.as_ref());
    let id = id.map_err(|error| (Reject::BadRequest, error.to_string()))?;
    Span::current().record("stream", id.name.as_str());
    let rules = (shared.rules)(&id.name, id.action);
    let local = loop {
        let local = rand::random_range(1..1 << 30);
        if !shared.table.lock().sessions.contains_key(&local) {
            break local;
        }
    };
    let offer = Offer {
        local,
        passphrase: rules.passphrase,
        key_length: config.key_length,
        latency: rules.latency.unwrap_or(config.latency),
        window: config.window,
        bytes_per_second: config.bytes_per_second,
        idle_timeout: config.peer_timeout,
        seed: rand::random(),
    };
    let agreed = agree(shared, open, wish, offer).await?;
    let request = Request {
        action: id.action,
        name: id.name.clone(),
        protocol: "srt",
        id: open.id().to_owned(),
        ip: open.remote().ip(),
        user: id.user.clone(),
        password: id.password.clone(),
        token: id.token.clone(),
        query: id.query.clone(),
        user_agent: String::new(),
    };
    let late = || (Reject::Unauthorized, "no answer whether this is allowed".to_owned());
    let question = tokio::time::timeout(config.command_timeout, shared.access.check(request));
    let answer = tokio::select! {
        () = open.cancel().cancelled() => return Err(cancelled()),
        answer = question => answer.map_err(|_| late())?,
    };
    let grant = answer.map_err(|refusal| (Reject::Unauthorized, refusal.reason))?;
    let Grant { name, lifetime, take_over } = grant;
    let task = match id.action {
        Action::Publish => {
            let (id, remote) = (open.id().to_owned(), open.remote().to_string());
            let publisher = Publisher { protocol: "srt", id, remote };
            let take_over = take_over.unwrap_or(config.take_over);
            let writer = shared.hub.publish(name.clone(), publisher, take_over);
            Task::Publish(writer.map_err(|error| {
                let taken = matches!(error, PublishError::Taken { .. });
                let reject = if taken { Reject::Conflict } else { Reject::Overload };
                (reject, error.to_string())
            })?)
        }
        _ => {
            let reader = tokio::select! {
                () = open.cancel().cancelled() => return Err(cancelled()),
                reader = shared.fanout.subscribe(&name) => reader,
            };
            Task::Read(reader.map_err(|error| {
                let reject = match &error {
                    ViewError::NotFound(_) => Reject::NotFound,
                    ViewError::Busy { .. } => Reject::Overload,
                    _ => Reject::Internal,
                };
                (reject, error.to_string())
            })?)
        }
    };
    open.limit(lifetime);
    let state = match &task {
        Task::Publish(_) => SessionState::Publish,
        Task::Read(_) => SessionState::Read,
    };
    open.begin(state, name, &id.user, &id.query);
    Ok((agreed, task))
}

/// What both sides can agree on. A passphrase is tried where it holds up no other session.
async fn agree(
    shared: &Shared,
    open: &Open,
    wish: &Arc<Wish>,
    offer: Offer,
) -> Result<(Terms, Vec<u8>), Refused> {
    if offer.passphrase.is_none() || !wish.encrypts() {
        return wish.agree(now(), &offer).map_err(|reject| (reject, String::new()));
    }
    let ip = open.remote().ip();
    let turn = tokio::select! {
        () = open.cancel().cancelled() => return Err(cancelled()),
        turn = shared.trying.acquire() => turn.map_err(|_| cancelled())?,
    };
    // Others of this address may have failed while this one waited.
    if shared.strikes.lock().out(now(), ip) {
        return Err((Reject::Overload, "too many wrong passphrases of this address".into()));
    }
    let wish = Arc::clone(wish);
    let tried = tokio::task::spawn_blocking(move || wish.agree(now(), &offer)).await;
    drop(turn);
    let agreed = tried.map_err(|_| (Reject::Internal, "a fault while keys were read".into()))?;
    agreed.map_err(|reject| {
        if reject == Reject::BadSecret {
            shared.strikes.lock().strike(now(), ip);
        }
        (reject, String::new())
    })
}

fn cancelled() -> Refused {
    (Reject::Internal, "ended by the owner".to_owned())
}
