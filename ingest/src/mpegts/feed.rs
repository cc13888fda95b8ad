//! Bytes of a transport stream into a stream of the hub.

use std::time::{Duration, Instant};

use pipeline::mpegts::{Demuxer, Event, Stats};
use tracing::{debug, warn};

use super::line::Line;
use crate::hub::Writer;

/// Why a transport stream is not taken any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// There may be bytes, but nothing in them that can be used.
    #[error("no picture or sound for {} s", .0.as_secs())]
    NoMedia(Duration),
}

/// Takes one publisher's transport stream apart and writes what is in it.
pub struct Feed {
    writer: Writer,
    demuxer: Demuxer,
    line: Line,
    events: Vec<Event>,
    /// When the last packet came out.
    media: Instant,
    idle_timeout: Duration,
    told_programs: bool,
    repaired: u64,
    packets: u64,
}

impl Feed {
    /// A feed of `writer`, which is over when nothing useful came for `idle_timeout`.
    pub fn new(now: Instant, writer: Writer, idle_timeout: Duration) -> Self {
        Self {
            writer,
            demuxer: Demuxer::new(),
            line: Line::default(),
            events: Vec::new(),
            media: now,
            idle_timeout,
            told_programs: false,
            repaired: 0,
            packets: 0,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, now: Instant, bytes: &[u8]) {
        self.demuxer.push(now, bytes, &mut self.events);
        self.write(now);
    }

    /// The publisher is gone: writes what was not yet complete by its marks.
    pub fn end(&mut self, now: Instant) {
        self.demuxer.end_of_segment(now, &mut self.events);
        self.write(now);
        let stats = self.demuxer.stats();
        debug!(?stats, jumps = self.line.repaired, "transport stream ended");
    }

    /// Whether it goes on.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn check(&self, now: Instant) -> Result<(), FeedError> {
        let idle = now.saturating_duration_since(self.media) >= self.idle_timeout;
        if idle { Err(FeedError::NoMedia(self.idle_timeout)) } else { Ok(()) }
    }

    /// What was read and what was wrong so far.
    pub fn stats(&self) -> Stats {
        self.demuxer.stats()
    }

    /// Pictures and sound frames written since this was last asked.
    pub fn take_packets(&mut self) -> u64 {
        std::mem::take(&mut self.packets)
    }

    /// Waits until the writer was replaced or kicked.
    pub async fn closed(&self) {
        self.writer.closed().await;
    }

    fn write(&mut self, now: Instant) {
        for event in self.events.drain(..) {
            match event {
                Event::Tracks(tracks) => self.writer.set_tracks(tracks),
                Event::Packet(mut packet) => {
                    self.media = now;
                    self.line.place(&mut packet);
                    self.writer.write(packet);
                    self.packets += 1;
                }
            }
        }
        if self.line.repaired != self.repaired {
            self.repaired = self.line.repaired;
            debug!(jumps = self.repaired, "the transport stream's clock jumped");
        }
        let others = self.demuxer.stats().ignored_streams;
        if others > 0 && !std::mem::replace(&mut self.told_programs, true) {
            warn!(others, "streams of the program that are not carried");
        }
    }
}
