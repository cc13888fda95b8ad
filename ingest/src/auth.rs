//! The question put to the owner of the node before somebody publishes or reads.
//!
//! Listeners ask through [`Access`]; who answers (settings, a callback) is decided in the node.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::USER_AGENT;

pub use crate::credentials::Credentials;
use crate::name::StreamName;
use crate::sessions::new_id;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a stream.
    Publish,
    /// Watch a stream.
    Read,
    /// Get what was recorded of a stream.
    Playback,
}

impl Action {
    /// The word of the callback's `action` field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Playback => "playback",
        }
    }
}

/// Who asks, for what, with which credentials: the callback's fields in MediaMTX's form.
#[derive(Clone)]
pub struct Request {
    /// What is wanted.
    pub action: Action,
    /// The stream.
    pub name: StreamName,
    /// `rtmp`, `webrtc`, ...
    pub protocol: &'static str,
    /// Session id, unique in this process.
    pub id: String,
    /// The peer.
    pub ip: IpAddr,
    /// User name, or empty.
    pub user: String,
    /// Password, or empty. Never logged.
    pub password: String,
    /// Bearer token, or empty. Never logged.
    pub token: String,
    /// The raw query of the URL. Never logged: it may hold a password.
    pub query: String,
    /// The client's name for itself, or empty.
    pub user_agent: String,
}

/// The longest name of a client program that is kept, in characters.
const USER_AGENT_MAX: usize = 256;

impl Request {
    /// What an HTTP request asks for, under an id of its own.
    pub fn over_http(
        action: Action,
        name: StreamName,
        protocol: &'static str,
        peer: IpAddr,
        headers: &HeaderMap,
        query: &str,
    ) -> Self {
        let found = Credentials::of(headers, query);
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            action,
            name,
            protocol,
            id: new_id(),
            ip: peer.to_canonical(),
            user: found.user,
            password: found.password,
            token: found.token,
            query: query.to_owned(),
            user_agent: agent.unwrap_or_default().chars().take(USER_AGENT_MAX).collect(),
        }
    }
}

/// Why it is not allowed. The text is for the log; peers are told no more than "not allowed".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The reason.
    pub reason: String,
    /// Whether other credentials may help: an HTTP listener then answers 401, else 403.
    pub ask_credentials: bool,
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The stream that is really written or read: the owner may have another name for it.
    pub name: StreamName,
    /// How long the session may last; it is ended then.
    pub lifetime: Option<Duration>,
    /// Whether who publishes may replace who does so already; `None`: as the listener has it.
    pub take_over: Option<bool>,
}

impl Grant {
    /// What was asked for, without an end.
    pub fn of(request: &Request) -> Self {
        Self { name: request.name.clone(), lifetime: None, take_over: None }
    }
}

/// Who answers [`Request`]s.
pub trait Access: Send + Sync + 'static {
    /// Resolves to what is allowed.
    ///
    /// # Errors
    /// [`Refusal`] otherwise.
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>>;

    /// Names and passwords of those who may do this, as far as they are known in the clear; an
    /// empty name stands for anybody. A listener whose peers prove that they know a password
    /// instead of sending it (digest) looks here, then asks [`Self::check`] with what was proven.
    fn passwords(&self, _: Action) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Lets everybody do everything: a node on loopback without settings, and tests.
pub struct Open;

impl Access for Open {
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        Box::pin(std::future::ready(Ok(Grant::of(&request))))
    }
}

/// Shared by all listeners.
pub type SharedAccess = Arc<dyn Access>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_calls_itself_is_cut_off() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, "x".repeat(20_000).parse().unwrap());
        let (name, peer) = (StreamName::parse("cam").unwrap(), IpAddr::from([127, 0, 0, 1]));
        let request = Request::over_http(Action::Read, name, "hls", peer, &headers, "");
        assert_eq!(request.user_agent.len(), USER_AGENT_MAX);
    }
}
