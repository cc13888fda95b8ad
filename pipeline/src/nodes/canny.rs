//! `Canny`: edges as kornia finds them, which is what ComfyUI's node runs.
//!
//! Grey by BT.601's weights, a 5 by 5 Gaussian of sigma 1 (borders reflected), Sobel (borders
//! repeated), thinning along the gradient in steps of 45 degrees, and hysteresis over the eight
//! neighbours. All but the last step run row by row in one pass over rings of a few rows, so that
//! the work stays in the cache; edges come out as exactly 0 or 1 in all channels.

use super::blur::reflect;
use crate::graph::{
    Bound, BuildError, Built, Context, Image, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Shape, Value,
};

/// Where a gradient of ratio `tan(22.5 degrees)` divides "across" from "slanting".
const SLANT: f32 = 0.414_213_57;
/// kornia keeps the magnitude off zero.
const EPSILON: f32 = 1e-6;

const WEAK: u8 = 1;
const STRONG: u8 = 2;

struct Canny {
    width: usize,
    height: usize,
    /// Squares of the thresholds; magnitudes are compared before the root.
    low: f32,
    high: f32,
    /// The Gaussian's weights from the middle outwards.
    kernel: [f32; 3],
    grey: Vec<f32>,
    /// Five rows blurred along the row.
    across: Vec<f32>,
    /// Three blurred rows, with one repeated sample at each end.
    blurred: Vec<f32>,
    /// Three rows of squared magnitude and one of zeros, with a zero at each end of all.
    magnitude: Vec<f32>,
    /// Three rows of gradients.
    gx: Vec<f32>,
    gy: Vec<f32>,
    /// What each pixel is, in a frame of nothing one pixel wide.
    state: Vec<u8>,
    open: Vec<u32>,
}

impl Canny {
    fn new(width: usize, height: usize, low: f64, high: f64) -> Self {
        let weight = |n: i32| (-f64::from(n * n) / 2.0).exp();
        let sum = weight(0) + 2.0 * (weight(1) + weight(2));
        Self {
            width,
            height,
            low: (low * low) as f32,
            high: (high * high) as f32,
            kernel: [0, 1, 2].map(|n| (weight(n) / sum) as f32),
            grey: vec![0.0; width + 4],
            across: vec![0.0; width * 5],
            blurred: vec![0.0; (width + 2) * 3],
            magnitude: vec![0.0; (width + 2) * 4],
            gx: vec![0.0; width * 3],
            gy: vec![0.0; width * 3],
            state: vec![0; (width + 2) * (height + 2)],
            open: Vec::new(),
        }
    }

    /// Fills `out` with 1 on edges and 0 elsewhere.
    fn find(&mut self, image: &Image, out: &mut [f32]) {
        let (width, height) = (self.width, self.height);
        self.open.clear();
        // Each stage of row y needs the stage before it one or two rows further down.
        for y in 0..height + 4 {
            if y < height {
                self.grey_row(image, y);
            }
            if let Some(y) = y.checked_sub(2).filter(|y| *y < height) {
                self.blur_row(y);
            }
            if let Some(y) = y.checked_sub(3).filter(|y| *y < height) {
                self.gradient_row(y);
            }
            if let Some(y) = y.checked_sub(4).filter(|y| *y < height) {
                self.thin_row(y);
            }
        }
        self.follow();
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            let row = (y + 1) * (width + 2) + 1;
            for (out, state) in out.iter_mut().zip(&self.state[row..row + width]) {
                *out = f32::from(*state >> 1);
            }
        }
    }

    /// Grey, and blurred along the row.
    fn grey_row(&mut self, image: &Image, y: usize) {
        let width = self.width;
        let at = y * width..(y + 1) * width;
        let grey = &mut self.grey[2..2 + width];
        let red = &image.plane(0)[at.clone()];
        if image.is_grey() {
            grey.copy_from_slice(red);
        } else {
            let (green, blue) = (&image.plane(1)[at.clone()], &image.plane(2)[at]);
            for (((grey, r), g), b) in grey.iter_mut().zip(red).zip(green).zip(blue) {
                *grey = 0.299 * r + 0.587 * g + 0.114 * b;
            }
        }
        for n in 1..=2_usize {
            self.grey[2 - n] = self.grey[2 + reflect(-(n as isize), width)];
            self.grey[1 + width + n] = self.grey[2 + reflect((width + n - 1) as isize, width)];
        }
        let ring = y % 5 * width;
        let row = |shift: usize| &self.grey[shift..shift + width];
        let out = &mut self.across[ring..ring + width];
        five(self.kernel, [row(0), row(1), row(2), row(3), row(4)], out);
    }

    /// Blurred down the columns.
    fn blur_row(&mut self, y: usize) {
        let (width, height) = (self.width, self.height);
        let row = |shift: isize| {
            let ring = reflect(y as isize + shift, height) % 5 * width;
            &self.across[ring..ring + width]
        };
        let ring = y % 3 * (width + 2);
        let out = &mut self.blurred[ring..ring + width + 2];
        five(self.kernel, [row(-2), row(-1), row(0), row(1), row(2)], &mut out[1..=width]);
        out[0] = out[1];
        out[width + 1] = out[width];
    }

    /// Sobel's gradients and their squared magnitude.
    fn gradient_row(&mut self, y: usize) {
        let width = self.width;
        let row = |y: usize| {
            let ring = y % 3 * (width + 2);
            &self.blurred[ring..ring + width + 2]
        };
        let (up, here, down) =
            (row(y.saturating_sub(1)), row(y), row((y + 1).min(self.height - 1)));
        let ring = y % 3 * width;
        let (gx, gy) = (&mut self.gx[ring..ring + width], &mut self.gy[ring..ring + width]);
        let ring = y % 3 * (width + 2) + 1;
        let magnitude = &mut self.magnitude[ring..ring + width];
        let up = (&up[..width], &up[1..=width], &up[2..width + 2]);
        let here = (&here[..width], &here[2..width + 2]);
        let down = (&down[..width], &down[1..=width], &down[2..width + 2]);
        let (gx, gy, magnitude) = (&mut gx[..width], &mut gy[..width], &mut magnitude[..width]);
        for x in 0..width {
            let across =
                (up.2[x] + 2.0 * here.1[x] + down.2[x]) - (up.0[x] + 2.0 * here.0[x] + down.0[x]);
            let along =
                (down.0[x] + 2.0 * down.1[x] + down.2[x]) - (up.0[x] + 2.0 * up.1[x] + up.2[x]);
            gx[x] = across;
            gy[x] = along;
            magnitude[x] = across * across + along * along + EPSILON;
        }
    }

    /// Keeps what is larger than both neighbours along the gradient and sorts it by strength.
    fn thin_row(&mut self, y: usize) {
        let width = self.width;
        let row = |y: Option<usize>| {
            let ring = y.filter(|y| *y < self.height).map_or(3, |y| y % 3) * (width + 2);
            &self.magnitude[ring..ring + width + 2]
        };
        let (up, here, down) = (row(y.checked_sub(1)), row(Some(y)), row(Some(y + 1)));
        let ring = y % 3 * width;
        let (gx, gy) = (&self.gx[ring..ring + width], &self.gy[ring..ring + width]);
        let start = (y + 1) * (width + 2) + 1;
        let state = &mut self.state[start..start + width];
        let (low, high) = (self.low, self.high);
        let up = (&up[..width], &up[1..=width], &up[2..width + 2]);
        let here = (&here[..width], &here[1..=width], &here[2..width + 2]);
        let down = (&down[..width], &down[1..=width], &down[2..width + 2]);
        for x in 0..width {
            let (across, along) = (gx[x].abs(), gy[x].abs());
            // The larger of the two neighbours in each of the four directions.
            let level = here.0[x].max(here.2[x]);
            let upright = up.1[x].max(down.1[x]);
            let falling = up.0[x].max(down.2[x]);
            let rising = up.2[x].max(down.0[x]);
            let slanting = if gx[x] * gy[x] > 0.0 { falling } else { rising };
            let steep = if across <= SLANT * along { upright } else { slanting };
            let neighbour = if along <= SLANT * across { level } else { steep };
            let own = here.1[x];
            let peak = u8::from(own > neighbour);
            state[x] = (u8::from(own > low) + u8::from(own > high)) * peak;
        }
        for (x, state) in state.iter().enumerate() {
            if *state == STRONG {
                self.open.push((start + x) as u32);
            }
        }
    }

    /// Hysteresis: weak pixels that touch strong ones become strong.
    fn follow(&mut self) {
        let stride = self.width + 2;
        while let Some(at) = self.open.pop() {
            let at = at as usize;
            for row in [at - stride, at, at + stride] {
                for next in row - 1..=row + 1 {
                    if self.state[next] == WEAK {
                        self.state[next] = STRONG;
                        self.open.push(next as u32);
                    }
                }
            }
        }
    }
}

/// A symmetric kernel over five rows.
fn five(kernel: [f32; 3], rows: [&[f32]; 5], out: &mut [f32]) {
    let [middle, near, far] = kernel;
    let [a, b, c, d, e] = rows;
    let inner = b.iter().zip(d);
    let outer = a.iter().zip(e);
    for (((out, c), (b, d)), (a, e)) in out.iter_mut().zip(c).zip(inner).zip(outer) {
        *out = c * middle + (b + d) * near + (a + e) * far;
    }
}

impl Node for Canny {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.image(0)?;
        let size = image.size();
        let mut edges = context.pool.plane(self.width * self.height);
        self.find(image, &mut edges);
        let image = Image::grey(size, edges.freeze());
        outputs.push(Value::Image(image.ok_or_else(|| NodeError::new("wrong size"))?));
        Ok(())
    }
}

/// Finds edges.
pub(super) struct CannyEdges;

impl NodeClass for CannyEdges {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("Canny", "Canny", "image/preprocessors")
            .describe("White edges on black.")
            .input(InputSpec::image("image"))
            .input(
                InputSpec::float("low_threshold", 0.4, 0.01, 0.99, 0.01)
                    .tip("Edges this strong stay where they touch stronger ones"),
            )
            .input(
                InputSpec::float("high_threshold", 0.8, 0.01, 0.99, 0.01)
                    .tip("Edges this strong stay"),
            )
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let size = inputs.size("image")?;
        let (low, high) = (inputs.float("low_threshold")?, inputs.float("high_threshold")?);
        if low > high {
            let reason = format!("{low} is above high_threshold, {high}");
            return Err(BuildError::input("low_threshold", reason));
        }
        let node = Canny::new(size.width as usize, size.height as usize, low, high);
        Ok(Built::node(node, [Shape::Image(size)]))
    }
}
