//! Ends at other servers, whatever their protocol: which function makes an attempt ([`Ends`]), what
//! settings make of it ([`End`]), and when the next attempt begins ([`Backoff`]).

mod backoff;
mod ends;
#[cfg(test)]
pub(crate) mod testing;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ingest::StreamName;
use ingest::remote::{
    Ended, Error, Fingerprint, Options, Secret, Sink, Status, Target, Transport, Trust,
};
use tokio_util::sync::CancellationToken;

pub(crate) use backoff::Backoff;
pub(crate) use ends::NodeEnds;

use crate::config;

/// Who makes one attempt at a remote end.
pub(crate) trait Ends: Send + Sync + 'static {
    /// Pulls a stream into `sink` until it ends or `stop`.
    fn pull<'a>(
        &'a self,
        end: &'a End,
        sink: &'a Sink,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Ended, Error>>;

    /// Pushes a stream until it ends or `stop`.
    fn push<'a>(
        &'a self,
        end: &'a End,
        stream: &'a StreamName,
        status: &'a Status,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Ended, Error>>;
}

/// A remote end as the settings describe it.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) target: Target,
    pub(crate) options: Options,
}

impl End {
    /// What a source's or a push's settings mean now. May read the file of a certificate
    /// authority.
    pub(crate) fn new(settings: &config::Push, push: bool) -> Result<Self, Error> {
        let config::Push { url, fingerprint, ca, bearer, transport, .. } = settings;
        let target = if push { Target::for_push(url)? } else { Target::parse(url)? };
        let trust = if !fingerprint.is_empty() {
            let parsed = Fingerprint::parse(fingerprint);
            Trust::Fingerprint(parsed.ok_or_else(|| target.fault("the fingerprint is none"))?)
        } else if !ca.is_empty() {
            let pem = std::fs::read(ca).map_err(|error| target.fault(format!("{ca}: {error}")))?;
            Trust::Authority(pem.into())
        } else {
            Trust::System
        };
        let transport = match transport {
            config::Transport::Automatic => Transport::Automatic,
            config::Transport::Tcp => Transport::Tcp,
            config::Transport::Udp => Transport::Udp,
            config::Transport::Multicast => Transport::Multicast,
        };
        let bearer = Secret(bearer.clone());
        Ok(Self { target, options: Options { transport, trust, bearer, ..Options::default() } })
    }
}

/// Waits for an attempt; one that panics has failed.
pub(crate) async fn attempt(attempt: BoxFuture<'_, Result<Ended, Error>>) -> Result<Ended, Error> {
    let ended = AssertUnwindSafe(attempt).catch_unwind().await;
    ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Panicked(text.unwrap_or_else(|| "of an unknown kind".into())))
    })
}

/// Shared by sources and pushes.
pub(crate) type SharedEnds = Arc<dyn Ends>;
