//! Which settings a stream has: those of its name, else of the first expression that matches it,
//! else of `all_others`; over `stream_defaults`. They may change while the node runs.
//!
//! In the texts of an expression's settings `$G1` to `$G9` stand for what its groups matched. A
//! stream's name holds no characters that could lead out of a folder or of a part of a URL
//! ([`ingest::StreamName`]), so what is put in is harmless.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ingest::StreamName;
use parking_lot::RwLock;
use regex::Regex;
use toml::{Table, Value};
use tracing::warn;

use crate::config::{ALL_OTHERS, Commit, Settings, Stream, check_stream, pattern};

/// Groups of an expression that values may name, as `$G1` and so on.
const GROUPS_MAX: usize = 9;

/// Streams with settings that came with the permission to publish.
const ANSWERED_MAX: usize = 10_000;

/// Who was let in has this long until its stream is online.
const ONLINE_WITHIN: Duration = Duration::from_secs(60);

/// Settings of streams. Cloning shares them.
#[derive(Clone)]
pub struct StreamSettings {
    compiled: Arc<ArcSwap<Compiled>>,
    /// Laid over them while a publisher writes.
    answered: Arc<RwLock<HashMap<String, Answered>>>,
}

/// What the owner said of a stream, and when.
struct Answered {
    at: Instant,
    settings: Table,
}

/// The settings of one stream.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key that it was found under; `None` when nothing names it.
    pub key: Option<String>,
    /// The settings.
    pub settings: Arc<Stream>,
}

struct Compiled {
    names: HashMap<String, Entry>,
    patterns: Vec<(Regex, Entry)>,
    others: Option<Entry>,
    defaults: Arc<Stream>,
}

struct Entry {
    key: String,
    settings: Arc<Stream>,
    /// The same as a table, where groups have to be put in.
    template: Option<Table>,
}

impl StreamSettings {
    /// The settings of these.
    ///
    /// # Errors
    /// An expression that cannot be compiled.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let compiled = Compiled::new(settings)?;
        let compiled = Arc::new(ArcSwap::from_pointee(compiled));
        Ok(Self { compiled, answered: Arc::default() })
    }

    /// Makes other settings ready ([`crate::config::Store::follow`]).
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn prepare(&self, settings: &Settings) -> Result<Commit, String> {
        let (compiled, new) = (Arc::clone(&self.compiled), Arc::new(Compiled::new(settings)?));
        Ok(Box::new(move || compiled.store(new)))
    }

    /// Notes what the owner said of a stream when its publisher was let in; with `None` what was
    /// said of an earlier one is forgotten. When there are too many, those are forgotten whose
    /// stream is not `online`.
    ///
    /// # Errors
    /// Settings that are none, and too many streams with settings of their own.
    pub fn answer(
        &self,
        name: &StreamName,
        settings: Option<&Table>,
        online: impl Fn(&StreamName) -> bool,
    ) -> Result<(), String> {
        let mut answered = self.answered.write();
        answered.remove(name.base());
        let Some(settings) = settings else { return Ok(()) };
        let checked = overlaid(&self.configured(name).settings, settings);
        checked
            .and_then(|settings| check_stream(&settings))
            .map_err(|error| format!("settings of {name}: {error}"))?;
        let at = Instant::now();
        if answered.len() >= ANSWERED_MAX {
            let online = |name: &str| StreamName::parse(name).is_ok_and(|name| online(&name));
            answered.retain(|name, said| at - said.at < ONLINE_WITHIN || online(name));
        }
        if answered.len() >= ANSWERED_MAX {
            return Err(format!("{ANSWERED_MAX} streams have settings of their own, the limit"));
        }
        answered.insert(name.base().to_owned(), Answered { at, settings: settings.clone() });
        Ok(())
    }

    /// The settings of a stream.
    pub fn of(&self, name: &StreamName) -> Arc<Stream> {
        self.find(name).settings
    }

    /// The settings of a stream, and where they come from.
    pub fn find(&self, name: &StreamName) -> Found {
        let found = self.configured(name);
        let answered = self.answered.read();
        let over = answered.get(name.base()).map(|said| &said.settings);
        match over.map(|table| overlaid(&found.settings, table)) {
            Some(Ok(settings)) => Found { settings: Arc::new(settings), ..found },
            Some(Err(error)) => {
                warn!(stream = %name, error, "what was said of a stream makes no settings");
                found
            }
            None => found,
        }
    }

    /// The same without what was said when the publisher was let in.
    pub(crate) fn configured(&self, name: &StreamName) -> Found {
        let compiled = self.compiled.load();
        let found = |entry: &Entry| Found {
            key: Some(entry.key.clone()),
            settings: Arc::clone(&entry.settings),
        };
        if let Some(entry) = compiled.names.get(name.base()) {
            return found(entry);
        }
        for (pattern, entry) in &compiled.patterns {
            let Some(groups) = pattern.captures(name.base()) else { continue };
            let Some(template) = &entry.template else { return found(entry) };
            let texts: Vec<&str> = (1..=GROUPS_MAX)
                .map(|index| groups.get(index).map_or("", |group| group.as_str()))
                .collect();
            let mut table = template.clone();
            table.iter_mut().for_each(|(_, value)| put_in(value, &texts));
            return match table.try_into() {
                Ok(settings) => {
                    Found { key: Some(entry.key.clone()), settings: Arc::new(settings) }
                }
                Err(error) => {
                    warn!(stream = %name, key = entry.key, %error, "groups put in make no settings");
                    found(entry)
                }
            };
        }
        match &compiled.others {
            Some(entry) => found(entry),
            None => Found { key: None, settings: Arc::clone(&compiled.defaults) },
        }
    }
}

/// Settings with others laid over them.
fn overlaid(settings: &Stream, over: &Table) -> Result<Stream, String> {
    let mut table = Table::try_from(settings).map_err(|error| error.to_string())?;
    lay_over(&mut table, over.clone());
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

impl Compiled {
    fn new(settings: &Settings) -> Result<Self, String> {
        let table = |stream: &Stream| Table::try_from(stream).map_err(|error| error.to_string());
        let defaults = table(&settings.stream_defaults)?;
        let mut compiled = Self {
            names: HashMap::new(),
            patterns: Vec::new(),
            others: None,
            defaults: Arc::new(settings.stream_defaults.clone()),
        };
        for (key, stream) in &settings.streams {
            let fault = |error: String| format!("streams.{key:?}: {error}");
            let mut all = defaults.clone();
            lay_over(&mut all, table(stream).map_err(fault)?);
            let settings: Stream = all
                .clone()
                .try_into()
                .map_err(|error: toml::de::Error| fault(error.to_string()))?;
            let mut entry =
                Entry { key: key.clone(), settings: Arc::new(settings), template: None };
            if let Some(pattern) = pattern(key).map_err(fault)? {
                entry.template = all.values().any(has_groups).then_some(all);
                compiled.patterns.push((pattern, entry));
            } else if key == ALL_OTHERS {
                compiled.others = Some(entry);
            } else {
                compiled.names.insert(key.trim_matches('/').to_owned(), entry);
            }
        }
        Ok(compiled)
    }
}

/// Lays `over` on `table`, sections on sections.
fn lay_over(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(over)) => lay_over(below, over),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn has_groups(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("$G"),
        Value::Array(values) => values.iter().any(has_groups),
        Value::Table(table) => table.values().any(has_groups),
        _ => false,
    }
}

/// Puts what the groups matched into all texts.
fn put_in(value: &mut Value, groups: &[&str]) {
    match value {
        Value::String(text) if text.contains("$G") => *text = filled(text, groups),
        Value::Array(values) => values.iter_mut().for_each(|value| put_in(value, groups)),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| put_in(value, groups)),
        _ => {}
    }
}

/// Reads from the left once: what a group matched is not looked into again.
fn filled(text: &str, groups: &[&str]) -> String {
    let mut parts = text.split("$G");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digit = part.chars().next().and_then(|c| c.to_digit(10)).filter(|digit| *digit > 0);
        match digit {
            Some(digit) => {
                filled.push_str(groups.get(digit as usize - 1).copied().unwrap_or_default());
                filled.push_str(&part[1..]);
            }
            None => {
                filled.push_str("$G");
                filled.push_str(part);
            }
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    fn graph(streams: &StreamSettings, name: &str) -> (Option<String>, Option<String>) {
        let found = streams.find(&StreamName::parse(name).unwrap());
        (found.key, found.settings.graph.clone())
    }

    #[test]
    fn the_name_wins_over_expressions_in_their_order_and_those_over_all_others() {
        let streams = StreamSettings::new(&settings(
            "[stream_defaults]\ntake_over = true\n\
             [streams.all_others]\ngraph = \"o\"\n\
             [streams.'~^cam(\\d+)$']\ngraph = \"/g/$G1.json\"\n\
             [streams.'~^cam']\ngraph = \"second\"\n\
             [streams.cam7]\ngraph = \"exact\"\n",
        ))
        .unwrap();
        let check = |name: &str, key: &str, wanted: &str| {
            assert_eq!(graph(&streams, name), (Some(key.into()), Some(wanted.into())), "{name}");
        };
        check("cam7", "cam7", "exact");
        check("cam12", "~^cam(\\d+)$", "/g/12.json");
        check("camera", "~^cam", "second");
        check("studio", "all_others", "o");
        let name = StreamName::parse("cam12").unwrap();
        assert_eq!(streams.of(&name).take_over, Some(true), "what all have");
    }

    #[test]
    fn what_nothing_names_has_the_defaults_and_changes_count_at_once() {
        let streams = StreamSettings::new(&settings("")).unwrap();
        assert_eq!(graph(&streams, "cam"), (None, None));
        streams.prepare(&settings("[stream_defaults]\ngraph = \"none\"")).unwrap()();
        assert_eq!(graph(&streams, "cam"), (None, Some("none".into())));
        assert!(streams.prepare(&settings("[streams.'~(']")).is_err());
    }

    #[test]
    fn what_came_with_the_permission_is_laid_over_until_the_next_publisher() {
        let streams = StreamSettings::new(&settings("[streams.cam]\ntake_over = true\n")).unwrap();
        let name = StreamName::parse("cam").unwrap();
        let over: Table = "graph = \"passthrough\"".parse().unwrap();
        streams.answer(&name, Some(&over), |_| true).unwrap();
        let now = streams.of(&name);
        assert_eq!((now.graph.as_deref(), now.take_over), (Some("passthrough"), Some(true)));
        streams.prepare(&settings("[streams.cam]\ngraph = \"none\"\n")).unwrap()();
        assert_eq!(streams.of(&name).graph.as_deref(), Some("passthrough"));
        let wrong: Table = "grap = \"x\"".parse().unwrap();
        assert!(streams.answer(&name, Some(&wrong), |_| true).unwrap_err().contains("grap"));
        let wrong: Table = "pushes = [{ url = \"gopher://h\" }]".parse().unwrap();
        assert!(streams.answer(&name, Some(&wrong), |_| true).unwrap_err().contains("gopher"));
        streams.answer(&name, None, |_| true).unwrap();
        assert_eq!(streams.of(&name).graph.as_deref(), Some("none"));
    }

    #[test]
    fn settings_of_streams_that_are_gone_make_room() {
        let streams = StreamSettings::new(&settings("")).unwrap();
        let said: Table = "graph = \"none\"".parse().unwrap();
        let answer = |name: &str| {
            let name = StreamName::parse(name).unwrap();
            streams.answer(&name, Some(&said), |name| name.as_str() == "s0")
        };
        for number in 0..ANSWERED_MAX {
            answer(&format!("s{number}")).unwrap();
        }
        // They may be about to begin.
        assert!(answer("more").unwrap_err().contains("10000"));
        for said in streams.answered.write().values_mut() {
            said.at = said.at.checked_sub(ONLINE_WITHIN).unwrap();
        }
        answer("more").unwrap();
        let left = streams.answered.read();
        assert_eq!(left.len(), 2);
        assert!(left.contains_key("s0") && left.contains_key("more"));
    }

    #[test]
    fn groups_are_put_in_once_and_what_names_none_stays() {
        assert_eq!(filled("a/$G1-$G2/$G", &["x", "$G1"]), "a/x-$G1/$G");
        assert_eq!(filled("$G0 $Gx $G9", &["x"]), "$G0 $Gx ");
        assert_eq!(filled("$G1ü$G1", &["ö"]), "öüö");
    }
}
