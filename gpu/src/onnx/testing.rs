//! ONNX files written by hand for tests, and the library that `./x test` brings.

use std::path::{Path, PathBuf};

use super::runtime::Runtime;

/// The open library.
///
/// # Panics
/// When there is none: `./x test` always brings it.
pub(crate) fn runtime() -> Runtime {
    let named = std::env::var_os("MILLSTREAM_PIPELINE__ONNXRUNTIME").map(PathBuf::from);
    let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/onnxruntime");
    let path = named.unwrap_or(brought);
    Runtime::open(Some(&path)).unwrap_or_else(|error| {
        panic!("this test needs ONNX Runtime, which `./x test` brings: {error}")
    })
}

/// The models that come with the program.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that holds a message, text or packed numbers.
pub(crate) fn bytes_field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A field that holds a number.
pub(crate) fn number_field(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// A `NodeProto` with more fields.
pub(crate) fn node(kind: &str, inputs: &[&str], outputs: &[&str], more: &[u8]) -> Vec<u8> {
    let names = |number, names: &[&str]| -> Vec<u8> {
        names.iter().flat_map(|name| bytes_field(number, name.as_bytes())).collect()
    };
    [names(1, inputs), names(2, outputs), bytes_field(4, kind.as_bytes()), more.to_vec()].concat()
}

/// A file in the making: input `x`, output `y`, sides below 0 are open.
#[derive(Clone)]
pub(crate) struct File {
    graph: Vec<u8>,
    properties: Vec<u8>,
}

impl File {
    pub(crate) fn new(input: &[i64], output: &[i64]) -> Self {
        Self::typed(1, input, output)
    }

    /// With another element type of the input.
    pub(crate) fn typed(element: u64, input: &[i64], output: &[i64]) -> Self {
        let graph = bytes_field(2, b"test");
        Self { graph, properties: Vec::new() }.input("x", element, input).output("y", 1, output)
    }

    pub(crate) fn input(self, name: &str, element: u64, sides: &[i64]) -> Self {
        self.graph_field(bytes_field(11, &port(name, element, sides)))
    }

    pub(crate) fn output(self, name: &str, element: u64, sides: &[i64]) -> Self {
        self.graph_field(bytes_field(12, &port(name, element, sides)))
    }

    pub(crate) fn node(self, node: &[u8]) -> Self {
        self.graph_field(bytes_field(1, node))
    }

    /// A weight of `float32` in one row.
    pub(crate) fn weights(self, name: &str, values: &[f32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let sides = number_field(1, values.len() as u64);
        let name = bytes_field(8, name.as_bytes());
        let tensor = [sides, number_field(2, 1), name, bytes_field(9, &raw)].concat();
        self.graph_field(bytes_field(5, &tensor))
    }

    pub(crate) fn graph_field(mut self, field: Vec<u8>) -> Self {
        self.graph.extend(field);
        self
    }

    pub(crate) fn property(mut self, key: &str, value: &str) -> Self {
        let entry = [bytes_field(1, key.as_bytes()), bytes_field(2, value.as_bytes())].concat();
        self.properties.extend(bytes_field(14, &entry));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let opset = bytes_field(8, &number_field(2, 17));
        let graph = bytes_field(7, &self.graph);
        [number_field(1, 8), graph, opset, self.properties.clone()].concat()
    }
}

fn port(name: &str, element: u64, sides: &[i64]) -> Vec<u8> {
    let side = |(place, side): (usize, &i64)| match side {
        0.. => bytes_field(1, &number_field(1, *side as u64)),
        _ => bytes_field(1, &bytes_field(2, format!("{name}{place}").as_bytes())),
    };
    let sides: Vec<u8> = sides.iter().enumerate().flat_map(side).collect();
    let tensor = [number_field(1, element), bytes_field(2, &sides)].concat();
    let kind = bytes_field(2, &bytes_field(1, &tensor));
    [bytes_field(1, name.as_bytes()), kind].concat()
}
