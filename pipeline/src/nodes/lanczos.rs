//! Lanczos scaling as Pillow does it, through 8-bit samples: ComfyUI's `lanczos` cuts samples to
//! whole levels, lets Pillow resize, and divides by 255.
//!
//! Pillow's filter has three lobes and widens when it shrinks. Weights are whole multiples of
//! 2^-22, rows come first and are rounded to 8 bits, then columns.

use super::resample::Window;
use crate::frame::Size;

const LOBES: f64 = 3.0;
/// Fraction bits of a weight: 32 less 8 of a sample and 2 of head room.
const BITS: u32 = 22;

#[derive(Clone, Debug)]
struct Axis {
    /// First input sample, and first and one past the last weight, for each output sample.
    spans: Vec<(u32, u32, u32)>,
    weights: Vec<i32>,
}

impl Axis {
    fn new(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let widen = scale.max(1.0);
        let support = LOBES * widen;
        let mut axis = Self { spans: Vec::with_capacity(output), weights: Vec::new() };
        for out in 0..output {
            let centre = (out as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            let weights: Vec<f64> =
                (start..end).map(|at| lanczos((at as f64 - centre + 0.5) / widen)).collect();
            let sum: f64 = weights.iter().sum();
            let first = axis.weights.len() as u32;
            let whole = |weight: &f64| {
                let scaled = weight / sum * f64::from(1_u32 << BITS);
                (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32
            };
            axis.weights.extend(weights.iter().map(whole));
            axis.spans.push((start as u32, first, axis.weights.len() as u32));
        }
        axis
    }

    fn weights(&self, out: usize) -> (usize, &[i32]) {
        let (start, first, end) = self.spans[out];
        (start as usize, &self.weights[first as usize..end as usize])
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}

const fn round(sum: i32) -> u8 {
    let level = sum >> BITS;
    if level < 0 {
        0
    } else if level > 255 {
        255
    } else {
        level as u8
    }
}

/// A change of size, worked out once.
#[derive(Clone, Debug)]
pub(super) struct Lanczos {
    window: Window,
    stride: usize,
    to: (usize, usize),
    /// `None` where the length stays, as Pillow leaves that pass out.
    columns: Option<Axis>,
    rows: Option<Axis>,
    input: Vec<u8>,
    between: Vec<u8>,
    sums: Vec<i32>,
}

impl Lanczos {
    pub(super) fn new(from: Size, window: Window, to: Size) -> Self {
        let (width, height) = (to.width as usize, to.height as usize);
        let axis = |input, output| (input != output).then(|| Axis::new(input, output));
        Self {
            window,
            stride: from.width as usize,
            to: (width, height),
            columns: axis(window.width, width),
            rows: axis(window.height, height),
            input: vec![0; window.width],
            between: vec![0; width * window.height],
            sums: vec![0; width],
        }
    }

    pub(super) fn run(&mut self, input: &[f32], output: &mut [f32]) {
        let Window { x, y, width, height } = self.window;
        for row in 0..height {
            let start = (y + row) * self.stride + x;
            for (level, sample) in self.input.iter_mut().zip(&input[start..start + width]) {
                *level = (sample * 255.0).clamp(0.0, 255.0) as u8;
            }
            let between = &mut self.between[row * self.to.0..(row + 1) * self.to.0];
            match &self.columns {
                None => between.copy_from_slice(&self.input),
                Some(axis) => {
                    for (out, level) in between.iter_mut().enumerate() {
                        let (start, weights) = axis.weights(out);
                        let taps = self.input[start..].iter().zip(weights);
                        let sum = taps.map(|(level, weight)| i32::from(*level) * weight);
                        *level = round(sum.sum::<i32>() + (1 << (BITS - 1)));
                    }
                }
            }
        }
        for (out, target) in output.chunks_exact_mut(self.to.0).enumerate() {
            let row = |row: usize| &self.between[row * self.to.0..(row + 1) * self.to.0];
            let Some(axis) = &self.rows else {
                for (target, level) in target.iter_mut().zip(row(out)) {
                    *target = f32::from(*level) / 255.0;
                }
                continue;
            };
            self.sums.fill(1 << (BITS - 1));
            let (start, weights) = axis.weights(out);
            for (n, weight) in weights.iter().enumerate() {
                for (sum, level) in self.sums.iter_mut().zip(row(start + n)) {
                    *sum += i32::from(*level) * weight;
                }
            }
            for (target, sum) in target.iter_mut().zip(&self.sums) {
                *target = f32::from(round(*sum)) / 255.0;
            }
        }
    }
}
