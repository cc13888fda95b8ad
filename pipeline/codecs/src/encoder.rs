//! Frames in, H.264 out, by x264: no B-frames, no look-ahead, each picture out in its own call.
//!
//! x264 moves times by a thousand hours and counts key distances in pictures. Neither is used: a
//! packet gets its frame's own `pts`, and a key frame is asked for when the stream's clock says so,
//! whatever the rate really is.

use bytes::{BufMut, Bytes, BytesMut};
use gstreamer as gst;
use gstreamer::prelude::*;
use pipeline::h264::NalKind;
use pipeline::packet::VideoTrack;
use pipeline::stage::{self, EncoderSettings, StageError};
use pipeline::{Codec, Frame, Packet, Size, TrackKind};

use crate::chain::{Chain, element};
use crate::feed::{Feed, Input};

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
    feed: Feed,
    open: Option<Open>,
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
        Ok(Self { settings, options, feed: Feed::new(STAGE, &settings)?, open: None })
    }

    fn threads(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        match self.options.threads {
            0 if self.feed.size.pixels() <= Size::new(1280, 720).pixels() => 1,
            0 => cores.min(4),
            set => set.min(16),
        }
    }

    fn open(&self, input: Input) -> Result<Open, StageError> {
        let x264 = element("x264enc")?;
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
        x264.set_property("key-int-max", self.feed.key_pictures_max());
        // The form whose start codes are not of two lengths: lengths become start codes here.
        let accepts = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("profile", self.options.profile.caps_name())
            .build();
        let mut chain = Chain::new(STAGE, vec![x264.clone()], &accepts)?;
        chain.set_caps(&input.caps(self.feed.size, self.feed.rate))?;
        Ok(Open { chain, x264, input, sets: Bytes::new() })
    }
}

impl stage::Encoder for Encoder {
    fn encode(&mut self, frame: &Frame, force_key: bool) -> Result<Packet, StageError> {
        self.feed.check(frame)?;
        let input = Input::of(frame);
        let open = match self.open.take().filter(|open| open.input == input) {
            Some(open) => open,
            None => self.open(input)?,
        };
        let open = self.open.insert(open);
        let (output, key) = self.feed.encode(&open.chain, frame, force_key)?;
        let failed = |reason: String| StageError::Failed { stage: STAGE, reason };
        if open.sets.is_empty() {
            open.sets = parameter_sets(&output.caps)
                .ok_or_else(|| failed("no parameter sets came out".to_owned()))?;
        }
        let coded = output.buffer.map_readable().map_err(|error| failed(error.to_string()))?;
        let data = canonical(&coded, if key { &open.sets } else { &[] })
            .ok_or_else(|| failed("a unit that is cut off came out".to_owned()))?;
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
        VideoTrack { codec: Codec::H264, size: self.feed.size, parameter_sets }
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
