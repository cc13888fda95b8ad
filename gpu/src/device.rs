//! What this machine has for inference, and what it lacks.

use serde::Serialize;

use crate::onnx::{Error, Runtime, Versions};

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its memory in bytes, when the driver tells.
    pub memory_bytes: Option<u64>,
}

/// A provider of ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// `tensorrt`, `cuda` or `cpu`.
    pub provider: crate::onnx::Provider,
    /// Whether it was loaded without an error.
    pub works: bool,
    /// The library's words and what is needed, when not.
    pub missing: Option<String>,
}

/// What `millstream gpu` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The NVIDIA driver's version, when one is loaded.
    pub driver: Option<String>,
    /// The GPUs.
    pub devices: Vec<Device>,
    /// ONNX Runtime, when it was opened.
    pub onnxruntime: Option<Versions>,
    /// Its providers.
    pub engines: Vec<Engine>,
    /// What is missing, and what to do about it.
    pub missing: Vec<String>,
}

/// Looks at this machine. Opens nothing that stays open.
pub fn probe(runtime: &Result<Runtime, Error>) -> Report {
    let _ = runtime;
    Report { driver: None, devices: Vec::new(), onnxruntime: None, engines: Vec::new(), missing: Vec::new() }
}
