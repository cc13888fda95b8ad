//! The node classes that run on the host: ComfyUI's, with its names, inputs, defaults and
//! arithmetic, and our own, whose names begin with `Millstream`.
//!
//! Planes are `f32`, rows are slices, and loops are plain so that the compiler vectorises them.
//! Whatever can be worked out from constants and sizes is worked out when a node is built.

mod blend;
mod blur;
mod canny;
mod frame;
mod lanczos;
mod mask;
mod motion;
mod place;
mod resample;
mod scale;
mod strokes;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use crate::graph::NodeClass;

/// A line of text in the nodes' font, `line` pixels high: its width and height, and how far each
/// pixel is covered, 0 to 1, row by row.
pub fn lettering(text: &str, line: f32) -> ((usize, usize), Vec<f32>) {
    let font = strokes::Font { line };
    let mut cover =
        strokes::Coverage::new(font.width(text).ceil() as usize + 2, line.ceil() as usize);
    let mut x = 1.0;
    for character in text.chars() {
        cover.draw(character, x, 0.0, font);
        x += font.advance(character);
    }
    ((cover.width, cover.height), cover.samples)
}

/// All classes of this crate.
pub(crate) fn classes() -> Vec<Arc<dyn NodeClass>> {
    vec![
        Arc::new(frame::LoadTensor),
        Arc::new(frame::SaveTensor),
        Arc::new(frame::SaveTextTensor),
        Arc::new(scale::ImageScale),
        Arc::new(scale::ImageScaleBy),
        Arc::new(blur::ImageBlur),
        Arc::new(blur::ImageSharpen),
        Arc::new(blend::ImageBlend),
        Arc::new(canny::CannyEdges),
        Arc::new(place::ImageCrop),
        Arc::new(place::ImageFlip),
        Arc::new(place::ImageRotate),
        Arc::new(place::ImageInvert),
        Arc::new(place::EmptyImage),
        Arc::new(place::GetImageSize),
        Arc::new(mask::SolidMask),
        Arc::new(mask::InvertMask),
        Arc::new(mask::ThresholdMask),
        Arc::new(mask::MaskToImage),
        Arc::new(mask::ImageToMask),
        Arc::new(mask::ImageCompositeMasked),
        Arc::new(motion::MillstreamDetectMotion),
        Arc::new(text::MillstreamText),
        Arc::new(text::MillstreamClock),
    ]
}
