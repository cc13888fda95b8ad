//! `MillstreamDetectMotion`: where something moves, as text about the frame.
//!
//! The picture is laid out in square cells, 40 along its longer side. A cell moves when its mean
//! brightness differs from what it was lately, a moving average over some eight frames, by more
//! than the threshold: noise of single samples cancels out, and light that changes slowly becomes
//! the background. Cells that touch make a box.

use std::fmt::Write;
use std::sync::Arc;

use crate::graph::{
    Bound, BuildError, Built, Context, Image, InputSpec, Inputs, Kind, Node, NodeClass, NodeError,
    NodeSpec, Shape, Value,
};

/// Cells along the longer side.
const CELLS: usize = 40;

/// Shortest side of a cell in pixels.
const CELL_MIN: usize = 4;

/// How much a cell's brightness has to change where nothing else is said.
const THRESHOLD: f64 = 0.05;

/// Boxes that are named, the largest of them.
const BOXES_MAX: usize = 16;

/// How far the background follows a frame.
const FOLLOW: f32 = 1.0 / 8.0;

/// BT.601's weights of red, green and blue.
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// Says where something moves.
pub(super) struct MillstreamDetectMotion;

impl NodeClass for MillstreamDetectMotion {
    fn spec(&self) -> NodeSpec {
        NodeSpec::new("MillstreamDetectMotion", "Detect Motion", "Millstream")
            .describe(
                "Where the picture moves, as JSON: the share of its area, and boxes in pixels, the \
                 largest first. Give it to SaveTextTensor.",
            )
            .input(InputSpec::image("image"))
            .input(
                InputSpec::float("threshold", THRESHOLD, 0.005, 1.0, 0.005)
                    .optional()
                    .tip("How much a cell's brightness has to change; 1 is from black to white"),
            )
            .output(Kind::Text)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let size = inputs.size("image")?;
        let (width, height) = (size.width as usize, size.height as usize);
        let given = inputs.has("threshold");
        let threshold = if given { inputs.float("threshold")? } else { THRESHOLD } as f32;
        Ok(Built::node(Motion::new(width, height, threshold), [Shape::Plain(Kind::Text)]))
    }
}

struct Motion {
    width: usize,
    side: usize,
    columns: usize,
    rows: usize,
    threshold: f32,
    /// What each cell's brightness was lately; empty before the first frame.
    background: Vec<f32>,
    now: Vec<f32>,
    moving: Vec<bool>,
    open: Vec<usize>,
    boxes: Vec<Cells>,
}

/// A box of cells: first and last column and row.
#[derive(Clone, Copy)]
struct Cells {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Cells {
    fn area(&self) -> usize {
        (self.right - self.left + 1) * (self.bottom - self.top + 1)
    }
}

impl Motion {
    fn new(width: usize, height: usize, threshold: f32) -> Self {
        let side = width.max(height).div_ceil(CELLS).max(CELL_MIN);
        let (columns, rows) = (width.div_ceil(side), height.div_ceil(side));
        Self {
            width,
            side,
            columns,
            rows,
            threshold,
            background: Vec::new(),
            now: vec![0.0; columns * rows],
            moving: vec![false; columns * rows],
            open: Vec::new(),
            boxes: Vec::new(),
        }
    }

    /// Mean brightness of each cell.
    fn measure(&mut self, image: &Image) {
        self.now.fill(0.0);
        let channels = if image.is_grey() { &[1.0][..] } else { &GREY };
        for (channel, weight) in channels.iter().enumerate() {
            for (y, row) in image.plane(channel).chunks_exact(self.width).enumerate() {
                let line = y / self.side * self.columns;
                let cells = &mut self.now[line..line + self.columns];
                for (cell, samples) in cells.iter_mut().zip(row.chunks(self.side)) {
                    *cell += weight * samples.iter().sum::<f32>();
                }
            }
        }
        let height = image.size().height as usize;
        let length = |place: usize, end: usize| self.side.min(end - place * self.side);
        for (index, cell) in self.now.iter_mut().enumerate() {
            let (column, row) = (index % self.columns, index / self.columns);
            *cell /= (length(column, self.width) * length(row, height)) as f32;
        }
    }

    /// Marks the cells that differ from the background, which then follows. Gives their share.
    fn compare(&mut self) -> f64 {
        if self.background.is_empty() {
            self.background.clone_from(&self.now);
        }
        let mut count = 0;
        for ((now, lately), moving) in
            self.now.iter().zip(&mut self.background).zip(&mut self.moving)
        {
            let change = now - *lately;
            *moving = change.abs() > self.threshold;
            *lately += change * FOLLOW;
            count += usize::from(*moving);
        }
        count as f64 / self.now.len() as f64
    }

    /// Joins marked cells that touch, corners included; takes the marks away.
    fn join(&mut self) {
        self.boxes.clear();
        for start in 0..self.moving.len() {
            if !std::mem::take(&mut self.moving[start]) {
                continue;
            }
            let (column, row) = (start % self.columns, start / self.columns);
            let mut found = Cells { left: column, top: row, right: column, bottom: row };
            self.open.push(start);
            while let Some(cell) = self.open.pop() {
                let (column, row) = (cell % self.columns, cell / self.columns);
                found.left = found.left.min(column);
                found.right = found.right.max(column);
                found.bottom = found.bottom.max(row);
                for y in row.saturating_sub(1)..(row + 2).min(self.rows) {
                    for x in column.saturating_sub(1)..(column + 2).min(self.columns) {
                        let near = y * self.columns + x;
                        if std::mem::take(&mut self.moving[near]) {
                            self.open.push(near);
                        }
                    }
                }
            }
            self.boxes.push(found);
        }
        self.boxes.sort_by_key(|found| std::cmp::Reverse(found.area()));
        self.boxes.truncate(BOXES_MAX);
    }
}

impl Node for Motion {
    fn run(
        &mut self,
        _: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let image = inputs.image(0)?;
        let height = image.size().height as usize;
        self.measure(image);
        let share = self.compare();
        self.join();
        let mut text = format!("{{\"moving\":{share:.4},\"boxes\":[");
        for (index, found) in self.boxes.iter().enumerate() {
            let (x, y) = (found.left * self.side, found.top * self.side);
            let right = ((found.right + 1) * self.side).min(self.width);
            let bottom = ((found.bottom + 1) * self.side).min(height);
            let comma = if index > 0 { "," } else { "" };
            let (width, height) = (right - x, bottom - y);
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{comma}[{x},{y},{width},{height}]");
        }
        text.push_str("]}");
        outputs.push(Value::Text(Arc::from(text)));
        Ok(())
    }
}
