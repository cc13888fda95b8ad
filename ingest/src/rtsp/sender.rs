//! The sending half: packets of the hub as RTP on one timeline, with sender reports on its clock.
//!
//! Times are those of the packets on a timeline that begins when the reader came
//! ([`ViewerClock`]), the same for picture and sound; SSRC, sequence and time go on over whatever
//! a slow reader loses.

use std::time::{Duration, Instant};

use pipeline::{Packet, Ticks, Tracks};

use super::describe::{Outgoing, outgoing};
use crate::rtp::clock::{Ntp, ViewerClock};
use crate::rtp::packet::{Header, RtpTime, Seq};
use crate::rtp::payload::{PacketiseError, Packetiser};
use crate::rtp::rtcp::Compound;

/// Bytes of a payload: an Ethernet frame less IPv6, UDP and RTP headers, and some for tunnels.
const PAYLOAD_BYTES: usize = 1400;

/// Time between sender reports of a track. The first goes out with the first packet.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Where packets go, by the number of the medium.
pub(super) trait Wire {
    /// Sends an RTP packet whose parts are given.
    fn rtp(&mut self, medium: usize, header: &[u8], payload: &[u8]);
    /// Sends an RTCP packet.
    fn rtcp(&mut self, medium: usize, packet: &[u8]);
}

/// What is random in a track, from the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    pub(super) ssrc: u32,
    pub(super) seq: u16,
    pub(super) time: u32,
}

/// One who sends a stream.
#[derive(Debug)]
pub(super) struct Sender {
    clock: ViewerClock,
    media: Vec<Out>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Out {
    outgoing: Outgoing,
    /// Its number on the wire, where it was set up.
    medium: Option<usize>,
    packetiser: Packetiser,
    chance: Chance,
    next: Seq,
    packets: u32,
    bytes: u32,
    report_at: Option<Instant>,
}

impl Out {
    fn time(&self, ticks: Ticks) -> RtpTime {
        let rate = i128::from(self.outgoing.clock_rate);
        let own = i128::from(ticks.0) * rate / i128::from(Ticks::SECOND.0);
        RtpTime(self.chance.time).plus(own as i64)
    }
}

impl Sender {
    /// A sender of `tracks`; `medium` says the number of a track on the wire, in the order of
    /// [`outgoing`], where it was set up. `wall` is the wall time of `now`.
    pub(super) fn new(
        tracks: &Tracks,
        medium: impl Fn(usize) -> Option<usize>,
        (now, wall): (Instant, Ntp),
        mut chance: impl FnMut() -> Chance,
    ) -> Self {
        let media = outgoing(tracks).into_iter().enumerate().map(|(at, outgoing)| {
            let packetiser = match (outgoing.kind.is_video(), &tracks.video, &tracks.audio) {
                (true, Some(video), _) => {
                    Packetiser::new(video.codec, PAYLOAD_BYTES).with_supplements()
                }
                (false, _, Some(audio)) => Packetiser::sound(audio, PAYLOAD_BYTES),
                _ => unreachable!("what goes out is of a track"),
            };
            let chance = chance();
            let (medium, next) = (medium(at), Seq(chance.seq));
            let (packets, bytes, report_at) = (0, 0, None);
            Out { outgoing, medium, packetiser, chance, next, packets, bytes, report_at }
        });
        Self { clock: ViewerClock::new(now, wall), media: media.collect(), scratch: Vec::new() }
    }

    /// Whether a stream that now has these tracks is still what was described.
    pub(super) fn fits(&self, tracks: &Tracks) -> bool {
        let new = outgoing(tracks);
        new.len() == self.media.len()
            && new.iter().zip(&self.media).all(|(new, old)| new.continues(&old.outgoing))
    }

    /// For `RTP-Info`: of each medium on the wire its number, the next sequence number and the
    /// time of a frame called `pts` that arrived at `arrived`, the first that will be sent.
    pub(super) fn info(
        &mut self,
        pts: pipeline::Pts,
        arrived: Instant,
    ) -> Vec<(usize, Seq, RtpTime)> {
        let ticks = self.clock.place(pts, arrived);
        let on_wire = self.media.iter().filter_map(|out| Some((out.medium?, out)));
        on_wire.map(|(medium, out)| (medium, out.next, out.time(ticks))).collect()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When it cannot be cut; the stream goes on.
    pub(super) fn send(
        &mut self,
        packet: &Packet,
        now: Instant,
        wire: &mut impl Wire,
    ) -> Result<(), PacketiseError> {
        let Self { clock, media, scratch } = self;
        let ticks = clock.place(packet.pts, packet.arrived);
        let Some(out) = media.iter_mut().find(|out| out.outgoing.kind == packet.kind) else {
            return Ok(());
        };
        let Some(medium) = out.medium else { return Ok(()) };
        let frame = out.packetiser.packetise(packet)?;
        if out.report_at.is_none_or(|at| now >= at) {
            out.report_at = Some(now + REPORT_INTERVAL);
            scratch.clear();
            let (ssrc, time) = (out.chance.ssrc, out.time(clock.ticks(now)));
            Compound::new(scratch)
                .sender_report(ssrc, clock.wall(now), time, (out.packets, out.bytes), &[])
                .cname(ssrc, "millstream");
            wire.rtcp(medium, scratch);
        }
        for at in 0..frame.len() {
            let payload = frame.payload(at).unwrap_or_default();
            let header = Header {
                marker: frame.marker(at),
                payload_type: out.outgoing.payload_type,
                seq: out.next,
                time: out.time(Ticks(ticks.0 + frame.offset(at).0)),
                ssrc: out.chance.ssrc,
            };
            scratch.clear();
            header.write(&[], scratch);
            wire.rtp(medium, scratch, payload);
            out.next = out.next.next();
            out.packets = out.packets.wrapping_add(1);
            out.bytes = out.bytes.wrapping_add(payload.len() as u32);
        }
        Ok(())
    }

    /// Says that everything has ended.
    pub(super) fn goodbye(&mut self, wire: &mut impl Wire) {
        for out in &self.media {
            let Some(medium) = out.medium else { continue };
            self.scratch.clear();
            let ssrc = out.chance.ssrc;
            Compound::new(&mut self.scratch).receiver_report(ssrc, &[]).goodbye(&[ssrc]);
            wire.rtcp(medium, &self.scratch);
        }
    }
}
