//! Streams as MPEG-TS, muxed once for all who read them and only while somebody does.
//!
//! A muxed stream is a stream of a hub of its own: what a picture or a sound frame became is one
//! packet there, so readers begin at a key picture, share the bytes and jump when they lag, as
//! readers of the hub do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use pipeline::mpegts::Muxer;
use pipeline::{Codec, Packet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::hub::{Hub, Item, Limits, Publisher, Reader, Start, Writer};
use crate::name::StreamName;
use crate::views::{Takes, ViewError, Views};

/// What MPEG-TS carries here.
pub const TAKES: Takes = Takes {
    label: "MPEG-TS",
    video: &[Codec::H264, Codec::Hevc],
    audio: &[Codec::Aac, Codec::Opus],
    reordering: true,
};

/// How long a muxed stream without readers is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// Time between two counts of readers.
const COUNT_PERIOD: Duration = Duration::from_millis(250);

/// Muxed streams of a node. Cloning shares them.
#[derive(Clone)]
pub struct Fanout {
    shared: Arc<Shared>,
}

struct Shared {
    views: Arc<dyn Views>,
    muxed: Hub,
    /// Streams that are being muxed. Held while a reader comes or the last one is found gone.
    running: Mutex<HashSet<StreamName>>,
    stop: CancellationToken,
}

impl Fanout {
    /// Streams in the form that `views` gives, until `stop`.
    pub fn new(views: Arc<dyn Views>, stop: CancellationToken) -> Self {
        let muxed = Hub::new(Limits::default());
        let shared = Shared { views, muxed, running: Mutex::default(), stop };
        Self { shared: Arc::new(shared) }
    }

    /// A reader of a stream; the data of its packets are transport packets, each packet's a picture
    /// or a sound frame, a key picture's with the tables in front.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn subscribe(&self, name: &StreamName) -> Result<Reader, ViewError> {
        if let Some(reader) = self.present(name) {
            return Ok(reader);
        }
        let source = self.shared.views.view(name, &TAKES).await?;
        self.begin(name, source)
    }

    fn present(&self, name: &StreamName) -> Option<Reader> {
        let running = self.shared.running.lock();
        running.contains(name).then(|| self.shared.muxed.subscribe(name, Start::LastKey))?
    }

    fn begin(&self, name: &StreamName, source: Reader) -> Result<Reader, ViewError> {
        let not_found = || ViewError::NotFound(name.clone());
        let mut running = self.shared.running.lock();
        if running.contains(name)
            && let Some(reader) = self.shared.muxed.subscribe(name, Start::LastKey)
        {
            return Ok(reader);
        }
        let publisher = Publisher { protocol: "mpegts", id: String::new(), remote: String::new() };
        let writer = self.shared.muxed.publish(name.clone(), publisher, true);
        let busy = |why: String| ViewError::Busy { name: name.clone(), why };
        let writer = writer.map_err(|error| busy(error.to_string()))?;
        let reader = self.shared.muxed.subscribe(name, Start::LastKey).ok_or_else(not_found)?;
        running.insert(name.clone());
        let (this, name) = (self.clone(), name.clone());
        let span = info_span!("mpegts", stream = %name);
        let carry = async move {
            this.carry(&name, source, writer).await;
            debug!("no longer muxed");
        };
        tokio::spawn(carry.instrument(span));
        Ok(reader)
    }

    async fn carry(&self, name: &StreamName, mut source: Reader, writer: Writer) {
        let mut mux = Mux { muxer: None, writer, out: BytesMut::new() };
        let mut count = tokio::time::interval(COUNT_PERIOD);
        let mut wishes = mux.writer.key_requests();
        let mut idle_since = None;
        loop {
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => break,
                () = mux.writer.closed() => break,
                _ = count.tick() => {
                    let running = self.shared.running.lock();
                    let readers = self.shared.muxed.status(name).map_or(0, |s| s.readers);
                    source.set_audience(readers as u64);
                    let since = *idle_since.get_or_insert_with(tokio::time::Instant::now);
                    if readers > 0 {
                        idle_since = None;
                    } else if since.elapsed() >= IDLE_LIMIT {
                        return self.end(running, name, mux);
                    }
                }
                () = wishes.next() => source.request_key_frame(),
                item = source.next() => if !mux.item(item) {
                    break;
                },
            }
        }
        self.end(self.shared.running.lock(), name, mux);
    }

    /// Nobody finds the stream from here on; its readers are told that it ended.
    fn end(
        &self,
        mut running: parking_lot::MutexGuard<'_, HashSet<StreamName>>,
        name: &StreamName,
        mux: Mux,
    ) {
        running.remove(name);
        drop(mux);
    }
}

/// One stream being muxed.
struct Mux {
    muxer: Option<Muxer>,
    writer: Writer,
    out: BytesMut,
}

impl Mux {
    /// Takes what comes from the source; false at the end.
    fn item(&mut self, item: Item) -> bool {
        match item {
            Item::Tracks(tracks) => {
                let chosen = match &mut self.muxer {
                    Some(muxer) => muxer.set_tracks(&tracks),
                    None => Muxer::new(&tracks).map(|muxer| self.muxer = Some(muxer)),
                };
                if let Err(error) = chosen {
                    warn!(%error, "the stream cannot be muxed");
                    return false;
                }
                self.writer.set_tracks((*tracks).clone());
            }
            Item::Packet(packet) => self.packet(&packet),
            Item::Lagged(packets) => warn!(packets, "muxing was too slow"),
            Item::End => return false,
        }
        true
    }

    fn packet(&mut self, packet: &Packet) {
        let Some(muxer) = &mut self.muxer else { return };
        if packet.kind.is_video() && packet.key {
            muxer.start_segment(&mut self.out);
        }
        match muxer.mux(packet, &mut self.out) {
            Ok(()) => {
                let data = self.out.split().freeze();
                self.writer.write(Packet { data, ..packet.clone() });
            }
            Err(error) => {
                self.out.clear();
                debug!(%error, "a packet is left out");
            }
        }
    }
}
