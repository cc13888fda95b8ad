//! The receiving half: RTP of a publisher or a camera put in order, joined to frames, named on one
//! clock; and the reports that go back.
//!
//! Frames are held back until it is known what all tracks are, two seconds at most, so that a
//! reader never meets a stream that lacks its picture for a moment.

mod medium;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::mp3::FrameHeader;
use pipeline::packet::AudioTrack;
use pipeline::video::Description;
use pipeline::{Codec, Packet, Ticks, TrackKind, Tracks};

use medium::{Joiner, Kept, Medium, Order};

use super::announce::{Coding, Format};
use crate::rtp::packet::{ExtSeq, PacketError, RtpPacket, RtpTime, Seq};
use crate::rtp::payload::{DepacketiseError, Unit};
use crate::rtp::reorder;
use crate::rtp::rtcp::{Compound, Message, ReportBlock, messages};
use crate::rtp::source_clock::SourceClock;

/// How long frames are held back for tracks that are not known yet.
const HOLD_MAX: Duration = Duration::from_secs(2);

/// Frames held back, at most.
const HELD_MAX: usize = 512;

/// Time between our reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Why a packet was not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// No RTP packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A payload type that was not agreed.
    #[error("payload type {0} was not agreed")]
    PayloadType(u8),
    /// A payload that cannot be joined.
    #[error(transparent)]
    Payload(#[from] DepacketiseError),
    /// A picture that cannot be read.
    #[error(transparent)]
    Picture(#[from] pipeline::video::Error),
}

/// An RTP packet whose header was read.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    pub(super) seq: Seq,
    pub(super) time: RtpTime,
    pub(super) marker: bool,
    pub(super) payload: Bytes,
}

impl Arrived {
    /// Reads a packet without copying its payload.
    fn read(packet: &Bytes) -> Result<Self, PacketError> {
        let RtpPacket { ssrc, payload_type, seq, time, marker, payload, .. } =
            RtpPacket::parse(packet)?;
        let payload = packet.slice_ref(payload);
        Ok(Self { ssrc, payload_type, seq, time, marker, payload })
    }
}

/// What goes to the hub.
#[derive(Clone, Debug)]
pub(super) enum Output {
    Tracks(Tracks),
    Packet(Packet),
}

/// The media of one session. Media are numbered as in the SDP.
#[derive(Debug)]
pub(super) struct Receiver {
    media: Vec<Option<Medium>>,
    clock: SourceClock,
    tracks: Tracks,
    /// Frames that wait for all tracks to be known, and since when; `None` once they are.
    held: Option<(VecDeque<Packet>, Option<Instant>)>,
    report_at: Option<Instant>,
    ssrc: u32,
}

impl Receiver {
    /// For media of these formats, of which those without are passed over; `datagrams` says which
    /// of them may come out of order. `ssrc` is our name in reports.
    pub(super) fn new(formats: &[(Option<Format>, bool)], ssrc: u32) -> Self {
        let mut tracks = Tracks::default();
        let mut audio_rate = 48_000;
        let mut media = Vec::new();
        for (format, datagrams) in formats {
            let medium = format.as_ref().and_then(|format| Medium::new(format, *datagrams));
            match medium.as_ref().map(|medium| (&medium.joiner, &medium.format.coding)) {
                Some((Joiner::Picture(pictures), _)) => tracks.video = pictures.assembler.track(),
                Some((_, Coding::Sound(sound))) => {
                    tracks.audio.clone_from(&sound.track);
                    audio_rate = medium.as_ref().map_or(audio_rate, |m| m.format.clock_rate);
                }
                _ => {}
            }
            media.push(medium);
        }
        let clock = SourceClock::new(audio_rate);
        let held = Some((VecDeque::new(), None));
        Self { media, clock, tracks, held, report_at: None, ssrc }
    }

    /// Takes an RTP packet of medium `at`.
    ///
    /// # Errors
    /// Why it was not used; the stream goes on.
    pub(super) fn rtp(
        &mut self,
        at: usize,
        packet: &Bytes,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        match self.media.get(at) {
            Some(Some(_)) => self.packet(at, Arrived::read(packet)?, now, out),
            _ => Ok(()),
        }
    }

    /// As [`Self::rtp`], where somebody else has read the header.
    ///
    /// # Errors
    /// As there.
    pub(super) fn packet(
        &mut self,
        at: usize,
        packet: Arrived,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        let Arrived { ssrc, payload_type, seq, time, marker, payload } = packet;
        let Some(Some(medium)) = self.media.get_mut(at) else { return Ok(()) };
        if payload_type != medium.format.payload_type {
            return Err(MediaError::PayloadType(payload_type));
        }
        if medium.ssrc != Some(ssrc) {
            medium.restart(ssrc);
        }
        self.report_at.get_or_insert(now + REPORT_INTERVAL);
        medium.reception.on_packet(now, seq, time);
        let kept = Kept { time, marker, payload, arrived: now };
        let direct = match &mut medium.order {
            Order::Stream(unwrap) => Some((unwrap.unwrap(seq), kept)),
            Order::Datagrams(reorder) => {
                reorder.insert(now, seq, kept);
                None
            }
        };
        match direct {
            Some((seq, kept)) => self.join(at, seq, &kept, out),
            None => self.drain(at, now, out),
        }
    }

    /// Takes RTCP of medium `at`; what cannot be read is passed over.
    pub(super) fn rtcp(&mut self, at: usize, datagram: &[u8], now: Instant) {
        let Some(Some(medium)) = self.media.get_mut(at) else { return };
        for message in messages(datagram).map_while(Result::ok) {
            if let Message::SenderReport { wall, time, .. } = message {
                medium.reception.on_sender_report(now, wall);
                if medium.begun {
                    self.clock.sender_report(medium.format.kind(), wall, time);
                } else {
                    medium.early_report = Some((wall, time));
                }
            }
        }
    }

    /// A reader wants a key picture.
    pub(super) fn want_key(&mut self) {
        for medium in self.media.iter_mut().flatten() {
            if let Joiner::Picture(pictures) = &mut medium.joiner {
                pictures.wish.want();
            }
        }
    }

    /// Does what is due; answers with RTCP to send, by medium.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Vec<(usize, Vec<u8>)> {
        for at in 0..self.media.len() {
            // What is wrong with late packets was nobody's question.
            let _ = self.drain(at, now, out);
        }
        let held_since = self.held.as_ref().and_then(|(_, since)| *since);
        if held_since.is_some_and(|since| now >= since + HOLD_MAX) {
            self.release(out);
        }
        let report = self.report_at.is_some_and(|at| now >= at);
        if report {
            self.report_at = Some(now + REPORT_INTERVAL);
        }
        let ours = self.ssrc;
        let mut reports = Vec::new();
        for (at, medium) in self.media.iter_mut().enumerate() {
            let Some(medium) = medium else { continue };
            let key = match &mut medium.joiner {
                Joiner::Picture(pictures) => pictures.wish.poll(now),
                Joiner::Sound(_) => false,
            };
            let Some(theirs) = medium.ssrc.filter(|_| report || key) else { continue };
            let block: Option<ReportBlock> = medium.reception.block(now);
            let mut bytes = Vec::new();
            let mut compound = Compound::new(&mut bytes);
            compound.receiver_report(ours, block.as_slice()).cname(ours, "millstream");
            if key {
                compound.picture_loss(ours, theirs);
            }
            reports.push((at, bytes));
        }
        reports
    }

    /// When [`Self::handle_timeout`] is worth calling again.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let held = self.held.as_ref().and_then(|(_, since)| *since).map(|since| since + HOLD_MAX);
        let media = self.media.iter().flatten().flat_map(|medium| {
            let order = match &medium.order {
                Order::Datagrams(reorder) => reorder.next_timeout(),
                Order::Stream(_) => None,
            };
            let wish = match &medium.joiner {
                Joiner::Picture(pictures) => pictures.wish.next_timeout(),
                Joiner::Sound(_) => None,
            };
            [order, wish]
        });
        media.chain([held, self.report_at]).flatten().min()
    }

    fn drain(&mut self, at: usize, now: Instant, out: &mut Vec<Output>) -> Result<(), MediaError> {
        let mut result = Ok(());
        while let Some(Some(Medium { order: Order::Datagrams(reorder), .. })) =
            self.media.get_mut(at)
        {
            match reorder.poll(now) {
                Some(reorder::Output::Packet(seq, kept)) => {
                    result = result.and(self.join(at, seq, &kept, out));
                }
                Some(_) => {}
                None => break,
            }
        }
        result
    }

    fn join(
        &mut self,
        at: usize,
        seq: ExtSeq,
        kept: &Kept,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        let Some(Some(medium)) = self.media.get_mut(at) else { return Ok(()) };
        let (time, marker, payload, now) = (kept.time, kept.marker, &kept.payload, kept.arrived);
        let result = match &mut medium.joiner {
            Joiner::Picture(pictures) => {
                pictures.depacketiser.push(seq, time, marker, payload, now)
            }
            Joiner::Sound(sound) => sound.push(seq, time, marker, payload, now),
        };
        let mut result = result.map_err(MediaError::from);
        while let Some(Some(medium)) = self.media.get_mut(at) {
            match &mut medium.joiner {
                Joiner::Picture(pictures) => match pictures.depacketiser.poll() {
                    Some(unit) => result = result.and(self.picture(at, unit, out)),
                    None => {
                        if pictures.depacketiser.awaits_key() {
                            pictures.wish.want();
                        }
                        break;
                    }
                },
                Joiner::Sound(sound) => match sound.poll() {
                    Some(unit) => self.sound(at, &unit, out),
                    None => break,
                },
            }
        }
        result
    }

    fn picture(&mut self, at: usize, unit: Unit, out: &mut Vec<Output>) -> Result<(), MediaError> {
        let Some(Some(medium)) = self.media.get_mut(at) else { return Ok(()) };
        let Joiner::Picture(pictures) = &mut medium.joiner else { return Ok(()) };
        let (time, arrived) = (unit.time, unit.arrived);
        let Some(unit) = pictures.assembler.unit(unit.data)? else { return Ok(()) };
        if unit.key {
            pictures.wish.answered();
        }
        let track = pictures.assembler.track();
        let changed = unit.key && self.tracks.video != track;
        if let Some(track) = track.as_ref().filter(|_| changed) {
            let depth = Description::of(track).ok().and_then(|found| found.reorder_frames);
            pictures.times.set_depth(depth.unwrap_or(0));
        }
        let shown = pictures.unwrap.unwrap(u64::from(time.0));
        let (shown, decoded) = pictures.times.push(shown);
        let delay = shown - decoded;
        let kind = TrackKind::Video;
        let dts = self.clock.pts(kind, time.plus(-delay), arrived);
        medium.begin(&mut self.clock);
        if changed {
            self.tracks.video = track;
            self.tracks_changed(out);
        }
        let (pts, key) = (dts + Ticks(delay), unit.key);
        self.give(Packet { kind, pts, dts, key, data: unit.data, arrived }, out);
        Ok(())
    }

    fn sound(&mut self, at: usize, unit: &Unit, out: &mut Vec<Output>) {
        let Some(Some(medium)) = self.media.get_mut(at) else { return };
        let track = match (&self.tracks.audio, medium.format.codec()) {
            (None, Codec::Mp3) => FrameHeader::parse(&unit.data).ok().map(|head| head.track()),
            // A stereo track stays one when an encoder saves bits on a mono passage.
            (Some(track), Codec::Opus) => {
                let stereo = unit.data.first().is_some_and(|toc| toc & 4 != 0);
                (stereo && track.channels < 2).then(|| AudioTrack { channels: 2, ..track.clone() })
            }
            _ => None,
        };
        let (kind, key, arrived) = (TrackKind::Audio, true, unit.arrived);
        let pts = self.clock.pts(kind, unit.time, arrived);
        medium.begin(&mut self.clock);
        if track.is_some() {
            self.tracks.audio = track;
            self.tracks_changed(out);
        }
        if self.tracks.audio.is_some() {
            let data = unit.data.clone();
            self.give(Packet { kind, pts, dts: pts, key, data, arrived }, out);
        }
    }

    fn tracks_changed(&self, out: &mut Vec<Output>) {
        if self.held.is_none() {
            out.push(Output::Tracks(self.tracks.clone()));
        }
    }

    fn give(&mut self, packet: Packet, out: &mut Vec<Output>) {
        let Some((held, since)) = &mut self.held else {
            out.push(Output::Packet(packet));
            return;
        };
        let since = *since.get_or_insert(packet.arrived);
        let late = packet.arrived >= since + HOLD_MAX || held.len() >= HELD_MAX;
        held.push_back(packet);
        let unknown = |medium: &Medium| match medium.format.kind() {
            TrackKind::Video => self.tracks.video.is_none(),
            TrackKind::Audio => self.tracks.audio.is_none(),
        };
        // Pictures whose parameter sets are in the SDP may still be waited for: a reader that
        // came now would have to wait for the first one anyway.
        let pending = |medium: &Medium| medium.format.kind().is_video() && !medium.begun;
        if late || !self.media.iter().flatten().any(|medium| unknown(medium) || pending(medium)) {
            self.release(out);
        }
    }

    fn release(&mut self, out: &mut Vec<Output>) {
        if let Some((held, _)) = self.held.take() {
            out.push(Output::Tracks(self.tracks.clone()));
            out.extend(held.into_iter().map(Output::Packet));
        }
    }
}

#[cfg(test)]
#[path = "../receiver_tests.rs"]
mod tests;
