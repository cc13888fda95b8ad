//! The one bridge of packets and trickle: a [`Sender`] packs packets into segments, a [`Receiver`]
//! unpacks them. Gateway and orchestrator use both, so the way back is the code of the way there.
//!
//! A segment is a standalone MPEG-TS that begins at a key picture. Each picture leaves as one
//! chunk as soon as it is there and is complete at the receiver without waiting for the next.

use std::time::Instant;

use bytes::BytesMut;
use pipeline::mpegts::{Demuxer, Event, MuxError, Muxer};
use pipeline::{Packet, Pts, Ticks, Tracks};

/// Segments that may be on their way; a further one means that the other end is slow.
pub const IN_FLIGHT_MAX: usize = 3;

/// A segment is cut at the first key picture after this media time.
pub const SEGMENT_MIN: Ticks = Ticks(Ticks::SECOND.0);

/// What a picture of usual size needs in the buffer.
const BUFFER_BYTES: usize = 64 << 10;

/// Why a link cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The other end takes segments slower than they are made.
    #[error("{0} segments are on their way, the other end is slow")]
    Slow(usize),
    /// The channel failed.
    #[error(transparent)]
    Trickle(#[from] trickle::Error),
    /// The tracks or a packet cannot be packed.
    #[error(transparent)]
    Mux(#[from] MuxError),
}

/// Packs packets and publishes them.
pub struct Sender {
    publisher: trickle::Publisher,
    muxer: Muxer,
    segment: Option<trickle::SegmentWriter>,
    /// Decoding time of the key picture that began the segment.
    began: Pts,
    buffer: BytesMut,
    given_up: u64,
}

impl Sender {
    /// A sender of these tracks; nothing is sent before the first key picture.
    ///
    /// # Errors
    /// [`LinkError::Mux`] for tracks that MPEG-TS cannot carry.
    pub fn new(publisher: trickle::Publisher, tracks: &Tracks) -> Result<Self, LinkError> {
        Ok(Self {
            publisher,
            muxer: Muxer::new(tracks)?,
            segment: None,
            began: Pts(0),
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            given_up: 0,
        })
    }

    /// The tracks changed; the following key picture begins a segment of the new ones.
    ///
    /// # Errors
    /// [`LinkError::Mux`] for tracks that MPEG-TS cannot carry.
    pub fn set_tracks(&mut self, tracks: &Tracks) -> Result<(), LinkError> {
        self.close_segment();
        Ok(self.muxer.set_tracks(tracks)?)
    }

    /// Sends one packet; `Ok(false)` when it was left out because no segment is open and it is no
    /// key picture.
    ///
    /// # Errors
    /// [`LinkError::Slow`], or when the channel is gone. A segment that stalls is given up: the
    /// next key picture begins another.
    pub async fn send(&mut self, packet: &Packet) -> Result<bool, LinkError> {
        self.buffer.clear();
        let due = packet.dts - self.began >= SEGMENT_MIN;
        if packet.key && (self.segment.is_none() || due) {
            self.close_segment();
            let in_flight = self.publisher.in_flight();
            if in_flight >= IN_FLIGHT_MAX {
                return Err(LinkError::Slow(in_flight));
            }
            self.segment = Some(self.publisher.next().await?);
            self.began = packet.dts;
            self.muxer.start_segment(&mut self.buffer);
        }
        let Some(segment) = &mut self.segment else { return Ok(false) };
        self.muxer.mux(packet, &mut self.buffer)?;
        let chunk = self.buffer.split().freeze();
        match segment.write(chunk).await {
            Ok(()) => Ok(true),
            Err(trickle::Error::Stalled { .. } | trickle::Error::TooLarge { .. }) => {
                self.given_up += 1;
                self.segment = None;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Segments given up since the other end took nothing.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Ends the segment and closes the channel.
    pub async fn close(mut self) {
        self.close_segment();
        let _ = self.publisher.close().await;
    }

    fn close_segment(&mut self) {
        if let Some(segment) = self.segment.take() {
            drop(segment.close());
        }
    }
}

/// What a [`Receiver`] gives.
#[derive(Debug)]
pub enum Received {
    /// The tracks, first of all and after each change.
    Tracks(Tracks),
    /// The next packet.
    Packet(Packet),
    /// So many segments were missed; the next packet is a key picture.
    Skipped(u64),
}

/// Subscribes and unpacks.
pub struct Receiver {
    subscriber: trickle::Subscriber,
    demuxer: Demuxer,
    segment: Option<trickle::Segment>,
    events: Vec<Event>,
    ready: std::collections::VecDeque<Received>,
}

impl Receiver {
    /// A receiver; `near` is a frame name close to the ones that will come, which tells the upper
    /// bits of the names that MPEG-TS cuts to 33.
    pub fn new(subscriber: trickle::Subscriber, near: Option<Pts>) -> Self {
        let demuxer = near.map_or_else(Demuxer::new, Demuxer::with_reference);
        Self {
            subscriber,
            demuxer,
            segment: None,
            events: Vec::new(),
            ready: std::collections::VecDeque::new(),
        }
    }

    /// The next item, or `None` when the channel has ended. Cancel-safe.
    ///
    /// # Errors
    /// When the channel is gone or the network failed, retries included.
    pub async fn next(&mut self) -> Result<Option<Received>, LinkError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            let Some(segment) = &mut self.segment else {
                let Some(segment) = self.subscriber.next().await? else { return Ok(None) };
                if segment.skipped() > 0 {
                    self.ready.push_back(Received::Skipped(segment.skipped()));
                }
                self.segment = Some(segment);
                continue;
            };
            match segment.chunk().await {
                Ok(Some(chunk)) => self.demuxer.push(Instant::now(), &chunk, &mut self.events),
                Ok(None) => {
                    self.demuxer.end_of_segment(Instant::now(), &mut self.events);
                    self.segment = None;
                }
                Err(trickle::Error::Reset { .. }) => {
                    // The rest of the segment is lost; the next one begins at a key picture.
                    self.segment = None;
                    self.ready.push_back(Received::Skipped(1));
                }
                Err(error) => return Err(error.into()),
            }
            self.ready.extend(self.events.drain(..).map(|event| match event {
                Event::Tracks(tracks) => Received::Tracks(tracks),
                Event::Packet(packet) => Received::Packet(packet),
            }));
        }
    }
}
