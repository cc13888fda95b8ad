//! Finding and opening the library.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session as OrtSession;
use parking_lot::Mutex;
use pipeline::Size;
use serde::Serialize;

use super::error::Error;
use super::provider::Provider;

/// Folders in which the library is looked for after the one beside the program.
const PLACES: &[&str] = &[
    "/usr/local/lib",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/opt/onnxruntime/lib",
];

/// The library's file name without version; a version may follow.
const STEM: &str = "libonnxruntime.so";

/// The one copy of this process. Never closed: the library does not survive being opened twice.
static OPEN: Mutex<Option<Runtime>> = Mutex::new(None);

/// ONNX Runtime, open.
#[derive(Clone, Debug)]
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    environment: Environment,
    library: PathBuf,
    sessions: Mutex<Vec<Weak<Loaded>>>,
}

/// What is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// The library's version, such as `1.31.1`.
    pub onnxruntime: String,
    /// Its file.
    pub library: PathBuf,
    /// The oldest version that would do.
    pub oldest: String,
}

/// A model in use.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loaded {
    /// The model's name.
    pub model: String,
    /// Size of the pictures that it takes.
    #[serde(serialize_with = "display")]
    pub input: Size,
    /// Size of the pictures that it gives.
    #[serde(serialize_with = "display")]
    pub output: Size,
    /// Where it really runs.
    pub provider: Provider,
    /// Why quicker providers were passed over.
    pub passed_over: Vec<String>,
    /// Threads that work on one picture.
    pub threads: usize,
    /// How long the first run at full size took.
    #[serde(rename = "warm_up_ms", serialize_with = "milliseconds")]
    pub warm_up: Duration,
}

fn display<S: serde::Serializer>(size: &Size, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(size)
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_millis() as u64)
}

impl Runtime {
    /// Opens the library: the file or the folder given, or, when none is given, the usual places:
    /// beside the program, the system's library folders, and wherever the loader looks. A copy
    /// that is open already is used again when it is the one asked for.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unusable`] (too old, or no library of this kind), or
    /// [`Error::OtherOpen`]. All say what to do.
    pub fn open(library: Option<&Path>) -> Result<Self, Error> {
        let library = library.filter(|path| !path.as_os_str().is_empty());
        let mut open = OPEN.lock();
        let wanted = library.map(named).transpose()?;
        if let Some(runtime) = open.as_ref() {
            return match wanted {
                Some(asked) if asked != runtime.0.library => {
                    Err(Error::OtherOpen { open: runtime.0.library.clone(), asked })
                }
                _ => Ok(runtime.clone()),
            };
        }
        let path = wanted.map_or_else(find, Ok)?;
        let unusable = |reason: String| Error::Unusable { path: path.clone(), reason };
        let environment = ort::init_from(&path).map_err(|error| unusable(error.to_string()))?;
        let environment = environment.with_name("millstream").with_telemetry(false);
        let environment = environment.with_logger(Arc::new(log));
        let environment = environment.build().map_err(|error| unusable(error.to_string()))?;
        // With a logger of one's own the library would tell of every step of every run.
        environment.set_log_level(LogLevel::Warning);
        let inner = Inner { environment, library: path, sessions: Mutex::new(Vec::new()) };
        Ok(open.insert(Self(Arc::new(inner))).clone())
    }

    /// What is open.
    pub fn versions(&self) -> Versions {
        Versions {
            onnxruntime: version(ort::info(), &self.0.library),
            library: self.0.library.clone(),
            oldest: format!("1.{}.0", ort::MINOR_VERSION),
        }
    }

    /// Whether a provider works here; the reason when not. Nothing is kept.
    ///
    /// # Errors
    /// [`Error::Provider`] in the library's words.
    pub fn try_provider(&self, provider: Provider) -> Result<(), Error> {
        let failed = |reason: String| Error::Provider { provider, reason };
        let builder = OrtSession::builder(self.environment());
        let builder = builder.map_err(|error| failed(error.to_string()))?;
        let registered = builder.with_execution_providers([provider.dispatch()]);
        registered.map(|_| ()).map_err(|error| failed(error.to_string()))
    }

    /// The models in use now.
    pub fn loaded(&self) -> Vec<Loaded> {
        let mut sessions = self.0.sessions.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.iter().filter_map(Weak::upgrade).map(|loaded| Loaded::clone(&loaded)).collect()
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.0.environment
    }

    pub(super) fn keep_track(&self, loaded: &Arc<Loaded>) {
        let mut sessions = self.0.sessions.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(loaded));
    }
}

/// The library's own messages, as events of this program.
fn log(level: LogLevel, _category: &str, _id: &str, place: &str, message: &str) {
    match level {
        // What fails is told once more by the call that failed, with the model's name.
        LogLevel::Fatal | LogLevel::Error => tracing::debug!(target: "onnxruntime", place, message),
        _ => tracing::trace!(target: "onnxruntime", place, message),
    }
}

/// The library at a path that was given: a file, or the newest in a folder.
fn named(path: &Path) -> Result<PathBuf, Error> {
    let unusable = |reason: String| Error::Unusable { path: path.to_owned(), reason };
    let whole = path.canonicalize().map_err(|e| unusable(format!("{}: {e}", path.display())))?;
    if whole.is_dir() {
        let none = || unusable(format!("there is no {STEM} in {}", path.display()));
        return newest_in(&whole).ok_or_else(none);
    }
    Ok(whole)
}

/// The library in one of the usual places, or its bare name for the loader to look for.
fn find() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let nearby = beside.into_iter().flat_map(|dir| [dir.to_owned(), dir.join("../lib")]);
    let places: Vec<PathBuf> = nearby.chain(PLACES.iter().map(PathBuf::from)).collect();
    if let Some(found) = places.iter().find_map(|place| newest_in(place)) {
        return Ok(found);
    }
    let bare = PathBuf::from(format!("{STEM}.1"));
    // The loader's own search cannot be asked without loading; a library that it finds stays open.
    match ort::init_from(&bare) {
        Ok(_) => Ok(bare),
        Err(_) => Err(Error::Missing { looked: places.into_iter().chain([bare]).collect() }),
    }
}

/// The library of the highest version in a folder.
fn newest_in(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let version = |name: &str| -> Option<Vec<u32>> {
        let rest = name.strip_prefix(STEM)?;
        let parts = rest.split('.').skip(1).map(|part| part.parse().ok());
        let parts = parts.collect::<Option<Vec<u32>>>()?;
        (rest.is_empty() || rest.starts_with('.')).then_some(parts)
    };
    let library = |entry: std::fs::DirEntry| {
        Some((version(entry.file_name().to_str()?)?, entry.path().canonicalize().ok()?))
    };
    entries.filter_map(library).max().map(|(_, path)| path)
}

/// The version in the build information, or else in the file's name.
fn version(info: &str, library: &Path) -> String {
    let after = |text: &str, mark: &str| -> Option<String> {
        let rest = &text[text.find(mark)? + mark.len()..];
        let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        (number.split('.').count() == 3).then_some(number)
    };
    let file = library.to_string_lossy();
    after(info, "git-branch=rel-")
        .or_else(|| after(&file, ".so."))
        .unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_library_that_is_not_there_or_is_none_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libonnxruntime.so.1.99.0");
        for path in [dir.path().join("nothing"), dir.path().to_owned()] {
            let error = Runtime::open(Some(&path)).unwrap_err();
            let words = error.to_string();
            assert!(matches!(error, Error::Unusable { .. }), "{words}");
            assert!(words.contains("pipeline.onnxruntime"), "{words}");
        }
        std::fs::write(&file, "no library").unwrap();
        // Whether another is open already depends on the other tests.
        let error = Runtime::open(Some(dir.path())).unwrap_err();
        assert!(matches!(error, Error::Unusable { .. } | Error::OtherOpen { .. }), "{error}");
    }

    #[test]
    fn one_library_serves_the_process_and_another_is_refused() {
        let runtime = testing::runtime();
        let versions = runtime.versions();
        assert!(versions.onnxruntime.starts_with("1."), "{versions:?}");
        assert_eq!(versions.oldest, "1.24.0");
        assert_eq!(Runtime::open(None).unwrap().versions(), versions);
        assert_eq!(Runtime::open(Some(&versions.library)).unwrap().versions(), versions);
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("libonnxruntime.so");
        std::fs::write(&other, "").unwrap();
        let error = Runtime::open(Some(&other)).unwrap_err();
        assert!(matches!(error, Error::OtherOpen { .. }), "{error}");
    }

    #[test]
    fn the_newest_library_of_a_folder_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["so.1.9.0", "so.1.31.1", "so.1.4.0", "so.1.x", "so_old.2.0.0"] {
            std::fs::write(dir.path().join(format!("libonnxruntime.{name}")), "").unwrap();
        }
        let found = newest_in(dir.path()).unwrap();
        assert!(found.ends_with("libonnxruntime.so.1.31.1"), "{}", found.display());
    }

    #[test]
    fn providers_are_believed_only_when_they_register() {
        let runtime = testing::runtime();
        runtime.try_provider(Provider::Cpu).unwrap();
        // The library that tests bring has no other provider.
        let error = runtime.try_provider(Provider::Cuda).unwrap_err().to_string();
        assert!(error.contains("cuda does not work here"), "{error}");
    }
}
