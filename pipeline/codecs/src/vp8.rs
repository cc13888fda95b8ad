//! Frames in, VP8 out, by libvpx: for viewers that can decode nothing else which we make. No hidden
//! pictures, no look-ahead, each picture out in its own call.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use pipeline::packet::VideoTrack;
use pipeline::stage::{self, EncoderSettings, StageError};
use pipeline::{Codec, Frame, Packet, TrackKind};

use crate::chain::{Chain, element};
use crate::feed::{Feed, Input};

const STAGE: &str = "vp8";

/// Work against bits, from 0 to 16: what browsers take for pictures of this size.
const CPU_USED: i32 = 8;

/// What of the target rate may wait for being sent, in milliseconds.
const BUFFER_MS: i32 = 400;

/// An encoder for one picture size.
pub struct Encoder {
    settings: EncoderSettings,
    feed: Feed,
    open: Option<Open>,
}

struct Open {
    chain: Chain,
    vpx: gst::Element,
    input: Input,
}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// When the size is beyond what is encoded, or GStreamer lacks an element.
    pub fn new(settings: EncoderSettings) -> Result<Self, StageError> {
        let feed = Feed::new(STAGE, &settings)?;
        // RFC 6386 9.1: fourteen bits for each direction.
        if feed.size.width.max(feed.size.height) >= 1 << 14 {
            let what = format!("a picture of {}", settings.size);
            return Err(StageError::Unsupported { stage: STAGE, what });
        }
        Ok(Self { settings, feed, open: None })
    }

    fn open(&self, input: Input) -> Result<Open, StageError> {
        // libvpx takes planes; pictures with interleaved chroma are brought to that form.
        let (convert, vpx) = (element("videoconvert")?, element("vp8enc")?);
        vpx.set_property("deadline", 1_i64);
        vpx.set_property("cpu-used", CPU_USED);
        vpx.set_property_from_str("end-usage", "cbr");
        vpx.set_property("target-bitrate", bits(self.settings.bitrate));
        vpx.set_property("lag-in-frames", 0_i32);
        vpx.set_property("buffer-size", BUFFER_MS);
        vpx.set_property("buffer-initial-size", BUFFER_MS / 2);
        vpx.set_property("buffer-optimal-size", BUFFER_MS / 2);
        vpx.set_property("dropframe-threshold", 0_i32);
        vpx.set_property("keyframe-max-dist", self.feed.key_pictures_max() as i32);
        let accepts = gst::Caps::builder("video/x-vp8").build();
        let mut chain = Chain::new(STAGE, vec![convert, vpx.clone()], &accepts)?;
        chain.set_caps(&input.caps(self.feed.size, self.feed.rate))?;
        Ok(Open { chain, vpx, input })
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
        let coded = output.buffer.map_readable().map_err(|error| failed(error.to_string()))?;
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
        VideoTrack { codec: Codec::Vp8, size: self.feed.size, parameter_sets: Bytes::new() }
    }
}

fn bits(bitrate: u32) -> i32 {
    i32::try_from(bitrate.max(1000)).unwrap_or(i32::MAX)
}
