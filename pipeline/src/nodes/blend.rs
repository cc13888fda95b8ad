//! `ImageBlend`: two pictures mixed by one of ComfyUI's modes. A second picture of another size is
//! first scaled to the size of the first (bicubic, middle cut out).

use super::resample::Window;
use super::scale::Scaler;
use crate::graph::{
    Bound, BuildError, Built, Context, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Shape, Value,
};

const MODES: &[&str] = &["normal", "multiply", "screen", "overlay", "soft_light", "difference"];

#[derive(Clone, Copy)]
enum Mode {
    Normal,
    Multiply,
    Screen,
    Overlay,
    SoftLight,
    Difference,
}

impl Mode {
    fn named(name: &str) -> Self {
        match name {
            "multiply" => Self::Multiply,
            "screen" => Self::Screen,
            "overlay" => Self::Overlay,
            "soft_light" => Self::SoftLight,
            "difference" => Self::Difference,
            _ => Self::Normal,
        }
    }

    /// `a` becomes `a` mixed with `mode(a, b)`.
    fn mix(self, a: &mut [f32], b: &[f32], factor: f32) {
        match self {
            Self::Normal => each(a, b, factor, |_, b| b),
            Self::Multiply => each(a, b, factor, |a, b| a * b),
            Self::Screen => each(a, b, factor, |a, b| 1.0 - (1.0 - a) * (1.0 - b)),
            Self::Overlay => each(a, b, factor, |a, b| {
                let (dark, light) = (2.0 * a * b, 1.0 - 2.0 * (1.0 - a) * (1.0 - b));
                if a <= 0.5 { dark } else { light }
            }),
            Self::SoftLight => each(a, b, factor, |a, b| {
                let dark = a - (1.0 - 2.0 * b) * a * (1.0 - a);
                let lifted = if a <= 0.25 { ((16.0 * a - 12.0) * a + 4.0) * a } else { a.sqrt() };
                let light = a + (2.0 * b - 1.0) * (lifted - a);
                if b <= 0.5 { dark } else { light }
            }),
            Self::Difference => each(a, b, factor, |a, b| a - b),
        }
    }
}

fn each(a: &mut [f32], b: &[f32], factor: f32, mode: impl Fn(f32, f32) -> f32) {
    let keep = 1.0 - factor;
    for (a, b) in a.iter_mut().zip(b) {
        *a = (*a * keep + mode(*a, *b) * factor).clamp(0.0, 1.0);
    }
}

struct Blend {
    mode: Mode,
    factor: f32,
    fit: Option<Scaler>,
}

impl Node for Blend {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let (first, mut second) = (inputs.take_image(0)?, inputs.take_image(1)?);
        let (size, pool) = (first.size(), &mut *context.pool);
        if let Some(scaler) = &mut self.fit {
            second = pool.map(second, size, |_, input, output| scaler.run(input, output));
        }
        let (mode, factor) = (self.mode, self.factor);
        let image = if first.is_grey() && second.is_grey() {
            pool.edit(first, |plane| mode.mix(plane, second.plane(0), factor))
        } else {
            pool.edit_channels(first, |channel, plane| {
                mode.mix(plane, second.plane(channel), factor);
            })
        };
        pool.recycle(Value::Image(second));
        outputs.push(Value::Image(image));
        Ok(())
    }
}

/// Mixes two pictures.
pub(super) struct ImageBlend;

impl NodeClass for ImageBlend {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageBlend", "Image Blend", "image/postprocessing")
            .describe("Mixes the first picture with the two blended by a mode.")
            .input(InputSpec::image("image1"))
            .input(InputSpec::image("image2"))
            .input(InputSpec::float("blend_factor", 0.5, 0.0, 1.0, 0.01))
            .input(InputSpec::combo("blend_mode", MODES))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let (to, from) = (inputs.size("image1")?, inputs.size("image2")?);
        let fit = || Scaler::new("bicubic", from, Window::centre(from, to), to);
        let mode = Mode::named(&inputs.text("blend_mode")?);
        let factor = inputs.float("blend_factor")? as f32;
        let node = Blend { mode, factor, fit: (from != to).then(fit) };
        Ok(Built::node(node, [Shape::Image(to)]))
    }
}
