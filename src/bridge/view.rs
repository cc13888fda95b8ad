//! Forms of streams as the API and the metrics show them.

use std::sync::atomic::Ordering;

use dashboards::metrics::Exposition;
use ingest::StreamName;
use pipeline::Codec;
use serde::Serialize;

use super::lane::Lane;
use super::{Bridges, Form};
use crate::rpc::credentials::unix_millis;

/// A form of a stream that is being made.
#[derive(Clone, Debug, Serialize)]
pub struct BridgeView {
    /// The stream.
    pub stream: StreamName,
    /// The form: the codecs that are made, `h264+opus` say.
    pub form: String,
    /// Since when it is made, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Who reads it now.
    pub readers: usize,
    /// The pictures, where they are re-encoded.
    pub video: Option<LaneView>,
    /// The sound, likewise.
    pub audio: Option<LaneView>,
    /// Packets of the stream that were lost by being slow.
    pub lagged_packets: u64,
}

/// A track that is made in another codec.
#[derive(Clone, Debug, Serialize)]
pub struct LaneView {
    /// The stream's codec; none once it has no such track any more.
    pub from: Option<&'static str>,
    /// The form's.
    pub into: &'static str,
    /// Why the readers cannot have the stream's.
    pub why: String,
    /// Frames of the stream that were taken.
    pub frames_in: u64,
    /// Frames that were made.
    pub frames_out: u64,
    /// Frames that were left out.
    pub frames_dropped: u64,
    /// Seconds that threads worked for it.
    pub busy_seconds: f64,
}

impl LaneView {
    fn of(lane: &Lane, from: Option<Codec>, into: Codec, why: &str) -> Self {
        let figures = lane.figures();
        Self {
            from: from.map(Codec::name),
            into: into.name(),
            why: why.to_owned(),
            frames_in: figures.taken,
            frames_out: figures.made,
            frames_dropped: figures.dropped,
            busy_seconds: figures.busy.as_secs_f64(),
        }
    }
}

impl Bridges {
    /// The forms that are made now, by stream.
    pub fn list(&self) -> Vec<BridgeView> {
        let running = self.running.lock();
        let mut forms: Vec<(StreamName, Form)> =
            running.iter().map(|(name, form)| (name.clone(), form.clone())).collect();
        drop(running);
        forms.sort_by(|(a, _), (b, _)| a.cmp(b));
        forms.iter().map(|(name, form)| self.shown(name, form)).collect()
    }

    fn shown(&self, name: &StreamName, form: &Form) -> BridgeView {
        let tracks = self.hub.status(&form.of).map(|status| status.tracks);
        let video = tracks.as_ref().and_then(|tracks| tracks.video.as_ref());
        let audio = tracks.as_ref().and_then(|tracks| tracks.audio.as_ref());
        let picture = form.needs.picture.as_ref().and_then(|(into, why)| Some(((*into)?, why)));
        BridgeView {
            stream: form.of.clone(),
            form: form.needs.kind(),
            since_ms: unix_millis(form.since),
            readers: self.hub.status(name).map_or(0, |status| status.readers),
            video: picture.map(|(into, why)| {
                LaneView::of(&form.cost.picture, video.map(|video| video.codec), into, why)
            }),
            audio: form.needs.sound.as_ref().map(|(into, why)| {
                LaneView::of(&form.cost.sound, audio.map(|audio| audio.codec), *into, why)
            }),
            lagged_packets: form.cost.lagged.load(Ordering::Relaxed),
        }
    }

    /// The forms' figures.
    pub(crate) fn metrics(&self, out: &mut Exposition) {
        let forms = self.list();
        let video = forms.iter().filter(|form| form.video.is_some()).count();
        let audio = forms.iter().filter(|form| form.audio.is_some()).count();
        for (track, count) in [("video", video), ("audio", audio)] {
            let help = "Forms of streams of which this track is made in another codec now";
            out.gauge("millstream_bridge_streams", help, &[("track", track)], count as f64);
        }
        for form in &forms {
            let (stream, kind) = (form.stream.as_str(), form.form.as_str());
            let labels = [("stream", stream), ("form", kind)];
            let (help, readers) = ("Readers of a form now", form.readers as f64);
            out.gauge("millstream_bridge_readers", help, &labels, readers);
            let (help, lagged) = ("Packets that a form lost by being slow", form.lagged_packets);
            out.counter("millstream_bridge_lagged_packets_total", help, &labels, lagged as f64);
            for (track, lane) in [("video", &form.video), ("audio", &form.audio)] {
                let Some(lane) = lane else { continue };
                let labels = [("stream", stream), ("form", kind), ("track", track)];
                for (name, help, value) in [
                    ("received_frames", "Frames of a stream that a form took", lane.frames_in),
                    ("frames", "Frames of a form that were made", lane.frames_out),
                    ("dropped_frames", "Frames that a form left out", lane.frames_dropped),
                ] {
                    let name = format!("millstream_bridge_{name}_total");
                    out.counter(&name, help, &labels, value as f64);
                }
                let (help, busy) = ("Seconds of work for a form", lane.busy_seconds);
                out.counter("millstream_bridge_busy_seconds_total", help, &labels, busy);
            }
        }
    }
}
