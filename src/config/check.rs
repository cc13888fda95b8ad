//! Rules that hold between settings.

use regex::{Regex, RegexBuilder};

use super::layers::LoadError;
use super::{Role, Settings};

/// The key of the settings for streams that no other key names.
pub const ALL_OTHERS: &str = "all_others";

/// Bytes that a compiled expression may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Keys of streams that may be expressions; each is tried for each stream that has no key of its own.
const PATTERNS_MAX: usize = 1000;

pub(super) fn check(settings: &Settings) -> Result<(), LoadError> {
    if settings.roles.is_empty() {
        return Err(LoadError::Conflict(
            "roles is empty: name gateway, orchestrator or both".into(),
        ));
    }
    if settings.tls.certificate.as_os_str().is_empty() != settings.tls.key.as_os_str().is_empty() {
        return Err(LoadError::Conflict("tls.certificate and tls.key go together".into()));
    }
    crate::access::check(&settings.auth).map_err(LoadError::Conflict)?;
    let guarded = settings.auth.guards_publishing();
    if settings.public && settings.roles.contains(&Role::Gateway) && !guarded {
        return Err(LoadError::Conflict(
            "public needs auth.publish_password, auth.users, auth.jwt.jwks or auth.webhook.url: \
             without one anybody could publish here"
                .into(),
        ));
    }
    let patterns = settings.streams.keys().filter(|key| key.starts_with('~')).count();
    if patterns > PATTERNS_MAX {
        return Err(LoadError::Conflict(format!(
            "streams: {patterns} regular expressions, at most {PATTERNS_MAX} are allowed"
        )));
    }
    for (name, stream) in &settings.streams {
        let conflict = |reason: String| LoadError::Conflict(format!("streams.{name:?}: {reason}"));
        if pattern(name).map_err(conflict)?.is_none() && name != ALL_OTHERS {
            ingest::StreamName::parse(name).map_err(|error| conflict(error.to_string()))?;
        }
        if let Some(source) = stream.source.as_deref().filter(|s| *s != "demo") {
            return Err(LoadError::Conflict(format!(
                "streams.{name:?}.source: {source:?} is not known, only \"demo\" is"
            )));
        }
    }
    Ok(())
}

/// The regular expression that a stream's key is, or `None` where it is a plain name.
///
/// # Errors
/// What is wrong with the expression.
pub fn pattern(key: &str) -> Result<Option<Regex>, String> {
    let Some(text) = key.strip_prefix('~') else { return Ok(None) };
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    built.map(Some).map_err(|error| error.to_string())
}
