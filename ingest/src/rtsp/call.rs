//! The client's half of a conversation, without input or output: requests with their numbers and
//! credentials, the answers to them, and the media between.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtsp_types::headers::{HeaderName, SESSION, WWW_AUTHENTICATE};
use rtsp_types::{Response, StatusCode};

use super::challenge::Challenge;
use super::framing::{Framing, FramingError, Input};

/// Bytes of a session's id, at most.
const SESSION_BYTES_MAX: usize = 256;

/// How long servers remember a session that says nothing, if they do not say (RFC 2326 12.37).
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest and shortest time between signs of life.
const ALIVE_INTERVALS: [Duration; 2] = [Duration::from_secs(25), Duration::from_secs(1)];

/// Why a conversation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// What came is not RTSP.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The server said no.
    #[error("{status} {reason}")]
    Status { status: u16, reason: String },
    /// It wants credentials that we do not have, or in a way that we do not know.
    #[error("the server asks for credentials")]
    Credentials,
    /// It wants others than those it got.
    #[error("the server does not take these credentials")]
    WrongCredentials,
}

/// What came from the server.
#[derive(Debug)]
pub(super) enum Answer {
    /// The request was done.
    Done(Box<Response<Vec<u8>>>),
    /// It went out again, with credentials.
    Again,
    /// A packet of media.
    Frame { channel: u8, payload: Bytes },
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Call {
    framing: Framing,
    /// Name and password.
    credentials: Option<(String, String)>,
    challenge: Option<Challenge>,
    session: Option<String>,
    timeout: Duration,
    sequence: u32,
    /// The request that waits.
    asked: Option<Asked>,
    /// Unguessable, for proofs.
    nonce: String,
    out: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    url: String,
    lines: String,
    body: Vec<u8>,
    /// It went out a second time.
    again: bool,
}

impl Call {
    /// With these credentials, if they are asked for; `nonce` is random.
    pub(super) fn new(credentials: Option<(String, String)>, nonce: String) -> Self {
        let framing = Framing::of_server();
        Self {
            framing,
            credentials,
            challenge: None,
            session: None,
            timeout: SESSION_TIMEOUT,
            sequence: 0,
            asked: None,
            nonce,
            out: Vec::new(),
        }
    }

    /// What goes to the server.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Time between signs of life that this server wants.
    pub(super) fn alive_interval(&self) -> Duration {
        let [longest, shortest] = ALIVE_INTERVALS;
        (self.timeout / 2).clamp(shortest, longest)
    }

    /// Asks for `method` on `url`; `lines` are further headers, each with its end.
    pub(super) fn ask(&mut self, method: &'static str, url: &str, lines: &str, body: Vec<u8>) {
        let (url, lines) = (url.to_owned(), lines.to_owned());
        self.send(Asked { method, url, lines, body, again: false });
    }

    fn send(&mut self, asked: Asked) {
        self.sequence += 1;
        let Asked { method, url, lines, body, .. } = &asked;
        let mut head = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n", self.sequence);
        head += "User-Agent: Millstream\r\n";
        if let Some(session) = &self.session {
            let _ = write!(head, "Session: {session}\r\n");
        }
        if let (Some(challenge), Some((user, password))) = (&self.challenge, &self.credentials) {
            let who = (user.as_str(), password.as_str());
            let answer = challenge.answer(who, (*method, url), self.sequence, &self.nonce);
            let _ = write!(head, "Authorization: {answer}\r\n");
        }
        head += lines;
        if !body.is_empty() {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(body);
        self.asked = Some(asked);
    }

    /// Takes bytes from the front of `input`; `None` when more are needed. What the server asks is
    /// passed over.
    ///
    /// # Errors
    /// [`CallError`]; after [`CallError::Framing`] nothing more can be read.
    pub(super) fn handle(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, CallError> {
        loop {
            match self.framing.next(input)? {
                None => return Ok(None),
                Some(Input::Request(_)) => {}
                Some(Input::Frame { channel, payload }) => {
                    return Ok(Some(Answer::Frame { channel, payload }));
                }
                Some(Input::Response(response)) => {
                    if let Some(asked) = self.asked.take() {
                        return self.answered(asked, response).map(Some);
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        asked: Asked,
        response: Box<Response<Vec<u8>>>,
    ) -> Result<Answer, CallError> {
        if let Some(session) = text(&response, &SESSION) {
            self.in_session(session.to_owned().as_str());
        }
        match response.status() {
            status if status.is_success() => Ok(Answer::Done(response)),
            StatusCode::Unauthorized => {
                let known = self.challenge.is_some();
                let challenge = text(&response, &WWW_AUTHENTICATE).and_then(Challenge::read);
                let (Some(challenge), Some(_)) = (challenge, &self.credentials) else {
                    return Err(CallError::Credentials);
                };
                // Proofs grow old: then the server gives another nonce and says so.
                if asked.again || (known && !challenge.is_stale()) {
                    return Err(CallError::WrongCredentials);
                }
                self.challenge = Some(challenge);
                self.send(Asked { again: true, ..asked });
                Ok(Answer::Again)
            }
            status => {
                let reason = response.reason_phrase().chars().take(100).collect();
                Err(CallError::Status { status: u16::from(status), reason })
            }
        }
    }

    /// `id;timeout=seconds`
    fn in_session(&mut self, value: &str) {
        let mut fields = value.split(';').map(str::trim);
        let id = fields.next().unwrap_or_default();
        let usable = id.len() <= SESSION_BYTES_MAX && !id.contains(char::is_control);
        self.session = usable.then(|| id.to_owned());
        let timeout = fields.find_map(|field| field.strip_prefix("timeout=")?.trim().parse().ok());
        self.timeout = timeout.map_or(SESSION_TIMEOUT, Duration::from_secs);
    }
}

/// The text of a header.
pub(super) fn text<'a>(response: &'a Response<Vec<u8>>, name: &HeaderName) -> Option<&'a str> {
    response.header(name).map(|value| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(credentials: bool) -> Call {
        let credentials = credentials.then(|| ("tom".to_owned(), "secret".to_owned()));
        Call::new(credentials, "own".into())
    }

    fn said(call: &mut Call) -> String {
        String::from_utf8(std::mem::take(call.output())).unwrap()
    }

    fn hear(call: &mut Call, text: &str) -> Result<Option<Answer>, CallError> {
        call.handle(&mut BytesMut::from(text))
    }

    const ASKS: &str = "RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\
                        WWW-Authenticate: Digest realm=\"r\", nonce=\"a\"\r\n\r\n";

    #[test]
    fn a_password_is_proven_once_it_is_asked_for_and_again_when_the_proof_is_stale() {
        let mut call = call(true);
        call.ask("DESCRIBE", "rtsp://h/a", "", Vec::new());
        assert!(!said(&mut call).contains("Authorization"));
        assert!(matches!(hear(&mut call, ASKS), Ok(Some(Answer::Again))));
        let proven = said(&mut call);
        assert!(proven.contains("Authorization: Digest") && !proven.contains("secret"), "{proven}");
        let ok = "RTSP/1.0 200 OK\r\nCSeq: 2\r\nSession: 12;timeout=10\r\n\r\n";
        assert!(matches!(hear(&mut call, ok), Ok(Some(Answer::Done(_)))));
        assert_eq!(call.alive_interval(), Duration::from_secs(5));
        call.ask("OPTIONS", "rtsp://h/a", "", Vec::new());
        assert!(said(&mut call).contains("Session: 12\r\n"));
        let stale = ASKS.replace("nonce=\"a\"", "nonce=\"b\", stale=TRUE");
        assert!(matches!(hear(&mut call, &stale), Ok(Some(Answer::Again))));
        assert!(said(&mut call).contains("nonce=\"b\""));
        assert_eq!(hear(&mut call, &stale).unwrap_err(), CallError::WrongCredentials);
    }

    #[test]
    fn refusals_say_what_is_missing() {
        let mut none = call(false);
        none.ask("DESCRIBE", "rtsp://h/a", "", Vec::new());
        assert_eq!(hear(&mut none, ASKS).unwrap_err(), CallError::Credentials);
        let mut wrong = call(true);
        wrong.ask("DESCRIBE", "rtsp://h/a", "", Vec::new());
        hear(&mut wrong, ASKS).unwrap();
        assert_eq!(hear(&mut wrong, ASKS).unwrap_err(), CallError::WrongCredentials);
        none.ask("DESCRIBE", "rtsp://h/a", "", Vec::new());
        let lost = "RTSP/1.0 404 Not Found\r\nCSeq: 3\r\n\r\n";
        assert_eq!(hear(&mut none, lost).unwrap_err().to_string(), "404 Not Found");
    }

    #[test]
    fn media_and_questions_of_the_server_come_between_and_answers_to_nothing_are_passed_over() {
        let mut call = call(false);
        let text =
            "RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x02\0\x03abc";
        let Ok(Some(Answer::Frame { channel: 2, payload })) = hear(&mut call, text) else {
            panic!("no frame")
        };
        assert_eq!(payload, "abc");
        assert!(matches!(hear(&mut call, "junk\r\n\r\n"), Err(CallError::Framing(_))));
    }
}
