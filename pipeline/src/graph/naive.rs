//! The slow way to run a graph, for tests: node by node, from fresh values, nothing shared.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::class::{Bound, Context, Form, Inputs, Known, Results};
use super::validate::{Binding, check};
use super::{BuildError, Image, Pool, Prompt, Registry, Shape, Value};
use crate::frame::Size;
use crate::time::Pts;

/// A copy that shares no samples.
fn fresh(value: &Value) -> Value {
    let copy = |samples: &[f32]| std::sync::Arc::new(samples.to_vec());
    match value {
        Value::Image(image) => {
            let planes = [0, 1, 2].map(|channel| copy(image.plane(channel)));
            Value::Image(Image::new(image.size(), planes).expect("same size"))
        }
        Value::Mask(mask) => {
            Value::Mask(super::Mask::new(mask.size(), copy(mask.plane())).expect("same size"))
        }
        other => other.clone(),
    }
}

/// Builds and runs one node; pictures and masks are given as if they came per frame.
fn node(
    registry: &Registry,
    class_type: &str,
    inputs: Vec<Option<Value>>,
    picture: &Image,
    pts: Pts,
) -> Result<(Vec<Value>, Option<Value>), BuildError> {
    let entry = registry.entry(class_type).expect("a known class");
    let class = entry.class.clone().expect("a class of this crate");
    let known = |value: &Option<Value>| {
        value.as_ref().map(|value| match value {
            Value::Image(_) | Value::Mask(_) => Known::Live { shape: Shape::of(value), slot: 0 },
            other => Known::Value(other.clone()),
        })
    };
    let bound: Vec<Option<Known>> = inputs.iter().map(known).collect();
    let bound = Bound { spec: &entry.spec, inputs: &bound, frame: picture.size() };
    let taken = |input: usize| inputs[input].as_ref().map(fresh).expect("given");
    Ok(match class.build(&bound)?.0 {
        Form::Same(input) => (vec![taken(input)], None),
        Form::Values(values) => (values, None),
        Form::Picture => (vec![fresh(&Value::Image(picture.clone()))], None),
        Form::Result(input) => (Vec::new(), Some(taken(input))),
        Form::Node { mut node, outputs: shapes, .. } => {
            let mut inputs: Vec<_> = inputs.iter().map(|i| i.as_ref().map(fresh)).collect();
            let mut outputs = Vec::new();
            let (pool, results) = (&mut Pool::new(), &mut Results::default());
            let mut context = Context { pts, node: "", pool, results };
            node.run(&mut context, &mut Inputs(&mut inputs), &mut outputs).expect("runs");
            assert!(outputs.iter().map(Shape::of).eq(shapes), "{class_type}");
            (outputs, None)
        }
    })
}

/// Runs one node on pictures, masks and constants by name.
pub(crate) fn apply(
    class_type: &str,
    values: &[(&str, Value)],
    constants: Json,
) -> Result<Vec<Value>, BuildError> {
    let registry = Registry::host();
    let spec = registry.spec(class_type).expect("a known class").clone();
    let inputs = spec.inputs.iter().map(|input| {
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == input.name) {
            return Some(value.clone());
        }
        let default = input.widget.default_value()?;
        Some(match (constants.get(&input.name).unwrap_or(&default), input.widget.kind().name()) {
            (value, "INT") => Value::Int(value.as_i64().expect("INT")),
            (value, "FLOAT") => Value::Float(value.as_f64().expect("FLOAT")),
            (value, "BOOLEAN") => Value::Bool(value.as_bool().expect("BOOLEAN")),
            (value, _) => Value::Text(value.as_str().expect("text").into()),
        })
    });
    let picture = Image::grey(Size::new(1, 1), std::sync::Arc::new(vec![0.0])).expect("1x1");
    Ok(node(&registry, class_type, inputs.collect(), &picture, Pts(0))?.0)
}

/// The picture that a prompt makes of `picture`.
pub(crate) fn evaluate(prompt: &Prompt, registry: &Registry, picture: &Image, pts: Pts) -> Image {
    let mut made: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    let mut result = None;
    for checked in check(prompt, registry).expect("a valid prompt") {
        let input = |binding: &Binding| match binding {
            Binding::Absent => None,
            Binding::Constant(value) => Some(value.clone()),
            Binding::Link { node, slot } => Some(made[node][*slot].clone()),
        };
        let inputs = checked.inputs.iter().map(input).collect();
        let (outputs, end) =
            node(registry, &checked.spec.name, inputs, picture, pts).expect("can be built");
        result = result.or(end);
        made.insert(checked.index, outputs);
    }
    match result {
        Some(Value::Image(image)) => image,
        other => panic!("no picture but {other:?}"),
    }
}
