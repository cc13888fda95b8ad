//! Pictures between GStreamer's buffers and the pipeline's frames, without copying samples.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use gstreamer as gst;
use gstreamer_video as gst_video;
use pipeline::frame::{Color, HostMemory, HostPlanes, Matrix, Plane, Surface};
use pipeline::stage::StageError;
use pipeline::{Frame, Pts, Size};

use crate::chain::Output;
use pipeline::frame::PixelFormat;

/// A decoder's own picture, mapped for reading as long as a frame refers to it.
struct Mapped(gst::MappedBuffer<gst::buffer::Readable>);

impl HostMemory for Mapped {
    fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Somebody else's planes as memory of a buffer.
struct Lent(Arc<dyn HostMemory>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Samples in a row and rows of a plane, by format.
fn extent(format: PixelFormat, size: Size, plane: usize) -> Option<(usize, usize)> {
    let (width, height) = (size.width as usize, size.height as usize);
    match (format, plane) {
        (PixelFormat::I420 | PixelFormat::Nv12, 0) => Some((width, height)),
        (PixelFormat::I420, 1 | 2) => Some((width.div_ceil(2), height.div_ceil(2))),
        (PixelFormat::Nv12, 1) => Some((width.div_ceil(2) * 2, height.div_ceil(2))),
        _ => None,
    }
}

/// The pipeline's name for a format, for the two that it takes as they are.
pub(crate) fn plain_format(info: &gst_video::VideoInfo) -> Option<PixelFormat> {
    match info.format() {
        gst_video::VideoFormat::I420 => Some(PixelFormat::I420),
        gst_video::VideoFormat::Nv12 => Some(PixelFormat::Nv12),
        _ => None,
    }
}

/// Whether the picture's odd and even rows were taken at two moments.
fn has_fields(buffer: &gst::BufferRef, info: &gst_video::VideoInfo) -> bool {
    match info.interlace_mode() {
        gst_video::VideoInterlaceMode::Progressive => false,
        gst_video::VideoInterlaceMode::Mixed => {
            buffer.flags().bits() & gst_video::VideoBufferFlags::INTERLACED.bits() != 0
        }
        _ => true,
    }
}

/// The planes with every odd row put between its neighbours, in memory of its own. Half of the
/// picture's detail for no combs and no wait: elements for this hold a picture back.
fn even_rows(planes: &HostPlanes, count: usize) -> Option<HostPlanes> {
    let mut bytes = Vec::new();
    let mut places = Vec::with_capacity(count);
    for index in 0..count {
        let plane = planes.plane(index);
        places.push(Plane { offset: bytes.len(), stride: plane.row_bytes, ..plane });
        for row in 0..plane.rows {
            let above = planes.row(index, row & !1);
            if row % 2 == 0 || row + 1 == plane.rows {
                bytes.extend_from_slice(above);
            } else {
                let mean = |(a, b): (&u8, &u8)| u8::midpoint(*a, *b);
                bytes.extend(above.iter().zip(planes.row(index, row + 1)).map(mean));
            }
        }
    }
    HostPlanes::new(Arc::new(bytes), places)
}

/// What the stream says about colour; what it does not say follows [`Color::unsignalled`].
fn color(info: &gst_video::VideoInfo, size: Size) -> Color {
    let signalled = info.colorimetry();
    let matrix = match signalled.matrix() {
        gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
        gst_video::VideoColorMatrix::Bt601
        | gst_video::VideoColorMatrix::Fcc
        | gst_video::VideoColorMatrix::Smpte240m => Matrix::Bt601,
        _ => Color::unsignalled(size).matrix,
    };
    Color { matrix, full_range: signalled.range() == gst_video::VideoColorRange::Range0_255 }
}

/// A frame that refers to an element's buffer.
pub(crate) fn frame(
    stage: &'static str,
    output: Output,
    info: &gst_video::VideoInfo,
    pts: Pts,
    arrived: Instant,
) -> Result<Frame, StageError> {
    let size = Size::new(info.width(), info.height());
    let format = plain_format(info).filter(|_| size.is_valid());
    let format =
        format.ok_or_else(|| StageError::Unsupported { stage, what: output.caps.to_string() })?;
    let failed = |reason: &str| StageError::Failed { stage, reason: reason.to_owned() };
    let places: Vec<(usize, i32)> = match output.buffer.meta::<gst_video::VideoMeta>() {
        Some(meta) => meta.offset().iter().copied().zip(meta.stride().iter().copied()).collect(),
        None => info.offset().iter().copied().zip(info.stride().iter().copied()).collect(),
    };
    let mut planes = Vec::with_capacity(3);
    for (index, (offset, stride)) in places.into_iter().enumerate() {
        let Some((row_bytes, rows)) = extent(format, size, index) else { break };
        let stride = usize::try_from(stride).map_err(|_| failed("a plane upside down"))?;
        planes.push(Plane { offset, stride, row_bytes, rows });
    }
    let fields = has_fields(&output.buffer, info);
    let count = planes.len();
    let mapped = output
        .buffer
        .into_mapped_buffer_readable()
        .map_err(|_| failed("a picture that cannot be mapped"))?;
    let planes = HostPlanes::new(Arc::new(Mapped(mapped)), planes)
        .and_then(|planes| if fields { even_rows(&planes, count) } else { Some(planes) })
        .ok_or_else(|| failed("planes beyond their buffer"))?;
    let color = color(info, size);
    Ok(Frame { pts, size, format, color, surface: Surface::Host(planes), arrived })
}

/// A buffer that refers to a frame's samples, of `size` or smaller, for `stage`. One of our own
/// decoder's pictures comes back as the buffer that it was.
pub(crate) fn buffer(
    stage: &'static str,
    frame: &Frame,
    size: Size,
) -> Result<gst::Buffer, StageError> {
    let failed = |reason: &str| StageError::Failed { stage, reason: reason.to_owned() };
    let planes = match &frame.surface {
        Surface::Host(planes) => planes.clone(),
        Surface::Device(surface) => {
            surface.download().ok_or_else(|| failed("the device gave no picture"))?
        }
    };
    let (format, count) = match frame.format {
        PixelFormat::I420 => (gst_video::VideoFormat::I420, 3),
        PixelFormat::Nv12 => (gst_video::VideoFormat::Nv12, 2),
        other => {
            return Err(StageError::Unsupported { stage, what: format!("{other:?}") });
        }
    };
    let mut offsets = [0; 3];
    let mut strides = [0; 3];
    for index in 0..count {
        let plane = planes.plane(index);
        let (row_bytes, rows) = extent(frame.format, size, index).unwrap_or_default();
        if plane.row_bytes < row_bytes || plane.rows < rows {
            return Err(failed("a plane smaller than its picture"));
        }
        offsets[index] = plane.offset;
        strides[index] = i32::try_from(plane.stride).map_err(|_| failed("a row too long"))?;
    }
    let memory = planes.memory();
    let mut buffer = match memory.as_any().downcast_ref::<Mapped>() {
        Some(mapped) => {
            let mut buffer = gst::Buffer::new();
            if let Some(target) = buffer.get_mut() {
                mapped
                    .0
                    .buffer()
                    .copy_into(target, gst::BufferCopyFlags::MEMORY, ..)
                    .map_err(|error| failed(&error.to_string()))?;
            }
            buffer
        }
        None => gst::Buffer::from_slice(Lent(memory.clone())),
    };
    let target = buffer.get_mut().ok_or_else(|| failed("a shared buffer"))?;
    gst_video::VideoMeta::add_full(
        target,
        gst_video::VideoFrameFlags::empty(),
        format,
        size.width,
        size.height,
        &offsets[..count],
        &strides[..count],
    )
    .map_err(|error| failed(&error.to_string()))?;
    Ok(buffer)
}

/// What x264 writes into the stream about colour.
pub(crate) fn colorimetry(color: Color) -> gst_video::VideoColorimetry {
    let range = if color.full_range {
        gst_video::VideoColorRange::Range0_255
    } else {
        gst_video::VideoColorRange::Range16_235
    };
    let (matrix, transfer, primaries) = match color.matrix {
        Matrix::Bt601 => (
            gst_video::VideoColorMatrix::Bt601,
            gst_video::VideoTransferFunction::Bt601,
            gst_video::VideoColorPrimaries::Smpte170m,
        ),
        Matrix::Bt709 => (
            gst_video::VideoColorMatrix::Bt709,
            gst_video::VideoTransferFunction::Bt709,
            gst_video::VideoColorPrimaries::Bt709,
        ),
    };
    gst_video::VideoColorimetry::new(range, matrix, transfer, primaries)
}
