//! Node classes on inference engines: `MillstreamOnnx`, and ComfyUI's `UpscaleModelLoader` and
//! `ImageUpscaleWithModel` over the same models.

mod classes;
mod cubic;
mod picture;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use pipeline::graph::Registry;

use crate::onnx::{Choice, Error, Runtime, Store};

/// The model that comes with the program: luma, twice the size, with denoising.
pub const SUPERRES: &str = "superres2x.onnx";

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

/// What the classes share.
struct Shared {
    runtime: Result<Runtime, Error>,
    store: Store,
    names: Vec<String>,
    models: Models,
}

/// Adds this crate's classes. Without a runtime they are there all the same, so that editors show
/// them and prompts validate, and a graph that uses one is refused with the runtime's error.
///
/// The models are listed now; files that come later are seen by the next registry.
pub fn register(registry: &mut Registry, runtime: Result<Runtime, Error>, models: Models) {
    let store = Store::new(&models.dir);
    let shared = Arc::new(Shared { runtime, names: store.names(), store, models });
    registry.register(Arc::new(classes::Onnx(Arc::clone(&shared))));
    registry.register(Arc::new(classes::Loader(Arc::clone(&shared))));
    registry.register(Arc::new(classes::Upscale(shared)));
}
