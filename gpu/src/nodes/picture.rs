//! A graph's picture into a model's tensor and back.
//!
//! A model of three channels gets the planes as they are. A model of luma gets `0.299 R + 0.587 G +
//! 0.114 B` (BT.601, as JPEG has it; any weights would do, since the same lead back); how far red
//! and blue lie from luma is enlarged by cubic convolution beside it. Pictures that do not fill the
//! tensor are continued by their last row and column. Results are held within 0 and 1.

use pipeline::Size;
use pipeline::graph::{Image, NodeError, PlaneBuf, Pool};

use super::cubic::Cubic;
use crate::onnx::{Channels, Session};

const RED: f32 = 0.299;
const GREEN: f32 = 0.587;
const BLUE: f32 = 0.114;

/// Runs pictures through a session.
#[derive(Debug)]
pub(super) struct Pictures {
    session: Session,
    size: Size,
    tint: Option<Tint>,
}

/// What luma does not hold, for luma models.
#[derive(Debug)]
struct Tint {
    /// For the two planes.
    cubic: [Cubic; 2],
    /// Red less luma and blue less luma, of the small picture.
    small: [Vec<f32>; 2],
    /// The same in one row of the large picture.
    rows: [Vec<f32>; 2],
}

impl Pictures {
    /// For pictures of `size`, for which the session was opened.
    pub(super) fn new(session: Session, size: Size) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        let tint = (session.signature().channels == Channels::Luma).then(|| {
            let factor = session.scale() as usize;
            let small = || vec![0.0; width * height];
            let row = || vec![0.0; width * factor];
            Tint {
                cubic: [(); 2].map(|()| Cubic::new(width, height, factor)),
                small: [small(), small()],
                rows: [row(), row()],
            }
        });
        Self { session, size, tint }
    }

    /// The size of the results.
    pub(super) fn output(&self) -> Size {
        self.session.loaded().output
    }

    /// One picture, enlarged.
    pub(super) fn run(&mut self, image: &Image, pool: &mut Pool) -> Result<Image, NodeError> {
        let failed = |error: crate::onnx::Error| NodeError::new(error.to_string());
        let (padded, scale) = (self.session.padded(), self.session.scale());
        let (width, wide) = (self.size.width as usize, padded.width as usize);
        let area = padded.pixels() as usize;
        let input = self.session.input();
        match &mut self.tint {
            Some(tint) if !image.is_grey() => {
                tint.take(image, width, input, wide);
            }
            Some(_) => copy(image.plane(0), width, &mut input[..area], wide),
            None => {
                for (channel, plane) in input.chunks_exact_mut(area).enumerate() {
                    copy(image.plane(channel), width, plane, wide);
                }
            }
        }
        for plane in input.chunks_exact_mut(area) {
            fill_up(plane, self.size, padded);
        }

        let size = self.output();
        let wide_out = wide * scale as usize;
        let area_out = area * (scale * scale) as usize;
        let output = self.session.run().map_err(failed)?;
        let length = size.pixels() as usize;
        let image = match &mut self.tint {
            Some(tint) if !image.is_grey() => {
                let mut planes = [pool.plane(length), pool.plane(length), pool.plane(length)];
                tint.give(output, wide_out, &mut planes, size);
                Image::new(size, planes.map(PlaneBuf::freeze))
            }
            Some(_) => {
                let mut plane = pool.plane(length);
                cut(output, wide_out, &mut plane, size);
                Image::grey(size, plane.freeze())
            }
            None => {
                let mut channels = output.chunks_exact(area_out);
                let planes = [(); 3].map(|()| {
                    let mut plane = pool.plane(length);
                    cut(channels.next().unwrap_or_default(), wide_out, &mut plane, size);
                    plane.freeze()
                });
                Image::new(size, planes)
            }
        };
        image.ok_or_else(|| NodeError::new("the model's result has another size"))
    }
}

impl Tint {
    /// Luma into rows that begin `stride` apart, the rest into `self`.
    fn take(&mut self, image: &Image, width: usize, luma: &mut [f32], stride: usize) {
        let [reds, greens, blues] =
            [0, 1, 2].map(|channel| image.plane(channel).chunks_exact(width));
        let [red_tints, blue_tints] = self.small.each_mut().map(|p| p.chunks_exact_mut(width));
        let rows = luma.chunks_exact_mut(stride).zip(reds).zip(greens).zip(blues);
        for ((row, red_tint), blue_tint) in rows.zip(red_tints).zip(blue_tints) {
            let (((luma, red), green), blue) = row;
            let luma = &mut luma[..width];
            for x in 0..width {
                let brightness = RED * red[x] + GREEN * green[x] + BLUE * blue[x];
                luma[x] = brightness;
                red_tint[x] = red[x] - brightness;
                blue_tint[x] = blue[x] - brightness;
            }
        }
    }

    /// Luma of the large picture, in rows of `stride`, and the enlarged rest into three planes.
    fn give(&mut self, luma: &[f32], stride: usize, planes: &mut [PlaneBuf; 3], size: Size) {
        let width = size.width as usize;
        let [reds, greens, blues] = planes.each_mut().map(|plane| plane.chunks_exact_mut(width));
        let rows = luma.chunks_exact(stride).zip(reds).zip(greens).zip(blues).enumerate();
        for (y, (((luma, red), green), blue)) in rows {
            let [red_tint, blue_tint] = &mut self.rows;
            self.cubic[0].row(&self.small[0], y, red_tint);
            self.cubic[1].row(&self.small[1], y, blue_tint);
            let (luma, red_tint, blue_tint) =
                (&luma[..width], &red_tint[..width], &blue_tint[..width]);
            for x in 0..width {
                let (to_red, to_blue) = (red_tint[x], blue_tint[x]);
                let to_green = to_red * (-RED / GREEN) + to_blue * (-BLUE / GREEN);
                red[x] = held(luma[x] + to_red);
                green[x] = held(luma[x] + to_green);
                blue[x] = held(luma[x] + to_blue);
            }
        }
    }
}

/// Within 0 and 1; what is no number becomes 0.
fn held(sample: f32) -> f32 {
    if sample > 0.0 { sample.min(1.0) } else { 0.0 }
}

/// Rows of `width` into rows that begin `stride` apart.
fn copy(from: &[f32], width: usize, to: &mut [f32], stride: usize) {
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(stride)) {
        to[..width].copy_from_slice(from);
    }
}

/// Continues a picture of `size` to the end of a plane of `padded`.
fn fill_up(plane: &mut [f32], size: Size, padded: Size) {
    let (width, wide) = (size.width as usize, padded.width as usize);
    let height = size.height as usize;
    if wide > width {
        for row in plane.chunks_exact_mut(wide).take(height) {
            let last = row[width - 1];
            row[width..].fill(last);
        }
    }
    for y in height..padded.height as usize {
        plane.copy_within((height - 1) * wide..height * wide, y * wide);
    }
}

/// The part of `size` of a plane whose rows begin `stride` apart.
fn cut(from: &[f32], stride: usize, to: &mut [f32], size: Size) {
    let width = size.width as usize;
    for (from, to) in from.chunks_exact(stride).zip(to.chunks_exact_mut(width)) {
        for (from, to) in from.iter().zip(to) {
            *to = held(*from);
        }
    }
}
