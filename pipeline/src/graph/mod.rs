//! The graph engine: a ComfyUI prompt in, a [`Stage`](crate::stage::Stage) out.
//!
//! [`Prompt::parse`] reads and bounds a prompt, [`compile`] validates it against a [`Registry`] of
//! node classes and makes a [`Graph`] for one picture size. A change of prompt or size is a new
//! graph, compiled beside the running one and swapped by its owner at a frame border.
//!
//! ```
//! use pipeline::Size;
//! use pipeline::graph::{Prompt, Registry, compile, default_prompt};
//!
//! let registry = Registry::host();
//! let prompt = Prompt::parse(&default_prompt())?;
//! let graph = compile(&prompt, &registry, Size::new(640, 360))?;
//! assert_eq!(graph.output_size(), Size::new(640, 360));
//! # Ok::<(), pipeline::graph::PromptError>(())
//! ```

mod class;
mod compile;
mod engine;
mod error;
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) mod naive;
mod pool;
mod prompt;
mod prompts;
mod registry;
mod spec;
#[cfg(test)]
mod tests;
mod validate;
mod value;

pub use class::{Bound, BuildError, Built, Context, Inputs, Node, NodeClass, NodeError, Results};
pub use compile::{Limits, compile, compile_within};
pub use engine::{Graph, NodeTiming};
pub use error::{Fault, FaultKind, NodeFaults, PromptError};
pub use pool::{PlaneBuf, Pool};
pub use prompt::{BYTES_MAX, Given, INPUTS_MAX, NAME_MAX, NODES_MAX, Prompt, PromptNode, TEXT_MAX};
pub use prompts::{default_prompt, passthrough_prompt};
pub use registry::{CLASSES_MAX, Registry};
pub use spec::{InputSpec, NodeSpec, OutputSpec, Widget};
pub use validate::validate;
pub use value::{Image, Kind, Mask, Opaque, Samples, Shape, Value};
