//! Where the frame enters and leaves a graph, and what is said about it, by ComfyStream's names.

use crate::graph::{
    Bound, BuildError, Built, Context, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Shape, Value,
};

/// The picture of the current frame.
pub(super) struct LoadTensor;

impl NodeClass for LoadTensor {
    fn spec(&self) -> NodeSpec {
        let timeout = InputSpec::float("timeout_seconds", 1.0, 0.1, 30.0, 0.1)
            .optional()
            .tip("Accepted and not used: the graph runs when a frame comes");
        NodeSpec::new("LoadTensor", "Load Tensor", "ComfyStream/Loaders")
            .describe("The picture of the frame that is being processed.")
            .input(timeout)
            .output(Kind::Image)
    }

    fn build(&self, _: &Bound<'_>) -> Result<Built, BuildError> {
        Ok(Built::picture())
    }
}

/// The picture that the processed stream shows.
pub(super) struct SaveTensor;

impl NodeClass for SaveTensor {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("SaveTensor", "Save Tensor", "ComfyStream/Outputs")
            .describe("The picture that becomes the frame of the processed stream.")
            .input(InputSpec::image("images"))
            .sink()
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        Ok(Built::result(inputs.index("images")?))
    }
}

/// What is said about the frame beside its picture.
pub(super) struct SaveTextTensor;

impl NodeClass for SaveTextTensor {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("SaveTextTensor", "Save Text Tensor", "ComfyStream/Outputs")
            .describe("Text about the frame that travels with its picture to the viewers.")
            .input(InputSpec::text("data", ""))
            .input(InputSpec::bool("remove_linebreaks", true).optional())
            .sink()
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let one_line = !inputs.has("remove_linebreaks") || inputs.bool("remove_linebreaks")?;
        let node = SaveText { data: inputs.index("data")?, one_line };
        Ok(Built::node(node, Vec::<Shape>::new()).every_frame())
    }
}

struct SaveText {
    data: usize,
    one_line: bool,
}

impl Node for SaveText {
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        _: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let Some(Value::Text(text)) = inputs.get(self.data) else {
            return Err(NodeError::new("data is not a STRING"));
        };
        if self.one_line && text.contains(['\n', '\r']) {
            context.results.say(context.node, &text.replace(['\n', '\r'], ""));
        } else {
            context.results.say(context.node, text);
        }
        Ok(())
    }
}
