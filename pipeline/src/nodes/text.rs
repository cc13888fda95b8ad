//! Text over the picture: `MillstreamText`, and `MillstreamClock`, which shows the time of the
//! frame.
//!
//! The clock reads the frame's name, its media time, never the wall clock: the same stream gives
//! the same pictures wherever and however often it is processed, and what a viewer sees can be
//! compared with the frame that was sent. It counts hours up to 99 and then begins anew.

use std::fmt::Write;

use super::place::rgb;
use super::strokes::{Coverage, Font};
use crate::frame::Size;
use crate::graph::{
    Bound, BuildError, Built, Context, Image, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Pool, Shape, Value,
};
use crate::time::Pts;

/// Largest height of a line, in pixels.
const SIZE_MAX: i64 = 512;
/// Farthest place of a text, in pixels.
const PLACE_MAX: i64 = 8192;
/// The clock's text with the widest digits; they are all equally wide.
const CLOCK: &str = "00:00:00.000";
/// What the clock's characters are; the place is the one in [`Clock::glyphs`].
const FACE: &str = "0123456789:.-";

/// A piece of text ready to be laid over a picture: `under * keep + color * cover`.
struct Label {
    /// The upper left corner in the picture.
    x: usize,
    y: usize,
    /// What the background leaves of the picture.
    back: Vec<f32>,
    /// How far the text covers it.
    text: Coverage,
    color: [f32; 3],
    opacity: f32,
}

/// How a label looks.
struct Look {
    font: Font,
    color: [f32; 3],
    opacity: f32,
    background: f32,
}

impl Look {
    fn of(inputs: &Bound<'_>, picture: Size) -> Result<Self, BuildError> {
        let line = match inputs.int("size")? {
            // A twentieth of the height, as small as can be read at the least.
            0 => (picture.height as f32 / 20.0).max(12.0),
            size => size as f32,
        };
        Ok(Self {
            font: Font { line },
            color: rgb(inputs.int("color")?),
            opacity: inputs.float("opacity")? as f32,
            background: inputs.float("background")? as f32,
        })
    }

    /// Pixels between the background's edge and the text: sideways, and above and below.
    fn padding(&self) -> (f32, f32) {
        (self.font.line * 0.3, self.font.line * 0.08)
    }

    /// The size of the label of a text of this many pixels.
    fn outer(&self, width: f32, lines: usize) -> (f32, f32) {
        let (side, top) = self.padding();
        ((width + 2.0 * side).ceil(), (self.font.line * lines as f32 + 2.0 * top).ceil())
    }

    /// An empty label of which at most the picture's part is kept.
    fn label(&self, picture: Size, x: usize, y: usize, outer: (f32, f32)) -> Label {
        let cut = |start: usize, length: f32, end: u32| {
            (length as usize).min((end as usize).saturating_sub(start))
        };
        let width = cut(x, outer.0, picture.width);
        let height = cut(y, outer.1, picture.height);
        let radius = self.font.line * 0.22;
        let middle = (outer.0 / 2.0, outer.1 / 2.0);
        let mut back = Vec::with_capacity(width * height);
        for row in 0..height {
            for column in 0..width {
                // The distance to a box with round corners, negative inside.
                let dx = (column as f32 + 0.5 - middle.0).abs() - (middle.0 - radius);
                let dy = (row as f32 + 0.5 - middle.1).abs() - (middle.1 - radius);
                let outside = dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - radius;
                back.push(1.0 - self.background * (0.5 - outside).clamp(0.0, 1.0));
            }
        }
        let text = Coverage::new(width, height);
        Label { x, y, back, text, color: self.color, opacity: self.opacity }
    }
}

impl Label {
    fn lay(&self, image: Image, pool: &mut Pool) -> Image {
        let stride = image.size().width as usize;
        let width = self.text.width;
        if width == 0 {
            return image;
        }
        let one = |color: f32, plane: &mut [f32]| {
            let rows = self.text.samples.chunks_exact(width).zip(self.back.chunks_exact(width));
            for (n, (text, back)) in rows.enumerate() {
                let start = (self.y + n) * stride + self.x;
                let under = &mut plane[start..start + width];
                for ((under, text), back) in under.iter_mut().zip(text).zip(back) {
                    let cover = text * self.opacity;
                    *under = *under * back * (1.0 - cover) + color * cover;
                }
            }
        };
        let [red, green, blue] = self.color;
        if image.is_grey() && red == green && red == blue {
            pool.edit(image, |plane| one(red, plane))
        } else {
            pool.edit_channels(image, |channel, plane| one(self.color[channel], plane))
        }
    }
}

impl Node for Label {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.take_image(0)?;
        outputs.push(Value::Image(self.lay(image, context.pool)));
        Ok(())
    }
}

fn look_inputs(spec: NodeSpec) -> NodeSpec {
    spec.input(
        InputSpec::int("size", 0, 0, SIZE_MAX)
            .tip("Height of a line in pixels; 0 is a twentieth of the picture"),
    )
    .input(InputSpec::color("color", 0xFF_FFFF))
    .input(InputSpec::float("opacity", 1.0, 0.0, 1.0, 0.01))
    .input(
        InputSpec::float("background", 0.55, 0.0, 1.0, 0.01)
            .tip("How dark the box behind the text is"),
    )
}

/// Writes a text over the picture.
pub(super) struct MillstreamText;

impl NodeClass for MillstreamText {
    fn spec(&self) -> NodeSpec {
        let spec = NodeSpec::new("MillstreamText", "Text", "Millstream")
            .describe("Writes text over the picture. Lines may be broken; ASCII is drawn.")
            .input(InputSpec::image("image"))
            .input(InputSpec::text("text", "Millstream"))
            .input(
                InputSpec::int("x", 24, -PLACE_MAX, PLACE_MAX)
                    .tip("Pixels from the left; negative from the right"),
            )
            .input(
                InputSpec::int("y", 24, -PLACE_MAX, PLACE_MAX)
                    .tip("Pixels from the top; negative from the bottom"),
            );
        look_inputs(spec).output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let size = inputs.size("image")?;
        let look = Look::of(inputs, size)?;
        let text = inputs.text("text")?;
        if text.trim().is_empty() {
            return Ok(Built::same(inputs.index("image")?));
        }
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let width = lines.iter().map(|line| look.font.width(line)).fold(0.0, f32::max);
        let outer = look.outer(width, lines.len());
        let place = |at: i64, length: f32, side: u32| {
            let at = if at < 0 { i64::from(side) + at + 1 - length as i64 } else { at };
            at.max(0) as usize
        };
        let x = place(inputs.int("x")?, outer.0, size.width);
        let y = place(inputs.int("y")?, outer.1, size.height);
        let mut label = look.label(size, x, y, outer);
        let (side, top) = look.padding();
        for (n, line) in lines.iter().enumerate() {
            let (mut at, top) = (side, top + n as f32 * look.font.line);
            if top > label.text.height as f32 {
                break;
            }
            for character in line.chars() {
                if at > label.text.width as f32 {
                    break;
                }
                label.text.draw(character, at, top, look.font);
                at += look.font.advance(character);
            }
        }
        Ok(Built::node(label, [Shape::Image(size)]))
    }
}

/// A label whose text is put together from drawn characters, frame by frame.
struct Clock {
    label: Label,
    /// Each character of [`FACE`] in a cell as high as the label.
    glyphs: Vec<Coverage>,
    /// Where the text begins, and the pixels to the next character for each of [`FACE`].
    start: usize,
    advances: Vec<usize>,
    /// What is shown, and room for what comes.
    shown: String,
    next: String,
}

impl Clock {
    fn show(&mut self, pts: Pts) {
        self.next.clear();
        clock_text(pts, &mut self.next);
        if self.next == self.shown {
            return;
        }
        self.label.text.samples.fill(0.0);
        let mut at = self.start;
        for character in self.next.chars() {
            let Some(place) = FACE.find(character) else { continue };
            let (glyph, width) = (&self.glyphs[place], self.label.text.width);
            let columns = glyph.width.min(width.saturating_sub(at));
            if columns > 0 {
                let rows = self.label.text.samples.chunks_exact_mut(width);
                for (row, cell) in rows.zip(glyph.samples.chunks_exact(glyph.width)) {
                    let row = &mut row[at..at + columns];
                    row.iter_mut().zip(cell).for_each(|(out, cover)| *out = out.max(*cover));
                }
            }
            at += self.advances[place];
        }
        std::mem::swap(&mut self.shown, &mut self.next);
    }
}

impl Node for Clock {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        self.show(context.pts);
        let image = inputs.take_image(0)?;
        outputs.push(Value::Image(self.label.lay(image, context.pool)));
        Ok(())
    }
}

/// Appends `HH:MM:SS.mmm` of media time, with a minus before the origin.
fn clock_text(pts: Pts, out: &mut String) {
    let ms = pts.as_millis();
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    let (hours, minutes) = (ms / 3_600_000 % 100, ms / 60_000 % 60);
    let (seconds, ms) = (ms / 1000 % 60, ms % 1000);
    // Writing to a string cannot fail.
    let _ = write!(out, "{sign}{hours:02}:{minutes:02}:{seconds:02}.{ms:03}");
}

/// Shows the frame's media time.
pub(super) struct MillstreamClock;

impl NodeClass for MillstreamClock {
    fn spec(&self) -> NodeSpec {
        let corners = ["top-left", "top-right", "bottom-left", "bottom-right"];
        let spec = NodeSpec::new("MillstreamClock", "Clock", "Millstream")
            .describe("Shows the media time of the frame as HH:MM:SS.mmm in a corner.")
            .input(InputSpec::image("image"))
            .input(InputSpec::combo("corner", &corners));
        look_inputs(spec).output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let size = inputs.size("image")?;
        let look = Look::of(inputs, size)?;
        let (font, (side, top)) = (look.font, look.padding());
        let advance = |character| font.advance(character).round().max(1.0) as usize;
        let inner: usize = CLOCK.chars().map(advance).sum();
        let gap = (font.advance('0') - font.width("0")).round();
        let outer = look.outer(inner as f32 - gap, 1);
        let corner = inputs.text("corner")?;
        let margin = (font.line * 0.5) as usize;
        let far = |side: u32, length: f32| (side as usize).saturating_sub(length as usize + margin);
        let x = if corner.ends_with("right") { far(size.width, outer.0) } else { margin };
        let y = if corner.starts_with("bottom") { far(size.height, outer.1) } else { margin };
        // At the very edge of a small picture the label moves in.
        let (x, y) = (x.min(size.width as usize - 1), y.min(size.height as usize - 1));
        let label = look.label(size, x, y, outer);

        let bleed = (font.line * 0.06).ceil() + 1.0;
        let cell = |character: char| {
            let width = (font.width(character.encode_utf8(&mut [0; 4])) + 2.0 * bleed).ceil();
            let mut cell = Coverage::new(width as usize, outer.1 as usize);
            cell.draw(character, bleed, top, font);
            cell
        };
        let clock = Clock {
            label,
            glyphs: FACE.chars().map(cell).collect(),
            start: (side - bleed).max(0.0).round() as usize,
            advances: FACE.chars().map(advance).collect(),
            shown: String::new(),
            next: String::new(),
        };
        Ok(Built::node(clock, [Shape::Image(size)]).every_frame())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_reads_media_time_to_the_millisecond() {
        let text = |ms| {
            let mut out = String::new();
            clock_text(Pts::from_millis(ms), &mut out);
            out
        };
        assert_eq!(text(0), "00:00:00.000");
        assert_eq!(text(3_723_004), "01:02:03.004");
        assert_eq!(text(100 * 3_600_000 + 1), "00:00:00.001");
        assert_eq!(text(-1_500), "-00:00:01.500");
    }
}
