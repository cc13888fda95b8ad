//! `/v3/paths`: streams as MediaMTX shows them, and `/v3/info`.

use std::collections::BTreeMap;

use axum::extract::{Path as Named, State};
use axum::response::Json;
use ingest::StreamName;
use ingest::hub::StreamStatus;
use pipeline::Codec;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{List, PageOf, Problem, time};
use super::sessions::{self, Kind};
use crate::config::ALL_OTHERS;
use crate::status::Parts;

/// A stream that is there, or that the settings name.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Path)]
pub(super) struct PathView {
    /// Its name.
    name: String,
    /// The key of the settings that it follows.
    conf_name: String,
    /// Who writes it.
    source: Option<Source>,
    /// As `available`, for old clients.
    #[schema(deprecated)]
    ready: bool,
    /// As `availableTime`, for old clients.
    #[schema(deprecated)]
    ready_time: Option<String>,
    /// Whether it can be watched.
    available: bool,
    /// Since when.
    available_time: Option<String>,
    /// Whether somebody writes it.
    online: bool,
    /// Since when.
    online_time: Option<String>,
    /// Names of the codecs, for old clients.
    #[schema(deprecated)]
    tracks: Vec<&'static str>,
    /// Its tracks.
    tracks2: Vec<Track>,
    /// As `inboundBytes`, for old clients.
    #[schema(deprecated)]
    bytes_received: u64,
    /// As `outboundBytes`, for old clients.
    #[schema(deprecated)]
    bytes_sent: u64,
    /// Coded bytes written.
    inbound_bytes: u64,
    /// Bytes sent to those who watch now.
    outbound_bytes: u64,
    /// Frames that could not be used.
    inbound_frames_in_error: u64,
    /// Who watches.
    readers: Vec<ReaderView>,
}

/// Who writes a stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PathSource)]
struct Source {
    /// `rtmpConn`, `webRTCSession`, ...
    #[serde(rename = "type")]
    kind: &'static str,
    /// The session's id, for its own list.
    id: String,
}

/// Who watches a stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PathReader)]
struct ReaderView {
    /// `rtmpConn`, `webRTCSession`, `hlsSession`, ...
    #[serde(rename = "type")]
    kind: &'static str,
    /// The session's id, for its own list.
    id: String,
}

/// A track.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PathTrack)]
struct Track {
    /// The codec.
    codec: &'static str,
    /// What the codec says of itself.
    codec_props: BTreeMap<&'static str, u64>,
}

/// The node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    /// Millstream's version.
    version: &'static str,
    /// When it was started.
    started: String,
}

/// The version, and since when the node runs.
#[utoipa::path(get, path = "/v3/info", tag = "node", responses((status = 200, body = Info)))]
pub(super) async fn info(State(parts): State<Parts>) -> Json<Info> {
    Json(Info { version: env!("CARGO_PKG_VERSION"), started: time(parts.started()) })
}

/// All streams: those that are there, and those that the settings name.
#[utoipa::path(
    get,
    path = "/v3/paths/list",
    tag = "paths",
    params(PageOf),
    responses((status = 200, body = List<PathView>), (status = 400, body = Problem))
)]
pub(super) async fn list(
    State(parts): State<Parts>,
    page: PageOf,
) -> Result<Json<List<PathView>>, Problem> {
    page.of(all(&parts).await)
}

/// One stream.
#[utoipa::path(
    get,
    path = "/v3/paths/get/{*name}",
    tag = "paths",
    params(("name" = String, Path, description = "The stream; may hold slashes")),
    responses((status = 200, body = PathView), (status = 404, body = Problem))
)]
pub(super) async fn get(
    State(parts): State<Parts>,
    Named(name): Named<String>,
) -> Result<Json<PathView>, Problem> {
    let found = all(&parts).await.into_iter().find(|path| path.name == name.trim_matches('/'));
    found.map(Json).ok_or_else(|| Problem::not_found("path not found"))
}

async fn all(parts: &Parts) -> Vec<PathView> {
    let mut readers: BTreeMap<String, (u64, Vec<ReaderView>)> = BTreeMap::new();
    for kind in Kind::ALL {
        for session in sessions::of_kind(parts, kind).await {
            if let Some(stream) = session.reads() {
                let slot = readers.entry(stream.to_owned()).or_default();
                slot.0 += session.bytes_out();
                slot.1.push(ReaderView { kind: kind.word(), id: session.id().to_owned() });
            }
        }
    }
    let conf_name =
        |name: &StreamName| parts.streams.find(name).key.unwrap_or_else(|| ALL_OTHERS.to_owned());
    let mut paths: BTreeMap<String, PathView> = BTreeMap::new();
    for key in parts.store.current().settings.streams.keys() {
        if let Ok(name) = StreamName::parse(key)
            && key != ALL_OTHERS
        {
            let available = parts.streams.of(&name).always_available == Some(true);
            let view = absent(&name, conf_name(&name));
            paths.insert(name.to_string(), PathView { available, ready: available, ..view });
        }
    }
    for status in parts.hub.list() {
        let name = status.name.to_string();
        let (bytes_out, readers) = readers.remove(&name).unwrap_or_default();
        let view = present(status, bytes_out, readers);
        let conf_name = StreamName::parse(&name).map(|name| conf_name(&name)).unwrap_or_default();
        paths.insert(name, PathView { conf_name, ..view });
    }
    // Those who see a slate.
    for (name, (bytes_out, readers)) in readers {
        if let Some(path) = paths.get_mut(&name) {
            (path.outbound_bytes, path.bytes_sent, path.readers) = (bytes_out, bytes_out, readers);
        }
    }
    paths.into_values().collect()
}

/// A stream that only the settings name.
fn absent(name: &StreamName, conf_name: String) -> PathView {
    PathView {
        name: name.to_string(),
        conf_name,
        source: None,
        ready: false,
        ready_time: None,
        available: false,
        available_time: None,
        online: false,
        online_time: None,
        tracks: Vec::new(),
        tracks2: Vec::new(),
        bytes_received: 0,
        bytes_sent: 0,
        inbound_bytes: 0,
        outbound_bytes: 0,
        inbound_frames_in_error: 0,
        readers: Vec::new(),
    }
}

fn present(status: StreamStatus, bytes_out: u64, readers: Vec<ReaderView>) -> PathView {
    let since = Some(time(status.since));
    let mut tracks2 = Vec::new();
    if let Some(video) = &status.tracks.video {
        let size = [("width", video.size.width), ("height", video.size.height)];
        tracks2.push(Track {
            codec: codec_word(video.codec),
            codec_props: size.map(|(key, value)| (key, u64::from(value))).into(),
        });
    }
    if let Some(audio) = &status.tracks.audio {
        tracks2.push(Track {
            codec: codec_word(audio.codec),
            codec_props: BTreeMap::from([
                ("sampleRate", u64::from(audio.sample_rate)),
                ("channelCount", u64::from(audio.channels)),
            ]),
        });
    }
    PathView {
        name: status.name.to_string(),
        conf_name: String::new(),
        source: Some(Source {
            kind: source_word(status.publisher.protocol),
            id: status.publisher.id,
        }),
        ready: true,
        ready_time: since.clone(),
        available: true,
        available_time: since.clone(),
        online: true,
        online_time: since,
        tracks: tracks2.iter().map(|track| track.codec).collect(),
        tracks2,
        bytes_received: status.bytes,
        bytes_sent: bytes_out,
        inbound_bytes: status.bytes,
        outbound_bytes: bytes_out,
        inbound_frames_in_error: 0,
        readers,
    }
}

/// MediaMTX's word for what writes a stream; ours where it has none.
fn source_word(protocol: &'static str) -> &'static str {
    match protocol {
        "rtmp" => "rtmpConn",
        "rtmps" => "rtmpsConn",
        "srt" => "srtConn",
        "rtsp" => "rtspSession",
        "rtsps" => "rtspsSession",
        "webrtc" => "webRTCSession",
        "mpegts" | "udp" => "mpegtsSource",
        "hls" => "hlsSource",
        other => other,
    }
}

/// MediaMTX's word for a codec.
fn codec_word(codec: Codec) -> &'static str {
    match codec {
        Codec::Aac => "MPEG-4 Audio",
        Codec::Mp3 => "MPEG-1/2 Audio",
        Codec::Flac => "FLAC",
        Codec::G711A | Codec::G711U => "G711",
        other => other.name(),
    }
}
