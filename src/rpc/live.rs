//! The live job: how it is started, steered and heard of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The route of the start request.
pub const START_PATH: &str = "/live-video-to-video";

/// Where an orchestrator's trickle channels are.
pub const TRICKLE_PATH: &str = "/ai/trickle";

/// The longest start request, control document or event in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Mime type of picture channels.
pub const MPEG_TS: &str = "video/MP2T";

/// Mime type of document channels.
pub const JSON: &str = "application/json";

/// Mime type of payment channels.
pub const PAYMENT: &str = "application/octet-stream";

/// `POST /live-video-to-video`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StartRequest {
    /// The model; graphs run under `comfyui`.
    #[serde(default)]
    pub model_id: String,
    /// The model's parameters; for graphs `{"prompt": {...}}`.
    #[serde(default)]
    pub params: Value,
    /// One id from publish to payment.
    #[serde(default)]
    pub gateway_request_id: String,
    /// The stream at the gateway.
    #[serde(default)]
    pub stream_id: String,
    /// Paying by frame, as a gateway of ours offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<payments::wire::StartRequest>,
    /// What only Millstreams tell each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millstream: Option<Extras>,
}

/// What a gateway of ours adds to a start request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Extras {
    /// Pictures in a second to expect.
    #[serde(default)]
    pub frame_rate: f32,
    /// Pictures up to this PTS were delivered by another or are too old: decode them, no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_until: Option<i64>,
}

/// The answer to a start request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StartAnswer {
    /// The gateway publishes source segments here.
    pub publish_url: String,
    /// And reads processed segments here.
    pub subscribe_url: String,
    /// Parameters and wishes go here.
    pub control_url: String,
    /// Status and answers come from here.
    pub events_url: String,
    /// The session: the balance key for payments.
    pub manifest_id: String,
    /// Paying by frame, if it was agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<payments::wire::StartAnswer>,
}

/// A document on the control channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Control {
    /// `alive`: no more than a sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
    /// Names a change of parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_id: Option<String>,
    /// The new graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Value>,
    /// The encoder shall make a key frame; peers never get this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub millstream_key_frame: bool,
}

impl Control {
    /// A sign of life.
    pub fn alive() -> Self {
        Self { keep: Some("alive".into()), ..Self::nothing() }
    }

    /// A wish for a key frame.
    pub fn key_frame() -> Self {
        Self { millstream_key_frame: true, ..Self::nothing() }
    }

    /// A change of the graph.
    pub fn update(update_id: String, prompt: Value) -> Self {
        Self { update_id: Some(update_id), prompt: Some(prompt), ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self { keep: None, update_id: None, prompt: None, millstream_key_frame: false }
    }
}

/// A document on the events channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A change of parameters took effect or was refused.
    ParamsUpdate {
        /// The change.
        update_id: String,
        /// The first frame that it affects.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pts: Option<i64>,
        /// Why it was refused: ComfyUI's error document.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Value>,
    },
    /// How the job goes, every 10 s as the network wants it and, between Millstreams, each second.
    Status {
        /// The pipeline's name.
        pipeline: String,
        /// `ONLINE`, `DEGRADED_INPUT`, ...
        state: String,
        /// Unix milliseconds.
        timestamp: u64,
        /// What comes in.
        input_status: InputStatus,
        /// What goes out.
        inference_status: InferenceStatus,
        /// What only Millstreams tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        millstream: Option<EngineStatus>,
    },
}

/// The source as the orchestrator sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct InputStatus {
    /// Unix milliseconds.
    pub last_input_time: Option<u64>,
    /// Pictures a second.
    pub fps: f64,
}

/// The result as the orchestrator sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct InferenceStatus {
    /// Unix milliseconds.
    pub last_output_time: Option<u64>,
    /// Pictures a second.
    pub fps: f64,
    /// Unix milliseconds.
    pub last_error_time: Option<u64>,
    /// The last failure.
    pub last_error: Option<String>,
    /// How often the pipeline was started anew.
    pub restart_count: u64,
}

/// Counters of our engine, summed over the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Pictures received.
    pub received: u64,
    /// Pictures decoded.
    pub decoded: u64,
    /// Pictures processed and sent back.
    pub processed: u64,
    /// Pictures dropped since a newer one came before they were processed.
    pub dropped: u64,
    /// Pictures that the decoder skipped to catch up.
    pub skipped: u64,
    /// Pictures that could not be decoded or processed.
    pub failed: u64,
    /// Results of the graph that were too long to go with their picture.
    #[serde(default)]
    pub results_dropped: u64,
    /// Median milliseconds of decoding one picture, lately.
    pub decode_ms: f64,
    /// Median milliseconds of the graph, lately.
    pub graph_ms: f64,
    /// Median milliseconds of encoding, lately.
    pub encode_ms: f64,
}

impl EngineStatus {
    /// The counters of both; medians of the other, which is the newer.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            decoded: self.decoded + other.decoded,
            processed: self.processed + other.processed,
            dropped: self.dropped + other.dropped,
            skipped: self.skipped + other.skipped,
            failed: self.failed + other.failed,
            results_dropped: self.results_dropped + other.results_dropped,
            ..other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_the_networks_shape() {
        let text = |control| serde_json::to_string(&control).unwrap();
        assert_eq!(text(Control::alive()), r#"{"keep":"alive"}"#);
        let update = Control::update("u1".into(), serde_json::json!({"1": {}}));
        assert_eq!(text(update), r#"{"update_id":"u1","prompt":{"1":{}}}"#);
        let event: Event =
            serde_json::from_str(r#"{"type":"params_update","update_id":"u1","pts":90}"#).unwrap();
        assert!(matches!(event, Event::ParamsUpdate { pts: Some(90), .. }));
        let request: StartRequest = serde_json::from_str(r#"{"model_id":"noop"}"#).unwrap();
        assert!(request.millstream.is_none());
    }
}
