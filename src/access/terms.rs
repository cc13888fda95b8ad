//! What somebody is let in on, beyond yes: another name, an end, settings of the stream.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use toml::Table;

/// The terms. Without any, what was asked for is what is given.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Terms {
    /// The stream that is really written or read.
    pub(super) name: Option<String>,
    /// How long.
    pub(super) lifetime: Option<Duration>,
    /// Settings of the stream while this publisher writes it, as in `streams.NAME`.
    pub(super) settings: Option<Table>,
}

/// Terms as a callback's answer and a token's claim spell them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spelled {
    /// A callback may say no in an answer of 200.
    pub(super) allowed: Option<bool>,
    /// For the log.
    pub(super) reason: String,
    name: Option<String>,
    lifetime_seconds: Option<f64>,
    settings: Option<Value>,
}

impl Spelled {
    /// The terms.
    ///
    /// # Errors
    /// A value that cannot be one.
    pub(super) fn terms(self) -> Result<Terms, String> {
        let lifetime = match self.lifetime_seconds.filter(|seconds| *seconds != 0.0) {
            None => None,
            Some(seconds) => Some(
                Duration::try_from_secs_f64(seconds)
                    .map_err(|error| format!("lifetime_seconds: {error}"))?,
            ),
        };
        let settings = match self.settings {
            None | Some(Value::Null) => None,
            Some(value) => {
                Some(Table::try_from(value).map_err(|error| format!("settings: {error}"))?)
            }
        };
        Ok(Terms { name: self.name.filter(|name| !name.is_empty()), lifetime, settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Terms, String> {
        serde_json::from_str::<Spelled>(text).unwrap().terms()
    }

    #[test]
    fn what_is_not_said_is_as_it_was_asked_for_and_nonsense_is_refused() {
        assert_eq!(read("{}").unwrap(), Terms::default());
        assert_eq!(
            read(r#"{"lifetime_seconds":0,"name":"","settings":null}"#).unwrap(),
            Terms::default()
        );
        let terms = read(r#"{"name":"a/b","lifetime_seconds":1.5,"settings":{"graph":"none"}}"#);
        let terms = terms.unwrap();
        assert_eq!(terms.name.as_deref(), Some("a/b"));
        assert_eq!(terms.lifetime, Some(Duration::from_millis(1500)));
        assert_eq!(terms.settings.unwrap()["graph"].as_str(), Some("none"));
        assert!(read(r#"{"lifetime_seconds":-1}"#).is_err());
        assert!(read(r#"{"settings":{"graph":null}}"#).is_err());
        assert!(read(r#"{"settings":[1]}"#).is_err());
    }
}
