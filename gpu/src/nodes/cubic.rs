//! Enlarging a plane 1 to 4 times by cubic convolution (a = -0.5), row by row.
//!
//! With a whole factor the weights repeat, so a row is worked out in a few straight loops. A row of
//! the result is asked for, so that whoever wants it can use it while it is in the cache; each row
//! of the plane is widened once and kept while rows of the result need it.

/// The cubic convolution kernel.
fn kernel(x: f32) -> f32 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// For each of the results that fall on one sample: how far before it the four taps begin, and
/// their weights.
fn phases(factor: usize) -> Vec<(usize, [f32; 4])> {
    let phase = |nth: usize| {
        let at = (nth as f32 + 0.5) / factor as f32 - 0.5;
        let back = if at < 0.0 { 2 } else { 1 };
        let first = -(back as f32);
        (back, [0.0, 1.0, 2.0, 3.0].map(|tap| kernel(at - first - tap)))
    };
    (0..factor).map(phase).collect()
}

/// Room on both sides of a row for taps beyond its ends.
const RIM: usize = 2;

/// Taps of the kernel.
const TAPS: usize = 4;

/// An enlargement of planes of one size.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    width: usize,
    height: usize,
    factor: usize,
    phases: Vec<(usize, [f32; TAPS])>,
    /// A row of the plane with its rim.
    row: Vec<f32>,
    /// The widened rows last used: row `n` is at `n % TAPS`.
    wide: [(Option<usize>, Vec<f32>); TAPS],
}

impl Cubic {
    pub(super) fn new(width: usize, height: usize, factor: usize) -> Self {
        let row = vec![0.0; width + 2 * RIM];
        let wide = [(); TAPS].map(|()| (None, vec![0.0; width * factor]));
        Self { width, height, factor, phases: phases(factor), row, wide }
    }

    /// Row `y` of the enlarged plane into `out`, which is `width * factor` long. Row 0 begins a
    /// plane; until the next row 0 it must be the same plane.
    pub(super) fn row(&mut self, plane: &[f32], y: usize, out: &mut [f32]) {
        if self.factor == 1 {
            out.copy_from_slice(&plane[y * self.width..(y + 1) * self.width]);
            return;
        }
        if y == 0 {
            for (held, _) in &mut self.wide {
                *held = None;
            }
        }
        let (back, weights) = self.phases[y % self.factor];
        let last = self.height - 1;
        let near = [0, 1, 2, 3].map(|tap| (y / self.factor + tap).saturating_sub(back).min(last));
        for at in near {
            self.widen(plane, at);
        }
        let [a, b, c, d] = near.map(|at| &self.wide[at % TAPS].1[..out.len()]);
        for (place, sum) in out.iter_mut().enumerate() {
            *sum = a[place] * weights[0]
                + b[place] * weights[1]
                + c[place] * weights[2]
                + d[place] * weights[3];
        }
    }

    /// Makes row `at` of the plane as wide as the result, unless it is held already.
    fn widen(&mut self, plane: &[f32], at: usize) {
        let (held, wide) = &mut self.wide[at % TAPS];
        if *held == Some(at) {
            return;
        }
        *held = Some(at);
        let line = &plane[at * self.width..(at + 1) * self.width];
        self.row[..RIM].fill(line[0]);
        self.row[RIM..RIM + self.width].copy_from_slice(line);
        self.row[RIM + self.width..].fill(line[self.width - 1]);
        match self.factor {
            2 => spread::<2>(&self.row, &self.phases, wide),
            3 => spread::<3>(&self.row, &self.phases, wide),
            _ => spread::<4>(&self.row, &self.phases, wide),
        }
    }
}

/// Enlarges a row with its rim `N` times.
fn spread<const N: usize>(row: &[f32], phases: &[(usize, [f32; 4])], out: &mut [f32]) {
    let mut plan = [(0, [0.0; 4]); N];
    plan.copy_from_slice(phases);
    // Of five samples in sight each result takes four, from the first or the second on.
    let plan = plan.map(|(back, [a, b, c, d])| match back {
        2 => [a, b, c, d, 0.0],
        _ => [0.0, a, b, c, d],
    });
    for (group, near) in out.chunks_exact_mut(N).zip(row.windows(2 * RIM + 1)) {
        for (result, weights) in group.iter_mut().zip(&plan) {
            *result = near[0] * weights[0]
                + near[1] * weights[1]
                + near[2] * weights[2]
                + near[3] * weights[3]
                + near[4] * weights[4];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, sample by sample.
    fn plain(plane: &[f32], width: usize, height: usize, factor: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for y in 0..height * factor {
            for x in 0..width * factor {
                let at = |n: usize| (n as f32 + 0.5) / factor as f32 - 0.5;
                let mut sum = 0.0;
                for row in -3..height as i64 + 3 {
                    for column in -3..width as i64 + 3 {
                        let weight = kernel(at(y) - row as f32) * kernel(at(x) - column as f32);
                        let row = row.clamp(0, height as i64 - 1) as usize;
                        let column = column.clamp(0, width as i64 - 1) as usize;
                        sum += weight * plane[row * width + column];
                    }
                }
                out.push(sum);
            }
        }
        out
    }

    #[test]
    fn every_factor_agrees_with_the_definition_even_on_planes_smaller_than_the_kernel() {
        for (width, height) in [(1, 1), (2, 1), (3, 5), (9, 4)] {
            let plane: Vec<f32> =
                (0..width * height).map(|n| ((n * 7919) % 101) as f32 / 101.0).collect();
            for factor in 1..=4 {
                let mut cubic = Cubic::new(width, height, factor);
                let wanted = plain(&plane, width, height, factor);
                for (y, wanted) in wanted.chunks_exact(width * factor).enumerate() {
                    let mut row = vec![0.0; width * factor];
                    cubic.row(&plane, y, &mut row);
                    for (got, wanted) in row.iter().zip(wanted) {
                        assert!((got - wanted).abs() < 1e-5, "{width}x{height} times {factor}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_flat_plane_stays_flat() {
        let mut row = [0.0; 20];
        Cubic::new(5, 3, 4).row(&[0.25; 15], 11, &mut row);
        assert!(row.iter().all(|sample| (sample - 0.25).abs() < 1e-6));
    }
}
