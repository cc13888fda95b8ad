//! A ComfyUI prompt in API format: an object of nodes, each a class and its inputs.
//!
//! Reading checks the form and the limits and nothing else; whether classes exist and inputs fit is
//! [`super::validate`]'s matter. The editor's own format (with `nodes` and `links`) is refused with
//! a hint, since it lacks the names of inputs.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value as Json, json};

use super::error::{FaultKind, PromptError};

/// Most nodes of a prompt.
pub const NODES_MAX: usize = 256;
/// Most inputs of a node.
pub const INPUTS_MAX: usize = 64;
/// Longest node id, class name and input name, in bytes.
pub const NAME_MAX: usize = 128;
/// Longest text given to an input, in bytes.
pub const TEXT_MAX: usize = 4096;
/// Longest prompt as text, in bytes.
pub const BYTES_MAX: usize = 256 * 1024;
/// Deepest value given to an input; ComfyUI's own inputs are one or two deep.
const DEPTH_MAX: usize = 8;

/// What an input is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// The output `slot` of node `node`.
    Link {
        /// The node's id.
        node: String,
        /// Which of its outputs.
        slot: u64,
    },
    /// A constant.
    Constant(Json),
}

/// One node of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptNode {
    /// The key in the prompt.
    pub id: String,
    /// The class.
    pub class_type: String,
    /// `_meta.title`, for people.
    pub title: Option<String>,
    /// Inputs by name, in the prompt's order.
    pub inputs: Vec<(String, Given)>,
}

impl PromptNode {
    /// What an input is given.
    pub fn input(&self, name: &str) -> Option<&Given> {
        self.inputs.iter().find(|(key, _)| key == name).map(|(_, given)| given)
    }
}

/// A prompt whose form is right.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Prompt {
    nodes: Vec<PromptNode>,
}

impl Prompt {
    /// Reads a prompt.
    ///
    /// # Errors
    /// When it is not of API form or beyond a limit of this module.
    pub fn parse(prompt: &Json) -> Result<Self, PromptError> {
        let Some(entries) = prompt.as_object() else {
            return Err(invalid("a prompt is an object of nodes", ""));
        };
        if entries.get("nodes").is_some_and(Json::is_array) {
            return Err(invalid(
                "this is the editor's workflow format",
                "export the workflow in API format",
            ));
        }
        if entries.len() > NODES_MAX {
            let details = format!("{} nodes, at most {NODES_MAX}", entries.len());
            return Err(invalid("too many nodes", details));
        }
        let nodes = entries.iter().map(|(id, node)| parse_node(id, node));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()? })
    }

    /// Reads a prompt from JSON text. Unlike [`Self::parse`] this also sees keys given twice.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the text is too long, not JSON, or has a key twice.
    pub fn from_slice(text: &[u8]) -> Result<Self, PromptError> {
        if text.len() > BYTES_MAX {
            let details = format!("{} bytes, at most {BYTES_MAX}", text.len());
            return Err(invalid("the prompt is too long", details));
        }
        let Unique(json) = serde_json::from_slice(text)
            .map_err(|error| invalid("the prompt is not JSON", error.to_string()))?;
        Self::parse(&json)
    }

    /// The nodes in the prompt's order.
    pub fn nodes(&self) -> &[PromptNode] {
        &self.nodes
    }

    /// A node by its id.
    pub fn node(&self, id: &str) -> Option<&PromptNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The same prompt with one input of one node given a constant: an edit from the console.
    ///
    /// # Errors
    /// When there is no such node, or the value is beyond a limit.
    pub fn with_input(&self, id: &str, input: &str, value: &Json) -> Result<Self, PromptError> {
        let mut changed = self.clone();
        let Some(node) = changed.nodes.iter_mut().find(|node| node.id == id) else {
            return Err(invalid("no such node", format!("Node ID '#{id}'")));
        };
        let given = parse_given(id, input, value)?;
        match node.inputs.iter_mut().find(|(name, _)| name == input) {
            Some((_, old)) => *old = given,
            None => node.inputs.push((input.to_owned(), given)),
        }
        Ok(changed)
    }

    /// The prompt in API format.
    pub fn to_json(&self) -> Json {
        let node = |node: &PromptNode| {
            let input = |(name, given): &(String, Given)| {
                let value = match given {
                    Given::Link { node, slot } => json!([node, slot]),
                    Given::Constant(value) => value.clone(),
                };
                (name.clone(), value)
            };
            let inputs: Map<String, Json> = node.inputs.iter().map(input).collect();
            let mut body = json!({ "class_type": node.class_type, "inputs": inputs });
            if let Some(title) = &node.title {
                body["_meta"] = json!({ "title": title });
            }
            (node.id.clone(), body)
        };
        Json::Object(self.nodes.iter().map(node).collect())
    }
}

fn parse_node(id: &str, node: &Json) -> Result<PromptNode, PromptError> {
    let at = || format!("Node ID '#{}'", shortened(id));
    if id.is_empty() || id.len() > NAME_MAX {
        return Err(invalid("a node's id has 1 to 128 bytes", at()));
    }
    let Some(body) = node.as_object() else {
        return Err(invalid("a node is an object with class_type and inputs", at()));
    };
    let class_type = match body.get("class_type") {
        Some(Json::String(name)) if name.len() <= NAME_MAX => name.clone(),
        Some(Json::String(_)) => return Err(invalid("the class name is too long", at())),
        _ => {
            let message = "Cannot execute because a node is missing the class_type property.";
            return Err(PromptError::whole(FaultKind::MissingNodeType, message, at()));
        }
    };
    let inputs = match body.get("inputs") {
        None => Vec::new(),
        Some(Json::Object(inputs)) if inputs.len() <= INPUTS_MAX => {
            let given =
                |(name, value): (&String, &Json)| Ok((name.clone(), parse_given(id, name, value)?));
            inputs.iter().map(given).collect::<Result<_, PromptError>>()?
        }
        Some(Json::Object(_)) => return Err(invalid("too many inputs", at())),
        Some(_) => return Err(invalid("inputs is an object", at())),
    };
    let title = body.get("_meta").and_then(|meta| meta.get("title")).and_then(Json::as_str);
    let title = title.map(|title| shortened(title).to_owned());
    Ok(PromptNode { id: id.to_owned(), class_type, title, inputs })
}

fn parse_given(id: &str, name: &str, value: &Json) -> Result<Given, PromptError> {
    let at = || format!("Node ID '#{id}', input '{}'", shortened(name));
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(invalid("an input's name has 1 to 128 bytes", at()));
    }
    // A pair of text and number is a link, nothing else is.
    if let Json::Array(pair) = value
        && let [Json::String(node), Json::Number(slot)] = pair.as_slice()
        && let Some(slot) = slot.as_u64()
        && node.len() <= NAME_MAX
    {
        return Ok(Given::Link { node: node.clone(), slot });
    }
    if !within(value, DEPTH_MAX, &mut { TEXT_MAX }) {
        return Err(invalid("the value is too long or too deep", at()));
    }
    Ok(Given::Constant(value.clone()))
}

/// Whether a value is at most `depth` deep and spends at most `budget` bytes of text and elements.
fn within(value: &Json, depth: usize, budget: &mut usize) -> bool {
    let cost = match value {
        Json::String(text) => text.len(),
        Json::Array(list) => list.len(),
        Json::Object(map) => map.keys().map(|key| key.len() + 1).sum(),
        _ => 0,
    };
    let Some(rest) = budget.checked_sub(cost) else { return false };
    *budget = rest;
    match value {
        Json::Array(list) => depth > 0 && list.iter().all(|v| within(v, depth - 1, budget)),
        Json::Object(map) => depth > 0 && map.values().all(|v| within(v, depth - 1, budget)),
        _ => true,
    }
}

fn invalid(message: &str, details: impl Into<String>) -> PromptError {
    PromptError::whole(FaultKind::InvalidPrompt, message, details)
}

/// At most [`NAME_MAX`] bytes of a text, for messages.
fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(NAME_MAX)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// JSON in which no object has a key twice.
struct Unique(Json);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated keys")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(Unique(value)) = list.next_element()? {
            out.push(value);
        }
        Ok(Json::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut out = Map::new();
        while let Some((key, Unique(value))) = map.next_entry::<String, Unique>()? {
            if out.contains_key(&key) {
                let key = shortened(&key);
                return Err(serde::de::Error::custom(format_args!("{key:?} is given twice")));
            }
            out.insert(key, value);
        }
        Ok(Json::Object(out))
    }
}
