//! The receiving half of a session: a publisher's packets put in order, joined to frames, named on
//! one clock and written to the hub, and the feedback that keeps them coming.
//!
//! What was lost for good is never shown: pictures are withheld until the next key picture, which
//! is asked for until it comes. Of several renditions of the pictures (simulcast) the stream has the
//! largest that comes, changed at a key picture; each has a stream of its own besides.
//!
//! This file is long because what is received and the feedback on it share their state.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Packet, Pts, Ticks, TrackKind, Tracks};

use super::answer::{Agreed, Medium, Simulcast};
use super::counters::add;
use super::line::{Kept, Line};
use super::outlet::Outlet;
use super::session::Io;
use super::video::{self, Video};
use super::viewer::Figures;
use crate::hub::Writer;
use crate::rtp::bwe_receive::{ReceiveLimits, ReceiveRate};
use crate::rtp::clock::Ntp;
use crate::rtp::opus;
use crate::rtp::packet::{ExtSeq, RtpPacket, RtpTime, Seq};
use crate::rtp::payload::{SoundDepacketiser, SoundFormat};
use crate::rtp::reorder::Output;
use crate::rtp::rtcp::{Compound, Message, ReportBlock};
use crate::rtp::source_clock::SourceClock;
use crate::rtp::twcc::Arrivals;

/// Time between receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The first receiver report, from which a browser learns the round trip.
const FIRST_REPORT: Duration = Duration::from_millis(200);

/// One publisher.
pub(crate) struct Publisher {
    /// The stream.
    pub(crate) outlet: Outlet,
    tracks: Tracks,
    /// Names the sound. Pictures are named by clocks of their own that hear the sound too.
    clock: SourceClock,
    /// No picture, one, or the renditions of simulcast in its order.
    videos: Vec<Video>,
    simulcast: Option<Simulcast>,
    /// Which of them the stream has, and its newest picture.
    shown: Option<usize>,
    last: Option<Pts>,
    /// Room for the pictures of a packet.
    pictures: Vec<Packet>,
    audio: Option<Audio>,
    /// Arrivals by transport-wide numbers, which all streams of the session share.
    arrivals: Arrivals,
    transport_cc: Option<u8>,
    rate: Option<ReceiveRate>,
    report_at: Option<Instant>,
    key_interval: Option<Duration>,
    key_at: Option<Instant>,
    pub(crate) figures: Figures,
    /// Bring readers' wishes; end with this.
    wishes: Vec<tokio::task::AbortHandle>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.wishes.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// What packets belong to.
#[derive(Clone, Copy)]
enum Part {
    /// A rendition of the pictures.
    Video(usize),
    Audio,
}

struct Audio {
    line: Line,
    depacketiser: SoundDepacketiser,
    /// Most channels that came in a packet.
    channels: u8,
}

impl Audio {
    fn new(medium: &Medium) -> Self {
        let format =
            if medium.codec == Codec::Opus { SoundFormat::Opus } else { SoundFormat::G711 };
        let depacketiser = SoundDepacketiser::new(format);
        Self { line: Line::new(medium), depacketiser, channels: 0 }
    }
}

impl Publisher {
    /// A publisher that waits for its handshake. `renditions` are written beside the stream, one
    /// for each rendition of simulcast.
    pub(crate) fn new(
        agreed: &Agreed,
        (outlet, renditions): (Outlet, Vec<Option<Writer>>),
        key_interval: Option<Duration>,
        wishes: Vec<tokio::task::AbortHandle>,
    ) -> Self {
        let media = [&agreed.video, &agreed.audio];
        let transport_cc = media.into_iter().flatten().find_map(|medium| medium.transport_cc);
        let remb = agreed.video.as_ref().is_some_and(|video| video.remb && transport_cc.is_none());
        let sound_rate = agreed.audio.as_ref().map_or(opus::CLOCK_RATE, Medium::clock_rate);
        let simulcast = agreed.video.as_ref().and_then(|video| video.simulcast.clone());
        let owns = if simulcast.is_some() { renditions } else { vec![None] };
        let video = |own| Video::new(agreed.video.as_ref()?, own, sound_rate);
        Self {
            outlet,
            tracks: Tracks::default(),
            clock: SourceClock::new(sound_rate),
            videos: owns.into_iter().filter_map(video).collect(),
            simulcast,
            shown: None,
            last: None,
            pictures: Vec::new(),
            audio: agreed.audio.as_ref().map(Audio::new),
            arrivals: Arrivals::default(),
            transport_cc,
            rate: remb.then(|| ReceiveRate::new(ReceiveLimits::default())),
            report_at: None,
            key_interval,
            key_at: None,
            figures: Figures::default(),
            wishes,
        }
    }

    /// The handshake is through: the first key picture is asked for as soon as video comes.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.report_at = Some(now + FIRST_REPORT);
    }

    /// Whether picture and sound were agreed on.
    pub(crate) fn has_both(&self) -> bool {
        !self.videos.is_empty() && self.audio.is_some()
    }

    /// Takes a decrypted RTP packet.
    pub(crate) fn rtp(&mut self, io: &mut Io<'_>, packet: BytesMut) {
        let packet = packet.freeze();
        let Ok(head) = RtpPacket::parse(&packet) else {
            add(&io.counters.datagrams_dropped, 1);
            return;
        };
        self.figures.packets += 1;
        self.figures.bytes += packet.len() as u64;
        if let Some(rate) = &mut self.rate {
            rate.on_packet(io.now, packet.len());
        }
        if let Some(&[high, low]) = self.transport_cc.and_then(|id| head.extension(id)) {
            self.arrivals.on_packet(io.now, Seq(u16::from_be_bytes([high, low])));
        }
        let video = match &self.simulcast {
            Some(simulcast) => video::of_packet(&mut self.videos, simulcast, &head),
            None => (!self.videos.is_empty()).then_some(0),
        };
        for part in [video.map(Part::Video), Some(Part::Audio)].into_iter().flatten() {
            if self.line(part).is_some_and(|line| line.take(io.now, &head, &packet)) {
                // All begin their time here, whatever comes first.
                self.clock.begin(io.now);
                self.videos.iter_mut().for_each(|video| video.clock.begin(io.now));
                return self.drain(io, part);
            }
        }
    }

    /// Takes what the publisher reports. Says whether all that it sent has ended.
    pub(crate) fn rtcp(&mut self, io: &mut Io<'_>, message: &Message<'_>) -> bool {
        match message {
            Message::SenderReport { ssrc, wall, time, .. } => {
                self.sender_report(io.now, *ssrc, *wall, *time);
            }
            Message::Goodbye(ended) => {
                let mut left = 0;
                for line in self.lines_mut() {
                    line.ended |= line.ssrc.is_some_and(|ssrc| ended.clone().any(|e| e == ssrc));
                    left += usize::from(line.ssrc.is_some() && !line.ended);
                }
                return left == 0;
            }
            _ => {}
        }
        false
    }

    fn sender_report(&mut self, now: Instant, ssrc: u32, wall: Ntp, time: RtpTime) {
        let line = self.lines_mut().find(|line| line.ssrc == Some(ssrc));
        if let Some(reception) = line.and_then(|line| line.reception.as_mut()) {
            reception.on_sender_report(now, wall);
        }
        let heard = self.audio.as_ref().is_some_and(|audio| audio.line.ssrc == Some(ssrc));
        if heard {
            self.clock.sender_report(TrackKind::Audio, wall, time);
        }
        for video in &mut self.videos {
            if heard {
                video.clock.sender_report(TrackKind::Audio, wall, time);
            } else if video.line.ssrc == Some(ssrc) {
                video.clock.sender_report(TrackKind::Video, wall, time);
            }
        }
    }

    /// Somebody needs a key picture: of this rendition, or of the one that the stream has.
    pub(crate) fn want_key(&mut self, rendition: Option<usize>) {
        match rendition.or(self.shown) {
            Some(index) => {
                if let Some(video) = self.videos.get_mut(index) {
                    video.wish.want();
                }
            }
            None => self.videos.iter_mut().for_each(|video| video.wish.want()),
        }
    }

    /// Whether this publisher was replaced or told to leave.
    pub(crate) fn is_closed(&self) -> bool {
        self.outlet.is_closed()
    }

    fn line(&mut self, part: Part) -> Option<&mut Line> {
        match part {
            Part::Video(index) => self.videos.get_mut(index).map(|video| &mut video.line),
            Part::Audio => self.audio.as_mut().map(|audio| &mut audio.line),
        }
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        let videos = self.videos.iter().map(|video| &video.line);
        videos.chain(self.audio.as_ref().map(|audio| &audio.line))
    }

    fn lines_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        let videos = self.videos.iter_mut().map(|video| &mut video.line);
        videos.chain(self.audio.as_mut().map(|audio| &mut audio.line))
    }

    fn drain(&mut self, io: &mut Io<'_>, part: Part) {
        loop {
            let Some(line) = self.line(part) else { return };
            let Some(output) = line.reorder.poll(io.now) else { return };
            match output {
                Output::Packet(seq, kept) => match part {
                    Part::Video(index) => self.picture(io, index, seq, kept),
                    Part::Audio => self.sound(seq, kept),
                },
                Output::Lost { count, .. } => {
                    self.figures.lost += count;
                    add(&io.counters.packets_lost, count);
                    if let Some(rate) = &mut self.rate {
                        rate.on_loss(count);
                    }
                }
                Output::Nack(lost) => {
                    let media = line.ssrc.unwrap_or(0);
                    let sender = line.medium.ssrc;
                    self.figures.nacks += lost.len() as u64;
                    add(&io.counters.nacks_sent, lost.len() as u64);
                    let mut compound = Compound::new(io.rtcp);
                    compound.nack(sender, media, &lost);
                }
            }
        }
    }

    fn picture(&mut self, io: &mut Io<'_>, index: usize, seq: ExtSeq, kept: Kept) {
        let mut pictures = std::mem::take(&mut self.pictures);
        if let Some(video) = self.videos.get_mut(index) {
            video.push(io.now, seq, kept, &mut pictures);
        }
        for packet in pictures.drain(..) {
            self.show(io.now, index, packet);
        }
        self.pictures = pictures;
    }

    /// Writes a picture of one rendition if the stream has that one, or has it from now on.
    fn show(&mut self, now: Instant, index: usize, mut packet: Packet) {
        if self.shown != Some(index) {
            if video::largest(&self.videos, now) != Some(index) {
                return;
            }
            if !packet.key {
                return self.videos[index].wish.want();
            }
            self.shown = Some(index);
        }
        if packet.key {
            self.key_at = self.key_interval.map(|interval| now + interval);
            if self.tracks.video != self.videos[index].track {
                self.tracks.video = self.videos[index].track.clone();
                self.outlet.describe(&self.tracks);
            }
        }
        // Clocks of two renditions may differ by a little where one takes over.
        packet.pts = self.last.map_or(packet.pts, |last| packet.pts.max(last + Ticks(1)));
        packet.dts = packet.pts;
        self.last = Some(packet.pts);
        self.outlet.write(packet);
    }

    fn sound(&mut self, seq: ExtSeq, kept: Kept) {
        let Some(audio) = &mut self.audio else { return };
        let Kept { marker, time, payload, arrived } = kept;
        // Comfort noise and probes are no sound.
        let _ = audio.depacketiser.push(seq, time, marker, &payload, arrived);
        while let Some(unit) = audio.depacketiser.poll() {
            let codec = audio.line.medium.codec;
            let channels = match unit.data.first() {
                Some(first) if codec == Codec::Opus && first & 4 != 0 => 2,
                _ => 1,
            };
            // A stereo track stays one when an encoder saves bits on a mono passage.
            if channels > audio.channels {
                audio.channels = channels;
                let sample_rate = audio.line.medium.clock_rate();
                let config = Bytes::new();
                self.tracks.audio = Some(AudioTrack { codec, sample_rate, channels, config });
                self.outlet.describe(&self.tracks);
            }
            let pts = self.clock.pts(TrackKind::Audio, unit.time, unit.arrived);
            for video in &mut self.videos {
                video.clock.pts(TrackKind::Audio, unit.time, unit.arrived);
            }
            let (kind, key) = (TrackKind::Audio, true);
            let packet =
                Packet { kind, pts, dts: pts, key, data: unit.data, arrived: unit.arrived };
            for video in &mut self.videos {
                video.sound(self.tracks.audio.as_ref(), &packet);
            }
            self.outlet.write(packet);
        }
    }

    /// The timestamp that the picture of this name came with; `None` before the first.
    pub(crate) fn rtp_time(&self, pts: Pts) -> Option<RtpTime> {
        self.videos.get(self.shown?)?.clock.rtp_time(TrackKind::Video, pts)
    }

    /// Writes the feedback whose time has come.
    pub(crate) fn timeout(&mut self, io: &mut Io<'_>) {
        for index in 0..self.videos.len() {
            self.drain(io, Part::Video(index));
        }
        self.drain(io, Part::Audio);
        if self.key_at.is_some_and(|at| at <= io.now) {
            self.key_at = self.key_interval.map(|interval| io.now + interval);
            self.want_key(None);
        }
        let mut compound = Compound::new(io.rtcp);
        if self.report_at.is_some_and(|at| at <= io.now) {
            self.report_at = Some(io.now + REPORT_INTERVAL);
            let mut sender = None;
            let mut blocks: Vec<ReportBlock> = Vec::new();
            let videos = self.videos.iter_mut().map(|video| &mut video.line);
            for line in videos.chain(self.audio.as_mut().map(|audio| &mut audio.line)) {
                sender.get_or_insert(line.medium.ssrc);
                blocks
                    .extend(line.reception.as_mut().and_then(|reception| reception.block(io.now)));
            }
            if let Some(sender) = sender.filter(|_| !blocks.is_empty()) {
                compound.receiver_report(sender, &blocks);
                compound.cname(sender, super::answer::CNAME);
            }
        }
        for video in &mut self.videos {
            let Some(media) = video.line.ssrc else { continue };
            if video.line.medium.pli && video.wish.poll(io.now) {
                self.figures.plis += 1;
                add(&io.counters.plis_sent, 1);
                compound.picture_loss(video.line.medium.ssrc, media);
            }
        }
        if let Some(estimate) = self.rate.as_mut().and_then(|rate| rate.poll(io.now)) {
            let media: Vec<u32> = self.videos.iter().filter_map(|video| video.line.ssrc).collect();
            if let Some(video) = self.videos.first().filter(|_| !media.is_empty()) {
                compound.bitrate(video.line.medium.ssrc, estimate, &media);
            }
        }
        let videos = self.videos.iter().map(|video| &video.line);
        let mut lines = videos.chain(self.audio.as_ref().map(|audio| &audio.line));
        let heard = lines.find_map(|line| Some((line.medium.ssrc, line.ssrc?)));
        if let Some((sender, media)) = heard {
            while self.arrivals.poll(io.now, sender, media, &mut compound) {}
        }
    }

    /// When [`Self::timeout`] is due.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let asked = |video: &&Video| video.line.ssrc.is_some() && video.line.medium.pli;
        let wish = self.videos.iter().filter(asked).filter_map(|video| {
            // A wish that was never asked is due at once; `KeyWish` names only repetitions.
            let mut ahead = video.wish;
            if ahead.poll(now) { Some(now) } else { video.wish.next_timeout() }
        });
        let times = [
            self.lines().filter_map(|line| line.reorder.next_timeout()).min(),
            wish.min(),
            self.rate.as_ref().and_then(ReceiveRate::next_timeout),
            self.arrivals.next_timeout(),
            self.report_at,
            self.key_at,
        ];
        times.into_iter().flatten().min()
    }

    /// Our SSRCs, for the goodbye: one for each kind.
    pub(crate) fn sources(&self) -> impl Iterator<Item = u32> {
        let video = self.videos.first().map(|video| video.line.medium.ssrc);
        video.into_iter().chain(self.audio.as_ref().map(|audio| audio.line.medium.ssrc))
    }

    /// Packets that came again because they were asked for.
    pub(crate) fn recovered(&self) -> u64 {
        self.lines().map(|line| line.reorder.counts().recovered).sum()
    }
}
