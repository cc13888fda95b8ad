//! Pictures in, frames out: one decoder for every video codec, by libav, libvpx or libaom.
//!
//! **One in, one out.** Threads share one picture (slices), never several pictures. libav's H.264
//! and HEVC decoders hold pictures back for as long as the parameter sets allow reordering, needed
//! or not, so as long as a stream shows `pts == dts` it is fed parameter sets that say "no reordering", and
//! each call gives the frame of its own packet. The first packet with `pts != dts` ends that for
//! good: the decoder starts anew with the reordering that the stream declares (where it declares
//! none, the most that its level allows), from the beginning of the group at hand.

use std::collections::VecDeque;
use std::time::Instant;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use pipeline::orientation::{self, Turn};
use pipeline::packet::VideoTrack;
use pipeline::stage::{self, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Size, h264, hevc, video};

use crate::chain::{Chain, Output, element};
use crate::clock::Line;
use crate::picture;

/// Pictures that may be inside: 16 by H.264 A.4.2 and the one just fed. More means that the
/// library has lost some.
const INSIDE_MAX: usize = 17;
/// Packets of a group kept to begin it anew when it turns out to be reordered. Encoders show that
/// at the first or second packet.
const REPLAY_MAX: usize = 8;

/// A packet that has been fed and not come out.
struct Inside {
    at: gst::ClockTime,
    pts: Pts,
    arrived: Instant,
    /// How it stands: that of its own group, which may not be the newest that was fed.
    turn: Option<Turn>,
}

/// Brings what the pipeline does not know (4:2:2, 4:4:4, more than 8 bit) to I420.
struct Converter {
    chain: Chain,
    caps: gst::Caps,
}

/// A decoder of one video track. See the head of this file.
pub struct Decoder {
    codec: Codec,
    threads: u32,
    chain: Option<Chain>,
    reorders: bool,
    /// Each packet holds a whole picture to be shown. Those of H.264 and HEVC may hold single
    /// fields, and VP8 and VP9 have pictures that are never shown.
    one_each: bool,
    needs_key: bool,
    line: Line,
    inside: VecDeque<Inside>,
    group: Vec<Packet>,
    info: Option<(gst::Caps, gst_video::VideoInfo)>,
    converter: Option<Converter>,
    /// What the newest key picture that was fed says about how its group stands.
    turn: Option<Turn>,
}

impl Decoder {
    /// A decoder with as many threads as the picture is worth: one up to 1280 by 720, more above,
    /// never more than there are cores. Threads share slices; a stream with one slice a picture
    /// uses one.
    ///
    /// # Errors
    /// For a codec that is not decoded here, and when GStreamer lacks an element.
    pub fn new(track: &VideoTrack) -> Result<Self, StageError> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let large = track.size.pixels() > Size::new(1280, 720).pixels();
        Self::with_threads(track, if large { cores.min(4) } else { 1 })
    }

    /// A decoder with this many threads.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_threads(track: &VideoTrack, threads: u32) -> Result<Self, StageError> {
        crate::init()
            .map_err(|error| StageError::Failed { stage: "decoder", reason: error.to_string() })?;
        // Refused here rather than at the first packet.
        input_caps(track.codec)?;
        Ok(Self {
            codec: track.codec,
            threads: threads.clamp(1, 16),
            chain: None,
            reorders: false,
            one_each: matches!(track.codec, Codec::H264 | Codec::Hevc | Codec::Av1),
            needs_key: true,
            line: Line::default(),
            inside: VecDeque::with_capacity(INSIDE_MAX + 1),
            group: Vec::with_capacity(REPLAY_MAX),
            info: None,
            converter: None,
            turn: None,
        })
    }

    fn chain(&self) -> Result<Chain, StageError> {
        let (name, caps) = input_caps(self.codec)?;
        let decoder = element(name)?;
        if name.starts_with("avdec") {
            decoder.set_property("max-threads", self.threads as i32);
            decoder.set_property_from_str("thread-type", "slice");
            decoder.set_property("output-corrupt", false);
            // Strict: where a stream does not say how far it reorders, assume the most.
            let compliance = if self.reorders { "strict" } else { "normal" };
            decoder.set_property_from_str("std-compliance", compliance);
        } else if decoder.has_property("threads") {
            decoder.set_property("threads", self.threads);
        }
        if decoder.has_property("qos") {
            decoder.set_property("qos", false);
        }
        let accepts = gst::Caps::new_empty_simple("video/x-raw");
        let mut chain = Chain::new(name, vec![decoder], &accepts)?;
        chain.set_caps(&caps)?;
        Ok(chain)
    }

    /// Feeds a packet and collects frames. `known` is false in a replay, whose frames are out.
    fn feed(
        &mut self,
        packet: &Packet,
        known: bool,
        out: &mut Vec<Frame>,
    ) -> Result<(), StageError> {
        if self.chain.is_none() {
            self.chain = Some(self.chain()?);
        }
        let Some(chain) = &self.chain else { return Ok(()) };
        let at = self.line.place_reordered(packet.pts, packet.dts);
        // Parameter sets that cannot be read are the decoder's to judge.
        let rewritten = match self.codec {
            Codec::H264 if packet.key && !self.reorders => {
                h264::unit_with_no_reordering(&packet.data).ok()
            }
            Codec::Hevc if packet.key && !self.reorders => {
                hevc::unit_with_no_reordering(&packet.data).ok()
            }
            _ => None,
        };
        let data = rewritten.unwrap_or_else(|| packet.data.clone());
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(at);
            if !packet.key {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        if known {
            let (pts, arrived) = (packet.pts, packet.arrived);
            self.inside.push_back(Inside { at, pts, arrived, turn: self.turn });
        }
        let pushed = chain.push(buffer);
        self.collect(out)?;
        pushed
    }

    /// Takes out what the chain has given.
    fn collect(&mut self, out: &mut Vec<Frame>) -> Result<(), StageError> {
        while let Some(output) = self.chain.as_ref().and_then(Chain::pop) {
            let found =
                self.inside.iter().position(|inside| Some(inside.at) == output.buffer.pts());
            let Some(inside) = found.and_then(|place| self.inside.remove(place)) else { continue };
            // What was to be shown before this one never comes: second fields, hidden pictures,
            // or pictures that were lost.
            self.inside.retain(|other| other.at > inside.at);
            out.push(self.frame(output, &inside)?);
        }
        Ok(())
    }

    fn frame(&mut self, mut output: Output, inside: &Inside) -> Result<Frame, StageError> {
        let mut info = self.info(&output.caps)?;
        if picture::plain_format(&info).is_none() {
            output = self.convert(output)?;
            info = video_info(&output.caps)?;
        }
        let (name, Inside { pts, arrived, turn, .. }) = (self.codec.name(), inside);
        let frame = picture::frame(name, output, &info, *pts, *arrived)?;
        let turned = turn.and_then(|turn| orientation::turned(&frame, turn));
        Ok(turned.unwrap_or(frame))
    }

    fn info(&mut self, caps: &gst::Caps) -> Result<gst_video::VideoInfo, StageError> {
        if let Some((known, info)) = &self.info
            && known == caps
        {
            return Ok(info.clone());
        }
        let info = video_info(caps)?;
        self.info = Some((caps.clone(), info.clone()));
        Ok(info)
    }

    fn convert(&mut self, output: Output) -> Result<Output, StageError> {
        const STAGE: &str = "videoconvert";
        if self.converter.as_ref().is_none_or(|converter| converter.caps != output.caps) {
            // The same colours and fields, other samples.
            let mut accepts =
                gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::I420);
            let signalled =
                output.caps.structure(0).and_then(|caps| caps.get::<String>("colorimetry").ok());
            if let Some(colorimetry) = signalled {
                accepts = accepts.field("colorimetry", colorimetry);
            }
            let accepts = accepts.build();
            let mut chain = Chain::new(STAGE, vec![element("videoconvert")?], &accepts)?;
            chain.set_caps(&output.caps)?;
            self.converter = Some(Converter { chain, caps: output.caps.clone() });
        }
        let unable = || StageError::Unsupported { stage: STAGE, what: output.caps.to_string() };
        let Some(converter) = &self.converter else { return Err(unable()) };
        converter.chain.push(output.buffer.clone())?;
        converter.chain.pop().ok_or_else(unable)
    }

    fn broken(&self, pts: Pts, reason: Option<String>) -> StageError {
        let reason = reason.unwrap_or_else(|| "the decoder gave no picture for it".to_owned());
        StageError::Broken { codec: self.codec.name(), pts, reason }
    }

    /// Reads what a key packet says about the group that it begins.
    fn begin_group(&mut self, packet: &Packet) -> Result<(), StageError> {
        self.group.clear();
        self.needs_key = true;
        self.turn = orientation::turn_of(self.codec, &packet.data);
        // Sizes beyond all bounds are refused here, before the library reserves memory.
        if let Some(mut assembler) = video::Assembler::new(self.codec) {
            let broken = |error: video::Error| self.broken(packet.pts, Some(error.to_string()));
            assembler.unit(packet.data.clone()).map_err(broken)?;
            self.one_each = match &assembler {
                video::Assembler::H264(of) => of.sps().is_none_or(|sps| sps.frame_mbs_only),
                video::Assembler::Hevc(of) => {
                    of.sps().and_then(|sps| sps.vui.as_ref()).is_none_or(|vui| !vui.fields)
                }
                video::Assembler::Av1(_) => true,
                _ => false,
            };
        }
        self.needs_key = false;
        Ok(())
    }

    /// Starts anew with reordering, from the beginning of the group at hand.
    fn begin_reordering(&mut self, out: &mut Vec<Frame>) -> Result<(), StageError> {
        self.reorders = true;
        self.chain = None;
        let group = std::mem::take(&mut self.group);
        if group.len() >= REPLAY_MAX {
            // Its beginning is gone. The group goes on when the next one begins.
            self.needs_key = true;
            return Ok(());
        }
        for packet in &group {
            self.feed(packet, false, out)?;
        }
        Ok(())
    }
}

impl stage::Decoder for Decoder {
    fn decode(&mut self, packet: &Packet, out: &mut Vec<Frame>) -> Result<(), StageError> {
        if packet.key {
            self.begin_group(packet)?;
        }
        if !self.reorders
            && packet.pts != packet.dts
            && matches!(self.codec, Codec::H264 | Codec::Hevc)
        {
            self.begin_reordering(out)?;
        }
        if self.needs_key {
            return Err(self.broken(packet.pts, Some("nothing to decode it from".to_owned())));
        }
        if !self.reorders && self.group.len() < REPLAY_MAX {
            self.group.push(packet.clone());
        }
        let before = out.len();
        if let Err(error) = self.feed(packet, true, out) {
            // The library gave up on the stream, or on what the stream asks for. A fresh one may
            // take the next group.
            self.chain = None;
            self.needs_key = true;
            self.inside.clear();
            return Err(match error {
                StageError::Failed { reason, .. } => self.broken(packet.pts, Some(reason)),
                other => other,
            });
        }
        let words = self.chain.as_ref().and_then(Chain::words);
        let due = self.one_each && !self.reorders && out.len() == before;
        if due || words.is_some() || self.inside.len() > INSIDE_MAX {
            self.needs_key = true;
            self.inside.retain(|inside| inside.pts != packet.pts);
            while self.inside.len() > INSIDE_MAX {
                self.inside.pop_front();
            }
            return Err(self.broken(packet.pts, words));
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<Frame>) -> Result<(), StageError> {
        if let Some(chain) = &self.chain {
            chain.drain();
        }
        let result = self.collect(out);
        self.chain = None;
        self.needs_key = true;
        self.inside.clear();
        self.group.clear();
        result
    }
}

/// The element for a codec and what it is fed.
fn input_caps(codec: Codec) -> Result<(&'static str, gst::Caps), StageError> {
    let annex_b = |name: &str| {
        gst::Caps::builder(name)
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .build()
    };
    Ok(match codec {
        Codec::H264 => ("avdec_h264", annex_b("video/x-h264")),
        Codec::Hevc => ("avdec_h265", annex_b("video/x-h265")),
        Codec::Av1 => (
            "av1dec",
            gst::Caps::builder("video/x-av1")
                .field("stream-format", "obu-stream")
                .field("alignment", "tu")
                .build(),
        ),
        Codec::Vp8 => ("vp8dec", gst::Caps::new_empty_simple("video/x-vp8")),
        Codec::Vp9 => ("vp9dec", gst::Caps::new_empty_simple("video/x-vp9")),
        other => {
            return Err(StageError::Unsupported { stage: "decoder", what: other.to_string() });
        }
    })
}

fn video_info(caps: &gst::Caps) -> Result<gst_video::VideoInfo, StageError> {
    gst_video::VideoInfo::from_caps(caps)
        .map_err(|_| StageError::Unsupported { stage: "decoder", what: caps.to_string() })
}
