//! AV1 over RTP, both ways (AOMedia, "RTP Payload Format For AV1", v1.0.0).
//!
//! In the hub a temporal unit is a row of OBUs with sizes and without temporal delimiter; in RTP
//! sizes travel in the aggregation header instead. Numbers of OBU types are those of the AV1
//! bitstream specification 6.2.2.

use bytes::Bytes;
use pipeline::{Codec, Packet};

use super::picture::Format;
use super::{Fault, PacketiseError};
use crate::rtp::frame::FramePackets;

const CONTINUES: u8 = 0x80;
const CONTINUED: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;

const SEQUENCE_HEADER: u8 = 1;
const DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

/// OBU elements of a packet that we send: as many as its header can count.
const ELEMENTS_MAX: usize = 3;

const fn kind(header: u8) -> u8 {
    header >> 3 & 0x0f
}

/// Whether a receiver has no use for it: RTP keeps temporal units apart by itself.
const fn is_dropped(kind: u8) -> bool {
    matches!(kind, DELIMITER | TILE_LIST | PADDING)
}

/// Reads a number of 7 bits a byte (AV1 4.10.5), of 32 bits at most.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let value = usize::try_from(value).ok().filter(|value| *value <= u32::MAX as usize)?;
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

fn put_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn leb128_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// One OBU of a temporal unit.
#[derive(Clone, Copy)]
struct Obu<'a> {
    /// Header and extension, without the size flag.
    head: [u8; 2],
    head_bytes: usize,
    body: &'a [u8],
}

impl<'a> Obu<'a> {
    /// The OBU at the start of `bytes`, and the rest.
    fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), &'static str> {
        let (&header, mut rest) = bytes.split_first().ok_or("no OBU header")?;
        if header & 0x80 != 0 {
            return Err("the forbidden bit of an OBU");
        }
        let mut extension = 0;
        if header & HAS_EXTENSION != 0 {
            (extension, rest) =
                rest.split_first().map(|(&e, r)| (e, r)).ok_or("a cut OBU extension")?;
        }
        let (size, rest) = match header & HAS_SIZE {
            0 => (rest.len(), rest),
            _ => leb128(rest).ok_or("a broken OBU size")?,
        };
        let (body, rest) =
            rest.split_at_checked(size).ok_or("an OBU size beyond the temporal unit")?;
        let head_bytes = if header & HAS_EXTENSION == 0 { 1 } else { 2 };
        Ok((Self { head: [header & !HAS_SIZE, extension], head_bytes, body }, rest))
    }

    const fn kind(&self) -> u8 {
        kind(self.head[0])
    }

    const fn len(&self) -> usize {
        self.head_bytes + self.body.len()
    }

    /// Appends the bytes from `from` to `to` of header and body.
    fn copy(&self, from: usize, to: usize, out: &mut Vec<u8>) {
        let head = &self.head[..self.head_bytes];
        out.extend_from_slice(&head[from.min(head.len())..to.min(head.len())]);
        let body = |at: usize| at.saturating_sub(head.len());
        out.extend_from_slice(&self.body[body(from)..body(to)]);
    }

    /// Appends it with its size, as the hub has it.
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.head[0] | HAS_SIZE);
        out.extend_from_slice(&self.head[1..self.head_bytes]);
        put_leb128(self.body.len(), out);
        out.extend_from_slice(self.body);
    }
}

/// Cuts one temporal unit.
pub(super) fn packetise(
    packet: &Packet,
    payload_max: usize,
) -> Result<FramePackets, PacketiseError> {
    let (codec, bytes) = (Codec::Av1, packet.data.len());
    let mut obus = Vec::with_capacity(4);
    let mut rest = &packet.data[..];
    while !rest.is_empty() {
        let at = bytes - rest.len();
        let (obu, after) =
            Obu::parse(rest).map_err(|what| PacketiseError::Malformed { codec, at, what })?;
        rest = after;
        if !is_dropped(obu.kind()) {
            obus.push(obu);
        }
    }
    if obus.is_empty() {
        return Err(PacketiseError::Empty { codec, bytes });
    }
    let mut out = Vec::with_capacity(bytes + bytes / 256 + 64);
    let mut ends = Vec::with_capacity(bytes / payload_max + 2);
    // The OBU to send next, and how much of it was sent.
    let (mut next, mut sent) = (0, 0);
    while next < obus.len() {
        let head = out.len();
        out.push(0);
        let mut flags = if sent > 0 { CONTINUES } else { 0 };
        if ends.is_empty() && packet.key {
            flags |= NEW_SEQUENCE;
        }
        let mut elements = 0;
        while let Some(obu) = obus.get(next) {
            let room = payload_max - (out.len() - head);
            let left = obu.len() - sent;
            // A further element goes in whole, or it is the one that fills the packet.
            let with_length = leb128_bytes(left) + left;
            let another = elements + 1 < ELEMENTS_MAX && next + 1 < obus.len();
            elements += 1;
            if another && with_length + 2 <= room {
                put_leb128(left, &mut out);
                obu.copy(sent, obu.len(), &mut out);
                (next, sent) = (next + 1, 0);
                continue;
            }
            let take = left.min(room);
            obu.copy(sent, sent + take, &mut out);
            sent += take;
            if sent == obu.len() {
                (next, sent) = (next + 1, 0);
            } else {
                flags |= CONTINUED;
            }
            break;
        }
        out[head] = flags | (elements as u8) << 4;
        ends.push(out.len() as u32);
    }
    Ok(FramePackets::new(packet, Bytes::from(out), ends.into_boxed_slice()))
}

/// Joins the payloads of one temporal unit.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// The beginning of an OBU that goes on in the next packet.
    open: Option<Vec<u8>>,
    sequence: bool,
    key_frame: Option<bool>,
}

impl Joiner {
    fn element(&mut self, element: &[u8], picture: &mut Vec<u8>) -> Result<(), Fault> {
        if element.is_empty() {
            return Err(Fault::Malformed("an empty OBU element"));
        }
        let (obu, _) = Obu::parse(element).map_err(Fault::Malformed)?;
        match obu.kind() {
            kind if is_dropped(kind) => return Ok(()),
            SEQUENCE_HEADER => self.sequence = true,
            FRAME_HEADER | FRAME if self.key_frame.is_none() => {
                // show_existing_frame and frame_type (5.9.2), all clear in a key frame.
                self.key_frame = obu.body.first().map(|first| first >> 5 == 0);
            }
            _ => {}
        }
        obu.write(picture);
        Ok(())
    }
}

impl Format for Joiner {
    fn begins(&self, payload: &[u8], _: bool) -> bool {
        let Some((&flags, rest)) = payload.split_first() else { return false };
        let first = match flags >> 4 & 3 {
            1 => Some(rest),
            _ => leb128(rest).map(|(_, element)| element),
        };
        let kind = first.and_then(|element| element.first()).map(|header| kind(*header));
        let sequence = matches!(kind, Some(SEQUENCE_HEADER | DELIMITER));
        flags & CONTINUES == 0 && (flags & NEW_SEQUENCE != 0 || sequence)
    }

    fn take(&mut self, payload: &[u8], picture: &mut Vec<u8>) -> Result<(), Fault> {
        let malformed = Fault::Malformed;
        let Some((&flags, mut rest)) = payload.split_first() else { return Ok(()) };
        let count = flags >> 4 & 3;
        if (flags & CONTINUES != 0) != self.open.is_some() {
            return Err(malformed("a piece of an OBU out of turn"));
        }
        let mut elements = 0;
        while !rest.is_empty() {
            elements += 1;
            let element;
            if count != 0 && elements == count {
                (element, rest) = (rest, &[]);
            } else {
                let (length, after) = leb128(rest).ok_or(malformed("a broken OBU length"))?;
                (element, rest) = after
                    .split_at_checked(length)
                    .ok_or(malformed("an OBU length beyond the packet"))?;
            }
            let goes_on = rest.is_empty() && flags & CONTINUED != 0;
            match (self.open.take(), goes_on) {
                (None, false) => self.element(element, picture)?,
                (None, true) => self.open = Some(element.to_vec()),
                (Some(mut begun), goes_on) => {
                    begun.extend_from_slice(element);
                    if goes_on {
                        if begun.len() > super::UNIT_BYTES_MAX {
                            return Err(malformed("an OBU without end"));
                        }
                        self.open = Some(begun);
                    } else {
                        self.element(&begun, picture)?;
                    }
                }
            }
        }
        if elements == 0 || (count != 0 && elements != count) {
            return Err(malformed("another number of OBU elements than was said"));
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Option<bool> {
        let Self { open, sequence, key_frame } = std::mem::take(self);
        open.is_none().then_some(sequence && key_frame == Some(true))
    }
}
