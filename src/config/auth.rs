//! Who may do what: users, passwords, tokens of an identity provider, the callback.

use serde::{Deserialize, Serialize};

/// Who may do what. Without users, passwords, keys and callback everybody may publish and read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// User name asked of publishers; empty: none.
    pub publish_user: String,
    /// Password asked of publishers, also accepted as a bearer token; plain or a hash.
    pub publish_password: String,
    /// User name asked of viewers; empty: none.
    pub read_user: String,
    /// Password asked of viewers, also accepted as a bearer token; plain or a hash.
    pub read_password: String,
    /// Longest random delay of an answer to wrong credentials, in milliseconds.
    pub failure_delay_ms_max: u64,
    /// Wrong credentials that an address may give at once, and then one each 6 s; 0: any number.
    pub failures_max: u32,
    /// Secret that links are signed with; empty: one kept in the data directory.
    pub link_secret: String,
    /// Callback that decides instead of users and passwords.
    pub webhook: Webhook,
    /// Signed tokens of an identity provider.
    pub jwt: Jwt,
    /// Users and what they may do.
    pub users: Vec<User>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            publish_user: String::new(),
            publish_password: String::new(),
            read_user: String::new(),
            read_password: String::new(),
            failure_delay_ms_max: 2000,
            failures_max: 10,
            link_secret: String::new(),
            webhook: Webhook::default(),
            jwt: Jwt::default(),
            users: Vec::new(),
        }
    }
}

impl Auth {
    /// Whether something says who may publish.
    pub fn guards_publishing(&self) -> bool {
        !self.publish_password.is_empty() || self.guards_all()
    }

    /// Whether something says who may watch.
    pub fn guards_reading(&self) -> bool {
        !self.read_password.is_empty() || self.guards_all()
    }

    fn guards_all(&self) -> bool {
        !self.users.is_empty() || !self.jwt.jwks.is_empty() || !self.webhook.url.is_empty()
    }
}

/// One who may do something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    /// Name; `any`: everybody, without a password.
    pub user: String,
    /// Plain, `argon2:$argon2id$...` (`millstream config hash` makes it) or `sha256:` and base64.
    pub password: String,
    /// Addresses or ranges (`10.0.0.0/8`) that it may come from; empty: any.
    pub ips: Vec<String>,
    /// What it may do.
    pub permissions: Vec<Permission>,
}

/// Something that a user may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// What.
    pub action: Right,
    /// To which stream: a name, or `~` and a regular expression; empty: to all.
    #[serde(default)]
    pub path: String,
}

/// Kinds of things that somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Write a stream.
    Publish,
    /// Watch a stream.
    Read,
    /// Get recordings.
    Playback,
    /// Use console and API.
    Api,
    /// Read the metrics.
    Metrics,
}

impl Right {
    /// The word of the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Playback => "playback",
            Self::Api => "api",
            Self::Metrics => "metrics",
        }
    }
}

/// Tokens signed by an identity provider (RFC 7519), with its keys fetched as RFC 7517 has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// URL of the key set; empty: no such tokens.
    pub jwks: String,
    /// What the claim `iss` must be; empty: anything.
    pub issuer: String,
    /// What the claim `aud` must hold; empty: anything.
    pub audience: String,
    /// The claim that lists what the bearer may do.
    pub claim: String,
    /// Seconds after which the keys are fetched again.
    pub refresh_seconds: u64,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            jwks: String::new(),
            issuer: String::new(),
            audience: String::new(),
            claim: "mediamtx_permissions".into(),
            refresh_seconds: 3600,
        }
    }
}

/// A callback over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Where the question is posted; empty: nowhere.
    pub url: String,
    /// Milliseconds until no answer means no.
    pub timeout_ms: u64,
    /// Secret that questions are signed with; empty: they are not.
    pub secret: String,
}

impl Default for Webhook {
    fn default() -> Self {
        Self { url: String::new(), timeout_ms: 3000, secret: String::new() }
    }
}
