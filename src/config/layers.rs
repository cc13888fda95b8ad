//! Layers of settings and their order: each leaf remembers which source set it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use toml::{Table, Value};

use super::check::check;
use super::journal::Journal;
use super::{Settings, Stream};

/// The largest settings file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Prefix of environment variables; `__` parts sections.
const ENVIRONMENT_PREFIX: &str = "MILLSTREAM_";

/// The journal of API changes in the data directory.
pub const JOURNAL: &str = "settings.toml";

/// Where a setting came from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Built in.
    Default,
    /// The settings file.
    File,
    /// A change by the API, kept in the data directory.
    Journal,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Journal => "API",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// The file is too big.
    #[error("{} has more than {FILE_BYTES_MAX} bytes", path.display())]
    Big {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("{}: {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        error: toml::de::Error,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown setting {key:?}{}", nearest.as_ref().map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
    Unknown {
        /// File, variable or flag.
        origin: String,
        /// The key.
        key: String,
        /// The nearest that does.
        nearest: Option<String>,
    },
    /// A value of the wrong type or form.
    #[error("{origin}: {key}: {reason}")]
    Value {
        /// File, variable or flag.
        origin: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// One source's settings.
#[derive(Clone, Debug)]
pub struct Layer {
    source: Source,
    origin: String,
    table: Table,
    /// Streams that weaker sources name and this one takes away.
    removed: Vec<String>,
}

impl Layer {
    /// A settings file.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn file(path: &Path, source: Source) -> Result<Self, LoadError> {
        let read = |error| LoadError::Read { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
            return Err(LoadError::Big { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let table = text
            .parse::<Table>()
            .map_err(|error| LoadError::Syntax { path: path.to_owned(), error })?;
        Ok(Self { source, origin: path.display().to_string(), table, removed: Vec::new() })
    }

    /// Settings that a program chose, as strong as a file.
    ///
    /// # Errors
    /// Never with settings as they are; the writer may refuse in principle.
    pub fn settings(settings: &Settings) -> Result<Self, LoadError> {
        let table = Table::try_from(settings).map_err(|e| LoadError::Conflict(e.to_string()))?;
        let origin = "settings".to_owned();
        Ok(Self { source: Source::File, origin, table, removed: Vec::new() })
    }

    /// The journal of API changes.
    pub(super) fn journal(journal: &Journal) -> Self {
        Self {
            source: Source::Journal,
            origin: format!("API ({JOURNAL})"),
            table: journal.table().clone(),
            removed: journal.removed().to_vec(),
        }
    }

    /// Settings from environment variables, given as names and values.
    pub fn environment(variables: impl Iterator<Item = (String, String)>) -> Vec<Self> {
        let mut layers = Vec::new();
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            // The tests' own variables are no settings.
            if path.starts_with("TEST_") || path.starts_with("FUZZ_") {
                continue;
            }
            let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            layers.push(Self::single(Source::Environment, name.clone(), &path, &text));
        }
        layers
    }

    /// A default of the command that was given, weaker than the settings file.
    pub fn preset(key: &str, text: &str) -> Self {
        Self { source: Source::Default, origin: "command".into(), ..Self::flag(key, text) }
    }

    /// One setting from the command line, `key` with dots between sections.
    pub fn flag(key: &str, text: &str) -> Self {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        Self::single(Source::Flag, format!("--set {key}"), &path, text)
    }

    fn single(source: Source, origin: String, path: &[String], text: &str) -> Self {
        let mut value = Value::String(text.to_owned());
        for part in path.iter().rev() {
            value = Value::Table(Table::from_iter([(part.clone(), value)]));
        }
        let Value::Table(table) = value else { unreachable!("a path has a part") };
        Self { source, origin, table, removed: Vec::new() }
    }
}

/// Settings with the source of each leaf that is not a default.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Leaves set by a source, with dots between sections.
    pub sources: BTreeMap<String, Source>,
    /// All settings as a table, streams in their order.
    pub table: Table,
}

impl Loaded {
    /// Lays the layers over the defaults, strongest source last.
    ///
    /// # Errors
    /// Unknown keys, wrong values and settings that do not go together.
    pub fn from_layers(mut layers: Vec<Layer>) -> Result<Self, LoadError> {
        layers.sort_by_key(|layer| layer.source);
        let defaults = Table::try_from(Settings::default())
            .map_err(|error| LoadError::Conflict(error.to_string()))?;
        let mut merged = defaults.clone();
        let mut sources = BTreeMap::new();
        for layer in &layers {
            for name in &layer.removed {
                take_away(&mut merged, &mut sources, name);
            }
            merge(&mut merged, &layer.table, &defaults, "", layer, &mut sources)?;
            // Each layer is checked alone over the defaults, so that an error names its source.
            let alone = toml::to_string(&merged).unwrap_or_default();
            toml::from_str::<Settings>(&alone).map_err(|error| LoadError::Value {
                origin: layer.origin.clone(),
                key: leaf_of(&alone, &error),
                reason: error.message().to_owned(),
            })?;
        }
        let settings: Settings =
            merged.clone().try_into().map_err(|error: toml::de::Error| LoadError::Value {
                origin: "settings".into(),
                key: String::new(),
                reason: error.message().to_owned(),
            })?;
        check(&settings)?;
        Ok(Self { settings, sources, table: merged })
    }
}

/// Forgets a stream that weaker sources named.
fn take_away(merged: &mut Table, sources: &mut BTreeMap<String, Source>, name: &str) {
    if let Some(streams) = merged.get_mut("streams").and_then(Value::as_table_mut) {
        streams.remove(name);
    }
    let below = format!("{}.", join("streams", name));
    sources.retain(|key, _| !key.starts_with(&below));
}

/// The name of a setting below a section, quoted where TOML would.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = match key.chars().all(bare) && !key.is_empty() {
        true => key.to_owned(),
        false => format!("{key:?}"),
    };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The key on the line that the error points at.
fn leaf_of(text: &str, error: &toml::de::Error) -> String {
    let Some(span) = error.span() else { return String::new() };
    let mut section = String::new();
    let mut key = String::new();
    let mut position = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = format!("{name}.");
            key.clear();
        } else if let Some((name, _)) = line.split_once(" = ") {
            name.clone_into(&mut key);
        }
        position += line.len() + 1;
        if position > span.start {
            break;
        }
    }
    format!("{section}{key}")
}

/// Settings of a stream that are no texts, for their types: as a default they are absent.
static STREAM: LazyLock<Table> = LazyLock::new(|| {
    let stream = Stream {
        take_over: Some(false),
        record: Some(false),
        source_on_demand: Some(false),
        always_available: Some(false),
        record_part_ms: Some(0),
        record_part_bytes_max: Some(0),
        record_segment_seconds: Some(0),
        record_delete_after_seconds: Some(0),
        ..Stream::default()
    };
    Table::try_from(stream).unwrap_or_default()
});

fn merge(
    into: &mut Table,
    from: &Table,
    defaults: &Table,
    path: &str,
    layer: &Layer,
    sources: &mut BTreeMap<String, Source>,
) -> Result<(), LoadError> {
    for (key, value) in from {
        let full = join(path, key);
        // Names of streams are the user's; the keys below one are checked by serde. Options of a
        // store are the store's.
        let free =
            ["streams", "stream_defaults", "recordings.store.options"].iter().any(|section| {
                path.strip_prefix(section)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
        let known = defaults.get(key);
        if known.is_none() && !free {
            return Err(LoadError::Unknown {
                origin: layer.origin.clone(),
                key: full,
                nearest: nearest(key, defaults.keys()).map(|n| match path {
                    "" => n,
                    path => format!("{path}.{n}"),
                }),
            });
        }
        match value {
            Value::Table(inner) => {
                let empty = Table::new();
                let below = known.and_then(Value::as_table).unwrap_or(&empty);
                let slot = into.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
                let Value::Table(slot) = slot else {
                    return Err(LoadError::Value {
                        origin: layer.origin.clone(),
                        key: full,
                        reason: "is a value, not a section".into(),
                    });
                };
                merge(slot, inner, below, &full, layer, sources)?;
            }
            value => {
                let value = match (value, known) {
                    (Value::String(text), None) => typed(text, STREAM.get(key).filter(|_| free)),
                    (Value::String(text), known) => typed(text, known),
                    (value, _) => value.clone(),
                };
                into.insert(key.clone(), value);
                sources.insert(full, layer.source);
            }
        }
    }
    Ok(())
}

/// A text of the environment or the command line in the type that the default has.
fn typed(text: &str, like: Option<&Value>) -> Value {
    let parsed = match like {
        Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
        Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
        Some(Value::Float(_)) => text.parse().ok().map(Value::Float),
        Some(Value::Array(_)) => Some(Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Value::String(part.to_owned()))
                .collect(),
        )),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(key, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map(|(_, name)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Layer {
        let table = text.parse().unwrap();
        Layer { source: Source::File, origin: "m.toml".into(), table, removed: Vec::new() }
    }

    fn environment(name: &str, text: &str) -> Layer {
        Layer::environment([(name.to_owned(), text.to_owned())].into_iter()).remove(0)
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_the_file() {
        let layers = vec![
            Layer::flag("rtmp.take_over", "true"),
            file("drain_seconds = 7\n[rtmp]\ntake_over = false\nlisten = \"127.0.0.1:1\"\n"),
            environment("MILLSTREAM_RTMP__LISTEN", "127.0.0.1:2"),
        ];
        let loaded = Loaded::from_layers(layers).unwrap();
        assert!(loaded.settings.rtmp.take_over);
        assert_eq!(loaded.settings.rtmp.listen.port(), 2);
        assert_eq!(loaded.settings.drain_seconds, 7);
        assert_eq!(loaded.sources["rtmp.listen"], Source::Environment);
        assert_eq!(loaded.sources["rtmp.take_over"], Source::Flag);
        assert!(!loaded.sources.contains_key("rtmp.enabled"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let check = |layer: Layer, wanted: &str| {
            let error = Loaded::from_layers(vec![layer]).unwrap_err();
            assert_eq!(error.to_string(), wanted);
        };
        check(
            file("[rtmp]\nlitsen = \"x\"\n"),
            "m.toml: unknown setting \"rtmp.litsen\", did you mean \"rtmp.listen\"?",
        );
        check(
            environment("MILLSTREAM_ADMIM__LISTEN", "x"),
            "MILLSTREAM_ADMIM__LISTEN: unknown setting \"admim\", did you mean \"admin\"?",
        );
        check(Layer::flag("zzzzzzzz", "x"), "--set zzzzzzzz: unknown setting \"zzzzzzzz\"");
    }

    #[test]
    fn a_wrong_value_is_named_with_source_and_key() {
        let error = Loaded::from_layers(vec![file("drain_seconds = \"soon\"\n")]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("m.toml: drain_seconds: "), "{text}");
        let error = Loaded::from_layers(vec![Layer::flag("rtmp.listen", "here")]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("--set rtmp.listen: rtmp.listen: "), "{text}");
    }

    #[test]
    fn a_public_node_without_publish_credential_is_refused() {
        let refused = Loaded::from_layers(vec![Layer::flag("public", "true")]).unwrap_err();
        assert!(refused.to_string().contains("auth.publish_password"));
        let layers = vec![Layer::flag("public", "true"), Layer::flag("auth.publish_password", "x")];
        assert!(Loaded::from_layers(layers).unwrap().settings.public);
    }

    #[test]
    fn settings_of_a_stream_go_by_its_name() {
        let loaded = Loaded::from_layers(vec![file("[streams.cam]\ngraph = \"none\"\n")]).unwrap();
        assert_eq!(loaded.settings.streams["cam"].graph.as_deref(), Some("none"));
        assert!(Loaded::from_layers(vec![file("[streams.cam]\ngrap = \"none\"\n")]).is_err());
        assert!(Loaded::from_layers(vec![file("[streams.\"v3/x\"]\n")]).is_err());
        let loaded = Loaded::from_layers(vec![Layer::flag("streams.cam.record", "true")]).unwrap();
        assert_eq!(loaded.settings.streams["cam"].record, Some(true));
    }

    #[test]
    fn the_defaults_survive_writing_and_reading() {
        let text = toml::to_string(&Settings::default()).unwrap();
        let back: Settings = toml::from_str(&text).unwrap();
        assert_eq!(back, Settings::default());
    }
}
