//! Rules that hold between settings.

use regex::{Regex, RegexBuilder};

use super::layers::LoadError;
use super::{Role, Settings, Stream, remote, rendition, srt};

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
    if settings.acme.is_on() && !settings.tls.certificate.as_os_str().is_empty() {
        return Err(LoadError::Conflict(
            "tls.certificate and acme.domains: the certificate comes from one of them".into(),
        ));
    }
    settings.acme.check().map_err(LoadError::Conflict)?;
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
    settings.srt.check().map_err(LoadError::Conflict)?;
    srt::check_passphrases(&settings.stream_defaults)
        .map_err(|reason| LoadError::Conflict(format!("stream_defaults.{reason}")))?;
    check_recording(&settings.stream_defaults)
        .map_err(|reason| LoadError::Conflict(format!("stream_defaults.{reason}")))?;
    for (name, stream) in &settings.streams {
        check_recording(stream)
            .map_err(|reason| LoadError::Conflict(format!("streams.{name:?}.{reason}")))?;
        let conflict = |reason: String| LoadError::Conflict(format!("streams.{name:?}: {reason}"));
        let many = pattern(name).map_err(conflict)?.is_some() || name == ALL_OTHERS;
        if !many {
            ingest::StreamName::parse(name).map_err(|error| conflict(error.to_string()))?;
        }
        srt::check_passphrases(stream).map_err(conflict)?;
        remote::check(stream, many).map_err(conflict)?;
        rendition::check(stream.renditions.as_deref().unwrap_or_default()).map_err(conflict)?;
    }
    let conflict = |reason: String| LoadError::Conflict(format!("stream_defaults: {reason}"));
    remote::check(&settings.stream_defaults, true).map_err(conflict)?;
    let renditions = settings.stream_defaults.renditions.as_deref().unwrap_or_default();
    rendition::check(renditions).map_err(conflict)?;
    Ok(())
}

/// Shortest and longest part of a recording in milliseconds. Parts of a minute hold 60 s of pictures
/// in memory.
const PART_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// Longest segment of a recording in seconds: what the head of a file can say.
const SEGMENT_SECONDS_MAX: u64 = 12 * 3600;

/// Checks the settings that one stream has while its publisher writes.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check_stream(stream: &Stream) -> Result<(), String> {
    check_recording(stream)?;
    srt::check_passphrases(stream)?;
    remote::check(stream, false)?;
    rendition::check(stream.renditions.as_deref().unwrap_or_default())
}

fn check_recording(stream: &Stream) -> Result<(), String> {
    let fault = |key: &str, why: String| Err(format!("{key}: {why}"));
    if let Some(path) = &stream.record_path
        && let Err(error) = ingest::record::Template::parse(path)
    {
        return fault("record_path", error.to_string());
    }
    if let Some(part) = stream.record_part_ms.filter(|part| !PART_MS.contains(part)) {
        let (low, high) = PART_MS.into_inner();
        return fault("record_part_ms", format!("{part} is not from {low} to {high}"));
    }
    let segment = stream.record_segment_seconds;
    if let Some(segment) = segment.filter(|s| !(1..=SEGMENT_SECONDS_MAX).contains(s)) {
        let why = format!("{segment} is not from 1 to {SEGMENT_SECONDS_MAX}");
        return fault("record_segment_seconds", why);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_for_streams_are_limited_in_number_and_size() {
        assert!(pattern("~^cam[0-9]+$").unwrap().is_some());
        assert!(pattern("~(a{999}){999}").is_err(), "a program of megabytes");
        let mut settings = Settings::default();
        let many = (0..=PATTERNS_MAX).map(|n| (format!("~^cam{n}$"), Stream::default()));
        settings.streams.extend(many);
        let error = check(&settings).unwrap_err().to_string();
        assert!(error.contains("1001 regular expressions"), "{error}");
    }
}
