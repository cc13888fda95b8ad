//! The pictures of a source: made beforehand, of the sizes that an encoder makes of 640x360 at
//! 30 frames a second and 600 kbit/s. Parameter sets and slice headers are those of a real encoder;
//! what follows is noise, since no viewer of the measurement decodes.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::RATE;

/// Pictures from one key picture to the next: 2 s.
pub(super) const GROUP: u32 = 2 * RATE;

/// Bits of pictures in a second.
const BITRATE: u32 = 600_000;

/// Bytes of a key picture: 7 packets.
const KEY_BYTES: usize = 7400;

/// Bytes of the number that each picture ends with.
pub(super) const NUMBER_BYTES: usize = 16;

/// Payload bytes of a packet, as browsers cut.
const PAYLOAD_BYTES: usize = 1100;

/// x264 baseline, 640x360.
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04,
    0x00, 0x00, 0x03, 0x00, 0xf2, 0x3c, 0x58, 0xba, 0x80,
];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
const KEY_SLICE: &[u8] = &[0x65, 0x88, 0x84, 0x08, 0x7c, 0x42, 0x22, 0xaa];
const DELTA_SLICE: &[u8] = &[0x41, 0x9a, 0x20, 0x35, 0xfc, 0xf0, 0x81, 0x55];

/// One group of pictures, repeated for ever.
pub(super) struct Pictures {
    group: Vec<Vec<u8>>,
}

impl Pictures {
    /// The same each time.
    pub(super) fn new() -> Self {
        let mut chance = StdRng::seed_from_u64(1);
        let mean = (BITRATE / 8 * GROUP / RATE) as usize - KEY_BYTES;
        let mean = mean / (GROUP as usize - 1);
        let picture = |index| {
            let (head, bytes) = match index {
                0 => (KEY_SLICE, KEY_BYTES),
                _ => (DELTA_SLICE, with_room(chance.random_range(mean / 2..mean * 3 / 2))),
            };
            let mut slice = head.to_vec();
            // Without zeros, so that nothing in it looks like a start code.
            slice.extend((head.len()..bytes).map(|_| chance.random_range(1..=255_u8)));
            slice
        };
        Self { group: (0..GROUP).map(picture).collect() }
    }

    /// Payloads of the picture at this place (RFC 6184): FU-A fragments that end with `name` in
    /// hexadecimal digits; a key picture has its parameter sets before it.
    pub(super) fn payloads(&self, place: u64, name: u64) -> Vec<Vec<u8>> {
        let index = (place % u64::from(GROUP)) as usize;
        let mut payloads = Vec::new();
        if index == 0 {
            payloads.push(SPS.to_vec());
            payloads.push(PPS.to_vec());
        }
        let mut slice = self.group[index].clone();
        let end = slice.len() - NUMBER_BYTES;
        slice[end..].copy_from_slice(format!("{name:016x}").as_bytes());
        let (head, body) = (slice[0], &slice[1..]);
        // Equal parts, so that the last one holds the whole name.
        let count = body.len().div_ceil(PAYLOAD_BYTES).max(2);
        let part = body.len().div_ceil(count);
        let last = body.chunks(part).count() - 1;
        for (at, chunk) in body.chunks(part).enumerate() {
            let flags = u8::from(at == 0) << 7 | u8::from(at == last) << 6;
            let mut payload = vec![head & 0xe0 | 28, flags | head & 0x1f];
            payload.extend_from_slice(chunk);
            payloads.push(payload);
        }
        payloads
    }
}

/// A server may cut anew, at 1,152 bytes if it is ours: the last part shall hold the number then.
fn with_room(bytes: usize) -> usize {
    const PART: usize = ingest::rtp::payload::PAYLOAD_BYTES_DEFAULT - 2;
    if (bytes - 1) % PART < 4 * NUMBER_BYTES { bytes + 4 * NUMBER_BYTES } else { bytes }
}

/// The name that a picture's last payload ends with.
pub(super) fn number(payload: &[u8]) -> Option<u64> {
    let (_, digits) = payload.split_last_chunk::<NUMBER_BYTES>()?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Bytes of a packet of sound: 20 ms at 48 kbit/s.
const SOUND_BYTES: usize = 120;

/// Milliseconds of a packet of sound.
pub(super) const SOUND_MS: u32 = 20;

/// One packet of Opus (RFC 6716 3.1): CELT, full band, 20 ms, mono, one frame.
pub(super) fn sound() -> Vec<u8> {
    let mut packet = vec![0xa5; SOUND_BYTES];
    packet[0] = 0xf8;
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_bits_of_two_seconds_and_each_picture_tells_its_number() {
        let pictures = Pictures::new();
        let mut bytes = 0;
        for place in 0..u64::from(GROUP) {
            let payloads = pictures.payloads(place + 120, place << 32 | 7);
            assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES + 2));
            assert_eq!(number(payloads.last().unwrap()), Some(place << 32 | 7));
            bytes += payloads.iter().map(Vec::len).sum::<usize>();
        }
        let wanted = (BITRATE / 8 * GROUP / RATE) as usize;
        assert!(bytes.abs_diff(wanted) < wanted / 20, "{bytes} of {wanted}");
        assert_eq!(number(b"short"), None);
    }
}
