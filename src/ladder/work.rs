//! The renditions of one stream: at rest while nobody reads them, made by [`Engines`] while somebody
//! does, and written into the hub.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ingest::StreamName;
use ingest::hub::{
    Item, KeyRequests, PublishError, Publisher, Reader, Start, StreamStatus, Writer,
};
use pipeline::packet::VideoTrack;
use pipeline::{Packet, Pts, Size, Ticks, Tracks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::engines::{Engines, Source, Told};
use super::rate::Rate;
use super::{LOOK_EVERY, Ladder, Ladders, MAKING_MAX, rung};
use crate::config::Rendition;

/// How long renditions that nobody reads are still made.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Coded pictures between the engines and the hub; engines wait when it is full.
const PICTURES_WAITING: usize = 16;

/// The rate of the source is waited for during so many looks, from the first one on.
const RATE_LOOKS_MAX: u32 = 2;

/// Sound older than this when renditions begin is left out.
const OLD_SOUND: Ticks = Ticks::from_millis(500);

/// What makes the renditions of a stream.
pub(super) struct Work {
    ladders: Ladders,
    name: StreamName,
    wanted: Vec<Rendition>,
    ladder: Arc<Ladder>,
    /// What the stream was when the renditions were chosen.
    video: VideoTrack,
    /// Of its pictures as they are to be seen.
    size: Size,
    /// By rendition.
    writers: Vec<Writer>,
    wishes: Vec<KeyRequests>,
    rate: Rate,
    /// Reads the stream until its rate is known.
    measured: Option<Reader>,
}

/// Why renditions are no longer made.
enum Left {
    /// Nobody has read for a while.
    Idle,
    /// The stream has ended, or it or its settings are others now.
    Over,
}

impl Work {
    /// Claims the names of a stream's renditions and says that it has them. `size` is that of the
    /// stream's pictures as they are to be seen.
    pub(super) fn new(
        ladders: Ladders,
        status: &StreamStatus,
        (video, size): (VideoTrack, Size),
        wanted: Vec<Rendition>,
        ladder: Arc<Ladder>,
    ) -> Result<Self, PublishError> {
        let hub = &ladders.shared.hub;
        let open = |rung: &rung::Rung| {
            let id = format!("{:08x}", rand::random::<u32>());
            let publisher = Publisher { protocol: "rendition", id, remote: String::new() };
            hub.publish(status.name.of_rendition(&rung.name), publisher, true)
        };
        let writers: Vec<Writer> = ladder.rungs.iter().map(open).collect::<Result<_, _>>()?;
        let wishes = writers.iter().map(Writer::key_requests).collect();
        let names: Vec<StreamName> = writers.iter().map(|writer| writer.name().clone()).collect();
        hub.set_renditions(&status.name, names);
        let name = status.name.clone();
        let measured = hub.tap(&name, Start::LastKey);
        let rate = Rate::default();
        Ok(Self { ladders, name, wanted, ladder, video, size, writers, wishes, rate, measured })
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.ladders.shared);
        let stop = shared.stop.clone();
        let mut told = false;
        while stop.run_until_cancelled(self.is_called_for()).await == Some(true) {
            if !self.ladders.begin_making(&self.ladder) {
                if !std::mem::replace(&mut told, true) {
                    warn!(limit = MAKING_MAX, "renditions of too many streams are made already");
                }
                let _ = stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
                continue;
            }
            told = false;
            info!(renditions = self.writers.len(), "renditions are made");
            let left = self.make(&stop).await;
            self.ladder.making.store(false, Ordering::Relaxed);
            info!("no longer made");
            // Who comes back later does not want the pictures of now.
            self.writers.iter_mut().for_each(Writer::forget);
            if matches!(left, Left::Over) {
                break;
            }
        }
        // Of a stream that goes on, with other settings or other pictures.
        if self.are_ours() {
            shared.hub.set_renditions(&self.name, []);
        }
    }

    /// Whether the stream has the renditions that are made here.
    fn are_ours(&self) -> bool {
        let known = self.ladders.shared.hub.renditions(&self.name);
        known.iter().eq(self.writers.iter().map(Writer::name))
    }

    /// Waits until somebody reads a rendition; false when the stream has ended, or it or its settings
    /// are others now. Learns meanwhile how many pictures a second has, and rests when it knows.
    async fn is_called_for(&mut self) -> bool {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut looks = 0;
        loop {
            tokio::select! {
                item = next(&mut self.measured) => match item {
                    Item::Packet(packet) if packet.kind.is_video() => self.rate.picture(packet.dts),
                    Item::End => return false,
                    _ => {}
                },
                _ = look.tick() => {
                    looks += 1;
                    if self.has_changed() {
                        return false;
                    }
                }
            }
            let known = self.rate.get().is_some();
            if known {
                self.measured = None;
            }
            // A source with a picture now and then has no rate worth waiting for.
            if (known || looks >= RATE_LOOKS_MAX) && self.is_wanted() {
                return true;
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.writers.iter().any(Writer::is_wanted)
    }

    /// Makes them until nobody reads any more.
    async fn make(&mut self, stop: &CancellationToken) -> Left {
        let hub = self.ladders.shared.hub.clone();
        let Some(mut source) = hub.tap(&self.name, Start::LastKey) else { return Left::Over };
        let edge = hub.status(&self.name).and_then(|status| status.newest);
        let edge = edge.unwrap_or(Pts(i64::MIN));
        let (tell, mut told) = mpsc::channel(PICTURES_WAITING);
        let of = Source { name: &self.name, video: &self.video, rate: &self.rate, edge };
        let engines = match Engines::spawn(&self.ladder, &of, &tell) {
            Ok(engines) => engines,
            Err(error) => {
                warn!(%error, "no renditions");
                return Left::Over;
            }
        };
        drop(tell);
        // There may be no key picture to begin with, and none after packets were lost.
        let mut decodable = false;
        let mut sound = None;
        let mut pictures: Vec<Option<VideoTrack>> = vec![None; self.writers.len()];
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut read_at = tokio::time::Instant::now();
        let left = loop {
            tokio::select! {
                () = stop.cancelled() => break Left::Over,
                item = source.next() => match item {
                    Item::Tracks(tracks) if self.fits(&tracks) => {
                        sound = tracks.audio.clone();
                        for (writer, video) in self.writers.iter_mut().zip(&pictures) {
                            if let Some(video) = video.clone() {
                                let audio = sound.clone();
                                writer.set_tracks(Tracks { video: Some(video), audio });
                            }
                        }
                    }
                    Item::Tracks(_) | Item::End => break Left::Over,
                    Item::Packet(packet) if packet.kind.is_video() => {
                        for (place, wish) in self.wishes.iter_mut().enumerate() {
                            if wish.try_next() {
                                engines.force_key(place);
                            }
                        }
                        if packet.key && !self.stays(&packet) {
                            break Left::Over;
                        }
                        decodable |= packet.key;
                        match decodable {
                            true => engines.push(packet),
                            false => source.request_key_frame(),
                        }
                    }
                    Item::Packet(packet) => {
                        let old = packet.pts.0 < edge.0.saturating_sub(OLD_SOUND.0);
                        for (writer, known) in self.writers.iter_mut().zip(&pictures) {
                            if known.is_some() && !old {
                                writer.write(packet.clone());
                            }
                        }
                    }
                    Item::Lagged(packets) => {
                        warn!(packets, "too slow");
                        decodable = false;
                    }
                },
                Some(word) = told.recv() => match word {
                    Told::Picture(place, packet, track) => {
                        let known = pictures[place].as_ref() == Some(&track);
                        let writer = &mut self.writers[place];
                        if !known {
                            let video = Some(pictures[place].insert(track).clone());
                            writer.set_tracks(Tracks { video, audio: sound.clone() });
                        }
                        writer.write(packet);
                    }
                    Told::KeyWanted => source.request_key_frame(),
                },
                _ = look.tick() => {
                    if self.has_changed() || !engines.are_running() {
                        break Left::Over;
                    }
                    if self.is_wanted() {
                        read_at = tokio::time::Instant::now();
                    } else if read_at.elapsed() >= IDLE_LIMIT {
                        break Left::Idle;
                    }
                },
            }
        };
        // A thread that waits to tell something goes on: nobody listens.
        drop(told);
        // Joining their threads takes a frame time: not on a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || drop(engines)).await;
        left
    }

    /// Whether the stream still is what the renditions were chosen for.
    fn fits(&self, tracks: &Tracks) -> bool {
        let same =
            |video: &VideoTrack| video.codec == self.video.codec && video.size == self.video.size;
        tracks.video.as_ref().is_some_and(same)
    }

    /// Whether the renditions are those for the group that this picture begins, which may have been
    /// turned.
    fn stays(&mut self, key: &Packet) -> bool {
        let size = rung::upright(&self.video, key);
        if size == self.size {
            return true;
        }
        self.size = size;
        let rungs = rung::below(&self.wanted, size);
        rungs.iter().map(|rung| &rung.name).eq(self.ladder.rungs.iter().map(|rung| &rung.name))
    }

    /// Whether the stream or the settings are others now, or the publisher sends renditions of its
    /// own.
    fn has_changed(&self) -> bool {
        let shared = &self.ladders.shared;
        let status = shared.hub.status(&self.name);
        status.is_none_or(|status| !self.fits(&status.tracks))
            || !self.are_ours()
            || rung::wanted(&shared.streams, &self.name) != self.wanted
    }
}

/// What a stream has next; never anything where nobody reads it.
async fn next(reader: &mut Option<Reader>) -> Item {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}
