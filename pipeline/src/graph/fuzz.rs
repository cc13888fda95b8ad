//! Prompts from outside, read, validated, compiled and run once on a small frame.

use super::{Limits, Prompt, Registry, compile_within};
use crate::frame::Size;

const LIMITS: Limits = Limits { picture_pixels: 4096, bytes: 1 << 20, compile_pixels: 16_384 };

/// Takes any bytes; must neither panic nor hang nor use more than the limits say.
pub(crate) fn prompt(bytes: &[u8]) {
    let Ok(prompt) = Prompt::from_slice(bytes) else { return };
    let again = Prompt::parse(&prompt.to_json());
    assert_eq!(again.as_ref(), Ok(&prompt), "a prompt written and read again is the same");
    match compile_within(&prompt, &Registry::host(), Size::new(34, 21), &LIMITS) {
        Ok(mut graph) => {
            let frame = crate::color::grey_frame(graph.input_size());
            let pts = frame.pts;
            if let Ok(out) = crate::stage::Stage::process(&mut graph, frame) {
                assert_eq!((out.pts, out.size), (pts, graph.output_size()));
            }
            drop(graph.summary());
        }
        Err(error) => drop((error.to_string(), error.to_json())),
    }
}

/// Prompts to start from.
pub(crate) const SEEDS: &[&[u8]] = &[
    br#"{"1":{"class_type":"LoadTensor","inputs":{}},"2":{"class_type":"SaveTensor","inputs":{"images":["1",0]}}}"#,
    br#"{"1":{"class_type":"LoadTensor","inputs":{}},"2":{"class_type":"Canny","inputs":{"image":["1",0],"low_threshold":0.1,"high_threshold":0.3}},"3":{"class_type":"ImageBlend","inputs":{"image1":["1",0],"image2":["2",0],"blend_factor":0.7,"blend_mode":"screen"}},"4":{"class_type":"MillstreamClock","inputs":{"image":["3",0],"corner":"top-left","size":0,"color":16777215,"opacity":1.0,"background":0.5}},"5":{"class_type":"SaveTensor","inputs":{"images":["4",0]}}}"#,
    br#"{"a":{"class_type":"EmptyImage","inputs":{"width":16,"height":9,"batch_size":1,"color":255}},"b":{"class_type":"ImageScale","inputs":{"image":["a",0],"upscale_method":"lanczos","width":0,"height":20,"crop":"center"}},"c":{"class_type":"SaveTensor","inputs":{"images":["b",0]}}}"#,
];
