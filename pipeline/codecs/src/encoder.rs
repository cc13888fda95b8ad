//! Frames in, H.264 out, by x264: no B-frames, no look-ahead, each picture out in its own call.
//!
//! x264 moves times by a thousand hours and counts key distances in pictures. Neither is used: a
//! packet gets its frame's own `pts`, and a key frame is asked for when the stream's clock says so,
//! whatever the rate really is.

use bytes::{BufMut, Bytes, BytesMut};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use pipeline::frame::{Color, PixelFormat};
use pipeline::h264::NalKind;
use pipeline::packet::VideoTrack;
use pipeline::stage::{self, EncoderSettings, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Size, Ticks, TrackKind};

use crate::chain::{Chain, element};
use crate::clock::Line;
use crate::picture;

const STAGE: &str = "x264";
/// Largest excess over the target rate, as the time that it takes to send at that rate
/// (interfaces of live viewers allow 500 ms at most).
const VBV_MS: u32 = 400;

/// What H.264 features may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// What every WebRTC peer must decode (RFC 7742 6.2).
    #[default]
    ConstrainedBaseline,
    /// Adds arithmetic coding: about a tenth fewer bits, some more work on both sides.
    Main,
    /// Adds 8x8 transforms.
    High,
}

impl Profile {
    const fn caps_name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "constrained-baseline",
            Self::Main => "main",
            Self::High => "high",
        }
    }
}

/// How much x264 works for fewer bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// The least work.
    Ultrafast,
    /// The choice between the two others.
    #[default]
    Superfast,
    /// The most work that a node on one core can pay for at 1280x720.
    Veryfast,
}

impl Preset {
    const fn name(self) -> &'static str {
        match self {
            Self::Ultrafast => "ultrafast",
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
        }
    }
}

/// What is to be chosen beyond [`EncoderSettings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// H.264 features.
    pub profile: Profile,
    /// Work against bits.
    pub preset: Preset,
    /// Threads, each with a slice of every picture. Zero: one up to 1280x720, above that up to
    /// four, never more than there are cores.
    pub threads: u32,
}

/// What the stream was opened with. A change of any of these opens it anew.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Input {
    format: PixelFormat,
    color: Color,
}

struct Open {
    chain: Chain,
    x264: gst::Element,
    input: Input,
    /// Canonical parameter sets.
    sets: Bytes,
}

/// An H.264 encoder for one picture size.
pub struct Encoder {
    settings: EncoderSettings,
    options: Options,
    /// Even in both directions; the last odd row and column are left out.
    size: Size,
    open: Option<Open>,
    line: Line,
    last_key: Option<Pts>,
}

impl Encoder {
    /// An encoder with the usual [`Options`].
    ///
    /// # Errors
    /// When the size is beyond what is encoded, or GStreamer lacks an element.
    pub fn new(settings: EncoderSettings) -> Result<Self, StageError> {
        Self::with_options(settings, Options::default())
    }

    /// An encoder with these options.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_options(settings: EncoderSettings, options: Options) -> Result<Self, StageError> {
        crate::init()
            .map_err(|error| StageError::Failed { stage: STAGE, reason: error.to_string() })?;
        let size = Size::new(settings.size.width & !1, settings.size.height & !1);
        if !settings.size.is_valid() || size.pixels() == 0 {
            return Err(StageError::Unsupported {
                stage: STAGE,
                what: format!("a picture of {}", settings.size),
            });
        }
        Ok(Self { settings, options, size, open: None, line: Line::default(), last_key: None })
    }

    fn threads(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        match self.options.threads {
            0 if self.size.pixels() <= Size::new(1280, 720).pixels() => 1,
            0 => cores.min(4),
            set => set.min(16),
        }
    }

    fn open(&self, input: Input) -> Result<Open, StageError> {
        let x264 = element("x264enc")?;
        let rate = self.settings.frames_per_second.clamp(1.0, 240.0);
        let interval = self.settings.key_interval.as_secs_f32() * rate;
        let threads = self.threads();
        x264.set_property_from_str("speed-preset", self.options.preset.name());
        x264.set_property_from_str("tune", "zerolatency");
        x264.set_property_from_str("pass", "cbr");
        x264.set_property("bitrate", kilobits(self.settings.bitrate));
        x264.set_property("vbv-buf-capacity", VBV_MS);
        x264.set_property("bframes", 0_u32);
        x264.set_property("threads", threads);
        x264.set_property("sliced-threads", threads > 1);
        x264.set_property("aud", false);
        // Twice the distance: only the net under what encode() asks for by the stream's clock.
        x264.set_property("key-int-max", (interval * 2.0).clamp(2.0, 100_000.0) as u32);
        // The form whose start codes are not of two lengths: lengths become start codes here.
        let accepts = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("profile", self.options.profile.caps_name())
            .build();
        let mut chain = Chain::new(STAGE, vec![x264.clone()], &accepts)?;
        let format = match input.format {
            PixelFormat::Nv12 => gst_video::VideoFormat::Nv12,
            _ => gst_video::VideoFormat::I420,
        };
        let caps = gst_video::VideoCapsBuilder::new()
            .format(format)
            .width(self.size.width as i32)
            .height(self.size.height as i32)
            .framerate(gst::Fraction::new((rate * 1000.0).round() as i32, 1000))
            .field("interlace-mode", "progressive")
            .field("colorimetry", picture::colorimetry(input.color).to_string())
            .build();
        chain.set_caps(&caps)?;
        Ok(Open { chain, x264, input, sets: Bytes::new() })
    }
}

impl stage::Encoder for Encoder {
    fn encode(&mut self, frame: &Frame, force_key: bool) -> Result<Packet, StageError> {
        if frame.size != self.settings.size {
            return Err(StageError::Unsupported {
                stage: STAGE,
                what: format!("a {} picture after {}", frame.size, self.settings.size),
            });
        }
        let input = Input { format: frame.format, color: frame.color };
        if self.open.as_ref().is_none_or(|open| open.input != input) {
            self.open = Some(self.open(input)?);
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
        if open.sets.is_empty() {
            open.sets = parameter_sets(&output.caps)
                .ok_or_else(|| failed("no parameter sets came out".to_owned()))?;
        }
        let key = !output.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let coded = output.buffer.map_readable().map_err(|error| failed(error.to_string()))?;
        let data = canonical(&coded, if key { &open.sets } else { &[] })
            .ok_or_else(|| failed("a unit that is cut off came out".to_owned()))?;
        if key {
            self.last_key = Some(frame.pts);
        }
        Ok(Packet {
            kind: TrackKind::Video,
            pts: frame.pts,
            dts: frame.pts,
            key,
            data,
            arrived: frame.arrived,
        })
    }

    fn set_bitrate(&mut self, bitrate: u32) {
        self.settings.bitrate = bitrate;
        if let Some(open) = &self.open {
            open.x264.set_property("bitrate", kilobits(bitrate));
        }
    }

    fn track(&self) -> VideoTrack {
        let parameter_sets = self.open.as_ref().map_or_else(Bytes::new, |open| open.sets.clone());
        VideoTrack { codec: Codec::H264, size: self.size, parameter_sets }
    }
}

/// x264's unit of rate.
fn kilobits(bitrate: u32) -> u32 {
    (bitrate / 1000).clamp(1, 2_048_000)
}

/// The parameter sets of x264's AVCDecoderConfigurationRecord, canonical.
fn parameter_sets(caps: &gst::Caps) -> Option<Bytes> {
    let record = caps.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    let record = record.map_readable().ok()?;
    let record = pipeline::h264::DecoderConfiguration::parse(&record).ok()?;
    Some(record.annex_b())
}

/// A picture with four-byte lengths as canonical Annex B after `sets`. x264's own parameter sets,
/// the same ones, are left out, and so is its message (700 bytes of its settings).
fn canonical(coded: &[u8], sets: &[u8]) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(sets.len() + coded.len());
    out.put_slice(sets);
    let mut rest = coded;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (nal, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        if nal.first().is_some_and(|header| NalKind::of(*header).is_picture()) {
            pipeline::annexb::push(&mut out, nal);
        }
        rest = after;
    }
    Some(out.freeze())
}
