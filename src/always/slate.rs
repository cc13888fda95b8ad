//! The still picture that is shown while nobody publishes: drawn or read once, encoded once, and
//! then sent over and over.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use image::{DynamicImage, ImageReader, Limits, Rgb, RgbImage};
use ingest::StreamName;
use pipeline::color::Converter;
use pipeline::frame::{Color, PixelFormat, Surface};
use pipeline::graph::Image;
use pipeline::packet::VideoTrack;
use pipeline::stage::{Encoder as _, EncoderSettings};
use pipeline::{Frame, Pts, Size, Ticks, lettering};

/// Pictures a second.
pub(super) const RATE: i64 = 10;

/// Pictures of a group: a key picture every two seconds.
const GROUP: i64 = 2 * RATE;

/// The canvas where no publisher has had one.
pub(super) const CANVAS: Size = Size::new(640, 360);

/// The largest side of a canvas in pixels; a larger stream gets a smaller slate.
const SIDE_MAX: u32 = 1920;

/// The largest file in bytes, and the largest side of its picture in pixels.
const FILE_BYTES_MAX: u64 = 16 << 20;
const FILE_SIDE_MAX: u32 = 8192;

/// Bytes that decoding a file may take.
const DECODE_BYTES_MAX: u64 = 512 << 20;

/// Characters of a stream's name that are shown.
const NAME_MAX: usize = 48;

/// Colours of the picture that is drawn where no file is given.
const GROUND: [u8; 3] = [24, 28, 34];
const INK: [u8; 3] = [226, 230, 235];
const FAINT: [u8; 3] = [122, 130, 140];

/// A group of pictures that all show the same.
pub(super) struct Slate {
    pub(super) track: VideoTrack,
    group: Vec<Bytes>,
    next: usize,
}

impl Slate {
    /// The slate of a stream in a canvas, with the picture of a JPEG or PNG file if there is one.
    /// Takes a moment: it reads, scales and encodes.
    ///
    /// # Errors
    /// What is wrong with the file, or with the encoder.
    pub(super) fn new(name: &StreamName, canvas: Size, file: Option<&Path>) -> Result<Self> {
        let canvas = fitted(canvas);
        let picture = match file {
            Some(file) => read(file, canvas).with_context(|| file.display().to_string())?,
            None => draw(name, canvas),
        };
        let frame = frame(&picture, canvas).context("the slate has no planes")?;
        let mut settings = EncoderSettings::for_picture(canvas, RATE as f32);
        // Its one key picture may be sharp: the others cost next to nothing.
        settings.bitrate *= 4;
        let mut encoder = codecs::h264::Encoder::new(settings)?;
        let mut group = Vec::new();
        for number in 0..GROUP {
            let pts = Pts(number * Ticks::SECOND.0 / RATE);
            group.push(encoder.encode(&Frame { pts, ..frame.clone() }, number == 0)?.data);
        }
        Ok(Self { track: encoder.track(), group, next: 0 })
    }

    /// The next picture, and whether it is a key picture.
    pub(super) fn next(&mut self) -> (Bytes, bool) {
        let at = self.next;
        self.next = (at + 1) % self.group.len();
        (self.group[at].clone(), at == 0)
    }

    /// The next picture is a key picture. Two of them never follow each other: they would need
    /// names of their own (H.264 7.4.3, `idr_pic_id`).
    pub(super) fn restart(&mut self) {
        if self.next != 1 {
            self.next = 0;
        }
    }
}

/// A canvas that can be encoded: even, and not too large.
fn fitted(canvas: Size) -> Size {
    let (width, height) = (canvas.width.max(16), canvas.height.max(16));
    let largest = width.max(height);
    let scale = |side: u32| match largest > SIDE_MAX {
        true => (u64::from(side) * u64::from(SIDE_MAX) / u64::from(largest)) as u32,
        false => side,
    };
    let even = |side: u32| (side & !1).max(16);
    Size::new(even(scale(width)), even(scale(height)))
}

/// A file's picture, as large as it fits into the canvas, on black.
fn read(file: &Path, canvas: Size) -> Result<RgbImage> {
    let bytes = std::fs::metadata(file)?.len();
    ensure!(bytes <= FILE_BYTES_MAX, "{bytes} bytes, {FILE_BYTES_MAX} are allowed");
    let mut reader = ImageReader::open(file)?.with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(FILE_SIDE_MAX);
    limits.max_image_height = Some(FILE_SIDE_MAX);
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let picture: DynamicImage = reader.decode()?;
    let filter = image::imageops::FilterType::Triangle;
    let scaled = picture.resize(canvas.width, canvas.height, filter).to_rgb8();
    let mut whole = RgbImage::new(canvas.width, canvas.height);
    let left = (canvas.width - scaled.width()) / 2;
    let top = (canvas.height - scaled.height()) / 2;
    image::imageops::replace(&mut whole, &scaled, left.into(), top.into());
    Ok(whole)
}

/// The stream's name, and that it is away.
fn draw(name: &StreamName, canvas: Size) -> RgbImage {
    let mut whole = RgbImage::from_pixel(canvas.width, canvas.height, Rgb(GROUND));
    let line = (canvas.height as f32 / 8.0).max(12.0);
    let shown: String = name.base().chars().take(NAME_MAX).collect();
    let middle = canvas.height as f32 / 2.0;
    write(&mut whole, &shown, line, middle - line, INK);
    write(&mut whole, "is away", line / 2.0, middle + line / 4.0, FAINT);
    whole
}

/// A line of text in the middle, smaller where it would not fit.
fn write(whole: &mut RgbImage, text: &str, line: f32, top: f32, ink: [u8; 3]) {
    let (width, _) = lettering(text, line).0;
    let room = whole.width() as f32 * 0.9;
    let line = line * (room / (width as f32).max(1.0)).min(1.0);
    let ((width, height), cover) = lettering(text, line);
    let left = (whole.width() as usize).saturating_sub(width) / 2;
    for (at, cover) in cover.iter().enumerate().filter(|(_, cover)| **cover > 0.0) {
        let (x, y) = (left + at % width, top.max(0.0) as usize + at / width);
        debug_assert!(at / width < height);
        let Some(pixel) = whole.get_pixel_mut_checked(x as u32, y as u32) else { continue };
        for (under, over) in pixel.0.iter_mut().zip(ink) {
            let mixed = f32::from(*under) * (1.0 - cover) + f32::from(over) * cover;
            *under = mixed.round() as u8;
        }
    }
}

fn frame(picture: &RgbImage, size: Size) -> Option<Frame> {
    let plane = |channel: usize| {
        Arc::new(picture.pixels().map(|pixel| f32::from(pixel.0[channel]) / 255.0).collect())
    };
    let image = Image::new(size, [0, 1, 2].map(plane))?;
    let (format, color) = (PixelFormat::I420, Color::unsignalled(size));
    let planes = Converter::new().to_frame(&image, format, color)?;
    let surface = Surface::Host(planes);
    Some(Frame { pts: Pts(0), size, format, color, surface, arrived: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> StreamName {
        StreamName::parse("studio/cam").unwrap()
    }

    #[test]
    fn a_slate_is_a_group_that_begins_again_and_never_with_two_key_pictures() {
        codecs::init().unwrap();
        let mut slate = Slate::new(&name(), CANVAS, None).unwrap();
        assert_eq!((slate.track.size, slate.group.len()), (CANVAS, 20));
        let mut key = || slate.next().1;
        assert!(key() && !key());
        slate.restart();
        assert!(slate.next().1);
        slate.restart();
        assert!(!slate.next().1, "two key pictures in a row");
        let (first, rest) = slate.group.split_first().unwrap();
        let rest: usize = rest.iter().map(Bytes::len).sum();
        println!("key picture of {} bytes, 19 others of {rest}", first.len());
        assert!(first.len() > 1000);
    }

    #[test]
    fn a_picture_is_scaled_into_the_canvas_on_black() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("slate.png");
        RgbImage::from_pixel(100, 100, Rgb([200, 10, 10])).save(&file).unwrap();
        let picture = read(&file, Size::new(320, 180)).unwrap();
        assert_eq!(picture.dimensions(), (320, 180));
        assert_eq!(picture.get_pixel(10, 90).0, [0, 0, 0]);
        assert_eq!(picture.get_pixel(160, 90).0, [200, 10, 10]);
        std::fs::write(&file, b"no picture").unwrap();
        assert!(read(&file, CANVAS).is_err());
        assert!(read(&dir.path().join("none.png"), CANVAS).is_err());
    }

    #[test]
    fn canvases_are_even_and_bounded() {
        for (given, wanted) in [
            (Size::new(0, 0), Size::new(16, 16)),
            (Size::new(641, 361), Size::new(640, 360)),
            (Size::new(3840, 2160), Size::new(1920, 1080)),
            (Size::new(1080, 1920), Size::new(1080, 1920)),
        ] {
            assert_eq!(fitted(given), wanted, "{given}");
        }
    }

    #[test]
    fn long_names_fit() {
        let long = StreamName::parse(&"x".repeat(500)).unwrap();
        let picture = draw(&long, CANVAS);
        assert!(picture.pixels().any(|pixel| pixel.0 == INK));
        assert!((0..360).all(|y| picture.get_pixel(2, y).0 == GROUND));
    }
}
