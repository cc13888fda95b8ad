//! Between the 8-bit planes of video and the float planes that graphs work on.
//!
//! Values follow ITU-T H.273: with the luma weights of BT.601 or BT.709, Y' lies on 16 to 235 and
//! chroma on 16 to 240 in limited range, both on 0 to 255 in full range. The result is the same
//! gamma-coded R'G'B' that ComfyUI works on, not rounded to 8 bits, clamped to 0..1.
//!
//! Chroma is spread by repeating each sample over its two by two pixels and gathered by averaging
//! those four. The pair is exact: what no node touched comes back as it was, however often it goes
//! round, where a smoother filter would blur colour at every pass. Loops run along rows of plain
//! slices so that the compiler can vectorise them.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::frame::{
    Color, Frame, HostMemory, HostPlanes, Matrix, PixelFormat, Plane, Size, Surface,
};
use crate::graph::{Image, Pool};
use crate::time::Pts;

/// Most buffers kept for frames to come.
const SPARE_MAX: usize = 8;

/// The numbers of one [`Color`], for samples of 0..=255 and colours of 0..=1.
#[derive(Clone, Copy, Debug)]
struct Coefficients {
    kr: f32,
    kg: f32,
    kb: f32,
    luma_offset: f32,
    luma_range: f32,
    chroma_range: f32,
}

impl Coefficients {
    const fn new(color: Color) -> Self {
        // H.273 table 4: MatrixCoefficients 5 or 6, and 1.
        let (kr, kb) = match color.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (luma_offset, luma_range, chroma_range) =
            if color.full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        Self { kr, kg, kb, luma_offset, luma_range, chroma_range }
    }
}

/// Converts frames and keeps what it needs for that between frames.
#[derive(Debug, Default)]
pub struct Converter {
    /// What chroma adds to red, green and blue, for each pixel of a row.
    add: [Vec<f32>; 3],
    /// Two chroma rows taken apart.
    chroma: [Vec<u8>; 2],
    spare: Arc<Spare>,
}

impl Converter {
    /// A converter that keeps nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The picture of `host`, or `None` when its planes do not fit format and size.
    pub fn to_image(
        &mut self,
        host: &HostPlanes,
        size: Size,
        format: PixelFormat,
        color: Color,
        pool: &mut Pool,
    ) -> Option<Image> {
        let layout = Layout::new(size, format)?;
        let fits = |(have, want): (&Plane, &Plane)| {
            have.rows >= want.rows && have.row_bytes >= want.row_bytes
        };
        let planes = host.planes();
        if planes.len() < layout.planes.len() || !planes.iter().zip(&layout.planes).all(fits) {
            return None;
        }
        let (width, height) = (size.width as usize, size.height as usize);
        let half = width.div_ceil(2);
        let k = Coefficients::new(color);
        self.resize(width);
        let mut out = [0; 3].map(|_| pool.plane(width * height));
        for pair in 0..height.div_ceil(2) {
            let (u, v): (&[u8], &[u8]) = match format {
                PixelFormat::I420 => (&host.row(1, pair)[..half], &host.row(2, pair)[..half]),
                PixelFormat::Nv12 => {
                    let [u, v] = &mut self.chroma;
                    let row = host.row(1, pair)[..half * 2].chunks_exact(2);
                    for ((u, v), both) in u.iter_mut().zip(v.iter_mut()).zip(row) {
                        (*u, *v) = (both[0], both[1]);
                    }
                    (&self.chroma[0], &self.chroma[1])
                }
            };
            spread_chroma(u, v, k, &mut self.add);
            for row in pair * 2..(pair * 2 + 2).min(height) {
                let luma = &host.row(0, row)[..width];
                let at = row * width..(row + 1) * width;
                for (out, add) in out.iter_mut().zip(&self.add) {
                    add_luma(luma, &add[..width], k, &mut out[at.clone()]);
                }
            }
        }
        Image::new(size, out.map(|plane| plane.freeze()))
    }

    /// The planes of a frame that shows `image`, or `None` when it is too large for one.
    pub fn to_frame(
        &mut self,
        image: &Image,
        format: PixelFormat,
        color: Color,
    ) -> Option<HostPlanes> {
        let size = image.size();
        let layout = Layout::new(size, format)?;
        let (width, height) = (size.width as usize, size.height as usize);
        let half = width.div_ceil(2);
        let k = Coefficients::new(color);
        self.resize(width);
        let mut bytes = self.spare.take(layout.bytes);
        let (luma, chroma) = bytes.split_at_mut(width * height);
        for pair in 0..height.div_ceil(2) {
            let top = pair * 2;
            let bottom = (top + 1).min(height - 1);
            let rows = |y: usize| [0, 1, 2].map(|c| &image.plane(c)[y * width..(y + 1) * width]);
            for y in top..=bottom {
                luma_row(rows(y), k, &mut luma[y * width..(y + 1) * width]);
            }
            let [u, v] = &mut self.chroma;
            gather_chroma(rows(top), rows(bottom), k, &mut self.add, u, v);
            match format {
                PixelFormat::I420 => {
                    let (all_u, all_v) = chroma.split_at_mut(half * height.div_ceil(2));
                    all_u[pair * half..(pair + 1) * half].copy_from_slice(u);
                    all_v[pair * half..(pair + 1) * half].copy_from_slice(v);
                }
                PixelFormat::Nv12 => {
                    let row = chroma[pair * half * 2..(pair + 1) * half * 2].chunks_exact_mut(2);
                    for ((both, u), v) in row.zip(u).zip(v) {
                        (both[0], both[1]) = (*u, *v);
                    }
                }
            }
        }
        let memory = Lent { bytes, home: self.spare.clone() };
        HostPlanes::new(Arc::new(memory), layout.planes)
    }

    fn resize(&mut self, width: usize) {
        let half = width.div_ceil(2);
        for row in &mut self.add {
            row.resize(half * 2, 0.0);
        }
        for row in &mut self.chroma {
            row.resize(half, 0);
        }
    }
}

/// Fills `add` with what chroma adds to each pixel of two rows.
fn spread_chroma(u: &[u8], v: &[u8], k: Coefficients, add: &mut [Vec<f32>; 3]) {
    let scale = 1.0 / k.chroma_range;
    let red = 2.0 * (1.0 - k.kr) * scale;
    let blue = 2.0 * (1.0 - k.kb) * scale;
    let (green_u, green_v) = (-blue * k.kb / k.kg, -red * k.kr / k.kg);
    let [r, g, b] = add;
    let pixels = r.chunks_exact_mut(2).zip(g.chunks_exact_mut(2)).zip(b.chunks_exact_mut(2));
    for (((r, g), b), (u, v)) in pixels.zip(u.iter().zip(v)) {
        let (u, v) = (f32::from(*u) - 128.0, f32::from(*v) - 128.0);
        r.fill(v * red);
        g.fill(u * green_u + v * green_v);
        b.fill(u * blue);
    }
}

fn add_luma(luma: &[u8], add: &[f32], k: Coefficients, out: &mut [f32]) {
    let scale = 1.0 / k.luma_range;
    let offset = -k.luma_offset * scale;
    for ((out, y), add) in out.iter_mut().zip(luma).zip(add) {
        *out = (f32::from(*y) * scale + offset + add).clamp(0.0, 1.0);
    }
}

fn luma_row([r, g, b]: [&[f32]; 3], k: Coefficients, out: &mut [u8]) {
    let (kr, kg, kb) = (k.kr * k.luma_range, k.kg * k.luma_range, k.kb * k.luma_range);
    for (((out, r), g), b) in out.iter_mut().zip(r).zip(g).zip(b) {
        let unit = |sample: f32| sample.clamp(0.0, 1.0);
        *out = byte(unit(*r) * kr + unit(*g) * kg + unit(*b) * kb + k.luma_offset);
    }
}

/// Averages two rows two by two into a row of each chroma; `sum` is room for sums of a row.
fn gather_chroma(
    top: [&[f32]; 3],
    bottom: [&[f32]; 3],
    k: Coefficients,
    sum: &mut [Vec<f32>; 3],
    u: &mut [u8],
    v: &mut [u8],
) {
    let width = top[0].len();
    for ((sum, top), bottom) in sum.iter_mut().zip(top).zip(bottom) {
        for ((sum, top), bottom) in sum.iter_mut().zip(top).zip(bottom) {
            *sum = top.clamp(0.0, 1.0) + bottom.clamp(0.0, 1.0);
        }
        if width % 2 == 1 {
            sum[width] = sum[width - 1];
        }
    }
    // The mean of four pixels, on the chroma's range.
    let scale = k.chroma_range / 4.0;
    let (to_u, to_v) = (scale / (2.0 * (1.0 - k.kb)), scale / (2.0 * (1.0 - k.kr)));
    let [r, g, b] = sum;
    let pixels = r.chunks_exact(2).zip(g.chunks_exact(2)).zip(b.chunks_exact(2));
    for (((r, g), b), (u, v)) in pixels.zip(u.iter_mut().zip(v.iter_mut())) {
        let (r, g, b) = (r[0] + r[1], g[0] + g[1], b[0] + b[1]);
        let y = r * k.kr + g * k.kg + b * k.kb;
        *u = byte((b - y) * to_u + 128.0);
        *v = byte((r - y) * to_v + 128.0);
    }
}

/// The nearest whole number of 0..=255. Adding 2^23 leaves the rounded number in the low bits,
/// which vectorises where a saturating cast does not.
fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8
}

/// Planes packed without gaps.
struct Layout {
    planes: Vec<Plane>,
    bytes: usize,
}

impl Layout {
    fn new(size: Size, format: PixelFormat) -> Option<Self> {
        if !size.is_valid() {
            return None;
        }
        let (width, height) = (size.width as usize, size.height as usize);
        let (half, rows) = (width.div_ceil(2), height.div_ceil(2));
        let sides: &[(usize, usize)] = match format {
            PixelFormat::I420 => &[(width, height), (half, rows), (half, rows)],
            PixelFormat::Nv12 => &[(width, height), (half * 2, rows)],
        };
        let mut bytes = 0;
        let planes = sides.iter().map(|&(row_bytes, rows)| {
            let offset = bytes;
            bytes += row_bytes * rows;
            Plane { offset, stride: row_bytes, row_bytes, rows }
        });
        Some(Self { planes: planes.collect(), bytes })
    }
}

/// Buffers of frames that nobody reads any more.
#[derive(Debug, Default)]
struct Spare {
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Spare {
    fn take(&self, length: usize) -> Vec<u8> {
        let mut bytes = self.buffers.lock().pop().unwrap_or_default();
        bytes.resize(length, 0);
        bytes
    }
}

/// A frame's bytes, which go back when the last reader is done.
struct Lent {
    bytes: Vec<u8>,
    home: Arc<Spare>,
}

impl HostMemory for Lent {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffers = self.home.buffers.lock();
        if buffers.len() < SPARE_MAX {
            buffers.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A mid-grey I420 frame of limited BT.601, for warming up and for tests.
///
/// # Panics
/// When `size` is not valid.
pub fn grey_frame(size: Size) -> Frame {
    let layout = Layout::new(size, PixelFormat::I420);
    let layout = layout.unwrap_or_else(|| panic!("no frame of {size}"));
    let planes = HostPlanes::new(Arc::new(vec![128_u8; layout.bytes]), layout.planes);
    let planes = planes.unwrap_or_else(|| unreachable!("planes of this layout"));
    Frame {
        pts: Pts(0),
        size,
        format: PixelFormat::I420,
        color: Color { matrix: Matrix::Bt601, full_range: false },
        surface: Surface::Host(planes),
        arrived: Instant::now(),
    }
}

#[cfg(test)]
mod tests;
