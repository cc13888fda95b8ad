//! ICE servers that clients are told of in `Link` headers (RFC 9725 4.6): STUN, and TURN with fixed
//! credentials or with such that end (draft-uberti-behave-turn-rest-00, `use-auth-secret` of coturn).
//!
//! We need none of them: every session's candidates are public or on the way to us. They are for
//! clients behind firewalls that let nothing through but their own relay.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:host:port`, `turn:host:port?transport=udp` or `turns:...` (RFC 7064, RFC 7065).
    pub url: String,
    /// How clients are let in.
    pub login: Login,
}

/// How a server lets clients in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Everybody.
    Open,
    /// One user for all.
    Fixed {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A user for each session, whose name says until when, under a secret that the TURN server
    /// knows too.
    Timed {
        /// What both share.
        secret: String,
        /// How long a client may use it.
        lifetime: Duration,
    },
}

/// Without passwords.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Fixed { .. } => "Fixed",
            Self::Timed { .. } => "Timed",
        })
    }
}

impl IceServer {
    /// The value of a `Link` header for the session `id`.
    pub(crate) fn link(&self, now: SystemTime, id: &str) -> String {
        let url = &self.url;
        let (user, password) = match &self.login {
            Login::Open => return format!("<{url}>; rel=\"ice-server\""),
            Login::Fixed { user, password } => (user.clone(), password.clone()),
            Login::Timed { secret, lifetime } => timed(secret, now + *lifetime, id),
        };
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        format!(
            "<{url}>; rel=\"ice-server\"; username=\"{}\"; credential=\"{}\"; \
             credential-type=\"password\"",
            quoted(&user),
            quoted(&password)
        )
    }
}

/// Name and password of one who may come until `end`.
fn timed(secret: &str, end: SystemTime, id: &str) -> (String, String) {
    let seconds = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let user = format!("{seconds}:{id}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let password = STANDARD.encode(hmac::sign(&key, user.as_bytes()));
    (user, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_end_and_are_those_that_a_turn_server_computes() {
        let login = Login::Timed { secret: "north".into(), lifetime: Duration::from_secs(3600) };
        let server = IceServer { url: "turn:relay.example:3478?transport=udp".into(), login };
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        // echo -n 1700003600:abc | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(
            server.link(now, "abc"),
            "<turn:relay.example:3478?transport=udp>; rel=\"ice-server\"; \
             username=\"1700003600:abc\"; credential=\"IMSPYGMI9e0aXDFcZousOwkA8N0=\"; \
             credential-type=\"password\""
        );
        assert!(!format!("{server:?}").contains("north"));
    }

    #[test]
    fn quotes_in_a_password_do_not_end_it() {
        let login = Login::Fixed { user: "a".into(), password: "p\"q".into() };
        let link = IceServer { url: "turn:h".into(), login }.link(UNIX_EPOCH, "");
        assert!(link.contains("credential=\"p\\\"q\";"), "{link}");
        let open = IceServer { url: "stun:h".into(), login: Login::Open };
        assert_eq!(open.link(UNIX_EPOCH, ""), "<stun:h>; rel=\"ice-server\"");
    }
}
