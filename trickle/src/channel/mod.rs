//! A channel: a ring of segments, a write head, readers at any place. Core: no IO, no clock.
//!
//! Writers open a segment, append and finish; readers subscribe to an index and read chunk by
//! chunk, each with a cursor of its own. The payload is kept as the chunks that came in and handed
//! out by reference count, never copied. Nothing here waits: who would have to is told so and is
//! woken through the [`Wake`] of the segment. It refuses to know names, HTTP and what is inside a
//! segment.
//!
//! Rules beyond the network's own, all of them to its safe side:
//! - Indices are checked: no negative one reaches the ring, none far ahead of the head.
//! - A segment that comes late (its place is taken, or it is finished already) is answered like an
//!   empty one and never moves the head back. Only a publisher that restarted does: one that says
//!   so, or whose index lies a whole ring behind.
//! - When a segment gets its first byte, lower ones that nobody writes any more end.
//! - A replaced segment stays readable for those who read it until another ring's worth of
//!   segments was replaced, or bytes run out; then they are cut.

mod keep;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::config::{CHUNK_COST, Limits};
use crate::error::Refusal;

/// The highest index of a segment; the next one still fits the signed integer of the wire.
pub(crate) const INDEX_MAX: u64 = (i64::MAX - 1) as u64;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// The next segment to begin (`-1` on the wire).
    Next,
    /// The segment being written or last written (`-2` on the wire).
    Current,
    /// This one.
    At(u64),
}

/// Which segment a writer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The write head (`-1` on the wire).
    Next,
    /// This one.
    At(u64),
}

/// Wakes whoever waits for news of one segment.
pub(crate) trait Wake: Clone + Default {
    /// The segment has new bytes or has ended.
    fn wake(&self);
}

/// Names one segment of one channel for good: an index may come again, this does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SegmentId(u64);

/// The answer to a writer's wish.
#[derive(Debug)]
pub(crate) enum Opened<W> {
    /// Write here.
    Open { id: SegmentId, index: u64, waker: W },
    /// The segment is over; answer as if an empty one had been sent.
    Over { index: u64 },
}

/// A reader's place.
#[derive(Debug)]
pub(crate) struct Joined<W> {
    pub(crate) id: SegmentId,
    pub(crate) index: u64,
    /// The write head at this moment.
    pub(crate) latest: u64,
    pub(crate) waker: W,
}

/// What a reader finds at its cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The chunk there.
    Chunk(Bytes),
    /// Nothing yet.
    Wait,
    /// The segment is complete and was read to its end.
    End {
        /// The channel is closed.
        closed: bool,
        /// The write head now.
        latest: u64,
    },
    /// The segment was thrown out under this reader.
    Cut,
}

/// Counters of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// Segments that got a first byte or ended empty.
    pub segments: u64,
    /// Payload bytes written.
    pub bytes_in: u64,
    /// Bytes kept now, the cost of chunks included.
    pub bytes_kept: usize,
    /// Readers now.
    pub readers: usize,
    /// Open publish requests now.
    pub writers: usize,
    /// Readers that were sent to the write head since their segment was gone.
    pub jumps: u64,
    /// Segments thrown out under a reader, or for their size.
    pub cuts: u64,
    /// The write head.
    pub next: u64,
}

#[derive(Debug)]
pub(crate) struct Channel<W> {
    limits: Limits,
    slots: Vec<Option<Segment<W>>>,
    /// Replaced segments that still have readers, oldest first; at most a ring's worth.
    replaced: VecDeque<Segment<W>>,
    next_write: u64,
    /// Whether any segment got a byte or ended empty.
    begun: bool,
    closed: bool,
    last_write: Instant,
    serial: u64,
    stats: ChannelStats,
}

#[derive(Debug)]
struct Segment<W> {
    id: SegmentId,
    index: u64,
    chunks: Vec<Bytes>,
    cost: usize,
    ended: bool,
    cut: bool,
    /// Counted into the head.
    counted: bool,
    /// Its first byte moves the head here even if that is backwards.
    restarts: bool,
    writers: usize,
    readers: usize,
    waker: W,
}

impl<W: Wake> Channel<W> {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let mut slots = Vec::new();
        // Two at least: publishers open the next segment while they write one.
        slots.resize_with(limits.ring_segments.max(2), || None);
        Self {
            limits,
            slots,
            replaced: VecDeque::new(),
            next_write: 0,
            begun: false,
            closed: false,
            last_write: now,
            serial: 0,
            stats: ChannelStats::default(),
        }
    }

    /// A publish request arrives.
    pub(crate) fn open(&mut self, target: Target, reset: bool) -> Result<Opened<W>, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        let index = match target {
            Target::Next => self.next_write,
            Target::At(index) => index,
        };
        let window = self.next_write.saturating_add(self.limits.index_window.max(1));
        if index > INDEX_MAX || (self.begun && index > window) {
            return Err(Refusal::Index);
        }
        if self.stats.writers >= self.limits.writers.max(1) {
            return Err(Refusal::TooManyWriters { limit: self.limits.writers.max(1) });
        }
        if reset {
            self.end_where(|segment| segment.index < index);
            self.next_write = self.next_write.max(index);
        }
        let ring = self.slots.len() as u64;
        let behind = index + ring < self.next_write;
        let place = self.place(index);
        match &mut self.slots[place] {
            Some(present) if present.index == index && !present.ended => {
                present.writers += 1;
                present.restarts |= reset;
                self.stats.writers += 1;
                let (id, waker) = (present.id, present.waker.clone());
                return Ok(Opened::Open { id, index, waker });
            }
            Some(present) if present.index == index && !reset => return Ok(Opened::Over { index }),
            Some(present) if present.index > index && !reset && !behind => {
                return Ok(Opened::Over { index });
            }
            _ => {}
        }
        self.replace(place, true);
        let segment = self.create(index);
        segment.writers = 1;
        segment.restarts = reset || behind;
        let (id, waker) = (segment.id, segment.waker.clone());
        self.stats.writers += 1;
        Ok(Opened::Open { id, index, waker })
    }

    /// Bytes of a publish request arrive. Bytes for a segment that has ended meanwhile are let go.
    pub(crate) fn append(
        &mut self,
        now: Instant,
        id: SegmentId,
        chunk: Bytes,
    ) -> Result<(), Refusal> {
        let limit = self.limits.segment_bytes.max(1);
        let in_ring = self.slots.iter().flatten().any(|segment| segment.id == id);
        let Some(segment) = self.segment_mut(id) else { return Ok(()) };
        if segment.ended || chunk.is_empty() {
            return Ok(());
        }
        let (length, cost) = (chunk.len() as u64, chunk.len().saturating_add(CHUNK_COST));
        if segment.cost.saturating_add(cost) > limit {
            self.cut(id);
            return Err(Refusal::SegmentTooLarge { limit });
        }
        let first = segment.chunks.is_empty();
        segment.chunks.push(chunk);
        segment.cost += cost;
        segment.waker.wake();
        self.stats.bytes_in += length;
        self.stats.bytes_kept += cost;
        if first {
            self.last_write = now;
            if in_ring {
                self.count(id);
            }
        }
        self.make_room(id);
        Ok(())
    }

    /// A publish request ended as it should. Tells whether the channel is closed.
    pub(crate) fn finish(&mut self, id: SegmentId) -> bool {
        self.stats.writers -= 1;
        let in_ring = self.slots.iter().flatten().any(|segment| segment.id == id);
        if let Some(segment) = self.segment_mut(id) {
            segment.writers -= 1;
            segment.ended = true;
            segment.waker.wake();
            if segment.chunks.is_empty() && !segment.cut && in_ring {
                self.count(id);
            }
        }
        self.closed
    }

    /// A publish request broke off. The segment stays open for another one.
    pub(crate) fn release(&mut self, id: SegmentId) {
        self.stats.writers -= 1;
        if let Some(segment) = self.segment_mut(id) {
            segment.writers -= 1;
        }
    }

    /// Whether a publish request that has sent nothing yet has lost its segment.
    pub(crate) fn is_over(&self, id: SegmentId) -> bool {
        self.segment(id).is_none_or(|segment| segment.ended)
    }

    /// Closes one segment that is in the ring. An empty one at the head counts as written, so
    /// that its readers are not sent back to it.
    pub(crate) fn delete(&mut self, index: u64) -> Result<(), Refusal> {
        let place = self.place(index);
        let segment = self.slots[place].as_mut().filter(|segment| segment.index == index);
        let segment = segment.ok_or(Refusal::NoSegment)?;
        segment.ended = true;
        segment.waker.wake();
        let (id, empty) = (segment.id, segment.chunks.is_empty());
        if empty && index >= self.next_write {
            self.count(id);
        }
        Ok(())
    }

    /// A reader arrives.
    pub(crate) fn subscribe(&mut self, start: Start) -> Result<Joined<W>, Refusal> {
        if self.stats.readers >= self.limits.readers.max(1) {
            return Err(Refusal::TooManyReaders { limit: self.limits.readers.max(1) });
        }
        let index = match start {
            Start::Next => self.next_write,
            Start::Current => self.next_write.saturating_sub(1),
            Start::At(index) => index,
        };
        let latest = self.next_write;
        let place = self.place(index);
        let may_wait = !self.closed && (index == latest || (latest == 0 && index == 1));
        let found = match &self.slots[place] {
            Some(present) if present.index == index => true,
            // A publisher that skipped ahead waits in this place: read that one.
            Some(present) => may_wait && present.index > index,
            None => false,
        };
        if !found {
            if self.closed {
                return Err(Refusal::Closed);
            }
            if !may_wait || index > INDEX_MAX {
                self.stats.jumps += 1;
                return Err(Refusal::NotAvailable { latest });
            }
            self.replace(place, false);
            self.create(index);
        }
        self.stats.readers += 1;
        match &mut self.slots[place] {
            Some(segment) => {
                segment.readers += 1;
                let (id, index, waker) = (segment.id, segment.index, segment.waker.clone());
                Ok(Joined { id, index, latest, waker })
            }
            None => Err(Refusal::NotAvailable { latest }),
        }
    }

    /// The chunk at a reader's cursor (chunks from the segment's beginning).
    pub(crate) fn read(&self, id: SegmentId, cursor: usize) -> Read {
        let Some(segment) = self.segment(id).filter(|segment| !segment.cut) else {
            return Read::Cut;
        };
        match segment.chunks.get(cursor) {
            Some(chunk) => Read::Chunk(chunk.clone()),
            None if segment.ended => Read::End { closed: self.closed, latest: self.next_write },
            None => Read::Wait,
        }
    }

    /// A reader goes.
    pub(crate) fn leave(&mut self, id: SegmentId) {
        self.stats.readers -= 1;
        if let Some(segment) = self.segment_mut(id) {
            segment.readers -= 1;
        }
        while let Some(at) = self.replaced.iter().position(|segment| segment.readers == 0) {
            self.drop_replaced(at);
        }
    }

    /// Ends everything. Data stays readable for those who hold the channel.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.end_where(|_| true);
        for segment in &mut self.replaced {
            segment.ended = true;
            segment.waker.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The write head.
    pub(crate) fn next_write(&self) -> u64 {
        self.next_write
    }

    /// When the last segment got its first byte, or the channel was made.
    pub(crate) fn last_write(&self) -> Instant {
        self.last_write
    }

    pub(crate) fn stats(&self) -> ChannelStats {
        ChannelStats { next: self.next_write, ..self.stats }
    }
}

#[cfg(test)]
mod tests;
