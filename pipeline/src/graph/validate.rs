//! ComfyUI's validation: classes exist, inputs are given and fit, some node ends the graph, no node
//! feeds itself. Only what an output node needs is looked at; all faults are found at once.

use serde_json::Value as Json;

use super::error::{Fault, FaultKind, NodeFaults, PromptError};
use super::prompt::{Given, Prompt, PromptNode, TEXT_MAX};
use super::registry::Registry;
use super::spec::{InputSpec, NodeSpec, Widget};
use super::value::Value;

/// Longest list of options that an error repeats, as in ComfyUI.
const OPTIONS_SHOWN: usize = 20;

/// Checks a prompt against the classes of a registry.
///
/// # Errors
/// Every fault that there is, by node and input.
pub fn validate(prompt: &Prompt, registry: &Registry) -> Result<(), PromptError> {
    check(prompt, registry).map(drop)
}

/// A node that an output needs, its inputs checked and converted.
pub(super) struct Checked<'a> {
    pub(super) index: usize,
    pub(super) node: &'a PromptNode,
    pub(super) spec: &'a NodeSpec,
    /// One for each of the class's inputs.
    pub(super) inputs: Vec<Binding>,
}

/// What an input is bound to.
pub(super) enum Binding {
    Absent,
    Constant(Value),
    Link { node: usize, slot: usize },
}

/// The needed nodes, each after those that feed it.
pub(super) fn check<'a>(
    prompt: &'a Prompt,
    registry: &'a Registry,
) -> Result<Vec<Checked<'a>>, PromptError> {
    let nodes = prompt.nodes();
    let specs = nodes.iter().map(|node| spec_of(node, registry)).collect::<Result<Vec<_>, _>>()?;
    let outputs: Vec<usize> = (0..nodes.len()).filter(|n| specs[*n].output_node).collect();
    if outputs.is_empty() {
        let kind = FaultKind::NoOutputs;
        return Err(PromptError::whole(kind, "Prompt has no outputs", ""));
    }

    let links: Vec<Vec<usize>> = nodes.iter().map(|node| sources(node, nodes)).collect();
    let mut walk = Walk {
        links: &links,
        state: vec![State::New; nodes.len()],
        order: Vec::new(),
        cycle: None,
    };
    for output in &outputs {
        walk.visit(*output);
    }
    let mut faults: Vec<(usize, Vec<Fault>)> = Vec::new();
    if let Some(index) = walk.cycle {
        let message = "Dependency cycle detected";
        let fault = Fault::new(FaultKind::DependencyCycle, message, "the node feeds itself");
        faults.push((index, vec![fault]));
    }

    let mut checked = Vec::with_capacity(walk.order.len());
    for index in walk.order {
        let (node, spec) = (&nodes[index], specs[index]);
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        let mut errors = Vec::new();
        for input in &spec.inputs {
            match bind(node.input(&input.name), input, nodes, &specs) {
                Ok(binding) => inputs.push(binding),
                Err(fault) => errors.push(*fault),
            }
        }
        if !errors.is_empty() {
            faults.push((index, errors));
        }
        checked.push(Checked { index, node, spec, inputs });
    }
    if faults.is_empty() {
        return Ok(checked);
    }

    faults.sort_by_key(|(index, _)| *index);
    let named = faults.into_iter().map(|(index, errors)| NodeFaults {
        id: nodes[index].id.clone(),
        class_type: nodes[index].class_type.clone(),
        errors,
        dependent_outputs: dependents(index, &outputs, &links, nodes),
    });
    Err(PromptError::of_nodes(named.collect()))
}

fn spec_of<'a>(node: &PromptNode, registry: &'a Registry) -> Result<&'a NodeSpec, PromptError> {
    registry.spec(&node.class_type).ok_or_else(|| {
        let title = node.title.as_deref().unwrap_or(&node.class_type);
        let message = format!("Node '{title}' not found. The custom node may not be installed.");
        let mut details = format!("Node ID '#{}', class {:?}", node.id, node.class_type);
        if let Some(near) = registry.nearest(&node.class_type) {
            details.push_str(&format!("; did you mean {near}?"));
        }
        let mut error = PromptError::whole(FaultKind::MissingNodeType, message, details);
        *error.error = error
            .error
            .clone()
            .with("node_id", node.id.as_str())
            .with("class_type", node.class_type.as_str())
            .with("node_title", title);
        error
    })
}

/// The nodes that feed a node, those of the prompt only.
fn sources(node: &PromptNode, nodes: &[PromptNode]) -> Vec<usize> {
    let source = |(_, given): &(String, Given)| match given {
        Given::Link { node, .. } => nodes.iter().position(|other| other.id == *node),
        Given::Constant(_) => None,
    };
    node.inputs.iter().filter_map(source).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// A walk from outputs to sources; at most [`super::NODES_MAX`] deep.
struct Walk<'a> {
    links: &'a [Vec<usize>],
    state: Vec<State>,
    order: Vec<usize>,
    cycle: Option<usize>,
}

impl Walk<'_> {
    fn visit(&mut self, index: usize) {
        match self.state[index] {
            State::Done => return,
            State::Open => {
                self.cycle.get_or_insert(index);
                return;
            }
            State::New => self.state[index] = State::Open,
        }
        let links = self.links;
        for source in &links[index] {
            self.visit(*source);
        }
        self.state[index] = State::Done;
        self.order.push(index);
    }
}

/// The ids of the outputs that need a node.
fn dependents(
    index: usize,
    outputs: &[usize],
    links: &[Vec<usize>],
    nodes: &[PromptNode],
) -> Vec<String> {
    let needs = |output: &&usize| {
        let state = vec![State::New; nodes.len()];
        let mut walk = Walk { links, state, order: Vec::new(), cycle: None };
        walk.visit(**output);
        walk.state[index] != State::New
    };
    outputs.iter().filter(needs).map(|output| nodes[*output].id.clone()).collect()
}

type Bind<T> = Result<T, Box<Fault>>;

fn bind(
    given: Option<&Given>,
    input: &InputSpec,
    nodes: &[PromptNode],
    specs: &[&NodeSpec],
) -> Bind<Binding> {
    let name = input.name.as_str();
    match given {
        None if input.required => {
            let message = "Required input is missing";
            let fault = Fault::new(FaultKind::RequiredInputMissing, message, name);
            Err(Box::new(fault.with("input_name", name)))
        }
        None => match input.widget.default_value() {
            Some(default) => constant(&default, input).map(Binding::Constant),
            None => Ok(Binding::Absent),
        },
        Some(Given::Constant(value)) => constant(value, input).map(Binding::Constant),
        Some(Given::Link { node: id, slot }) => {
            let received = serde_json::json!([id, slot]);
            let bad = |details: String| {
                let message = "Bad linked input, must be a length-2 list of [node_id, slot_index]";
                fault(FaultKind::BadLinkedInput, message, details, input, &received)
            };
            let Some(node) = nodes.iter().position(|node| node.id == *id) else {
                return Err(bad(format!("{name}, node {id:?} is not in the prompt")));
            };
            let outputs = &specs[node].outputs;
            let found = usize::try_from(*slot).ok().and_then(|n| Some((n, outputs.get(n)?)));
            let Some((slot, output)) = found else {
                let count = outputs.len();
                return Err(bad(format!(
                    "{name}, node {id:?} has {count} outputs, not slot {slot}"
                )));
            };
            let kind = input.widget.kind();
            if !output.kind.feeds(&kind) {
                let (from, to) = (output.kind.name(), kind.name());
                let details = format!("{name}, received_type({from}) mismatch input_type({to})");
                let message = "Return type mismatch between linked nodes";
                let fault = Fault::new(FaultKind::ReturnTypeMismatch, message, details)
                    .with("input_name", name)
                    .with("input_config", input.config())
                    .with("received_type", from)
                    .with("linked_node", received);
                return Err(Box::new(fault));
            }
            Ok(Binding::Link { node, slot })
        }
    }
}

fn fault(
    kind: FaultKind,
    message: impl Into<String>,
    details: impl Into<String>,
    input: &InputSpec,
    received: &Json,
) -> Box<Fault> {
    let fault = Fault::new(kind, message, details)
        .with("input_name", input.name.as_str())
        .with("input_config", input.config());
    Box::new(fault.with("received_value", received.clone()))
}

/// Converts a constant as Python's `int`, `float`, `str` and `bool` do, and checks its bounds.
fn constant(value: &Json, input: &InputSpec) -> Bind<Value> {
    let name = input.name.as_str();
    let unreadable = || {
        let kind = input.widget.kind();
        let message = format!("Failed to convert an input value to a {} value", kind.name());
        fault(FaultKind::InvalidInputType, message, format!("{name}, {value}"), input, value)
    };
    let smaller = |got: String, min: String| {
        let message = format!("Value {got} smaller than min of {min}");
        fault(FaultKind::ValueSmallerThanMin, message, name, input, value)
    };
    let bigger = |got: String, max: String| {
        let message = format!("Value {got} bigger than max of {max}");
        fault(FaultKind::ValueBiggerThanMax, message, name, input, value)
    };
    match &input.widget {
        Widget::Link(kind) => {
            let message = "Bad linked input, must be a length-2 list of [node_id, slot_index]";
            let details = format!("{name}, {} can only be linked", kind.name());
            Err(fault(FaultKind::BadLinkedInput, message, details, input, value))
        }
        Widget::Int { min, max, .. } => match int(value).ok_or_else(unreadable)? {
            got if got < *min => Err(smaller(got.to_string(), min.to_string())),
            got if got > *max => Err(bigger(got.to_string(), max.to_string())),
            got => Ok(Value::Int(got)),
        },
        Widget::Float { min, max, .. } => match float(value).ok_or_else(unreadable)? {
            got if got < *min => Err(smaller(got.to_string(), min.to_string())),
            got if got > *max => Err(bigger(got.to_string(), max.to_string())),
            got => Ok(Value::Float(got)),
        },
        Widget::Text { .. } => {
            let text = match value {
                Json::String(text) => text.as_str().into(),
                Json::Number(number) => number.to_string().into(),
                Json::Bool(value) => if *value { "True" } else { "False" }.into(),
                _ => return Err(unreadable()),
            };
            let text: std::sync::Arc<str> = text;
            if text.len() > TEXT_MAX {
                return Err(bigger(
                    format!("of {} bytes", text.len()),
                    format!("{TEXT_MAX} bytes"),
                ));
            }
            Ok(Value::Text(text))
        }
        Widget::Bool { .. } => match value {
            Json::Bool(value) => Ok(Value::Bool(*value)),
            Json::Number(number) => Ok(Value::Bool(number.as_f64() != Some(0.0))),
            Json::String(text) => Ok(Value::Bool(!text.is_empty())),
            _ => Err(unreadable()),
        },
        Widget::Combo { options, .. } => {
            let chosen = value.as_str().filter(|text| options.iter().any(|option| option == text));
            match chosen {
                Some(text) => Ok(Value::Text(text.into())),
                None => Err(not_in_list(value, options, input)),
            }
        }
    }
}

fn not_in_list(value: &Json, options: &[String], input: &InputSpec) -> Box<Fault> {
    let got = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let few = options.len() <= OPTIONS_SHOWN;
    let list =
        if few { format!("{options:?}") } else { format!("(list of length {})", options.len()) };
    let details = format!("{}: '{got}' not in {list}", input.name);
    let mut fault = fault(FaultKind::ValueNotInList, "Value not in list", details, input, value);
    if !few {
        fault.extra_info.insert("input_config".into(), Json::Null);
    }
    fault
}

fn int(value: &Json) -> Option<i64> {
    match value {
        Json::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?.trunc();
            // Both bounds are exact in f64; the upper one itself does not fit.
            (float >= i64::MIN as f64 && float < i64::MAX as f64).then_some(float as i64)
        }),
        Json::String(text) => text.trim().parse().ok(),
        Json::Bool(value) => Some(i64::from(*value)),
        _ => None,
    }
}

fn float(value: &Json) -> Option<f64> {
    let float = match value {
        Json::Number(number) => number.as_f64()?,
        Json::String(text) => text.trim().parse().ok()?,
        Json::Bool(value) => f64::from(u8::from(*value)),
        _ => return None,
    };
    float.is_finite().then_some(float)
}
