//! Settings of sources at other servers and of pushes to them, and the rules that hold for them.

use ingest::remote::{Fingerprint, Target};
use serde::{Deserialize, Serialize};

use super::settings::Stream;

/// Schemes of URLs that can be a stream's source.
pub const SOURCE_SCHEMES: &[&str] = &[
    "file",
    "http",
    "https",
    "rtmp",
    "rtmps",
    "rtsp",
    "rtsps",
    "srt",
    "udp",
    "udp+mpegts",
    "whep",
    "wheps",
];

/// Schemes of URLs that can be pushed to.
pub const PUSH_SCHEMES: &[&str] = &["rtmp", "rtmps", "rtsp", "rtsps", "srt", "whip", "whips"];

/// Destinations of one stream.
const PUSHES_MAX: usize = 32;

/// How media travels, where the protocol has a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// What the protocol tries first, then the others.
    #[default]
    Automatic,
    /// Inside the connection.
    Tcp,
    /// Datagrams to this node.
    Udp,
    /// Datagrams to a group.
    Multicast,
}

/// A server that a stream is pushed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// Where to, with user, password or key.
    pub url: String,
    /// Push the processed stream (`{name}-out`) instead of the published one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub processed: bool,
    /// SHA-256 of the certificate to accept; empty: as the system trusts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// PEM file of the certificate authority to trust instead of the system's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// Bearer token, for destinations over HTTP.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bearer: String,
    /// How the media travels.
    #[serde(skip_serializing_if = "is_automatic")]
    pub transport: Transport,
}

fn is_automatic(transport: &Transport) -> bool {
    *transport == Transport::Automatic
}

/// Checks what a stream's settings say of its source and its pushes. `many` when the key stands
/// for any number of streams.
pub(super) fn check(stream: &Stream, many: bool) -> Result<(), String> {
    let on_demand = stream.source_on_demand == Some(true);
    if let Some(source) = stream.source.as_deref().filter(|source| !source.is_empty()) {
        if source != "demo" {
            check_url(source, SOURCE_SCHEMES, "source")?;
        }
        if many && !on_demand {
            return Err("source needs source_on_demand = true where it stands for many streams: \
                        which of them exist is known only when somebody watches one"
                .into());
        }
    }
    check_fingerprint(stream.source_fingerprint.as_deref().unwrap_or_default())?;
    let pushes = stream.pushes.as_deref().unwrap_or_default();
    if pushes.len() > PUSHES_MAX {
        return Err(format!("{} pushes, at most {PUSHES_MAX} are allowed", pushes.len()));
    }
    pushes.iter().try_for_each(check_push)
}

/// Checks a destination.
fn check_push(push: &Push) -> Result<(), String> {
    check_url(&push.url, PUSH_SCHEMES, "push")?;
    check_fingerprint(&push.fingerprint)
}

fn check_fingerprint(text: &str) -> Result<(), String> {
    if text.is_empty() || Fingerprint::parse(text).is_some() {
        return Ok(());
    }
    Err(format!("fingerprint {text:?} is not the SHA-256 of a certificate in hexadecimal"))
}

fn check_url(text: &str, schemes: &[&str], what: &str) -> Result<(), String> {
    // What groups of an expression put in is not known yet.
    let mut sample = text.to_owned();
    for group in 1..=9 {
        sample = sample.replace(&format!("$G{group}"), "1");
    }
    let target = Target::parse(&sample).map_err(|error| format!("{what}: {error}"))?;
    if schemes.contains(&target.scheme()) {
        return Ok(());
    }
    let known = schemes.join(", ");
    Err(format!("{what}: {:?} is none of the known schemes: {known}", target.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> Stream {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_source_that_cannot_work_is_refused_with_the_reason() {
        let fault = |text: &str, many| check(&stream(text), many).unwrap_err();
        assert!(check(&stream("source = \"demo\""), false).is_ok());
        assert!(
            check(&stream("source = \"srt://$G1.cam:$G2/\"\nsource_on_demand = true"), true)
                .is_ok()
        );
        assert!(fault("source = \"srt://h:1\"", true).contains("source_on_demand"));
        assert!(fault("source = \"gopher://h\"", false).contains("known schemes"));
        assert!(fault("source = \"no url\"", false).contains("source"));
        assert!(fault("source_fingerprint = \"ab\"", false).contains("SHA-256"));
    }

    #[test]
    fn a_push_is_checked_and_shows_no_secret_in_the_reason() {
        let fault = |text: &str| check(&stream(text), false).unwrap_err();
        assert!(
            check(&stream("pushes = [{ url = \"srt://h:1?passphrase=abcdefghij\" }]"), false)
                .is_ok()
        );
        let reason = fault("pushes = [{ url = \"gopher://u:secret@h\" }]");
        assert!(reason.contains("gopher") && !reason.contains("secret"), "{reason}");
        assert!(toml::from_str::<Stream>("pushes = [{ uri = \"srt://h:1\" }]").is_err());
    }
}
