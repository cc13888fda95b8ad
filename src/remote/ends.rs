//! The protocols of remote ends: the one place where a URL's scheme chooses a function.

use futures_util::future::BoxFuture;
use ingest::hub::Writer;
use ingest::mpegts::{self, Fanout, UdpError};
use ingest::remote::{Ended, Error, Sink, Status};
use ingest::srt::{self, ClientError};
use ingest::{StreamName, file, hls_pull};
use tokio_util::sync::CancellationToken;

use super::{End, Ends};
use crate::demo;

/// The functions of all protocols.
pub(crate) struct NodeEnds {
    /// Streams as MPEG-TS.
    pub(crate) fanout: Fanout,
}

impl Ends for NodeEnds {
    fn pull<'a>(
        &'a self,
        end: &'a End,
        sink: &'a Sink,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Ended, Error>> {
        Box::pin(async move {
            match end.target.scheme() {
                "file" => file::pull(&end.target, sink, stop).await,
                "http" | "https" => hls_pull::pull(&end.target, &end.options, sink, stop).await,
                "demo" => demo::run(sink, stop).await,
                "udp" | "udp+mpegts" => {
                    let writer = claimed(end, sink, "udp")?;
                    udp_ended(mpegts::pull(end.target.url(), writer, stop).await)
                }
                "srt" => {
                    let writer = claimed(end, sink, "srt")?;
                    srt_ended(srt::pull(end.target.url(), writer, stop).await, Ended::ByPeer)
                }
                _ => Err(end.target.fault("streams are not pulled in this way")),
            }
        })
    }

    fn push<'a>(
        &'a self,
        end: &'a End,
        stream: &'a StreamName,
        status: &'a Status,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Ended, Error>> {
        Box::pin(async move {
            match end.target.scheme() {
                "srt" => {
                    let sent = |bytes| {
                        status.connected();
                        status.count(bytes, 0);
                    };
                    let pushed = srt::push(end.target.url(), &self.fanout, stream, stop, sent);
                    srt_ended(pushed.await, Ended::StreamOver)
                }
                _ => Err(end.target.fault("streams are not pushed in this way")),
            }
        })
    }
}

fn claimed(end: &End, sink: &Sink, protocol: &'static str) -> Result<Writer, Error> {
    let (host, port) = end.target.address(0)?;
    sink.publish(protocol, format_args!("{host}:{port}"))
}

fn udp_ended(result: Result<(), UdpError>) -> Result<Ended, Error> {
    match result {
        Ok(()) => Ok(Ended::ByPeer),
        Err(UdpError::Cancelled) => Ok(Ended::Stopped),
        Err(UdpError::Replaced) => Ok(Ended::Replaced),
        Err(error) => Err(Error::protocol("MPEG-TS over UDP", error)),
    }
}

fn srt_ended(result: Result<(), ClientError>, well: Ended) -> Result<Ended, Error> {
    match result {
        Ok(()) => Ok(well),
        Err(ClientError::Session(srt::SessionError::Cancelled)) => Ok(Ended::Stopped),
        Err(ClientError::View(error)) => Err(error.into()),
        Err(error) => Err(Error::protocol("SRT", error)),
    }
}
