//! The test card: a picture that carries its number and its time.
//!
//! Three rows of twenty squares at the top hold the picture's number, the wall clock at which it
//! was drawn in milliseconds, and a check of both, so that a picture that was torn or mixed is
//! never taken for another one. The first and the last row are framed by a white-black and a
//! black-white pair, which also tells a picture that was inverted. Below are a red and a blue field and a moving bar.
//!
//! `tests/clients/card.js` and `peer.py` read and draw the same.

use std::time::{SystemTime, UNIX_EPOCH};

use pipeline::frame::{Frame, Surface};

/// Squares in a row.
pub(crate) const CELLS: usize = 20;

/// The clock's range: it wraps after 17 minutes.
const CLOCK_RANGE: u64 = 1 << 20;

/// What a picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) number: u16,
    pub(crate) clock_ms: u32,
    pub(crate) inverted: bool,
}

/// The wall clock as cards have it.
pub(crate) fn clock_ms() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_millis() as u64 % CLOCK_RANGE) as u32
}

/// Milliseconds from one clock reading to a later one.
pub(crate) fn elapsed_ms(from: u32, to: u32) -> u32 {
    (to.wrapping_sub(from)) & (CLOCK_RANGE as u32 - 1)
}

fn check(number: u16, clock: u32) -> u32 {
    let sum = u64::from(number) * 31_421
        + u64::from(clock & 0xffff) * 6_927
        + u64::from(clock >> 16) * 13_849;
    (sum % 65_536) as u32
}

/// The three rows, first square in the highest of 20 bits.
fn rows(number: u16, clock: u32) -> [u32; 3] {
    let framed = |value: u32| 0b10 << 18 | (value & 0xffff) << 2 | 0b01;
    [framed(u32::from(number)), clock, framed(check(number, clock))]
}

/// A card of this size in planar 4:2:0, limited range. The width is a multiple of 40.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Card {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Card {
    pub(crate) const SMALL: Self = Self { width: 320, height: 180 };
    pub(crate) const USUAL: Self = Self { width: 640, height: 360 };

    /// Draws picture `number` at time `clock_ms` into `out`.
    pub(crate) fn draw(self, number: u16, clock_ms: u32, out: &mut Vec<u8>) {
        let Self { width, height } = self;
        let cell = width / CELLS;
        out.clear();
        out.resize(width * height * 3 / 2, 128);
        let (luma, chroma) = out.split_at_mut(width * height);
        luma.fill(60);
        let mut fill = |x: usize, y: usize, w: usize, h: usize, value: u8| {
            for row in luma.chunks_exact_mut(width).skip(y).take(h) {
                row[x..x + w].fill(value);
            }
        };
        for (row, bits) in rows(number, clock_ms).into_iter().enumerate() {
            for column in 0..CELLS {
                let white = bits >> (CELLS - 1 - column) & 1 == 1;
                fill(column * cell, row * cell, cell, cell, if white { 235 } else { 16 });
            }
        }
        // A bar that goes on by four pixels a picture.
        let bar = usize::from(number) * 4 % (width - cell);
        fill(bar, height / 2, cell, height / 4, 180);
        // Red on the left, blue on the right, in the lowest quarter.
        fill(0, height * 3 / 4, width / 2, height / 4, 81);
        fill(width / 2, height * 3 / 4, width / 2, height / 4, 41);
        let (half, rows) = (width / 2, height / 2);
        let (blue, red) = chroma.split_at_mut(half * rows);
        for y in rows * 3 / 4..rows {
            let row = y * half..(y + 1) * half;
            blue[row.clone()][..half / 2].fill(90);
            blue[row.clone()][half / 2..].fill(240);
            red[row.clone()][..half / 2].fill(240);
            red[row][half / 2..].fill(110);
        }
    }

    /// Reads a card from luma rows.
    pub(crate) fn read<'a>(self, row: impl Fn(usize) -> &'a [u8]) -> Option<Reading> {
        let cell = self.width / CELLS;
        let bits = |index: usize| {
            let line = row(index * cell + cell / 2);
            (0..CELLS).fold(0_u32, |bits, column| {
                let middle = column * cell + cell / 2;
                let near = &line[middle - cell / 4..middle + cell / 4];
                let mean = near.iter().map(|value| u32::from(*value)).sum::<u32>();
                bits << 1 | u32::from(mean / near.len() as u32 > 125)
            })
        };
        decode([bits(0), bits(1), bits(2)])
    }

    /// Reads a card from a decoded frame in host memory.
    pub(crate) fn read_frame(frame: &Frame) -> Option<Reading> {
        let Surface::Host(planes) = &frame.surface else { return None };
        let size = frame.size;
        let card = Self { width: size.width as usize, height: size.height as usize };
        card.read(|row| planes.row(0, row))
    }
}

fn decode(mut rows: [u32; 3]) -> Option<Reading> {
    const ALL: u32 = (1 << CELLS) - 1;
    let frame = |row: u32| (row >> 18, row & 0b11);
    let inverted = frame(rows[0]) == (0b01, 0b10);
    if inverted {
        rows = rows.map(|row| !row & ALL);
    }
    let framed = frame(rows[0]) == (0b10, 0b01) && frame(rows[2]) == (0b10, 0b01);
    let number = (rows[0] >> 2 & 0xffff) as u16;
    let clock_ms = rows[1];
    let right = framed && rows[2] >> 2 & 0xffff == check(number, clock_ms);
    right.then_some(Reading { number, clock_ms, inverted })
}

#[test]
fn a_card_is_read_as_it_was_drawn_also_inverted_and_never_when_damaged() {
    let card = Card::SMALL;
    let mut picture = Vec::new();
    for (number, clock) in [(0, 0), (1, 999_999), (0xffff, (1 << 20) - 1), (12_345, 54_321)] {
        card.draw(number, clock, &mut picture);
        let read = |picture: &[u8]| card.read(|row| &picture[row * 320..][..320]);
        let plain = Reading { number, clock_ms: clock, inverted: false };
        assert_eq!(read(&picture), Some(plain));
        let inverse: Vec<u8> = picture.iter().map(|value| 251 - value).collect();
        assert_eq!(read(&inverse), Some(Reading { inverted: true, ..plain }));
        // One square of the number changes its colour.
        for row in 0..16 {
            for value in &mut picture[row * 320 + 80..row * 320 + 96] {
                *value = 251 - *value;
            }
        }
        assert_eq!(read(&picture), None);
    }
}
