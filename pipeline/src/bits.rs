//! Reading and writing single bits, most significant first, as the ISO and ITU formats lay them out.
//!
//! The reader takes emulation prevention bytes out as it goes (ITU-T H.264 7.3.1), so headers are
//! read from NAL units without a copy. It answers `None` at the end of the data; whoever reads
//! names the field that was missing. Meant for headers of some hundred bits, not for payload.

/// A cursor over bits.
#[derive(Clone)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    current: u8,
    left: u32,
    zeros: u32,
    escaped: bool,
    position: usize,
}

impl<'a> BitReader<'a> {
    /// Bits of `bytes` as they are.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, current: 0, left: 0, zeros: 0, escaped: false, position: 0 }
    }

    /// Bits of a NAL unit's payload: `00 00 03` reads as `00 00`.
    pub(crate) fn escaped(bytes: &'a [u8]) -> Self {
        Self { escaped: true, ..Self::new(bytes) }
    }

    /// Bits read so far, emulation prevention not counted.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Bits in whole bytes that are left, emulation prevention counted as data: an upper bound.
    pub(crate) fn left_at_most(&self) -> usize {
        (self.bytes.len() - self.next) * 8 + self.left as usize
    }

    pub(crate) fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.byte()?;
            self.left = 8;
        }
        self.left -= 1;
        self.position += 1;
        Some((self.current >> self.left) & 1 == 1)
    }

    /// An unsigned number of `count` bits, 32 at most.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let mut value = 0_u32;
        for _ in 0..count {
            value = (value << 1) | u32::from(self.bit()?);
        }
        Some(value)
    }

    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// Leaves the rest of the current byte unread.
    pub(crate) fn align(&mut self) {
        self.position += self.left as usize;
        self.left = 0;
    }

    /// Unsigned Exp-Golomb, `ue(v)` of H.264 9.1. `None` also for more than 31 leading zeros.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(((1_u64 << zeros) - 1) as u32 + self.bits(zeros)?)
    }

    /// Signed Exp-Golomb, `se(v)` of H.264 9.1.1.
    pub(crate) fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.next)?;
        if self.escaped && self.zeros >= 2 && byte == 3 {
            self.next += 1;
            self.zeros = 0;
            byte = *self.bytes.get(self.next)?;
        }
        self.next += 1;
        self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
        Some(byte)
    }
}

/// Bits on their way into bytes.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    pub(crate) fn bit(&mut self, value: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let (true, Some(last)) = (value, self.bytes.last_mut()) {
            *last |= 0x80 >> self.used;
        }
        self.used = (self.used + 1) % 8;
    }

    /// The low `count` bits of `value`, 32 at most.
    pub(crate) fn bits(&mut self, value: u32, count: u32) {
        for shift in (0..count).rev() {
            self.bit((value >> shift) & 1 == 1);
        }
    }

    /// Unsigned Exp-Golomb.
    pub(crate) fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        self.bits(0, length - 1);
        for shift in (0..length).rev() {
            self.bit((code >> shift) & 1 == 1);
        }
    }

    /// The bytes, the last one filled with zeros.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Stop bit, alignment and emulation prevention: the payload of a NAL unit appended to `nal`.
    pub(crate) fn finish_into(mut self, nal: &mut Vec<u8>) {
        self.bit(true);
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            nal.push(byte);
            zeros = if byte == 0 { zeros + 1 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_reads_back_through_emulation_prevention(
            values in prop::collection::vec((any::<u32>(), 1..=32_u32), 0..40),
            codes in prop::collection::vec(0..u32::MAX - 1, 0..40),
        ) {
            let mut writer = BitWriter::default();
            for (value, count) in &values {
                writer.bits(value & (u64::MAX >> (64 - count)) as u32, *count);
            }
            codes.iter().for_each(|code| writer.ue(*code));
            let mut nal = vec![0x67];
            writer.finish_into(&mut nal);
            prop_assert!(!nal.windows(3).any(|w| w[0] == 0 && w[1] == 0 && w[2] < 3));

            let mut reader = BitReader::escaped(&nal[1..]);
            for (value, count) in &values {
                prop_assert_eq!(reader.bits(*count), Some(value & (u64::MAX >> (64 - count)) as u32));
            }
            for code in &codes {
                prop_assert_eq!(reader.ue(), Some(*code));
            }
            prop_assert_eq!(reader.bit(), Some(true));
        }
    }

    #[test]
    fn signed_codes_alternate_around_zero() {
        let mut writer = BitWriter::default();
        (0..5).for_each(|code| writer.ue(code));
        let bytes = writer.into_bytes();
        let mut reader = BitReader::new(&bytes);
        let read: Vec<_> = (0..5).map(|_| reader.se().unwrap()).collect();
        assert_eq!(read, [0, 1, -1, 2, -2]);
    }
}
