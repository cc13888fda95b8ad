//! From a prompt to a plan: what can be known before the first frame is worked out here, once.
//!
//! Nodes are built in dependency order. Equal nodes with equal inputs become one, nodes whose
//! inputs are all constant run now, and the rest become steps over slots in which each value is
//! moved to its last reader. Bounds on pictures, memory and work done here keep a hostile prompt
//! from harming the host; they are met before anything is allocated.

use std::collections::HashMap;

use super::class::{Bound, BuildError, Built, Context, Form, Inputs, Known, Results};
use super::engine::{Arg, Graph, Parts, Step};
use super::error::{Fault, FaultKind, NodeFaults, PromptError};
use super::pool::Pool;
use super::prompt::{Given, Prompt};
use super::registry::Registry;
use super::validate::{Binding, Checked, check};
use super::value::{Shape, Value};
use crate::frame::Size;
use crate::time::Pts;

/// What a graph may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels of one picture or mask.
    pub picture_pixels: u64,
    /// Most bytes of samples held at one time, constants and frames together.
    pub bytes: u64,
    /// Most pixels made by constant nodes while compiling.
    pub compile_pixels: u64,
}

impl Default for Limits {
    /// One 8K picture, 2 GiB of samples, 64 Mi constant pixels.
    fn default() -> Self {
        Self { picture_pixels: 8192 * 4320, bytes: 2 << 30, compile_pixels: 64 << 20 }
    }
}

/// Makes a graph for frames of `size`.
///
/// # Errors
/// Every fault that validation finds, or the first that building the nodes finds.
pub fn compile(prompt: &Prompt, registry: &Registry, size: Size) -> Result<Graph, PromptError> {
    compile_within(prompt, registry, size, &Limits::default())
}

/// [`compile`] with limits of the caller's.
///
/// # Errors
/// As [`compile`].
pub fn compile_within(
    prompt: &Prompt,
    registry: &Registry,
    size: Size,
    limits: &Limits,
) -> Result<Graph, PromptError> {
    if !size.is_valid() {
        let details = format!("{size}, at most {} a side", Size::SIDE_MAX);
        return Err(PromptError::whole(
            FaultKind::InvalidPrompt,
            "no graph for this size",
            details,
        ));
    }
    let checked = check(prompt, registry)?;
    let mut compiler = Compiler {
        registry,
        size,
        limits,
        nodes: prompt.nodes().iter().map(|_| None).collect(),
        twins: HashMap::new(),
        steps: Vec::new(),
        slots: vec![Shape::Image(size)],
        result: None,
        pool: Pool::new(),
        constant_bytes: 0,
        constant_pixels: 0,
    };
    for node in &checked {
        compiler.add(node).map_err(|error| compiler.refusal(node, prompt, error))?;
    }
    compiler.finish(prompt)
}

/// A node after it was built.
struct Done {
    outputs: Vec<Known>,
    /// The node that stands for all that equal it.
    representative: usize,
    /// Whether it runs for each frame.
    live: bool,
}

struct Compiler<'a> {
    registry: &'a Registry,
    size: Size,
    limits: &'a Limits,
    nodes: Vec<Option<Done>>,
    /// Representatives by class and inputs.
    twins: HashMap<String, usize>,
    steps: Vec<Step>,
    /// The shape in each slot; slot 0 is the frame's picture.
    slots: Vec<Shape>,
    /// The output node and what it is given.
    result: Option<(String, Known)>,
    pool: Pool,
    constant_bytes: u64,
    constant_pixels: u64,
}

impl Compiler<'_> {
    fn add(&mut self, checked: &Checked<'_>) -> Result<(), BuildError> {
        let Some(class) = self.registry.entry(&checked.spec.name).and_then(|e| e.class.clone())
        else {
            return Err(BuildError::new("the class is described but cannot be run here"));
        };
        let key = class.shareable().then(|| self.key(checked));
        if let Some(twin) = key.as_ref().and_then(|key| self.twins.get(key))
            && let Some(done) = &self.nodes[*twin]
        {
            let (outputs, representative, live) = (done.outputs.clone(), *twin, done.live);
            self.nodes[checked.index] = Some(Done { outputs, representative, live });
            return Ok(());
        }

        let inputs: Vec<Option<Known>> = checked.inputs.iter().map(|i| self.known(i)).collect();
        let bound = Bound { spec: checked.spec, inputs: &inputs, frame: self.size };
        let Built(form) = class.build(&bound)?;
        let mut live = false;
        let outputs = match form {
            Form::Same(input) => vec![given(&inputs, input)?],
            Form::Picture => {
                live = true;
                vec![Known::Live { shape: Shape::Image(self.size), slot: 0 }]
            }
            Form::Values(values) => {
                for value in &values {
                    self.admit(&Shape::of(value), true)?;
                }
                values.into_iter().map(Known::Value).collect()
            }
            Form::Result(input) => {
                if let Some((other, _)) = &self.result {
                    let reason = format!("node {other} gives out the result already");
                    return Err(BuildError::new(reason));
                }
                live = true;
                self.result = Some((checked.node.id.clone(), given(&inputs, input)?));
                Vec::new()
            }
            Form::Node { mut node, outputs, every_frame } => {
                live =
                    every_frame || inputs.iter().flatten().any(|i| matches!(i, Known::Live { .. }));
                for shape in &outputs {
                    self.admit(shape, !live)?;
                }
                if live {
                    let first = self.slots.len();
                    self.slots.extend(outputs.iter().cloned());
                    let arg = |input: &Option<Known>| match input {
                        None => Arg::None,
                        Some(Known::Value(value)) => Arg::Constant(value.clone()),
                        Some(Known::Live { slot, .. }) => Arg::Slot { slot: *slot, last: false },
                    };
                    self.steps.push(Step {
                        node,
                        id: checked.node.id.clone(),
                        class_type: checked.spec.name.clone(),
                        args: inputs.iter().map(arg).collect(),
                        outputs: first..self.slots.len(),
                        unread: Vec::new(),
                    });
                    let slot = |(n, shape)| Known::Live { shape, slot: first + n };
                    outputs.into_iter().enumerate().map(slot).collect()
                } else {
                    let values =
                        self.run_once(&checked.node.id, node.as_mut(), &inputs, &outputs)?;
                    values.into_iter().map(Known::Value).collect()
                }
            }
        };
        if outputs.len() != checked.spec.outputs.len() {
            return Err(BuildError::new("the class makes another number of outputs than it says"));
        }
        self.nodes[checked.index] = Some(Done { outputs, representative: checked.index, live });
        if let Some(key) = key {
            self.twins.insert(key, checked.index);
        }
        Ok(())
    }

    /// What an input is bound to, by now known.
    fn known(&self, binding: &Binding) -> Option<Known> {
        match binding {
            Binding::Absent => None,
            Binding::Constant(value) => Some(Known::Value(value.clone())),
            Binding::Link { node, slot } => self.nodes[*node].as_ref()?.outputs.get(*slot).cloned(),
        }
    }

    /// A text that two nodes share only when they would do the same.
    fn key(&self, checked: &Checked<'_>) -> String {
        let mut key = format!("{:?}", checked.spec.name);
        for binding in &checked.inputs {
            match binding {
                Binding::Absent => key.push_str(" -"),
                Binding::Constant(value) => key.push_str(&format!(" {value:?}")),
                Binding::Link { node, slot } => {
                    let twin = self.nodes[*node].as_ref().map_or(*node, |done| done.representative);
                    key.push_str(&format!(" @{twin}.{slot}"));
                }
            }
        }
        key
    }

    /// Checks a shape against the limits, and counts it when it is held for good.
    fn admit(&mut self, shape: &Shape, constant: bool) -> Result<(), BuildError> {
        let Some(size) = shape.size() else { return Ok(()) };
        if !size.is_valid() || size.pixels() > self.limits.picture_pixels {
            let most = self.limits.picture_pixels;
            return Err(BuildError::new(format!("a picture of {size} is above {most} pixels")));
        }
        if constant {
            self.constant_pixels += size.pixels();
            self.constant_bytes += bytes(shape);
            if self.constant_pixels > self.limits.compile_pixels {
                let most = self.limits.compile_pixels;
                return Err(BuildError::new(format!(
                    "constant pictures above {most} pixels in all"
                )));
            }
        }
        Ok(())
    }

    fn run_once(
        &mut self,
        id: &str,
        node: &mut dyn super::Node,
        inputs: &[Option<Known>],
        shapes: &[Shape],
    ) -> Result<Vec<Value>, BuildError> {
        let value = |input: &Option<Known>| match input {
            Some(Known::Value(value)) => Some(value.clone()),
            _ => None,
        };
        let mut inputs: Vec<Option<Value>> = inputs.iter().map(value).collect();
        let mut outputs = Vec::with_capacity(shapes.len());
        let (pool, results) = (&mut self.pool, &mut Results::default());
        let mut context = Context { pts: Pts(0), node: id, pool, results };
        node.run(&mut context, &mut Inputs(&mut inputs), &mut outputs)
            .map_err(|error| BuildError::new(error.reason))?;
        if outputs.iter().map(Shape::of).ne(shapes.iter().cloned()) {
            return Err(BuildError::new("the node made other outputs than it promised"));
        }
        Ok(outputs)
    }

    /// The answer to a prompt of which `checked` cannot be built.
    fn refusal(&self, checked: &Checked<'_>, prompt: &Prompt, error: BuildError) -> PromptError {
        let message = "Custom validation failed for node";
        let details = error.to_string();
        let mut fault = Fault::new(FaultKind::CustomValidationFailed, message, details);
        if let Some(input) = &error.input {
            fault = fault.with("input_name", input.as_str());
            if let Some(Given::Constant(value)) = checked.node.input(input) {
                fault = fault.with("received_value", value.clone());
            }
        }
        let sinks = prompt.nodes().iter().filter(|node| {
            self.registry.spec(&node.class_type).is_some_and(|spec| spec.output_node)
        });
        PromptError::of_nodes(vec![NodeFaults {
            id: checked.node.id.clone(),
            class_type: checked.node.class_type.clone(),
            errors: vec![fault],
            dependent_outputs: sinks.map(|node| node.id.clone()).collect(),
        }])
    }

    fn finish(mut self, prompt: &Prompt) -> Result<Graph, PromptError> {
        let Some((sink, result)) = self.result.take() else {
            let kind = FaultKind::NoOutputs;
            return Err(PromptError::whole(kind, "Prompt has no outputs", "no SaveTensor"));
        };
        let output_size = result.shape().size().unwrap_or(self.size);
        let result = match result {
            Known::Value(value) => Arg::Constant(value),
            Known::Live { slot, .. } => Arg::Slot { slot, last: true },
        };
        mark_last_readers(&mut self.steps, &result, self.slots.len());
        let peak = self.peak(&result) + self.constant_bytes;
        if peak > self.limits.bytes {
            let details = format!("{peak} bytes, at most {}", self.limits.bytes);
            let message = "the graph needs too much memory";
            return Err(PromptError::whole(FaultKind::InvalidPrompt, message, details));
        }
        let live = |done: &Option<Done>| done.as_ref().map(|done| done.live);
        Ok(Graph::new(Parts {
            prompt: prompt.clone(),
            specs: prompt
                .nodes()
                .iter()
                .filter_map(|node| self.registry.entry(&node.class_type))
                .map(|entry| entry.spec.clone())
                .collect(),
            live: self.nodes.iter().map(live).collect(),
            sink,
            steps: self.steps,
            shapes: self.slots,
            result,
            input_size: self.size,
            output_size,
        }))
    }

    /// The most bytes that slots hold at one time, and the pool for them: planes of one length
    /// are reused for each other only, so each length counts with its own peak.
    fn peak(&self, result: &Arg) -> u64 {
        let mut now: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut hold = |shape: &Shape, add: bool| {
            let Some(size) = shape.size() else { return };
            let (held, peak) = now.entry(size.pixels()).or_default();
            *held = if add { *held + shape.planes() } else { held.saturating_sub(shape.planes()) };
            *peak = (*peak).max(*held);
        };
        let reads_picture = |arg: &Arg| matches!(arg, Arg::Slot { slot: 0, .. });
        if self.steps.iter().flat_map(|step| &step.args).chain([result]).any(reads_picture) {
            hold(&self.slots[0], true);
        }
        for step in &self.steps {
            for slot in step.outputs.clone() {
                hold(&self.slots[slot], true);
            }
            for arg in &step.args {
                if let Arg::Slot { slot, last: true } = arg {
                    hold(&self.slots[*slot], false);
                }
            }
            for slot in &step.unread {
                hold(&self.slots[*slot], false);
            }
        }
        now.iter().map(|(pixels, (_, peak))| pixels * 4 * peak).sum()
    }
}

fn given(inputs: &[Option<Known>], input: usize) -> Result<Known, BuildError> {
    let known = inputs.get(input).and_then(Clone::clone);
    known.ok_or_else(|| BuildError::new(format!("input {input} is not given")))
}

fn bytes(shape: &Shape) -> u64 {
    shape.size().map_or(0, |size| size.pixels() * 4 * shape.planes())
}

/// Finds who reads each slot last, so that the value can be moved there.
fn mark_last_readers(steps: &mut [Step], result: &Arg, slots: usize) {
    let mut read = vec![false; slots];
    if let Arg::Slot { slot, .. } = result {
        read[*slot] = true;
    }
    for step in steps.iter_mut().rev() {
        step.unread = step.outputs.clone().filter(|slot| !read[*slot]).collect();
        for arg in step.args.iter_mut().rev() {
            if let Arg::Slot { slot, last } = arg {
                *last = !std::mem::replace(&mut read[*slot], true);
            }
        }
    }
}
