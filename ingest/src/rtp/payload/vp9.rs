//! VP9 over RTP, RFC 9628, both ways.
//!
//! What we send is the non-flexible mode without picture numbers and layers. Received are all
//! modes; where a picture has several spatial layers, they are joined to a superframe (VP9
//! bitstream specification, annex B), which is how the rest of the world keeps them.

use pipeline::{Codec, Packet};

use super::picture::Format;
use super::{Fault, PacketiseError, chunks};
use crate::rtp::frame::FramePackets;

const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
const STRUCTURE: u8 = 0x02;

/// Frames of a superframe, at most.
const LAYERS_MAX: usize = 8;

/// Cuts one frame.
pub(super) fn packetise(
    packet: &Packet,
    payload_max: usize,
) -> Result<FramePackets, PacketiseError> {
    if packet.data[0] >> 6 != 2 {
        let what = "no frame marker";
        return Err(PacketiseError::Malformed { codec: Codec::Vp9, at: 0, what });
    }
    let inter = if packet.key { 0 } else { INTER_PREDICTED };
    let (data, ends) = chunks(&packet.data, payload_max, 1, |first, last, out| {
        let edges = u8::from(first) * BEGIN + u8::from(last) * END;
        out.push(inter | edges);
    });
    Ok(FramePackets::new(packet, data, ends))
}

/// What of a descriptor is needed.
struct Descriptor<'a> {
    begin: bool,
    end: bool,
    inter_predicted: bool,
    layer: u8,
    body: &'a [u8],
}

impl<'a> Descriptor<'a> {
    /// RFC 9628 4.2; `None` when it is cut.
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let (&flags, mut rest) = payload.split_first()?;
        if flags & PICTURE_ID != 0 {
            let long = rest.first()? & 0x80 != 0;
            rest = rest.get(1 + usize::from(long)..)?;
        }
        let mut layer = 0;
        if flags & LAYERS != 0 {
            layer = rest.first()? >> 1 & 7;
            rest = rest.get(if flags & FLEXIBLE != 0 { 1 } else { 2 }..)?;
        }
        if flags & FLEXIBLE != 0 && flags & INTER_PREDICTED != 0 {
            for _ in 0..3 {
                let (&reference, after) = rest.split_first()?;
                rest = after;
                if reference & 1 == 0 {
                    break;
                }
            }
        }
        if flags & STRUCTURE != 0 {
            let (&head, after) = rest.split_first()?;
            rest = after;
            if head & 0x10 != 0 {
                rest = rest.get((usize::from(head >> 5) + 1) * 4..)?;
            }
            if head & 0x08 != 0 {
                let (&pictures, after) = rest.split_first()?;
                rest = after;
                for _ in 0..pictures {
                    let (&picture, after) = rest.split_first()?;
                    rest = after.get(usize::from(picture >> 2 & 3)..)?;
                }
            }
        }
        Some(Self {
            begin: flags & BEGIN != 0,
            end: flags & END != 0,
            inter_predicted: flags & INTER_PREDICTED != 0,
            layer,
            body: rest,
        })
    }
}

/// Joins the payloads of one picture.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// Where each finished frame ends.
    ends: Vec<usize>,
    in_frame: bool,
    inter_predicted: bool,
}

impl Format for Joiner {
    fn begins(&self, payload: &[u8], _: bool) -> bool {
        Descriptor::parse(payload).is_some_and(|head| head.begin && head.layer == 0)
    }

    fn take(&mut self, payload: &[u8], picture: &mut Vec<u8>) -> Result<(), Fault> {
        let malformed = Fault::Malformed;
        let head = Descriptor::parse(payload).ok_or(malformed("a cut payload descriptor"))?;
        if head.body.is_empty() {
            return Err(malformed("a descriptor without a payload"));
        }
        if head.begin == self.in_frame {
            return Err(malformed("the start of a frame out of turn"));
        }
        if self.ends.len() == LAYERS_MAX {
            return Err(malformed("more than 8 layers in a picture"));
        }
        if picture.is_empty() {
            self.inter_predicted = head.inter_predicted;
        }
        picture.extend_from_slice(head.body);
        self.in_frame = !head.end;
        if head.end {
            self.ends.push(picture.len());
        }
        Ok(())
    }

    fn end(&mut self, picture: &mut Vec<u8>) -> Option<bool> {
        let Self { ends, in_frame, inter_predicted } = std::mem::take(self);
        if in_frame {
            return None;
        }
        // Some senders do not set the bit, so the frame has the last word.
        let key = !inter_predicted && is_key(picture);
        if ends.len() > 1 {
            superframe(&ends, picture);
        }
        Some(key)
    }
}

/// Whether a frame's uncompressed header (VP9 bitstream specification 6.2) says key frame.
fn is_key(frame: &[u8]) -> bool {
    let Some(&first) = frame.first() else { return false };
    // Marker 2, two bits of profile, a reserved bit in profile 3.
    let after_profile = if first & 0x30 == 0x30 { 5 } else { 4 };
    let (shown_again, inter) = (first >> (7 - after_profile) & 1, first >> (6 - after_profile) & 1);
    first >> 6 == 2 && shown_again == 0 && inter == 0
}

/// Appends the index of a superframe with four-byte sizes.
fn superframe(ends: &[usize], picture: &mut Vec<u8>) {
    let marker = 0b110 << 5 | 3 << 3 | (ends.len() - 1) as u8;
    picture.push(marker);
    let mut start = 0;
    for &end in ends {
        picture.extend_from_slice(&((end - start) as u32).to_le_bytes());
        start = end;
    }
    picture.push(marker);
}
