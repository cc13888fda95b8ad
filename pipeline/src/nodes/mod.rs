//! The node classes that run on the host: ComfyUI's, with its names, inputs, defaults and
//! arithmetic, and our own, whose names begin with `Millstream`.

mod frame;

use std::sync::Arc;

use crate::graph::NodeClass;

/// All classes of this crate.
pub(crate) fn classes() -> Vec<Arc<dyn NodeClass>> {
    vec![Arc::new(frame::LoadTensor), Arc::new(frame::SaveTensor)]
}
