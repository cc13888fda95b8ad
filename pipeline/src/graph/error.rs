//! Why a prompt is refused, in ComfyUI's words and shape, so that its editors and ours show the
//! fault at the node and input where it is.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

/// What is wrong, by ComfyUI's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The prompt is no prompt, or beyond a limit.
    InvalidPrompt,
    /// No node's class ends a graph.
    NoOutputs,
    /// A node has no class, or one that is not known here.
    MissingNodeType,
    /// Some node is at fault; see its errors.
    OutputsFailed,
    /// A required input is left out.
    RequiredInputMissing,
    /// A link is no link, or leads nowhere.
    BadLinkedInput,
    /// The linked output has another type.
    ReturnTypeMismatch,
    /// The value is none of the list's.
    ValueNotInList,
    /// The number is too small.
    ValueSmallerThanMin,
    /// The number is too big, or the text too long.
    ValueBiggerThanMax,
    /// The value cannot be read as the input's type.
    InvalidInputType,
    /// The node feeds itself.
    DependencyCycle,
    /// The node refuses its inputs.
    CustomValidationFailed,
}

impl FaultKind {
    /// ComfyUI's `type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidPrompt => "invalid_prompt",
            Self::NoOutputs => "prompt_no_outputs",
            Self::MissingNodeType => "missing_node_type",
            Self::OutputsFailed => "prompt_outputs_failed_validation",
            Self::RequiredInputMissing => "required_input_missing",
            Self::BadLinkedInput => "bad_linked_input",
            Self::ReturnTypeMismatch => "return_type_mismatch",
            Self::ValueNotInList => "value_not_in_list",
            Self::ValueSmallerThanMin => "value_smaller_than_min",
            Self::ValueBiggerThanMax => "value_bigger_than_max",
            Self::InvalidInputType => "invalid_input_type",
            Self::DependencyCycle => "dependency_cycle",
            Self::CustomValidationFailed => "custom_validation_failed",
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// ComfyUI's sentence.
    pub message: String,
    /// Which input and value.
    pub details: String,
    /// `input_name`, `input_config`, `received_value` and the like.
    pub extra_info: Map<String, Json>,
}

impl Fault {
    pub(super) fn new(
        kind: FaultKind,
        message: impl Into<String>,
        details: impl Into<String>,
    ) -> Self {
        let (message, details) = (message.into(), details.into());
        Self { kind, message, details, extra_info: Map::new() }
    }

    pub(super) fn with(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.extra_info.insert(key.into(), value.into());
        self
    }

    /// The input at fault, when it is one.
    pub fn input(&self) -> Option<&str> {
        self.extra_info.get("input_name")?.as_str()
    }

    /// `{type, message, details, extra_info}`.
    pub fn to_json(&self) -> Json {
        json!({
            "type": self.kind.name(),
            "message": self.message,
            "details": self.details,
            "extra_info": self.extra_info,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details) }
    }
}

/// The faults of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFaults {
    /// The node's id in the prompt.
    pub id: String,
    /// Its class.
    pub class_type: String,
    /// What is wrong with it.
    pub errors: Vec<Fault>,
    /// The output nodes that cannot run therefore.
    pub dependent_outputs: Vec<String>,
}

/// A prompt refused, as a whole or for faults of its nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptError {
    /// The fault of the whole.
    pub error: Box<Fault>,
    /// The faults of nodes, in the prompt's order.
    pub nodes: Vec<NodeFaults>,
}

impl PromptError {
    pub(super) fn whole(
        kind: FaultKind,
        message: impl Into<String>,
        details: impl Into<String>,
    ) -> Self {
        Self { error: Box::new(Fault::new(kind, message, details)), nodes: Vec::new() }
    }

    pub(super) fn of_nodes(nodes: Vec<NodeFaults>) -> Self {
        let lines = nodes.iter().flat_map(|node| {
            let head = format!("* {} {}:", node.class_type, node.id);
            let faults = node.errors.iter().map(|e| format!("  - {}: {}", e.message, e.details));
            std::iter::once(head).chain(faults)
        });
        let details = lines.collect::<Vec<_>>().join("\n");
        let kind = FaultKind::OutputsFailed;
        Self { nodes, ..Self::whole(kind, "Prompt outputs failed validation", details) }
    }

    /// ComfyUI's answer body: `{error, node_errors}`.
    pub fn to_json(&self) -> Json {
        let node = |node: &NodeFaults| {
            let body = json!({
                "class_type": node.class_type,
                "errors": node.errors.iter().map(Fault::to_json).collect::<Vec<_>>(),
                "dependent_outputs": node.dependent_outputs,
            });
            (node.id.clone(), body)
        };
        let nodes: Map<String, Json> = self.nodes.iter().map(node).collect();
        json!({ "error": self.error.to_json(), "node_errors": nodes })
    }
}

impl Serialize for PromptError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.is_empty() {
            return self.error.fmt(f);
        }
        for (place, node) in self.nodes.iter().enumerate() {
            for (nth, fault) in node.errors.iter().enumerate() {
                let gap = if place + nth > 0 { "; " } else { "" };
                write!(f, "{gap}node {} ({})", node.id, node.class_type)?;
                match fault.input() {
                    Some(input) => write!(f, ", input {input}: {fault}")?,
                    None => write!(f, ": {fault}")?,
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for PromptError {}
