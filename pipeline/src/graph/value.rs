//! What travels along the links of a graph.
//!
//! A picture is three planes of `f32` samples, red, green and blue, nominally 0 to 1, rows from the
//! top without gaps: the layout that plain loops vectorise over and that networks take as NCHW.
//! ComfyUI's tensors are the same numbers with the channel last and a batch of one. Planes are
//! counted references, so a copy is free, and a grey picture is one plane three times.
//!
//! Pictures in device memory will be another variant of [`Value`] with links typed `IMAGE` like
//! these; [`super::compile`] will then put a transfer where a device node meets a host node, so no
//! node sees a kind of memory that it did not ask for.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::frame::Size;

/// The samples of one channel, row by row.
pub type Samples = Arc<Vec<f32>>;

/// An `IMAGE`: one colour picture in host memory.
#[derive(Clone, PartialEq)]
pub struct Image {
    size: Size,
    planes: [Samples; 3],
}

impl Image {
    /// A picture of red, green and blue, or `None` when a plane has not `size.pixels()` samples.
    pub fn new(size: Size, planes: [Samples; 3]) -> Option<Self> {
        let right = planes.iter().all(|plane| plane.len() as u64 == size.pixels());
        right.then_some(Self { size, planes })
    }

    /// A picture whose three channels are one plane, or `None` when its length does not fit.
    pub fn grey(size: Size, plane: Samples) -> Option<Self> {
        Self::new(size, [plane.clone(), plane.clone(), plane])
    }

    /// Width and height.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// The samples of channel 0 (red), 1 (green) or 2 (blue).
    ///
    /// # Panics
    /// When `channel` is above 2.
    pub fn plane(&self, channel: usize) -> &[f32] {
        &self.planes[channel]
    }

    /// Whether the three channels are known to be one plane.
    pub fn is_grey(&self) -> bool {
        Arc::ptr_eq(&self.planes[0], &self.planes[1])
            && Arc::ptr_eq(&self.planes[0], &self.planes[2])
    }

    /// The planes themselves, to be edited through [`super::Pool::own`].
    pub fn into_planes(self) -> [Samples; 3] {
        self.planes
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({})", self.size)
    }
}

/// A `MASK`: one plane, nominally 0 to 1.
#[derive(Clone, PartialEq)]
pub struct Mask {
    size: Size,
    plane: Samples,
}

impl Mask {
    /// A mask, or `None` when the plane has not `size.pixels()` samples.
    pub fn new(size: Size, plane: Samples) -> Option<Self> {
        (plane.len() as u64 == size.pixels()).then_some(Self { size, plane })
    }

    /// Width and height.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// The samples.
    pub fn plane(&self) -> &[f32] {
        &self.plane
    }

    /// The plane itself, to be edited through [`super::Pool::own`].
    pub fn into_plane(self) -> Samples {
        self.plane
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({})", self.size)
    }
}

/// A value that only the nodes of one family understand: a loaded model, a tokenizer.
#[derive(Clone)]
pub struct Opaque {
    /// The type's name on links, upper case as ComfyUI has it (`MODEL`, `UPSCALE_MODEL`).
    pub kind: Arc<str>,
    /// The thing itself.
    pub value: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)
    }
}

/// What a node takes or gives. Cloning shares the samples.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Value {
    /// `IMAGE`.
    Image(Image),
    /// `MASK`.
    Mask(Mask),
    /// `INT`.
    Int(i64),
    /// `FLOAT`.
    Float(f64),
    /// `STRING`, and the chosen option of a list.
    Text(Arc<str>),
    /// `BOOLEAN`.
    Bool(bool),
    /// Anything else.
    Opaque(Opaque),
}

/// The type of a link, as ComfyUI names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `IMAGE`.
    Image,
    /// `MASK`.
    Mask,
    /// `INT`.
    Int,
    /// `FLOAT`.
    Float,
    /// `STRING`.
    Text,
    /// `BOOLEAN`.
    Bool,
    /// `*`: takes or gives every type.
    Any,
    /// Another type by its name.
    Opaque(Arc<str>),
}

impl Kind {
    /// The kind that ComfyUI calls `name`.
    pub fn from_name(name: &str) -> Self {
        match name {
            "IMAGE" => Self::Image,
            "MASK" => Self::Mask,
            "INT" => Self::Int,
            "FLOAT" => Self::Float,
            "STRING" => Self::Text,
            "BOOLEAN" => Self::Bool,
            "*" => Self::Any,
            other => Self::Opaque(other.into()),
        }
    }

    /// ComfyUI's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Image => "IMAGE",
            Self::Mask => "MASK",
            Self::Int => "INT",
            Self::Float => "FLOAT",
            Self::Text => "STRING",
            Self::Bool => "BOOLEAN",
            Self::Any => "*",
            Self::Opaque(name) => name,
        }
    }

    /// Whether an output of this kind may feed an input of kind `input`.
    pub fn feeds(&self, input: &Kind) -> bool {
        self == input || *self == Kind::Any || *input == Kind::Any
    }
}

/// What is known of a value before the first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A picture of this size.
    Image(Size),
    /// A mask of this size.
    Mask(Size),
    /// A value without a size.
    Plain(Kind),
}

impl Shape {
    /// The shape of `value`.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Image(image) => Self::Image(image.size()),
            Value::Mask(mask) => Self::Mask(mask.size()),
            Value::Int(_) => Self::Plain(Kind::Int),
            Value::Float(_) => Self::Plain(Kind::Float),
            Value::Text(_) => Self::Plain(Kind::Text),
            Value::Bool(_) => Self::Plain(Kind::Bool),
            Value::Opaque(opaque) => Self::Plain(Kind::Opaque(opaque.kind.clone())),
        }
    }

    /// The type of links that carry it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Image(_) => Kind::Image,
            Self::Mask(_) => Kind::Mask,
            Self::Plain(kind) => kind.clone(),
        }
    }

    /// The size, for pictures and masks.
    pub const fn size(&self) -> Option<Size> {
        match self {
            Self::Image(size) | Self::Mask(size) => Some(*size),
            Self::Plain(_) => None,
        }
    }

    /// How many planes of `size` samples a value of this shape has at most.
    pub(super) const fn planes(&self) -> u64 {
        match self {
            Self::Image(_) => 3,
            Self::Mask(_) => 1,
            Self::Plain(_) => 0,
        }
    }
}
