//! A stroke font of our own: the printable characters of ASCII as lines and curves on a grid.
//!
//! Capitals are 8 units high with their base line at 8, small letters begin at 3, tails go down to
//! 10.4; a line is 12 units. A glyph is drawn with a round pen by the distance of each pixel to the
//! nearest stroke, which gives smooth edges at every size.

/// Units from one base line to the next.
const LINE: f32 = 12.0;
/// Units from the top of a line to the top of capitals.
const ASCENT: f32 = 1.7;
/// Units between glyphs.
const GAP: f32 = 2.0;
/// The pen's width in units.
const PEN: f32 = 1.15;
/// Straight pieces of a curve.
const PIECES: usize = 8;

/// Width and strokes of each character from space to tilde. Strokes are divided by `|`; a point
/// with `~` is not on the line but draws the curve towards itself.
#[rustfmt::skip]
const GLYPHS: [(f32, &str); 95] = [
    (2.2, ""),
    (0.4, "0.2,0 0.2,5.2|0.2,7.8 0.2,7.8"),
    (1.8, "0.2,0 0.2,1.8|1.6,0 1.6,1.8"),
    (4.6, "1.6,0.5 0.9,7.5|3.7,0.5 3,7.5|0.3,2.6 4.6,2.6|0,5.4 4.3,5.4"),
    (4.2, "4,1.5 ~3.5,0 2.1,0 ~0.2,0 0.2,1.9 ~0.2,3.4 2.1,3.9 ~4.2,4.4 4.2,6 ~4.2,8 2.1,8 ~0.5,8 0,6.4|2.1,-1 2.1,9"),
    (5.6, "4.8,0 0.8,8|1.2,0 ~2.4,0 2.4,1.5 ~2.4,3 1.2,3 ~0,3 0,1.5 ~0,0 1.2,0|4.4,5 ~5.6,5 5.6,6.5 ~5.6,8 4.4,8 ~3.2,8 3.2,6.5 ~3.2,5 4.4,5"),
    (5.0, "5,8 1,2.6 ~0.2,0 2,0 ~3.7,0 3.3,1.8 ~3,2.9 1.4,3.9 ~0,4.7 0,6 ~0,8 2,8 ~4.2,8 4.6,4.8"),
    (0.4, "0.2,0 0.2,1.8"),
    (1.6, "1.6,-0.8 ~0,1 0,4 ~0,7 1.6,8.8"),
    (1.6, "0,-0.8 ~1.6,1 1.6,4 ~1.6,7 0,8.8"),
    (3.2, "1.6,0.4 1.6,4|0,1.3 3.2,3.1|3.2,1.3 0,3.1"),
    (3.8, "1.9,2.9 1.9,6.7|0,4.8 3.8,4.8"),
    (0.6, "0.5,7.8 ~0.5,8.8 0,9.4"),
    (2.6, "0,4.8 2.6,4.8"),
    (0.4, "0.2,7.8 0.2,7.8"),
    (3.0, "3,-0.4 0,8.6"),
    (4.0, "2,0 ~4,0 4,2.5 4,5.5 ~4,8 2,8 ~0,8 0,5.5 0,2.5 ~0,0 2,0"),
    (4.0, "0.6,1.6 2.4,0 2.4,8"),
    (4.0, "0.1,2 ~0.1,0 2,0 ~3.9,0 3.9,2.1 ~3.9,3.4 2.7,4.8 0,8 4,8"),
    (4.0, "0.2,0 3.7,0 1.7,3.2 ~4,3.2 4,5.6 ~4,8 1.9,8 ~0.5,8 0,6.7"),
    (4.0, "3.1,8 3.1,0 0,5.8 4,5.8"),
    (4.0, "3.7,0 0.6,0 0.3,3.8 ~0.9,3 2,3 ~4,3 4,5.5 ~4,8 1.9,8 ~0.6,8 0,6.9"),
    (4.0, "3.2,0 ~0,2.4 0,5.4 ~0,8 2,8 ~4,8 4,5.5 ~4,3.1 2.1,3.1 ~0.3,3.1 0,5.2"),
    (4.0, "0,0 4,0 1.4,8"),
    (4.0, "2,3.7 ~0.3,3.7 0.3,1.85 ~0.3,0 2,0 ~3.7,0 3.7,1.85 ~3.7,3.7 2,3.7 ~0,3.7 0,5.85 ~0,8 2,8 ~4,8 4,5.85 ~4,3.7 2,3.7"),
    (4.0, "0.8,8 ~4,5.6 4,2.6 ~4,0 2,0 ~0,0 0,2.5 ~0,4.9 1.9,4.9 ~3.7,4.9 4,2.8"),
    (0.4, "0.2,3.2 0.2,3.2|0.2,7.2 0.2,7.2"),
    (0.6, "0.4,3.2 0.4,3.2|0.5,7.4 ~0.5,8.5 0,9.1"),
    (3.4, "3.4,2.4 0,4.8 3.4,7.2"),
    (3.6, "0,3.7 3.6,3.7|0,6 3.6,6"),
    (3.4, "0,2.4 3.4,4.8 0,7.2"),
    (3.4, "0,1.6 ~0.2,0 1.7,0 ~3.4,0 3.4,1.8 ~3.4,3.1 2.3,3.7 ~1.6,4.2 1.6,5.4|1.6,7.8 1.6,7.8"),
    (6.0, "4.4,2.6 4.2,5 ~4.2,6 5,6 ~6,6 6,3.8 ~6,0.4 3.1,0.4 ~0,0.4 0,4.3 ~0,8.2 3.2,8.2 ~4.4,8.2 5.2,7.6|4.3,4 ~4.3,2.4 3,2.4 ~1.7,2.4 1.7,4.3 ~1.7,6 2.9,6 ~4.1,6 4.3,4"),
    (5.0, "0,8 2.5,0 5,8|0.9,5.3 4.1,5.3"),
    (4.3, "0,3.8 2.2,3.8 ~3.9,3.8 3.9,1.9 ~3.9,0 2.2,0 0,0 0,8 2.2,8 ~4.3,8 4.3,5.9 ~4.3,3.8 2.2,3.8"),
    (4.5, "4.5,1.5 ~3.9,0 2.5,0 ~0,0 0,4 ~0,8 2.5,8 ~3.9,8 4.5,6.5"),
    (4.6, "0,0 1.8,0 ~4.6,0 4.6,4 ~4.6,8 1.8,8 0,8 0,0"),
    (3.8, "3.8,0 0,0 0,8 3.8,8|0,3.8 3.2,3.8"),
    (3.8, "3.8,0 0,0 0,8|0,3.9 3.2,3.9"),
    (4.8, "4.5,1.4 ~3.9,0 2.5,0 ~0,0 0,4 ~0,8 2.5,8 ~4.8,8 4.8,5.4 4.8,4.4 2.8,4.4"),
    (4.4, "0,0 0,8|4.4,0 4.4,8|0,3.8 4.4,3.8"),
    (0.4, "0.2,0 0.2,8"),
    (3.0, "3,0 3,5.8 ~3,8 1.4,8 ~0.2,8 0,6.8"),
    (4.2, "0,0 0,8|4,0 0,4.6|1.5,3.2 4.2,8"),
    (3.6, "0,0 0,8 3.6,8"),
    (5.4, "0,8 0,0 2.7,5 5.4,0 5.4,8"),
    (4.6, "0,8 0,0 4.6,8 4.6,0"),
    (5.2, "2.6,0 ~5.2,0 5.2,4 ~5.2,8 2.6,8 ~0,8 0,4 ~0,0 2.6,0"),
    (4.2, "0,8 0,0 2.2,0 ~4.2,0 4.2,2.2 ~4.2,4.4 2.2,4.4 0,4.4"),
    (5.2, "2.6,0 ~5.2,0 5.2,4 ~5.2,8 2.6,8 ~0,8 0,4 ~0,0 2.6,0|3.3,6 5.2,8.4"),
    (4.3, "0,8 0,0 2.2,0 ~4.2,0 4.2,2.2 ~4.2,4.4 2.2,4.4 0,4.4|2.2,4.4 4.3,8"),
    (4.2, "4,1.5 ~3.5,0 2.1,0 ~0.2,0 0.2,1.9 ~0.2,3.4 2.1,3.9 ~4.2,4.4 4.2,6 ~4.2,8 2.1,8 ~0.5,8 0,6.4"),
    (4.4, "0,0 4.4,0|2.2,0 2.2,8"),
    (4.4, "0,0 0,5.4 ~0,8 2.2,8 ~4.4,8 4.4,5.4 4.4,0"),
    (4.8, "0,0 2.4,8 4.8,0"),
    (6.6, "0,0 1.7,8 3.3,1.6 4.9,8 6.6,0"),
    (4.4, "0,0 4.4,8|4.4,0 0,8"),
    (4.6, "0,0 2.3,4 4.6,0|2.3,4 2.3,8"),
    (4.2, "0,0 4.2,0 0,8 4.2,8"),
    (1.6, "1.6,-0.6 0,-0.6 0,8.6 1.6,8.6"),
    (3.0, "0,-0.4 3,8.6"),
    (1.6, "0,-0.6 1.6,-0.6 1.6,8.6 0,8.6"),
    (3.2, "0,2.6 1.6,0 3.2,2.6"),
    (4.0, "0,9.2 4,9.2"),
    (0.9, "0,-0.2 0.9,1.2"),
    (3.6, "3.6,3 3.6,8|3.6,5.5 ~3.6,3 1.8,3 ~0,3 0,5.5 ~0,8 1.8,8 ~3.6,8 3.6,5.5"),
    (3.6, "0,0 0,8|0,5.5 ~0,3 1.8,3 ~3.6,3 3.6,5.5 ~3.6,8 1.8,8 ~0,8 0,5.5"),
    (3.2, "3.2,3.9 ~2.8,3 1.8,3 ~0,3 0,5.5 ~0,8 1.8,8 ~2.8,8 3.2,7.1"),
    (3.6, "3.6,0 3.6,8|3.6,5.5 ~3.6,3 1.8,3 ~0,3 0,5.5 ~0,8 1.8,8 ~3.6,8 3.6,5.5"),
    (3.6, "0,5.4 3.6,5.4 ~3.6,3 1.8,3 ~0,3 0,5.5 ~0,8 1.9,8 ~2.9,8 3.4,7.2"),
    (2.2, "2.2,0.1 ~0.8,-0.3 0.8,1.8 0.8,8|0,3 2,3"),
    (3.6, "3.6,3 3.6,8.2 ~3.6,10.4 1.8,10.4 ~0.7,10.4 0.2,9.6|3.6,5.5 ~3.6,3 1.8,3 ~0,3 0,5.5 ~0,8 1.8,8 ~3.6,8 3.6,5.5"),
    (3.4, "0,0 0,8|0,5.4 ~0.1,3 1.9,3 ~3.4,3 3.4,5 3.4,8"),
    (0.4, "0.2,3 0.2,8|0.2,0.8 0.2,0.8"),
    (1.2, "1,3 1,8.6 ~1,10.4 -0.4,10.3|1,0.8 1,0.8"),
    (3.2, "0,0 0,8|3,3 0,6|1.2,5 3.2,8"),
    (1.0, "0.1,0 0.1,6.8 ~0.1,8 1.1,8"),
    (5.6, "0,3 0,8|0,5 ~0.1,3 1.5,3 ~2.8,3 2.8,4.8 2.8,8|2.8,5 ~2.9,3 4.3,3 ~5.6,3 5.6,4.8 5.6,8"),
    (3.4, "0,3 0,8|0,5.4 ~0.1,3 1.9,3 ~3.4,3 3.4,5 3.4,8"),
    (3.8, "1.9,3 ~3.8,3 3.8,5.5 ~3.8,8 1.9,8 ~0,8 0,5.5 ~0,3 1.9,3"),
    (3.6, "0,3 0,10.4|0,5.5 ~0,3 1.8,3 ~3.6,3 3.6,5.5 ~3.6,8 1.8,8 ~0,8 0,5.5"),
    (3.6, "3.6,3 3.6,10.4|3.6,5.5 ~3.6,3 1.8,3 ~0,3 0,5.5 ~0,8 1.8,8 ~3.6,8 3.6,5.5"),
    (2.2, "0,3 0,8|0,5.6 ~0.1,2.9 2.1,3.1"),
    (3.0, "2.9,3.9 ~2.5,3 1.5,3 ~0.1,3 0.1,4.2 ~0.1,5.1 1.5,5.4 ~3,5.7 3,6.8 ~3,8 1.5,8 ~0.4,8 0,7"),
    (2.2, "0.8,1 0.8,6.6 ~0.8,8.2 2.2,7.9|0,3 2,3"),
    (3.4, "0,3 0,6 ~0,8 1.5,8 ~3.3,8 3.4,5.6|3.4,3 3.4,8"),
    (3.6, "0,3 1.8,8 3.6,3"),
    (5.0, "0,3 1.3,8 2.5,3.6 3.7,8 5,3"),
    (3.4, "0,3 3.4,8|3.4,3 0,8"),
    (3.6, "0,3 1.9,7.9|3.6,3 1.7,8.6 ~1.1,10.4 0,10.3"),
    (3.2, "0,3 3.2,3 0,8 3.2,8"),
    (2.0, "2,-0.8 ~0.9,-0.8 0.9,0.9 0.9,2.4 ~0.9,4 0,4 ~0.9,4 0.9,5.6 0.9,7.1 ~0.9,8.8 2,8.8"),
    (0.4, "0.2,-0.8 0.2,9"),
    (2.0, "0,-0.8 ~1.1,-0.8 1.1,0.9 1.1,2.4 ~1.1,4 2,4 ~1.1,4 1.1,5.6 1.1,7.1 ~1.1,8.8 0,8.8"),
    (4.0, "0,5.4 ~0.7,3.8 2,4.8 ~3.3,5.8 4,4.2"),
];

/// A character that the font has not: an empty box.
const MISSING: (f32, &str) = (3.6, "0,0 3.6,0 3.6,8 0,8 0,0");

type Point = (f32, f32);

fn glyph(character: char) -> (f32, &'static str) {
    let place = (character as usize).checked_sub(' ' as usize);
    place.and_then(|place| GLYPHS.get(place)).copied().unwrap_or(MISSING)
}

/// The straight pieces of a glyph.
fn pieces(strokes: &str) -> Vec<(Point, Point)> {
    let mut out = Vec::new();
    for stroke in strokes.split('|') {
        let mut last: Option<Point> = None;
        let mut bend: Option<Point> = None;
        for token in stroke.split_ascii_whitespace() {
            let (bare, off) = token.strip_prefix('~').map_or((token, false), |bare| (bare, true));
            let Some(point) =
                bare.split_once(',').and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)))
            else {
                continue;
            };
            if off {
                bend = Some(point);
                continue;
            }
            match (last, bend.take()) {
                (Some(from), None) => out.push((from, point)),
                (Some(from), Some(bend)) => {
                    let at = |n: usize| {
                        let t = n as f32 / PIECES as f32;
                        let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
                        let mix = |p: f32, q: f32, r: f32| a * p + b * q + c * r;
                        (mix(from.0, bend.0, point.0), mix(from.1, bend.1, point.1))
                    };
                    out.extend((0..PIECES).map(|n| (at(n), at(n + 1))));
                }
                (None, _) => {}
            }
            last = Some(point);
        }
    }
    out
}

/// How much of each pixel is covered, 0 to 1, in rows without gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Coverage {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) samples: Vec<f32>,
}

impl Coverage {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, samples: vec![0.0; width * height] }
    }

    /// Draws a line with a round pen; what lies outside is cut off.
    fn line(&mut self, from: Point, to: Point, pen: f32) {
        let reach = pen / 2.0 + 1.0;
        let span = |a: f32, b: f32, end: usize| {
            let low = (a.min(b) - reach).floor().max(0.0) as usize;
            let high = (a.max(b) + reach).ceil().max(0.0) as usize;
            low.min(end)..high.min(end)
        };
        let columns = span(from.0, to.0, self.width);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx * dx + dy * dy;
        for y in span(from.1, to.1, self.height) {
            let row = &mut self.samples[y * self.width..(y + 1) * self.width];
            for x in columns.clone() {
                let (px, py) = (x as f32 + 0.5 - from.0, y as f32 + 0.5 - from.1);
                let along =
                    if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
                let (ex, ey) = (px - along * dx, py - along * dy);
                let cover = (pen / 2.0 + 0.5 - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0);
                row[x] = row[x].max(cover);
            }
        }
    }

    /// Draws a character whose line begins at `x`, `top`.
    pub(super) fn draw(&mut self, character: char, x: f32, top: f32, font: Font) {
        let unit = font.unit();
        let place = |(px, py): Point| (x + px * unit, top + (py + ASCENT) * unit);
        for (from, to) in pieces(glyph(character).1) {
            self.line(place(from), place(to), font.pen());
        }
    }
}

/// The font at a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Font {
    /// Pixels from one line to the next.
    pub(super) line: f32,
}

impl Font {
    const fn unit(self) -> f32 {
        self.line / LINE
    }

    /// The pen's width in pixels; never so thin that strokes fade.
    fn pen(self) -> f32 {
        (PEN * self.unit()).max(1.0)
    }

    /// Pixels from a character to the next.
    pub(super) fn advance(self, character: char) -> f32 {
        (glyph(character).0 + GAP) * self.unit()
    }

    /// Pixels that a line of text is wide, without the gap after its last character.
    pub(super) fn width(self, text: &str) -> f32 {
        let width: f32 = text.chars().map(|character| self.advance(character)).sum();
        (width - GAP * self.unit()).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_strokes_inside_its_line() {
        for character in ' '..='~' {
            let (width, strokes) = glyph(character);
            let drawn = pieces(strokes);
            assert_eq!(drawn.is_empty(), character == ' ', "{character:?}");
            for (x, y) in drawn.iter().flat_map(|(a, b)| [*a, *b]) {
                let inside = (-0.5..=width + 0.5).contains(&x) && (-1.0..=10.5).contains(&y);
                assert!(inside, "{character:?} reaches {x},{y}");
            }
            for token in strokes.split(['|', ' ']).filter(|token| !token.is_empty()) {
                let (x, y) = token.trim_start_matches('~').split_once(',').expect("x,y");
                assert!(x.parse::<f32>().is_ok() && y.parse::<f32>().is_ok(), "{token}");
            }
        }
        assert_eq!(glyph('é'), MISSING);
    }
}
