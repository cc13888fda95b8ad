//! One viewer of the crowd after its handshake: it counts what comes, opens the last packet of
//! each picture, and reports as a browser does.

use std::time::{Duration, Instant};

use ingest::rtp::packet::{RtpPacket, Seq};
use ingest::rtp::reception::Reception;
use ingest::rtp::rtcp::{Compound, Message, messages};
use ingest::rtp::twcc::Arrivals;

use super::super::peer::{H264, Keys, OPUS, TRANSPORT_CC};
use super::picture;

/// Time between two receiver reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What a datagram brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// The end of the picture with this number.
    Picture(u64),
    /// More of it, sound, a report.
    Other,
}

/// A connected viewer.
pub(super) struct Viewer {
    keys: Box<Keys>,
    /// Our SSRC in reports.
    ssrc: u32,
    video: Line,
    audio: Line,
    arrivals: Arrivals,
    report_at: Instant,
}

/// One medium as it arrives.
#[derive(Default)]
struct Line {
    ssrc: Option<u32>,
    reception: Option<Reception>,
    next: Option<Seq>,
    /// Sequence numbers that were passed over.
    missing: u64,
}

impl Line {
    fn take(&mut self, now: Instant, packet: &RtpPacket<'_>, rate: u32) {
        if self.ssrc != Some(packet.ssrc) {
            self.ssrc = Some(packet.ssrc);
            self.reception = Some(Reception::new(packet.ssrc, rate));
            self.next = None;
        }
        if let Some(reception) = &mut self.reception {
            reception.on_packet(now, packet.seq, packet.time);
        }
        let gap = self.next.map_or(0, |next| packet.seq.since(next));
        if gap >= 0 {
            self.missing += gap as u64;
            self.next = Some(packet.seq.next());
        }
    }
}

impl Viewer {
    /// A viewer that got its keys.
    pub(super) fn new(now: Instant, keys: Box<Keys>, ssrc: u32) -> Self {
        Self {
            keys,
            ssrc,
            video: Line::default(),
            audio: Line::default(),
            arrivals: Arrivals::default(),
            // Not all in the same moment.
            report_at: now + REPORT_EVERY * (ssrc % 64) / 64,
        }
    }

    /// Takes RTP or RTCP.
    pub(super) fn media(&mut self, now: Instant, datagram: &[u8]) -> Got {
        // RFC 5761 4: what is RTCP.
        if datagram.get(1).is_some_and(|kind| (192..=223).contains(kind)) {
            self.rtcp(now, datagram);
            return Got::Other;
        }
        let Ok(packet) = RtpPacket::parse(datagram) else { return Got::Other };
        if let Some(&[high, low]) = packet.extension(TRANSPORT_CC) {
            self.arrivals.on_packet(now, Seq(u16::from_be_bytes([high, low])));
        }
        match packet.payload_type {
            H264 => self.video.take(now, &packet, 90_000),
            OPUS => self.audio.take(now, &packet, 48_000),
            _ => {}
        }
        if packet.payload_type != H264 || !packet.marker {
            return Got::Other;
        }
        let Ok(plain) = self.keys.theirs.decrypt_rtp(datagram) else { return Got::Other };
        let number = RtpPacket::parse(&plain).ok().and_then(|plain| picture::number(plain.payload));
        number.map_or(Got::Other, Got::Picture)
    }

    fn rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(plain) = self.keys.theirs.decrypt_rtcp(datagram) else { return };
        for message in messages(&plain).flatten() {
            let Message::SenderReport { ssrc, wall, .. } = message else { continue };
            let line = [&mut self.video, &mut self.audio];
            let line = line.into_iter().find(|line| line.ssrc == Some(ssrc));
            if let Some(reception) = line.and_then(|line| line.reception.as_mut()) {
                reception.on_sender_report(now, wall);
            }
        }
    }

    /// What is to be reported now, protected; `None` if nothing is due. Call until then.
    pub(super) fn poll_report(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
        buffer.clear();
        let mut compound = Compound::new(buffer);
        if now >= self.report_at {
            self.report_at = now + REPORT_EVERY;
            let lines = [&mut self.video, &mut self.audio];
            let blocks = lines.into_iter().filter_map(|line| line.reception.as_mut()?.block(now));
            let blocks: Vec<_> = blocks.collect();
            compound.receiver_report(self.ssrc, &blocks);
        }
        let media = self.video.ssrc.or(self.audio.ssrc).unwrap_or_default();
        self.arrivals.poll(now, self.ssrc, media, &mut compound);
        if buffer.is_empty() {
            return None;
        }
        self.keys.ours.encrypt_rtcp(buffer).ok().map(|sealed| sealed.to_vec())
    }

    /// Packets that did not come, of both media.
    pub(super) fn missing(&self) -> u64 {
        self.video.missing + self.audio.missing
    }
}
