//! What publishers and viewers may say on the data channel of their WebRTC session: read and change
//! the graph of the stream.
//!
//! ```text
//! {"id":"1","type":"graph"}                 -> {"id":"1","type":"graph","prompt":{...}}
//! {"id":"2","type":"update","prompt":{...}} -> {"id":"2","type":"update","update_id":"...",
//!                                               "state":"applied","pts":900000,"rtp":123456}
//!                                              or "state":"refused","error":{...}
//!                                              or "state":"pending"
//! ```
//!
//! `pts` names the first picture that the change affects, `rtp` is the timestamp which that picture
//! has in the RTP packets of the one who asked.
//!
//! What cannot be done is answered with `{"id","type","error":{"type","message"}}`. The graph is
//! shown to whoever may watch, as the pages show it; it is changed by whoever may publish.

use futures_util::future::BoxFuture;
use ingest::StreamName;
use ingest::webrtc::{Answer, Messages, Speaker};
use pipeline::Pts;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::{Gateway, UpdateAnswer, UpdateError};

/// Answers with what the gateway knows and does.
pub(crate) struct Steering {
    gateway: Gateway,
}

impl Steering {
    /// Steers the streams of this gateway.
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl Messages for Steering {
    fn message(&self, from: Speaker, text: String) -> BoxFuture<'static, Option<Answer>> {
        let gateway = self.gateway.clone();
        Box::pin(async move {
            let answer = answer(&gateway, &from, &text).await;
            let pts = answer["pts"].as_i64().map(Pts);
            Some(Answer { text: answer.to_string(), pts })
        })
    }
}

/// One message.
#[derive(Deserialize)]
struct Document {
    /// Repeated in the answer.
    #[serde(default)]
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    prompt: Option<Value>,
}

async fn answer(gateway: &Gateway, from: &Speaker, text: &str) -> Value {
    let Document { id, kind, prompt } = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return json!({ "error": refusal("malformed", &error.to_string()) }),
    };
    // A viewer of a processed stream speaks of what it is made from.
    let stream = from.stream.source().unwrap_or_else(|| from.stream.clone());
    let mut answer = match (kind.as_str(), prompt) {
        ("graph", _) => match gateway.status(&stream) {
            Some(status) => json!({ "prompt": status.prompt }),
            None => failed("unknown_stream", &UpdateError::Unknown(stream).to_string()),
        },
        ("update", Some(prompt)) if from.may_steer => update(gateway, &stream, prompt).await,
        ("update", Some(_)) => failed("not_allowed", "credentials of a publisher are needed"),
        ("update", None) => failed("malformed", "an update has a prompt"),
        _ => failed("unknown_type", "type is one of graph and update"),
    };
    answer["id"] = json!(id);
    answer["type"] = kind.into();
    answer
}

async fn update(gateway: &Gateway, stream: &StreamName, prompt: Value) -> Value {
    match gateway.update(stream, prompt).await {
        Ok((update_id, answer)) => {
            let mut answer = json!(answer);
            answer["update_id"] = update_id.into();
            answer
        }
        Err(UpdateError::Prompt(error)) => json!(UpdateAnswer::Refused { error: error.to_json() }),
        Err(error) => failed("unknown_stream", &error.to_string()),
    }
}

fn failed(kind: &str, text: &str) -> Value {
    json!({ "error": refusal(kind, text) })
}

fn refusal(kind: &str, text: &str) -> Value {
    json!({ "type": kind, "message": text })
}
