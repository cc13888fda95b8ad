//! What this machine has for inference, and what it lacks.
//!
//! The driver's own files under `/proc` are read, nothing of it is opened; whether a provider of
//! ONNX Runtime works is found out by registering it, since the library's own answer is not to be
//! trusted.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::onnx::{Error, Loaded, Provider, Runtime, Versions};

/// Where the driver describes itself.
const DRIVER: &str = "/proc/driver/nvidia";

/// Most GPUs that are listed.
const DEVICES_MAX: usize = 64;

/// A GPU as the driver names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its place on the bus.
    pub bus: String,
    /// Its identity, when the driver tells.
    pub uuid: Option<String>,
}

/// A provider of ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// Which.
    pub provider: Provider,
    /// Whether it was registered without an error.
    pub works: bool,
    /// The library's words, when not.
    pub reason: Option<String>,
}

/// What `millstream gpu` shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The NVIDIA driver's version, when one is loaded.
    pub driver: Option<String>,
    /// The GPUs.
    pub devices: Vec<Device>,
    /// ONNX Runtime, when it was opened.
    pub onnxruntime: Option<Versions>,
    /// Its providers, the quickest first; none without it.
    pub engines: Vec<Engine>,
    /// The models in use in this process, and where each really runs.
    pub loaded: Vec<Loaded>,
    /// What is missing, and what to do about it.
    pub missing: Vec<String>,
}

/// Looks at this machine and at what was opened.
pub fn probe(runtime: &Result<Runtime, Error>) -> Report {
    report(runtime, Path::new(DRIVER))
}

fn report(runtime: &Result<Runtime, Error>, driver: &Path) -> Report {
    let mut missing = Vec::new();
    let version = fs::read_to_string(driver.join("version")).ok();
    let version = version.as_deref().and_then(driver_version);
    let devices = devices(driver);
    if version.is_none() {
        missing.push("no NVIDIA driver is loaded: models run on the CPU".to_owned());
    } else if devices.is_empty() {
        missing.push("the NVIDIA driver shows no GPU: models run on the CPU".to_owned());
    }
    let engines = match runtime {
        Ok(runtime) => {
            Provider::ALL.into_iter().map(|provider| engine(runtime, provider)).collect()
        }
        Err(error) => {
            missing.push(error.to_string());
            Vec::new()
        }
    };
    for engine in engines.iter().filter(|engine: &&Engine| !engine.works) {
        missing.push(format!("provider {0} needs {1}", engine.provider, engine.provider.needs()));
    }
    Report {
        driver: version,
        devices,
        onnxruntime: runtime.as_ref().ok().map(Runtime::versions),
        engines,
        loaded: runtime.as_ref().map(Runtime::loaded).unwrap_or_default(),
        missing,
    }
}

fn engine(runtime: &Runtime, provider: Provider) -> Engine {
    let tried = runtime.try_provider(provider);
    Engine { provider, works: tried.is_ok(), reason: tried.err().map(|error| error.to_string()) }
}

/// The version in the driver's first line, which names the module, then the version.
fn driver_version(text: &str) -> Option<String> {
    let words = text.lines().next()?.split_whitespace();
    let version = |word: &&str| {
        let parts = word.split('.').count();
        (2..=3).contains(&parts) && word.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    words.into_iter().find(version).map(str::to_owned)
}

fn devices(driver: &Path) -> Vec<Device> {
    let entries = fs::read_dir(driver.join("gpus")).into_iter().flatten().flatten();
    let mut devices: Vec<Device> = entries
        .take(DEVICES_MAX)
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join("information")).ok()?;
            let value = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
                line.map(|value| value.trim().to_owned())
            };
            let bus = entry.file_name().to_string_lossy().into_owned();
            Some(Device { name: value("Model")?, bus, uuid: value("GPU UUID") })
        })
        .collect();
    devices.sort_by(|a, b| a.bus.cmp(&b.bus));
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Result<Runtime, Error> {
        Err(Error::Missing { looked: vec!["/nowhere".into()] })
    }

    #[test]
    fn a_machine_without_anything_is_told_what_to_get() {
        let empty = tempfile::tempdir().unwrap();
        let report = report(&none(), empty.path());
        assert_eq!((report.driver, report.onnxruntime), (None, None));
        assert!(report.devices.is_empty() && report.engines.is_empty());
        let missing = report.missing.join("\n");
        assert!(missing.contains("no NVIDIA driver"), "{missing}");
        assert!(missing.contains("pipeline.onnxruntime"), "{missing}");
    }

    #[test]
    fn providers_that_do_not_load_are_listed_with_what_they_need() {
        let empty = tempfile::tempdir().unwrap();
        let report = report(&Ok(crate::onnx::testing::runtime()), empty.path());
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["onnxruntime"]["onnxruntime"].as_str().unwrap().starts_with("1."));
        let engine =
            |place: usize| (&json["engines"][place]["provider"], &json["engines"][place]["works"]);
        assert_eq!(engine(0), (&"tensorrt".into(), &false.into()));
        assert_eq!(engine(2), (&"cpu".into(), &true.into()));
        let needs = json["missing"].to_string();
        assert!(needs.contains("libnvinfer.so.10") && needs.contains("libcudart.so.13"), "{needs}");
    }

    #[test]
    fn a_driver_and_its_gpus_are_read_from_its_own_files() {
        let driver = tempfile::tempdir().unwrap();
        let line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release\n";
        fs::write(driver.path().join("version"), line).unwrap();
        let gpu = driver.path().join("gpus/0000:1b:00.0");
        fs::create_dir_all(&gpu).unwrap();
        let text = "Model: \t\t NVIDIA H100\nIRQ:   1\nGPU UUID: \t GPU-1234\n";
        fs::write(gpu.join("information"), text).unwrap();
        let report = report(&none(), driver.path());
        assert_eq!(report.driver.as_deref(), Some("580.95.05"));
        let bus = "0000:1b:00.0".to_owned();
        let device = Device { name: "NVIDIA H100".into(), bus, uuid: Some("GPU-1234".into()) };
        assert_eq!(report.devices, [device]);
    }
}
