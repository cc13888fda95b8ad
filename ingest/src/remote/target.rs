//! The URL of a remote end, which never shows its secrets.

use std::fmt;

use url::Url;

use super::Error;

/// Longest URL in bytes.
const URL_BYTES_MAX: usize = 4096;

/// Keys of a query whose values may be shown; what is not known may be a credential.
const SHOWN: [&str; 9] = [
    "interface",
    "latency",
    "localaddr",
    "mode",
    "pbkeylen",
    "pkt_size",
    "source",
    "transport",
    "transtype",
];

/// Where a stream is pulled from or pushed to. What it shows of itself holds no user, password,
/// token, stream id or stream key.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    /// Whether the end of the path lets publish, as with RTMP.
    secret_path: bool,
}

impl Target {
    /// Reads the URL of a source.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > URL_BYTES_MAX {
            let why = format!("it has {} bytes, at most {URL_BYTES_MAX} are allowed", text.len());
            return Err(Error::Target { target: "the URL".into(), why });
        }
        let url = Url::parse(text).map_err(|error| Error::Target {
            // The text itself may hold a password.
            target: text.split(':').next().unwrap_or_default().chars().take(16).collect(),
            why: error.to_string(),
        })?;
        Ok(Self { url, secret_path: false })
    }

    /// Reads the URL that is pushed to. With RTMP the end of its path is a key, and is not shown.
    ///
    /// # Errors
    /// [`Error::Target`].
    pub fn for_push(text: &str) -> Result<Self, Error> {
        let target = Self::parse(text)?;
        let secret_path = matches!(target.scheme(), "rtmp" | "rtmps");
        Ok(Self { secret_path, ..target })
    }

    /// The URL with everything in it. Not for logs.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Its scheme, `srt` say.
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Host without brackets, and port.
    ///
    /// # Errors
    /// [`Error::Target`] when there is no host.
    pub fn address(&self, default_port: u16) -> Result<(&str, u16), Error> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(self.fault("it names no host"));
        }
        Ok((host, self.url.port_or_known_default().unwrap_or(default_port)))
    }

    /// User and password, percent-decoded, if there are any.
    pub fn credentials(&self) -> Option<(String, String)> {
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        if user.is_empty() && password.is_empty() {
            return None;
        }
        Some((decoded(user), decoded(password)))
    }

    /// What is wrong with it, as an error.
    pub fn fault(&self, why: impl Into<String>) -> Error {
        Error::Target { target: self.to_string(), why: why.into() }
    }
}

/// Percent-decodes a part of a URL; `+` stays what it is.
fn decoded(text: &str) -> String {
    let pair = text.replace('+', "%2B");
    let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
    decoded.map(|(key, _)| key.into_owned()).unwrap_or_default()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.url.cannot_be_a_base() {
            return write!(f, "{}:", self.url.scheme());
        }
        write!(f, "{}://", self.url.scheme())?;
        if !self.url.username().is_empty() || self.url.password().is_some() {
            f.write_str("***@")?;
        }
        f.write_str(self.url.host_str().unwrap_or_default())?;
        if let Some(port) = self.url.port() {
            write!(f, ":{port}")?;
        }
        match self.url.path().rsplit_once('/') {
            Some((before, key)) if self.secret_path && !key.is_empty() => {
                write!(f, "{before}/***")?;
            }
            _ => f.write_str(self.url.path())?,
        }
        let mut mark = '?';
        for (key, value) in self.url.query_pairs() {
            if SHOWN.contains(&key.as_ref()) {
                write!(f, "{mark}{key}={value}")?;
            } else {
                write!(f, "{mark}{key}=***")?;
            }
            mark = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_shows_where_it_leads_and_no_secret() {
        let shown = |text: &str| format!("{:?}", Target::parse(text).unwrap());
        assert_eq!(shown("rtsp://u:p@cam.local:554/live"), "Target(rtsp://***@cam.local:554/live)");
        assert_eq!(
            shown("srt://h:8890?streamid=publish:a:u:p&passphrase=abcdefghij&latency=200"),
            "Target(srt://h:8890?streamid=***&passphrase=***&latency=200)"
        );
        let push = Target::for_push("rtmp://a.example/live2/abcd-efgh").unwrap();
        assert_eq!(push.to_string(), "rtmp://a.example/live2/***");
        assert_eq!(push.address(1935).unwrap(), ("a.example", 1935));
        let error = Target::parse("rtsp://u:secret@:x/").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(Target::parse(&format!("rtsp://{}", "x".repeat(5000))).is_err());
    }

    #[test]
    fn credentials_are_decoded() {
        let target = Target::parse("rtsp://a%40b:p%3A+%26x@h/").unwrap();
        assert_eq!(target.credentials(), Some(("a@b".into(), "p:+&x".into())));
        assert_eq!(Target::parse("rtsp://h/").unwrap().credentials(), None);
        assert_eq!(Target::parse("rtsp://[::1]:8554/").unwrap().address(554).unwrap().0, "::1");
    }
}
