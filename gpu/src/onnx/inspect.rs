//! Reads what must be known of an ONNX file before the library gets it.
//!
//! An ONNX file is a protobuf message. This walks it without copying, with bounds on depth and
//! counts, and stops at what is not run here: weights kept in other files (the file could name any
//! path of the host), tensors larger than a model may be, and graphs whose inputs and outputs are
//! not known. The library checks everything else.

use std::collections::HashSet;

use super::session::MODEL_BYTES_MAX;

/// Deepest nesting of graphs inside of nodes.
const DEPTH_MAX: u32 = 8;
/// Most nodes of a model, those of inner graphs included.
const NODES_MAX: u32 = 65_536;
/// Most inputs and most outputs that a graph may have.
const PORTS_MAX: usize = 64;
/// Highest rank that is read.
const RANK_MAX: usize = 8;

/// `TensorProto.DataType.FLOAT`.
pub(super) const FLOAT: u64 = 1;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: u64 = 1;

/// An input or output as the file declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    /// `TensorProto.DataType`, or 0 when it is no tensor.
    pub(super) element: u64,
    /// Each side; `None` where the file leaves it open. `None` altogether without a shape.
    pub(super) shape: Option<Vec<Option<u64>>>,
}

/// What a file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// `metadata_props`, in order.
    pub(super) properties: Vec<(String, String)>,
    nodes: u32,
    initializers: HashSet<String>,
}

impl Outline {
    /// Reads a file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut outline = Self::default();
        let mut graphs = 0;
        for field in Fields(bytes) {
            match field? {
                (7, Item::Bytes(graph)) => {
                    graphs += 1;
                    outline.graph(graph, 0)?;
                }
                (14, Item::Bytes(entry)) if outline.properties.len() < PORTS_MAX => {
                    outline.properties.push((text(entry, 1)?, text(entry, 2)?));
                }
                (25, Item::Bytes(function)) => {
                    for field in Fields(function) {
                        if let (7, Item::Bytes(node)) = field? {
                            outline.node(node, 1)?;
                        }
                    }
                }
                _ => {}
            }
        }
        if graphs != 1 {
            return Err("it is not an ONNX model".into());
        }
        // Old files list their weights among the inputs.
        let weights = std::mem::take(&mut outline.initializers);
        outline.inputs.retain(|input| !weights.contains(&input.name));
        Ok(outline)
    }

    /// The value of a property.
    pub(super) fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn graph(&mut self, bytes: &[u8], depth: u32) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("its graphs are nested more than {DEPTH_MAX} deep"));
        }
        for field in Fields(bytes) {
            match field? {
                (1, Item::Bytes(node)) => self.node(node, depth)?,
                (5, Item::Bytes(weights)) => {
                    let name = tensor(weights)?;
                    // Only names that an input may have matter.
                    if depth == 0 && self.initializers.len() < NODES_MAX as usize {
                        self.initializers.insert(name);
                    }
                }
                (15, Item::Bytes(sparse)) => {
                    for field in Fields(sparse) {
                        if let (1 | 2, Item::Bytes(part)) = field? {
                            tensor(part)?;
                        }
                    }
                }
                (11, Item::Bytes(port)) if depth == 0 => admit(&mut self.inputs, port, NODES_MAX)?,
                (12, Item::Bytes(port)) if depth == 0 => {
                    admit(&mut self.outputs, port, PORTS_MAX as u32)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, bytes: &[u8], depth: u32) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(format!("it has more than {NODES_MAX} nodes"));
        }
        for field in Fields(bytes) {
            let (5, Item::Bytes(attribute)) = field? else { continue };
            for field in Fields(attribute) {
                match field? {
                    (5 | 10, Item::Bytes(part)) => {
                        tensor(part)?;
                    }
                    (6 | 11, Item::Bytes(inner)) => self.graph(inner, depth + 1)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn admit(ports: &mut Vec<Port>, bytes: &[u8], most: u32) -> Result<(), String> {
    if ports.len() >= most as usize {
        return Err("it has too many inputs or outputs".into());
    }
    ports.push(port(bytes)?);
    Ok(())
}

/// A `ValueInfoProto`.
fn port(bytes: &[u8]) -> Result<Port, String> {
    let mut port = Port { name: text(bytes, 1)?, ..Port::default() };
    let Some(kind) = message(bytes, 2)? else { return Ok(port) };
    let Some(tensor) = message(kind, 1)? else { return Ok(port) };
    for field in Fields(tensor) {
        match field? {
            (1, Item::Number(element)) => port.element = element,
            (2, Item::Bytes(sides)) => {
                let mut shape = Vec::new();
                for field in Fields(sides) {
                    let (1, Item::Bytes(side)) = field? else { continue };
                    if shape.len() == RANK_MAX {
                        return Err(format!("{} has more than {RANK_MAX} sides", port.name));
                    }
                    shape.push(number(side, 1)?.filter(|side| *side > 0));
                }
                port.shape = Some(shape);
            }
            _ => {}
        }
    }
    Ok(port)
}

/// A `TensorProto`: its name, if it may be loaded.
fn tensor(bytes: &[u8]) -> Result<String, String> {
    let mut elements: u64 = 1;
    let mut name = "";
    for field in Fields(bytes) {
        match field? {
            (1, Item::Number(side)) => elements = elements.saturating_mul(side),
            (1, Item::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    elements = elements.saturating_mul(varint(&mut packed)?);
                }
            }
            (8, Item::Bytes(text)) => name = std::str::from_utf8(text).unwrap_or_default(),
            (13, Item::Bytes(_)) | (14, Item::Number(EXTERNAL)) => {
                return Err("it keeps weights in another file".into());
            }
            _ => {}
        }
    }
    // Four bits are the smallest element there is.
    if elements / 2 > MODEL_BYTES_MAX {
        return Err(format!("its tensor {name:?} has {elements} elements"));
    }
    Ok(name.chars().take(256).collect())
}

fn message(bytes: &[u8], wanted: u64) -> Result<Option<&[u8]>, String> {
    for field in Fields(bytes) {
        if let (number, Item::Bytes(inner)) = field?
            && number == wanted
        {
            return Ok(Some(inner));
        }
    }
    Ok(None)
}

fn number(bytes: &[u8], wanted: u64) -> Result<Option<u64>, String> {
    for field in Fields(bytes) {
        if let (number, Item::Number(value)) = field?
            && number == wanted
        {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn text(bytes: &[u8], wanted: u64) -> Result<String, String> {
    let inner = message(bytes, wanted)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(inner).chars().take(256).collect())
}

/// The value of a field.
enum Item<'a> {
    /// A varint, or a fixed number that nothing here reads.
    Number(u64),
    /// A message, a text, or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message: number and value. After an error nothing follows.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Item<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Item<'a>), String> {
        let key = varint(&mut self.0)?;
        let item = match key & 7 {
            0 => Item::Number(varint(&mut self.0)?),
            1 => self.fixed(8)?,
            2 => {
                let length = varint(&mut self.0)?;
                Item::Bytes(self.take(length)?)
            }
            5 => self.fixed(4)?,
            _ => return Err(CUT.into()),
        };
        Ok((key >> 3, item))
    }

    fn fixed(&mut self, length: u64) -> Result<Item<'a>, String> {
        self.take(length)?;
        Ok(Item::Number(0))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let length = usize::try_from(length).map_err(|_| CUT)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }
}

const CUT: &str = "it is not an ONNX model, or cut off";

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(CUT)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(CUT.into())
}

/// Any bytes are read or refused.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(outline) = Outline::read(bytes) {
        assert!(outline.nodes <= NODES_MAX && outline.outputs.len() <= PORTS_MAX);
        let _ = super::session::Signature::of(&outline);
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::{Channels, Signature};
    use super::super::testing::{File, bytes_field, node, number_field};
    use super::*;

    fn refused(file: &File) -> String {
        Signature::read(&file.bytes()).expect_err("a refusal")
    }

    #[test]
    fn a_picture_model_is_read_with_its_open_sides_and_its_multiple() {
        let file = File::new(&[1, 3, -1, 16], &[1, 3, -1, -1]).property("millstream.multiple", "8");
        let signature = Signature::read(&file.bytes()).unwrap();
        assert_eq!((signature.input.as_str(), signature.output.as_str()), ("x", "y"));
        assert_eq!(signature.channels, Channels::Rgb);
        assert_eq!((signature.fixed, signature.multiple), ((Some(16), None), 8));
    }

    #[test]
    fn weights_that_old_files_list_as_inputs_are_none() {
        let file = File::new(&[1, 1, 8, 8], &[1, 1, 8, 8]).input("w", 1, &[4]);
        assert!(refused(&file).contains("2 inputs"));
        let file = file.graph_field(bytes_field(5, &bytes_field(8, b"w")));
        Signature::read(&file.bytes()).unwrap();
    }

    #[test]
    fn what_is_no_picture_model_is_refused_in_words() {
        let picture = [1, 3, -1, -1];
        for (file, words) in [
            (File::new(&[1, 3, 8], &picture), "has 3 sides, not 4"),
            (File::new(&[2, 3, 8, 8], &picture), "batch"),
            (File::new(&[1, 4, 8, 8], &picture), "4 channels"),
            (File::new(&[1, -1, 8, 8], &picture), "leaves the number of channels open"),
            (File::new(&[1, 1, 8, 8], &picture), "different numbers of channels"),
            (File::new(&[1, 3, 1 << 40, 8], &picture), "has a side of 1099511627776"),
            (File::new(&picture, &picture).output("z", 1, &picture), "2 outputs"),
            (File::typed(10, &picture, &picture), "not float32"),
            (File::new(&picture, &picture).property("millstream.multiple", "0"), "not 1 to 256"),
        ] {
            let refusal = refused(&file);
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn weights_in_other_files_and_huge_tensors_are_refused_wherever_they_hide() {
        let picture = [1, 3, 8, 8];
        let elsewhere = bytes_field(13, b"");
        let huge = [number_field(1, 1 << 20), number_field(1, 1 << 20)].concat();
        for (tensor, words) in [(elsewhere, "another file"), (huge, "1099511627776 elements")] {
            let constant = node("Constant", &[], &["c"], &bytes_field(5, &bytes_field(5, &tensor)));
            let inner = bytes_field(5, &bytes_field(6, &bytes_field(1, &constant)));
            for field in [
                bytes_field(5, &tensor),
                bytes_field(1, &constant),
                bytes_field(1, &node("If", &["x"], &["y"], &inner)),
                bytes_field(15, &bytes_field(1, &tensor)),
            ] {
                let refusal = refused(&File::new(&picture, &picture).graph_field(field));
                assert!(refusal.contains(words), "{refusal}");
            }
        }
    }

    #[test]
    fn graphs_nested_too_deep_are_refused() {
        let mut graph = Vec::new();
        for _ in 0..200 {
            graph = bytes_field(1, &bytes_field(5, &bytes_field(6, &graph)));
        }
        let file = File::new(&[1, 1, 8, 8], &[1, 1, 8, 8]).graph_field(graph);
        assert!(refused(&file).contains("nested"));
    }

    #[test]
    fn no_cut_or_changed_file_brings_the_reader_down() {
        let file = File::new(&[1, 3, -1, 16], &[1, 3, -1, -1]).property("millstream.multiple", "8");
        let bytes = file.bytes();
        for end in 0..bytes.len() {
            fuzz(&bytes[..end]);
            for change in [1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[end] ^= change;
                fuzz(&changed);
            }
        }
    }

    #[test]
    fn the_fuzz_seed_is_a_model() {
        for target in crate::fuzz::TARGETS {
            for seed in target.seeds {
                Signature::read(seed).unwrap();
            }
        }
    }
}
