//! The time that a picture carries, by which players tell how old it is.

use std::time::SystemTime;

use super::RATE;

/// What stands before the time in a picture.
const MARK: [u8; 8] = *b"\xf0MillSt\xf1";

/// Bytes of mark and time.
pub(super) const MARKED_BYTES: usize = MARK.len() + 8;

/// Nanoseconds since 1970, the same in all processes.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64
}

/// Bytes of one picture.
pub(super) const fn picture_bytes(kbits: u32) -> usize {
    (kbits * 125 / RATE) as usize
}

/// A picture of so many bytes with the time at its end. Nobody decodes it.
pub(super) fn picture(bytes: usize) -> Vec<u8> {
    let mut picture = vec![0x5A; bytes.max(MARKED_BYTES)];
    stamp(&mut picture);
    picture
}

/// Writes the time into it.
pub(super) fn stamp(picture: &mut [u8]) {
    let at = picture.len() - 8;
    picture[at - MARK.len()..at].copy_from_slice(&MARK);
    picture[at..].copy_from_slice(&now().to_be_bytes());
}

/// The times of all pictures whose end is there.
pub(super) fn times(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let at = rest.iter().position(|byte| *byte == MARK[0])?;
            rest = &rest[at..];
            match rest.strip_prefix(&MARK) {
                Some(behind) => {
                    let time = behind.first_chunk()?;
                    rest = &behind[8..];
                    return Some(u64::from_be_bytes(*time));
                }
                None => rest = &rest[1..],
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_picture_is_found_wherever_it_lies() {
        let picture = picture(100);
        let two = [&picture[..], &[0xF0, 1, 2][..], &picture[..]].concat();
        let wanted = u64::from_be_bytes(picture[92..].try_into().unwrap());
        assert_eq!(times(&two).collect::<Vec<_>>(), [wanted, wanted]);
        let cut = &two[..two.len() - 1];
        assert_eq!(times(cut).count(), 1, "cut in two it is found when the rest is there");
        assert_eq!(times(b"short").count(), 0);
        assert!(now() - wanted < 60_000_000_000);
    }
}
