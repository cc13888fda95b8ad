//! The nodes as graphs use them, and the model that comes with the program.

use std::path::Path;
use std::sync::Arc;

use pipeline::Size;
use pipeline::color::grey_frame;
use pipeline::graph::{Image, Pool, Prompt, Registry, compile};
use pipeline::stage::Stage;
use serde_json::{Value as Json, json};

use super::cubic::Cubic;
use super::picture::Pictures;
use super::{Models, SUPERRES, register};
use crate::onnx::testing::{File, bytes_field, node, number_field, runtime, shipped};
use crate::onnx::{Choice, Error, Provider, Runtime, Session, Store};

fn registry(runtime: Result<Runtime, Error>, dir: &Path) -> Registry {
    let mut registry = Registry::host();
    register(&mut registry, runtime, Models { dir: dir.to_owned(), ..Models::default() });
    registry
}

fn shipped_registry() -> Registry {
    registry(Ok(runtime()), &shipped())
}

fn shipped_graph() -> Json {
    serde_json::from_str(include_str!("../../graphs/superres.json")).unwrap()
}

fn refusal(prompt: &Json, registry: &Registry, size: Size) -> String {
    let prompt = Prompt::parse(prompt).unwrap();
    compile(&prompt, registry, size).expect_err("a refusal").to_string()
}

/// A folder with these models.
fn folder(files: &[(&str, File)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, file) in files {
        std::fs::write(dir.path().join(name), file.bytes()).unwrap();
    }
    dir
}

fn opened(dir: &Path, name: &str, size: Size) -> Result<Pictures, Error> {
    let store = Store::new(dir);
    let session = Session::open(&runtime(), &store, name, size, Choice::Auto, 1)?;
    Ok(Pictures::new(session, size))
}

/// A picture by a formula of channel, column and row.
fn picture(size: Size, sample: impl Fn(usize, usize, usize) -> f32) -> Image {
    let (width, height) = (size.width as usize, size.height as usize);
    let plane = |channel| {
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Arc::new(rows.map(|(x, y)| sample(channel, x, y)).collect::<Vec<f32>>())
    };
    Image::new(size, [plane(0), plane(1), plane(2)]).unwrap()
}

/// Discs, bars and waves on a gradient, in colour, from a seed; drawn with soft edges.
fn scene(seed: u32, size: Size) -> Image {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut chance = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32
    };
    let things: Vec<[f32; 9]> = (0..40).map(|_| [(); 9].map(|()| chance())).collect();
    let (width, height) = (size.width as f32, size.height as f32);
    picture(size, |channel, x, y| {
        let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
        let mut value = 0.3 + 0.4 * x / width + 0.1 * (y / 9.0).sin() * channel as f32;
        for [cx, cy, reach, turn, kind, wave, colors @ ..] in &things {
            let (dx, dy) = (x - cx * width, y - cy * height);
            let (sin, cos) = (turn * 6.3).sin_cos();
            let (u, v) = (dx * cos + dy * sin, dy * cos - dx * sin);
            let reach = 3.0 + reach * reach * 40.0;
            let depth = match kind {
                0.0..0.5 => reach - u.hypot(v * (1.0 + wave)),
                _ => (reach - u.abs()).min(1.0 + 4.0 * wave - v.abs()),
            };
            let shade = colors[channel] + 0.15 * (u * (0.2 + wave)).sin();
            value += (shade - value) * (depth + 0.5).clamp(0.0, 1.0);
        }
        value.clamp(0.0, 1.0)
    })
}

/// Half the size by the mean of four, with noise of this strength, rounded to eight bits.
fn halved(image: &Image, noise: f32) -> Image {
    let size = image.size();
    let width = size.width as usize;
    picture(Size::new(size.width / 2, size.height / 2), |channel, x, y| {
        let at = |dx, dy| image.plane(channel)[(2 * y + dy) * width + 2 * x + dx];
        let mean = (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4.0;
        let mut mix = (x * 0x9e37 + y * 0x85eb_ca6b + channel * 0xc2b2_ae35) as u32;
        let sum: f32 = (0..6)
            .map(|_| {
                mix = (mix ^ mix >> 15).wrapping_mul(0x2c1b_3c6d) ^ mix >> 12;
                mix as f32 / u32::MAX as f32 - 0.5
            })
            .sum();
        ((mean + noise * sum * 2.0_f32.sqrt()).clamp(0.0, 1.0) * 255.0).round() / 255.0
    })
}

fn bicubic(image: &Image) -> Image {
    let (width, height) = (image.size().width as usize, image.size().height as usize);
    let mut cubic = Cubic::new(width, height, 2);
    let planes = [0, 1, 2].map(|channel| {
        let mut out = vec![0.0; 4 * width * height];
        for (y, row) in out.chunks_exact_mut(2 * width).enumerate() {
            cubic.row(image.plane(channel), y, row);
        }
        Arc::new(out)
    });
    Image::new(Size::new(2 * width as u32, 2 * height as u32), planes).unwrap()
}

/// PSNR in dB of luma and of all channels.
fn psnr(got: &Image, wanted: &Image) -> [f32; 2] {
    let difference = |channel: usize| {
        let pairs = got.plane(channel).iter().zip(wanted.plane(channel));
        pairs.map(|(got, wanted)| got.clamp(0.0, 1.0) - wanted).collect::<Vec<f32>>()
    };
    let [red, green, blue] = [0, 1, 2].map(difference);
    let db = |sum: f32, count: usize| -10.0 * (sum / count as f32).log10();
    let luma = |n: usize| 0.299 * red[n] + 0.587 * green[n] + 0.114 * blue[n];
    let squares = |plane: &[f32]| plane.iter().map(|d| d * d).sum::<f32>();
    [
        db((0..red.len()).map(|n| luma(n).powi(2)).sum(), red.len()),
        db(squares(&red) + squares(&green) + squares(&blue), 3 * red.len()),
    ]
}

#[test]
fn the_shipped_model_beats_bicubic_on_clean_and_noisy_pictures_it_never_saw() {
    let (large, small) = (Size::new(320, 192), Size::new(160, 96));
    let mut model = opened(&shipped(), SUPERRES, small).unwrap();
    for noise in [0.0, 0.02] {
        for seed in 1..=4 {
            let scene = scene(seed, large);
            let input = halved(&scene, noise);
            let result = model.run(&input, &mut Pool::new()).unwrap();
            let (plain, better) = (psnr(&bicubic(&input), &scene), psnr(&result, &scene));
            for (plain, better) in plain.into_iter().zip(better) {
                assert!(better > plain + 0.5, "seed {seed}, noise {noise}: {plain} {better} dB");
            }
        }
    }
}

#[test]
fn the_shipped_graph_doubles_frames_and_its_model_matches_the_listed_hash() {
    assert!(shipped().join("SHA256SUMS").is_file());
    let registry = shipped_registry();
    let prompt = Prompt::parse(&shipped_graph()).unwrap();
    let mut graph = compile(&prompt, &registry, Size::new(64, 36)).unwrap();
    assert_eq!(graph.output_size(), Size::new(128, 72));
    for _ in 0..3 {
        let frame = grey_frame(Size::new(64, 36));
        let pts = frame.pts;
        let result = graph.process(frame).unwrap();
        assert_eq!((result.size, result.pts), (Size::new(128, 72), pts));
    }
}

#[test]
fn comfyuis_loader_and_upscaler_give_the_same_graph() {
    let registry = shipped_registry();
    let mut prompt = shipped_graph();
    prompt["load"] =
        json!({ "class_type": "UpscaleModelLoader", "inputs": { "model_name": SUPERRES } });
    prompt["2"] = json!({ "class_type": "ImageUpscaleWithModel", "inputs": {
        "upscale_model": ["load", 0], "image": ["1", 0],
    } });
    let prompt = Prompt::parse(&prompt).unwrap();
    let graph = compile(&prompt, &registry, Size::new(64, 36)).unwrap();
    assert_eq!(graph.output_size(), Size::new(128, 72));
}

#[test]
fn without_a_runtime_the_class_is_there_and_graphs_are_refused_with_the_remedy() {
    let missing = Error::Missing { looked: vec!["/nowhere".into()] };
    let registry = registry(Err(missing), &shipped());
    assert_eq!(
        registry.object_info()["MillstreamOnnx"]["input"]["required"]["model"][1]["default"],
        SUPERRES
    );
    let refusal = refusal(&shipped_graph(), &registry, Size::new(64, 36));
    assert!(refusal.contains("node 2 (MillstreamOnnx)"), "{refusal}");
    assert!(refusal.contains("was not found") && refusal.contains("wheel"), "{refusal}");
}

#[test]
fn a_provider_that_does_not_work_is_refused_by_name_and_auto_says_what_it_took() {
    let registry = shipped_registry();
    let mut prompt = shipped_graph();
    prompt["2"]["inputs"]["provider"] = json!("cuda");
    let refusal = refusal(&prompt, &registry, Size::new(50, 30));
    assert!(refusal.contains("cuda does not work here"), "{refusal}");

    prompt["2"]["inputs"]["provider"] = json!("auto");
    let size = Size::new(46, 26);
    let in_use = || runtime().loaded().into_iter().find(|loaded| loaded.input == size);
    let graph = compile(&Prompt::parse(&prompt).unwrap(), &registry, size).unwrap();
    let loaded = in_use().unwrap();
    assert_eq!((loaded.model.as_str(), loaded.provider), (SUPERRES, Provider::Cpu));
    assert_eq!(loaded.passed_over.len(), 2, "{:?}", loaded.passed_over);
    drop(graph);
    assert_eq!(in_use(), None);
}

#[test]
fn names_that_are_not_on_the_list_are_refused_by_validation() {
    let mut prompt = shipped_graph();
    prompt["2"]["inputs"]["model"] = json!("../models/superres2x.onnx");
    let refusal = refusal(&prompt, &shipped_registry(), Size::new(64, 36));
    assert!(refusal.contains("model"), "{refusal}");
}

#[test]
fn sides_that_are_no_multiples_are_filled_up_and_cut_again() {
    let odd = Size::new(33, 17);
    let mut model = opened(&shipped(), SUPERRES, odd).unwrap();
    let flat = picture(odd, |channel, _, _| [0.2, 0.5, 0.9][channel]);
    let result = model.run(&flat, &mut Pool::new()).unwrap();
    assert_eq!(result.size(), Size::new(66, 34));
    for (channel, wanted) in [0.2, 0.5, 0.9].into_iter().enumerate() {
        for sample in result.plane(channel) {
            assert!((sample - wanted).abs() < 0.02, "{sample} for {wanted}");
        }
    }
}

#[test]
fn a_grey_picture_stays_one_plane_and_equals_its_coloured_twin() {
    let size = Size::new(32, 18);
    let mut model = opened(&shipped(), SUPERRES, size).unwrap();
    let twin = picture(size, |_, x, y| ((x * 31 + y * 17) % 64) as f32 / 64.0);
    let grey = Image::grey(size, Arc::new(twin.plane(0).to_vec())).unwrap();
    let mut pool = Pool::new();
    let grey = model.run(&grey, &mut pool).unwrap();
    let twin = model.run(&twin, &mut pool).unwrap();
    assert!(grey.is_grey() && !twin.is_grey());
    for (grey, twin) in grey.plane(0).iter().zip(twin.plane(1)) {
        assert!((grey - twin).abs() < 1e-5);
    }
}

/// `y = 1 - x`, in colour, any size.
fn negative() -> File {
    let sides = [1, 3, -1, -1];
    let negate = node("Sub", &["one", "x"], &["y"], &[]);
    File::new(&sides, &sides).weights("one", &[1.0]).node(&negate)
}

#[test]
fn a_colour_model_sees_red_green_and_blue_and_results_are_held_within_0_and_1() {
    let dir = folder(&[("negative.onnx", negative().property("millstream.multiple", "8"))]);
    let size = Size::new(11, 5);
    let mut model = opened(dir.path(), "negative.onnx", size).unwrap();
    let input = picture(size, |channel, x, y| (channel * 7 + x * 3 + y) as f32 / 30.0);
    let result = model.run(&input, &mut Pool::new()).unwrap();
    assert_eq!(result.size(), size);
    for channel in 0..3 {
        for (got, sample) in result.plane(channel).iter().zip(input.plane(channel)) {
            assert!((got - (1.0 - sample).clamp(0.0, 1.0)).abs() < 1e-6);
        }
    }
}

#[test]
fn models_that_do_not_fit_are_refused_before_their_memory_is_taken() {
    let any = [1, 3, -1, -1];
    let number = |name: &str, value: u64| {
        let kind = number_field(20, 2);
        bytes_field(5, &[bytes_field(1, name.as_bytes()), number_field(3, value), kind].concat())
    };
    // Depth to space makes 4 x 4 pixels of 48 channels, of which there are three.
    let wrong = node("DepthToSpace", &["x"], &["y"], &number("blocksize", 4));
    let flatter = node("ReduceMean", &["x"], &["y"], &number("keepdims", 0));
    let concat = node("Concat", &["x", "x", "x", "x", "x"], &["y"], &number("axis", 3));
    let dir = folder(&[
        ("fixed.onnx", {
            let sides = [1, 3, 32, 48];
            File::new(&sides, &sides).weights("one", &[1.0]).node(&node(
                "Sub",
                &["one", "x"],
                &["y"],
                &[],
            ))
        }),
        ("wrong.onnx", File::new(&any, &any).node(&wrong)),
        ("flatter.onnx", File::new(&any, &any).node(&flatter)),
        ("wide.onnx", File::new(&any, &any).node(&concat)),
        ("unknown.onnx", File::new(&any, &any).node(&node("Summon", &["x"], &["y"], &[]))),
        ("rank.onnx", File::new(&[1, 3, 8], &[1, 3, 8])),
    ]);
    std::fs::write(dir.path().join("noise.onnx"), [0xa5; 4000]).unwrap();
    std::fs::write(dir.path().join("empty.onnx"), "").unwrap();
    let size = Size::new(64, 32);
    for (name, words) in [
        ("fixed.onnx", "takes 48x32 only"),
        ("wrong.onnx", "is refused"),
        ("flatter.onnx", "is refused"),
        ("wide.onnx", "not 1 to 4 times"),
        ("unknown.onnx", "Summon"),
        ("rank.onnx", "3 sides, not 4"),
        ("noise.onnx", "not an ONNX model"),
        ("empty.onnx", "not an ONNX model"),
    ] {
        let error = opened(dir.path(), name, size).expect_err(name).to_string();
        assert!(error.contains(words) && error.contains(name), "{name}: {error}");
    }
    opened(dir.path(), "fixed.onnx", Size::new(48, 32)).unwrap();
    let error = opened(&shipped(), SUPERRES, Size::new(8192, 4320)).expect_err("too large");
    assert!(error.to_string().contains("16384x8640"), "{error}");
}

#[test]
fn a_refusal_of_a_model_names_node_and_input() {
    let dir = folder(&[(SUPERRES, File::new(&[1, 3, 8], &[1, 3, 8]))]);
    let registry = registry(Ok(runtime()), dir.path());
    let refusal = refusal(&shipped_graph(), &registry, Size::new(64, 36));
    assert!(refusal.contains("node 2 (MillstreamOnnx), input model"), "{refusal}");
}

/// How long the whole node takes, and the model alone.
#[test]
#[ignore = "prints times; cargo test -p gpu --release -- --ignored --nocapture"]
fn measure_640x360() {
    let size = Size::new(640, 360);
    let store = Store::new(shipped());
    let mut bare = Session::open(&runtime(), &store, SUPERRES, size, Choice::Auto, 1).unwrap();
    let mut model = opened(&shipped(), SUPERRES, size).unwrap();
    let input = scene(1, size);
    let mut pool = Pool::new();
    let (mut whole, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        let begun = std::time::Instant::now();
        let result = model.run(&input, &mut pool).unwrap();
        whole.push(begun.elapsed());
        pool.recycle(pipeline::graph::Value::Image(result));
        let begun = std::time::Instant::now();
        bare.run().unwrap();
        alone.push(begun.elapsed());
    }
    for (what, times) in [("node", &mut whole), ("model", &mut alone)] {
        times.sort();
        let [best, median, p99] = [0, 60, 118].map(|n| times[n].as_secs_f64() * 1e3);
        eprintln!("{what}, 640x360: best {best:.1} ms, median {median:.1} ms, p99 {p99:.1} ms");
    }
}
