//! VP8 over RTP, RFC 7741, both ways.
//!
//! The descriptor that we send is its one mandatory byte: without picture numbers a receiver goes
//! by sequence numbers, and frames can be left out for one reader without rewriting payloads.

use pipeline::{Codec, Packet};

use super::picture::Format;
use super::{Fault, PacketiseError, chunks};
use crate::rtp::frame::FramePackets;

/// Start of a partition, RFC 7741 4.2.
const START: u8 = 0x10;
const EXTENDED: u8 = 0x80;
const PARTITION: u8 = 0x07;

/// Cuts one frame.
pub(super) fn packetise(
    packet: &Packet,
    payload_max: usize,
) -> Result<FramePackets, PacketiseError> {
    if packet.data.len() < 3 {
        let what = "shorter than a frame tag";
        return Err(PacketiseError::Malformed { codec: Codec::Vp8, at: 0, what });
    }
    let (data, ends) = chunks(&packet.data, payload_max, 1, |first, _, out| {
        out.push(if first { START } else { 0 });
    });
    Ok(FramePackets::new(packet, data, ends))
}

/// Joins the payloads of one frame.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    begun: bool,
}

/// The descriptor's first byte, and what follows the descriptor.
fn descriptor(payload: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, mut rest) = payload.split_first()?;
    if first & EXTENDED != 0 {
        let (&flags, after) = rest.split_first()?;
        rest = after;
        if flags & 0x80 != 0 {
            let long = rest.first()? & 0x80 != 0;
            rest = rest.get(1 + usize::from(long)..)?;
        }
        let further = usize::from(flags & 0x40 != 0) + usize::from(flags & 0x30 != 0);
        rest = rest.get(further..)?;
    }
    Some((first, rest))
}

const fn starts(first: u8) -> bool {
    first & (START | PARTITION) == START
}

impl Format for Joiner {
    fn begins(&self, payload: &[u8], _: bool) -> bool {
        payload.first().is_some_and(|first| starts(*first))
    }

    fn take(&mut self, payload: &[u8], picture: &mut Vec<u8>) -> Result<(), Fault> {
        let (first, body) =
            descriptor(payload).ok_or(Fault::Malformed("a cut payload descriptor"))?;
        if body.is_empty() {
            return Err(Fault::Malformed("a descriptor without a payload"));
        }
        if starts(first) == self.begun {
            return Err(Fault::Malformed("the start of a frame out of turn"));
        }
        self.begun = true;
        picture.extend_from_slice(body);
        Ok(())
    }

    fn end(&mut self, picture: &mut Vec<u8>) -> Option<bool> {
        self.begun = false;
        // The frame tag's first bit is clear in key frames (RFC 6386 9.1).
        Some(picture.first().is_some_and(|tag| tag & 1 == 0))
    }
}
