//! How a picture has to be turned to stand upright: cameras that lie on their side say so instead of
//! turning the samples.
//!
//! MP4 says it for a whole track, by a matrix. Within our streams it is a supplemental message of the
//! key picture, `display_orientation` (H.264 D.1.27, HEVC D.2.17), so that it travels by every protocol
//! and into every recording. Decoders pass over it: [`turned`] does what it says. Pictures that are
//! mirrored are left as they are.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::Frame;
use crate::annexb::{START_CODE, heads};
use crate::frame::{HostPlanes, PixelFormat, Plane, Size, Surface};
use crate::h264::NalKind;
use crate::packet::Codec;

/// `payloadType` of `display_orientation`.
const ORIENTATION: u8 = 47;

/// `rbsp_trailing_bits`.
const TRAILING: u8 = 0x80;

/// Rows and columns that are turned by a quarter together: each line of the cache that is read or
/// written is used up before another takes its place.
const BLOCK: usize = 16;

/// One in the matrix of MP4, 16.16.
const ONE: i32 = 1 << 16;

/// A turn clockwise, from the samples to what is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// By 90 degrees.
    Quarter,
    /// By 180 degrees.
    Half,
    /// By 270 degrees.
    ThreeQuarters,
}

impl Turn {
    const fn of_quarters(quarters: u16) -> Option<Self> {
        match quarters % 4 {
            1 => Some(Self::Quarter),
            2 => Some(Self::Half),
            3 => Some(Self::ThreeQuarters),
            _ => None,
        }
    }

    const fn quarters(self) -> u16 {
        match self {
            Self::Quarter => 1,
            Self::Half => 2,
            Self::ThreeQuarters => 3,
        }
    }

    /// What `a`, `b`, `c` and `d` of an MP4 track's matrix say (ISO/IEC 14496-12 8.3.2).
    pub fn of_matrix(matrix: [i32; 4]) -> Option<Self> {
        match matrix.map(i32::signum) {
            [0, 1, -1, 0] => Some(Self::Quarter),
            [-1, 0, 0, -1] => Some(Self::Half),
            [0, -1, 1, 0] => Some(Self::ThreeQuarters),
            _ => None,
        }
    }

    /// `a`, `b`, `c` and `d` of a matrix that says it.
    pub const fn matrix(self) -> [i32; 4] {
        match self {
            Self::Quarter => [0, ONE, -ONE, 0],
            Self::Half => [-ONE, 0, 0, -ONE],
            Self::ThreeQuarters => [0, -ONE, ONE, 0],
        }
    }

    /// A picture of this size, turned.
    #[must_use]
    pub const fn size(self, size: Size) -> Size {
        match self {
            Self::Half => size,
            Self::Quarter | Self::ThreeQuarters => Size::new(size.height, size.width),
        }
    }
}

/// The same access unit with the message before its first slice; `None` where the coding has none, or
/// the unit no slice.
pub fn with_turn(codec: Codec, unit: &[u8], turn: Turn) -> Option<Bytes> {
    // The angle counts the other way round, 65,536 to the whole turn.
    let angle = (4 - turn.quarters()) << 14;
    // No cancelling, no mirroring, the angle, and in the last five bits: until the next message, end.
    let bits = |last: u8| [(angle >> 11) as u8, (angle >> 3) as u8, (angle << 5) as u8 | last];
    let (header, payload): (&[u8], _) = match codec {
        // `display_orientation_repetition_period` 1 and no extension.
        Codec::H264 => (&[6], bits(0b0_1001)),
        // `display_orientation_persistence_flag`.
        Codec::Hevc => (&[39 << 1, 1], bits(0b1_1000)),
        _ => return None,
    };
    let slice = heads(unit).find(|head| is_picture(codec, unit[head.begin]))?;
    let (before, after) = unit.split_at(slice.code);
    let mut out = BytesMut::with_capacity(unit.len() + 16);
    out.put_slice(before);
    out.put_slice(&START_CODE);
    out.put_slice(header);
    out.put_slice(&[ORIENTATION, payload.len() as u8]);
    // Never two zeros in a row: nothing to escape.
    out.put_slice(&payload);
    out.put_u8(TRAILING);
    out.put_slice(after);
    Some(out.freeze())
}

/// What a key picture says about its turn. Looks no further than the first slice.
pub fn turn_of(codec: Codec, unit: &[u8]) -> Option<Turn> {
    if !matches!(codec, Codec::H264 | Codec::Hevc) {
        return None;
    }
    for head in heads(unit).take_while(|head| !is_picture(codec, unit[head.begin])) {
        let nal = &unit[head.begin..];
        let messages = match codec {
            Codec::H264 if nal[0] & 0x1f == 6 => nal.get(1..)?,
            Codec::Hevc if nal[0] >> 1 & 0x3f == 39 => nal.get(2..)?,
            _ => continue,
        };
        // Encoders give it a unit of its own, or put it first.
        if let [ORIENTATION, size, rest @ ..] = messages
            && *size >= 3
            && let [first, second, third, ..] = *rest
        {
            let (cancelled, across, down) = (first & 0x80, first & 0x40, first & 0x20);
            if cancelled != 0 || (across == 0) != (down == 0) {
                return None;
            }
            let bits = u32::from(first) << 16 | u32::from(second) << 8 | u32::from(third);
            let angle = (bits >> 5) as u16;
            // To the nearest quarter; mirrored both ways is half a turn.
            let quarters = 4 - (angle.wrapping_add(1 << 13) >> 14);
            return Turn::of_quarters(quarters + if across == 0 { 0 } else { 2 });
        }
    }
    None
}

fn is_picture(codec: Codec, head: u8) -> bool {
    match codec {
        Codec::Hevc => head >> 1 & 0x3f < 32,
        _ => NalKind::of(head).is_picture(),
    }
}

/// A frame in host memory, upright; `None` for one that lives on a device.
pub fn turned(frame: &Frame, turn: Turn) -> Option<Frame> {
    let Surface::Host(planes) = &frame.surface else { return None };
    let from = planes.memory().bytes();
    let mut bytes =
        vec![0_u8; planes.planes().iter().map(|plane| plane.row_bytes * plane.rows).sum()];
    let mut places = Vec::with_capacity(planes.planes().len());
    let mut offset = 0;
    for (index, plane) in planes.planes().iter().enumerate() {
        let pair = frame.format == PixelFormat::Nv12 && index == 1;
        let to = &mut bytes[offset..];
        let (row_bytes, rows) = match pair {
            true => turn_plane::<2>(from, *plane, turn, to),
            false => turn_plane::<1>(from, *plane, turn, to),
        };
        places.push(Plane { offset, stride: row_bytes, row_bytes, rows });
        offset += row_bytes * rows;
    }
    let surface = Surface::Host(HostPlanes::new(Arc::new(bytes), places)?);
    Some(Frame { size: turn.size(frame.size), surface, ..frame.clone() })
}

/// Writes a plane of samples of `SAMPLE` bytes to the beginning of `to`, turned and without gaps, and
/// gives the bytes of a row and the rows.
fn turn_plane<const SAMPLE: usize>(
    from: &[u8],
    plane: Plane,
    turn: Turn,
    to: &mut [u8],
) -> (usize, usize) {
    let (width, height) = (plane.row_bytes / SAMPLE, plane.rows);
    let from = &from[plane.offset..];
    if turn == Turn::Half {
        let row_bytes = width * SAMPLE;
        for y in 0..height {
            let source = &from[(height - 1 - y) * plane.stride..][..row_bytes];
            let target = &mut to[y * row_bytes..][..row_bytes];
            let samples = source.chunks_exact(SAMPLE).rev();
            target
                .chunks_exact_mut(SAMPLE)
                .zip(samples)
                .for_each(|(to, one)| to.copy_from_slice(one));
        }
        return (row_bytes, height);
    }
    let (columns, rows, row_bytes) = (height, width, height * SAMPLE);
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for y in top..rows.min(top + BLOCK) {
                let target = &mut to[y * row_bytes..][..row_bytes];
                for x in left..columns.min(left + BLOCK) {
                    let (row, column) = match turn {
                        Turn::Quarter => (height - 1 - x, y),
                        _ => (x, width - 1 - y),
                    };
                    let one = &from[row * plane.stride + column * SAMPLE..][..SAMPLE];
                    target[x * SAMPLE..][..SAMPLE].copy_from_slice(one);
                }
            }
        }
    }
    (row_bytes, rows)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::Pts;
    use crate::frame::Color;

    const ALL: [Turn; 3] = [Turn::Quarter, Turn::Half, Turn::ThreeQuarters];
    const H264: &[u8] = &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 3, 4];
    const HEVC: &[u8] = &[0, 0, 0, 1, 0x42, 1, 1, 0, 0, 0, 1, 0x44, 1, 2, 0, 0, 0, 1, 0x26, 1, 3];

    #[test]
    fn a_picture_says_what_it_was_told_to_say() {
        for (codec, unit) in [(Codec::H264, H264), (Codec::Hevc, HEVC)] {
            assert_eq!(turn_of(codec, unit), None);
            for turn in ALL {
                let told = with_turn(codec, unit, turn).unwrap();
                assert_eq!(turn_of(codec, &told), Some(turn));
                assert_eq!(told.len(), unit.len() + if codec == Codec::H264 { 11 } else { 12 });
                assert!(told.ends_with(&unit[unit.len() - 7..]), "before the slice");
            }
        }
        assert_eq!(with_turn(Codec::Vp9, H264, Turn::Half), None);
        assert_eq!(with_turn(Codec::H264, &H264[..12], Turn::Half), None);
    }

    #[test]
    fn what_others_say_is_read_to_the_nearest_quarter() {
        // By x264: 90 degrees anticlockwise, mirrored never, then once and both ways.
        let of = |payload: [u8; 3]| {
            let mut unit = vec![0, 0, 0, 1, 6, 47, 3];
            unit.extend(payload);
            unit.extend([0x80, 0, 0, 0, 1, 0x65, 3]);
            turn_of(Codec::H264, &unit)
        };
        assert_eq!(of([0x08, 0x00, 0x09]), Some(Turn::ThreeQuarters));
        assert_eq!(of([0x07, 0xff, 0x09]), Some(Turn::ThreeQuarters));
        assert_eq!(of([0x00, 0x10, 0x09]), None, "nearly upright");
        assert_eq!(of([0x40, 0x00, 0x09]), None, "mirrored");
        assert_eq!(of([0x60, 0x00, 0x09]), Some(Turn::Half));
        assert_eq!(of([0x88, 0x00, 0x09]), None, "cancelled");
    }

    #[test]
    fn a_matrix_says_it_too() {
        for turn in ALL {
            assert_eq!(Turn::of_matrix(turn.matrix()), Some(turn));
        }
        assert_eq!(Turn::of_matrix([ONE, 0, 0, ONE]), None);
        assert_eq!(Turn::of_matrix([-ONE, 0, 0, ONE]), None);
    }

    fn frame(format: PixelFormat, size: Size) -> Frame {
        let (width, height) = (size.width as usize, size.height as usize);
        let (half, rows) = (width.div_ceil(2), height.div_ceil(2));
        let chroma = if format == PixelFormat::Nv12 { vec![half * 2] } else { vec![half; 2] };
        let (mut bytes, mut planes) = (Vec::new(), Vec::new());
        for (row_bytes, rows) in
            std::iter::once((width, height)).chain(chroma.into_iter().map(|bytes| (bytes, rows)))
        {
            // A row that is longer than its samples.
            planes.push(Plane { offset: bytes.len(), stride: row_bytes + 3, row_bytes, rows });
            bytes.extend((0..(row_bytes + 3) * rows).map(|at| (at * 7 % 251) as u8));
        }
        let surface = Surface::Host(HostPlanes::new(Arc::new(bytes), planes).unwrap());
        let color = Color::unsignalled(size);
        Frame { pts: Pts(0), size, format, color, surface, arrived: Instant::now() }
    }

    fn rows(frame: &Frame) -> Vec<Vec<u8>> {
        let Surface::Host(planes) = &frame.surface else { panic!("in host memory") };
        let each = planes.planes().iter().enumerate();
        each.flat_map(|(index, plane)| (0..plane.rows).map(move |row| (index, row)))
            .map(|(index, row)| planes.row(index, row).to_vec())
            .collect()
    }

    #[test]
    fn the_upper_left_corner_goes_where_the_turn_takes_it() {
        let size = Size::new(6, 4);
        let upright = frame(PixelFormat::I420, size);
        let corner = rows(&upright)[0][0];
        let quarter = turned(&upright, Turn::Quarter).unwrap();
        assert_eq!(quarter.size, Size::new(4, 6));
        assert_eq!(rows(&quarter)[0][3], corner, "to the upper right");
        assert_eq!(rows(&turned(&upright, Turn::Half).unwrap())[3][5], corner);
        assert_eq!(rows(&turned(&upright, Turn::ThreeQuarters).unwrap())[5][0], corner);
    }

    proptest! {
        #[test]
        fn four_quarters_are_a_whole_turn(width in 1u32..40, height in 1u32..40, pairs: bool) {
            let format = if pairs { PixelFormat::Nv12 } else { PixelFormat::I420 };
            let upright = frame(format, Size::new(width, height));
            let mut other = upright.clone();
            for turn in [Turn::Quarter, Turn::Half, Turn::Quarter] {
                other = turned(&other, turn).unwrap();
            }
            prop_assert_eq!(other.size, upright.size);
            prop_assert_eq!(rows(&other), rows(&upright));
            let back = turned(&turned(&upright, Turn::Quarter).unwrap(), Turn::ThreeQuarters);
            prop_assert_eq!(rows(&back.unwrap()), rows(&upright));
        }

        #[test]
        fn junk_says_something_or_nothing(unit in proptest::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Codec::H264, Codec::Hevc, Codec::Vp8] {
                let _ = turn_of(codec, &unit);
                if let Some(told) = with_turn(codec, &unit, Turn::Half) {
                    prop_assert!(told.len() > unit.len());
                }
            }
        }
    }
}
