//! The receiving half of a session: a publisher's packets put in order, joined to frames, named on
//! one clock and written to the hub, and the feedback that keeps them coming.
//!
//! What was lost for good is never shown: pictures are withheld until the next key picture, which
//! is asked for until it comes.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks, video};

use super::answer::{Agreed, Medium};
use super::counters::add;
use super::line::{Kept, Line};
use super::session::Io;
use super::viewer::Figures;
use crate::hub::Writer;
use crate::rtp::bwe_receive::{ReceiveLimits, ReceiveRate};
use crate::rtp::clock::Ntp;
use crate::rtp::key_wish::KeyWish;
use crate::rtp::opus;
use crate::rtp::packet::{ExtSeq, RtpPacket, RtpTime, Seq};
use crate::rtp::payload::{PictureDepacketiser, SoundDepacketiser, SoundFormat};
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
    writer: Writer,
    tracks: Tracks,
    clock: SourceClock,
    video: Option<Video>,
    audio: Option<Audio>,
    /// Arrivals by transport-wide numbers, which all streams of the session share.
    arrivals: Arrivals,
    transport_cc: Option<u8>,
    rate: Option<ReceiveRate>,
    report_at: Option<Instant>,
    key_interval: Option<Duration>,
    key_at: Option<Instant>,
    pub(crate) figures: Figures,
    /// Brings readers' wishes; ends with this.
    wishes: tokio::task::AbortHandle,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.wishes.abort();
    }
}

struct Video {
    line: Line,
    depacketiser: PictureDepacketiser,
    assembler: video::Assembler,
    wish: KeyWish,
}

struct Audio {
    line: Line,
    depacketiser: SoundDepacketiser,
    /// Most channels that came in a packet.
    channels: u8,
}

impl Video {
    fn new(medium: &Medium) -> Option<Self> {
        Some(Self {
            line: Line::new(medium),
            depacketiser: PictureDepacketiser::new(medium.codec)?,
            assembler: video::Assembler::new(medium.codec)?,
            wish: KeyWish::default(),
        })
    }
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
    /// A publisher that waits for its handshake.
    pub(crate) fn new(
        agreed: &Agreed,
        writer: Writer,
        key_interval: Option<Duration>,
        wishes: tokio::task::AbortHandle,
    ) -> Self {
        let media = [&agreed.video, &agreed.audio];
        let transport_cc = media.into_iter().flatten().find_map(|medium| medium.transport_cc);
        let remb = agreed.video.as_ref().is_some_and(|video| video.remb && transport_cc.is_none());
        Self {
            writer,
            tracks: Tracks::default(),
            clock: SourceClock::new(
                agreed.audio.as_ref().map_or(opus::CLOCK_RATE, Medium::clock_rate),
            ),
            video: agreed.video.as_ref().and_then(Video::new),
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
        for kind in [TrackKind::Video, TrackKind::Audio] {
            if self.line(kind).is_some_and(|line| line.take(io.now, &head, &packet)) {
                return self.drain(io, kind);
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
                let lines = [
                    self.video.as_mut().map(|video| &mut video.line),
                    self.audio.as_mut().map(|audio| &mut audio.line),
                ];
                let mut left = 0;
                for line in lines.into_iter().flatten() {
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
        for kind in [TrackKind::Video, TrackKind::Audio] {
            let line = self.line(kind).filter(|line| line.ssrc == Some(ssrc));
            let Some(line) = line else { continue };
            if let Some(reception) = &mut line.reception {
                reception.on_sender_report(now, wall);
            }
            return self.clock.sender_report(kind, wall, time);
        }
    }

    /// Somebody needs a key picture.
    pub(crate) fn want_key(&mut self) {
        if let Some(video) = &mut self.video {
            video.wish.want();
        }
    }

    /// Whether this publisher was replaced or told to leave.
    pub(crate) fn is_closed(&self) -> bool {
        use futures_util::FutureExt;
        self.writer.closed().now_or_never().is_some()
    }

    fn line(&mut self, kind: TrackKind) -> Option<&mut Line> {
        match kind {
            TrackKind::Video => self.video.as_mut().map(|video| &mut video.line),
            TrackKind::Audio => self.audio.as_mut().map(|audio| &mut audio.line),
        }
    }

    fn drain(&mut self, io: &mut Io<'_>, kind: TrackKind) {
        loop {
            let Some(line) = self.line(kind) else { return };
            let Some(output) = line.reorder.poll(io.now) else { return };
            match output {
                Output::Packet(seq, kept) => match kind {
                    TrackKind::Video => self.picture(io, seq, kept),
                    TrackKind::Audio => self.sound(seq, kept),
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

    fn picture(&mut self, io: &mut Io<'_>, seq: ExtSeq, kept: Kept) {
        let Some(video) = &mut self.video else { return };
        let pushed =
            video.depacketiser.push(seq, kept.time, kept.marker, &kept.payload, kept.arrived);
        if let Err(error) = pushed {
            tracing::debug!(stream = %self.writer.name(), %error, "rtp payload refused");
        }
        if video.depacketiser.awaits_key() {
            video.wish.want();
        }
        while let Some(raw) = video.depacketiser.poll() {
            let unit = match video.assembler.unit(raw.data) {
                Ok(Some(unit)) => unit,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(stream = %self.writer.name(), %error, "picture refused");
                    video.wish.want();
                    continue;
                }
            };
            if unit.key {
                video.wish.answered();
                self.key_at = self.key_interval.map(|interval| io.now + interval);
            }
            if unit.changed || (unit.key && self.tracks.video.is_none()) {
                self.tracks.video = video.assembler.track();
                self.writer.set_tracks(self.tracks.clone());
            }
            if self.tracks.video.is_none() {
                continue;
            }
            let pts = self.clock.pts(TrackKind::Video, raw.time, raw.arrived);
            self.writer.write(Packet {
                kind: TrackKind::Video,
                pts,
                dts: pts,
                key: unit.key,
                data: unit.data,
                arrived: raw.arrived,
            });
        }
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
                self.writer.set_tracks(self.tracks.clone());
            }
            let pts = self.clock.pts(TrackKind::Audio, unit.time, unit.arrived);
            self.writer.write(Packet {
                kind: TrackKind::Audio,
                pts,
                dts: pts,
                key: true,
                data: unit.data,
                arrived: unit.arrived,
            });
        }
    }

    /// The timestamp that the picture of this name came with; `None` before the first.
    pub(crate) fn rtp_time(&self, pts: Pts) -> Option<RtpTime> {
        self.clock.rtp_time(TrackKind::Video, pts)
    }

    /// Writes the feedback whose time has come.
    pub(crate) fn timeout(&mut self, io: &mut Io<'_>) {
        self.drain(io, TrackKind::Video);
        self.drain(io, TrackKind::Audio);
        if self.key_at.is_some_and(|at| at <= io.now) {
            self.key_at = self.key_interval.map(|interval| io.now + interval);
            self.want_key();
        }
        let mut compound = Compound::new(io.rtcp);
        if self.report_at.is_some_and(|at| at <= io.now) {
            self.report_at = Some(io.now + REPORT_INTERVAL);
            let lines = [
                self.video.as_mut().map(|video| &mut video.line),
                self.audio.as_mut().map(|audio| &mut audio.line),
            ];
            let mut sender = None;
            let mut blocks: Vec<ReportBlock> = Vec::new();
            for line in lines.into_iter().flatten() {
                sender.get_or_insert(line.medium.ssrc);
                blocks
                    .extend(line.reception.as_mut().and_then(|reception| reception.block(io.now)));
            }
            if let Some(sender) = sender.filter(|_| !blocks.is_empty()) {
                compound.receiver_report(sender, &blocks);
                compound.cname(sender, super::answer::CNAME);
            }
        }
        if let Some(video) = &mut self.video
            && let Some(media) = video.line.ssrc
        {
            let sender = video.line.medium.ssrc;
            if video.line.medium.pli && video.wish.poll(io.now) {
                self.figures.plis += 1;
                add(&io.counters.plis_sent, 1);
                compound.picture_loss(sender, media);
            }
            if let Some(estimate) = self.rate.as_mut().and_then(|rate| rate.poll(io.now)) {
                compound.bitrate(sender, estimate, &[media]);
            }
        }
        let lines = [
            self.video.as_ref().map(|video| &video.line),
            self.audio.as_ref().map(|audio| &audio.line),
        ];
        let heard = lines.into_iter().flatten().find(|line| line.ssrc.is_some());
        if let Some((sender, media)) = heard.and_then(|line| Some((line.medium.ssrc, line.ssrc?))) {
            while self.arrivals.poll(io.now, sender, media, &mut compound) {}
        }
    }

    /// When [`Self::timeout`] is due.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let video = self.video.as_ref();
        let wish = video.filter(|video| video.line.ssrc.is_some() && video.line.medium.pli);
        let wish = wish.and_then(|video| {
            // A wish that was never asked is due at once; `KeyWish` names only repetitions.
            let mut ahead = video.wish;
            if ahead.poll(now) { Some(now) } else { video.wish.next_timeout() }
        });
        let times = [
            video.and_then(|video| video.line.reorder.next_timeout()),
            self.audio.as_ref().and_then(|audio| audio.line.reorder.next_timeout()),
            wish,
            self.rate.as_ref().and_then(ReceiveRate::next_timeout),
            self.arrivals.next_timeout(),
            self.report_at,
            self.key_at,
        ];
        times.into_iter().flatten().min()
    }

    /// Our SSRCs, for the goodbye.
    pub(crate) fn sources(&self) -> impl Iterator<Item = u32> {
        let video = self.video.as_ref().map(|video| video.line.medium.ssrc);
        video.into_iter().chain(self.audio.as_ref().map(|audio| audio.line.medium.ssrc))
    }

    /// Packets that came again because they were asked for.
    pub(crate) fn recovered(&self) -> u64 {
        let video = self.video.as_ref().map(|video| video.line.reorder.counts().recovered);
        let audio = self.audio.as_ref().map(|audio| audio.line.reorder.counts().recovered);
        video.unwrap_or(0) + audio.unwrap_or(0)
    }
}
