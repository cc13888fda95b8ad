//! How a node class becomes a running node.
//!
//! [`NodeClass::build`] runs once per graph: it sees all constants and the sizes of all pictures,
//! refuses what cannot work, and answers with a [`Built`]. [`Node::run`] runs once per frame and
//! finds nothing left to decide.

use std::sync::Arc;

use super::pool::Pool;
use super::spec::NodeSpec;
use super::value::{Image, Mask, Shape, Value};
use crate::frame::Size;
use crate::time::Pts;

/// A kind of node.
pub trait NodeClass: Send + Sync {
    /// What the class takes and gives; asked once, when it is registered.
    fn spec(&self) -> NodeSpec;

    /// Makes a node for these constants and sizes. Slow work (loading a model) belongs here: the
    /// running graph goes on meanwhile.
    ///
    /// # Errors
    /// A [`BuildError`] names the input at fault; the graph is refused.
    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError>;

    /// Whether two nodes of equal inputs may be one. False for nodes that remember frames in a
    /// way that depends on more than their inputs.
    fn shareable(&self) -> bool {
        true
    }
}

/// A node at work. It may keep state from frame to frame and is driven by one thread at a time.
pub trait Node: Send {
    /// Makes this frame's outputs, in the order and of the shapes that were promised.
    ///
    /// # Errors
    /// The frame goes on unprocessed and is counted.
    fn run(
        &mut self,
        context: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError>;
}

/// What a node may know of the frame besides its inputs.
#[derive(Debug)]
pub struct Context<'a> {
    /// The frame's name and time.
    pub pts: Pts,
    /// The node's id in the prompt.
    pub node: &'a str,
    /// Where planes come from and go back to.
    pub pool: &'a mut Pool,
    /// What is said about the frame beside its picture.
    pub results: &'a mut Results,
}

/// What the nodes of a graph say about one frame: a document each, under the node's id.
#[derive(Debug, Default)]
pub struct Results(serde_json::Map<String, serde_json::Value>);

impl Results {
    /// Says something under this node's id: the document that `text` is, or else the text itself.
    pub fn say(&mut self, node: &str, text: &str) {
        let document = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        self.0.insert(node.to_owned(), document);
    }

    /// All that was said since this was asked last, as one document; `None` for nothing.
    pub(super) fn take(&mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        Some(serde_json::Value::Object(std::mem::take(&mut self.0)).to_string())
    }

    /// Forgets a frame that failed.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Why a node could not do its work on this frame.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct NodeError {
    /// The cause.
    pub reason: String,
}

impl NodeError {
    /// An error of this cause.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Why a node cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{}{reason}", .input.as_deref().map(|input| format!("{input}: ")).unwrap_or_default())]
pub struct BuildError {
    /// The input at fault, when it is one.
    pub input: Option<String>,
    /// The cause.
    pub reason: String,
}

impl BuildError {
    /// An error that no single input causes.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { input: None, reason: reason.into() }
    }

    /// An error that this input causes.
    pub fn input(input: &str, reason: impl Into<String>) -> Self {
        Self { input: Some(input.into()), reason: reason.into() }
    }
}

/// An input as it is known before the first frame.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// The same for all frames.
    Value(Value),
    /// Made anew for each frame and kept in this slot.
    Live { shape: Shape, slot: usize },
}

impl Known {
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Value(value) => Shape::of(value),
            Self::Live { shape, .. } => shape.clone(),
        }
    }
}

/// The inputs of a node that is being built, by name.
///
/// The typed getters answer for inputs that validation has found to be of that type, so an error
/// means: left out although needed, or not known before the frames come.
#[derive(Debug)]
pub struct Bound<'a> {
    pub(super) spec: &'a NodeSpec,
    pub(super) inputs: &'a [Option<Known>],
    pub(super) frame: Size,
}

impl Bound<'_> {
    /// The size of the frames that the graph takes.
    pub const fn frame_size(&self) -> Size {
        self.frame
    }

    /// Whether the prompt gives this input.
    pub fn has(&self, name: &str) -> bool {
        self.known(name).is_ok()
    }

    /// The place of the input in [`Inputs`].
    ///
    /// # Errors
    /// When the class has no such input.
    pub fn index(&self, name: &str) -> Result<usize, BuildError> {
        self.spec.input_index(name).ok_or_else(|| BuildError::input(name, "no such input"))
    }

    /// The shape of an input.
    ///
    /// # Errors
    /// When it is not given.
    pub fn shape(&self, name: &str) -> Result<Shape, BuildError> {
        Ok(self.known(name)?.shape())
    }

    /// The size of a picture or mask.
    ///
    /// # Errors
    /// When it is not given or is neither.
    pub fn size(&self, name: &str) -> Result<Size, BuildError> {
        self.shape(name)?.size().ok_or_else(|| BuildError::input(name, "has no size"))
    }

    /// The value of an input that is the same for all frames.
    ///
    /// # Errors
    /// When it is not given or is made per frame.
    pub fn value(&self, name: &str) -> Result<&Value, BuildError> {
        match self.known(name)? {
            Known::Value(value) => Ok(value),
            Known::Live { .. } => {
                Err(BuildError::input(name, "must not change from frame to frame"))
            }
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn int(&self, name: &str) -> Result<i64, BuildError> {
        match self.value(name)? {
            Value::Int(value) => Ok(*value),
            _ => Err(BuildError::input(name, "is not an INT")),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn float(&self, name: &str) -> Result<f64, BuildError> {
        match self.value(name)? {
            Value::Float(value) => Ok(*value),
            Value::Int(value) => Ok(*value as f64),
            _ => Err(BuildError::input(name, "is not a FLOAT")),
        }
    }

    /// Text, or the chosen option of a list.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn text(&self, name: &str) -> Result<Arc<str>, BuildError> {
        match self.value(name)? {
            Value::Text(value) => Ok(value.clone()),
            _ => Err(BuildError::input(name, "is not a STRING")),
        }
    }

    /// Yes or no.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn bool(&self, name: &str) -> Result<bool, BuildError> {
        match self.value(name)? {
            Value::Bool(value) => Ok(*value),
            _ => Err(BuildError::input(name, "is not a BOOLEAN")),
        }
    }

    fn known(&self, name: &str) -> Result<&Known, BuildError> {
        let known = self.inputs.get(self.index(name)?).and_then(Option::as_ref);
        known.ok_or_else(|| BuildError::input(name, "is not given"))
    }
}

/// What a class makes of its inputs.
pub struct Built(pub(super) Form);

pub(super) enum Form {
    /// Work; per frame when an input is, or always.
    Node { node: Box<dyn Node>, outputs: Vec<Shape>, every_frame: bool },
    /// The only output is this input.
    Same(usize),
    /// Nothing is left to do.
    Values(Vec<Value>),
    /// The only output is the frame's picture.
    Picture,
    /// This input is the graph's result.
    Result(usize),
}

impl Built {
    /// A node with outputs of these shapes. When all its inputs are constant it runs once, when
    /// the graph is compiled.
    pub fn node(node: impl Node + 'static, outputs: impl Into<Vec<Shape>>) -> Self {
        Self(Form::Node { node: Box::new(node), outputs: outputs.into(), every_frame: false })
    }

    /// The same, run for each frame even when all its inputs are constant.
    #[must_use]
    pub fn every_frame(mut self) -> Self {
        if let Form::Node { every_frame, .. } = &mut self.0 {
            *every_frame = true;
        }
        self
    }

    /// The one output is the input of this place, unchanged; nothing runs.
    pub const fn same(input: usize) -> Self {
        Self(Form::Same(input))
    }

    /// Outputs that are known already.
    pub fn values(values: impl Into<Vec<Value>>) -> Self {
        Self(Form::Values(values.into()))
    }

    /// The one output is the picture of the frame.
    pub(crate) const fn picture() -> Self {
        Self(Form::Picture)
    }

    /// The input of this place is what the graph gives out.
    pub(crate) const fn result(input: usize) -> Self {
        Self(Form::Result(input))
    }
}

/// This frame's inputs, by their place in [`NodeSpec::inputs`]; `None` where nothing is given.
#[derive(Debug)]
pub struct Inputs<'a>(pub(super) &'a mut [Option<Value>]);

impl Inputs<'_> {
    /// Any input.
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index)?.as_ref()
    }

    /// A picture to look at.
    ///
    /// # Errors
    /// When the input is not a picture.
    pub fn image(&self, index: usize) -> Result<&Image, NodeError> {
        match self.get(index) {
            Some(Value::Image(image)) => Ok(image),
            _ => Err(NodeError::new(format!("input {index} is not an IMAGE"))),
        }
    }

    /// A picture to keep or change. After the last reader its planes can be edited in place
    /// ([`Pool::edit`]).
    ///
    /// # Errors
    /// When the input is not a picture.
    pub fn take_image(&mut self, index: usize) -> Result<Image, NodeError> {
        match self.0.get_mut(index).and_then(Option::take) {
            Some(Value::Image(image)) => Ok(image),
            _ => Err(NodeError::new(format!("input {index} is not an IMAGE"))),
        }
    }

    /// A mask to look at.
    ///
    /// # Errors
    /// When the input is not a mask.
    pub fn mask(&self, index: usize) -> Result<&Mask, NodeError> {
        match self.get(index) {
            Some(Value::Mask(mask)) => Ok(mask),
            _ => Err(NodeError::new(format!("input {index} is not a MASK"))),
        }
    }

    /// A mask to keep or change.
    ///
    /// # Errors
    /// When the input is not a mask.
    pub fn take_mask(&mut self, index: usize) -> Result<Mask, NodeError> {
        match self.0.get_mut(index).and_then(Option::take) {
            Some(Value::Mask(mask)) => Ok(mask),
            _ => Err(NodeError::new(format!("input {index} is not a MASK"))),
        }
    }
}
