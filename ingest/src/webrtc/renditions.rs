//! Codings of a stream's pictures beside the stream itself, as viewers on narrow ways get them: each
//! packetised once and kept for retransmission, like the stream.
//!
//! Frames are numbered so that their number says which rendition they are of: what a viewer asks for
//! again is found although it was switched meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::Packet;
use pipeline::packet::VideoTrack;
use tokio::sync::mpsc;

use super::answer::RENDITIONS_MAX;
use super::worker::Event;
use crate::hub::{Hub, Item, Start};
use crate::name::StreamName;
use crate::rtp::frame::FramePackets;
use crate::rtp::payload::{PAYLOAD_BYTES_DEFAULT, Packetiser};
use crate::rtp::ring::{Ring, RingLimits};

/// Frames and packets of a rendition are numbered from its place times two to this.
const SHIFT: u32 = 48;

/// Over how long bits are counted.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// A rendition without a picture for so long is not to be had.
const ALIVE: Duration = Duration::from_secs(2);

/// How much of a rendition is kept. It has key pictures on request only, so there is no group to join.
const LIMITS: RingLimits =
    RingLimits { bytes: 4 << 20, packets: 1 << 14, span: pipeline::Ticks(2 * 90_000) };

/// The rendition that a frame or packet of this number is of; 0 is the stream itself.
pub(crate) fn of(index: u64) -> usize {
    (index >> SHIFT) as usize
}

/// All renditions of a stream.
pub(crate) struct Renditions {
    list: Vec<Rendition>,
    /// That of the stream itself.
    main: Rate,
    /// Bits a second by rendition, the stream itself first.
    offers: [Option<u64>; RENDITIONS_MAX + 1],
}

struct Rendition {
    name: StreamName,
    track: Option<VideoTrack>,
    pictures: Option<Packetiser>,
    ring: Ring,
    rate: Rate,
    /// Whether its pictures come out of presentation order, which browsers do not show.
    reordered: bool,
    feed: tokio::task::AbortHandle,
}

impl Drop for Rendition {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Renditions {
    /// No rendition but the stream itself.
    pub(crate) fn new() -> Self {
        Self { list: Vec::new(), main: Rate::default(), offers: [None; RENDITIONS_MAX + 1] }
    }

    /// The stream has these renditions from now on. Places of those before stay as they are.
    pub(crate) fn set(
        &mut self,
        stream: u64,
        names: &[StreamName],
        hub: &Hub,
        events: &mpsc::Sender<Event>,
    ) {
        for name in names {
            let known = self.list.iter().position(|rendition| rendition.name == *name);
            if known.is_none() && self.list.len() == RENDITIONS_MAX {
                continue;
            }
            let place = known.unwrap_or(self.list.len()) + 1;
            let feed =
                tokio::spawn(feed((stream, place), name.clone(), hub.clone(), events.clone()));
            let feed = feed.abort_handle();
            match known {
                Some(known) => {
                    let before = std::mem::replace(&mut self.list[known].feed, feed);
                    before.abort();
                }
                None => self.list.push(Rendition {
                    name: name.clone(),
                    track: None,
                    pictures: None,
                    ring: Ring::numbered(LIMITS, (place as u64) << SHIFT),
                    rate: Rate::default(),
                    reordered: false,
                    feed,
                }),
            }
        }
    }

    /// What the following pictures of a rendition are.
    pub(crate) fn set_track(&mut self, place: usize, track: Option<VideoTrack>) {
        let Some(rendition) = place.checked_sub(1).and_then(|n| self.list.get_mut(n)) else {
            return;
        };
        let packetiser = |track: &VideoTrack| Packetiser::new(track.codec, PAYLOAD_BYTES_DEFAULT);
        rendition.pictures = track.as_ref().map(packetiser);
        rendition.track = track;
    }

    /// Counts a picture of the stream itself.
    pub(crate) fn main(&mut self, now: Instant, bytes: usize, track: Option<&VideoTrack>) {
        if self.list.is_empty() {
            return;
        }
        self.main.count(now, bytes);
        self.offers[0] = self.main.rate(now);
        for (offer, rendition) in self.offers[1..].iter_mut().zip(&self.list) {
            // One that is as large as the stream is the stream.
            let smaller = rendition.is_smaller(track);
            *offer = rendition.rate.rate(now).filter(|_| smaller);
        }
    }

    /// Takes a picture of a rendition; `None` when nobody can need it.
    pub(crate) fn packet(
        &mut self,
        now: Instant,
        place: usize,
        packet: &Packet,
        track: Option<&VideoTrack>,
    ) -> Option<Arc<FramePackets>> {
        let rendition = self.list.get_mut(place.checked_sub(1)?)?;
        rendition.rate.count(now, packet.data.len());
        rendition.reordered |= packet.pts != packet.dts;
        if !rendition.is_smaller(track) {
            return None;
        }
        let frame = rendition.pictures.as_ref()?.packetise(packet);
        Some(rendition.ring.push(frame.ok()?))
    }

    /// Bits a second by rendition, the stream itself first; `None` where one is not to be had.
    pub(crate) fn offers(&self) -> &[Option<u64>] {
        &self.offers[..=self.list.len()]
    }

    /// The rendition at a place; `None` for the stream itself.
    pub(crate) fn get(&self, place: usize) -> Option<(&StreamName, Option<&VideoTrack>)> {
        let rendition = self.list.get(place.checked_sub(1)?)?;
        Some((&rendition.name, rendition.track.as_ref()))
    }

    /// The place of the rendition that the publisher calls `rid`.
    pub(crate) fn place(&self, rid: &str, stream: Option<&VideoTrack>) -> Option<usize> {
        let found = self.list.iter().position(|one| one.name.rendition() == Some(rid))?;
        Some(if self.list[found].is_smaller(stream) { found + 1 } else { 0 })
    }

    /// The frame of a rendition with this packet, and the packet's place in it.
    pub(crate) fn with_packet(&self, number: u64) -> Option<(&Arc<FramePackets>, usize)> {
        self.list.get(of(number).checked_sub(1)?)?.ring.with_packet(number)
    }
}

impl Rendition {
    /// Whether it has the stream's codec, fewer pixels and an order that every viewer shows.
    fn is_smaller(&self, stream: Option<&VideoTrack>) -> bool {
        let both = self.track.as_ref().zip(stream);
        both.is_some_and(|(own, stream)| {
            !self.reordered && own.codec == stream.codec && own.size.pixels() < stream.size.pixels()
        })
    }
}

/// Bits a second of one rendition.
#[derive(Debug, Default)]
struct Rate {
    since: Option<Instant>,
    newest: Option<Instant>,
    bytes: u64,
    /// Of the window before.
    rate: Option<u64>,
}

impl Rate {
    fn count(&mut self, now: Instant, bytes: usize) {
        let gone = self.newest.is_some_and(|at| now.saturating_duration_since(at) >= ALIVE);
        if gone {
            *self = Self::default();
        }
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= RATE_WINDOW {
            self.rate = Some((self.bytes as f64 * 8.0 / passed.as_secs_f64()) as u64);
            (self.since, self.bytes) = (Some(now), 0);
        }
        self.bytes += bytes as u64;
        self.newest = Some(now);
    }

    fn rate(&self, now: Instant) -> Option<u64> {
        let newest = self.newest?;
        self.rate.filter(|_| now.saturating_duration_since(newest) < ALIVE)
    }
}

/// Carries the pictures of a rendition to the worker. Its end is no news: the stream has its own.
async fn feed(
    (stream, place): (u64, usize),
    name: StreamName,
    hub: Hub,
    events: mpsc::Sender<Event>,
) {
    let Some(mut reader) = hub.tap(&name, Start::LastKey) else { return };
    loop {
        let item = reader.next().await;
        // Its sound is the stream's, which viewers have already.
        if matches!(&item, Item::Packet(packet) if !packet.kind.is_video()) {
            continue;
        }
        let end = matches!(item, Item::End);
        if events.send(Event::Rendition { stream, place, item }).await.is_err() || end {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_known_after_a_second_and_forgotten_when_pictures_stop() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for n in 0..=40 {
            rate.count(start + Duration::from_millis(n * 33), 1000);
        }
        let now = start + Duration::from_millis(40 * 33);
        let known = rate.rate(now).unwrap();
        assert!((230_000..=250_000).contains(&known), "{known}");
        assert_eq!(rate.rate(now + ALIVE), None);
        rate.count(now + ALIVE, 1000);
        assert_eq!(rate.rate(now + ALIVE), None, "it begins anew");
    }

    #[test]
    fn the_number_of_a_frame_says_its_rendition() {
        assert_eq!((of(7), of(1 << SHIFT), of((3 << SHIFT) + 9)), (0, 1, 3));
    }
}
