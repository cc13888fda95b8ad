//! What an `rtmp://` or `rtmps://` URL means to a server: application, stream key, and the address
//! that `connect` repeats.
//!
//! The path is divided as FFmpeg divides it, since that is what servers' manuals assume: the last
//! part, or what follows the second, is the key. Our own server and MediaMTX join both again.

use url::Url;

/// Whom a call is for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The application, with the query where there is no key.
    pub(crate) app: String,
    /// The stream key with its query, or empty.
    pub(crate) key: String,
    /// Scheme, host, port if one was given, and application; no credentials.
    pub(crate) tc_url: String,
}

impl Address {
    /// Reads a URL; `None` when it names no application.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let path = url.path().trim_matches('/');
        if path.is_empty() || !matches!(url.scheme(), "rtmp" | "rtmps") {
            return None;
        }
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let (app, key) = match parts[..] {
            [app] => (app.to_owned(), String::new()),
            [app, key] => (app.to_owned(), key.to_owned()),
            [app, instance, key] => (format!("{app}/{instance}"), key.to_owned()),
            _ => return None,
        };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let tc_url = format!("{}://{}{port}/{app}", url.scheme(), url.host_str()?);
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(match key.is_empty() {
            true => Self { app: format!("{app}{query}"), key, tc_url },
            false => Self { app, key: format!("{key}{query}"), tc_url },
        })
    }

    /// The same with what a login asks for in application and address.
    pub(crate) fn with_login(&self, login: &str) -> Self {
        let app = match self.app.contains('?') {
            true => format!("{}&{}", self.app, login.trim_start_matches('?')),
            false => format!("{}{login}", self.app),
        };
        Self { app, key: self.key.clone(), tc_url: format!("{}{login}", self.tc_url) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_divided_as_servers_expect_it() {
        let of = |text: &str| {
            let address = Address::of(&Url::parse(text).unwrap())?;
            Some([address.app, address.key, address.tc_url])
        };
        let some = |app: &str, key: &str, tc_url: &str| Some([app, key, tc_url].map(str::to_owned));
        assert_eq!(of("rtmp://h/live2/abcd-ef"), some("live2", "abcd-ef", "rtmp://h/live2"));
        assert_eq!(
            of("rtmps://u:p@h:443/rtmp/KEY?s_bl=1&x=2"),
            some("rtmp", "KEY?s_bl=1&x=2", "rtmps://h:443/rtmp")
        );
        assert_eq!(of("rtmp://h/a/b/c/d"), some("a/b", "c/d", "rtmp://h/a/b"));
        assert_eq!(of("rtmp://h/cam?user=u&pass=p"), some("cam?user=u&pass=p", "", "rtmp://h/cam"));
        assert_eq!(of("rtmp://[::1]:19/cam/"), some("cam", "", "rtmp://[::1]:19/cam"));
        assert_eq!(of("rtmp://h/"), None);
        assert_eq!(of("http://h/cam"), None);
    }

    #[test]
    fn a_login_joins_what_is_there() {
        let address = Address::of(&Url::parse("rtmp://h/cam?a=1").unwrap()).unwrap();
        let login = address.with_login("?authmod=adobe&user=me");
        assert_eq!(login.app, "cam?a=1&authmod=adobe&user=me");
        assert_eq!(login.tc_url, "rtmp://h/cam?authmod=adobe&user=me");
    }
}
