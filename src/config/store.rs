//! The settings in force, and how they change while the node runs: by the API, which writes a
//! journal, and by the settings file, which is read again when it changes.
//!
//! A change is whole or not at all. It is checked against the rules of the settings and by every
//! follower (who compiles its expressions, reads its graphs) before anything is written or applied.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use toml::{Table, Value};
use tracing::{info, warn};

use super::journal::{Edit, Journal, leaves};
use super::layers::{JOURNAL, Layer, LoadError, Loaded, Source};
use super::{Settings, layers};
use crate::identity;

/// How often the settings file is looked at.
const FILE_SPACING: Duration = Duration::from_secs(1);

/// The largest journal in bytes.
const JOURNAL_BYTES_MAX: u64 = 4 << 20;

/// Sections whose changes are applied while the node runs; everything else needs a restart.
const LIVE: [&str; 4] = ["auth", "stream_defaults", "streams", "pipeline.graph"];

/// Why settings were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The environment or the command line says otherwise, and is stronger.
    #[error("{key} is fixed by {by} and cannot be changed while that is so")]
    Fixed {
        /// The setting.
        key: String,
        /// `the environment` or `a flag`.
        by: &'static str,
    },
    /// The new settings are not right.
    #[error(transparent)]
    Wrong(#[from] LoadError),
    /// A part of the node cannot work with them.
    #[error("{0}")]
    Refused(String),
    /// What the caller found out while the settings were locked.
    #[error("{0}")]
    NotFound(String),
    /// The journal cannot be written.
    #[error("{0:#}")]
    Journal(anyhow::Error),
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Settings that have another value now.
    pub changed: Vec<String>,
    /// Those of them that count from the next start on.
    pub restart: Vec<String>,
}

/// Puts prepared settings in force.
pub type Commit = Box<dyn FnOnce() + Send>;

/// Makes itself ready for settings, or says why it cannot.
pub type Follower = Box<dyn Fn(&Settings) -> Result<Commit, String> + Send + Sync>;

/// The settings of a running node.
pub struct Store {
    current: ArcSwap<Loaded>,
    state: Mutex<State>,
}

struct State {
    /// Everything but file and journal.
    layers: Vec<Layer>,
    file: Option<File>,
    journal: Journal,
    journal_path: PathBuf,
    followers: Vec<Follower>,
}

struct File {
    path: PathBuf,
    layer: Layer,
    stamp: Option<Stamp>,
    /// Why the newest file is not in force.
    fault: Option<String>,
}

/// What shows that a file is another one.
type Stamp = (SystemTime, u64);

impl Store {
    /// Settings of these layers, of the file, and of the journal in the data directory they name.
    ///
    /// # Errors
    /// What [`Loaded::from_layers`] refuses, and files that cannot be read.
    pub fn open(layers: Vec<Layer>, file: Option<&Path>) -> Result<Self, LoadError> {
        let file = match file {
            Some(path) => Some(File {
                path: path.to_owned(),
                stamp: stamp(path),
                layer: Layer::file(path, Source::File)?,
                fault: None,
            }),
            None => None,
        };
        let all = |file: &Option<File>| {
            layers.iter().cloned().chain(file.iter().map(|file| file.layer.clone())).collect()
        };
        // The journal lies in the data directory that the other sources name.
        let first = Loaded::from_layers(all(&file))?;
        let journal_path = first.settings.data_dir.join(JOURNAL);
        let journal = read_journal(&journal_path)?;
        let followers = Vec::new();
        let state = State { layers, file, journal, journal_path, followers };
        let loaded = state.load(state.file_layer(), &state.journal)?;
        Ok(Self { current: ArcSwap::from_pointee(loaded), state: Mutex::new(state) })
    }

    /// Settings chosen by a program, with the journal in their data directory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(settings: &Settings) -> Result<Self, LoadError> {
        Self::open(vec![Layer::settings(settings)?], None)
    }

    /// The settings in force. Those that need a restart are as they will be after it.
    pub fn current(&self) -> Arc<Loaded> {
        self.current.load_full()
    }

    /// Why the settings file as it is now is not in force.
    pub fn fault(&self) -> Option<String> {
        self.state.lock().file.as_ref().and_then(|file| file.fault.clone())
    }

    /// Asks `follower` at every change from now on.
    pub fn follow(&self, follower: Follower) {
        self.state.lock().followers.push(follower);
    }

    /// Changes settings and writes the journal. `edits` sees the settings that it changes; no other
    /// change comes between. May wait for the disk.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing is changed then.
    pub fn change(
        &self,
        edits: impl FnOnce(&Loaded) -> Result<Vec<Edit>, ChangeError>,
    ) -> Result<Applied, ChangeError> {
        let mut state = self.state.lock();
        let before = self.current();
        let edits = edits(&before)?;
        for key in edits.iter().flat_map(Edit::touches) {
            fixed(&before, &key)?;
        }
        let mut journal = state.journal.clone();
        edits.into_iter().for_each(|edit| journal.apply(edit));
        let loaded = state.load(state.file_layer(), &journal)?;
        let commits = state.prepare(&loaded.settings)?;
        let text = journal.to_text();
        identity::write_secret(&state.journal_path, text.as_bytes())
            .map_err(ChangeError::Journal)?;
        state.journal = journal;
        Ok(self.commit(&before, loaded, commits))
    }

    /// Reads the settings file again if it is another one; `None` when it is not.
    ///
    /// # Errors
    /// Why the new file cannot be used; the old settings stay. Told once per file.
    pub fn reload(&self) -> Result<Option<Applied>, ChangeError> {
        let mut state = self.state.lock();
        let Some(file) = &mut state.file else { return Ok(None) };
        let now = stamp(&file.path);
        // A file that is being replaced may be away for a moment.
        if now.is_none() || now == file.stamp {
            return Ok(None);
        }
        file.stamp = now;
        let path = file.path.clone();
        let before = self.current();
        let tried = state.try_file(&path);
        let fault = tried.as_ref().err().map(ToString::to_string);
        if let Some(file) = &mut state.file {
            file.fault = fault;
        }
        let (layer, loaded, commits) = tried?;
        if let Some(file) = &mut state.file {
            file.layer = layer;
        }
        Ok(Some(self.commit(&before, loaded, commits)))
    }

    fn commit(&self, before: &Loaded, loaded: Loaded, commits: Vec<Commit>) -> Applied {
        let applied = difference(&before.table, &loaded.table);
        self.current.store(Arc::new(loaded));
        commits.into_iter().for_each(|commit| commit());
        applied
    }

    /// Looks at the settings file now and then, for ever.
    pub async fn watch(self: Arc<Self>) {
        if self.state.lock().file.is_none() {
            return;
        }
        let mut rhythm = tokio::time::interval(FILE_SPACING);
        loop {
            rhythm.tick().await;
            let store = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || store.reload()).await {
                Ok(Ok(Some(applied))) => {
                    let Applied { changed, restart } = applied;
                    info!(?changed, ?restart, "the settings file was read again");
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    warn!(%error, "the settings file cannot be used, the old settings stay");
                }
                Err(_) => return,
            }
        }
    }
}

impl State {
    fn file_layer(&self) -> Option<&Layer> {
        self.file.as_ref().map(|file| &file.layer)
    }

    fn load(&self, file: Option<&Layer>, journal: &Journal) -> Result<Loaded, LoadError> {
        let mut layers = self.layers.clone();
        layers.extend(file.cloned());
        layers.push(Layer::journal(journal));
        Loaded::from_layers(layers)
    }

    /// The file as it is now, made ready.
    fn try_file(&self, path: &Path) -> Result<(Layer, Loaded, Vec<Commit>), ChangeError> {
        let layer = Layer::file(path, Source::File)?;
        let loaded = self.load(Some(&layer), &self.journal)?;
        let commits = self.prepare(&loaded.settings)?;
        Ok((layer, loaded, commits))
    }

    fn prepare(&self, settings: &Settings) -> Result<Vec<Commit>, ChangeError> {
        let ready = self.followers.iter().map(|follower| follower(settings));
        ready.collect::<Result<_, _>>().map_err(ChangeError::Refused)
    }
}

/// Refuses a change of what a stronger source says.
fn fixed(loaded: &Loaded, key: &str) -> Result<(), ChangeError> {
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let stronger = loaded.sources.iter().find(|(name, source)| {
        **source > Source::Journal && (within(key, name) || within(name, key))
    });
    let Some((name, source)) = stronger else { return Ok(()) };
    let by = if *source == Source::Flag { "a flag" } else { "the environment" };
    Err(ChangeError::Fixed { key: name.clone(), by })
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

fn read_journal(path: &Path) -> Result<Journal, LoadError> {
    let read = |error| LoadError::Read { path: path.to_owned(), error };
    let text = match std::fs::metadata(path) {
        Ok(facts) if facts.len() > JOURNAL_BYTES_MAX => {
            return Err(LoadError::Big { path: path.to_owned() });
        }
        Ok(_) => std::fs::read_to_string(path).map_err(read)?,
        // A data directory that cannot be one is named when it is opened.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Journal::default());
        }
        Err(error) => return Err(read(error)),
    };
    Journal::parse(&text).map_err(|error| LoadError::Syntax { path: path.to_owned(), error })
}

/// What has another value; the order of streams counts as one.
fn difference(before: &Table, after: &Table) -> Applied {
    let flat = |table: &Table| leaves("", &Value::Table(table.clone()));
    let names: BTreeSet<String> = flat(before).into_iter().chain(flat(after)).collect();
    let mut applied = Applied::default();
    for name in names {
        let (old, new) = (at(before, &name), at(after, &name));
        // What is a section on one side has its leaves in the list.
        let section = [old, new].into_iter().flatten().filter_map(Value::as_table);
        if old == new || section.into_iter().any(|table| !table.is_empty()) {
            continue;
        }
        if !is_live(&name) {
            applied.restart.push(name.clone());
        }
        applied.changed.push(name);
    }
    let order = |table: &Table| {
        let streams = table.get("streams").and_then(Value::as_table);
        streams.map(|streams| streams.keys().cloned().collect::<Vec<_>>())
    };
    if applied.changed.is_empty() && order(before) != order(after) {
        applied.changed.push("streams".into());
    }
    applied
}

/// Whether a change of this setting is applied while the node runs.
pub fn is_live(name: &str) -> bool {
    LIVE.iter().any(|section| {
        name.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The value of a setting.
fn at<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    let (mut table, mut path) = (table, String::new());
    loop {
        let below = |key: &String| {
            let full = layers::join(&path, key);
            name.strip_prefix(&full).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let (key, value) = table.iter().find(|(key, _)| below(key))?;
        path = layers::join(&path, key);
        match value {
            value if path == name => return Some(value),
            Value::Table(inner) => table = inner,
            _ => return None,
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
