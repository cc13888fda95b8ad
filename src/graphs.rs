//! Which graph a stream gets: by its own setting, else by the setting for all.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ingest::StreamName;
use pipeline::graph::{self, Prompt, Registry};
use serde_json::Value;

use crate::config;

/// The largest graph file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The graphs of the settings, checked at start.
pub struct Graphs {
    all: Option<Value>,
    streams: BTreeMap<StreamName, Option<Value>>,
}

impl Graphs {
    /// Reads and checks every graph that the settings name.
    ///
    /// # Errors
    /// A file that cannot be read, or a graph that is not right; the message says where.
    pub fn load(
        pipeline: &config::Pipeline,
        streams: &BTreeMap<String, config::Stream>,
        registry: &Registry,
    ) -> Result<Self> {
        let all = load(&pipeline.graph, registry)?;
        let mut named = BTreeMap::new();
        for (name, stream) in streams {
            let Some(graph) = &stream.graph else { continue };
            let graph = load(graph, registry).with_context(|| format!("streams.{name:?}"))?;
            named.insert(StreamName::parse(name)?, graph);
        }
        Ok(Self { all, streams: named })
    }

    /// The graph of a stream; `None` when it is not processed.
    pub fn of_stream(&self, name: &StreamName) -> Option<Value> {
        self.streams.get(name).cloned().unwrap_or_else(|| self.all.clone())
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

    #[test]
    fn a_streams_own_graph_wins_and_a_bad_one_is_named() {
        let registry = Registry::host();
        let pipeline = config::Pipeline { graph: "default".into(), ..Default::default() };
        let mut streams = BTreeMap::new();
        let stream =
            |graph: &str| config::Stream { graph: Some(graph.into()), ..Default::default() };
        streams.insert("raw".to_owned(), stream("none"));
        let graphs = Graphs::load(&pipeline, &streams, &registry).unwrap();
        let name = |text| StreamName::parse(text).unwrap();
        assert!(graphs.of_stream(&name("raw")).is_none());
        assert_eq!(graphs.of_stream(&name("cam")), Some(graph::default_prompt()));

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{"1":{"class_type":"Nope","inputs":{}}}"#).unwrap();
        streams.insert("cam".to_owned(), stream(file.path().to_str().unwrap()));
        let error = format!("{:#}", Graphs::load(&pipeline, &streams, &registry).err().unwrap());
        assert!(error.contains("cam") && error.contains("Nope"), "{error}");
    }
}
