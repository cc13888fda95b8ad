//! Raw pictures and sound between decoder, graph and encoder.
//!
//! A frame is a time, a size, a format, a colour description and a surface. The surface says where
//! the samples live; device surfaces can be opened by their maker only, host planes by anybody.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::time::Pts;

/// Width and height of a picture in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// The largest side that any part accepts, in pixels.
    pub const SIDE_MAX: u32 = 8192;

    /// A size of `width` by `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Pixels in the picture.
    pub const fn pixels(self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// Whether both sides are within 1 and [`Self::SIDE_MAX`].
    pub const fn is_valid(self) -> bool {
        self.width > 0
            && self.height > 0
            && self.width <= Self::SIDE_MAX
            && self.height <= Self::SIDE_MAX
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How samples are laid out in the planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Three planes of 8 bit: Y, U, V; U and V have `(side + 1) / 2` samples each way.
    I420,
    /// Two planes of 8 bit: Y, then U and V interleaved at half resolution.
    Nv12,
}

/// The matrix that turns RGB into YCbCr (ITU-T H.273 `MatrixCoefficients`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// ITU-R BT.601.
    Bt601,
    /// ITU-R BT.709.
    Bt709,
}

/// How sample values map to colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    /// The matrix.
    pub matrix: Matrix,
    /// True when 0..=255 are used, false when 16..=235 (luma) and 16..=240 (chroma).
    pub full_range: bool,
}

impl Color {
    /// What an unsignalled picture of this size is: 601 up to 576 rows, 709 above, limited range.
    pub const fn unsignalled(size: Size) -> Self {
        let matrix = if size.height <= 576 { Matrix::Bt601 } else { Matrix::Bt709 };
        Self { matrix, full_range: false }
    }
}

/// Where one plane lies in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Bytes from the start of the buffer to the first sample.
    pub offset: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of samples in a row.
    pub row_bytes: usize,
    /// Rows.
    pub rows: usize,
}

/// A block of host memory owned by whoever made the picture: a vector, or a decoder's mapped buffer.
pub trait HostMemory: Send + Sync + 'static {
    /// All bytes of the block.
    fn bytes(&self) -> &[u8];
    /// For the maker, to find its own buffer again and hand it on without a copy.
    fn as_any(&self) -> &dyn Any;
}

impl HostMemory for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Planes in host memory. Cloning shares the memory.
#[derive(Clone)]
pub struct HostPlanes {
    memory: Arc<dyn HostMemory>,
    planes: Vec<Plane>,
}

impl HostPlanes {
    /// Planes in `memory`, or `None` when one of them reaches beyond it.
    pub fn new(memory: Arc<dyn HostMemory>, planes: Vec<Plane>) -> Option<Self> {
        let length = memory.bytes().len();
        let inside = |plane: &Plane| {
            plane.rows > 0
                && plane.row_bytes <= plane.stride
                && (plane.rows - 1)
                    .checked_mul(plane.stride)
                    .and_then(|n| n.checked_add(plane.row_bytes))
                    .and_then(|n| n.checked_add(plane.offset))
                    .is_some_and(|end| end <= length)
        };
        planes.iter().all(inside).then_some(Self { memory, planes })
    }

    /// The places of all planes.
    pub fn planes(&self) -> &[Plane] {
        &self.planes
    }

    /// A plane's place.
    ///
    /// # Panics
    /// When the format has no plane of that number.
    pub fn plane(&self, index: usize) -> Plane {
        self.planes[index]
    }

    /// One row of samples of a plane, `row_bytes` long.
    ///
    /// # Panics
    /// When plane or row do not exist.
    pub fn row(&self, index: usize, row: usize) -> &[u8] {
        let plane = self.planes[index];
        assert!(row < plane.rows, "row {row} of a plane of {} rows", plane.rows);
        let start = plane.offset + row * plane.stride;
        &self.memory.bytes()[start..start + plane.row_bytes]
    }

    /// The memory, for its maker.
    pub fn memory(&self) -> &Arc<dyn HostMemory> {
        &self.memory
    }
}

impl fmt::Debug for HostPlanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostPlanes").field("planes", &self.planes).finish_non_exhaustive()
    }
}

/// A picture in device memory. Only its maker can open it; anybody can bring it to host memory.
pub trait DeviceSurface: Send + Sync + 'static {
    /// A copy in host memory, in the frame's own format, or `None` when the device has failed.
    fn download(&self) -> Option<HostPlanes>;
    /// For the maker.
    fn as_any(&self) -> &dyn Any;
}

/// Where the samples of a frame live.
#[derive(Clone)]
pub enum Surface {
    /// In host memory.
    Host(HostPlanes),
    /// In device memory.
    Device(Arc<dyn DeviceSurface>),
}

impl fmt::Debug for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(planes) => planes.fmt(f),
            Self::Device(_) => f.write_str("DeviceSurface"),
        }
    }
}

/// One raw picture. Cloning shares the samples.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The name of the frame.
    pub pts: Pts,
    /// Cropped size in pixels.
    pub size: Size,
    /// Sample layout.
    pub format: PixelFormat,
    /// What the samples mean.
    pub color: Color,
    /// The samples.
    pub surface: Surface,
    /// When the last byte of the coded picture entered this process, for latency figures only.
    pub arrived: Instant,
}

/// Interleaved signed 16-bit sound of one coded audio frame.
#[derive(Clone, Debug)]
pub struct Sound {
    /// The time of the first sample.
    pub pts: Pts,
    /// Samples in a second per channel.
    pub sample_rate: u32,
    /// Channels, interleaved.
    pub channels: u8,
    /// `channels` values for each moment.
    pub samples: Vec<i16>,
}
