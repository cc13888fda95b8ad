//! Blocks, which hold the frames of one track (RFC 9559 10): one each, or several laced together.

use super::ebml::number;

/// Frames of a block, at most: their count is a byte.
const FRAMES_MAX: usize = 256;

/// The frames of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// The track's number.
    pub(super) track: u64,
    /// After the time of its cluster, in the file's units.
    pub(super) time: i16,
    pub(super) frames: Vec<&'a [u8]>,
}

impl<'a> Block<'a> {
    /// Reads the body of a `SimpleBlock` or a `Block`; `None` for one that contradicts itself.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (track, bytes) = number(body)?;
        let rest = body.get(bytes..)?;
        let ([high, low, flags], rest) = rest.split_first_chunk()?;
        let frames = match flags >> 1 & 3 {
            0 => vec![rest],
            lacing => laced(lacing, rest)?,
        };
        Some(Self { track: track?, time: i16::from_be_bytes([*high, *low]), frames })
    }
}

fn laced(lacing: u8, data: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut rest) = data.split_first()?;
    let count = usize::from(*count) + 1;
    let mut sizes = Vec::with_capacity(count.min(FRAMES_MAX));
    match lacing {
        // Xiph: sums of bytes, each 255 followed by another.
        1 => {
            for _ in 1..count {
                let mut size = 0;
                loop {
                    let (byte, behind) = rest.split_first()?;
                    rest = behind;
                    size += usize::from(*byte);
                    if *byte < 255 {
                        break;
                    }
                }
                sizes.push(size);
            }
        }
        // All of one size.
        2 => {
            let size = rest.len() / count;
            if size * count != rest.len() {
                return None;
            }
            sizes.resize(count - 1, size);
        }
        // EBML: the first size, then differences.
        _ => {
            let mut size = 0_i64;
            for at in 1..count {
                let (value, bytes) = number(rest)?;
                rest = rest.get(bytes..)?;
                let value = i64::try_from(value?).ok()?;
                // A difference is stored around the middle of what its bytes hold.
                let middle = (1_i64 << (7 * bytes - 1)) - 1;
                size = if at == 1 { value } else { size.checked_add(value - middle)? };
                sizes.push(usize::try_from(size).ok()?);
            }
        }
    }
    let mut frames = Vec::with_capacity(count);
    for size in sizes {
        let (frame, behind) = rest.split_at_checked(size)?;
        frames.push(frame);
        rest = behind;
    }
    frames.push(rest);
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(body: &[u8]) -> Option<Vec<Vec<u8>>> {
        Block::parse(body).map(|block| block.frames.iter().map(|frame| frame.to_vec()).collect())
    }

    #[test]
    fn frames_are_found_in_every_kind_of_lacing() {
        let plain = Block::parse(&[0x82, 0xFF, 0xFE, 0x80, 7, 8]).unwrap();
        assert_eq!((plain.track, plain.time, plain.frames), (2, -2, vec![&[7, 8][..]]));
        let three = Some(vec![vec![1], vec![2, 2], vec![3, 3, 3]]);
        assert_eq!(frames(&[0x81, 0, 0, 0x02, 2, 1, 2, 1, 2, 2, 3, 3, 3]), three);
        assert_eq!(frames(&[0x81, 0, 0, 0x06, 2, 0x81, 0xC0, 1, 2, 2, 3, 3, 3]), three);
        let even = Some(vec![vec![1, 1], vec![2, 2]]);
        assert_eq!(frames(&[0x81, 0, 0, 0x04, 1, 1, 1, 2, 2]), even);
        // A size of 300 in Xiph's way.
        let long = [&[0x81, 0, 0, 0x02, 1, 255, 45][..], &[9; 300], &[5]].concat();
        assert_eq!(frames(&long).unwrap()[1], [5]);
    }

    #[test]
    fn blocks_that_contradict_themselves_are_none() {
        for body in [
            &[][..],
            &[0x81, 0, 0],
            &[0x00, 0, 0, 0, 1],
            &[0x81, 0, 0, 0x02, 1, 9, 1],
            &[0x81, 0, 0, 0x04, 1, 1, 2, 3],
            &[0x81, 0, 0, 0x06, 2, 0x81, 0x80, 1, 2],
            &[0xFF, 0, 0, 0, 1],
        ] {
            assert_eq!(frames(body), None, "{body:?}");
        }
    }
}
