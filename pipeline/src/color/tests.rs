//! The conversions against H.273's formulas in double precision.

use super::*;

const COLORS: [Color; 4] = [
    Color { matrix: Matrix::Bt601, full_range: false },
    Color { matrix: Matrix::Bt601, full_range: true },
    Color { matrix: Matrix::Bt709, full_range: false },
    Color { matrix: Matrix::Bt709, full_range: true },
];

fn weights(color: Color) -> (f64, f64) {
    match color.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    }
}

/// H.273, 8.3: R'G'B' of one pixel.
fn decoded(color: Color, y: u8, u: u8, v: u8) -> [f64; 3] {
    let (kr, kb) = weights(color);
    let (y, u, v) = (f64::from(y), f64::from(u) - 128.0, f64::from(v) - 128.0);
    let (y, u, v) = if color.full_range {
        (y / 255.0, u / 255.0, v / 255.0)
    } else {
        ((y - 16.0) / 219.0, u / 224.0, v / 224.0)
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|sample| sample.clamp(0.0, 1.0))
}

/// Y'CbCr before rounding.
fn coded(color: Color, [r, g, b]: [f64; 3]) -> [f64; 3] {
    let (kr, kb) = weights(color);
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (u, v) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
    if color.full_range {
        [255.0 * y, 255.0 * u + 128.0, 255.0 * v + 128.0].map(|level| level.clamp(0.0, 255.0))
    } else {
        [219.0 * y + 16.0, 224.0 * u + 128.0, 224.0 * v + 128.0]
    }
}

/// Planes of `size` with two bytes between rows.
fn planes(
    size: Size,
    format: PixelFormat,
    sample: impl Fn(usize, usize, usize) -> u8,
) -> HostPlanes {
    let layout = Layout::new(size, format).unwrap();
    let mut bytes = Vec::new();
    let places = layout.planes.iter().enumerate().map(|(plane, place)| {
        let offset = bytes.len();
        for row in 0..place.rows {
            bytes.extend((0..place.row_bytes).map(|column| sample(plane, column, row)));
            bytes.extend([0xEE; 2]);
        }
        Plane { offset, stride: place.row_bytes + 2, ..*place }
    });
    let places: Vec<Plane> = places.collect();
    HostPlanes::new(Arc::new(bytes), places).unwrap()
}

fn noise(plane: usize, x: usize, y: usize) -> u8 {
    let n = (plane * 7919 + y * 613 + x * 31) as u32;
    (n.wrapping_mul(2_654_435_761) >> 13) as u8
}

fn image(host: &HostPlanes, size: Size, format: PixelFormat, color: Color) -> Image {
    Converter::new().to_image(host, size, format, color, &mut Pool::new()).unwrap()
}

#[test]
fn pictures_follow_h273_for_every_size_and_colour() {
    for size in [Size::new(16, 8), Size::new(7, 5), Size::new(1, 1), Size::new(2, 3)] {
        for color in COLORS {
            let host = planes(size, PixelFormat::I420, noise);
            let image = image(&host, size, PixelFormat::I420, color);
            for y in 0..size.height as usize {
                for x in 0..size.width as usize {
                    let chroma = |plane| host.row(plane, y / 2)[x / 2];
                    let expected = decoded(color, host.row(0, y)[x], chroma(1), chroma(2));
                    for (channel, expected) in expected.into_iter().enumerate() {
                        let got = image.plane(channel)[y * size.width as usize + x];
                        assert!((f64::from(got) - expected).abs() < 1e-5, "{color:?} {x},{y}");
                    }
                }
            }
        }
    }
}

#[test]
fn frames_follow_h273_within_a_level() {
    for size in [Size::new(12, 6), Size::new(9, 7), Size::new(1, 2)] {
        let (width, height) = (size.width as usize, size.height as usize);
        let samples = [0, 1, 2].map(|c| {
            let level = |n: usize| f32::from(noise(c, n % width, n / width)) / 255.0;
            Arc::new((0..width * height).map(level).collect::<Vec<_>>())
        });
        let image = Image::new(size, samples).unwrap();
        for color in COLORS {
            let host = Converter::new().to_frame(&image, PixelFormat::I420, color).unwrap();
            let pixel = |x: usize, y: usize| {
                let place = y.min(height - 1) * width + x.min(width - 1);
                [0, 1, 2].map(|channel| f64::from(image.plane(channel)[place]))
            };
            for y in 0..height {
                for x in 0..width {
                    let expected = coded(color, pixel(x, y))[0];
                    assert!((f64::from(host.row(0, y)[x]) - expected).abs() <= 0.51, "{color:?}");
                }
            }
            for y in 0..height.div_ceil(2) {
                for x in 0..width.div_ceil(2) {
                    let four = [(0, 0), (1, 0), (0, 1), (1, 1)]
                        .map(|(dx, dy)| pixel(2 * x + dx, 2 * y + dy));
                    let mean = [0, 1, 2].map(|c| four.iter().map(|p| p[c]).sum::<f64>() / 4.0);
                    let expected = coded(color, mean);
                    for plane in [1, 2] {
                        let got = f64::from(host.row(plane, y)[x]);
                        assert!(
                            (got - expected[plane]).abs() <= 0.51,
                            "{color:?} {got} {expected:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_no_node_touches_comes_back_as_it_was() {
    // Levels that stay inside the cube of colours, with chroma that jumps from sample to sample.
    let level = |plane: usize, x: usize, y: usize| match plane {
        0 => 110 + noise(0, x, y) % 40,
        _ => 118 + noise(plane, x, y) % 20,
    };
    let size = Size::new(18, 10);
    for color in COLORS {
        for format in [PixelFormat::I420, PixelFormat::Nv12] {
            let mut host = planes(size, format, level);
            let first = host.clone();
            for _ in 0..3 {
                let image = image(&host, size, format, color);
                host = Converter::new().to_frame(&image, format, color).unwrap();
            }
            for plane in 0..first.planes().len() {
                for row in 0..first.plane(plane).rows {
                    assert_eq!(first.row(plane, row), host.row(plane, row), "{color:?}");
                }
            }
        }
    }
}

#[test]
fn colour_bars_come_back_within_three_levels() {
    let bars = [
        [1.0, 1.0, 1.0],
        [1.0, 1.0, 0.0],
        [0.0, 1.0, 1.0],
        [0.0, 1.0, 0.0],
        [1.0, 0.0, 1.0],
        [1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0],
    ];
    let size = Size::new(64, 4);
    for color in COLORS {
        let host = planes(size, PixelFormat::I420, |plane, x, _| {
            let bar = bars[x / if plane == 0 { 8 } else { 4 }];
            coded(color, bar)[plane].round() as u8
        });
        let image = image(&host, size, PixelFormat::I420, color);
        let back = Converter::new().to_frame(&image, PixelFormat::I420, color).unwrap();
        for plane in 0..3 {
            for row in 0..host.plane(plane).rows {
                for (a, b) in host.row(plane, row).iter().zip(back.row(plane, row)) {
                    assert!(a.abs_diff(*b) <= 1, "{color:?} plane {plane}: {a} became {b}");
                }
            }
        }
        for (x, bar) in (0..64).map(|x| (x, bars[x / 8])) {
            for (channel, level) in bar.into_iter().enumerate() {
                assert!((f64::from(image.plane(channel)[x]) - level).abs() * 255.0 <= 3.0);
            }
        }
    }
}

#[test]
fn both_layouts_show_the_same_picture() {
    let size = Size::new(13, 9);
    let planar = planes(size, PixelFormat::I420, noise);
    let both = planes(size, PixelFormat::Nv12, |plane, x, y| match plane {
        0 => noise(0, x, y),
        _ => noise(1 + x % 2, x / 2, y),
    });
    for color in COLORS {
        let (a, b) = (
            image(&planar, size, PixelFormat::I420, color),
            image(&both, size, PixelFormat::Nv12, color),
        );
        assert!((0..3).all(|channel| a.plane(channel) == b.plane(channel)));
    }
}

#[test]
fn planes_that_do_not_fit_are_refused() {
    let size = Size::new(8, 8);
    let host = planes(Size::new(8, 6), PixelFormat::I420, noise);
    let mut converter = Converter::new();
    let mut convert = |host: &HostPlanes, format| {
        converter.to_image(host, size, format, COLORS[0], &mut Pool::new()).is_some()
    };
    assert!(!convert(&host, PixelFormat::I420));
    assert!(!convert(&host, PixelFormat::Nv12));
    let right = planes(size, PixelFormat::I420, noise);
    assert!(convert(&right, PixelFormat::I420));
}

#[test]
fn samples_outside_of_zero_and_one_are_cut_and_nothing_else_breaks() {
    let size = Size::new(2, 2);
    for level in [f32::NAN, f32::INFINITY, -5.0, 7.0] {
        let image = Image::grey(size, Arc::new(vec![level; 4])).unwrap();
        let host = Converter::new().to_frame(&image, PixelFormat::I420, COLORS[1]).unwrap();
        let luma = host.row(0, 0)[0];
        assert!(luma == if level > 1.0 { 255 } else { 0 }, "{level} became {luma}");
    }
}
