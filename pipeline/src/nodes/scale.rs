//! `ImageScale` and `ImageScaleBy`.

use super::lanczos::Lanczos;
use super::resample::{Method, Resampler, Window};
use crate::frame::Size;
use crate::graph::{
    Bound, BuildError, Built, Context, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Shape, Value,
};

const METHODS: &[&str] = &["nearest-exact", "bilinear", "area", "bicubic", "lanczos"];
/// ComfyUI's `MAX_RESOLUTION`; what is really made is bounded by the graph's limits.
pub(super) const SIDE_MAX: i64 = 16_384;

/// A change of size by any of the five methods.
pub(super) enum Scaler {
    Torch(Resampler),
    Pillow(Lanczos),
}

impl Scaler {
    /// By ComfyUI's name of the method.
    pub(super) fn new(method: &str, from: Size, window: Window, to: Size) -> Self {
        let method = match method {
            "bilinear" => Method::Bilinear,
            "area" => Method::Area,
            "bicubic" => Method::Bicubic,
            "lanczos" => return Self::Pillow(Lanczos::new(from, window, to)),
            _ => Method::NearestExact,
        };
        Self::Torch(Resampler::new(method, from, window, to))
    }

    pub(super) fn run(&mut self, input: &[f32], output: &mut [f32]) {
        match self {
            Self::Torch(resampler) => resampler.run(input, output),
            Self::Pillow(lanczos) => lanczos.run(input, output),
        }
    }
}

struct Scale {
    scaler: Scaler,
    to: Size,
}

impl Node for Scale {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.take_image(0)?;
        let scaler = &mut self.scaler;
        let work = |_: &mut _, input: &[f32], output: &mut [f32]| scaler.run(input, output);
        outputs.push(Value::Image(context.pool.map(image, self.to, work)));
        Ok(())
    }
}

/// A side of a picture, or why it cannot be one.
pub(super) fn side(input: &str, value: f64) -> Result<u32, BuildError> {
    if (1.0..=f64::from(Size::SIDE_MAX)).contains(&value) {
        return Ok(value as u32);
    }
    let reason = format!("a side of {value} pixels is not within 1 and {}", Size::SIDE_MAX);
    Err(BuildError::input(input, reason))
}

fn build(inputs: &Bound<'_>, to: Size, crop: bool) -> Result<Built, BuildError> {
    let from = inputs.size("image")?;
    let method = inputs.text("upscale_method")?;
    let window = if crop { Window::centre(from, to) } else { Window::whole(from) };
    // Lanczos rounds to 8 bits even when the size stays.
    if from == to && window == Window::whole(from) && &*method != "lanczos" {
        return Ok(Built::same(inputs.index("image")?));
    }
    let scaler = Scaler::new(&method, from, window, to);
    Ok(Built::node(Scale { scaler, to }, [Shape::Image(to)]))
}

/// Scales to a size; a side of 0 follows the aspect, two leave the picture as it is.
pub(super) struct ImageScale;

impl NodeClass for ImageScale {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageScale", "Upscale Image", "image/upscaling")
            .describe("Scales to a size. A side of 0 follows the aspect; two leave the picture.")
            .input(InputSpec::image("image"))
            .input(InputSpec::combo("upscale_method", METHODS))
            .input(InputSpec::int("width", 512, 0, SIDE_MAX))
            .input(InputSpec::int("height", 512, 0, SIDE_MAX))
            .input(InputSpec::combo("crop", &["disabled", "center"]))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let from = inputs.size("image")?;
        let (width, height) = (inputs.int("width")? as f64, inputs.int("height")? as f64);
        if width == 0.0 && height == 0.0 {
            return Ok(Built::same(inputs.index("image")?));
        }
        let (old_width, old_height) = (f64::from(from.width), f64::from(from.height));
        let (mut new_width, mut new_height) = (width, height);
        if width == 0.0 {
            new_width = (old_width * height / old_height).round_ties_even().max(1.0);
        } else if height == 0.0 {
            new_height = (old_height * width / old_width).round_ties_even().max(1.0);
        }
        let to = Size::new(side("width", new_width)?, side("height", new_height)?);
        build(inputs, to, &*inputs.text("crop")? == "center")
    }
}

/// Scales both sides by a factor.
pub(super) struct ImageScaleBy;

impl NodeClass for ImageScaleBy {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageScaleBy", "Upscale Image By", "image/upscaling")
            .describe("Scales both sides by a factor.")
            .input(InputSpec::image("image"))
            .input(InputSpec::combo("upscale_method", METHODS))
            .input(InputSpec::float("scale_by", 1.0, 0.01, 8.0, 0.01))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let from = inputs.size("image")?;
        let factor = inputs.float("scale_by")?;
        let scaled = |old: u32| side("scale_by", (f64::from(old) * factor).round_ties_even());
        build(inputs, Size::new(scaled(from.width)?, scaled(from.height)?), false)
    }
}
