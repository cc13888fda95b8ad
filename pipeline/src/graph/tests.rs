//! The engine as its users see it: prompts in, frames through, refusals that name the place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::color::{Converter, grey_frame};
use crate::frame::{Color, Frame, HostPlanes, Matrix, PixelFormat, Size, Surface};
use crate::stage::{Stage, StageError};
use crate::time::Pts;

const SIZE: Size = Size::new(34, 22);

/// A frame whose samples are all over the place.
fn frame(size: Size, ms: i64) -> Frame {
    let (width, height) = (size.width as usize, size.height as usize);
    let (half, rows) = (width.div_ceil(2), height.div_ceil(2));
    let bytes = (0..width * height + 2 * half * rows).map(|n| (n * n * 31 + n * 7) as u8);
    let plane = |offset, row_bytes, rows| crate::frame::Plane {
        offset,
        stride: row_bytes,
        row_bytes,
        rows,
    };
    let planes = vec![
        plane(0, width, height),
        plane(width * height, half, rows),
        plane(width * height + half * rows, half, rows),
    ];
    let planes = HostPlanes::new(Arc::new(bytes.collect::<Vec<u8>>()), planes).unwrap();
    let color = Color { matrix: Matrix::Bt709, full_range: true };
    Frame { pts: Pts::from_millis(ms), color, surface: Surface::Host(planes), ..grey_frame(size) }
}

fn host(frame: &Frame) -> &HostPlanes {
    match &frame.surface {
        Surface::Host(planes) => planes,
        Surface::Device(_) => panic!("a host frame"),
    }
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let planes = host(frame);
    let rows =
        |plane: usize| (0..planes.plane(plane).rows).flat_map(move |row| planes.row(plane, row));
    (0..planes.planes().len()).flat_map(rows).copied().collect()
}

fn parse(json: &Json) -> Prompt {
    Prompt::parse(json).unwrap()
}

fn compiled(json: &Json) -> Graph {
    compile(&parse(json), &Registry::host(), SIZE).unwrap()
}

fn refused(json: &Json) -> PromptError {
    match Prompt::parse(json) {
        Err(error) => error,
        Ok(prompt) => compile(&prompt, &Registry::host(), SIZE).expect_err("a refusal"),
    }
}

/// LoadTensor "in", the nodes given, and a SaveTensor "out" of node `last`.
fn around(nodes: Json, last: &str) -> Json {
    let mut prompt = nodes;
    prompt["in"] = json!({ "class_type": "LoadTensor", "inputs": {} });
    prompt["out"] = json!({ "class_type": "SaveTensor", "inputs": { "images": [last, 0] } });
    prompt
}

#[test]
fn a_pass_through_graph_returns_the_very_frame() {
    let same_size = json!({ "a": { "class_type": "ImageScale", "inputs": {
        "image": ["in", 0], "upscale_method": "bilinear", "width": 34, "height": 0, "crop": "center",
    } } });
    for prompt in [passthrough_prompt(), around(same_size, "a")] {
        let mut graph = compiled(&prompt);
        assert!(graph.is_passthrough());
        let input = frame(SIZE, 40);
        let output = graph.process(input.clone()).unwrap();
        assert!(Arc::ptr_eq(host(&input).memory(), host(&output).memory()));
        assert_eq!((output.pts, output.arrived), (input.pts, input.arrived));
    }
}

#[test]
fn each_frame_in_gives_one_out_with_its_own_time_and_colour() {
    let mut graph = compiled(&default_prompt());
    assert!(!graph.is_passthrough());
    for ms in [0, 33, 66, 1_000_000, 5] {
        let input = frame(SIZE, ms);
        let output = graph.process(input.clone()).unwrap();
        assert_eq!(output.pts, input.pts);
        assert_eq!(output.arrived, input.arrived);
        assert_eq!((output.size, output.format, output.color), (SIZE, input.format, input.color));
        assert_ne!(bytes(&output), bytes(&input));
    }
}

#[test]
fn the_same_frame_gives_the_same_bytes_whenever_it_comes() {
    // Wide enough for the whole clock.
    let size = Size::new(160, 90);
    let graph = || compile(&parse(&default_prompt()), &Registry::host(), size).unwrap();
    let mut running = graph();
    let first = bytes(&running.process(frame(size, 500)).unwrap());
    for ms in [533, 12, 99] {
        let moved = bytes(&running.process(frame(size, ms)).unwrap()) != first;
        assert!(moved, "the clock shows {ms} as 500");
    }
    assert!(bytes(&running.process(frame(size, 500)).unwrap()) == first);
    assert!(bytes(&graph().process(frame(size, 500)).unwrap()) == first);
}

#[test]
fn a_running_graph_takes_no_new_planes_and_reuses_the_bytes_of_frames() {
    let mut graph = compiled(&default_prompt());
    drop(graph.process(frame(SIZE, 0)).unwrap());
    let planes = graph.free_planes();
    let mut places = Vec::new();
    for ms in 1..6 {
        let output = graph.process(frame(SIZE, ms)).unwrap();
        places.push(host(&output).memory().bytes().as_ptr());
        assert_eq!(graph.free_planes(), planes);
    }
    assert!(places.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_frame_of_another_size_is_refused_and_the_graph_goes_on() {
    let mut graph = compiled(&default_prompt());
    let error = graph.process(frame(Size::new(64, 48), 1)).unwrap_err();
    assert!(matches!(error, StageError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("64x48"), "{error}");
    assert!(graph.process(frame(SIZE, 2)).is_ok());
}

#[test]
fn the_output_has_the_size_that_the_graph_says() {
    let nodes = json!({
        "size": { "class_type": "GetImageSize", "inputs": { "image": ["in", 0] } },
        "a": { "class_type": "ImageScale", "inputs": {
            "image": ["in", 0], "upscale_method": "area",
            // Sides swapped, through links that are known before the first frame.
            "width": ["size", 1], "height": ["size", 0], "crop": "disabled",
        } },
    });
    let mut graph = compiled(&around(nodes, "a"));
    assert_eq!(graph.output_size(), Size::new(22, 34));
    assert_eq!(graph.process(frame(SIZE, 1)).unwrap().size, Size::new(22, 34));
}

#[test]
fn every_fault_is_named_as_comfyui_names_it() {
    let blur =
        |inputs: Json| around(json!({ "a": { "class_type": "ImageBlur", "inputs": inputs } }), "a");
    let full = |key: &str, value: Json| {
        let mut inputs = json!({ "image": ["in", 0], "blur_radius": 3, "sigma": 1.0 });
        inputs[key] = value;
        blur(inputs)
    };
    let table = [
        (
            blur(json!({ "image": ["in", 0], "sigma": 1.0 })),
            "required_input_missing",
            "blur_radius",
        ),
        (full("image", json!(["nobody", 0])), "bad_linked_input", "image"),
        (full("image", json!(["in", 7])), "bad_linked_input", "image"),
        (full("image", json!(["in", 0, 0])), "bad_linked_input", "image"),
        (full("image", json!("cat.png")), "bad_linked_input", "image"),
        (full("sigma", json!(["in", 0])), "return_type_mismatch", "sigma"),
        (full("blur_radius", json!(0)), "value_smaller_than_min", "blur_radius"),
        (full("blur_radius", json!(32)), "value_bigger_than_max", "blur_radius"),
        (full("sigma", json!(0.05)), "value_smaller_than_min", "sigma"),
        (full("sigma", json!(1e300)), "value_bigger_than_max", "sigma"),
        (full("blur_radius", json!("many")), "invalid_input_type", "blur_radius"),
        (full("blur_radius", json!({ "of": 1 })), "invalid_input_type", "blur_radius"),
        (full("blur_radius", json!(1e30)), "invalid_input_type", "blur_radius"),
        (full("sigma", json!("nan")), "invalid_input_type", "sigma"),
        (full("sigma", json!(null)), "invalid_input_type", "sigma"),
        (
            around(
                json!({ "a": { "class_type": "ImageFlip",
                "inputs": { "image": ["in", 0], "flip_method": "z-axis" } } }),
                "a",
            ),
            "value_not_in_list",
            "flip_method",
        ),
        (
            around(
                json!({ "a": { "class_type": "Canny",
                "inputs": { "image": ["in", 0], "low_threshold": 0.9, "high_threshold": 0.2 } } }),
                "a",
            ),
            "custom_validation_failed",
            "low_threshold",
        ),
    ];
    for (prompt, kind, input) in table {
        let error = refused(&prompt);
        let answer = error.to_json();
        assert_eq!(answer["error"]["type"], "prompt_outputs_failed_validation", "{answer}");
        let node = &answer["node_errors"]["a"];
        let fault = &node["errors"][0];
        assert_eq!(fault["type"], kind, "{answer}");
        assert_eq!(fault["extra_info"]["input_name"], input, "{answer}");
        assert!(fault["message"].is_string() && fault["details"].is_string());
        assert_eq!(node["dependent_outputs"], json!(["out"]));
        let text = error.to_string();
        assert!(text.contains("node a (") && text.contains(input), "{text}");
    }
    let sound = [("blur_radius", json!("12")), ("blur_radius", json!(2.9)), ("sigma", json!(2))];
    for (key, value) in sound {
        assert!(
            Prompt::parse(&full(key, value)).is_ok_and(|p| validate(&p, &Registry::host()).is_ok())
        );
    }
}

#[test]
fn whole_prompts_are_refused_for_what_they_are() {
    let table = [
        (json!([]), "invalid_prompt", "object"),
        (json!({}), "prompt_no_outputs", "no outputs"),
        (
            json!({ "1": { "class_type": "LoadTensor", "inputs": {} } }),
            "prompt_no_outputs",
            "no outputs",
        ),
        (json!({ "nodes": [], "links": [] }), "invalid_prompt", "API format"),
        (json!({ "1": { "inputs": {} } }), "missing_node_type", "#1"),
        (json!({ "1": { "class_type": "Cany", "inputs": {} } }), "missing_node_type", "Canny?"),
        (json!({ "1": 5 }), "invalid_prompt", "#1"),
        (json!({ "1": { "class_type": "Canny", "inputs": [] } }), "invalid_prompt", "#1"),
        (json!({ "": { "class_type": "Canny" } }), "invalid_prompt", "id"),
        (json!({ "1": { "class_type": "x".repeat(129) } }), "invalid_prompt", "#1"),
        (
            json!({ "1": { "class_type": "MillstreamText", "inputs": { "text": "x".repeat(4097) } } }),
            "invalid_prompt",
            "'text'",
        ),
        (
            json!({ "1": { "class_type": "Canny", "inputs": { "image": [[[[[[[[[[1]]]]]]]]]] } } }),
            "invalid_prompt",
            "'image'",
        ),
    ];
    for (prompt, kind, word) in table {
        let error = refused(&prompt);
        assert_eq!(error.to_json()["error"]["type"], kind, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let node = |n: usize| (n.to_string(), json!({ "class_type": "LoadTensor" }));
    let many = Json::Object((0..=NODES_MAX).map(node).collect());
    assert!(refused(&many).to_string().contains("257 nodes"));
}

#[test]
fn text_is_read_with_care() {
    let twice = br#"{"1":{"class_type":"A","inputs":{"x":1,"x":2}}}"#;
    let error = Prompt::from_slice(twice).unwrap_err();
    assert!(error.to_string().contains("\"x\" is given twice"), "{error}");
    assert!(Prompt::from_slice(b"{").is_err());
    assert!(
        Prompt::from_slice(&vec![b' '; BYTES_MAX + 1]).unwrap_err().to_string().contains("long")
    );
    assert!(Prompt::from_slice("[".repeat(100_000).as_bytes()).is_err());
    let text = default_prompt().to_string();
    let prompt = Prompt::from_slice(text.as_bytes()).unwrap();
    assert_eq!(prompt.to_json(), default_prompt());
}

#[test]
fn a_node_that_feeds_itself_is_refused() {
    let invert = |of: &str| json!({ "class_type": "ImageInvert", "inputs": { "image": [of, 0] } });
    for nodes in [
        json!({ "a": invert("a") }),
        json!({ "a": invert("b"), "b": invert("c"), "c": invert("a") }),
    ] {
        let error = refused(&around(nodes, "a"));
        assert_eq!(error.nodes[0].errors[0].kind, FaultKind::DependencyCycle, "{error}");
    }
    // What no output needs may be as broken as it likes, as in ComfyUI.
    assert!(!compiled(&around(json!({ "a": invert("a") }), "in")).summary()["nodes"].is_null());
}

#[test]
fn what_would_cost_too_much_is_refused_before_it_is_made() {
    let empty = |side: u32| {
        let inputs = json!({ "width": side, "height": side, "batch_size": 1, "color": 0 });
        json!({ "class_type": "EmptyImage", "inputs": inputs })
    };
    let scale = |of: &str, by: f64| {
        let inputs = json!({ "image": [of, 0], "upscale_method": "nearest-exact", "scale_by": by });
        json!({ "class_type": "ImageScaleBy", "inputs": inputs })
    };
    let mut many = json!({});
    for n in 0..200 {
        many[format!("n{n}")] =
            scale(&if n == 0 { "in".into() } else { format!("n{}", n - 1) }, 8.0);
    }
    let too_much = [
        around(json!({ "a": empty(16_384) }), "a"),
        around(json!({ "a": empty(8192) }), "a"),
        around(many, "n199"),
    ];
    for prompt in too_much {
        let error = refused(&prompt);
        assert_eq!(error.nodes[0].errors[0].kind, FaultKind::CustomValidationFailed, "{error}");
    }
    let limits = Limits { bytes: 100 * 1024, ..Limits::default() };
    let prompt = parse(&around(json!({ "a": scale("in", 4.0), "b": scale("a", 0.25) }), "b"));
    let error = compile_within(&prompt, &Registry::host(), SIZE, &limits).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    assert!(compile(&prompt, &Registry::host(), SIZE).is_ok());
    assert!(compile(&prompt, &Registry::host(), Size::new(0, 5)).is_err());
}

#[test]
fn two_results_are_refused() {
    let mut prompt = passthrough_prompt();
    prompt["3"] = json!({ "class_type": "SaveTensor", "inputs": { "images": ["1", 0] } });
    // Equal nodes are one, so these two agree.
    assert!(compile(&parse(&prompt), &Registry::host(), SIZE).is_ok());
    prompt["4"] = json!({ "class_type": "ImageInvert", "inputs": { "image": ["1", 0] } });
    prompt["3"]["inputs"]["images"] = json!(["4", 0]);
    assert!(refused(&prompt).to_string().contains("result already"));
}

#[test]
fn object_info_describes_enough_to_validate_elsewhere() {
    let registry = Registry::host();
    let info = registry.object_info();
    let canny = &info["Canny"];
    assert_eq!(canny["input"]["required"]["image"], json!(["IMAGE", {}]));
    let low = &canny["input"]["required"]["low_threshold"];
    assert_eq!(low[0], "FLOAT");
    assert_eq!(
        (&low[1]["default"], &low[1]["min"], &low[1]["max"]),
        (&json!(0.4), &json!(0.01), &json!(0.99))
    );
    assert_eq!(
        canny["input_order"]["required"],
        json!(["image", "low_threshold", "high_threshold"])
    );
    assert_eq!((&canny["output"], &canny["output_is_list"]), (&json!(["IMAGE"]), &json!([false])));
    assert_eq!(info["SaveTensor"]["output_node"], true);
    assert_eq!(info["LoadTensor"]["input_order"]["optional"], json!(["timeout_seconds"]));
    let modes = &info["ImageBlend"]["input"]["required"]["blend_mode"];
    assert_eq!(modes[0].as_array().map(Vec::len), Some(6));

    let elsewhere = Registry::described(&info);
    for name in registry.names() {
        assert_eq!(elsewhere.spec(name), registry.spec(name));
    }
    let prompt = parse(&default_prompt());
    assert!(validate(&prompt, &elsewhere).is_ok());
    let wrong = prompt.with_input("3", "blend_mode", &json!("burn")).unwrap();
    assert_eq!(validate(&wrong, &elsewhere), validate(&wrong, &registry));
    assert!(validate(&wrong, &elsewhere).is_err());
    assert!(compile(&prompt, &elsewhere, SIZE).is_err());
    let combo = json!({ "X": { "input": { "required": { "m": ["COMBO", { "options": ["a", "b"] }] } },
        "output": ["IMAGE"] } });
    let spec = Registry::described(&combo).spec("X").unwrap().clone();
    assert!(matches!(&spec.inputs[0].widget, Widget::Combo { options, .. } if options.len() == 2));
}

#[test]
fn an_edit_changes_one_input_and_the_summary_shows_it() {
    let prompt = parse(&default_prompt());
    let edited = prompt.with_input("3", "blend_factor", &json!(0.25)).unwrap();
    let summary = compile(&edited, &Registry::host(), SIZE).unwrap().summary();
    let blend = &summary["nodes"][2];
    assert_eq!((&blend["id"], &blend["class_type"]), (&json!("3"), &json!("ImageBlend")));
    assert_eq!(blend["runs"], "per frame");
    let input = &blend["inputs"][2];
    assert_eq!(
        (&input["name"], &input["value"], &input["editable"]),
        (&json!("blend_factor"), &json!(0.25), &json!(true))
    );
    assert_eq!(blend["inputs"][0]["link"], json!(["1", 0]));
    assert_eq!(summary["output_size"], json!([34, 22]));
    assert!(prompt.with_input("99", "x", &json!(1)).is_err());
}

/// Counts how often it runs, and fails when told to.
struct Counting {
    runs: Arc<AtomicUsize>,
    fail: bool,
}

impl NodeClass for Counting {
    fn spec(&self) -> NodeSpec {
        let tag = InputSpec::int("tag", 0, 0, 9);
        NodeSpec::new("Counting", "", "")
            .input(InputSpec::image("image"))
            .input(tag)
            .output(Kind::Image)
    }

    fn build(&self, inputs: &Bound<'_>) -> Result<Built, BuildError> {
        let node = Counting { runs: self.runs.clone(), fail: self.fail };
        Ok(Built::node(node, [inputs.shape("image")?]))
    }
}

impl Node for Counting {
    fn run(
        &mut self,
        _: &mut Context<'_>,
        inputs: &mut Inputs<'_>,
        outputs: &mut Vec<Value>,
    ) -> Result<(), NodeError> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        if self.fail && run % 2 == 1 {
            return Err(NodeError::new("out of luck"));
        }
        outputs.push(Value::Image(inputs.take_image(0)?));
        Ok(())
    }
}

#[test]
fn constant_nodes_run_once_and_equal_nodes_are_one() {
    let runs = Arc::new(AtomicUsize::new(0));
    let mut registry = Registry::host();
    registry.register(Arc::new(Counting { runs: runs.clone(), fail: false }));
    let counting = |of: &str, tag: u32| json!({ "class_type": "Counting", "inputs": { "image": [of, 0], "tag": tag } });
    let blend = |a: &str, b: &str| {
        let mode = json!({ "image1": [a, 0], "image2": [b, 0], "blend_factor": 0.5, "blend_mode": "normal" });
        json!({ "class_type": "ImageBlend", "inputs": mode })
    };
    let still = json!({ "width": 8, "height": 8, "batch_size": 1, "color": 7 });
    let nodes = json!({
        "still": { "class_type": "EmptyImage", "inputs": still },
        "once": counting("still", 0),
        "live1": counting("in", 1), "live2": counting("in", 1), "live3": counting("in", 2),
        "b1": blend("live1", "live2"), "b2": blend("b1", "live3"), "b3": blend("b2", "once"),
    });
    let mut graph = compile(&parse(&around(nodes, "b3")), &registry, SIZE).unwrap();
    assert_eq!(runs.swap(0, Ordering::Relaxed), 1, "while compiling");
    for ms in 0..5 {
        graph.process(frame(SIZE, ms)).unwrap();
    }
    assert_eq!(runs.load(Ordering::Relaxed), 10, "two different nodes on five frames");
    let summary = graph.summary();
    let runs_of = |id: &str| {
        let nodes = summary["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["id"] == id).map(|node| node["runs"].clone())
    };
    assert_eq!(runs_of("once"), Some(json!("once")));
    assert_eq!(runs_of("live2"), Some(json!("per frame")));
}

#[test]
fn a_node_that_fails_is_named_and_the_next_frame_goes_through() {
    let mut registry = Registry::host();
    registry.register(Arc::new(Counting { runs: Arc::default(), fail: true }));
    let nodes = json!({
        "edges": { "class_type": "Canny", "inputs":
            { "image": ["in", 0], "low_threshold": 0.1, "high_threshold": 0.2 } },
        "shaky": { "class_type": "Counting", "inputs": { "image": ["edges", 0], "tag": 0 } },
    });
    let mut graph = compile(&parse(&around(nodes, "shaky")), &registry, SIZE).unwrap();
    let first = bytes(&graph.process(frame(SIZE, 0)).unwrap());
    let planes = graph.free_planes();
    let error = graph.process(frame(SIZE, 1)).unwrap_err().to_string();
    assert!(error.contains("node shaky (Counting): out of luck"), "{error}");
    assert_eq!(graph.free_planes(), planes, "nothing of the frame is left behind");
    assert_eq!(bytes(&graph.process(frame(SIZE, 2)).unwrap()), first);
}

#[test]
fn timings_are_counted_while_they_are_on() {
    let mut graph = compiled(&default_prompt());
    graph.process(frame(SIZE, 0)).unwrap();
    assert!(graph.timings().is_empty());
    graph.set_timing(true);
    for ms in 0..3 {
        graph.process(frame(SIZE, ms)).unwrap();
    }
    let timings = graph.timings();
    let names: Vec<&str> = timings.iter().map(|timing| timing.class_type.as_str()).collect();
    assert_eq!(names, ["Canny", "ImageBlend", "MillstreamClock", "convert"]);
    assert!(timings.iter().all(|timing| timing.frames == 3));
}

/// A node over one or two of the nodes before it.
fn random_node() -> impl Strategy<Value = (usize, usize, usize, u32)> {
    (0..13_usize, any::<usize>(), any::<usize>(), any::<u32>())
}

/// Nodes 0 and 1 are the frame and a still picture; each next one reads earlier ones.
fn random_prompt(nodes: &[(usize, usize, usize, u32)]) -> Json {
    let still = json!({ "width": 9, "height": 14, "batch_size": 1, "color": 0x80_4020 });
    let mut prompt = json!({
        "0": { "class_type": "LoadTensor", "inputs": {} },
        "1": { "class_type": "EmptyImage", "inputs": still },
    });
    for (n, (class, first, second, x)) in nodes.iter().enumerate() {
        let own = n + 2;
        let link = |of: usize| json!([(of % own).to_string(), 0]);
        let (a, b, x) = (link(*first), link(*second), *x);
        let pick = |options: &[&'static str]| options[x as usize % options.len()];
        let (class_type, inputs) = match class {
            0 => ("ImageInvert", json!({ "image": a })),
            1 => ("ImageBlur", json!({ "image": a, "blur_radius": 1 + x % 6, "sigma": 0.7 })),
            2 => (
                "ImageSharpen",
                json!({ "image": a, "sharpen_radius": 1 + x % 3, "sigma": 1, "alpha": 0.4 }),
            ),
            3..=5 => (
                "ImageBlend",
                json!({ "image1": a, "image2": b, "blend_factor": 0.6,
                "blend_mode": pick(&["normal", "multiply", "screen", "overlay", "soft_light", "difference"]) }),
            ),
            6 => ("Canny", json!({ "image": a, "low_threshold": 0.1, "high_threshold": 0.3 })),
            7 => (
                "ImageFlip",
                json!({ "image": a, "flip_method": pick(&["x-axis: vertically", "y-axis: horizontally"]) }),
            ),
            8 => (
                "ImageRotate",
                json!({ "image": a, "rotation": pick(&["none", "90 degrees", "180 degrees", "270 degrees"]) }),
            ),
            9 => (
                "ImageCrop",
                json!({ "image": a, "width": 5 + x % 40, "height": 3 + x % 30, "x": x % 9, "y": x % 5 }),
            ),
            10 => (
                "ImageScale",
                json!({ "image": a, "width": x % 40, "height": 11, "crop": "center",
                "upscale_method": pick(&["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]) }),
            ),
            11 => (
                "MillstreamClock",
                json!({ "image": a, "corner": "bottom-right", "size": 0, "color": 65280, "opacity": 0.8, "background": 0.5 }),
            ),
            _ => (
                "ImageCompositeMasked",
                json!({ "destination": a, "source": b, "x": x % 20, "y": 2, "resize_source": x % 2 == 0 }),
            ),
        };
        prompt[own.to_string()] = json!({ "class_type": class_type, "inputs": inputs });
    }
    let last = (nodes.len() + 1).to_string();
    prompt["out"] = json!({ "class_type": "SaveTensor", "inputs": { "images": [last, 0] } });
    prompt
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_compiled_graph_does_what_its_nodes_do_one_by_one(
        nodes in prop::collection::vec(random_node(), 1..12),
    ) {
        let prompt = parse(&random_prompt(&nodes));
        let registry = Registry::host();
        let mut graph = compile(&prompt, &registry, SIZE).expect("a sound prompt");
        let mut planes = 0;
        for (round, ms) in [70, 45_296_789, 70].into_iter().enumerate() {
            let input = frame(SIZE, ms);
            let mut converter = Converter::new();
            let picture = converter
                .to_image(host(&input), SIZE, PixelFormat::I420, input.color, &mut Pool::new())
                .expect("a picture");
            let expected = naive::evaluate(&prompt, &registry, &picture, input.pts);
            prop_assert_eq!(expected.size(), graph.output_size());
            let expected = converter.to_frame(&expected, input.format, input.color).expect("fits");
            let output = graph.process(input.clone()).expect("runs");
            let expected = Frame { surface: Surface::Host(expected), ..input };
            let expected = if graph.is_passthrough() { output.clone() } else { expected };
            prop_assert_eq!(bytes(&output), bytes(&expected));
            if round == 1 {
                planes = graph.free_planes();
            }
        }
        prop_assert_eq!(graph.free_planes(), planes, "planes are neither lost nor added");
    }

    #[test]
    fn a_prompt_survives_being_written(nodes in prop::collection::vec(random_node(), 1..6)) {
        let prompt = parse(&random_prompt(&nodes));
        let again = Prompt::from_slice(prompt.to_json().to_string().as_bytes());
        prop_assert_eq!(again, Ok(prompt));
    }
}
