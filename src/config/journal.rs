//! The journal of API changes: what it holds, how edits change it, how it is written down.
//!
//! It is a settings file like any other, written by the node alone, with one key more:
//! `removed_streams` names the streams of weaker sources that the API took away.

use toml::{Table, Value};

use super::layers::join;

/// The key of [`Journal::removed`].
const REMOVED: &str = "removed_streams";

/// The head of the written file.
const HEAD: &str = "# Changes made by the API. The node writes this file; edit it only while the node is stopped.\n\n";

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// A setting gets a value; a table is laid over what is there.
    Set {
        /// Section by section.
        path: Vec<String>,
        /// The value.
        value: Value,
    },
    /// The journal forgets a setting, so that weaker sources count again.
    Reset {
        /// Section by section.
        path: Vec<String>,
    },
    /// A stream has these settings and no others, whatever weaker sources say.
    Replace {
        /// The stream's key.
        stream: String,
        /// Its settings.
        table: Table,
    },
    /// A stream has no settings any more.
    Remove {
        /// The stream's key.
        stream: String,
    },
}

impl Edit {
    /// The names of the settings that it touches. A name of a section means all below it.
    pub fn touches(&self) -> Vec<String> {
        match self {
            Self::Set { path, value } => leaves(&named(path), value),
            Self::Reset { path } => vec![named(path)],
            Self::Replace { stream, .. } | Self::Remove { stream } => vec![join("streams", stream)],
        }
    }
}

/// A setting's name from its sections.
fn named(path: &[String]) -> String {
    path.iter().fold(String::new(), |name, key| join(&name, key))
}

/// The names of all leaves of a value.
pub(super) fn leaves(name: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Table(table) if !table.is_empty() => {
            table.iter().flat_map(|(key, value)| leaves(&join(name, key), value)).collect()
        }
        _ => vec![name.to_owned()],
    }
}

/// What the API changed since the first start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    removed: Vec<String>,
    table: Table,
}

impl Journal {
    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// Text that is no TOML.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let mut table: Table = text.parse()?;
        let removed = table.remove(REMOVED);
        let removed = removed.as_ref().and_then(Value::as_array).map(|names| {
            names.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        });
        Ok(Self { removed: removed.unwrap_or_default(), table })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut table = Table::new();
        if !self.removed.is_empty() {
            let names = self.removed.iter().cloned().map(Value::String).collect();
            table.insert(REMOVED.into(), Value::Array(names));
        }
        table.extend(self.table.clone());
        format!("{HEAD}{table}")
    }

    /// Changed settings.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Streams of weaker sources that are taken away.
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    /// Notes a change.
    pub fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Set { path, value: Value::Table(new) } if path.is_empty() => {
                for (key, value) in new {
                    set(&mut self.table, &[key], value);
                }
            }
            Edit::Set { path, value } => set(&mut self.table, &path, value),
            Edit::Reset { path } => reset(&mut self.table, &path),
            Edit::Replace { stream, table } => {
                self.remove(&stream);
                set(&mut self.table, &["streams".into(), stream], Value::Table(table));
            }
            Edit::Remove { stream } => self.remove(&stream),
        }
    }

    fn remove(&mut self, stream: &str) {
        reset(&mut self.table, &["streams".into(), stream.into()]);
        if !self.removed.iter().any(|name| name == stream) {
            self.removed.push(stream.to_owned());
        }
    }
}

fn set(table: &mut Table, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else { return };
    if !rest.is_empty() {
        let slot = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
        if !slot.is_table() {
            *slot = Value::Table(Table::new());
        }
        if let Value::Table(inner) = slot {
            set(inner, rest, value);
        }
        return;
    }
    match (table.get_mut(key), value) {
        (Some(Value::Table(present)), Value::Table(new)) => {
            for (key, value) in new {
                set(present, &[key], value);
            }
        }
        (_, value) => {
            table.insert(key.clone(), value);
        }
    }
}

fn reset(table: &mut Table, path: &[String]) {
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.remove(key);
    } else if let Some(Value::Table(inner)) = table.get_mut(key) {
        reset(inner, rest);
        // A stream's empty section still says that there is such a stream.
        if inner.is_empty() && key != "streams" && rest.len() > 1 {
            table.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_noted_is_read_back_the_same() {
        let mut journal = Journal::default();
        journal.apply(Edit::Set { path: path("rtmp.take_over"), value: Value::Boolean(true) });
        let table = "graph = \"none\"".parse().unwrap();
        journal.apply(Edit::Replace { stream: "~^a/(.*)$".into(), table });
        journal.apply(Edit::Remove { stream: "cam".into() });
        let back = Journal::parse(&journal.to_text()).unwrap();
        assert_eq!(back, journal);
        assert_eq!(back.removed(), ["~^a/(.*)$", "cam"]);
    }

    #[test]
    fn a_table_is_laid_over_and_a_reset_forgets_one_setting() {
        let mut journal = Journal::default();
        for text in ["graph = \"none\"", "take_over = true"] {
            let value = Value::Table(text.parse().unwrap());
            journal.apply(Edit::Set { path: path("streams.cam"), value });
        }
        assert_eq!(journal.table()["streams"]["cam"]["graph"].as_str(), Some("none"));
        journal.apply(Edit::Reset { path: path("streams.cam.graph") });
        assert!(journal.table()["streams"]["cam"].get("graph").is_none());
        assert_eq!(journal.table()["streams"]["cam"]["take_over"].as_bool(), Some(true));
    }

    #[test]
    fn an_edit_names_the_leaves_that_it_touches() {
        let value = Value::Table("[rtmp]\nlisten = \"x\"\n[http]\nlisten = \"y\"".parse().unwrap());
        let edit = Edit::Set { path: Vec::new(), value };
        assert_eq!(edit.touches(), ["rtmp.listen", "http.listen"]);
        let edit = Edit::Remove { stream: "a.b".into() };
        assert_eq!(edit.touches(), ["streams.\"a.b\""]);
    }
}
