//! Ends at other servers: streams that are pulled from them and pushed to them.
//!
//! Each protocol gives one function each way, and each makes one attempt:
//!
//! ```ignore
//! async fn pull(target: &Target, options: &Options, sink: &Sink, stop: &CancellationToken)
//!     -> Result<Ended, remote::Error>;
//! async fn push(target: &Target, options: &Options, reader: Reader, status: &Status,
//!     stop: &CancellationToken) -> Result<Ended, remote::Error>;
//! ```
//!
//! A pull connects, finds out what there is, and only then claims the stream by [`Sink::publish`],
//! so that a source that is away leaves the name free. A push connects, calls
//! [`Reader::skip_to_key`](crate::hub::Reader::skip_to_key), since connecting took time, sends
//! until [`Item::End`](crate::hub::Item::End), and tells [`Status`] what it sent and left out; the
//! reader's ring is its bounded queue, so a slow server costs the stream nothing. Both return
//! within a second after `stop`.
//!
//! When the next attempt begins, and whether there is one, is decided above, the same way for all
//! protocols.

mod dial;
mod error;
mod sink;
mod status;
mod target;
mod trust;

use std::time::Duration;

pub use dial::{connect, secure};
pub use error::Error;
pub use sink::Sink;
pub use status::{Snapshot, State, Status};
pub use target::Target;
pub use trust::{Fingerprint, Trust};

/// How the media travels, where a protocol has a choice (RTSP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// How a remote end is spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the media travels.
    pub transport: Transport,
    /// Whose certificate is good.
    pub trust: Trust,
    /// Token for protocols over HTTP, or empty.
    pub bearer: Secret,
    /// From the first packet to the connection, and again for what is said until media flows.
    pub connect_timeout: Duration,
    /// Without media from the other side for so long, a pull is over.
    pub idle_timeout: Duration,
    /// When the other side takes nothing for so long, a push is over.
    pub write_timeout: Duration,
}

impl Default for Options {
    /// 10 s each, certificates as the system trusts them.
    fn default() -> Self {
        Self {
            transport: Transport::Automatic,
            trust: Trust::System,
            bearer: Secret::default(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// Redirects that are followed over HTTP.
const REDIRECTS_MAX: usize = 5;

impl Options {
    /// An HTTP client for `target`, to be finished: it believes whom the options do.
    pub(crate) fn http_client(&self, target: &Target) -> Result<reqwest::ClientBuilder, Error> {
        let config = self.trust.client_config(&[b"h2", b"http/1.1"]);
        let config = config.map_err(|why| target.fault(why))?;
        Ok(reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .connect_timeout(self.connect_timeout))
    }

    /// The token for protocols over HTTP, if there is one.
    pub(crate) fn bearer(&self) -> Option<String> {
        Some(self.bearer.0.clone()).filter(|bearer| !bearer.is_empty())
    }
}

/// A text that no log may show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

/// Why an attempt ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The other side said that it has no more, or wants no more.
    ByPeer,
    /// The stream that was pushed is over.
    StreamOver,
    /// Another publisher took the pulled stream's name over.
    Replaced,
    /// It was told to stop.
    Stopped,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ByPeer => "the other side ended it",
            Self::StreamOver => "the stream is over",
            Self::Replaced => "another publisher took the name over",
            Self::Stopped => "stopped",
        })
    }
}
