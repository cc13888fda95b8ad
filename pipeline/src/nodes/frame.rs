//! Where the frame enters and leaves a graph, by ComfyStream's names.

use crate::graph::{Bound, BuildError, Built, InputSpec, Kind, NodeClass, NodeSpec};

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
