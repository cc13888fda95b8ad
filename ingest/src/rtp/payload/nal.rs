//! What H.264 and HEVC have in common in RTP: small NAL units share a packet, large ones are cut
//! evenly, so that all packets of a slice but the last have one size and leave in one segmented
//! send. The two differ in the bytes that stand in front.

use bytes::Bytes;

/// The bytes in front, by codec.
pub(super) trait Heads {
    /// Bytes of a NAL unit's header, and of the header of an aggregate.
    const HEADER_BYTES: usize;
    /// Writes the header of a packet that carries all of these units.
    fn aggregate(units: &[&[u8]], out: &mut Vec<u8>);
    /// Writes what stands before a piece of a unit with this header, `HEADER_BYTES + 1` bytes.
    fn fragment(header: &[u8], start: bool, end: bool, out: &mut Vec<u8>);
}

/// Cuts the NAL units of one picture. Each unit is longer than its header.
pub(super) struct Cutter<'a, H> {
    payload_max: usize,
    out: Vec<u8>,
    ends: Vec<u32>,
    /// Small units that go into the next packet together.
    waiting: Vec<&'a [u8]>,
    heads: std::marker::PhantomData<H>,
}

impl<'a, H: Heads> Cutter<'a, H> {
    /// For a picture of so many bytes.
    pub(super) fn new(payload_max: usize, bytes: usize) -> Self {
        Self {
            payload_max,
            out: Vec::with_capacity(bytes + bytes / 256 + 64),
            ends: Vec::with_capacity(bytes / payload_max + 2),
            waiting: Vec::new(),
            heads: std::marker::PhantomData,
        }
    }

    pub(super) fn add(&mut self, unit: &'a [u8]) {
        if unit.len() > self.payload_max {
            self.flush();
            self.fragment(unit);
            return;
        }
        let together: usize = self.waiting.iter().map(|other| 2 + other.len()).sum();
        let room = self.payload_max - H::HEADER_BYTES;
        if !self.waiting.is_empty() && together + 2 + unit.len() > room {
            self.flush();
        }
        self.waiting.push(unit);
    }

    /// All payloads and where each ends; `None` when there are none.
    pub(super) fn finish(mut self) -> Option<(Bytes, Box<[u32]>)> {
        self.flush();
        (!self.ends.is_empty()).then(|| (self.out.into(), self.ends.into_boxed_slice()))
    }

    fn flush(&mut self) {
        match self.waiting[..] {
            [] => return,
            [unit] => self.out.extend_from_slice(unit),
            _ => {
                H::aggregate(&self.waiting, &mut self.out);
                for unit in &self.waiting {
                    self.out.extend_from_slice(&(unit.len() as u16).to_be_bytes());
                    self.out.extend_from_slice(unit);
                }
            }
        }
        self.waiting.clear();
        self.close();
    }

    fn fragment(&mut self, unit: &[u8]) {
        let (header, body) = unit.split_at(H::HEADER_BYTES);
        let pieces = body.len().div_ceil(self.payload_max - H::HEADER_BYTES - 1);
        let mut pieces = body.chunks(body.len().div_ceil(pieces)).peekable();
        let mut start = true;
        while let Some(piece) = pieces.next() {
            H::fragment(header, start, pieces.peek().is_none(), &mut self.out);
            self.out.extend_from_slice(piece);
            start = false;
            self.close();
        }
    }

    fn close(&mut self) {
        self.ends.push(self.out.len() as u32);
    }
}

/// Joins the NAL units of one picture.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    pub(super) in_fragment: bool,
    /// Whether the unit that was begun last is wanted, for its further fragments.
    pub(super) kept: bool,
    pub(super) key: bool,
}

impl Joiner {
    /// Walks over the units of an aggregate, which follow its header.
    pub(super) fn aggregate<'a>(
        mut rest: &'a [u8],
        mut unit: impl FnMut(&'a [u8]) -> Result<(), super::Fault>,
    ) -> Result<(), super::Fault> {
        let fault = super::Fault::Malformed;
        if rest.is_empty() {
            return Err(fault("an empty aggregate"));
        }
        while !rest.is_empty() {
            let (length, after) =
                rest.split_first_chunk::<2>().ok_or(fault("a cut length in an aggregate"))?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (found, after) = after
                .split_at_checked(length)
                .ok_or(fault("a length in an aggregate reaches beyond the packet"))?;
            if found.is_empty() {
                return Err(fault("an empty unit in an aggregate"));
            }
            unit(found)?;
            rest = after;
        }
        Ok(())
    }

    /// The order of start and end bits of fragments.
    pub(super) fn turn(&mut self, start: bool, end: bool) -> Result<(), super::Fault> {
        if start == self.in_fragment {
            return Err(super::Fault::Malformed("a fragment out of turn"));
        }
        self.in_fragment = !end;
        Ok(())
    }

    /// Ends the picture: `None` within a fragmented unit, else whether it was a key picture.
    pub(super) fn end(&mut self) -> Option<bool> {
        let Self { in_fragment, key, .. } = std::mem::take(self);
        (!in_fragment).then_some(key)
    }
}
