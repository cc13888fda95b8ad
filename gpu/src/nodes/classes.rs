//! `MillstreamOnnx`, and ComfyUI's `UpscaleModelLoader` with `ImageUpscaleWithModel`.

use std::sync::Arc;

use pipeline::graph::{
    Bound, BuildError, Built, Context, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Opaque, Shape, Value, Widget,
};

use super::picture::Pictures;
use super::{Models, Shared};
use crate::onnx::{Choice, Session};

/// The link type between loader and user of a model.
const UPSCALE_MODEL: &str = "UPSCALE_MODEL";

impl Shared {
    fn model_input(&self, name: &str) -> InputSpec {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let default = names.iter().position(|name| *name == super::SUPERRES).unwrap_or(0);
        let mut input = InputSpec::combo(name, &names).tip("A file in the folder of models");
        if let Widget::Combo { default: place, .. } = &mut input.widget {
            *place = default;
        }
        input
    }

    /// A node that runs `model` on the picture of the input `image`.
    fn node(
        &self,
        inputs: &Bound<'_>,
        model_input: &str,
        model: &str,
        choice: Choice,
    ) -> Result<Built, BuildError> {
        let size = inputs.size("image")?;
        let image = inputs.index("image")?;
        let Models { threads, .. } = self.models;
        let runtime = self.runtime.as_ref().map_err(|error| BuildError::new(error.to_string()))?;
        let session = Session::open(runtime, &self.store, model, size, choice, threads);
        let session = session.map_err(|error| BuildError::input(model_input, error.to_string()))?;
        let pictures = Pictures::new(session, size);
        let output = Shape::Image(pictures.output());
        Ok(Built::node(Run { pictures, image }, [output]))
    }
}

struct Run {
    pictures: Pictures,
    /// The picture's place among the inputs.
    image: usize,
}

impl Node for Run {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.take_image(self.image)?;
        let result = self.pictures.run(&image, context.pool);
        context.pool.recycle(Value::Image(image));
        outputs.push(Value::Image(result?));
        Ok(())
    }
}

/// Any model that makes a picture of a picture.
pub(super) struct Onnx(pub(super) Arc<Shared>);

impl NodeClass for Onnx {
    fn spec(&self) -> NodeSpec {
        let provider = InputSpec::combo("provider", &Choice::NAMES).optional();
        NodeSpec::new("MillstreamOnnx", "ONNX Model", "image/models")
            .describe(
                "Runs an ONNX model that makes a picture of a picture, 1 to 4 times as large. \
                 Models of one channel get luma; chroma is enlarged beside it.",
            )
            .input(InputSpec::image("image"))
            .input(self.0.model_input("model"))
            .input(provider.tip("Where it runs; auto takes the quickest that works"))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let model = inputs.text("model")?;
        let asked = match inputs.has("provider") {
            true => {
                inputs.text("provider")?.parse().map_err(|e| BuildError::input("provider", e))?
            }
            false => Choice::Auto,
        };
        let choice = if asked == Choice::Auto { self.0.models.provider } else { asked };
        self.0.node(inputs, "model", &model, choice)
    }
}

/// The name of a model, as the loader hands it on.
struct Named(Arc<str>);

/// ComfyUI's loader: it names a model, and whoever uses it loads it for its picture's size.
pub(super) struct Loader(pub(super) Arc<Shared>);

impl NodeClass for Loader {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("UpscaleModelLoader", "Load Upscale Model", "loaders")
            .describe("Names an ONNX model for ImageUpscaleWithModel.")
            .input(self.0.model_input("model_name"))
            .output(Kind::Opaque(UPSCALE_MODEL.into()))
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let value = Arc::new(Named(inputs.text("model_name")?));
        Ok(Built::values([Value::Opaque(Opaque { kind: UPSCALE_MODEL.into(), value })]))
    }
}

/// ComfyUI's user of an upscale model.
pub(super) struct Upscale(pub(super) Arc<Shared>);

impl NodeClass for Upscale {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("ImageUpscaleWithModel", "Upscale Image (using Model)", "image/upscaling")
            .describe("Runs the model that UpscaleModelLoader names.")
            .input(InputSpec::link("upscale_model", Kind::Opaque(UPSCALE_MODEL.into())))
            .input(InputSpec::image("image"))
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let unknown = || BuildError::input("upscale_model", "comes from no UpscaleModelLoader");
        let Value::Opaque(opaque) = inputs.value("upscale_model")? else { return Err(unknown()) };
        let Named(model) = opaque.value.downcast_ref().ok_or_else(unknown)?;
        let model = Arc::clone(model);
        self.0.node(inputs, "upscale_model", &model, self.0.models.provider)
    }
}
