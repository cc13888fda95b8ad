//! Several renditions of a stream's pictures: which variants the multivariant playlist has, and what
//! a media playlist of low latency says of the others.
//!
//! The media of a rendition lie below the stream, at `/{stream}/@{rendition}/`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Server;
use super::muxer::Muxer;
use super::playlist;
use super::segmenter::Format;
use crate::name::StreamName;

/// How old a rendition's muxer gets before the playlist does not wait for its first segment any
/// more: two groups of most encoders, since the one in which it begins may be too short for a
/// segment. One that is not made in time is left out.
const RENDITION_READY_MAX: Duration = Duration::from_secs(6);

fn media(format: Format) -> &'static str {
    match format {
        Format::Fmp4 => "stream.m3u8",
        Format::Ts => "stream_ts.m3u8",
    }
}

/// Muxers of the renditions of a stream, begun if they do not run.
pub(super) fn begin(server: &Server, name: &StreamName, format: Format) -> Vec<Arc<Muxer>> {
    let names = server.shared.hub.renditions(name);
    let muxers = names.iter().filter_map(|name| server.muxer(name, format));
    muxers.inspect(|muxer| muxer.touch()).collect()
}

/// The multivariant playlist of a stream whose players can begin.
pub(super) async fn multivariant(stream: &Muxer, renditions: &[Arc<Muxer>]) -> String {
    let ready = renditions.iter().map(|rendition| async move {
        rendition.is_ready_at(RENDITION_READY_MAX).await.then_some(rendition)
    });
    let whole = stream.pixels();
    let mut smaller: Vec<_> = join_all(ready)
        .await
        .into_iter()
        .flatten()
        .filter_map(|rendition| Some((rendition.pixels()?, rendition)))
        // Of simulcast, the largest rendition is the stream.
        .filter(|(pixels, _)| whole.is_some_and(|whole| *pixels < whole))
        .collect();
    smaller.sort_by_key(|(pixels, _)| std::cmp::Reverse(*pixels));
    let file = media(stream.format);
    let others = smaller.iter().filter_map(|(_, rendition)| {
        let rid = rendition.name.rendition()?;
        Some(rendition.variant(&format!("@{rid}/{file}")))
    });
    let variants: Vec<String> = [stream.variant(file)].into_iter().chain(others).collect();
    playlist::multivariant(&variants)
}

/// What the media playlist of `own` says of the other variants of the stream `name` that run.
pub(super) fn reports(server: &Server, name: &StreamName, own: &Muxer) -> String {
    let file = media(own.format);
    let up = if own.name == *name { "" } else { "../" };
    let renditions = server.shared.hub.renditions(name);
    let all = [name].into_iter().chain(renditions.iter()).filter(|other| **other != own.name);
    let reports = all.filter_map(|other| {
        let muxer = server.running(other, own.format)?;
        let folder = other.rendition().map(|rid| format!("@{rid}/")).unwrap_or_default();
        muxer.report(&format!("{up}{folder}{file}"))
    });
    reports.collect()
}
