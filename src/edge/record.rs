//! Recording of streams as their settings say.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ingest::StreamName;
use ingest::record::{Config, Recordings, Rule, Rules, Template};
use parking_lot::Mutex;
use tracing::error;

use super::Edge;
use crate::config::Store;
use crate::streams::StreamSettings;
use crate::upload::Uploads;

/// What streams have that say nothing else.
const PART: Duration = Duration::from_secs(1);
const PART_BYTES: usize = 50_000_000;
const SEGMENT: Duration = Duration::from_secs(3600);
const DELETE_AFTER: Duration = Duration::from_secs(86_400);

/// The journal of what a store has, in the data directory.
const UPLOADED: &str = "uploaded";

/// What is remembered of segments in the store, in the data directory.
const STORED: &str = "stored";

/// Templates kept ready; as many as streams can have in one set of settings.
const TEMPLATES_MAX: usize = 4096;

/// Starts it.
pub(crate) fn start(edge: &Edge, store: Arc<Store>) -> Recordings {
    let settings = &edge.settings.recordings;
    let dir = match settings.dir.as_os_str().is_empty() {
        true => edge.settings.data_dir.join("recordings"),
        false => settings.dir.clone(),
    };
    let dir: PathBuf = std::path::absolute(&dir).unwrap_or(dir);
    let config = Config { free_bytes_min: settings.free_bytes_min, ..Config::new(dir) };
    let rules = StreamRules { streams: edge.streams.clone(), store, templates: Mutex::default() };
    let recordings =
        Recordings::new(config, edge.hub.clone(), edge.published.clone(), Arc::new(rules));
    edge.tasks.spawn(recordings.clone().run(edge.stop.clone()));
    recordings
}

/// Starts sending what is recorded to the store of the settings, if they name one.
///
/// # Errors
/// An address or options that make no store.
pub(crate) fn start_uploads(edge: &Edge, recordings: &Recordings) -> Result<Option<Uploads>> {
    let settings = &edge.settings.recordings.store;
    if settings.url.is_empty() {
        return Ok(None);
    }
    let journal = edge.settings.data_dir.join(UPLOADED);
    let stored = edge.settings.data_dir.join(STORED);
    let uploads = Uploads::new(settings, journal, stored, recordings.clone())?;
    edge.tasks.spawn(uploads.clone().run(edge.stop.clone()));
    Ok(Some(uploads))
}

/// The rules that the settings are.
struct StreamRules {
    streams: StreamSettings,
    store: Arc<Store>,
    /// Those that were read, by their text.
    templates: Mutex<HashMap<String, Template>>,
}

impl StreamRules {
    fn template(&self, text: &str) -> Option<Template> {
        let mut templates = self.templates.lock();
        if let Some(template) = templates.get(text) {
            return Some(template.clone());
        }
        let template = Template::parse(text)
            .inspect_err(|error| error!(record_path = text, %error, "not a path of recordings"))
            .ok()?;
        if templates.len() >= TEMPLATES_MAX {
            templates.clear();
        }
        templates.insert(text.to_owned(), template.clone());
        Some(template)
    }
}

impl Rules for StreamRules {
    fn rule(&self, name: &StreamName) -> Rule {
        let stream = self.streams.of(name);
        let given = stream.record_path.as_deref().and_then(|text| self.template(text));
        // The default is one; groups put in may make another that is none.
        let (record, template) = match given.or_else(|| self.template(Template::DEFAULT)) {
            Some(template) => (stream.record == Some(true), template),
            None => unreachable!("the default template can be read"),
        };
        let seconds =
            |given: Option<u64>, otherwise: Duration| given.map_or(otherwise, Duration::from_secs);
        let keep = seconds(stream.record_delete_after_seconds, DELETE_AFTER);
        Rule {
            record,
            template,
            part: stream.record_part_ms.map_or(PART, Duration::from_millis),
            part_bytes: stream.record_part_bytes_max.unwrap_or(PART_BYTES),
            segment: seconds(stream.record_segment_seconds, SEGMENT),
            delete_after: (keep > Duration::ZERO).then_some(keep),
        }
    }

    fn templates(&self) -> Vec<Template> {
        let loaded = self.store.current();
        let settings = &loaded.settings;
        let streams = settings.streams.values().chain([&settings.stream_defaults]);
        let given = streams.filter_map(|stream| stream.record_path.as_deref());
        let mut texts: Vec<&str> = given.chain([Template::DEFAULT]).collect();
        texts.sort_unstable();
        texts.dedup();
        texts.into_iter().filter_map(|text| self.template(text)).collect()
    }
}
