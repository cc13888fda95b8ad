//! What can go wrong with models and the library that runs them.

use std::path::PathBuf;

use pipeline::Size;

use super::provider::Provider;

/// How to get ONNX Runtime, appended to errors that its absence causes.
pub(super) const REMEDY: &str = "get libonnxruntime.so 1.24 or later (it is inside PyPI's \
     onnxruntime wheel; `./x build` fetches it) and name it in the setting pipeline.onnxruntime";

/// Why a model cannot be run.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No library was found where it usually is.
    #[error("ONNX Runtime was not found (looked for {}); {REMEDY}", list(.looked))]
    Missing {
        /// The places, in order.
        looked: Vec<PathBuf>,
    },
    /// The library that was named or found cannot be used.
    #[error("ONNX Runtime cannot be opened: {reason}; {REMEDY}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// Another library is open in this process.
    #[error("ONNX Runtime is open already from {}, not from {}", .open.display(), .asked.display())]
    OtherOpen {
        /// The one in use.
        open: PathBuf,
        /// The one asked for.
        asked: PathBuf,
    },
    /// The provider was asked for and does not work here.
    #[error("provider {provider} does not work here: {reason}")]
    Provider {
        /// Which.
        provider: Provider,
        /// The library's words.
        reason: String,
    },
    /// A model's name is not one of a file in the folder.
    #[error("{name:?} is not the name of a model: {reason}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A model's file cannot be read.
    #[error("model {name} cannot be read: {reason}")]
    Read {
        /// The model.
        name: String,
        /// The cause.
        reason: String,
    },
    /// A model's file is no ONNX model, or one that is not run here.
    #[error("model {name} is refused: {reason}")]
    Refused {
        /// The model.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model does not work on pictures of this size.
    #[error("model {name} does not fit pictures of {size}: {reason}")]
    Size {
        /// The model.
        name: String,
        /// The pictures' size.
        size: Size,
        /// The cause.
        reason: String,
    },
    /// A run failed.
    #[error("model {name} failed: {reason}")]
    Run {
        /// The model.
        name: String,
        /// The library's words.
        reason: String,
    },
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}
