//! Logins by challenge that servers of old ask for in a refused `connect`: Adobe's (`authmod=adobe`,
//! of Flash Media Server and Wowza) and Limelight's (`authmod=llnw`), as FFmpeg and librtmp know
//! them. There is no other specification.
//!
//! Each answer of the server leads to a new connection with more in its query: first the user's
//! name, then what proves the password. Both use MD5; only TLS keeps such a password safe.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};

/// Who logs in.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The user's name.
    pub(crate) user: String,
    /// The password. Never logged.
    pub(crate) password: String,
}

/// What a refusal says about logging in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// Nothing.
    No,
    /// Connect again with this query.
    Again(String),
    /// It will not work, and why.
    Failed(&'static str),
}

/// Reads the description of a refused `connect` to `app`. `chance` is new for each connection.
pub(crate) fn login(
    description: &str,
    app: &str,
    credentials: Option<&Credentials>,
    chance: u32,
) -> Login {
    let adobe = description.contains("authmod=adobe");
    if !adobe && !description.contains("authmod=llnw") {
        return Login::No;
    }
    let Some(Credentials { user, password }) = credentials else {
        return Login::Failed("the server asks for user and password");
    };
    let module = if adobe { "adobe" } else { "llnw" };
    let escaped: String = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
    let asked = description.split_once('?').map(|(_, query)| query);
    let Some(asked) = asked else {
        return Login::Again(format!("?authmod={module}&user={escaped}"));
    };
    // Values are in base64 and are not escaped.
    let value = |name: &str| {
        let pairs = asked.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next().unwrap_or("")
    };
    match value("reason") {
        "needauth" => {}
        "nosuchuser" => return Login::Failed("the server does not know this user"),
        "authfailed" => return Login::Failed("the server says that the password is wrong"),
        _ => return Login::Failed("the server refuses the login"),
    }
    let chance = format!("{chance:08x}");
    Login::Again(match adobe {
        true => {
            let (salt, challenge, opaque) = (value("salt"), value("challenge"), value("opaque"));
            let response = adobe_response([user, salt, password], challenge, opaque, &chance);
            let mut query =
                format!("?authmod=adobe&user={escaped}&challenge={chance}&response={response}");
            if !opaque.is_empty() {
                query.push_str("&opaque=");
                query.push_str(opaque);
            }
            query
        }
        false => {
            let nonce = value("nonce");
            let response = llnw_response(user, password, app, nonce, &chance);
            format!(
                "?authmod=llnw&user={escaped}&nonce={nonce}&cnonce={chance}&nc={COUNT}\
                 &response={response}"
            )
        }
    })
}

/// Limelight's count of requests: each connection makes one.
const COUNT: &str = "00000001";

fn digest(parts: &[&str]) -> [u8; 16] {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn adobe_response(who: [&str; 3], challenge: &str, opaque: &str, chance: &str) -> String {
    let secret = BASE64_STANDARD.encode(digest(&who));
    let theirs = if opaque.is_empty() { challenge } else { opaque };
    BASE64_STANDARD.encode(digest(&[&secret, theirs, chance]))
}

/// HTTP's digest (RFC 2617 3.2.2) with realm `live` and method `publish`.
fn llnw_response(user: &str, password: &str, app: &str, nonce: &str, chance: &str) -> String {
    let app = app.split('?').next().unwrap_or_default();
    let instance = if app.contains('/') { "" } else { "/_definst_" };
    let who = hex::encode(digest(&[user, ":live:", password]));
    let what = hex::encode(digest(&["publish:/", app, instance]));
    let parts = [&who, ":", nonce, ":", COUNT, ":", chance, ":auth:", &what];
    hex::encode(digest(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Credentials {
        Credentials { user: "me".into(), password: "secret".into() }
    }

    #[test]
    fn a_refusal_without_a_login_is_one() {
        assert_eq!(login("no such application", "live", Some(&me()), 1), Login::No);
        let words = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
        assert!(matches!(login(words, "live", None, 1), Login::Failed(_)));
    }

    #[test]
    fn adobes_login_goes_by_name_then_by_response() {
        let words = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
        let first = login(words, "live", Some(&me()), 1);
        assert_eq!(first, Login::Again("?authmod=adobe&user=me".into()));
        let words = "[ AccessManager.Reject ] : [ authmod=adobe ] : \
                     ?reason=needauth&user=me&salt=SA==&challenge=CH==&opaque=OP==";
        // Worked out with Python's hashlib.
        let wanted = "?authmod=adobe&user=me&challenge=0000002a\
                      &response=58JeUSUaM+DltoXrR6WFrQ==&opaque=OP==";
        assert_eq!(login(words, "live", Some(&me()), 42), Login::Again(wanted.into()));
        let words = "[ authmod=adobe ] : ?reason=authfailed&opaque=OP==";
        assert!(matches!(login(words, "live", Some(&me()), 1), Login::Failed(_)));
    }

    #[test]
    fn limelights_login_is_https_digest() {
        let words = "[ code=403 need auth; authmod=llnw ]";
        let first = login(words, "live", Some(&me()), 1);
        assert_eq!(first, Login::Again("?authmod=llnw&user=me".into()));
        let words = "[ authmod=llnw ] : ?reason=needauth&user=me&nonce=NO";
        let wanted = "?authmod=llnw&user=me&nonce=NO&cnonce=0000002a&nc=00000001\
                      &response=304f195f45aa0cc8f9daca1ad6a09363";
        assert_eq!(login(words, "live?x=1", Some(&me()), 42), Login::Again(wanted.into()));
    }
}
