//! A question to those who decide: who wants what, and what proves it.

use std::net::IpAddr;

use crate::config::Right;

/// Who asks for what with which credentials.
pub struct Asked<'a> {
    /// What for.
    pub right: Right,
    /// The stream, or empty.
    pub stream: &'a str,
    /// The peer.
    pub ip: IpAddr,
    /// User name, or empty.
    pub user: &'a str,
    /// Password, or empty.
    pub password: &'a str,
    /// Bearer token, or empty.
    pub token: &'a str,
    /// The URL's query.
    pub query: &'a str,
}

impl Asked<'_> {
    /// What may be a token: sent as one, as a password or in the query.
    pub(super) fn bearer(&self) -> impl Iterator<Item = String> {
        let in_query = url::form_urlencoded::parse(self.query.as_bytes())
            .filter(|(key, _)| key == "jwt" || key == "token")
            .map(|(_, value)| value.into_owned());
        let given = [self.token, self.password].map(str::to_owned).into_iter().chain(in_query);
        given.filter(|text| !text.is_empty()).collect::<Vec<_>>().into_iter()
    }

    /// Whether there is nothing by which somebody could be known.
    pub(super) fn gives_nothing(&self) -> bool {
        self.user.is_empty() && self.bearer().next().is_none()
    }
}
