//! Devices and inference engines.
//!
//! [`onnx`] opens ONNX Runtime, finds out which of its providers work, and makes sessions of model
//! files. [`nodes`] puts them behind a graph node. [`probe`] says what this machine has and what it
//! lacks. Nothing here is needed at build time, and a machine without any of it still runs: what
//! cannot work is refused with the reason and the remedy.
//!
//! ```no_run
//! use gpu::nodes::{self, Models};
//! use gpu::onnx::Runtime;
//! use pipeline::graph::Registry;
//!
//! let mut registry = Registry::host();
//! let models = Models { dir: "gpu/models".into(), ..Models::default() };
//! nodes::register(&mut registry, Runtime::open(None), models);
//! ```

mod device;
#[doc(hidden)]
pub mod fuzz;
pub mod nodes;
pub mod onnx;

pub use device::{Device, Engine, Report, probe};
