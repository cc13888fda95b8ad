//! What viewers and publishers say on a data channel labelled [`LABEL`], and who answers.

use futures_util::future::BoxFuture;

use super::Role;
use crate::name::StreamName;

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

/// Answers to messages of data channels.
pub trait Messages: Send + Sync {
    /// Answers one message, a text of at most 65,536 bytes; the answer goes back on the same
    /// channel unless it is longer than that or the channel is gone. `None` is no answer.
    ///
    /// A session has a few of them waiting at a time; they may be answered in any order.
    fn message(&self, from: Speaker, text: String) -> BoxFuture<'static, Option<String>>;
}

/// Answers that there is nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMessages;

impl Messages for NoMessages {
    fn message(&self, _: Speaker, _: String) -> BoxFuture<'static, Option<String>> {
        let answer = refusal("unsupported", "this server takes no messages");
        Box::pin(std::future::ready(Some(answer)))
    }
}

/// An error document: what kind and in words.
pub(crate) fn refusal(kind: &str, text: &str) -> String {
    serde_json::json!({ "error": { "type": kind, "message": text } }).to_string()
}
