//! Each node against its formula, written down a second time in the plainest way.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::frame::Size;
use crate::graph::naive::apply;
use crate::graph::{Image, Mask, Value};

/// Three different channels in which every pixel differs from its neighbours.
fn picture(width: usize, height: usize, seed: u32) -> Image {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let planes = [0; 3].map(|_| {
        let sample = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state % 1001) as f32 / 1000.0
        };
        Arc::new((0..width * height).map(sample).collect::<Vec<f32>>())
    });
    Image::new(Size::new(width as u32, height as u32), planes).unwrap()
}

fn image_of(values: Vec<Value>) -> Image {
    match values.into_iter().next() {
        Some(Value::Image(image)) => image,
        other => panic!("no picture but {other:?}"),
    }
}

fn run(class: &str, image: &Image, constants: Json) -> Image {
    image_of(apply(class, &[("image", Value::Image(image.clone()))], constants).unwrap())
}

/// Asserts that every sample is `expected(channel, x, y)` within `tolerance`.
#[track_caller]
fn expect(image: &Image, tolerance: f64, expected: impl Fn(usize, i64, i64) -> f64) {
    let (width, height) = (image.size().width as i64, image.size().height as i64);
    for channel in 0..3 {
        for y in 0..height {
            for x in 0..width {
                let got = f64::from(image.plane(channel)[(y * width + x) as usize]);
                let want = expected(channel, x, y);
                let near = (got - want).abs() <= tolerance;
                assert!(near, "channel {channel} at {x},{y}: {got}, expected {want}");
            }
        }
    }
}

fn at(image: &Image, channel: usize, x: i64, y: i64) -> f64 {
    f64::from(image.plane(channel)[(y * i64::from(image.size().width) + x) as usize])
}

fn mirrored(at: i64, length: i64) -> i64 {
    if at < 0 {
        -at
    } else if at >= length {
        2 * length - 2 - at
    } else {
        at
    }
}

/// ComfyUI's Gaussian over two dimensions with reflected borders.
fn gaussian(image: &Image, channel: usize, x: i64, y: i64, radius: i64, sigma: f64) -> f64 {
    let (width, height) = (i64::from(image.size().width), i64::from(image.size().height));
    let (mut sum, mut weights) = (0.0, 0.0);
    for dy in -radius..=radius {
        for dx in -radius..=radius {
            let (u, v) = (dx as f64 / radius as f64, dy as f64 / radius as f64);
            let weight = (-(u * u + v * v) / (2.0 * sigma * sigma)).exp();
            weights += weight;
            sum += weight * at(image, channel, mirrored(x + dx, width), mirrored(y + dy, height));
        }
    }
    sum / weights
}

#[test]
fn image_blur_is_comfyuis_gaussian() {
    let input = picture(13, 9, 1);
    for (radius, sigma) in [(1, 1.0), (2, 0.3), (3, 1.0), (4, 2.5), (7, 0.6)] {
        let out = run("ImageBlur", &input, json!({ "blur_radius": radius, "sigma": sigma }));
        expect(&out, 1e-5, |c, x, y| gaussian(&input, c, x, y, radius, sigma));
    }
}

#[test]
fn image_sharpen_adds_ten_alpha_of_what_the_blur_takes() {
    let input = picture(11, 8, 2);
    for (radius, sigma, alpha) in [(1, 1.0, 1.0), (2, 0.5, 0.1), (3, 2.0, 5.0)] {
        let constants = json!({ "sharpen_radius": radius, "sigma": sigma, "alpha": alpha });
        let out = run("ImageSharpen", &input, constants);
        expect(&out, 5e-5, |c, x, y| {
            let own = at(&input, c, x, y);
            let blurred = gaussian(&input, c, x, y, radius, sigma);
            (own + 10.0 * alpha * (own - blurred)).clamp(0.0, 1.0)
        });
    }
}

#[test]
fn image_blend_has_all_modes() {
    type Mode = fn(f64, f64) -> f64;
    let modes: [(&str, Mode); 6] = [
        ("normal", |_, b| b),
        ("multiply", |a, b| a * b),
        ("screen", |a, b| a + b - a * b),
        ("overlay", |a, b| if a <= 0.5 { 2.0 * a * b } else { 2.0 * (a + b - a * b) - 1.0 }),
        ("soft_light", |a, b| {
            let lifted =
                if a <= 0.25 { 16.0 * a.powi(3) - 12.0 * a * a + 4.0 * a } else { a.sqrt() };
            if b <= 0.5 {
                a - (1.0 - 2.0 * b) * a * (1.0 - a)
            } else {
                a + (2.0 * b - 1.0) * (lifted - a)
            }
        }),
        ("difference", |a, b| a - b),
    ];
    let (first, second) = (picture(9, 7, 3), picture(9, 7, 4));
    let grey = Image::grey(Size::new(9, 7), Arc::new(second.plane(1).to_vec())).unwrap();
    for (name, mode) in modes {
        for factor in [0.0, 0.3, 1.0] {
            let constants = json!({ "blend_factor": factor, "blend_mode": name });
            for (one, two) in [(&first, &second), (&first, &grey), (&grey, &first), (&grey, &grey)]
            {
                let values =
                    [("image1", Value::Image(one.clone())), ("image2", Value::Image(two.clone()))];
                let out = image_of(apply("ImageBlend", &values, constants.clone()).unwrap());
                expect(&out, 1e-5, |c, x, y| {
                    let (a, b) = (at(one, c, x, y), at(two, c, x, y));
                    (a * (1.0 - factor) + mode(a, b) * factor).clamp(0.0, 1.0)
                });
            }
        }
    }
}

#[test]
fn image_blend_fits_a_second_picture_of_another_size() {
    let (first, second) = (picture(8, 4, 5), picture(6, 6, 6));
    let values = [("image1", Value::Image(first)), ("image2", Value::Image(second.clone()))];
    let constants = json!({ "blend_factor": 1.0, "blend_mode": "normal" });
    let out = image_of(apply("ImageBlend", &values, constants).unwrap());
    let scale = json!({ "upscale_method": "bicubic", "width": 8, "height": 4, "crop": "center" });
    let fitted = run("ImageScale", &second, scale);
    expect(&out, 1e-6, |c, x, y| at(&fitted, c, x, y).clamp(0.0, 1.0));
}

#[test]
fn image_scale_is_pytorchs_interpolate() {
    let cubic = |x: f64| {
        const A: f64 = -0.75;
        let x = x.abs();
        if x <= 1.0 {
            (A + 2.0) * x.powi(3) - (A + 3.0) * x * x + 1.0
        } else if x < 2.0 {
            A * x.powi(3) - 5.0 * A * x * x + 8.0 * A * x - 4.0 * A
        } else {
            0.0
        }
    };
    // The weights of one axis: input place and weight for an output place.
    let taps = |method: &str, out: i64, input: i64, output: i64| -> Vec<(i64, f64)> {
        let ratio = input as f64 / output as f64;
        let centre = (out as f64 + 0.5) * ratio;
        let inside = |at: i64| at.clamp(0, input - 1);
        match method {
            "nearest-exact" => vec![(inside(centre.floor() as i64), 1.0)],
            "bilinear" => {
                let place = (centre - 0.5).max(0.0);
                let low = place.floor() as i64;
                let part = place - low as f64;
                vec![(inside(low), 1.0 - part), (inside(low + 1), part)]
            }
            "bicubic" => {
                let place = centre - 0.5;
                let low = place.floor() as i64;
                (low - 1..low + 3).map(|n| (inside(n), cubic(place - n as f64))).collect()
            }
            _ => {
                let start = out * input / output;
                let end = ((out + 1) * input + output - 1) / output;
                (start..end).map(|n| (n, 1.0 / (end - start) as f64)).collect()
            }
        }
    };
    let input = picture(7, 5, 7);
    for method in ["nearest-exact", "bilinear", "area", "bicubic"] {
        for (width, height) in [(7, 10), (14, 5), (3, 2), (10, 8), (5, 13), (1, 1)] {
            let constants = json!({ "upscale_method": method, "width": width, "height": height });
            let out = run("ImageScale", &input, constants);
            assert_eq!(out.size(), Size::new(width, height));
            expect(&out, 2e-5, |c, x, y| {
                let rows = taps(method, y, 5, height.into());
                let columns = taps(method, x, 7, width.into());
                let pair = |(v, b): &(i64, f64)| {
                    columns.iter().map(|(u, a)| a * b * at(&input, c, *u, *v)).sum::<f64>()
                };
                rows.iter().map(pair).sum()
            });
        }
    }
}

#[test]
fn lanczos_gives_pillows_bytes() {
    // Made with Pillow: Image.fromarray(a).resize(size, Image.LANCZOS), where a[y][x] is
    // (37 x x + 91 y + 13 x y) mod 256.
    let levels = (0..35_u32).map(|n| {
        let (x, y) = (n % 7, n / 7);
        ((x * x * 37 + y * 91 + x * y * 13) % 256) as f32 / 255.0
    });
    let input = Image::grey(Size::new(7, 5), Arc::new(levels.collect())).unwrap();
    for (width, height, expected) in PILLOW {
        let constants = json!({ "upscale_method": "lanczos", "width": width, "height": height });
        let out = run("ImageScale", &input, constants);
        expect(&out, 1e-6, |_, x, y| f64::from(expected[y as usize * *width + x as usize]) / 255.0);
    }
}

const PILLOW: &[(usize, usize, &[u8])] = &[
    (4, 3, &[58, 95, 131, 122, 158, 147, 169, 147, 105, 170, 142, 101]),
    (
        10,
        8,
        &[
            0, 0, 71, 165, 108, 32, 68, 168, 114, 17, 20, 43, 72, 85, 123, 152, 145, 110, 108, 125,
            93, 148, 115, 5, 122, 255, 214, 72, 125, 245, 178, 237, 213, 70, 75, 123, 135, 162,
            182, 188, 132, 170, 214, 191, 130, 102, 147, 221, 156, 67, 19, 42, 141, 243, 225, 223,
            249, 166, 69, 38, 50, 97, 160, 166, 143, 176, 193, 62, 73, 158, 111, 180, 199, 92, 52,
            101, 119, 3, 105, 255,
        ],
    ),
    (
        7,
        9,
        &[
            0, 28, 169, 57, 59, 174, 29, 16, 56, 103, 123, 128, 118, 103, 73, 122, 19, 203, 217,
            57, 207, 164, 221, 25, 154, 176, 120, 220, 182, 245, 126, 81, 110, 213, 134, 85, 154,
            227, 156, 191, 191, 48, 15, 93, 233, 208, 252, 94, 61, 70, 157, 149, 130, 182, 31, 165,
            125, 215, 83, 66, 122, 5, 239,
        ],
    ),
];

#[test]
fn image_scale_keeps_the_aspect_for_a_side_of_zero_and_cuts_the_middle() {
    let input = picture(10, 4, 8);
    let size = |constants: Json| run("ImageScale", &input, constants).size();
    assert_eq!(size(json!({ "width": 0, "height": 6 })), Size::new(15, 6));
    assert_eq!(size(json!({ "width": 5, "height": 0 })), Size::new(5, 2));
    assert_eq!(size(json!({ "width": 0, "height": 0 })), Size::new(10, 4));
    // 10x4 to 4x4 with the middle cut out keeps columns 3 to 6 as they are.
    let cut = run("ImageScale", &input, json!({ "width": 4, "height": 4, "crop": "center" }));
    expect(&cut, 0.0, |c, x, y| at(&input, c, x + 3, y));
    let by = run("ImageScaleBy", &input, json!({ "scale_by": 0.25, "upscale_method": "area" }));
    // round(2.5) is 2 in Python.
    assert_eq!(by.size(), Size::new(2, 1));
}

#[test]
fn pixels_are_moved_where_the_names_say() {
    let input = picture(5, 3, 9);
    let flip = |method: &str| run("ImageFlip", &input, json!({ "flip_method": method }));
    expect(&flip("x-axis: vertically"), 0.0, |c, x, y| at(&input, c, x, 2 - y));
    expect(&flip("y-axis: horizontally"), 0.0, |c, x, y| at(&input, c, 4 - x, y));
    let turn = |turn: &str| run("ImageRotate", &input, json!({ "rotation": turn }));
    expect(&turn("none"), 0.0, |c, x, y| at(&input, c, x, y));
    // Clockwise: the left column becomes the top row, its lowest pixel first.
    expect(&turn("90 degrees"), 0.0, |c, x, y| at(&input, c, y, 2 - x));
    expect(&turn("180 degrees"), 0.0, |c, x, y| at(&input, c, 4 - x, 2 - y));
    expect(&turn("270 degrees"), 0.0, |c, x, y| at(&input, c, 4 - y, x));
    let crop = json!({ "width": 3, "height": 9, "x": 1, "y": 1 });
    let crop = run("ImageCrop", &input, crop);
    assert_eq!(crop.size(), Size::new(3, 2));
    expect(&crop, 0.0, |c, x, y| at(&input, c, x + 1, y + 1));
    let corner = run("ImageCrop", &input, json!({ "x": 100, "y": 100 }));
    assert_eq!(corner.size(), Size::new(1, 1));
    expect(&run("ImageInvert", &input, json!({})), 1e-7, |c, x, y| 1.0 - at(&input, c, x, y));
    let empty = json!({ "width": 2, "height": 3, "color": 0x0033_66FF });
    let empty = image_of(apply("EmptyImage", &[], empty).unwrap());
    expect(&empty, 1e-6, |c, _, _| [0.2, 0.4, 1.0][c]);
}

#[test]
fn masks_follow_their_formulas() {
    let input = picture(6, 4, 10);
    let image = ("image", Value::Image(input.clone()));
    let channel = apply("ImageToMask", &[image], json!({ "channel": "green" })).unwrap();
    let on = |class: &str, constants: Json| {
        let mask = ("mask", channel[0].clone());
        apply(class, &[mask], constants).unwrap().remove(0)
    };
    let grey = |mask: Value| image_of(apply("MaskToImage", &[("mask", mask)], json!({})).unwrap());
    expect(&grey(channel[0].clone()), 0.0, |_, x, y| at(&input, 1, x, y));
    expect(&grey(on("InvertMask", json!({}))), 1e-7, |_, x, y| 1.0 - at(&input, 1, x, y));
    let above = grey(on("ThresholdMask", json!({ "value": 0.4 })));
    expect(&above, 0.0, |_, x, y| f64::from(u8::from(at(&input, 1, x, y) > 0.4_f32.into())));
    let solid = json!({ "value": 0.25, "width": 3, "height": 2 });
    let solid = apply("SolidMask", &[], solid).unwrap().remove(0);
    expect(&grey(solid), 0.0, |_, _, _| 0.25);
}

#[test]
fn a_masked_composite_lies_at_its_place_and_is_cut_at_the_border() {
    let (under, over) = (picture(6, 5, 11), picture(3, 4, 12));
    let mask = picture(3, 4, 13);
    let mask_value = Mask::new(mask.size(), Arc::new(mask.plane(0).to_vec())).unwrap();
    let values = [
        ("destination", Value::Image(under.clone())),
        ("source", Value::Image(over.clone())),
        ("mask", Value::Mask(mask_value)),
    ];
    let constants = json!({ "x": 4, "y": 2 });
    let inside = |x: i64, y: i64| (4..6).contains(&x) && (2..5).contains(&y);
    let out = image_of(apply("ImageCompositeMasked", &values, constants.clone()).unwrap());
    expect(&out, 1e-6, |c, x, y| {
        let own = at(&under, c, x, y);
        if !inside(x, y) {
            return own;
        }
        let m = at(&mask, 0, x - 4, y - 2);
        m * at(&over, c, x - 4, y - 2) + (1.0 - m) * own
    });
    let bare = image_of(apply("ImageCompositeMasked", &values[..2], constants).unwrap());
    expect(
        &bare,
        0.0,
        |c, x, y| {
            if inside(x, y) { at(&over, c, x - 4, y - 2) } else { at(&under, c, x, y) }
        },
    );
    let resized = json!({ "resize_source": true });
    let resized = image_of(apply("ImageCompositeMasked", &values[..2], resized).unwrap());
    let scale = json!({ "upscale_method": "bilinear", "width": 6, "height": 5 });
    let scaled = run("ImageScale", &over, scale);
    expect(&resized, 1e-6, |c, x, y| at(&scaled, c, x, y));
}

/// kornia's Canny step by step on whole planes, with its angles in degrees.
fn kornia(image: &Image, low: f64, high: f64) -> Vec<f64> {
    let (width, height) = (i64::from(image.size().width), i64::from(image.size().height));
    let plane = |f: &dyn Fn(i64, i64) -> f64| -> Vec<f64> {
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| f(x, y)).collect()
    };
    let get = |plane: &[f64], x: i64, y: i64| plane[(y * width + x) as usize];
    let edge =
        |plane: &[f64], x: i64, y: i64| get(plane, x.clamp(0, width - 1), y.clamp(0, height - 1));
    let zero = |plane: &[f64], x: i64, y: i64| {
        if (0..width).contains(&x) && (0..height).contains(&y) { get(plane, x, y) } else { 0.0 }
    };
    let grey = plane(&|x, y| {
        0.299 * at(image, 0, x, y) + 0.587 * at(image, 1, x, y) + 0.114 * at(image, 2, x, y)
    });
    let blurred = plane(&|x, y| {
        let (mut sum, mut weights) = (0.0, 0.0);
        for dy in -2..=2 {
            for dx in -2..=2 {
                let weight = (-((dx * dx + dy * dy) as f64) / 2.0).exp();
                weights += weight;
                sum += weight * get(&grey, mirrored(x + dx, width), mirrored(y + dy, height));
            }
        }
        sum / weights
    });
    let sobel = |x: i64, y: i64| {
        let (mut gx, mut gy) = (0.0, 0.0);
        for (n, weight) in [(-1, 1.0), (0, 2.0), (1, 1.0)] {
            gx += weight * (edge(&blurred, x + 1, y + n) - edge(&blurred, x - 1, y + n));
            gy += weight * (edge(&blurred, x + n, y + 1) - edge(&blurred, x + n, y - 1));
        }
        (gx, gy)
    };
    let magnitude = plane(&|x, y| {
        let (gx, gy) = sobel(x, y);
        (gx * gx + gy * gy + 1e-6).sqrt()
    });
    let steps = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)];
    let mut edges = plane(&|x, y| {
        let (gx, gy) = sobel(x, y);
        let eighth = (gy.atan2(gx).to_degrees() / 45.0).round() as i64;
        let own = get(&magnitude, x, y);
        let beats = |n: i64| {
            let (dx, dy) = steps[n.rem_euclid(8) as usize];
            own - zero(&magnitude, x + dx, y + dy) > 0.0
        };
        let own = if beats(eighth) && beats(eighth + 4) { own } else { 0.0 };
        f64::from(u8::from(own > low)) * 0.5 + f64::from(u8::from(own > high)) * 0.5
    });
    loop {
        let next = plane(&|x, y| {
            let touches = steps.iter().any(|(dx, dy)| zero(&edges, x + dx, y + dy) == 1.0);
            let own = get(&edges, x, y);
            if own == 0.5 && touches { 1.0 } else { own }
        });
        if next == edges {
            break;
        }
        edges = next;
    }
    edges.into_iter().map(|edge| if edge == 1.0 { 1.0 } else { 0.0 }).collect()
}

#[test]
fn canny_finds_kornias_edges() {
    let (width, height) = (48, 36);
    // A disc, a bar and a ramp, with some unrest: edges of all directions and strengths.
    let noise = picture(width, height, 14);
    let planes = [0.9_f32, 0.5, 0.7].map(|strength| {
        let sample = |n: usize| {
            let (x, y) = ((n % width) as f32, (n / width) as f32);
            let disc = if (x - 17.3).hypot(y - 15.8) < 10.2 { strength } else { 0.1 };
            let bar = if (y * 0.4 + x - 40.0).abs() < 3.0 { 0.5 } else { 0.0 };
            (disc + bar + x * 0.003 + noise.plane(0)[n] * 0.12).clamp(0.0, 1.0)
        };
        Arc::new((0..width * height).map(sample).collect::<Vec<_>>())
    });
    let image = Image::new(Size::new(width as u32, height as u32), planes).unwrap();
    for (low, high) in [(0.1, 0.3), (0.4, 0.8), (0.2, 0.9)] {
        let expected = kornia(&image, low, high);
        let found = expected.iter().filter(|edge| **edge == 1.0).count();
        assert!(found > 30, "the picture has {found} edge pixels at {low}, {high}");
        let constants = json!({ "low_threshold": low, "high_threshold": high });
        let out = run("Canny", &image, constants);
        assert!(out.is_grey());
        // A gradient within rounding of a threshold or direction may fall to either side.
        let differ = out.plane(0).iter().zip(&expected).filter(|(a, b)| f64::from(**a) != **b);
        let differ = differ.count();
        assert!(differ <= 1, "{differ} of {found} edge pixels differ at {low}, {high}");
    }
}

#[test]
fn canny_takes_pictures_of_a_few_pixels() {
    for (width, height) in [(1, 1), (2, 1), (1, 5), (3, 2), (4, 3)] {
        let out = run("Canny", &picture(width, height, 15), json!({}));
        assert!(out.plane(0).iter().all(|sample| [0.0, 1.0].contains(sample)));
        let out = run("ImageBlur", &picture(width, height, 16), json!({ "blur_radius": 31 }));
        assert!(out.plane(0).iter().all(|sample| (0.0..=1.0).contains(sample)));
    }
}

#[test]
fn text_covers_its_own_place_in_its_own_colour() {
    let black = Image::grey(Size::new(64, 48), Arc::new(vec![0.5; 64 * 48])).unwrap();
    let constants = json!({
        "text": "-", "x": 20, "y": 16, "size": 24, "color": 0xFF_0000, "background": 0.0,
    });
    let out = run("MillstreamText", &black, constants);
    let changed = (0..64 * 48).filter(|n| out.plane(0)[*n] != 0.5);
    let places: Vec<(usize, usize)> = changed.map(|n| (n % 64, n / 64)).collect();
    assert!(!places.is_empty());
    // A dash of 2.6 units at 4.8 units below the top of capitals, 2 pixels a unit.
    assert!(places.iter().all(|(x, y)| (24..36).contains(x) && (28..34).contains(y)), "{places:?}");
    let strongest = places
        .iter()
        .map(|(x, y)| y * 64 + x)
        .max_by(|a, b| out.plane(0)[*a].total_cmp(&out.plane(0)[*b]));
    let strongest = strongest.unwrap();
    assert_eq!([0, 1, 2].map(|channel| out.plane(channel)[strongest]), [1.0, 0.0, 0.0]);
    let outside = json!({ "text": "far away", "x": 500, "y": 500 });
    let untouched = run("MillstreamText", &black, outside);
    expect(&untouched, 0.0, |_, _, _| 0.5);
}

#[test]
fn a_threshold_above_the_other_is_refused_by_name() {
    let image = [("image", Value::Image(picture(8, 8, 1)))];
    let constants = json!({ "low_threshold": 0.9, "high_threshold": 0.2 });
    let error = apply("Canny", &image, constants).unwrap_err();
    assert_eq!(error.input.as_deref(), Some("low_threshold"));
}

/// What a graph that looks for motion says about pictures of which each is black with white boxes.
fn motion(pictures: &[&[[u32; 4]]]) -> Vec<Json> {
    use crate::graph::{Prompt, Registry, compile};
    use crate::stage::Stage as _;

    let size = Size::new(320, 180);
    let prompt = json!({
        "1": { "class_type": "LoadTensor", "inputs": {} },
        "2": { "class_type": "MillstreamDetectMotion", "inputs": { "image": ["1", 0] } },
        "3": { "class_type": "SaveTextTensor", "inputs": { "data": ["2", 0] } },
        "4": { "class_type": "SaveTensor", "inputs": { "images": ["1", 0] } },
        "5": { "class_type": "SaveTextTensor", "inputs": { "data": "a\nword" } },
    });
    let prompt = Prompt::parse(&prompt).unwrap();
    let mut graph = compile(&prompt, &Registry::host(), size).unwrap();
    let mut said = Vec::new();
    for white in pictures {
        let inside = |x: u32, y: u32| {
            white.iter().any(|[left, top, width, height]| {
                (*left..left + width).contains(&x) && (*top..top + height).contains(&y)
            })
        };
        let sample = |n: u32| if inside(n % size.width, n / size.width) { 1.0 } else { 0.0 };
        let plane = Arc::new((0..size.width * size.height).map(sample).collect());
        let image = Image::grey(size, plane).unwrap();
        let frame = crate::color::grey_frame(size);
        let planes =
            crate::color::Converter::new().to_frame(&image, frame.format, frame.color).unwrap();
        let frame = crate::Frame { surface: crate::frame::Surface::Host(planes), ..frame };
        let before = frame.clone();
        let after = graph.process(frame).unwrap();
        assert_eq!(after.pts, before.pts);
        said.push(serde_json::from_str(&graph.results().expect("results")).unwrap());
        assert_eq!(graph.results(), None, "results are given once");
    }
    said
}

#[test]
fn motion_is_said_with_its_boxes_and_stillness_too() {
    let still: &[[u32; 4]] = &[[80, 40, 40, 40]];
    let moved: &[[u32; 4]] = &[[80, 40, 40, 40], [200, 80, 24, 16], [0, 172, 8, 8]];
    let said = motion(&[still, still, moved]);
    for quiet in &said[..2] {
        assert_eq!(quiet["3"], json!({ "moving": 0.0, "boxes": [] }));
        assert_eq!(quiet["5"], "aword");
    }
    let boxes: Vec<[u32; 4]> = serde_json::from_value(said[2]["3"]["boxes"].clone()).unwrap();
    assert_eq!(boxes[0], [200, 80, 24, 16]);
    // The last row of cells is cut: 180 is no multiple of 8.
    assert_eq!(boxes[1], [0, 168, 8, 12]);
    assert!(said[2]["3"]["moving"].as_f64().unwrap() > 0.0);
}
