//! Masks: `SolidMask`, `InvertMask`, `ThresholdMask`, `MaskToImage`, `ImageToMask` and
//! `ImageCompositeMasked`.

use super::resample::{Method, Resampler, Window};
use super::scale::{SIDE_MAX, side};
use crate::frame::Size;
use crate::graph::{
    Bound, BuildError, Built, Context, Image, InputSpec, Inputs, Kind, Mask, Node, NodeClass,
    NodeError, NodeSpec, Pool, Samples, Shape, Value,
};

/// A node that only turns one plane into another kind of value or changes it in place.
struct Plain<F>(F);

impl<F> Node for Plain<F>
where
    F: FnMut(&mut Pool, &mut Inputs<'_>) -> Result<Option<Value>, NodeError> + Send,
{
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let value = (self.0)(context.pool, inputs)?;
        outputs.push(value.ok_or_else(|| NodeError::new("a plane of a wrong size"))?);
        Ok(())
    }
}

fn edit(mask: Mask, pool: &mut Pool, work: impl Fn(f32) -> f32) -> Option<Value> {
    let size = mask.size();
    let mut plane = pool.own(mask.into_plane());
    plane.iter_mut().for_each(|sample| *sample = work(*sample));
    Mask::new(size, plane.freeze()).map(Value::Mask)
}

/// A mask of one value.
pub(super) struct SolidMask;

impl NodeClass for SolidMask {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("SolidMask", "SolidMask", "mask")
            .describe("A mask of one value.")
            .input(InputSpec::float("value", 1.0, 0.0, 1.0, 0.01))
            .input(InputSpec::int("width", 512, 1, SIDE_MAX))
            .input(InputSpec::int("height", 512, 1, SIDE_MAX))
            .output(Kind::Mask)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let width = side("width", inputs.int("width")? as f64)?;
        let height = side("height", inputs.int("height")? as f64)?;
        let (size, value) = (Size::new(width, height), inputs.float("value")? as f32);
        let node = Plain(move |pool: &mut Pool, _: &mut Inputs<'_>| {
            let mut plane = pool.plane(size.pixels() as usize);
            plane.fill(value);
            Ok(Mask::new(size, plane.freeze()).map(Value::Mask))
        });
        Ok(Built::node(node, [Shape::Mask(size)]))
    }
}

/// One less the mask.
pub(super) struct InvertMask;

impl NodeClass for InvertMask {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("InvertMask", "InvertMask", "mask")
            .describe("One less the mask.")
            .input(InputSpec::mask("mask"))
            .output(Kind::Mask)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let node = Plain(|pool: &mut Pool, inputs: &mut Inputs<'_>| {
            Ok(edit(inputs.take_mask(0)?, pool, |sample| 1.0 - sample))
        });
        Ok(Built::node(node, [inputs.shape("mask")?]))
    }
}

/// One where the mask is above a value, else zero.
pub(super) struct ThresholdMask;

impl NodeClass for ThresholdMask {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ThresholdMask", "ThresholdMask", "mask")
            .describe("One where the mask is above the value, zero elsewhere.")
            .input(InputSpec::mask("mask"))
            .input(InputSpec::float("value", 0.5, 0.0, 1.0, 0.01))
            .output(Kind::Mask)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let value = inputs.float("value")? as f32;
        let node = Plain(move |pool: &mut Pool, inputs: &mut Inputs<'_>| {
            let above = |sample: f32| if sample > value { 1.0 } else { 0.0 };
            Ok(edit(inputs.take_mask(0)?, pool, above))
        });
        Ok(Built::node(node, [inputs.shape("mask")?]))
    }
}

/// The mask as a grey picture.
pub(super) struct MaskToImage;

impl NodeClass for MaskToImage {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("MaskToImage", "Convert Mask to Image", "mask")
            .describe("The mask as a grey picture.")
            .input(InputSpec::mask("mask"))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let size = inputs.size("mask")?;
        let node = Plain(move |_: &mut Pool, inputs: &mut Inputs<'_>| {
            Ok(Image::grey(size, inputs.take_mask(0)?.into_plane()).map(Value::Image))
        });
        Ok(Built::node(node, [Shape::Image(size)]))
    }
}

/// One channel as a mask.
pub(super) struct ImageToMask;

impl NodeClass for ImageToMask {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageToMask", "Convert Image to Mask", "mask")
            .describe("One channel as a mask. Live pictures have no alpha.")
            .input(InputSpec::image("image"))
            .input(InputSpec::combo("channel", &["red", "green", "blue", "alpha"]))
            .output(Kind::Mask)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let size = inputs.size("image")?;
        let channel = match &*inputs.text("channel")? {
            "red" => 0,
            "green" => 1,
            "blue" => 2,
            _ => return Err(BuildError::input("channel", "live pictures have no alpha")),
        };
        let node = Plain(move |pool: &mut Pool, inputs: &mut Inputs<'_>| {
            let mut kept = None;
            for (n, plane) in inputs.take_image(0)?.into_planes().into_iter().enumerate() {
                if n == channel {
                    kept = Some(plane);
                } else {
                    pool.recycle_plane(plane);
                }
            }
            Ok(kept.and_then(|plane| Mask::new(size, plane)).map(Value::Mask))
        });
        Ok(Built::node(node, [Shape::Mask(size)]))
    }
}

struct Composite {
    x: usize,
    y: usize,
    fit_source: Option<Resampler>,
    fit_mask: Option<Resampler>,
    source: Size,
}

impl Composite {
    /// Lays `source` over `under` where both are, as strongly as `mask` says.
    fn lay(&self, under: &mut [f32], size: Size, source: &[f32], mask: Option<&[f32]>) {
        let (stride, source_stride) = (size.width as usize, self.source.width as usize);
        let width = source_stride.min(stride.saturating_sub(self.x));
        let height =
            (self.source.height as usize).min((size.height as usize).saturating_sub(self.y));
        if width == 0 {
            return;
        }
        for row in 0..height {
            let start = (self.y + row) * stride + self.x;
            let under = &mut under[start..start + width];
            let from = row * source_stride..row * source_stride + width;
            let over = &source[from.clone()];
            match mask {
                None => under.copy_from_slice(over),
                Some(mask) => {
                    for ((under, over), mask) in under.iter_mut().zip(over).zip(&mask[from]) {
                        *under = mask * over + (1.0 - mask) * *under;
                    }
                }
            }
        }
    }
}

impl Node for Composite {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let (under, mut source) = (inputs.take_image(0)?, inputs.take_image(1)?);
        let (size, pool) = (under.size(), &mut *context.pool);
        if let Some(fit) = &mut self.fit_source {
            source = pool.map(source, self.source, |_, input, output| fit.run(input, output));
        }
        let mut mask: Option<Samples> = None;
        if inputs.get(5).is_some() {
            let given = inputs.take_mask(5)?.into_plane();
            mask = Some(match &mut self.fit_mask {
                None => given,
                Some(fit) => {
                    let mut fitted = pool.plane(self.source.pixels() as usize);
                    fit.run(&given, &mut fitted);
                    pool.recycle_plane(given);
                    fitted.freeze()
                }
            });
        }
        let level = mask.as_ref().map(|plane| plane.as_slice());
        let image = pool.edit_channels(under, |channel, plane| {
            self.lay(plane, size, source.plane(channel), level);
        });
        pool.recycle(Value::Image(source));
        mask.into_iter().for_each(|plane| pool.recycle_plane(plane));
        outputs.push(Value::Image(image));
        Ok(())
    }
}

/// Lays one picture over another.
pub(super) struct ImageCompositeMasked;

impl NodeClass for ImageCompositeMasked {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageCompositeMasked", "ImageCompositeMasked", "image")
            .describe(
                "Lays the source over the destination, where and as strongly as the mask says.",
            )
            .input(InputSpec::image("destination"))
            .input(InputSpec::image("source"))
            .input(InputSpec::int("x", 0, 0, SIDE_MAX))
            .input(InputSpec::int("y", 0, 0, SIDE_MAX))
            .input(InputSpec::bool("resize_source", false))
            .input(InputSpec::mask("mask").optional())
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let (under, given) = (inputs.size("destination")?, inputs.size("source")?);
        let source = if inputs.bool("resize_source")? { under } else { given };
        let fit = |from: Size| {
            let fit = || Resampler::new(Method::Bilinear, from, Window::whole(from), source);
            (from != source).then(fit)
        };
        let fit_mask = if inputs.has("mask") { fit(inputs.size("mask")?) } else { None };
        let (x, y) = (inputs.int("x")? as usize, inputs.int("y")? as usize);
        let node = Composite { x, y, fit_source: fit(given), fit_mask, source };
        Ok(Built::node(node, [Shape::Image(under)]))
    }
}
