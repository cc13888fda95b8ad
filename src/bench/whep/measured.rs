//! What the crowd saw, between two moments.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One send of the server, as a viewer's kernel joined it again: bytes in all, and of each datagram
/// but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Since the pattern began.
    pub(super) at: Duration,
    pub(super) bytes: usize,
    pub(super) segment: usize,
}

/// One picture on its way to all viewers.
#[derive(Clone, Copy, Debug)]
struct Arrivals {
    count: u64,
    first: Instant,
    last: Instant,
}

/// Everything that is noted.
#[derive(Default)]
pub(super) struct Measured {
    on: bool,
    /// When the last packet of each picture was sent to the server.
    sources: HashMap<u64, Instant>,
    pictures: HashMap<u64, Arrivals>,
    /// From there to the last packet at a viewer, in milliseconds.
    delays: Vec<f64>,
    bytes: u64,
    packets: u64,
    sends: u64,
    missing: HashMap<u16, u64>,
    missing_before: u64,
    pattern: Option<(SocketAddr, Option<Instant>, Vec<Sent>)>,
}

/// What was seen in one round.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// From a picture's last packet sent to the server until its last packet was read, for each
    /// picture and viewer, in milliseconds.
    pub(super) delays: Vec<f64>,
    /// From the first viewer that had a picture whole to the last one, in milliseconds.
    pub(super) spreads: Vec<f64>,
    /// Bytes of datagrams, packets, and sends as the kernel joined them.
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) sends: u64,
    /// Packets that never came.
    pub(super) missing: u64,
}

impl Measured {
    /// A source has sent the last packet of a picture.
    pub(super) fn source(&mut self, now: Instant, number: u64) {
        if self.on {
            self.sources.insert(number, now);
        }
    }

    /// A viewer has read the last packet of a picture.
    pub(super) fn picture(&mut self, now: Instant, number: u64) {
        let Some(&sent) = self.sources.get(&number) else { return };
        self.delays.push(now.saturating_duration_since(sent).as_secs_f64() * 1e3);
        let new = Arrivals { count: 0, first: now, last: now };
        let arrivals = self.pictures.entry(number).or_insert(new);
        arrivals.count += 1;
        arrivals.last = now;
    }

    /// The viewer at `to` has read what the server sent at once.
    pub(super) fn datagrams(&mut self, now: Instant, to: SocketAddr, bytes: usize, stride: usize) {
        if self.on {
            self.bytes += bytes as u64;
            self.packets += bytes.div_ceil(stride.max(1)) as u64;
            self.sends += 1;
        }
        if let Some((_, begun, sent)) = self.pattern.as_mut().filter(|(of, ..)| *of == to) {
            let at = now.saturating_duration_since(*begun.get_or_insert(now));
            sent.push(Sent { at, bytes, segment: stride });
        }
    }

    /// All packets that the viewers behind a port missed so far.
    pub(super) fn missing(&mut self, port: u16, missing: u64) {
        self.missing.insert(port, missing);
    }

    /// Begins a round.
    pub(super) fn begin(&mut self) {
        self.missing_before = self.missing.values().sum();
        self.on = true;
    }

    /// Ends it.
    pub(super) fn end(&mut self) -> Seen {
        self.on = false;
        self.sources.clear();
        let pictures = std::mem::take(&mut self.pictures);
        let spread = |picture: Arrivals| {
            let spread = picture.last.saturating_duration_since(picture.first);
            (picture.count > 1).then_some(spread.as_secs_f64() * 1e3)
        };
        Seen {
            delays: std::mem::take(&mut self.delays),
            spreads: pictures.into_values().filter_map(spread).collect(),
            bytes: std::mem::take(&mut self.bytes),
            packets: std::mem::take(&mut self.packets),
            sends: std::mem::take(&mut self.sends),
            missing: self.missing.values().sum::<u64>().saturating_sub(self.missing_before),
        }
    }

    /// Begins to note what one viewer gets.
    pub(super) fn watch(&mut self, viewer: SocketAddr) {
        self.pattern = Some((viewer, None, Vec::new()));
    }

    /// What it got.
    pub(super) fn pattern(&mut self) -> Vec<Sent> {
        self.pattern.take().map_or(Vec::new(), |(_, _, sent)| sent)
    }
}
