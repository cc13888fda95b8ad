//! Packets as bytes: headers, sequence numbers and lists of losses (draft-sharabayko-srt-01,
//! sections 3.1, 3.2 and Appendix A).

use bytes::BufMut;

/// Bytes in front of each packet.
pub(super) const HEADER_BYTES: usize = 16;

/// Bytes of a datagram, at most: 1,500 on the wire without the headers of IPv4 and UDP.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1500 - 28;

/// Bytes of data in a packet, at most.
pub(super) const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES;

/// A number of a data packet, modulo 2^31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seq(u32);

impl Seq {
    const MASK: u32 = 0x7FFF_FFFF;

    /// The low 31 bits.
    pub(super) const fn new(bits: u32) -> Self {
        Self(bits & Self::MASK)
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    /// The number `count` later.
    pub(super) const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count) & Self::MASK)
    }

    /// The number before.
    pub(super) const fn previous(self) -> Self {
        Self(self.0.wrapping_sub(1) & Self::MASK)
    }

    /// How much later this is than `other`, from -2^30 to 2^30 - 1.
    pub(super) const fn since(self, other: Seq) -> i32 {
        (self.0.wrapping_sub(other.0) << 1) as i32 >> 1
    }
}

/// Control packets, by the number of their type.
pub(super) mod kind {
    pub(crate) const HANDSHAKE: u16 = 0;
    pub(crate) const KEEP_ALIVE: u16 = 1;
    pub(crate) const ACK: u16 = 2;
    pub(crate) const NAK: u16 = 3;
    pub(crate) const SHUTDOWN: u16 = 5;
    pub(crate) const ACK_ACK: u16 = 6;
    pub(crate) const DROP_REQUEST: u16 = 7;
    pub(crate) const USER: u16 = 0x7FFF;
}

/// Types of extensions, which are also the subtypes of [`kind::USER`].
pub(super) mod extension {
    pub(crate) const HS_REQUEST: u16 = 1;
    pub(crate) const HS_RESPONSE: u16 = 2;
    pub(crate) const KM_REQUEST: u16 = 3;
    pub(crate) const KM_RESPONSE: u16 = 4;
    pub(crate) const STREAM_ID: u16 = 5;
    pub(crate) const CONGESTION: u16 = 6;
    pub(crate) const FILTER: u16 = 7;
    pub(crate) const GROUP: u16 = 8;
}

/// Which key a data packet is encrypted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum KeySlot {
    /// None: it is not.
    #[default]
    Plain,
    Even,
    Odd,
}

impl KeySlot {
    /// The other key; what is plain stays so.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Even => 1,
            Self::Odd => 2,
        }
    }
}

/// The first 16 bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Data(DataHead),
    Control(ControlHead),
}

/// Head of a data packet (3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataHead {
    pub(super) seq: Seq,
    /// `None` for the reserved value.
    pub(super) key: Option<KeySlot>,
    /// Sent again.
    pub(super) again: bool,
    /// 26 bits.
    pub(super) message: u32,
    /// Microseconds since the sender's socket began, modulo 2^32.
    pub(super) time: u32,
    /// The receiver's socket.
    pub(super) to: u32,
}

/// Head of a control packet (3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ControlHead {
    pub(super) kind: u16,
    pub(super) subtype: u16,
    /// Its meaning depends on `kind`.
    pub(super) info: u32,
    pub(super) time: u32,
    pub(super) to: u32,
}

/// The socket that a datagram is for; 0 is the listener. `None` when it is no SRT packet.
pub(super) fn destination(datagram: &[u8]) -> Option<u32> {
    word(datagram, 3)
}

/// The 32-bit word at an index, if the bytes reach that far.
pub(super) fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let bytes = bytes.get(index * 4..index * 4 + 4)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

impl Head {
    /// The head of a datagram, or `None` when there are too few bytes for one.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let [first, second] = [word(datagram, 0)?, word(datagram, 1)?];
        let [time, to] = [word(datagram, 2)?, word(datagram, 3)?];
        Some(if first >> 31 == 1 {
            let kind = (first >> 16) as u16 & 0x7FFF;
            Self::Control(ControlHead { kind, subtype: first as u16, info: second, time, to })
        } else {
            let key = match second >> 27 & 3 {
                0 => Some(KeySlot::Plain),
                1 => Some(KeySlot::Even),
                2 => Some(KeySlot::Odd),
                _ => None,
            };
            let (again, message) = (second >> 26 & 1 == 1, second & 0x03FF_FFFF);
            Self::Data(DataHead { seq: Seq::new(first), key, again, message, time, to })
        })
    }
}

impl DataHead {
    /// Writes the head of a packet that is a message of its own.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let key = self.key.unwrap_or_default().bits() << 27;
        out.put_u32(self.seq.bits());
        out.put_u32(3 << 30 | key | u32::from(self.again) << 26 | self.message & 0x03FF_FFFF);
        out.put_u32(self.time);
        out.put_u32(self.to);
    }
}

impl ControlHead {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.put_u16(0x8000 | self.kind);
        out.put_u16(self.subtype);
        out.put_u32(self.info);
        out.put_u32(self.time);
        out.put_u32(self.to);
    }
}

/// The ranges of a list of losses, first and last number of each. What makes no sense is left out.
pub(super) fn losses(body: &[u8]) -> impl Iterator<Item = (Seq, Seq)> {
    let mut index = 0;
    std::iter::from_fn(move || {
        let first = word(body, index)?;
        index += 1;
        if first >> 31 == 0 {
            return Some((Seq::new(first), Seq::new(first)));
        }
        let last = word(body, index)?;
        index += 1;
        Some((Seq::new(first), Seq::new(last)))
    })
    .filter(|(first, last)| last.since(*first) >= 0)
}

/// Appends a range to a list of losses.
pub(super) fn put_loss(out: &mut Vec<u8>, first: Seq, last: Seq) {
    if first == last {
        return out.put_u32(first.bits());
    }
    out.put_u32(1 << 31 | first.bits());
    out.put_u32(last.bits());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_turn_over_at_31_bits() {
        let top = Seq::new(0x7FFF_FFFF);
        assert_eq!(top.plus(1), Seq::new(0));
        assert_eq!(Seq::new(4).since(top), 5);
        assert_eq!(top.since(Seq::new(4)), -5);
        assert_eq!(Seq::new(1 << 30).since(Seq::new(0)), -(1 << 30));
    }

    #[test]
    fn lists_of_losses_come_back_and_backward_ranges_do_not() {
        let mut list = Vec::new();
        let ranges = [(5, 5), (9, 12), (0x7FFF_FFFE, 2)].map(|(a, b)| (Seq::new(a), Seq::new(b)));
        for (first, last) in ranges {
            put_loss(&mut list, first, last);
        }
        assert_eq!(losses(&list).collect::<Vec<_>>(), ranges);
        let mut bad = Vec::new();
        put_loss(&mut bad, Seq::new(9), Seq::new(3));
        bad.extend_from_slice(&[0x80, 0, 0]);
        assert_eq!(losses(&bad).count(), 0);
    }

    proptest! {
        #[test]
        fn heads_come_back(seq in 0_u32..1 << 31, message in 0_u32..1 << 26, time: u32, to: u32, again: bool, odd: bool) {
            let key = Some(if odd { KeySlot::Odd } else { KeySlot::Plain });
            let head = DataHead { seq: Seq::new(seq), key, again, message, time, to };
            let mut out = Vec::new();
            head.write(&mut out);
            prop_assert_eq!(Head::parse(&out), Some(Head::Data(head)));
            let head = ControlHead { kind: (seq & 0x7FFF) as u16, subtype: message as u16, info: time, time, to };
            out.clear();
            head.write(&mut out);
            prop_assert_eq!(Head::parse(&out), Some(Head::Control(head)));
            prop_assert_eq!(destination(&out), Some(to));
            prop_assert_eq!(Head::parse(&out[..15]), None);
        }
    }
}
