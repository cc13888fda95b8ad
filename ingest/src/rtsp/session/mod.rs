//! What one client says and in which state it may say it (RFC 2326, appendix A), without input or
//! output: bytes go in, events for the shell and bytes for the client come out.
//!
//! A connection has one session at most, and a session belongs to its connection: an id from
//! another connection names nothing here. A request whose answer needs the node (may this client
//! do that, what are the tracks) waits, and those behind it wait in the caller's buffer.

mod answers;
mod requests;
mod setup;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtsp_types::headers::{HeaderName, SESSION};
use rtsp_types::{Request, StatusCode};

use super::announce::Format;
use super::digest::Credentials;
use super::framing::{Framing, FramingError, Input};
use super::reply::Reply;
use super::transport::Lower;
use crate::auth::Action;

/// How long a session lives without a sign of its client; told to clients.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time from a connection's start to `PLAY` or `RECORD`.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Not RTSP.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// An interleaved frame without a channel that was set up.
    #[error("an interleaved frame on channel {0}, which was not set up")]
    Channel(u8),
    /// The client was silent for too long.
    #[error("no {what} within {limit:?}")]
    Stalled {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
}

/// What a client asks permission for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) action: Action,
    /// The path of the address, without slashes around it.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) agent: String,
}

/// What the shell has to do.
#[derive(Debug)]
pub(super) enum Event {
    /// May the client do this? [`Session::grant`] or [`Session::deny`].
    Ask(Box<Ask>),
    /// What are the tracks of the granted stream? [`Session::describe`] or [`Session::refuse`].
    Describe,
    /// Let datagrams from these ports in. [`Session::opened`] or [`Session::refuse`].
    Open { medium: usize, ports: (u16, u16) },
    /// Close what was opened: the client begins anew.
    Reset,
    /// Begin to send. [`Session::playing`] or [`Session::refuse`].
    Play,
    /// Stop sending.
    Pause,
    /// Begin to write the stream. [`Session::recording`] or [`Session::refuse`].
    Record,
    /// A packet came over the connection.
    Rtp { medium: usize, packet: Bytes },
    /// As above.
    Rtcp { medium: usize, packet: Bytes },
    /// The client has said goodbye.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was set up.
    Idle,
    Ready,
    Playing,
    /// Something flowed and may flow again.
    Paused,
    Recording,
    Ended,
}

/// One medium of the stream, as described by us or announced by the client.
#[derive(Debug)]
struct Medium {
    control: String,
    format: Option<Format>,
    setup: Option<Setup>,
}

#[derive(Debug)]
struct Setup {
    lower: Lower,
    /// The address that the client used.
    url: String,
}

/// A request that waits for the shell.
#[derive(Debug)]
struct Pending {
    request: Request<Vec<u8>>,
    sequence: String,
    /// The transport of a `SETUP` that waits for its ports.
    lower: Option<Lower>,
}

/// What the shell knows and the session says.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Unguessable; the session's id.
    pub(super) id: String,
    /// Unguessable; for challenges.
    pub(super) nonce: String,
    /// Whether datagrams are spoken.
    pub(super) udp: bool,
    /// Longest wait for a next request, before anything flows.
    pub(super) command: Duration,
    /// Longest wait for media of a publisher.
    pub(super) idle: Duration,
}

/// The session of one connection.
#[derive(Debug)]
pub(super) struct Session {
    facts: Facts,
    framing: Framing,
    state: State,
    /// How often the client began anew, which makes each id another.
    turns: u32,
    /// What was allowed, under which path.
    granted: Option<(Action, String)>,
    media: Vec<Medium>,
    pending: Option<Pending>,
    /// The pending request goes on.
    proceed: bool,
    failures: u32,
    begun: Instant,
    touched: Instant,
    out: Vec<u8>,
}

impl Session {
    pub(super) fn new(facts: Facts, now: Instant) -> Self {
        Self {
            facts,
            framing: Framing::default(),
            state: State::Idle,
            turns: 0,
            granted: None,
            media: Vec::new(),
            pending: None,
            proceed: false,
            failures: 0,
            begun: now,
            touched: now,
            out: Vec::new(),
        }
    }

    /// What goes to the client.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// The transports of all media, by number.
    pub(super) fn lowers(&self) -> Vec<Option<Lower>> {
        self.media.iter().map(|medium| Some(medium.setup.as_ref()?.lower)).collect()
    }

    /// The formats of announced media that were set up, by number, and whether they are datagrams.
    pub(super) fn formats(&self) -> Vec<(Option<Format>, bool)> {
        let of = |medium: &Medium| match &medium.setup {
            Some(setup) => (medium.format.clone(), matches!(setup.lower, Lower::Udp(..))),
            None => (None, false),
        };
        self.media.iter().map(of).collect()
    }

    /// The client gave a sign of life outside of the connection.
    pub(super) fn touch(&mut self, now: Instant) {
        self.touched = now;
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle | State::Ready => {
                Some((self.touched + self.facts.command).min(self.begun + PREPARE_TIMEOUT))
            }
            // On a connection that takes no bytes writing fails.
            State::Playing if !self.has_datagrams() => None,
            State::Playing | State::Paused => Some(self.touched + SESSION_TIMEOUT),
            State::Recording => Some(self.touched + self.facts.idle),
            State::Ended => None,
        }
    }

    /// Whether the client was silent for too long.
    ///
    /// # Errors
    /// [`SessionError::Stalled`].
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.next_timeout().is_none_or(|at| now < at) {
            return Ok(());
        }
        let (what, limit) = match self.state {
            State::Playing | State::Paused => ("sign of life of the client", SESSION_TIMEOUT),
            State::Recording => ("media", self.facts.idle),
            _ if now < self.touched + self.facts.command => ("PLAY or RECORD", PREPARE_TIMEOUT),
            _ => ("request", self.facts.command),
        };
        Err(SessionError::Stalled { what, limit })
    }

    /// Takes bytes from the front of `input` up to the next event; `None` when more are needed or
    /// an answer of the shell is.
    ///
    /// # Errors
    /// [`SessionError`]; what is in [`Self::output`] should still be sent.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
    ) -> Result<Option<Event>, SessionError> {
        loop {
            if self.state == State::Ended {
                return Ok(None);
            }
            if let Some(pending) = self.pending.take() {
                if !std::mem::take(&mut self.proceed) {
                    self.pending = Some(pending);
                    return Ok(None);
                }
                if let Some(event) = self.dispatch(pending) {
                    return Ok(Some(event));
                }
                continue;
            }
            let next = match self.framing.next(input) {
                Ok(next) => next,
                Err(error) => {
                    Reply::new(StatusCode::BadRequest, None).write(&mut self.out);
                    self.state = State::Ended;
                    return Err(error.into());
                }
            };
            match next {
                None => return Ok(None),
                Some(Input::Request(request)) => {
                    self.touched = now;
                    if let Some(event) = self.request(request) {
                        return Ok(Some(event));
                    }
                }
                // We ask clients nothing.
                Some(Input::Response(_)) => self.touched = now,
                Some(Input::Frame { channel, payload }) => {
                    if let Some(event) = self.frame(now, channel, payload)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    fn frame(
        &mut self,
        now: Instant,
        channel: u8,
        packet: Bytes,
    ) -> Result<Option<Event>, SessionError> {
        let found =
            self.media.iter().enumerate().find_map(|(medium, of)| match of.setup.as_ref()?.lower {
                Lower::Tcp(rtp, _) if rtp == channel => Some((medium, true)),
                Lower::Tcp(_, rtcp) if rtcp == channel => Some((medium, false)),
                _ => None,
            });
        let Some((medium, rtp)) = found else { return Err(SessionError::Channel(channel)) };
        self.touched = now;
        Ok(match (self.state, rtp) {
            (State::Recording, true) => Some(Event::Rtp { medium, packet }),
            (State::Recording | State::Playing, false) => Some(Event::Rtcp { medium, packet }),
            // Early or late packets of a client that was told otherwise in the same moment.
            _ => None,
        })
    }

    fn has_datagrams(&self) -> bool {
        self.lowers().iter().any(|lower| matches!(lower, Some(Lower::Udp(..))))
    }

    fn is(&self, action: Action) -> bool {
        self.granted.as_ref().is_some_and(|(granted, _)| *granted == action)
    }

    fn may(&self, action: Action, path: &str) -> bool {
        self.granted.as_ref().is_some_and(|(granted, at)| *granted == action && at == path)
    }

    /// The id of the session in its present turn.
    fn id(&self) -> String {
        format!("{}{:02x}", self.facts.id, self.turns)
    }

    /// Whether a request names our session, or none.
    fn is_ours(&self, request: &Request<Vec<u8>>) -> bool {
        let named =
            text(request, &SESSION).map(|value| value.split(';').next().unwrap_or_default());
        named.is_none_or(|named| self.state != State::Idle && named.trim() == self.id())
    }
}

fn text<'a>(request: &'a Request<Vec<u8>>, name: &HeaderName) -> Option<&'a str> {
    request.header(name).map(|value| value.as_str())
}

#[cfg(test)]
#[path = "../session_tests.rs"]
mod tests;
