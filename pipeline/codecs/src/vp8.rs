//! Frames in, VP8 out, by libvpx: for viewers that can decode nothing else which we make. No hidden
//! pictures, no look-ahead, each picture out in its own call.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use pipeline::frame::PixelFormat;
use pipeline::packet::VideoTrack;
use pipeline::stage::{self, EncoderSettings, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Size, Ticks, TrackKind};

use crate::chain::{Chain, element};
use crate::clock::Line;
use crate::picture;

const STAGE: &str = "vp8";

/// Work against bits, from 0 to 16: what browsers take for pictures of this size.
const CPU_USED: i32 = 8;

/// What of the target rate may wait for being sent, in milliseconds.
const BUFFER_MS: i32 = 400;

/// An encoder for one picture size.
pub struct Encoder {
    settings: EncoderSettings,
    /// Even in both directions; the last odd row and column are left out.
    size: Size,
    open: Option<Open>,
    line: Line,
    last_key: Option<Pts>,
}

struct Open {
    chain: Chain,
    vpx: gst::Element,
    format: PixelFormat,
}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// When the size is beyond what is encoded, or GStreamer lacks an element.
    pub fn new(settings: EncoderSettings) -> Result<Self, StageError> {
        crate::init()
            .map_err(|error| StageError::Failed { stage: STAGE, reason: error.to_string() })?;
        let size = Size::new(settings.size.width & !1, settings.size.height & !1);
        // RFC 6386 9.1: fourteen bits for each direction.
        let most = size.width.max(size.height);
        if !settings.size.is_valid() || size.pixels() == 0 || most >= 1 << 14 {
            let what = format!("a picture of {}", settings.size);
            return Err(StageError::Unsupported { stage: STAGE, what });
        }
        Ok(Self { settings, size, open: None, line: Line::default(), last_key: None })
    }

    fn open(&self, frame: &Frame) -> Result<Open, StageError> {
        // libvpx takes planes; pictures with interleaved chroma are brought to that form.
        let (convert, vpx) = (element("videoconvert")?, element("vp8enc")?);
        let rate = self.settings.frames_per_second.clamp(1.0, 240.0);
        let interval = self.settings.key_interval.as_secs_f32() * rate;
        vpx.set_property("deadline", 1_i64);
        vpx.set_property("cpu-used", CPU_USED);
        vpx.set_property_from_str("end-usage", "cbr");
        vpx.set_property("target-bitrate", bits(self.settings.bitrate));
        vpx.set_property("lag-in-frames", 0_i32);
        vpx.set_property("buffer-size", BUFFER_MS);
        vpx.set_property("buffer-initial-size", BUFFER_MS / 2);
        vpx.set_property("buffer-optimal-size", BUFFER_MS / 2);
        vpx.set_property("dropframe-threshold", 0_i32);
        vpx.set_property("keyframe-max-dist", (interval * 2.0).clamp(2.0, 100_000.0) as i32);
        let accepts = gst::Caps::builder("video/x-vp8").build();
        let mut chain = Chain::new(STAGE, vec![convert, vpx.clone()], &accepts)?;
        let format = match frame.format {
            PixelFormat::Nv12 => gst_video::VideoFormat::Nv12,
            _ => gst_video::VideoFormat::I420,
        };
        let caps = gst_video::VideoCapsBuilder::new()
            .format(format)
            .width(self.size.width as i32)
            .height(self.size.height as i32)
            .framerate(gst::Fraction::new((rate * 1000.0).round() as i32, 1000))
            .field("interlace-mode", "progressive")
            .field("colorimetry", picture::colorimetry(frame.color).to_string())
            .build();
        chain.set_caps(&caps)?;
        Ok(Open { chain, vpx, format: frame.format })
    }
}

impl stage::Encoder for Encoder {
    fn encode(&mut self, frame: &Frame, force_key: bool) -> Result<Packet, StageError> {
        if frame.size != self.settings.size {
            let what = format!("a {} picture after {}", frame.size, self.settings.size);
            return Err(StageError::Unsupported { stage: STAGE, what });
        }
        if self.open.as_ref().is_none_or(|open| open.format != frame.format) {
            self.open = Some(self.open(frame)?);
        }
        let mut buffer = picture::buffer(frame, self.size)?;
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(self.line.place(frame.pts));
        }
        let interval = Ticks::from_duration(self.settings.key_interval);
        let due = self.last_key.is_none_or(|last| frame.pts - last >= interval || frame.pts < last);
        let failed = |reason: String| StageError::Failed { stage: STAGE, reason };
        let Some(open) = &mut self.open else { return Err(failed("not open".to_owned())) };
        if force_key || due {
            open.chain.event(
                gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(false).build(),
            );
        }
        open.chain.push(buffer)?;
        let output = open.chain.pop().ok_or_else(|| {
            failed(open.chain.words().unwrap_or_else(|| "no picture came out".to_owned()))
        })?;
        let key = !output.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let coded = output.buffer.map_readable().map_err(|error| failed(error.to_string()))?;
        if key {
            self.last_key = Some(frame.pts);
        }
        Ok(Packet {
            kind: TrackKind::Video,
            pts: frame.pts,
            dts: frame.pts,
            key,
            data: Bytes::copy_from_slice(&coded),
            arrived: frame.arrived,
        })
    }

    fn set_bitrate(&mut self, bitrate: u32) {
        self.settings.bitrate = bitrate;
        if let Some(open) = &self.open {
            open.vpx.set_property("target-bitrate", bits(bitrate));
        }
    }

    fn track(&self) -> VideoTrack {
        VideoTrack { codec: Codec::Vp8, size: self.size, parameter_sets: Bytes::new() }
    }
}

fn bits(bitrate: u32) -> i32 {
    i32::try_from(bitrate.max(1000)).unwrap_or(i32::MAX)
}
