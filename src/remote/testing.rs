//! Remote ends that do what a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ingest::hub::{Item, Publisher, Start, Writer};
use ingest::remote::{Ended, Error, Sink, Status};
use ingest::{Hub, StreamName};
use parking_lot::Mutex;
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Tracks};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{End, Ends};
use crate::config::Settings;
use crate::streams::StreamSettings;

/// Pulls publish a stream of sound, pushes read one.
pub(crate) struct Fake {
    pub(crate) hub: Hub,
    /// Attempts fail.
    pub(crate) broken: AtomicBool,
    /// Attempts panic.
    pub(crate) panics: AtomicBool,
    /// The other side ends what runs.
    pub(crate) hang_up: Notify,
    /// What was attempted: `pull a srt://...`.
    pub(crate) attempts: Mutex<Vec<String>>,
    pub(crate) running: AtomicU64,
}

impl Fake {
    pub(crate) fn new(hub: Hub) -> Arc<Self> {
        Arc::new(Self {
            hub,
            broken: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            hang_up: Notify::new(),
            attempts: Mutex::default(),
            running: AtomicU64::new(0),
        })
    }

    fn begin(&self, what: String) -> Result<(), Error> {
        self.attempts.lock().push(what);
        assert!(!self.panics.load(Ordering::Relaxed), "as the test says");
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::Timeout { what: "answer", limit: Duration::from_secs(10) });
        }
        Ok(())
    }

    pub(crate) fn attempts(&self) -> Vec<String> {
        self.attempts.lock().clone()
    }
}

impl Ends for Fake {
    fn pull<'a>(
        &'a self,
        end: &'a End,
        sink: &'a Sink,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Ended, Error>> {
        Box::pin(async move {
            self.begin(format!("pull {} {}", sink.name(), end.target))?;
            let mut writer = sink.publish("fake", "")?;
            writer.set_tracks(tracks());
            self.running.fetch_add(1, Ordering::Relaxed);
            let ended = tokio::select! {
                () = stop.cancelled() => Ended::Stopped,
                () = writer.closed() => Ended::Replaced,
                () = self.hang_up.notified() => Ended::ByPeer,
            };
            self.running.fetch_sub(1, Ordering::Relaxed);
            Ok(ended)
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
            self.begin(format!("push {stream} {}", end.target))?;
            let reader = self.hub.tap(stream, Start::LastKey);
            let mut reader = reader.ok_or(ingest::views::ViewError::NotFound(stream.clone()))?;
            status.connected();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(Ended::Stopped),
                    () = self.hang_up.notified() => return Ok(Ended::ByPeer),
                    item = reader.next() => if matches!(item, Item::End) {
                        return Ok(Ended::StreamOver);
                    },
                }
            }
        })
    }
}

pub(crate) fn tracks() -> Tracks {
    let (codec, config) = (Codec::Opus, Bytes::new());
    let audio = AudioTrack { codec, sample_rate: 48_000, channels: 2, config };
    Tracks { video: None, audio: Some(audio) }
}

pub(crate) fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}

/// Publishes a stream as somebody would.
pub(crate) fn publish(hub: &Hub, text: &str, take_over: bool) -> Writer {
    let publisher = Publisher { protocol: "rtmp", id: "1".into(), remote: String::new() };
    let mut writer = hub.publish(name(text), publisher, take_over).unwrap();
    writer.set_tracks(tracks());
    writer
}

/// Puts settings in force.
pub(crate) fn settings(streams: &StreamSettings, text: &str) -> Settings {
    let settings: Settings = toml::from_str(text).unwrap();
    streams.prepare(&settings).unwrap()();
    settings
}

/// Waits for something to become true.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}
