//! Program tables: which PID carries what (2.4.4).

use bytes::{BufMut, BytesMut};

use crate::packet::Codec;

use super::crc::crc32;

/// PID of the program association table.
pub(super) const PAT_PID: u16 = 0;

/// PID of stuffing packets.
pub(super) const NULL_PID: u16 = 0x1fff;

/// Bytes of a section with its head, at most, in the tables read here.
const SECTION_BYTES_MAX: usize = 1024;

/// The number of the only program that is written.
const PROGRAM: u16 = 1;

const PAT_TABLE: u8 = 0;
const PMT_TABLE: u8 = 2;
const REGISTRATION: u8 = 0x05;
const DVB_EXTENSION: u8 = 0x7f;
const OPUS_EXTENSION: u8 = 0x80;

/// An elementary stream of the program that this node can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elementary {
    pub(super) pid: u16,
    pub(super) codec: Codec,
    /// Opus: channels by its descriptor. Others: 0.
    pub(super) channels: u8,
}

/// What the map of a program says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProgramMap {
    pub(super) video: Option<Elementary>,
    pub(super) audio: Option<Elementary>,
    /// Streams that this node cannot carry, or second ones of a kind.
    pub(super) ignored: u32,
}

/// Appends the association of the program with `pmt_pid`.
pub(super) fn write_pat(out: &mut BytesMut, pmt_pid: u16) {
    section(out, PAT_TABLE, 1, 0, |out| {
        out.put_u16(PROGRAM);
        out.put_u16(0xe000 | pmt_pid);
    });
}

/// Appends the map of the program. `version` counts modulo 32.
pub(super) fn write_pmt(out: &mut BytesMut, version: u8, pcr_pid: u16, streams: &[Elementary]) {
    section(out, PMT_TABLE, PROGRAM, version, |out| {
        out.put_u16(0xe000 | pcr_pid);
        out.put_u16(0xf000);
        for stream in streams {
            let descriptors: &[u8] = match stream.codec {
                Codec::Opus => &[
                    REGISTRATION,
                    4,
                    b'O',
                    b'p',
                    b'u',
                    b's',
                    DVB_EXTENSION,
                    2,
                    OPUS_EXTENSION,
                    stream.channels,
                ],
                Codec::Hevc => &[REGISTRATION, 4, b'H', b'E', b'V', b'C'],
                _ => &[],
            };
            out.put_u8(match stream.codec {
                Codec::H264 => 0x1b,
                Codec::Hevc => 0x24,
                Codec::Aac => 0x0f,
                _ => 0x06,
            });
            out.put_u16(0xe000 | stream.pid);
            out.put_u16(0xf000 | descriptors.len() as u16);
            out.put_slice(descriptors);
        }
    });
}

fn section(out: &mut BytesMut, table: u8, id: u16, version: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(table);
    out.put_u16(0);
    out.put_u16(id);
    out.put_u8(0xc1 | (version & 31) << 1);
    out.put_u16(0);
    body(out);
    let length = (out.len() - start - 3 + 4) as u16;
    out[start + 1..start + 3].copy_from_slice(&(0xb000 | length).to_be_bytes());
    let crc = crc32(&out[start..]);
    out.put_u32(crc);
}

/// A section of which checksum, length and validity now (`current_next_indicator`) are checked.
struct Section<'a> {
    table: u8,
    /// Between the head of eight bytes and the checksum.
    body: &'a [u8],
}

impl<'a> Section<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < 12 || crc32(bytes) != 0 || bytes[1] & 0x80 == 0 || bytes[5] & 1 == 0 {
            return None;
        }
        Some(Self { table: bytes[0], body: &bytes[8..bytes.len() - 4] })
    }
}

/// The PID of the first program's map; `None` when the section is broken or names none.
pub(super) fn parse_pat(section: &[u8]) -> Option<u16> {
    let section = Section::parse(section).filter(|section| section.table == PAT_TABLE)?;
    let (programs, _) = section.body.as_chunks::<4>();
    programs.iter().find_map(|&[n1, n0, p1, p0]| {
        let pid = u16::from_be_bytes([p1, p0]) & 0x1fff;
        (u16::from_be_bytes([n1, n0]) != 0 && pid != PAT_PID && pid != NULL_PID).then_some(pid)
    })
}

/// The map of a program; `None` when the section is broken.
pub(super) fn parse_pmt(section: &[u8]) -> Option<ProgramMap> {
    let section = Section::parse(section).filter(|section| section.table == PMT_TABLE)?;
    let (head, rest) = section.body.split_first_chunk::<4>()?;
    let info = usize::from(u16::from_be_bytes([head[2], head[3]]) & 0xfff);
    let mut rest = rest.get(info..)?;
    let mut map = ProgramMap::default();
    while let Some((&[kind, p1, p0, l1, l0], tail)) = rest.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([l1, l0]) & 0xfff);
        let descriptors = tail.get(..length)?;
        rest = &tail[length..];
        let pid = u16::from_be_bytes([p1, p0]) & 0x1fff;
        let stream = codec_of(kind, descriptors)
            .map(|(codec, channels)| Elementary { pid, codec, channels })
            .filter(|_| pid != PAT_PID && pid != NULL_PID);
        match stream {
            Some(stream) if stream.codec.is_video() && map.video.is_none() => {
                map.video = Some(stream);
            }
            Some(stream) if !stream.codec.is_video() && map.audio.is_none() => {
                map.audio = Some(stream);
            }
            _ => map.ignored += 1,
        }
    }
    // One PID cannot be both.
    if map.video.map(|stream| stream.pid) == map.audio.map(|stream| stream.pid) {
        map.audio = None;
    }
    Some(map)
}

/// Coding and, for Opus, channels of a stream.
fn codec_of(kind: u8, mut descriptors: &[u8]) -> Option<(Codec, u8)> {
    match kind {
        0x1b => return Some((Codec::H264, 0)),
        0x24 => return Some((Codec::Hevc, 0)),
        0x0f => return Some((Codec::Aac, 0)),
        0x06 => {}
        _ => return None,
    }
    let mut registered = false;
    let mut channels = 2;
    while let Some((&[tag, length], tail)) = descriptors.split_first_chunk::<2>() {
        let body = tail.get(..usize::from(length))?;
        descriptors = &tail[usize::from(length)..];
        match (tag, body) {
            (REGISTRATION, [b'O', b'p', b'u', b's', ..]) => registered = true,
            // 0 is two unrelated channels; over 8 are layouts with streams of their own.
            (DVB_EXTENSION, [OPUS_EXTENSION, 0, ..]) => channels = 2,
            (DVB_EXTENSION, [OPUS_EXTENSION, code @ 1..=8, ..]) => channels = *code,
            (DVB_EXTENSION, [OPUS_EXTENSION, ..]) => return None,
            _ => {}
        }
    }
    registered.then_some((Codec::Opus, channels))
}

/// Joins the payloads of one PID to sections (2.4.4.1), which may share packets or span them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections {
    buffer: Vec<u8>,
    /// Whether a start was seen, so that bytes belong to a section.
    open: bool,
}

impl Sections {
    /// Forgets a section that has begun.
    pub(super) fn reset(&mut self) {
        self.buffer.clear();
        self.open = false;
    }

    /// Takes a packet's payload and calls `done` with each section that it completes.
    /// `start` is its `payload_unit_start_indicator`.
    pub(super) fn push(&mut self, payload: &[u8], start: bool, mut done: impl FnMut(&[u8])) {
        let mut rest = payload;
        if start {
            let Some((&pointer, tail)) = payload.split_first() else { return };
            let Some((end_of_last, begin)) = tail.split_at_checked(usize::from(pointer)) else {
                return self.reset();
            };
            self.append(end_of_last, &mut done);
            self.reset();
            self.open = true;
            rest = begin;
        }
        self.append(rest, &mut done);
    }

    fn append(&mut self, mut rest: &[u8], done: &mut impl FnMut(&[u8])) {
        while self.open && !rest.is_empty() {
            // 0xff in place of a table number: the rest of the packet is stuffing.
            if self.buffer.is_empty() && rest[0] == 0xff {
                return self.reset();
            }
            let want = match self.buffer.first_chunk::<3>() {
                None => 3,
                Some(&[_, l1, l0]) => 3 + (usize::from(l1 & 0x0f) << 8 | usize::from(l0)),
            };
            if want > SECTION_BYTES_MAX {
                return self.reset();
            }
            let take = (want - self.buffer.len()).min(rest.len());
            self.buffer.extend_from_slice(&rest[..take]);
            rest = &rest[take..];
            if want > 3 && self.buffer.len() == want {
                done(&self.buffer);
                self.buffer.clear();
            } else if self.buffer.len() == 3 && self.buffer[1] & 0x0f == 0 && self.buffer[2] == 0 {
                return self.reset();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streams() -> Vec<Elementary> {
        let video = Elementary { pid: 0x100, codec: Codec::H264, channels: 0 };
        let audio = Elementary { pid: 0x101, codec: Codec::Opus, channels: 1 };
        vec![video, audio]
    }

    #[test]
    fn tables_say_what_was_written_and_a_flipped_bit_is_seen() {
        let mut pat = BytesMut::new();
        write_pat(&mut pat, 0x1000);
        assert_eq!(parse_pat(&pat), Some(0x1000));
        let mut pmt = BytesMut::new();
        write_pmt(&mut pmt, 3, 0x100, &streams());
        let map = parse_pmt(&pmt).unwrap();
        assert_eq!((map.video, map.audio), (Some(streams()[0]), Some(streams()[1])));
        for bit in 0..pmt.len() * 8 {
            let mut broken = pmt.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_pmt(&broken), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn sections_are_found_over_packets_of_any_size(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 1..6),
            cut in 4_usize..184,
        ) {
            let mut stream = BytesMut::new();
            let mut expected = Vec::new();
            for body in &bodies {
                let begin = stream.len();
                section(&mut stream, PMT_TABLE, 1, 0, |out| out.put_slice(body));
                expected.push(stream[begin..].to_vec());
            }
            let mut sections = Sections::default();
            let mut found = Vec::new();
            let mut first = true;
            for part in stream.chunks(cut) {
                let mut payload = Vec::new();
                if first {
                    payload.push(0);
                }
                payload.extend_from_slice(part);
                sections.push(&payload, first, |section| found.push(section.to_vec()));
                first = false;
            }
            prop_assert_eq!(found, expected);
        }
    }
}
