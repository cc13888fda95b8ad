//! Notices what happens: streams by the hub's notices, readers and quality by looking once a second.
//! Somebody who watches for less than that is not noticed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ingest::hub;
use ingest::record::{self, Recordings};
use ingest::views::Takes;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::quality::{Change, Figures, Quality, Rule};
use super::{Events, Kind};
use crate::api::Reader;
use crate::bridge::Needs;
use crate::config::Alerts;
use crate::status::Parts;

/// How often readers and figures are looked at.
const SPACING: Duration = Duration::from_secs(1);

/// Tells events for ever.
pub(crate) async fn run(parts: Parts, events: Events, alerts: Alerts) {
    let mut notices = parts.hub.events();
    let mut watch = Watch {
        parts,
        events,
        alerts,
        online: BTreeMap::new(),
        readers: HashMap::new(),
        quality: HashMap::new(),
    };
    watch.compare();
    let mut segments = watch.parts.recordings.as_ref().map(Recordings::events);
    let mut rhythm = tokio::time::interval(SPACING);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(hub::Event::Online(name)) if !name.is_derived() => watch.came(name.as_str()),
                Ok(hub::Event::Offline(name)) if !name.is_derived() => watch.went(name.as_str()),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => watch.compare(),
                Err(RecvError::Closed) => return,
            },
            segment = next_segment(&mut segments) => watch.recorded(segment),
            _ = rhythm.tick() => {
                watch.look_at_readers().await;
                watch.look_at_quality();
            }
        }
    }
}

/// The next notice of a segment; for ever without recordings. Lost notices are told in the log.
async fn next_segment(notices: &mut Option<broadcast::Receiver<record::Event>>) -> record::Event {
    loop {
        let Some(open) = notices else { return std::future::pending().await };
        match open.recv().await {
            Ok(event) => return event,
            Err(RecvError::Lagged(lost)) => warn!(lost, "notices of recorded segments were lost"),
            Err(RecvError::Closed) => *notices = None,
        }
    }
}

struct Watch {
    parts: Parts,
    events: Events,
    alerts: Alerts,
    /// Streams that were told as online, with what was told of them.
    online: BTreeMap<String, Value>,
    readers: HashMap<String, Reader>,
    quality: HashMap<String, Quality>,
}

impl Watch {
    fn came(&mut self, stream: &str) {
        let list = self.parts.hub.list();
        let Some(status) = list.iter().find(|status| status.name.as_str() == stream) else {
            return;
        };
        let video = status.tracks.video.as_ref().map(|video| {
            json!({
                "codec": video.codec.name(),
                "width": video.size.width,
                "height": video.size.height,
            })
        });
        let audio = status.tracks.audio.as_ref().map(|audio| {
            json!({
                "codec": audio.codec.name(),
                "sample_rate": audio.sample_rate,
                "channels": audio.channels,
            })
        });
        let publisher = &status.publisher;
        let source = json!({
            "protocol": publisher.protocol, "id": publisher.id, "remote": publisher.remote,
        });
        let data = json!({ "source": source.clone(), "video": video, "audio": audio });
        self.events.emit(Kind::Online, stream, data);
        self.online.insert(stream.to_owned(), source);
    }

    fn went(&mut self, stream: &str) {
        if let Some(source) = self.online.remove(stream) {
            self.quality.remove(stream);
            self.events.emit(Kind::Offline, stream, json!({ "source": source }));
        }
    }

    fn recorded(&self, event: record::Event) {
        if let record::Event::Completed { name, path, start, duration, bytes } = event {
            let data = json!({
                "path": path,
                "start": start.to_string(),
                "duration_seconds": duration.as_secs_f64(),
                "bytes": bytes,
            });
            self.events.emit(Kind::RecordingSegment, name.as_str(), data);
        }
    }

    /// After lost notices, and at the start: what is there now against what was told.
    fn compare(&mut self) {
        let now: Vec<String> = self.parts.hub.list().iter().map(|s| s.name.to_string()).collect();
        let gone: Vec<String> =
            self.online.keys().filter(|name| !now.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.went(name));
        for name in now {
            if !self.online.contains_key(&name) {
                self.came(&name);
            }
        }
    }

    async fn look_at_readers(&mut self) {
        if !self.events.wants(Kind::ReaderJoined) && !self.events.wants(Kind::ReaderLeft) {
            return;
        }
        let now = crate::api::readers(&self.parts).await;
        let now: HashMap<String, Reader> =
            now.into_iter().map(|reader| (reader.id.clone(), reader)).collect();
        for (id, reader) in &self.readers {
            if !now.contains_key(id) {
                self.events.emit(Kind::ReaderLeft, &reader.stream, json!({ "reader": reader }));
            }
        }
        for (id, reader) in &now {
            if !self.readers.contains_key(id) {
                self.events.emit(Kind::ReaderJoined, &reader.stream, json!({ "reader": reader }));
            }
        }
        self.readers = now;
    }

    fn look_at_quality(&mut self) {
        let now = Instant::now();
        for status in self.parts.hub.list() {
            // What the node makes itself is as the settings want it.
            if status.name.is_out() || !self.online.contains_key(status.name.as_str()) {
                continue;
            }
            let figures = Figures {
                bytes: status.bytes,
                frames: status.frames,
                key_interval_ms: status.key_interval.map(|ticks| ticks.0 / 90),
                reordered: status.reordered,
                has_video: status.tracks.video.is_some(),
            };
            let quality = self.quality.entry(status.name.to_string()).or_default();
            for change in quality.look(figures, &self.alerts, now) {
                let cure = self.cure(&change, &status);
                let Change { rule, raised, value, limit } = change;
                let kind = if raised { Kind::AlertRaised } else { Kind::AlertCleared };
                let data = json!({
                    "rule": rule.as_str(), "value": value, "limit": limit, "cure": cure,
                });
                self.events.emit(kind, status.name.as_str(), data);
            }
        }
    }

    /// What the node does about it, and whether it does so now.
    fn cure(&self, change: &Change, status: &hub::StreamStatus) -> Value {
        match change.rule {
            Rule::BFrames => {
                let needs = Needs::of(&status.tracks, status.reordered, &Takes::WEBRTC);
                let bridges = self.parts.bridges.as_ref();
                let running = bridges.is_some_and(|b| b.makes(&status.name, &Takes::WEBRTC));
                json!({
                    "does": "pictures are re-encoded without B-frames for viewers over WebRTC, once for all",
                    "why": needs.picture.map(|(_, why)| why),
                    "running": running,
                })
            }
            Rule::KeyInterval if status.publisher.protocol == "webrtc" => json!({
                "does": "the publisher is asked for a key picture every 2 s while something needs cuts",
                "running": true,
            }),
            _ => Value::Null,
        }
    }
}
