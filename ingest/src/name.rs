//! Names of streams and the rules they obey (interfaces, section 3).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// First segments that belong to the node's own routes.
pub const RESERVED: [&str; 9] =
    ["v1", "v3", "live", "api", "console", "metrics", "healthz", "readyz", "object_info"];

/// The suffix of a processed stream.
pub const OUT_SUFFIX: &str = "-out";

/// What stands before the publisher's name of a rendition.
const RENDITION_PREFIX: &str = "rid=";

/// Why a text is not the name of a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No characters at all.
    #[error("the stream name is empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("the stream name has {0} bytes, at most {NAME_BYTES_MAX} are allowed")]
    Long(usize),
    /// A character outside `[A-Za-z0-9._~-]`, or an empty, `.` or `..` segment.
    #[error("the stream name segment {0:?} may hold only letters, digits and . _ ~ -")]
    Segment(String),
    /// The first segment is a route of the node.
    #[error("stream names may not begin with {0:?}")]
    Reserved(String),
    /// A publisher chose the name of a processed stream.
    #[error("names ending in {OUT_SUFFIX:?} belong to processed streams")]
    Out,
}

/// A valid stream name: `[A-Za-z0-9._~-]+` segments joined by `/`. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks a name that a reader or the node itself uses. Surrounding slashes are taken off.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim_matches('/');
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::Long(text.len()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        for segment in text.split('/') {
            let dots = segment == "." || segment == "..";
            if segment.is_empty() || dots || !segment.chars().all(plain) {
                return Err(NameError::Segment(segment.chars().take(64).collect()));
            }
        }
        let first = text.split('/').next().unwrap_or_default();
        if RESERVED.contains(&first) || first == "assets" {
            return Err(NameError::Reserved(first.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// Checks a name that a publisher chose: [`Self::parse`] and no `-out` at the end.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn for_publisher(text: &str) -> Result<Self, NameError> {
        let name = Self::parse(text)?;
        if name.is_out() { Err(NameError::Out) } else { Ok(name) }
    }

    /// The processed stream of this one.
    #[must_use]
    pub fn out(&self) -> Self {
        Self(format!("{}{OUT_SUFFIX}", self.0).into())
    }

    /// The published stream that this is the processed form of; `None` for one that is none.
    #[must_use]
    pub fn source(&self) -> Option<Self> {
        let source = self.0.strip_suffix(OUT_SUFFIX)?;
        Self::parse(source).ok()
    }

    /// Whether this is the name of a processed stream.
    pub fn is_out(&self) -> bool {
        self.0.ends_with(OUT_SUFFIX)
    }

    /// A form of this stream made for a kind of reader, `cam#webrtc` say. No listener accepts
    /// such a name and listings leave it out.
    #[must_use]
    pub fn derived(&self, kind: &str) -> Self {
        Self(format!("{}#{kind}", self.0).into())
    }

    /// A smaller rendition of this stream's pictures that its publisher calls `rid`.
    #[must_use]
    pub fn of_rendition(&self, rid: &str) -> Self {
        self.derived(&format!("{RENDITION_PREFIX}{rid}"))
    }

    /// What the publisher calls the rendition that this names, if it names one.
    pub fn rendition(&self) -> Option<&str> {
        self.0.split_once('#')?.1.strip_prefix(RENDITION_PREFIX)
    }

    /// Whether this names a form made for a kind of reader.
    pub fn is_derived(&self) -> bool {
        self.0.contains('#')
    }

    /// Whether this is a form that follows the stream over its publishers: its readers are counted
    /// where it reads.
    pub fn is_always(&self) -> bool {
        self.0.rsplit_once('#').is_some_and(|(_, kind)| kind.starts_with("always"))
    }

    /// The stream that this is a form of, or the whole name.
    pub fn base(&self) -> &str {
        self.0.split('#').next().unwrap_or_default()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for StreamName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> String {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_break_a_rule_are_refused_with_the_rule() {
        let check = |text: &str, wanted: Result<&str, NameError>| {
            assert_eq!(
                StreamName::for_publisher(text),
                wanted.map(|t| StreamName(t.into())),
                "{text}"
            );
        };
        check("cam", Ok("cam"));
        check("/studio/cam~1/", Ok("studio/cam~1"));
        check("", Err(NameError::Empty));
        check("a//b", Err(NameError::Segment(String::new())));
        check("a/../b", Err(NameError::Segment("..".into())));
        check("a b", Err(NameError::Segment("a b".into())));
        check("v3/cam", Err(NameError::Reserved("v3".into())));
        check("assets", Err(NameError::Reserved("assets".into())));
        check("cam-out", Err(NameError::Out));
        check(&"x".repeat(513), Err(NameError::Long(513)));
        assert!(StreamName::parse("cam-out").is_ok_and(|name| name.is_out()));
        assert!(StreamName::parse("cam#webrtc").is_err());
    }
}
