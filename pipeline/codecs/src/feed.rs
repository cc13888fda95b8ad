//! What encoders of pictures share: how a picture goes into their chain and comes out of it, and when
//! a key picture is due.

use gstreamer as gst;
use gstreamer_video as gst_video;
use pipeline::frame::{Color, PixelFormat};
use pipeline::stage::{EncoderSettings, StageError};
use pipeline::{Frame, Pts, Size, Ticks};

use crate::chain::{Chain, Output};
use crate::clock::Line;
use crate::picture;

/// What a chain was opened with. A change of any of these opens it anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) format: PixelFormat,
    pub(crate) color: Color,
}

impl Input {
    pub(crate) fn of(frame: &Frame) -> Self {
        Self { format: frame.format, color: frame.color }
    }

    /// The caps of such pictures, `rate` of them in a second.
    pub(crate) fn caps(self, size: Size, rate: f32) -> gst::Caps {
        let format = match self.format {
            PixelFormat::Nv12 => gst_video::VideoFormat::Nv12,
            _ => gst_video::VideoFormat::I420,
        };
        gst_video::VideoCapsBuilder::new()
            .format(format)
            .width(size.width as i32)
            .height(size.height as i32)
            .framerate(gst::Fraction::new((rate * 1000.0).round() as i32, 1000))
            .field("interlace-mode", "progressive")
            .field("colorimetry", picture::colorimetry(self.color).to_string())
            .build()
    }
}

/// Feeds pictures of one size into a chain.
pub(crate) struct Feed {
    stage: &'static str,
    /// Of what is fed.
    given: Size,
    /// Even in both directions; the last odd row and column are left out.
    pub(crate) size: Size,
    /// Pictures in a second.
    pub(crate) rate: f32,
    key_interval: Ticks,
    line: Line,
    last_key: Option<Pts>,
}

impl Feed {
    /// For an encoder with these settings.
    ///
    /// # Errors
    /// When the size is beyond what is encoded, or GStreamer is not there.
    pub(crate) fn new(stage: &'static str, settings: &EncoderSettings) -> Result<Self, StageError> {
        crate::init().map_err(|error| StageError::Failed { stage, reason: error.to_string() })?;
        let given = settings.size;
        let size = Size::new(given.width & !1, given.height & !1);
        if !given.is_valid() || size.pixels() == 0 {
            return Err(StageError::Unsupported { stage, what: format!("a picture of {given}") });
        }
        Ok(Self {
            stage,
            given,
            size,
            rate: settings.frames_per_second.clamp(1.0, 240.0),
            key_interval: Ticks::from_duration(settings.key_interval),
            line: Line::default(),
            last_key: None,
        })
    }

    /// Pictures after which the encoder makes a key picture of its own: twice the distance, only the
    /// net under what [`Self::encode`] asks for by the stream's clock.
    pub(crate) fn key_pictures_max(&self) -> u32 {
        let seconds = self.key_interval.0 as f32 / Ticks::SECOND.0 as f32;
        (seconds * self.rate * 2.0).clamp(2.0, 100_000.0) as u32
    }

    /// Refuses a picture of another size.
    ///
    /// # Errors
    /// [`StageError::Unsupported`].
    pub(crate) fn check(&self, frame: &Frame) -> Result<(), StageError> {
        if frame.size == self.given {
            return Ok(());
        }
        let what = format!("a {} picture after {}", frame.size, self.given);
        Err(StageError::Unsupported { stage: self.stage, what })
    }

    /// One picture in, one out, and whether it is a key picture.
    ///
    /// # Errors
    /// [`StageError::Failed`] when none comes out.
    pub(crate) fn encode(
        &mut self,
        chain: &Chain,
        frame: &Frame,
        force_key: bool,
    ) -> Result<(Output, bool), StageError> {
        let mut buffer = picture::buffer(self.stage, frame, self.size)?;
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(self.line.place(frame.pts));
        }
        let due = self
            .last_key
            .is_none_or(|last| frame.pts - last >= self.key_interval || frame.pts < last);
        if force_key || due {
            chain.event(
                gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(false).build(),
            );
        }
        chain.push(buffer)?;
        let output = chain.pop().ok_or_else(|| {
            let reason = chain.words().unwrap_or_else(|| "no picture came out".to_owned());
            StageError::Failed { stage: self.stage, reason }
        })?;
        let key = !output.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if key {
            self.last_key = Some(frame.pts);
        }
        Ok((output, key))
    }
}
