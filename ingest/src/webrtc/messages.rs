//! What viewers and publishers say on a data channel labelled [`LABEL`], and who answers.

use futures_util::future::BoxFuture;
use pipeline::Pts;

use super::Role;
use crate::name::StreamName;
use crate::rtp::packet::RtpTime;

/// The label of channels that are served. Channels with other labels are closed.
pub const LABEL: &str = "millstream";

/// Who says something: a session that was let in, on a stream of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The stream that the session publishes or watches.
    pub stream: StreamName,
    /// Which of both.
    pub role: Role,
    /// Whether the credentials of the session's POST allow to publish what it steers: the stream
    /// itself, or for a viewer of a processed stream (`cam-out`) its source (`cam`).
    pub may_steer: bool,
}

/// What is said to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The words; with `pts` a JSON object that is not empty.
    pub text: String,
    /// The picture that the answer is about, by its name. The session adds to the object under
    /// `rtp` which RTP timestamp that picture has for its peer.
    pub pts: Option<Pts>,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, pts: None }
    }
}

impl Answer {
    /// The words for a peer that knows the picture by `time`.
    pub(crate) fn words(self, time: Option<RtpTime>) -> String {
        match (time, self.text.strip_suffix('}')) {
            (Some(time), Some(open)) => format!("{open},\"rtp\":{}}}", time.0),
            _ => self.text,
        }
    }
}

/// Answers to messages of data channels.
pub trait Messages: Send + Sync {
    /// Answers one message, a text of at most 65,536 bytes; the answer goes back on the same
    /// channel unless it is longer than that or the channel is gone. `None` is no answer.
    ///
    /// A session has a few of them waiting at a time; they may be answered in any order.
    fn message(&self, from: Speaker, text: String) -> BoxFuture<'static, Option<Answer>>;
}

/// Answers that there is nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMessages;

impl Messages for NoMessages {
    fn message(&self, _: Speaker, _: String) -> BoxFuture<'static, Option<Answer>> {
        let answer = refusal("unsupported", "this server takes no messages");
        Box::pin(std::future::ready(Some(answer.into())))
    }
}

/// What viewers are told when their stream's publisher leaves or another one comes.
pub(crate) const fn presence(online: bool) -> &'static str {
    if online {
        r#"{"type":"stream","state":"online"}"#
    } else {
        r#"{"type":"stream","state":"offline"}"#
    }
}

/// An error document: what kind and in words.
pub(crate) fn refusal(kind: &str, text: &str) -> String {
    serde_json::json!({ "error": { "type": kind, "message": text } }).to_string()
}
