//! The sending half of a session: one viewer's numbering, clock and way to the live edge.
//!
//! Frames come packetised from [`Stream`]; here they get this viewer's header and are protected in
//! one reused buffer that leaves in one call. Packets are not kept: what a viewer asks for again is
//! made again from the stream's ring.
//!
//! This file is long because what goes out for whatever reason shares one numbering.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pipeline::{Pts, Ticks, TrackKind};
use rand::Rng;

use super::answer::{Agreed, CNAME, Medium};
use super::counters::add;
use super::renditions;
use super::results::Results;
use super::session::Io;
use super::srtp::Protect;
use super::stream::Stream;
use crate::rtp::choice::{Choice, Taken};
use crate::rtp::clock::{Ntp, ViewerClock};
use crate::rtp::estimate::{Estimate, Way};
use crate::rtp::frame::FramePackets;
use crate::rtp::join::{Advice, Join, JoinLimits};
use crate::rtp::mapping::{Mapping, Placed};
use crate::rtp::packet::{ExtSeq, Header, PlayoutDelay, RtpTime, Seq};
use crate::rtp::rtcp::{Compound, Message, ReportBlocks};
use crate::rtp::rtx;
use crate::rtp::thin::{Supply, Thin};

/// Time between sender reports. Players match sound and picture by them, so the first goes out
/// with the first frame.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Packets of each track that are remembered for retransmission: 2 s of 40 Mbit/s.
const WINDOW_PACKETS: u32 = 8192;

/// Bytes of a packet beside its payload: header, extensions, tag, UDP and IP.
const OVERHEAD_BYTES: usize = 12 + 8 + 16 + 28;

/// What viewers are told about holding pictures back: show them as they come.
const PLAYOUT_DELAY: PlayoutDelay = PlayoutDelay { min_ms: 0, max_ms: 400 };

/// What the API and the log want to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) lost: u64,
    pub(crate) nacks: u64,
    pub(crate) resent: u64,
    pub(crate) plis: u64,
    /// Pictures left out for the way's sake.
    pub(crate) thinned: u64,
    pub(crate) round_trip: Option<Duration>,
    /// What the way carries, once told.
    pub(crate) way: Way,
}

/// One viewer.
pub(crate) struct Viewer {
    /// The stream on this worker.
    pub(crate) stream: u64,
    clock: Option<ViewerClock>,
    video: Option<Track>,
    audio: Option<Track>,
    join: Option<Join>,
    awaits_key: bool,
    report_at: Option<Instant>,
    /// Where the viewer reports on each packet.
    estimate: Option<Box<Estimate>>,
    /// Which rendition of the pictures it gets, and what of it.
    choice: Choice,
    thin: Thin,
    /// What the viewer was last told.
    told: Supply,
    told_rendition: usize,
    /// What graphs said about the pictures that were sent.
    pub(crate) results: Results,
    pub(crate) figures: Figures,
}

/// One medium of one viewer.
struct Track {
    medium: Medium,
    mapping: Mapping,
    /// The next number of the retransmission stream.
    repair: ExtSeq,
    lost: u32,
}

impl Track {
    fn new(medium: &Medium) -> Self {
        let rate = medium.clock_rate();
        let mut random = rand::rng();
        let first = Seq(random.random());
        Self {
            medium: medium.clone(),
            mapping: Mapping::new(first, RtpTime(random.random()), rate, WINDOW_PACKETS),
            repair: ExtSeq(u64::from(random.random::<u16>() & 0x7fff)),
            lost: 0,
        }
    }

    /// Whether the stream has nothing of this kind, or in the coding that was agreed on.
    fn fits(&self, stream: &Stream, kind: TrackKind) -> bool {
        stream.codec(kind).is_none_or(|codec| codec == self.medium.codec)
    }
}

impl Viewer {
    /// A viewer that waits for its handshake.
    pub(crate) fn new(agreed: &Agreed, stream: u64) -> Self {
        Self {
            stream,
            clock: None,
            video: agreed.video.as_ref().map(Track::new),
            audio: agreed.audio.as_ref().map(Track::new),
            join: None,
            awaits_key: false,
            report_at: None,
            estimate: [&agreed.video, &agreed.audio]
                .into_iter()
                .flatten()
                .any(|medium| medium.transport_cc.is_some())
                .then(Box::default),
            choice: Choice::default(),
            thin: Thin::default(),
            told: Supply::Whole,
            told_rendition: 0,
            results: Results::default(),
            figures: Figures::default(),
        }
    }

    /// Whether what the stream has now is what was agreed on.
    pub(crate) fn fits(&self, stream: &Stream) -> bool {
        let fits = |track: &Option<Track>, kind| {
            track.as_ref().is_none_or(|track| track.fits(stream, kind))
        };
        fits(&self.video, TrackKind::Video) && fits(&self.audio, TrackKind::Audio)
    }

    /// The handshake is through: begins at the newest key picture.
    pub(crate) fn connected(&mut self, io: &mut Io<'_>, stream: &Stream, protect: &mut Protect) {
        let mut clock = ViewerClock::new(io.now, Ntp::from_system(SystemTime::now()));
        if self.video.is_some() {
            let join = Join::new(stream.group(), JoinLimits::default(), &mut clock);
            self.awaits_key = join.is_live();
            if self.awaits_key || join.advice(true) == Advice::FreshKey {
                stream.request_key_frame();
            }
            self.join = Some(join);
        }
        self.clock = Some(clock);
        self.run_join(io, protect);
    }

    /// Sends a frame of the stream, or of a smaller rendition, that was just written.
    pub(crate) fn frame(
        &mut self,
        io: &mut Io<'_>,
        stream: &Stream,
        protect: &mut Protect,
        frame: &Arc<FramePackets>,
    ) {
        let Some(clock) = &mut self.clock else { return };
        if frame.kind == TrackKind::Video {
            if stream.offers().len() > 1
                && let Some(rendition) = self.choice.look(io.now, self.figures.way, stream.offers())
            {
                stream.request_key_of(rendition);
            }
            match self.choice.take(renditions::of(frame.index), frame.key) {
                Taken::No => return,
                Taken::Yes => {}
                Taken::First => {
                    // What was to be caught up with, and what was owed, belongs to the other one.
                    (self.join, self.thin) = (None, Thin::default());
                }
            }
            if let Some(join) = self.join.as_mut().filter(|join| !join.is_live()) {
                let skipped = join.skipped();
                join.push(Arc::clone(frame));
                add(&io.counters.frames_skipped, join.skipped() - skipped);
                return self.run_join(io, protect);
            }
            if self.awaits_key && !frame.key {
                return;
            }
            self.awaits_key = false;
            if !self.thin.admits(io.now, frame.key, frame.bytes(), self.figures.way) {
                self.figures.thinned += 1;
                add(&io.counters.frames_thinned, 1);
                if self.choice.current() > 0 {
                    // Smaller renditions have key pictures on request only.
                    self.choice.lost();
                }
                return;
            }
        } else {
            self.thin.spend(frame.bytes());
        }
        let at = clock.place(frame.pts, frame.arrived);
        self.send(io, protect, frame, at);
    }

    /// The viewer wants this rendition of the pictures, or leaves it to the way.
    pub(crate) fn ask_for(&mut self, rendition: Option<usize>) {
        self.choice.ask_for(rendition);
    }

    /// What to tell the viewer, when there is something new: which rendition it gets, and whether all
    /// pictures of it.
    pub(crate) fn take_notice(&mut self, stream: &Stream) -> Option<String> {
        let rendition = self.choice.current();
        if rendition != std::mem::replace(&mut self.told_rendition, rendition) {
            let (rid, track) = stream.described(rendition);
            let size = track.map(|track| (track.size.width, track.size.height));
            let (width, height) = size.unwrap_or_default();
            let notice = serde_json::json!({
                "type": "rendition", "rid": rid, "width": width, "height": height,
            });
            return Some(notice.to_string());
        }
        let supply = self.thin.supply();
        if supply == std::mem::replace(&mut self.told, supply) {
            return None;
        }
        let state = match supply {
            Supply::Whole => "whole",
            Supply::Thinned => "thinned",
        };
        let bitrate = self.figures.way.bitrate;
        let notice = serde_json::json!({ "type": "supply", "state": state, "bitrate": bitrate });
        Some(notice.to_string())
    }

    fn run_join(&mut self, io: &mut Io<'_>, protect: &mut Protect) {
        loop {
            let (Some(join), Some(clock)) = (&mut self.join, &mut self.clock) else { return };
            let Some(release) = join.poll(io.now, clock) else { return };
            self.thin.spend(release.frame.bytes());
            self.send(io, protect, &release.frame, release.at);
        }
    }

    fn send(&mut self, io: &mut Io<'_>, protect: &mut Protect, frame: &FramePackets, at: Ticks) {
        let track = match frame.kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        };
        let Some(track) = track else { return };
        let Placed { first, time } = track.mapping.place(frame, at);
        if let Some(document) = &frame.results {
            self.results.push(io.now, frame.pts, time, document);
        }
        for run in frame.runs() {
            io.buffer.clear();
            let (mut segment, packets) = (0, run.len() as u64);
            for index in run {
                let start = io.buffer.len();
                let seq = first.plus(index as u64);
                let payload = frame.payload(index).unwrap_or_default();
                let number = track.depart(&mut self.estimate, io.now, payload.len());
                let header = track.header(frame, index, (seq.seq(), time), number, io.buffer);
                io.buffer.extend_from_slice(payload);
                if let Err(error) = protect.seal(io.buffer, start, header, seq.roc()) {
                    tracing::error!(%error, "a packet could not be protected");
                    io.buffer.truncate(start);
                    break;
                }
                if segment == 0 {
                    segment = io.buffer.len();
                }
            }
            let bytes = io.buffer.len() as u64;
            if io.flush(segment) {
                self.figures.packets += packets;
                self.figures.bytes += bytes;
                add(&io.counters.packets_sent, packets);
                add(&io.counters.bytes_sent, bytes);
                add(&io.counters.sends, 1);
            } else {
                add(&io.counters.packets_dropped, packets);
            }
        }
        self.report_at.get_or_insert(io.now);
    }

    /// Makes reports and catches up when their time has come.
    pub(crate) fn timeout(&mut self, io: &mut Io<'_>, protect: &mut Protect) {
        self.run_join(io, protect);
        let due = self.report_at.is_some_and(|at| at <= io.now);
        let (true, Some(clock)) = (due, &self.clock) else { return };
        self.report_at = Some(io.now + REPORT_INTERVAL);
        let mut compound = Compound::new(io.rtcp);
        for track in [&self.video, &self.audio].into_iter().flatten() {
            if track.mapping.packets() == 0 {
                continue;
            }
            let (ssrc, time) = (track.medium.ssrc, track.mapping.time_at(clock.ticks(io.now)));
            let counts = (track.mapping.packets(), track.mapping.bytes());
            compound.sender_report(ssrc, clock.wall(io.now), time, counts, &[]).cname(ssrc, CNAME);
        }
    }

    /// The timestamp that a picture of this name has for the viewer, or will have when it comes in
    /// time; `None` before the first.
    pub(crate) fn rtp_time(&self, stream: &Stream, pts: Pts) -> Option<RtpTime> {
        let mapping = &self.video.as_ref()?.mapping;
        // While a viewer catches up its pictures follow each other faster than their names.
        let sent = stream.picture(pts).and_then(|picture| mapping.time_of_frame(picture));
        sent.or_else(|| Some(mapping.time_at(self.clock.as_ref()?.at(pts)?)))
    }

    /// When [`Self::timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let join = self.join.as_ref().and_then(Join::next_timeout);
        [join, self.report_at].into_iter().flatten().min()
    }

    /// Takes what the viewer reports and asks for.
    pub(crate) fn rtcp(
        &mut self,
        io: &mut Io<'_>,
        stream: &Stream,
        protect: &mut Protect,
        message: &Message<'_>,
    ) {
        match message {
            Message::ReceiverReport { blocks, .. } | Message::SenderReport { blocks, .. } => {
                self.report(io.now, blocks.clone());
            }
            Message::PictureLoss { .. } | Message::FullIntra { .. } => {
                self.figures.plis += 1;
                add(&io.counters.plis_received, 1);
                stream.request_key_of(self.choice.current());
            }
            Message::Nack { media, lost, .. } => {
                let kind = if self.video.as_ref().is_some_and(|t| t.medium.ssrc == *media) {
                    TrackKind::Video
                } else {
                    TrackKind::Audio
                };
                for seq in lost.clone() {
                    self.figures.nacks += 1;
                    add(&io.counters.nacks_received, 1);
                    self.resend(io, stream, protect, kind, *media, seq);
                }
            }
            Message::TransportFeedback { feedback, .. } => {
                if let Some(estimate) = &mut self.estimate {
                    estimate.on_feedback(io.now, feedback);
                    self.figures.way = estimate.way();
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, now: Instant, blocks: ReportBlocks<'_>) {
        let Some(clock) = &self.clock else { return };
        for block in blocks {
            let trip = block.round_trip(clock.wall(now));
            let tracks = [&mut self.video, &mut self.audio];
            let track = tracks.into_iter().flatten().find(|t| t.medium.ssrc == block.ssrc);
            if let Some(track) = track {
                track.lost = block.lost.max(0).unsigned_abs();
                let trip = trip.map(|trip| Duration::from_secs(trip.into()) / 65_536);
                self.figures.round_trip = trip.or(self.figures.round_trip);
            }
        }
        let lost = |track: &Option<Track>| track.as_ref().map_or(0, |track| u64::from(track.lost));
        self.figures.lost = lost(&self.video) + lost(&self.audio);
    }

    fn resend(
        &mut self,
        io: &mut Io<'_>,
        stream: &Stream,
        protect: &mut Protect,
        kind: TrackKind,
        media: u32,
        seq: Seq,
    ) {
        let track = match kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        };
        let Some(track) = track.as_mut().filter(|track| track.medium.ssrc == media) else { return };
        let Some(sent) = track.mapping.lookup(seq) else { return };
        let Some((frame, packet)) = stream.with_packet(kind, sent.packet) else { return };
        let Some(payload) = frame.payload(packet) else { return };
        if !track.mapping.may_resend() {
            return;
        }
        let time = track.mapping.time_of(frame, &sent);
        io.buffer.clear();
        let (header, roc) = match track.medium.rtx {
            Some(payload_type) => {
                let number = track.repair;
                track.repair = number.plus(1);
                let header = Header {
                    marker: frame.marker(packet),
                    payload_type,
                    seq: number.seq(),
                    time: time.plus(track.ticks(frame.offset(packet))),
                    ssrc: track.medium.rtx_ssrc,
                };
                let departed = track.depart(&mut self.estimate, io.now, payload.len());
                let departed = departed.map(|number| number.0.to_be_bytes());
                let extension = track.medium.transport_cc.zip(departed.as_ref());
                let extension = extension.map(|(id, number)| (id, &number[..]));
                let bytes = header.write(extension.as_slice(), io.buffer);
                rtx::wrap(seq, payload, io.buffer);
                (bytes, number.roc())
            }
            // A number of the session would make it another packet under the same sequence number,
            // which the cipher must not see: where packets are reported on, repeats have RTX.
            None if track.medium.transport_cc.is_some() => return,
            None => {
                // The very same packet as before, so the cipher may see its number again.
                let place = (sent.seq.seq(), time);
                let bytes = track.header(frame, packet, place, None, io.buffer);
                io.buffer.extend_from_slice(payload);
                (bytes, sent.seq.roc())
            }
        };
        if protect.seal(io.buffer, 0, header, roc).is_ok() {
            let bytes = io.buffer.len();
            if io.flush(bytes) {
                self.figures.resent += 1;
                self.figures.packets += 1;
                self.figures.bytes += bytes as u64;
                add(&io.counters.packets_resent, 1);
                add(&io.counters.packets_sent, 1);
                add(&io.counters.bytes_sent, bytes as u64);
            }
        }
    }

    /// Our SSRCs that were used, for the goodbye.
    pub(crate) fn sources(&self) -> impl Iterator<Item = u32> {
        [&self.video, &self.audio].into_iter().flatten().map(|track| track.medium.ssrc)
    }
}

impl Track {
    /// In units of the payload's clock.
    fn ticks(&self, time: Ticks) -> i64 {
        time.0 * i64::from(self.medium.clock_rate()) / 90_000
    }

    /// The number of the session for a packet that leaves now, where they are reported on.
    fn depart(
        &self,
        estimate: &mut Option<Box<Estimate>>,
        now: Instant,
        payload: usize,
    ) -> Option<Seq> {
        self.medium.transport_cc?;
        Some(estimate.as_mut()?.depart(now, payload + OVERHEAD_BYTES))
    }

    /// Writes the header of one packet. The same frame always gets the same one, but for `number`.
    fn header(
        &self,
        frame: &FramePackets,
        index: usize,
        (seq, time): (Seq, RtpTime),
        number: Option<Seq>,
        buffer: &mut Vec<u8>,
    ) -> usize {
        let header = Header {
            marker: frame.marker(index),
            payload_type: self.medium.payload_type,
            seq,
            time: time.plus(self.ticks(frame.offset(index))),
            ssrc: self.medium.ssrc,
        };
        // An element without a number is left out.
        let delay = self.medium.playout_delay.filter(|_| frame.key).unwrap_or(0);
        let (wide, number) = self.medium.transport_cc.zip(number).unwrap_or((0, Seq(0)));
        let elements = [(delay, &PLAYOUT_DELAY.bytes()[..]), (wide, &number.0.to_be_bytes()[..])];
        header.write(&elements, buffer)
    }
}
