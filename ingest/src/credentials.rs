//! Who asks, by the headers and query of an HTTP request.
//!
//! Taken, in this order: `Authorization: Bearer` with a token, or with `user:password` as players
//! without a user field send it; `Authorization: Basic`; `?user=&pass=`; `?token=` or `?jwt=`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The longest header or parameter that is looked at, in bytes.
const BYTES_MAX: usize = 8 << 10;

/// What was found; fields are empty where nothing was.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password. Never logged.
    pub password: String,
    /// Bearer token. Never logged.
    pub token: String,
}

impl Credentials {
    /// Reads a request's credentials.
    pub fn of(headers: &HeaderMap, query: &str) -> Self {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        header.and_then(Self::of_header).unwrap_or_else(|| Self::of_query(query))
    }

    fn of_header(header: &str) -> Option<Self> {
        let (scheme, value) = header.split_once(' ').filter(|_| header.len() <= BYTES_MAX)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(match value.split_once(':') {
                Some((user, password)) => Self::named(user, password),
                None => Self { token: value.to_owned(), ..Self::default() },
            });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let pair = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
            let (user, password) = pair.split_once(':')?;
            return Some(Self::named(user, password));
        }
        None
    }

    fn of_query(query: &str) -> Self {
        let mut found = Self::default();
        if query.len() > BYTES_MAX {
            return found;
        }
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "user" => found.user = value.into_owned(),
                "pass" => found.password = value.into_owned(),
                "token" | "jwt" => found.token = value.into_owned(),
                _ => {}
            }
        }
        found
    }

    fn named(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), token: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_credentials_is_read() {
        let check = |header: &str, query: &str, wanted: [&str; 3]| {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert(AUTHORIZATION, header.parse().unwrap());
            }
            let found = Credentials::of(&headers, query);
            assert_eq!(
                [&found.user[..], &found.password, &found.token],
                wanted,
                "{header} {query}"
            );
        };
        check("Bearer abc.def", "", ["", "", "abc.def"]);
        check("bearer me:secret", "", ["me", "secret", ""]);
        check("Basic bWU6c2VjOnJldA==", "", ["me", "sec:ret", ""]);
        check("Basic !!", "user=u&pass=p%20q", ["u", "p q", ""]);
        check("", "token=t", ["", "", "t"]);
        check("Bearer t", "user=u&pass=p", ["", "", "t"]);
        check("", "", ["", "", ""]);
        let long = "x".repeat(BYTES_MAX);
        check(&format!("Bearer {long}"), "", ["", "", ""]);
        check("", &format!("token={long}"), ["", "", ""]);
    }
}
