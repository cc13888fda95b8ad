//! Names of streams and the rules they obey.

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

/// What stands before the number of a publisher's further sound.
const SOUND_MARK: &str = "~audio";

/// Further sounds of a publisher are numbered from 1 to this.
pub const SOUNDS_MAX: u8 = 8;

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
    /// A publisher chose the name of another's further sound.
    #[error(
        "names ending in \"{SOUND_MARK}1\" to \"{SOUND_MARK}{SOUNDS_MAX}\" belong to the further sounds of a stream"
    )]
    Sound,
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

    /// Checks a name that a publisher chose: [`Self::parse`] and no `-out` or `~audio1` at the end.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn for_publisher(text: &str) -> Result<Self, NameError> {
        let name = Self::parse(text)?;
        match (name.is_out(), name.sound()) {
            (true, _) => Err(NameError::Out),
            (_, Some(_)) => Err(NameError::Sound),
            _ => Ok(name),
        }
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

    /// This stream's pictures with the further sound of this number, from 1 to [`SOUNDS_MAX`], that
    /// its publisher sends: `cam~audio1`. Unlike other forms it can be asked for by this name.
    #[must_use]
    pub fn of_sound(&self, number: u8) -> Self {
        Self(format!("{}{SOUND_MARK}{number}", self.0).into())
    }

    /// The number of the further sound that this names, if it names one or a form of one.
    pub fn sound(&self) -> Option<u8> {
        self.split_sound().map(|(_, number)| number)
    }

    /// The stream whose publisher sends the further sound that this names, or the same name.
    #[must_use]
    pub fn without_sound(&self) -> Self {
        self.split_sound().map_or_else(|| self.clone(), |(stream, _)| Self(stream.into()))
    }

    fn split_sound(&self) -> Option<(&str, u8)> {
        let (stream, number) = self.0.split('#').next()?.rsplit_once(SOUND_MARK)?;
        let digit = |text: &str| match text.as_bytes() {
            [digit @ b'1'..=b'9'] => Some(digit - b'0'),
            _ => None,
        };
        let number = digit(number).filter(|number| *number <= SOUNDS_MAX)?;
        (!stream.is_empty() && !stream.ends_with('/')).then_some((stream, number))
    }

    /// Whether this names a form of another stream: one made for a kind of reader, a rendition, or
    /// one with a further sound.
    pub fn is_derived(&self) -> bool {
        self.0.contains('#') || self.split_sound().is_some()
    }

    /// Whether this is a form that follows the stream over its publishers: its readers are counted
    /// where it reads.
    pub fn is_always(&self) -> bool {
        self.0.rsplit_once('#').is_some_and(|(_, kind)| kind.starts_with("always"))
    }

    /// The stream that this is a form of, or the whole name. Who may read that may read this.
    pub fn base(&self) -> &str {
        match self.split_sound() {
            Some((stream, _)) => stream,
            None => self.0.split('#').next().unwrap_or_default(),
        }
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

    #[test]
    fn a_further_sound_has_a_name_that_readers_may_say_and_publishers_may_not() {
        let cam = StreamName::parse("studio/cam").unwrap();
        let german = cam.of_sound(1);
        assert_eq!(german.as_str(), "studio/cam~audio1");
        assert_eq!(StreamName::parse("studio/cam~audio1"), Ok(german.clone()));
        assert_eq!(StreamName::for_publisher("studio/cam~audio1"), Err(NameError::Sound));
        assert_eq!((german.sound(), german.base()), (Some(1), "studio/cam"));
        assert_eq!(german.without_sound(), cam);
        assert!(german.is_derived() && !cam.is_derived());
        let form = german.derived("h264+opus");
        assert_eq!((form.sound(), form.base()), (Some(1), "studio/cam"));
        for plain in
            ["cam~audio", "cam~audio0", "cam~audio9", "cam~audio01", "~audio1", "a/~audio1"]
        {
            let name = StreamName::for_publisher(plain).unwrap();
            assert_eq!((name.sound(), name.base()), (None, plain));
        }
    }
}
