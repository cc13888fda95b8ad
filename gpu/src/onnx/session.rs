//! A model made ready for pictures of one size.

/// Most bytes of a model's file: 2 GiB is where ONNX ends, and no model that keeps up with video
/// comes near this.
pub const MODEL_BYTES_MAX: u64 = 1 << 30;

/// What a model takes and gives.
#[derive(Clone, Debug)]
pub struct Signature;

/// A model made ready.
#[derive(Debug)]
pub struct Session;
