//! Nodes that move or make pixels without mixing them: `ImageCrop`, `ImageFlip`, `ImageRotate`,
//! `ImageInvert`, `EmptyImage` and `GetImageSize`.

use super::scale::{SIDE_MAX, side};
use crate::frame::Size;
use crate::graph::{
    Bound, BuildError, Built, Context, Image, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Shape, Value,
};

/// A rearrangement of pixels: output pixel (x, y) is the input sample at
/// `start + x * right + y * down`.
struct Move {
    to: Size,
    start: isize,
    right: isize,
    down: isize,
}

impl Node for Move {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.take_image(0)?;
        let width = self.to.width as usize;
        let image = context.pool.map(image, self.to, |_, input, output| {
            for (y, row) in output.chunks_exact_mut(width).enumerate() {
                let first = self.start + y as isize * self.down;
                if self.right == 1 {
                    let first = first as usize;
                    row.copy_from_slice(&input[first..first + width]);
                } else {
                    for (x, out) in row.iter_mut().enumerate() {
                        *out = input[(first + x as isize * self.right) as usize];
                    }
                }
            }
        });
        outputs.push(Value::Image(image));
        Ok(())
    }
}

impl Move {
    fn built(self) -> Built {
        let shape = Shape::Image(self.to);
        Built::node(self, [shape])
    }
}

/// Cuts out a rectangle; the corner is held inside the picture and the rest cut off.
pub(super) struct ImageCrop;

impl NodeClass for ImageCrop {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageCrop", "Image Crop", "image/transform")
            .describe("Cuts out a rectangle, as much of it as lies in the picture.")
            .input(InputSpec::image("image"))
            .input(InputSpec::int("width", 512, 1, SIDE_MAX))
            .input(InputSpec::int("height", 512, 1, SIDE_MAX))
            .input(InputSpec::int("x", 0, 0, SIDE_MAX))
            .input(InputSpec::int("y", 0, 0, SIDE_MAX))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let from = inputs.size("image")?;
        let x = inputs.int("x")?.min(i64::from(from.width) - 1) as u32;
        let y = inputs.int("y")?.min(i64::from(from.height) - 1) as u32;
        let width = inputs.int("width")?.min(i64::from(from.width - x)) as u32;
        let height = inputs.int("height")?.min(i64::from(from.height - y)) as u32;
        let to = Size::new(width, height);
        if to == from {
            return Ok(Built::same(inputs.index("image")?));
        }
        let stride = from.width as isize;
        Ok(Move { to, start: y as isize * stride + x as isize, right: 1, down: stride }.built())
    }
}

/// Mirrors.
pub(super) struct ImageFlip;

impl NodeClass for ImageFlip {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageFlip", "Image Flip", "image/transform")
            .describe("Mirrors at the x-axis (upside down) or the y-axis (left and right).")
            .input(InputSpec::image("image"))
            .input(InputSpec::combo("flip_method", &["x-axis: vertically", "y-axis: horizontally"]))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let to = inputs.size("image")?;
        let (width, height) = (to.width as isize, to.height as isize);
        let node = if inputs.text("flip_method")?.starts_with('x') {
            Move { to, start: (height - 1) * width, right: 1, down: -width }
        } else {
            Move { to, start: width - 1, right: -1, down: width }
        };
        Ok(node.built())
    }
}

/// Turns clockwise by quarters.
pub(super) struct ImageRotate;

impl NodeClass for ImageRotate {
    fn spec(&self) -> NodeSpec {
        let turns = ["none", "90 degrees", "180 degrees", "270 degrees"];
        NodeSpec::new("ImageRotate", "Image Rotate", "image/transform")
            .describe("Turns clockwise.")
            .input(InputSpec::image("image"))
            .input(InputSpec::combo("rotation", &turns))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let from = inputs.size("image")?;
        let (width, height) = (from.width as isize, from.height as isize);
        let turned = Size::new(from.height, from.width);
        let node = match &*inputs.text("rotation")? {
            "90 degrees" => {
                Move { to: turned, start: (height - 1) * width, right: -width, down: 1 }
            }
            "180 degrees" => Move { to: from, start: width * height - 1, right: -1, down: -width },
            "270 degrees" => Move { to: turned, start: width - 1, right: width, down: -1 },
            _ => return Ok(Built::same(inputs.index("image")?)),
        };
        Ok(node.built())
    }
}

struct Invert;

impl Node for Invert {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.take_image(0)?;
        let image = context.pool.edit(image, |plane| plane.iter_mut().for_each(|s| *s = 1.0 - *s));
        outputs.push(Value::Image(image));
        Ok(())
    }
}

/// The negative.
pub(super) struct ImageInvert;

impl NodeClass for ImageInvert {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageInvert", "Invert Image", "image")
            .describe("The negative of a picture.")
            .input(InputSpec::image("image"))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        Ok(Built::node(Invert, [inputs.shape("image")?]))
    }
}

struct Empty {
    size: Size,
    color: [f32; 3],
}

impl Node for Empty {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        _: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let planes = self.color.map(|level| {
            let mut plane = context.pool.plane(self.size.pixels() as usize);
            plane.fill(level);
            plane.freeze()
        });
        let image = Image::new(self.size, planes);
        outputs.push(Value::Image(image.ok_or_else(|| NodeError::new("wrong size"))?));
        Ok(())
    }
}

/// The red, green and blue of a 24-bit colour.
pub(super) fn rgb(color: i64) -> [f32; 3] {
    [16, 8, 0].map(|shift| (color >> shift & 0xFF) as f32 / 255.0)
}

/// A picture of one colour.
pub(super) struct EmptyImage;

impl NodeClass for EmptyImage {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("EmptyImage", "EmptyImage", "image")
            .describe("A picture of one colour.")
            .input(InputSpec::int("width", 512, 1, SIDE_MAX))
            .input(InputSpec::int("height", 512, 1, SIDE_MAX))
            .input(InputSpec::int("batch_size", 1, 1, 1).tip("Live graphs have one picture"))
            .input(InputSpec::color("color", 0))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let width = side("width", inputs.int("width")? as f64)?;
        let height = side("height", inputs.int("height")? as f64)?;
        let size = Size::new(width, height);
        let color = rgb(inputs.int("color")?);
        Ok(Built::node(Empty { size, color }, [Shape::Image(size)]))
    }
}

/// Width, height and the batch of one, known before the first frame.
pub(super) struct GetImageSize;

impl NodeClass for GetImageSize {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("GetImageSize", "Get Image Size", "image")
            .describe("Width, height and batch of a picture.")
            .input(InputSpec::image("image"))
            .named_output("width", Kind::Int)
            .named_output("height", Kind::Int)
            .named_output("batch_size", Kind::Int)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let size = inputs.size("image")?;
        let sides = [size.width, size.height, 1];
        Ok(Built::values(sides.map(|side| Value::Int(i64::from(side)))))
    }
}
