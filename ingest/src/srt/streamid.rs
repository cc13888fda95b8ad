//! What a caller wants, as its stream id says it: `publish:cam:user:password?query`-like words in
//! MediaMTX's order, or the access control form `#!::m=publish,r=cam,u=user,s=password`
//! (draft-sharabayko-srt-01, Appendix B).

use crate::auth::Action;
use crate::name::{NameError, StreamName};

/// A stream id, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamId {
    /// Whether it publishes.
    pub action: Action,
    /// The stream.
    pub name: StreamName,
    /// User name, or empty.
    pub user: String,
    /// Password, or empty. Never logged.
    pub password: String,
    /// Token, or empty. Never logged.
    pub token: String,
    /// What the client adds for the owner's callback. Never logged.
    pub query: String,
}

/// Why a stream id says nothing. Carries no part of it that could be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamIdError {
    /// Empty, and no default stream is set.
    #[error("there is no stream id, and no default stream is set")]
    Empty,
    /// Neither of the two forms.
    #[error("the stream id begins neither with publish: or read: nor with #!::")]
    Form,
    /// `m=` is neither `publish` nor `request`.
    #[error("the stream id's mode is neither publish nor request")]
    Mode,
    /// The stream's name breaks a rule.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl StreamId {
    /// Reads a stream id. One without mode reads, as the access control form says; one that is
    /// empty publishes to `default`, which is for encoders that cannot send any.
    ///
    /// # Errors
    /// [`StreamIdError`].
    pub fn parse(text: &str, default: Option<&StreamName>) -> Result<Self, StreamIdError> {
        if text.is_empty() {
            let name = default.cloned().ok_or(StreamIdError::Empty)?;
            return Ok(Self::new(Action::Publish, name));
        }
        if let Some(pairs) = text.strip_prefix("#!::") {
            return Self::pairs(pairs);
        }
        // Everything behind the fourth colon is the query, which may have colons of its own.
        let mut words = text.splitn(5, ':');
        let action = match words.next() {
            Some("publish") => Action::Publish,
            Some("read" | "request" | "play") => Action::Read,
            _ => return Err(StreamIdError::Form),
        };
        let path = words.next().ok_or(StreamIdError::Form)?;
        let mut word = || words.next().unwrap_or_default().to_owned();
        let mut found = Self::new(action, name(action, path)?);
        (found.user, found.password, found.query) = (word(), word(), word());
        Ok(found)
    }

    fn new(action: Action, name: StreamName) -> Self {
        let [user, password, token, query] = [const { String::new() }; 4];
        Self { action, name, user, password, token, query }
    }

    fn pairs(text: &str) -> Result<Self, StreamIdError> {
        let [mut mode, mut path] = ["request", ""];
        let [mut user, mut password, mut token, mut query] = [""; 4];
        for (key, value) in text.split(',').filter_map(|pair| pair.split_once('=')) {
            match key {
                "m" => mode = value,
                "r" => path = value,
                "u" => user = value,
                "s" | "p" => password = value,
                "jwt" | "token" => token = value,
                "q" => query = value,
                // h (host), t (type) and keys of others.
                _ => {}
            }
        }
        let action = match mode {
            "publish" => Action::Publish,
            "request" | "read" | "play" => Action::Read,
            _ => return Err(StreamIdError::Mode),
        };
        let mut found = Self::new(action, name(action, path)?);
        [found.user, found.password] = [user, password].map(str::to_owned);
        [found.token, found.query] = [token, query].map(str::to_owned);
        Ok(found)
    }
}

fn name(action: Action, path: &str) -> Result<StreamName, NameError> {
    match action {
        Action::Publish => StreamName::for_publisher(path),
        _ => StreamName::parse(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<(Action, String, [String; 4]), StreamIdError> {
        let id = StreamId::parse(text, None)?;
        Ok((id.action, id.name.to_string(), [id.user, id.password, id.token, id.query]))
    }

    fn words(a: &str, b: &str, c: &str, d: &str) -> [String; 4] {
        [a, b, c, d].map(str::to_owned)
    }

    #[test]
    fn both_spellings_are_read() {
        let good = |text, action, name: &str, rest| {
            assert_eq!(said(text), Ok((action, name.to_owned(), rest)), "{text}");
        };
        good("publish:cam", Action::Publish, "cam", words("", "", "", ""));
        good("read:studio/cam-out", Action::Read, "studio/cam-out", words("", "", "", ""));
        good("publish:cam:tom:secret", Action::Publish, "cam", words("tom", "secret", "", ""));
        good(
            "publish:cam:tom:secret:a=b:c&d",
            Action::Publish,
            "cam",
            words("tom", "secret", "", "a=b:c&d"),
        );
        good(
            "#!::m=publish,r=studio/cam,u=tom,s=secret",
            Action::Publish,
            "studio/cam",
            words("tom", "secret", "", ""),
        );
        good("#!::r=studio/cam,h=x,t=stream,s=", Action::Read, "studio/cam", words("", "", "", ""));
    }

    #[test]
    fn what_says_nothing_is_refused_without_repeating_it() {
        assert_eq!(said(""), Err(StreamIdError::Empty));
        assert_eq!(said("cam"), Err(StreamIdError::Form));
        assert_eq!(said("publish"), Err(StreamIdError::Form));
        assert_eq!(said("#!::m=bidirectional,r=cam"), Err(StreamIdError::Mode));
        assert_eq!(said("#!::m=publish"), Err(StreamIdError::Name(NameError::Empty)));
        assert_eq!(said("publish:cam-out"), Err(StreamIdError::Name(NameError::Out)));
        assert!(matches!(said("publish:../cam"), Err(StreamIdError::Name(_))));
    }

    #[test]
    fn an_encoder_without_stream_id_publishes_the_default() {
        let name = StreamName::parse("encoder").unwrap();
        let id = StreamId::parse("", Some(&name)).unwrap();
        assert_eq!((id.action, id.name), (Action::Publish, name));
    }
}
