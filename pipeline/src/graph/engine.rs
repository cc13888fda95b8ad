//! A compiled graph at work: a frame in, a frame out, by the plan of [`super::compile`].
//!
//! The frame is turned into planes once, if any step looks at it, and back once. Planes, argument
//! lists and the bytes of frames given out are used again, so a running graph of host nodes
//! allocates nothing but the counted handle of each frame. A graph whose result is the picture it
//! was given returns the frame untouched. After an error nothing of the frame is left behind.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::class::{Context, Inputs, Node, Results};
use super::pool::Pool;
use super::prompt::{Given, Prompt};
use super::spec::NodeSpec;
use super::value::{Image, Shape, Value};
use crate::color::Converter;
use crate::frame::{Frame, HostPlanes, Size, Surface};
use crate::stage::{Stage, StageError};

/// Where an argument comes from.
pub(super) enum Arg {
    None,
    Constant(Value),
    /// A slot; `last` when nobody reads it afterwards.
    Slot {
        slot: usize,
        last: bool,
    },
}

/// A node in the plan.
pub(super) struct Step {
    pub(super) node: Box<dyn Node>,
    pub(super) id: String,
    pub(super) class_type: String,
    pub(super) args: Vec<Arg>,
    /// The slots that it fills.
    pub(super) outputs: Range<usize>,
    /// Those of them that nobody reads.
    pub(super) unread: Vec<usize>,
}

/// What the compiler hands over.
pub(super) struct Parts {
    pub(super) prompt: Prompt,
    pub(super) specs: Vec<Arc<NodeSpec>>,
    pub(super) live: Vec<Option<bool>>,
    pub(super) sink: String,
    pub(super) steps: Vec<Step>,
    pub(super) shapes: Vec<Shape>,
    pub(super) result: Arg,
    pub(super) input_size: Size,
    pub(super) output_size: Size,
}

/// What one node has cost so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTiming {
    /// The node's id in the prompt; `frame` for the conversions of the frame itself.
    pub id: String,
    /// Its class.
    pub class_type: String,
    /// Frames that were timed.
    pub frames: u64,
    /// The sum of their times.
    pub total: Duration,
}

/// A graph made for frames of one size. See the module.
pub struct Graph {
    parts: Parts,
    slots: Vec<Option<Value>>,
    args: Vec<Option<Value>>,
    outputs: Vec<Value>,
    pool: Pool,
    converter: Converter,
    reads_picture: bool,
    results: Results,
    /// One for each step and the last for the conversions; empty when timing is off.
    timings: Vec<(u64, Duration)>,
}

impl Graph {
    pub(super) fn new(parts: Parts) -> Self {
        let reads = |arg: &Arg| matches!(arg, Arg::Slot { slot: 0, .. });
        let reads_picture = parts.steps.iter().flat_map(|step| &step.args).any(reads);
        Self {
            slots: parts.shapes.iter().map(|_| None).collect(),
            args: Vec::new(),
            outputs: Vec::new(),
            pool: Pool::new(),
            converter: Converter::new(),
            reads_picture,
            results: Results::default(),
            timings: Vec::new(),
            parts,
        }
    }

    /// The size of the frames that it takes.
    pub const fn input_size(&self) -> Size {
        self.parts.input_size
    }

    /// The size of the frames that it gives.
    pub const fn output_size(&self) -> Size {
        self.parts.output_size
    }

    /// Whether frames come out untouched.
    pub const fn is_passthrough(&self) -> bool {
        matches!(self.parts.result, Arg::Slot { slot: 0, .. })
    }

    /// The prompt that it was made of.
    pub const fn prompt(&self) -> &Prompt {
        &self.parts.prompt
    }

    /// Starts or stops timing the nodes; one clock reading per node and frame while it is on.
    pub fn set_timing(&mut self, on: bool) {
        self.timings.clear();
        if on {
            self.timings.resize(self.parts.steps.len() + 1, (0, Duration::ZERO));
        }
    }

    /// What the nodes have cost since timing was started; empty when it is off. Nodes that ran
    /// when the graph was compiled are not in it.
    pub fn timings(&self) -> Vec<NodeTiming> {
        let steps = self.parts.steps.iter();
        let names = steps.map(|step| (step.id.as_str(), step.class_type.as_str()));
        let timing = |((id, class_type), (frames, total)): ((&str, &str), &(u64, Duration))| {
            let (id, class_type) = (id.to_owned(), class_type.to_owned());
            NodeTiming { id, class_type, frames: *frames, total: *total }
        };
        names.chain([("frame", "convert")]).zip(&self.timings).map(timing).collect()
    }

    /// The graph for people: sizes, nodes, and every input with its type, bounds and value.
    pub fn summary(&self) -> Json {
        let parts = &self.parts;
        let nodes = parts.prompt.nodes().iter().zip(&parts.specs).zip(&parts.live);
        let node = |((node, spec), live): ((&super::PromptNode, &Arc<NodeSpec>), &Option<bool>)| {
            let input = |input: &super::InputSpec| {
                let given = node.input(&input.name);
                let mut entry = json!({
                    "name": input.name,
                    "type": input.widget.kind().name(),
                    "config": input.config(),
                });
                match given {
                    Some(Given::Link { node, slot }) => entry["link"] = json!([node, slot]),
                    Some(Given::Constant(value)) => entry["value"] = value.clone(),
                    None => entry["value"] = json!(input.widget.default_value()),
                }
                entry["editable"] = json!(
                    input.widget.default_value().is_some()
                        && !matches!(given, Some(Given::Link { .. }))
                );
                entry
            };
            json!({
                "id": node.id,
                "class_type": node.class_type,
                "title": node.title.as_deref().unwrap_or(&spec.display_name),
                "output_node": spec.output_node,
                // Not at all, once when compiled, or per frame.
                "runs": match live { None => "never", Some(false) => "once", Some(true) => "per frame" },
                "inputs": spec.inputs.iter().map(input).collect::<Vec<_>>(),
            })
        };
        json!({
            "input_size": [parts.input_size.width, parts.input_size.height],
            "output_size": [parts.output_size.width, parts.output_size.height],
            "passthrough": self.is_passthrough(),
            "result": parts.sink,
            "nodes": nodes.map(node).collect::<Vec<_>>(),
        })
    }

    /// Planes waiting for use, to see that none are lost.
    #[doc(hidden)]
    pub fn free_planes(&self) -> usize {
        self.pool.free_planes()
    }

    fn run(&mut self, frame: &Frame) -> Result<Frame, StageError> {
        // What was said of a frame that then failed is not said of this one.
        self.results.clear();
        let mut clock = (!self.timings.is_empty()).then(Instant::now);
        let last = self.parts.steps.len();
        if self.reads_picture {
            let picture = self.picture(frame)?;
            self.slots[0] = Some(Value::Image(picture));
            self.note(last, false, &mut clock);
        }
        for index in 0..last {
            self.step(index, frame)?;
            self.note(index, true, &mut clock);
        }
        if self.is_passthrough() {
            if let Some(picture) = self.slots[0].take() {
                self.pool.recycle(picture);
            }
            return Ok(frame.clone());
        }
        let image = match &self.parts.result {
            Arg::Constant(Value::Image(image)) => Some(image.clone()),
            Arg::Slot { slot, .. } => match self.slots[*slot].take() {
                Some(Value::Image(image)) => Some(image),
                _ => None,
            },
            _ => None,
        };
        let Some(image) = image else { return Err(failed(&self.parts.sink, "no picture")) };
        let planes = self.converter.to_frame(&image, frame.format, frame.color);
        let size = image.size();
        self.pool.recycle(Value::Image(image));
        self.note(last, true, &mut clock);
        let planes = planes.ok_or_else(|| failed(&self.parts.sink, "picture of a wrong size"))?;
        Ok(Frame { size, surface: Surface::Host(planes), ..frame.clone() })
    }

    fn picture(&mut self, frame: &Frame) -> Result<Image, StageError> {
        let downloaded;
        let host: &HostPlanes = match &frame.surface {
            Surface::Host(planes) => planes,
            Surface::Device(surface) => {
                let lost = || failed("frame", "the device gave no picture");
                downloaded = surface.download().ok_or_else(lost)?;
                &downloaded
            }
        };
        let image =
            self.converter.to_image(host, frame.size, frame.format, frame.color, &mut self.pool);
        image.ok_or_else(|| StageError::Unsupported {
            stage: "graph",
            what: format!("planes that do not fit {:?} of {}", frame.format, frame.size),
        })
    }

    fn step(&mut self, index: usize, frame: &Frame) -> Result<(), StageError> {
        let step = &mut self.parts.steps[index];
        self.args.clear();
        for arg in &step.args {
            self.args.push(match arg {
                Arg::None => None,
                Arg::Constant(value) => Some(value.clone()),
                Arg::Slot { slot, last: true } => self.slots[*slot].take(),
                Arg::Slot { slot, last: false } => self.slots[*slot].clone(),
            });
        }
        self.outputs.clear();
        let (pool, results) = (&mut self.pool, &mut self.results);
        let mut context = Context { pts: frame.pts, node: &step.id, pool, results };
        let mut inputs = Inputs(&mut self.args);
        let done = step.node.run(&mut context, &mut inputs, &mut self.outputs);
        for value in self.args.drain(..).flatten() {
            self.pool.recycle(value);
        }
        let name = || format!("node {} ({})", step.id, step.class_type);
        done.map_err(|error| failed(&name(), &error.reason))?;
        let promised = &self.parts.shapes[step.outputs.clone()];
        if self.outputs.iter().map(Shape::of).ne(promised.iter().cloned()) {
            return Err(failed(&name(), "made other outputs than it promised"));
        }
        for (slot, value) in step.outputs.clone().zip(self.outputs.drain(..)) {
            self.slots[slot] = Some(value);
        }
        for slot in &step.unread {
            if let Some(value) = self.slots[*slot].take() {
                self.pool.recycle(value);
            }
        }
        Ok(())
    }

    fn note(&mut self, index: usize, frame: bool, clock: &mut Option<Instant>) {
        if let (Some(since), Some((frames, total))) = (clock.as_mut(), self.timings.get_mut(index))
        {
            let now = Instant::now();
            *frames += u64::from(frame);
            *total += now - *since;
            *since = now;
        }
    }
}

impl Stage for Graph {
    /// # Errors
    /// [`StageError::Unsupported`] for a frame of another size (compile anew), or
    /// [`StageError::Failed`] with the node that failed.
    fn process(&mut self, frame: Frame) -> Result<Frame, StageError> {
        if frame.size != self.parts.input_size {
            let what = format!("a frame of {}, it is made for {}", frame.size, self.input_size());
            return Err(StageError::Unsupported { stage: "graph", what });
        }
        if self.is_passthrough() && self.parts.steps.is_empty() {
            return Ok(frame);
        }
        let result = self.run(&frame);
        if result.is_err() {
            for value in
                self.slots.iter_mut().filter_map(Option::take).chain(self.outputs.drain(..))
            {
                self.pool.recycle(value);
            }
        }
        result
    }

    fn results(&mut self) -> Option<String> {
        self.results.take()
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes: Vec<&str> = self.parts.steps.iter().map(|s| s.class_type.as_str()).collect();
        f.debug_struct("Graph")
            .field("input", &self.parts.input_size)
            .field("output", &self.parts.output_size)
            .field("nodes", &nodes)
            .finish_non_exhaustive()
    }
}

fn failed(who: &str, reason: &str) -> StageError {
    StageError::Failed { stage: "graph", reason: format!("{who}: {reason}") }
}
