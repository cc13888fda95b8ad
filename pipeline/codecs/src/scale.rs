//! Frames in, smaller or larger frames out: what renditions are made with.
//!
//! Samples stay in the decoder's format and colours: planes are resampled as they are.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use pipeline::stage::{Stage, StageError};
use pipeline::{Frame, Size};

use crate::chain::{Chain, element};
use crate::feed::Input;
use crate::picture;

const STAGE: &str = "videoscale";

/// What elements are told of the rate; resampling does not depend on it.
const RATE: f32 = 30.0;

/// A change of size.
pub struct Scaler {
    to: Size,
    open: Option<Open>,
}

struct Open {
    chain: Chain,
    input: Input,
    from: Size,
    /// What comes out, once something has.
    output: Option<gst_video::VideoInfo>,
}

impl Scaler {
    /// Makes pictures of this size, with even sides.
    ///
    /// # Errors
    /// When the size is none, or GStreamer lacks the element.
    pub fn new(to: Size) -> Result<Self, StageError> {
        crate::init()
            .map_err(|error| StageError::Failed { stage: STAGE, reason: error.to_string() })?;
        let even = to.width.is_multiple_of(2) && to.height.is_multiple_of(2);
        if !to.is_valid() || !even {
            let what = format!("a picture of {to}");
            return Err(StageError::Unsupported { stage: STAGE, what });
        }
        Ok(Self { to, open: None })
    }

    fn open(&self, input: Input, from: Size) -> Result<Open, StageError> {
        let scale = element(STAGE)?;
        // Every sample counts, however much smaller the picture becomes.
        scale.set_property_from_str("method", "bilinear2");
        scale.set_property("add-borders", false);
        let accepts = gst_video::VideoCapsBuilder::new()
            .width(self.to.width as i32)
            .height(self.to.height as i32)
            .build();
        let mut chain = Chain::new(STAGE, vec![scale], &accepts)?;
        chain.set_caps(&input.caps(from, RATE))?;
        Ok(Open { chain, input, from, output: None })
    }
}

impl Stage for Scaler {
    fn process(&mut self, frame: Frame) -> Result<Frame, StageError> {
        if frame.size == self.to {
            return Ok(frame);
        }
        let input = Input::of(&frame);
        // Chroma of an odd row or column belongs to a sample that is not there.
        let from = Size::new(frame.size.width & !1, frame.size.height & !1);
        let fits = |open: &Open| open.input == input && open.from == from;
        let open = match self.open.take().filter(fits) {
            Some(open) => open,
            None => self.open(input, from)?,
        };
        let open = self.open.insert(open);
        let mut buffer = picture::buffer(STAGE, &frame, from)?;
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::ZERO);
        }
        open.chain.push(buffer)?;
        let failed = |reason: String| StageError::Failed { stage: STAGE, reason };
        let output = open.chain.pop().ok_or_else(|| {
            failed(open.chain.words().unwrap_or_else(|| "no picture came out".to_owned()))
        })?;
        // The same as long as the chain stays: it is opened for one form of pictures.
        let info = match open.output.take() {
            Some(info) => info,
            None => gst_video::VideoInfo::from_caps(&output.caps)
                .map_err(|error| failed(error.to_string()))?,
        };
        let color = frame.color;
        let info = open.output.insert(info);
        let scaled = picture::frame(STAGE, output, info, frame.pts, frame.arrived)?;
        Ok(Frame { color, ..scaled })
    }
}

#[cfg(test)]
mod tests {
    use pipeline::frame::PixelFormat;

    use super::*;
    use crate::testing::{clip, ffmpeg, samples};

    const FROM: Size = Size::new(640, 360);
    const TO: Size = Size::new(214, 120);

    #[test]
    fn scaled_pictures_are_those_of_ffmpeg_within_a_few_steps_and_keep_their_names() {
        let clip = clip(FROM, 3, &["-c:v", "libx264", "-bf", "0", "-pix_fmt", "yuv420p"]);
        let mut decoder = crate::video::decoder(&clip.track).unwrap();
        let mut scaler = Scaler::new(TO).unwrap();
        for (packet, picture) in clip.packets.iter().zip(&clip.pictures) {
            let mut frames = Vec::new();
            decoder.decode(packet, &mut frames).unwrap();
            let [frame] = frames.try_into().expect("one in, one out");
            let (color, arrived) = (frame.color, frame.arrived);
            let scaled = scaler.process(frame).unwrap();
            assert_eq!((scaled.pts, scaled.size, scaled.color), (packet.pts, TO, color));
            assert_eq!((scaled.arrived, scaled.format), (arrived, PixelFormat::I420));
            let (from, to) = (FROM.to_string(), TO.to_string().replace('x', ":"));
            let filter = format!("scale={to}:flags=bilinear");
            let raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p"];
            let input = [&raw[..], &["-s", &from, "-i", "pipe:0", "-vf", &filter]].concat();
            let expected = ffmpeg(&[&input[..], &raw, &["pipe:1"]].concat(), picture);
            let own = samples(&scaled);
            assert_eq!(own.len(), expected.len());
            let apart = own.iter().zip(&expected).map(|(a, b)| u64::from(a.abs_diff(*b)));
            let mean = apart.sum::<u64>() as f64 / own.len() as f64;
            assert!(mean < 3.0, "{mean}");
        }
    }

    #[test]
    fn sizes_that_are_odd_or_none_are_refused() {
        assert!(Scaler::new(Size::new(213, 120)).is_err());
        assert!(Scaler::new(Size::new(0, 0)).is_err());
    }
}
