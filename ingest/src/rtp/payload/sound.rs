//! From RTP payloads in sequence to frames of sound, whatever the codec.
//!
//! Sound needs no key frames: a hole costs the frames in it. A frame in fragments ends at its
//! known size; a hole within it, or another one that begins, gives it up.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use pipeline::mp3::FrameHeader;

use super::aac::{self, Lengths};
use super::{DepacketiseError, Fault, Unit, mpa, opus};
use crate::rtp::packet::{ExtSeq, RtpTime};

/// Longest frame of sound in bytes: 64 KiB.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// The format, as the SDP says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundFormat {
    /// One packet of RFC 6716 a payload.
    Opus,
    /// Samples of G.711 as they are.
    G711,
    /// `mpeg4-generic`; `step` RTP ticks from one access unit to the next.
    Aac {
        /// The form of unit headers.
        lengths: Lengths,
        /// Ticks.
        step: u32,
    },
    /// `MP4A-LATM` whose config is in the SDP; `step` as for [`Self::Aac`].
    Latm {
        /// Ticks.
        step: u32,
    },
    /// MPEG audio layer III.
    Mpa,
}

/// Joins payloads to frames. Feed packets in order, holes declared by the gap in the sequence.
#[derive(Debug)]
pub struct SoundDepacketiser {
    format: SoundFormat,
    last: Option<ExtSeq>,
    /// A frame that goes on in the next packet: its time, its bytes so far, its size.
    open: Option<(RtpTime, Vec<u8>, usize)>,
    ready: VecDeque<Unit>,
}

impl SoundDepacketiser {
    /// One that has seen nothing.
    pub fn new(format: SoundFormat) -> Self {
        Self { format, last: None, open: None, ready: VecDeque::new() }
    }

    /// Takes the next packet. Drain [`Self::poll`] after each call; frames not taken are dropped
    /// by the next call.
    ///
    /// # Errors
    /// When the payload is refused; the following packets may be fed all the same.
    pub fn push(
        &mut self,
        seq: ExtSeq,
        time: RtpTime,
        marker: bool,
        payload: &[u8],
        arrived: Instant,
    ) -> Result<(), DepacketiseError> {
        self.ready.clear();
        if self.last.is_some_and(|last| seq != last.plus(1)) {
            self.open = None;
        }
        self.last = Some(seq);
        // A sender's probe for bandwidth carries nothing.
        if payload.is_empty() {
            return Ok(());
        }
        self.take(time, marker, payload, arrived).map_err(|fault| fault.at(seq))
    }

    /// The next finished frame.
    pub fn poll(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }

    fn take(
        &mut self,
        time: RtpTime,
        marker: bool,
        payload: &[u8],
        arrived: Instant,
    ) -> Result<(), Fault> {
        match self.format {
            SoundFormat::Opus => {
                opus::duration(payload).map_err(|_| Fault::Malformed("not an Opus packet"))?;
                self.give(time, payload, arrived);
            }
            SoundFormat::G711 => self.give(time, payload, arrived),
            SoundFormat::Aac { lengths, step } => {
                let (sizes, body) = aac::parse(lengths, payload)?;
                return self.access_units((time, step), &sizes, body, arrived);
            }
            SoundFormat::Latm { step } => return self.latm((time, step), marker, payload, arrived),
            SoundFormat::Mpa => return self.mpa(time, payload, arrived),
        }
        Ok(())
    }

    fn access_units(
        &mut self,
        (time, step): (RtpTime, u32),
        sizes: &[usize],
        mut body: &[u8],
        arrived: Instant,
    ) -> Result<(), Fault> {
        if let [size] = *sizes
            && body.len() < size
        {
            return self.fragment(time, size, body, arrived);
        }
        self.open = None;
        for (at, &size) in sizes.iter().enumerate() {
            let (unit, rest) = body
                .split_at_checked(size)
                .ok_or(Fault::Malformed("an access unit beyond the packet"))?;
            body = rest;
            if !unit.is_empty() {
                self.give(time.plus(at as i64 * i64::from(step)), unit, arrived);
            }
        }
        Ok(())
    }

    /// A piece of a frame of `size` bytes; pieces of one frame have one time.
    fn fragment(
        &mut self,
        time: RtpTime,
        size: usize,
        piece: &[u8],
        arrived: Instant,
    ) -> Result<(), Fault> {
        let (begun, mut data, whole) =
            self.open.take().unwrap_or_else(|| (time, Vec::with_capacity(size), size));
        if begun != time || whole != size || data.len() + piece.len() > size {
            return Err(Fault::Malformed("a fragment out of turn"));
        }
        data.extend_from_slice(piece);
        if data.len() == size {
            self.give(time, &data, arrived);
        } else {
            self.open = Some((time, data, size));
        }
        Ok(())
    }

    /// RFC 6416 6.3: audio mux elements without config; one in fragments ends at its marker.
    fn latm(
        &mut self,
        (time, step): (RtpTime, u32),
        marker: bool,
        payload: &[u8],
        arrived: Instant,
    ) -> Result<(), Fault> {
        let begun = self.open.take().filter(|(begun, ..)| *begun == time);
        let mut data = begun.map(|(_, data, _)| data).unwrap_or_default();
        if data.len() + payload.len() > FRAME_BYTES_MAX {
            return Err(Fault::Malformed("a frame of sound without end"));
        }
        data.extend_from_slice(payload);
        if !marker {
            self.open = Some((time, data, 0));
            return Ok(());
        }
        let (mut rest, mut at) = (&data[..], 0);
        while !rest.is_empty() {
            let (length, after) =
                aac::latm_length(rest).ok_or(Fault::Malformed("a cut length in LATM"))?;
            let (unit, after) = after
                .split_at_checked(length)
                .ok_or(Fault::Malformed("a length in LATM beyond the packet"))?;
            if !unit.is_empty() {
                self.give(time.plus(at * i64::from(step)), unit, arrived);
            }
            rest = after;
            at += 1;
        }
        Ok(())
    }

    fn mpa(&mut self, time: RtpTime, payload: &[u8], arrived: Instant) -> Result<(), Fault> {
        let (offset, mut body) = mpa::parse(payload)?;
        if offset > 0 {
            let Some((_, data, size)) = &self.open else {
                return Err(Fault::Malformed("a fragment out of turn"));
            };
            let (size, fits) = (*size, data.len() == offset);
            if !fits {
                self.open = None;
                return Err(Fault::Malformed("a fragment at another place than its turn"));
            }
            return self.fragment(time, size, body, arrived);
        }
        self.open = None;
        let mut at = time;
        while !body.is_empty() {
            let header = FrameHeader::parse(body)
                .map_err(|_| Fault::Malformed("no header of an MPEG audio layer III frame"))?;
            // Where the length is not said, the frame is all that is there.
            let size = header.frame_bytes.unwrap_or(body.len());
            let Some((frame, rest)) = body.split_at_checked(size) else {
                return self.fragment(at, size, body, arrived);
            };
            self.give(at, frame, arrived);
            let ticks = header.samples * (mpa::CLOCK_RATE / 100) / (header.sample_rate / 100);
            at = at.plus(i64::from(ticks));
            body = rest;
        }
        Ok(())
    }

    fn give(&mut self, time: RtpTime, data: &[u8], arrived: Instant) {
        let data = Bytes::copy_from_slice(data);
        self.ready.push_back(Unit { data, key: true, time, arrived });
    }
}
