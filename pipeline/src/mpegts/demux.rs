//! Transport packets into packets.
//!
//! Takes bytes in any portions and from any multiplexer. What is damaged is dropped and counted,
//! never fatal: live streams go on. Memory is bounded by construction, as only the tables, one
//! picture and one sound PID of the first program are kept, and units are limited in size.

use std::time::Instant;

use crate::packet::{Packet, Tracks};
use crate::time::{Pts, Unwrapper};

use super::collect::{Collector, Unit};
use super::output::Output;
use super::psi::{self, Elementary, ProgramMap, Sections};
use super::{PACKET_BYTES, SYNC};

/// What a transport stream brings.
#[derive(Clone, Debug)]
pub enum Event {
    /// The tracks are these from the next packet on. Comes before the first packet and whenever
    /// something changes. A picture whose parameter sets have not come yet has size zero; sound in
    /// AAC is missing until its first frame.
    Tracks(Tracks),
    /// A coded picture or audio frame in canonical form.
    Packet(Packet),
}

/// Counts of what was read and of what was wrong, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transport packets.
    pub packets: u64,
    /// Bytes skipped in search of a sync byte, or cut off at the end of a segment.
    pub lost_sync_bytes: u64,
    /// Packets with the transport error indicator.
    pub transport_errors: u64,
    /// Scrambled packets.
    pub scrambled: u64,
    /// Packets with an impossible adaptation field.
    pub bad_packets: u64,
    /// Jumps of a continuity counter that were not announced.
    pub gaps: u64,
    /// Tables with a wrong checksum or impossible contents.
    pub bad_sections: u64,
    /// Units that were dropped because bytes of them are missing or make no sense.
    pub broken_units: u64,
    /// PES packets whose stated length was not that of their data.
    pub wrong_lengths: u64,
    /// Units larger than [`super::UNIT_BYTES_MAX`].
    pub oversize_units: u64,
    /// Units without a time.
    pub untimed_units: u64,
    /// Pictures before the first that decoding can start at.
    pub units_before_key: u64,
    /// Streams of the program that this node cannot carry.
    pub ignored_streams: u32,
}

/// Reads one transport stream, or a run of segments.
#[derive(Debug)]
pub struct Demuxer {
    /// The beginning of a packet whose end has not come, or, out of sync, what may be one.
    carry: Vec<u8>,
    /// Packets are where they should be. Found when two sync bytes are a packet apart, lost at the
    /// first byte that is none. As a stream begins with two tables, this holds no picture back.
    synced: bool,
    program: Program,
}

impl Default for Demuxer {
    fn default() -> Self {
        Self::new()
    }
}

impl Demuxer {
    /// A demuxer whose first timestamp is taken as it stands on the wire.
    pub fn new() -> Self {
        Self {
            carry: Vec::with_capacity(PACKET_BYTES + 1),
            synced: false,
            program: Program::default(),
        }
    }

    /// A demuxer whose first timestamp is the one nearest to `reference`, so that 64-bit names of
    /// frames come back as they were given to the muxer. `reference` may be up to 13 hours off.
    pub fn with_reference(reference: Pts) -> Self {
        let mut demuxer = Self::new();
        demuxer.program.output.unwrap = Unwrapper::near(reference.0);
        demuxer
    }

    /// Takes the next bytes, which arrived at `now`, and appends what they complete to `out`.
    pub fn push(&mut self, now: Instant, mut bytes: &[u8], out: &mut Vec<Event>) {
        loop {
            if self.carry.is_empty() && self.synced {
                while let Some((packet, rest)) = bytes.split_first_chunk::<PACKET_BYTES>() {
                    if packet[0] != SYNC {
                        break;
                    }
                    self.program.packet(packet, now, out);
                    bytes = rest;
                }
            }
            let Some(&first) = self.carry.first().or(bytes.first()) else { return };
            self.synced &= first == SYNC;
            // Out of sync, the sync byte of the packet after is asked for as well.
            let wanted = PACKET_BYTES + usize::from(!self.synced);
            let (taken, rest) =
                bytes.split_at(bytes.len().min(wanted - self.carry.len().min(wanted)));
            self.carry.extend_from_slice(taken);
            bytes = rest;
            if self.carry.len() < wanted {
                return;
            }
            if self.synced {
                if let Some(packet) = self.carry.first_chunk::<PACKET_BYTES>() {
                    self.program.packet(packet, now, out);
                }
                self.carry.drain(..PACKET_BYTES);
            } else if self.carry[0] == SYNC && self.carry[PACKET_BYTES] == SYNC {
                self.synced = true;
            } else {
                let next = self.carry[1..].iter().position(|byte| *byte == SYNC);
                let skipped = next.map_or(self.carry.len(), |at| at + 1);
                self.program.stats.lost_sync_bytes += skipped as u64;
                self.carry.drain(..skipped);
            }
        }
    }

    /// The bytes of a segment, or of the stream, are over: gives out units whose end was not
    /// marked. The next bytes may begin anew with their continuity counters.
    pub fn end_of_segment(&mut self, now: Instant, out: &mut Vec<Event>) {
        self.program.stats.lost_sync_bytes += self.carry.len() as u64;
        self.carry.clear();
        self.synced = false;
        self.program.flush(now, out);
    }

    /// What was read and what was wrong so far.
    pub fn stats(&self) -> Stats {
        self.program.stats
    }

    /// The tracks as far as they are known.
    pub fn tracks(&self) -> &Tracks {
        &self.program.output.tracks
    }
}

/// A continuity counter (2.4.3.3).
#[derive(Clone, Copy, Debug, Default)]
struct Continuity {
    last: Option<u8>,
    repeated: bool,
}

enum Next {
    InOrder,
    Repeated,
    Gap,
}

impl Continuity {
    fn step(&mut self, counter: u8, announced: bool) -> Next {
        let last = self.last.replace(counter);
        let repeated = std::mem::take(&mut self.repeated);
        match last {
            None => Next::InOrder,
            Some(last) if counter == (last + 1) & 15 => Next::InOrder,
            _ if announced => Next::InOrder,
            // A packet may be sent twice, not more often.
            Some(last) if counter == last && !repeated => {
                self.repeated = true;
                Next::Repeated
            }
            Some(_) => Next::Gap,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    continuity: Continuity,
    sections: Sections,
}

#[derive(Debug)]
struct Stream {
    elementary: Elementary,
    continuity: Continuity,
    collector: Collector,
}

impl Stream {
    fn new(elementary: Elementary) -> Self {
        let collector = Collector::new(elementary.codec.is_video());
        Self { elementary, continuity: Continuity::default(), collector }
    }
}

/// The first program of the stream.
#[derive(Debug, Default)]
struct Program {
    pat: Table,
    pmt: Option<(u16, Table)>,
    map: ProgramMap,
    video: Option<Stream>,
    audio: Option<Stream>,
    /// Units on their way from a collector to the output, empty between packets.
    units: Vec<Unit>,
    output: Output,
    stats: Stats,
}

impl Program {
    fn packet(&mut self, packet: &[u8; PACKET_BYTES], now: Instant, out: &mut Vec<Event>) {
        self.stats.packets += 1;
        let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
        if packet[1] & 0x80 != 0 {
            self.stats.transport_errors += 1;
            return;
        }
        if pid == psi::NULL_PID {
            return;
        }
        if packet[3] & 0xc0 != 0 {
            self.stats.scrambled += 1;
            return;
        }
        let Some((payload, announced)) = payload(packet) else {
            self.stats.bad_packets += 1;
            return;
        };
        if payload.is_empty() {
            return;
        }
        let (start, counter) = (packet[1] & 0x40 != 0, packet[3] & 15);
        let stats = &mut self.stats;
        if pid == psi::PAT_PID {
            let mut found = None;
            self.pat.push(payload, start, counter, announced, stats, |section| {
                let pmt = psi::parse_pat(section);
                found = pmt.or(found);
                pmt.is_some()
            });
            if let Some(pid) = found.filter(|pid| self.pmt.as_ref().map(|pmt| pmt.0) != Some(*pid))
            {
                self.pmt = Some((pid, Table::default()));
            }
            return;
        }
        if let Some((_, table)) = self.pmt.as_mut().filter(|(pmt, _)| *pmt == pid) {
            let mut found = None;
            table.push(payload, start, counter, announced, stats, |section| {
                let map = psi::parse_pmt(section);
                let good = map.is_some();
                found = map.or(found.take());
                good
            });
            if let Some(map) = found.filter(|map| *map != self.map) {
                self.change_map(map, now, out);
            }
            return;
        }
        let streams = [&mut self.video, &mut self.audio].into_iter().flatten();
        let Some(stream) = streams.into_iter().find(|stream| stream.elementary.pid == pid) else {
            return;
        };
        match stream.continuity.step(counter, announced) {
            Next::InOrder => {}
            Next::Repeated => return,
            Next::Gap => {
                stats.gaps += 1;
                stream.collector.gap(stats);
            }
        }
        stream.collector.push(payload, start, stats, &mut self.units);
        let codec = stream.elementary.codec;
        for unit in self.units.drain(..) {
            self.output.unit(codec, unit, now, stats, out);
        }
    }

    fn change_map(&mut self, map: ProgramMap, now: Instant, out: &mut Vec<Event>) {
        self.flush(now, out);
        self.stats.ignored_streams = map.ignored;
        if map.video != self.map.video {
            self.video = map.video.map(Stream::new);
            self.output.begin_video(map.video);
        }
        if map.audio != self.map.audio {
            self.audio = map.audio.map(Stream::new);
            self.output.begin_audio(map.audio);
        }
        self.map = map;
    }

    fn flush(&mut self, now: Instant, out: &mut Vec<Event>) {
        self.pat.continuity = Continuity::default();
        if let Some((_, table)) = &mut self.pmt {
            table.continuity = Continuity::default();
        }
        for stream in [&mut self.video, &mut self.audio].into_iter().flatten() {
            stream.continuity = Continuity::default();
            stream.collector.flush(&mut self.stats, &mut self.units);
            for unit in self.units.drain(..) {
                self.output.unit(stream.elementary.codec, unit, now, &mut self.stats, out);
            }
        }
    }
}

impl Table {
    /// Takes a packet's payload; `read` answers whether a section made sense.
    fn push(
        &mut self,
        payload: &[u8],
        start: bool,
        counter: u8,
        announced: bool,
        stats: &mut Stats,
        mut read: impl FnMut(&[u8]) -> bool,
    ) {
        match self.continuity.step(counter, announced) {
            Next::InOrder => {}
            Next::Repeated => return,
            Next::Gap => {
                stats.gaps += 1;
                self.sections.reset();
            }
        }
        self.sections.push(payload, start, |section| {
            stats.bad_sections += u64::from(!read(section));
        });
    }
}

/// The payload of a packet, which may be empty, and whether its adaptation field announces a jump
/// of the counter. `None` when the adaptation field cannot be.
fn payload(packet: &[u8; PACKET_BYTES]) -> Option<(&[u8], bool)> {
    let rest = &packet[4..];
    let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
    if !has_field {
        return has_payload.then_some((rest, false));
    }
    let length = usize::from(rest[0]);
    let field = rest[1..].get(..length)?;
    let announced = field.first().is_some_and(|flags| flags & 0x80 != 0);
    let payload = if has_payload { &rest[1 + length..] } else { &[] };
    // A payload of nothing is only right where none is stated.
    (has_payload != payload.is_empty()).then_some((payload, announced))
}
