//! `ImageBlur` and `ImageSharpen`: ComfyUI's Gaussian, whose kernel coordinates run from -1 to 1
//! whatever the radius, so that sigma is relative to the radius; borders are reflected.

use crate::frame::Size;
use crate::graph::{
    Bound, BuildError, Built, Context, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Pool, Shape, Value,
};

/// The widest kernel, in pixels from its centre.
const RADIUS_MAX: i64 = 31;

/// A separable blur with a symmetric kernel and reflected borders.
#[derive(Debug)]
pub(super) struct Gaussian {
    size: Size,
    /// The weights from the middle outwards.
    half: Vec<f32>,
    /// A row with its reflected ends.
    padded: Vec<f32>,
}

impl Gaussian {
    /// ComfyUI's kernel: `exp(-x^2 / (2 sigma^2))` at `2 radius + 1` places from -1 to 1.
    pub(super) fn relative(size: Size, radius: usize, sigma: f64) -> Self {
        Self::new(size, radius, sigma * radius as f64)
    }

    /// The usual kernel, sigma in pixels.
    fn new(size: Size, radius: usize, sigma: f64) -> Self {
        let weight = |n: usize| (-((n * n) as f64) / (2.0 * sigma * sigma)).exp();
        let sum = weight(0) + 2.0 * (1..=radius).map(weight).sum::<f64>();
        let half = (0..=radius).map(|n| (weight(n) / sum) as f32).collect();
        Self { size, half, padded: vec![0.0; size.width as usize + 2 * radius] }
    }

    /// Blurs one plane.
    pub(super) fn run(&mut self, pool: &mut Pool, input: &[f32], output: &mut [f32]) {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let radius = self.half.len() - 1;
        let mut across = pool.plane(input.len());
        for (row, out) in input.chunks_exact(width).zip(across.chunks_exact_mut(width)) {
            self.padded[radius..radius + width].copy_from_slice(row);
            for n in 1..=radius {
                self.padded[radius - n] = row[reflect(-(n as isize), width)];
                self.padded[radius + width + n - 1] = row[reflect((width + n - 1) as isize, width)];
            }
            let shifted = |by: usize| &self.padded[by..by + width];
            weigh(&self.half, out, |n| (shifted(radius - n), shifted(radius + n)));
        }
        for (y, out) in output.chunks_exact_mut(width).enumerate() {
            let row = |y: isize| {
                let y = reflect(y, height);
                &across[y * width..(y + 1) * width]
            };
            let y = y as isize;
            weigh(&self.half, out, |n| (row(y - n as isize), row(y + n as isize)));
        }
        pool.recycle_plane(across.freeze());
    }
}

/// `out` = the rows at each distance, weighed; two distances at a time, which halves the passes
/// over `out`.
fn weigh<'a>(half: &[f32], out: &mut [f32], rows: impl Fn(usize) -> (&'a [f32], &'a [f32])) {
    let (middle, _) = rows(0);
    match half.get(1) {
        None => out.copy_from_slice(middle),
        Some(near) => {
            let (before, after) = rows(1);
            for (((out, m), b), a) in out.iter_mut().zip(middle).zip(before).zip(after) {
                *out = m * half[0] + (b + a) * near;
            }
        }
    }
    let far = half.get(2..).unwrap_or_default();
    for (n, pair) in far.chunks(2).enumerate() {
        let (before, after) = rows(2 + n * 2);
        match pair {
            [first, second] => {
                let (before2, after2) = rows(3 + n * 2);
                let inner = before.iter().zip(after);
                let outer = before2.iter().zip(after2);
                for ((out, (b, a)), (b2, a2)) in out.iter_mut().zip(inner).zip(outer) {
                    *out += (b + a) * first + (b2 + a2) * second;
                }
            }
            [first, ..] => {
                for ((out, b), a) in out.iter_mut().zip(before).zip(after) {
                    *out += (b + a) * first;
                }
            }
            [] => {}
        }
    }
}

/// The sample that stands at `at` when the ends are mirrors: -1 is 1, `length` is `length - 2`.
/// Radii beyond the length, which PyTorch refuses, go on being mirrored.
pub(super) fn reflect(at: isize, length: usize) -> usize {
    let last = length as isize - 1;
    if last == 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    (if at > last { 2 * last - at } else { at }) as usize
}

struct Blur {
    gaussian: Gaussian,
    /// `alpha` of a sharpening.
    sharpen: Option<f32>,
}

impl Node for Blur {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.take_image(0)?;
        let size = image.size();
        let image = context.pool.map(image, size, |pool, input, output| {
            self.gaussian.run(pool, input, output);
            if let Some(alpha) = self.sharpen {
                // ComfyUI's kernel is 1 + 10 alpha in the middle less 10 alpha times the Gaussian.
                let (own, blurred) = (1.0 + 10.0 * alpha, 10.0 * alpha);
                for (out, sample) in output.iter_mut().zip(input) {
                    *out = (sample * own - *out * blurred).clamp(0.0, 1.0);
                }
            }
        });
        outputs.push(Value::Image(image));
        Ok(())
    }
}

fn build(inputs: &Bound<'_>, radius: &str, sharpen: Option<f32>) -> Result<Built, BuildError> {
    let size = inputs.size("image")?;
    let radius = inputs.int(radius)?.clamp(1, RADIUS_MAX) as usize;
    let gaussian = Gaussian::relative(size, radius, inputs.float("sigma")?);
    Ok(Built::node(Blur { gaussian, sharpen }, [Shape::Image(size)]))
}

/// A Gaussian blur.
pub(super) struct ImageBlur;

impl NodeClass for ImageBlur {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageBlur", "Image Blur", "image/postprocessing")
            .describe("Gaussian blur. Sigma is relative to the radius.")
            .input(InputSpec::image("image"))
            .input(InputSpec::int("blur_radius", 1, 1, RADIUS_MAX))
            .input(InputSpec::float("sigma", 1.0, 0.1, 10.0, 0.1))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        build(inputs, "blur_radius", None)
    }
}

/// An unsharp mask on the same blur.
pub(super) struct ImageSharpen;

impl NodeClass for ImageSharpen {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageSharpen", "Image Sharpen", "image/postprocessing")
            .describe("Adds ten times alpha of what a Gaussian blur takes away.")
            .input(InputSpec::image("image"))
            .input(InputSpec::int("sharpen_radius", 1, 1, RADIUS_MAX))
            .input(InputSpec::float("sigma", 1.0, 0.1, 10.0, 0.01))
            .input(InputSpec::float("alpha", 1.0, 0.0, 5.0, 0.01))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        build(inputs, "sharpen_radius", Some(inputs.float("alpha")? as f32))
    }
}
