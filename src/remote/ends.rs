//! The protocols of remote ends: the one place where a URL's scheme chooses a function.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ingest::hub::Hub;
use ingest::mpegts::{self, Fanout};
use ingest::remote::{Ended, Error, Sink, Status};
use ingest::views::{Takes, Views};
use ingest::{StreamName, file, hls_pull, rtmp, rtsp, srt, webrtc};
use tokio_util::sync::CancellationToken;

use super::{End, Ends};
use crate::demo;

/// The functions of all protocols.
pub(crate) struct NodeEnds {
    /// All streams.
    pub(crate) hub: Hub,
    /// Streams in the forms that other servers take.
    pub(crate) views: Arc<dyn Views>,
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
        let End { target, options } = end;
        Box::pin(async move {
            match target.scheme() {
                "file" => file::pull(target, sink, stop).await,
                "http" | "https" => hls_pull::pull(target, options, sink, stop).await,
                "demo" => demo::run(sink, stop).await,
                "rtmp" | "rtmps" => rtmp::pull(target, options, sink, stop).await,
                "rtsp" | "rtsps" => rtsp::pull(target, options, sink, stop).await,
                "srt" => srt::pull(target, options, sink, stop).await,
                "udp" | "udp+mpegts" => mpegts::pull(target, options, sink, stop).await,
                "whep" | "wheps" => webrtc::pull(target, options, sink, stop).await,
                _ => Err(target.fault("streams are not pulled in this way")),
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
        let End { target, options } = end;
        Box::pin(async move {
            match target.scheme() {
                "rtmp" | "rtmps" => {
                    let reader = self.views.view(stream, rtmp::takes()).await?;
                    rtmp::push(target, options, reader, status, stop).await
                }
                "rtsp" | "rtsps" => {
                    let reader = self.views.view(stream, &rtsp::TAKES).await?;
                    rtsp::push(target, options, reader, status, stop).await
                }
                "srt" => {
                    let reader = self.fanout.subscribe(stream).await?;
                    srt::push(target, options, reader, status, stop).await
                }
                "whip" | "whips" => {
                    let reader = self.views.view(stream, &Takes::WEBRTC).await?;
                    webrtc::push(target, options, (&self.hub, reader), status, stop).await
                }
                _ => Err(target.fault("streams are not pushed in this way")),
            }
        })
    }
}
