//! Which graph a stream gets: by its own setting, else by the setting for all.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use ingest::StreamName;
use pipeline::graph::{self, Prompt, Registry};
use serde_json::Value;
use tracing::{info, warn};

use crate::config::{Commit, Settings};
use crate::streams::StreamSettings;

/// The largest graph file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Node classes that graphs may use: the host's, and those that run models.
pub fn registry(settings: &Settings) -> Registry {
    let mut registry = Registry::host();
    let given = &settings.pipeline.onnxruntime;
    let runtime = gpu::onnx::Runtime::open((!given.as_os_str().is_empty()).then_some(given));
    match &runtime {
        Ok(runtime) => info!(versions = ?runtime.versions(), "models can be run"),
        Err(error) => warn!(%error, "models cannot be run"),
    }
    let models = gpu::nodes::Models {
        dir: settings.pipeline.models_dir.clone(),
        ..gpu::nodes::Models::default()
    };
    gpu::nodes::register(&mut registry, runtime, models);
    registry
}

/// The graphs of the settings. Those that the settings name outright are checked before the
/// settings count; those whose name depends on the stream's, when the stream comes. Cloning shares.
#[derive(Clone)]
pub struct Graphs {
    streams: StreamSettings,
    registry: Arc<Registry>,
    checked: Arc<ArcSwap<Checked>>,
}

struct Checked {
    /// The setting for streams that have none.
    all: String,
    /// What settings stand for.
    graphs: HashMap<String, Option<Value>>,
}

impl Graphs {
    /// Reads and checks every graph that the settings name.
    ///
    /// # Errors
    /// A file that cannot be read, or a graph that is not right; the message says where.
    pub fn load(
        settings: &Settings,
        streams: StreamSettings,
        registry: Arc<Registry>,
    ) -> Result<Self> {
        let checked = Arc::new(ArcSwap::from_pointee(Checked::new(settings, &registry)?));
        Ok(Self { streams, registry, checked })
    }

    /// Makes other settings ready ([`crate::config::Store::follow`]).
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn prepare(&self, settings: &Settings) -> Result<Commit, String> {
        let new = Checked::new(settings, &self.registry).map_err(|error| format!("{error:#}"))?;
        let (checked, new) = (Arc::clone(&self.checked), Arc::new(new));
        Ok(Box::new(move || checked.store(new)))
    }

    /// The graph of a stream; `None` when it is not processed.
    pub fn of_stream(&self, name: &StreamName) -> Option<Value> {
        let checked = self.checked.load();
        let stream = self.streams.of(name);
        let setting = stream.graph.as_ref().unwrap_or(&checked.all);
        if let Some(graph) = checked.graphs.get(setting) {
            return graph.clone();
        }
        load(setting, &self.registry).unwrap_or_else(|error| {
            warn!(stream = %name, error = format!("{error:#}"), "not processed");
            None
        })
    }
}

impl Checked {
    fn new(settings: &Settings, registry: &Registry) -> Result<Self> {
        let all = settings.pipeline.graph.clone();
        let mut graphs = HashMap::from([(all.clone(), load(&all, registry)?)]);
        let named =
            settings.streams.iter().map(|(name, stream)| (format!("streams.{name:?}"), stream));
        let defaults = ("stream_defaults".to_owned(), &settings.stream_defaults);
        for (place, stream) in named.chain([defaults]) {
            let Some(graph) = &stream.graph else { continue };
            // Where a group of the expression is put in, the stream's name decides.
            if !graph.contains("$G") && !graphs.contains_key(graph) {
                graphs.insert(graph.clone(), load(graph, registry).context(place)?);
            }
        }
        Ok(Self { all, graphs })
    }
}

fn load(setting: &str, registry: &Registry) -> Result<Option<Value>> {
    let prompt = match setting {
        "none" => return Ok(None),
        "default" => graph::default_prompt(),
        "passthrough" => graph::passthrough_prompt(),
        path => read(Path::new(path))?,
    };
    let parsed = Prompt::parse(&prompt).with_context(|| format!("graph {setting:?}"))?;
    graph::validate(&parsed, registry).with_context(|| format!("graph {setting:?}"))?;
    Ok(Some(prompt))
}

fn read(path: &Path) -> Result<Value> {
    let shown = path.display();
    let length = std::fs::metadata(path).with_context(|| format!("graph {shown}"))?.len();
    if length > FILE_BYTES_MAX {
        bail!("graph {shown} has more than {FILE_BYTES_MAX} bytes");
    }
    let text = std::fs::read(path).with_context(|| format!("graph {shown}"))?;
    serde_json::from_slice(&text).with_context(|| format!("graph {shown} is no JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Stream;

    #[test]
    fn a_streams_own_graph_wins_and_a_bad_one_is_named() {
        let registry = Arc::new(Registry::host());
        let load = |settings: &Settings| {
            let streams = StreamSettings::new(settings).unwrap();
            Graphs::load(settings, streams, Arc::clone(&registry))
        };
        let mut settings = Settings::default();
        settings.pipeline.graph = "default".into();
        let stream = |graph: &str| Stream { graph: Some(graph.into()), ..Default::default() };
        settings.streams.insert("raw".to_owned(), stream("none"));
        settings.streams.insert("~^lost(.)$".to_owned(), stream("/nowhere/$G1.json"));
        let graphs = load(&settings).unwrap();
        let name = |text| StreamName::parse(text).unwrap();
        assert!(graphs.of_stream(&name("raw")).is_none());
        assert_eq!(graphs.of_stream(&name("cam")), Some(graph::default_prompt()));
        assert!(graphs.of_stream(&name("lost1")).is_none(), "its file is not there");

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{"1":{"class_type":"Nope","inputs":{}}}"#).unwrap();
        settings.streams.insert("cam".to_owned(), stream(file.path().to_str().unwrap()));
        let error = format!("{:#}", load(&settings).err().unwrap());
        assert!(error.contains("cam") && error.contains("Nope"), "{error}");
        assert!(graphs.prepare(&settings).is_err());
    }
}
