//! What a channel keeps and what it lets go: places of the ring, replaced segments, bytes.

use super::{Channel, Segment, SegmentId, Wake};

impl<W: Wake> Channel<W> {
    pub(super) fn place(&self, index: u64) -> usize {
        (index % self.slots.len() as u64) as usize
    }

    pub(super) fn segment(&self, id: SegmentId) -> Option<&Segment<W>> {
        self.slots.iter().flatten().chain(&self.replaced).find(|segment| segment.id == id)
    }

    pub(super) fn segment_mut(&mut self, id: SegmentId) -> Option<&mut Segment<W>> {
        let ring = self.slots.iter_mut().flatten();
        ring.chain(&mut self.replaced).find(|segment| segment.id == id)
    }

    /// Puts a new segment into its (empty) place.
    pub(super) fn create(&mut self, index: u64) -> &mut Segment<W> {
        self.serial += 1;
        let place = self.place(index);
        self.slots[place].insert(Segment {
            id: SegmentId(self.serial),
            index,
            chunks: Vec::new(),
            cost: 0,
            ended: false,
            cut: false,
            counted: false,
            restarts: false,
            writers: 0,
            readers: 0,
            waker: W::default(),
        })
    }

    /// The segment has begun, or ended without ever beginning: the head moves behind it.
    pub(super) fn count(&mut self, id: SegmentId) {
        let Some(segment) = self.segment_mut(id).filter(|segment| !segment.counted) else {
            return;
        };
        segment.counted = true;
        let (index, restarts) = (segment.index, segment.restarts);
        let next = index + 1;
        self.next_write = if restarts { next } else { self.next_write.max(next) };
        self.begun = true;
        self.stats.segments += 1;
        self.end_where(|other| other.index < index && other.writers == 0);
    }

    pub(super) fn end_where(&mut self, which: impl Fn(&Segment<W>) -> bool) {
        for segment in self.slots.iter_mut().flatten() {
            if !segment.ended && which(segment) {
                segment.ended = true;
                segment.waker.wake();
            }
        }
    }

    /// Empties a place of the ring. A segment that is still written stays open unless `end`.
    pub(super) fn replace(&mut self, place: usize, end: bool) {
        let Some(mut segment) = self.slots[place].take() else { return };
        if end || segment.writers == 0 {
            segment.ended = true;
        }
        segment.waker.wake();
        if segment.readers == 0 || segment.cut {
            self.stats.bytes_kept -= segment.cost;
            return;
        }
        self.replaced.push_back(segment);
        if self.replaced.len() > self.slots.len() {
            self.drop_replaced(0);
        }
    }

    pub(super) fn drop_replaced(&mut self, at: usize) {
        if let Some(segment) = self.replaced.remove(at) {
            self.stats.bytes_kept -= segment.cost;
            self.stats.cuts += u64::from(segment.readers > 0);
            segment.waker.wake();
        }
    }

    /// Throws a segment's bytes away; its readers learn that it was cut.
    pub(super) fn cut(&mut self, id: SegmentId) {
        let Some(segment) = self.segment_mut(id) else { return };
        let cost = std::mem::take(&mut segment.cost);
        segment.chunks = Vec::new();
        (segment.ended, segment.cut) = (true, true);
        segment.waker.wake();
        self.stats.bytes_kept -= cost;
        self.stats.cuts += 1;
    }

    /// Keeps the channel within its bytes, at the cost of the oldest, never of `writing`.
    pub(super) fn make_room(&mut self, writing: SegmentId) {
        let limit = self.limits.channel_bytes;
        while self.stats.bytes_kept > limit {
            if let Some(at) = self.replaced.iter().position(|segment| segment.id != writing) {
                self.drop_replaced(at);
                continue;
            }
            let ring = self.slots.iter().enumerate();
            let others = ring.filter_map(|(at, slot)| Some((at, slot.as_ref()?)));
            let oldest = others
                .filter(|(_, segment)| segment.id != writing && segment.cost > 0)
                .min_by_key(|(_, segment)| (!segment.ended, segment.index));
            let Some(place) = oldest.map(|(at, _)| at) else { return };
            if let Some(segment) = self.slots[place].take() {
                self.stats.bytes_kept -= segment.cost;
                self.stats.cuts += u64::from(segment.readers > 0);
                segment.waker.wake();
            }
        }
    }
}
