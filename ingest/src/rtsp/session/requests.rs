//! What a request asks for, and whether it may be asked in this state.

use rtsp_types::headers::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, CSEQ, REQUIRE, USER_AGENT};
use rtsp_types::{Method, Request, StatusCode, Url, Version};

use super::{Ask, Event, Medium, Pending, Session, State, text};
use crate::auth::Action;
use crate::rtsp::announce;
use crate::rtsp::digest::{self, Credentials};
use crate::rtsp::reply::Reply;

/// Bytes of a user agent that are kept, at most.
const AGENT_BYTES_MAX: usize = 256;

impl Session {
    pub(super) fn request(&mut self, request: Request<Vec<u8>>) -> Option<Event> {
        let sequence = text(&request, &CSEQ).map(str::to_owned);
        let Some(sequence) = sequence.filter(|text| text.len() <= 20) else {
            Reply::new(StatusCode::BadRequest, None).write(&mut self.out);
            return None;
        };
        let pending = Pending { request, sequence, lower: None };
        if pending.request.version() != Version::V1_0 {
            return self.answer(&pending, StatusCode::RTSPVersionNotSupported);
        }
        if let Some(features) = text(&pending.request, &REQUIRE) {
            let reply = self.reply(&pending, StatusCode::OptionNotSupported);
            reply.with("Unsupported", features).write(&mut self.out);
            return None;
        }
        if !self.is_ours(&pending.request) {
            return self.answer(&pending, StatusCode::SessionNotFound);
        }
        self.dispatch(pending)
    }

    pub(super) fn dispatch(&mut self, pending: Pending) -> Option<Event> {
        use StatusCode::{MethodNotValidInThisState, NotImplemented, Ok};
        match (pending.request.method().clone(), self.state) {
            (Method::Options, _) => {
                const PUBLIC: &str = "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, PAUSE, \
                                      TEARDOWN, GET_PARAMETER, SET_PARAMETER";
                self.reply(&pending, Ok).with("Public", PUBLIC).write(&mut self.out);
                None
            }
            (Method::GetParameter | Method::SetParameter, _) => self.answer(&pending, Ok),
            (Method::Describe, State::Idle) => self.describe_request(pending),
            (Method::Announce, State::Idle) => self.announce_request(pending),
            (Method::Setup, State::Idle | State::Ready) => self.setup_request(pending),
            (Method::Play, State::Ready | State::Paused) if self.is(Action::Read) => {
                self.pending = Some(pending);
                Some(Event::Play)
            }
            // A client may ask for what it has.
            (Method::Play, State::Playing) | (Method::Record, State::Recording) => {
                self.answer(&pending, Ok)
            }
            (Method::Record, State::Ready | State::Paused) if self.is(Action::Publish) => {
                self.pending = Some(pending);
                Some(Event::Record)
            }
            (Method::Pause, State::Ready | State::Paused) => self.answer(&pending, Ok),
            (Method::Pause, State::Playing | State::Recording) => {
                self.answer(&pending, Ok);
                self.state = State::Paused;
                Some(Event::Pause)
            }
            (Method::Teardown, _) => {
                self.answer(&pending, Ok);
                self.state = State::Ended;
                Some(Event::End)
            }
            (
                Method::Describe
                | Method::Announce
                | Method::Setup
                | Method::Play
                | Method::Record
                | Method::Pause,
                _,
            ) => self.answer(&pending, MethodNotValidInThisState),
            _ => self.answer(&pending, NotImplemented),
        }
    }

    fn describe_request(&mut self, pending: Pending) -> Option<Event> {
        let accept = text(&pending.request, &ACCEPT).unwrap_or("application/sdp");
        if !accept.contains("application/sdp") && !accept.contains("*/*") {
            return self.answer(&pending, StatusCode::NotAcceptable);
        }
        let Some(path) = path(&pending.request) else {
            return self.answer(&pending, StatusCode::BadRequest);
        };
        self.media.clear();
        self.once_allowed(pending, Action::Read, path)
    }

    fn announce_request(&mut self, pending: Pending) -> Option<Event> {
        let kind = text(&pending.request, &CONTENT_TYPE).unwrap_or_default();
        if !kind.starts_with("application/sdp") {
            return self.answer(&pending, StatusCode::UnsupportedMediaType);
        }
        let Some(path) = path(&pending.request) else {
            return self.answer(&pending, StatusCode::BadRequest);
        };
        if !self.may(Action::Publish, &path) {
            return self.once_allowed(pending, Action::Publish, path);
        }
        match announce::read(pending.request.body()) {
            Ok(media) => {
                let media = media.into_iter().map(|medium| Medium {
                    control: medium.control,
                    format: medium.format,
                    setup: None,
                });
                self.media = media.collect();
                self.answer(&pending, StatusCode::Ok)
            }
            Err(error) => {
                let reply = self.reply(&pending, StatusCode::UnsupportedMediaType);
                reply.with_body("text/plain", error.to_string().into_bytes()).write(&mut self.out);
                None
            }
        }
    }

    /// Goes on with what reads tracks when `action` on `path` is allowed, which is asked else.
    pub(super) fn once_allowed(
        &mut self,
        pending: Pending,
        action: Action,
        path: String,
    ) -> Option<Event> {
        if self.may(action, &path) {
            self.pending = Some(pending);
            return Some(Event::Describe);
        }
        let request = &pending.request;
        let url = request.request_uri()?;
        let header = text(request, &AUTHORIZATION);
        let method = method_name(request.method());
        let credentials = match header {
            Some(value) => digest::read(value, method),
            None => in_address(url),
        };
        let agent = text(request, &USER_AGENT).unwrap_or_default();
        let ask = Ask {
            action,
            path,
            query: url.query().unwrap_or_default().to_owned(),
            credentials,
            agent: agent.chars().take(AGENT_BYTES_MAX).collect(),
        };
        self.granted = None;
        self.pending = Some(pending);
        Some(Event::Ask(Box::new(ask)))
    }
}

/// The stream's part of an address, for requests on a whole stream.
fn path(request: &Request<Vec<u8>>) -> Option<String> {
    Some(request.request_uri()?.path().trim_matches('/').to_owned())
}

/// Credentials within an address: `?user=&pass=`, or in front of the host.
fn in_address(url: &Url) -> Option<Credentials> {
    let of = |key: &str| {
        let found = url.query_pairs().find(|(name, _)| name == key);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let (mut user, mut password) = (of("user"), of("pass"));
    if user.is_empty() && password.is_empty() {
        user = url.username().to_owned();
        password = url.password().unwrap_or_default().to_owned();
    }
    let any = !user.is_empty() || !password.is_empty();
    any.then_some(Credentials::Basic { user, password })
}

/// The method's name, for proofs; only those that are asked about matter.
const fn method_name(method: &Method) -> &'static str {
    match method {
        Method::Describe => "DESCRIBE",
        Method::Announce => "ANNOUNCE",
        _ => "SETUP",
    }
}
