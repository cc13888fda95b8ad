//! What the node knows of one stream.

use std::path::PathBuf;

use ingest::StreamName;
use ingest::hub::StreamStatus;
use ingest::views::Takes;
use serde::Serialize;

use super::Parts;
use crate::bridge::Needs;
use crate::gateway;
use crate::ladder::Rung;
use crate::rpc::credentials::unix_millis;

impl Parts {
    pub(super) fn stream(&self, status: StreamStatus) -> StreamView {
        let made = self.bridges.as_ref().is_some_and(|b| b.makes(&status.name, &Takes::WEBRTC));
        let processing = self.gateway.as_ref().and_then(|gateway| gateway.status(&status.name));
        StreamView {
            name: status.name.to_string(),
            processed: status.name.is_out(),
            protocol: status.publisher.protocol,
            remote: status.publisher.remote,
            video: status.tracks.video.as_ref().map(|video| VideoView {
                codec: video.codec.name(),
                width: video.size.width,
                height: video.size.height,
            }),
            audio: status.tracks.audio.as_ref().map(|audio| AudioView {
                codec: audio.codec.name(),
                sample_rate: audio.sample_rate,
                channels: audio.channels,
            }),
            since_ms: unix_millis(status.since),
            bytes: status.bytes,
            frames: status.frames,
            audio_frames: status.audio_frames,
            readers: status.readers,
            lagged: status.lagged,
            key_interval_ms: status.key_interval.map(|ticks| ticks.0 / 90),
            reordered: status.reordered,
            webrtc: WebRtcView::of(
                &Needs::of(&status.tracks, status.reordered, &Takes::WEBRTC),
                made,
            ),
            recording: self
                .recordings
                .as_ref()
                .and_then(|recordings| recordings.recorder(&status.name))
                .map(RecordingView::of),
            renditions: self.renditions(&status.name),
            processing,
        }
    }

    fn renditions(&self, name: &StreamName) -> Vec<RenditionView> {
        let ladder = self.ladders.as_ref().and_then(|ladders| ladders.of(name));
        let view = |of: &StreamName| {
            let rid = of.rendition()?;
            let size = self.hub.status(of)?.tracks.video.as_ref().map(|video| video.size);
            let made = ladder.as_ref().and_then(|ladder| {
                let rung = ladder.rungs.iter().find(|rung| rung.name == rid)?;
                Some((rung.size(), MadeView::of(rung, ladder.is_making())))
            });
            let (size, made) = match made {
                Some((size, made)) => (Some(size), Some(made)),
                None => (size, None),
            };
            Some(RenditionView {
                name: rid.to_owned(),
                width: size.map(|size| size.width),
                height: size.map(|size| size.height),
                made,
            })
        };
        self.hub.renditions(name).iter().filter_map(view).collect()
    }
}

/// One stream.
#[derive(Serialize)]
pub struct StreamView {
    name: String,
    processed: bool,
    protocol: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    remote: String,
    video: Option<VideoView>,
    audio: Option<AudioView>,
    since_ms: u64,
    bytes: u64,
    frames: u64,
    audio_frames: u64,
    readers: usize,
    lagged: u64,
    key_interval_ms: Option<i64>,
    reordered: bool,
    webrtc: WebRtcView,
    recording: Option<RecordingView>,
    /// Smaller ones of the same pictures.
    renditions: Vec<RenditionView>,
    processing: Option<gateway::Status>,
}

/// A smaller rendition of a stream's pictures.
#[derive(Serialize)]
struct RenditionView {
    name: String,
    /// Known from its first picture on, where the publisher sends it.
    width: Option<u32>,
    height: Option<u32>,
    /// Where this node makes it; its publisher sends it otherwise.
    made: Option<MadeView>,
}

#[derive(Serialize)]
struct MadeView {
    /// Whether somebody wants it now.
    running: bool,
    bitrate_bps: u32,
    pictures: u64,
    /// Seconds that its thread worked; for the first one decoding is in it.
    busy_seconds: f64,
}

impl MadeView {
    fn of(rung: &Rung, running: bool) -> Self {
        let (pictures, busy_seconds) = (rung.pictures(), rung.busy().as_secs_f64());
        Self { running, bitrate_bps: rung.bitrate, pictures, busy_seconds }
    }
}

/// What is recorded of a stream.
#[derive(Serialize)]
struct RecordingView {
    /// The segment that is being written.
    path: Option<PathBuf>,
    /// Why nothing, or not everything, is written.
    problem: Option<String>,
    bytes: u64,
    seconds: f64,
    segments: u64,
    lost_packets: u64,
    restamped: u64,
}

impl RecordingView {
    fn of(status: ingest::record::Status) -> Self {
        Self {
            path: status.path,
            problem: status.problem,
            bytes: status.bytes,
            seconds: status.duration.as_secs_f64(),
            segments: status.segments,
            lost_packets: status.lost,
            restamped: status.restamped,
        }
    }
}

#[derive(Serialize)]
struct VideoView {
    codec: &'static str,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct AudioView {
    codec: &'static str,
    sample_rate: u32,
    channels: u8,
}

impl StreamView {
    /// Without addresses of peers and without money, nor words for either.
    pub(super) fn for_viewers(mut self) -> Self {
        self.remote.clear();
        self.recording = None;
        if let Some(processing) = &mut self.processing {
            processing.candidates.clear();
            processing.orchestrator = None;
            processing.manifest_id = None;
            processing.paying = None;
            // What went wrong names peers; viewers can do nothing about it.
            processing.problem =
                processing.problem.take().map(|_| "there is nobody to process it yet".into());
        }
        self
    }
}

/// What viewers over WebRTC get instead of the stream itself, and why.
#[derive(Serialize)]
struct WebRtcView {
    picture_reencoded: Option<String>,
    sound_reencoded: Option<String>,
    /// Whether it is being made now.
    running: bool,
}

impl WebRtcView {
    fn of(needs: &Needs, running: bool) -> Self {
        Self {
            picture_reencoded: needs.picture.as_ref().map(|(_, why)| why.clone()),
            sound_reencoded: needs.sound.as_ref().map(|(_, why)| why.clone()),
            running,
        }
    }
}
