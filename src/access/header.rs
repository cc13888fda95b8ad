//! Credentials in an `Authorization` header (RFC 7617, RFC 6750).

use base64::Engine as _;

/// User and password, or token, from an `Authorization` header.
pub fn from_header(value: &str) -> (String, String, String) {
    if let Some(token) = value.strip_prefix("Bearer ") {
        let token = token.trim();
        let (user, password) = token.split_once(':').unwrap_or_default();
        return (user.into(), password.into(), token.into());
    }
    let decoded = value
        .strip_prefix("Basic ")
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = pair.unwrap_or_default();
    (user.into(), password.into(), String::new())
}
