//! Changing the size of a plane, with the arithmetic of `torch.nn.functional.interpolate`
//! (`align_corners` false, no antialiasing), which ComfyUI's scaling nodes use.
//!
//! Each axis becomes a table: for each output sample where its input samples begin and how much
//! each weighs. All methods are separable, so a plane is worked down its columns row by row, which
//! vectorises, and then along its rows. Positions are computed in `f32` as PyTorch does, so that
//! `nearest-exact` picks the same pixels.

use crate::frame::Size;

/// How samples between samples are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    NearestExact,
    Bilinear,
    Area,
    Bicubic,
}

/// The weights of one axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// For each output sample: the first weight in `taps`, and one past the last.
    spans: Vec<(u32, u32)>,
    /// Input sample and weight.
    taps: Vec<(u32, f32)>,
    identity: bool,
}

impl Axis {
    pub(super) fn new(method: Method, input: usize, output: usize) -> Self {
        let mut axis =
            Self { spans: Vec::with_capacity(output), taps: Vec::new(), identity: input == output };
        let scale = input as f32 / output as f32;
        let last = input as i64 - 1;
        let clamped = |index: i64| index.clamp(0, last) as u32;
        for out in 0..output {
            let first = axis.taps.len() as u32;
            let centre = (out as f32 + 0.5) * scale;
            match method {
                Method::NearestExact => axis.taps.push((clamped(centre.floor() as i64), 1.0)),
                Method::Bilinear => {
                    let at = (centre - 0.5).max(0.0);
                    let low = (at.floor() as i64).min(last);
                    let part = (at - low as f32).clamp(0.0, 1.0);
                    axis.taps.extend([(clamped(low), 1.0 - part), (clamped(low + 1), part)]);
                }
                Method::Area => {
                    // Adaptive average pooling: whole samples, which may overlap.
                    let start = out * input / output;
                    let end = ((out + 1) * input).div_ceil(output);
                    let weight = 1.0 / (end - start) as f32;
                    axis.taps.extend((start..end).map(|at| (at as u32, weight)));
                }
                Method::Bicubic => {
                    let at = centre - 0.5;
                    let low = at.floor();
                    let weights = cubic(at - low);
                    let taps = (-1..3).zip(weights);
                    axis.taps.extend(taps.map(|(n, weight)| (clamped(low as i64 + n), weight)));
                }
            }
            axis.spans.push((first, axis.taps.len() as u32));
        }
        axis
    }

    fn taps(&self, out: usize) -> &[(u32, f32)] {
        let (first, end) = self.spans[out];
        &self.taps[first as usize..end as usize]
    }
}

/// The cubic convolution with A = -0.75 at the four samples around `t` of the way.
fn cubic(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// A rectangle of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Window {
    pub(super) const fn whole(size: Size) -> Self {
        Self { x: 0, y: 0, width: size.width as usize, height: size.height as usize }
    }

    /// The middle of `from` with the aspect of `to`, as ComfyUI's `crop: center` cuts it.
    pub(super) fn centre(from: Size, to: Size) -> Self {
        let (width, height) = (f64::from(from.width), f64::from(from.height));
        let old = width / height;
        let new = f64::from(to.width) / f64::from(to.height);
        let (mut x, mut y) = (0, 0);
        if old > new {
            x = ((width - width * (new / old)) / 2.0).round_ties_even() as usize;
        } else if old < new {
            y = ((height - height * (old / new)) / 2.0).round_ties_even() as usize;
        }
        // Extreme aspects could cut everything away; one row or column always stays.
        x = x.min((from.width as usize - 1) / 2);
        y = y.min((from.height as usize - 1) / 2);
        Self { x, y, width: from.width as usize - 2 * x, height: from.height as usize - 2 * y }
    }
}

/// A change of size, worked out once.
#[derive(Clone, Debug)]
pub(super) struct Resampler {
    window: Window,
    stride: usize,
    columns: Axis,
    rows: Axis,
    row: Vec<f32>,
}

impl Resampler {
    /// From a window of pictures of `from` to pictures of `to`.
    pub(super) fn new(method: Method, from: Size, window: Window, to: Size) -> Self {
        Self {
            window,
            stride: from.width as usize,
            columns: Axis::new(method, window.width, to.width as usize),
            rows: Axis::new(method, window.height, to.height as usize),
            row: vec![0.0; window.width],
        }
    }

    /// Resizes one plane.
    pub(super) fn run(&mut self, input: &[f32], output: &mut [f32]) {
        let Window { x, y, width, .. } = self.window;
        let input_row = |row: u32| {
            let start = (y + row as usize) * self.stride + x;
            &input[start..start + width]
        };
        for (out, target) in output.chunks_exact_mut(self.columns.spans.len()).enumerate() {
            let taps = self.rows.taps(out);
            let row = match taps {
                [(at, weight)] if *weight == 1.0 => input_row(*at),
                [(first, weight), rest @ ..] => {
                    for (sum, sample) in self.row.iter_mut().zip(input_row(*first)) {
                        *sum = sample * weight;
                    }
                    for (at, weight) in rest {
                        for (sum, sample) in self.row.iter_mut().zip(input_row(*at)) {
                            *sum += sample * weight;
                        }
                    }
                    &self.row
                }
                [] => &self.row,
            };
            if self.columns.identity {
                target.copy_from_slice(row);
                continue;
            }
            for (target, (first, end)) in target.iter_mut().zip(&self.columns.spans) {
                let taps = &self.columns.taps[*first as usize..*end as usize];
                *target = taps.iter().map(|(at, weight)| row[*at as usize] * weight).sum();
            }
        }
    }
}
