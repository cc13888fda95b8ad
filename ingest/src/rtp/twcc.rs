//! When each packet of a session arrived: transport-wide feedback, both ways
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! The receiver's half notes arrivals by the sequence number of the header extension and writes
//! them ten times a second; the reader's half walks over such a report. Nothing is estimated here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::{ExtSeq, Seq, SeqUnwrapper};
use super::rtcp::Compound;

/// Time between two reports.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Most packets that one report tells of.
const REPORT_PACKETS_MAX: usize = 400;

/// Most numbers between the oldest arrival not reported and the newest; more is a new sequence.
const WINDOW_MAX: u64 = 4096;

/// Microseconds of one step of arrival.
const DELTA_US: i64 = 250;

/// Microseconds of one step of the reference time.
const REFERENCE_US: i64 = 64_000;

/// Arrivals at a receiver.
#[derive(Debug, Default)]
pub struct Arrivals {
    origin: Option<Instant>,
    unwrap: SeqUnwrapper,
    /// The number of the first entry.
    first: Option<ExtSeq>,
    /// Microseconds since the origin, for each number from `first` on.
    entries: VecDeque<Option<i64>>,
    due: Option<Instant>,
    reports: u8,
}

impl Arrivals {
    /// Notes the packet with this transport-wide number.
    pub fn on_packet(&mut self, now: Instant, seq: Seq) {
        let origin = *self.origin.get_or_insert(now);
        let number = self.unwrap.unwrap(seq);
        let first = *self.first.get_or_insert(number);
        // Reported already; the sender took it for lost and will live.
        let Some(place) = number.0.checked_sub(first.0) else { return };
        if place >= WINDOW_MAX {
            self.entries.clear();
            self.first = Some(number);
            return self.note(0, now, origin);
        }
        self.note(place as usize, now, origin);
    }

    fn note(&mut self, place: usize, now: Instant, origin: Instant) {
        if self.entries.len() <= place {
            self.entries.resize(place + 1, None);
        }
        let since = now.saturating_duration_since(origin).as_micros() as i64;
        self.entries[place].get_or_insert(since);
        self.due.get_or_insert(now + INTERVAL);
    }

    /// Appends a report to `compound` if one is due and says whether it did. Call again until it
    /// says no.
    pub fn poll(
        &mut self,
        now: Instant,
        sender: u32,
        media: u32,
        compound: &mut Compound<'_>,
    ) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let Some(mut first) = self.first else { return false };
        // Holes at the start were told by the report before, which ended with an arrival.
        let Some(start) = self.entries.iter().position(Option::is_some) else { return false };
        let reference = self.entries[start].map_or(0, |at| at.div_euclid(REFERENCE_US));
        let mut symbols = Vec::new();
        let mut deltas = Vec::new();
        let mut last = reference * REFERENCE_US;
        for entry in self.entries.iter().take(REPORT_PACKETS_MAX.max(start + 1)) {
            let Some(at) = entry else {
                symbols.push(0_u8);
                continue;
            };
            let delta = (at - last).div_euclid(DELTA_US);
            match (u8::try_from(delta), i16::try_from(delta)) {
                (Ok(small), _) => {
                    symbols.push(1);
                    deltas.push(small);
                }
                (_, Ok(large)) => {
                    symbols.push(2);
                    deltas.extend_from_slice(&large.to_be_bytes());
                }
                // More than eight seconds apart: the next report has its own reference.
                _ => break,
            }
            last += delta * DELTA_US;
        }
        self.entries.drain(..symbols.len());
        let base = first.seq();
        first = first.plus(symbols.len() as u64);
        self.first = Some(first);
        let count = self.reports;
        self.reports = self.reports.wrapping_add(1);
        compound.transport_feedback(sender, media, |out| {
            out.extend_from_slice(&base.0.to_be_bytes());
            out.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
            out.extend_from_slice(&((reference as u32) << 8 | u32::from(count)).to_be_bytes());
            write_chunks(&symbols, out);
            out.extend_from_slice(&deltas);
        });
        if self.entries.iter().all(Option::is_none) {
            self.due = None;
        }
        true
    }

    /// When [`Self::poll`] has the next report.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due
    }
}

/// Status of packets in runs of one symbol, or seven in a word where runs are short.
fn write_chunks(mut symbols: &[u8], out: &mut Vec<u8>) {
    while let Some(&symbol) = symbols.first() {
        let run = symbols.iter().take_while(|other| **other == symbol).count().min(0x1fff);
        let (word, taken) = if run >= 7 || run == symbols.len() {
            (u16::from(symbol) << 13 | run as u16, run)
        } else {
            let taken = symbols.len().min(7);
            let packed = symbols[..taken].iter().enumerate();
            (packed.fold(0xc000, |word, (at, s)| word | u16::from(*s) << (12 - 2 * at)), taken)
        };
        out.extend_from_slice(&word.to_be_bytes());
        symbols = &symbols[taken..];
    }
}

/// A report read in place: every number it tells of, with the arrival if there was one.
#[derive(Clone, Debug)]
pub struct Feedback<'a> {
    /// Counts reports, modulo 256.
    pub count: u8,
    next: Seq,
    left: u16,
    chunks: &'a [u8],
    deltas: &'a [u8],
    chunk: u16,
    /// Symbols left in `chunk`.
    in_chunk: u16,
    at_us: i64,
}

impl<'a> Feedback<'a> {
    /// Reads what follows the SSRCs; `None` when it is cut.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (head, chunks) = body.split_first_chunk::<8>()?;
        let left = u16::from_be_bytes([head[2], head[3]]);
        let reference = i32::from_be_bytes([head[4], head[5], head[6], 0]) >> 8;
        let mut told = 0_usize;
        let mut length = 0;
        while told < usize::from(left) {
            let chunk = chunks.get(length..length + 2)?;
            let run = chunk_length(u16::from_be_bytes([chunk[0], chunk[1]]));
            // A run of nothing would be read forever.
            if run == 0 {
                return None;
            }
            told += usize::from(run);
            length += 2;
        }
        let (chunks, deltas) = chunks.split_at(length);
        Some(Self {
            count: head[7],
            next: Seq(u16::from_be_bytes([head[0], head[1]])),
            left,
            chunks,
            deltas,
            chunk: 0,
            in_chunk: 0,
            at_us: i64::from(reference) * REFERENCE_US,
        })
    }

    fn symbol(&mut self) -> Option<u8> {
        if self.in_chunk == 0 {
            let (chunk, rest) = self.chunks.split_first_chunk::<2>()?;
            self.chunks = rest;
            self.chunk = u16::from_be_bytes(*chunk);
            self.in_chunk = chunk_length(self.chunk);
        }
        self.in_chunk -= 1;
        Some(match self.chunk >> 14 {
            0 | 1 => (self.chunk >> 13) as u8 & 3,
            2 => (self.chunk >> self.in_chunk) as u8 & 1,
            _ => (self.chunk >> (2 * self.in_chunk)) as u8 & 3,
        })
    }
}

fn chunk_length(chunk: u16) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk & 0x1fff,
        2 => 14,
        _ => 7,
    }
}

impl Iterator for Feedback<'_> {
    /// Number, and microseconds of arrival on the receiver's own clock.
    type Item = (Seq, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let seq = self.next;
        self.next = seq.next();
        let delta = match self.symbol()? {
            1 => {
                let (delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                i64::from(*delta)
            }
            2 => {
                let (delta, rest) = self.deltas.split_first_chunk::<2>()?;
                self.deltas = rest;
                i64::from(i16::from_be_bytes(*delta))
            }
            _ => return Some((seq, None)),
        };
        self.at_us += delta * DELTA_US;
        Some((seq, Some(self.at_us)))
    }
}

#[cfg(test)]
#[path = "twcc_tests.rs"]
mod tests;
