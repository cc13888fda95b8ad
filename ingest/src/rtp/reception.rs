//! What a receiver report says of one stream that we receive: loss and jitter, RFC 3550 6.4.1,
//! A.3 and A.8.

use std::time::{Duration, Instant};

use super::clock::Ntp;
use super::packet::{RtpTime, Seq, SeqUnwrapper};
use super::rtcp::ReportBlock;

/// Counts of one received stream.
#[derive(Clone, Debug)]
pub struct Reception {
    ssrc: u32,
    rate: u32,
    unwrap: SeqUnwrapper,
    base: Option<u64>,
    highest: u64,
    received: u64,
    /// Expected and received at the last report.
    prior: (u64, u64),
    /// Sixteen times the jitter, in ticks.
    jitter16: u64,
    last: Option<(RtpTime, Instant)>,
    report: Option<(Ntp, Instant)>,
}

impl Reception {
    /// A stream with a payload clock of `rate` ticks a second.
    pub fn new(ssrc: u32, rate: u32) -> Self {
        Self {
            ssrc,
            rate,
            unwrap: SeqUnwrapper::default(),
            base: None,
            highest: 0,
            received: 0,
            prior: (0, 0),
            jitter16: 0,
            last: None,
            report: None,
        }
    }

    /// Counts a packet that came on the stream itself; retransmissions are not counted.
    pub fn on_packet(&mut self, now: Instant, seq: Seq, time: RtpTime) {
        let number = self.unwrap.unwrap(seq).0;
        self.base.get_or_insert(number);
        self.highest = self.highest.max(number);
        self.received += 1;
        if let Some((last_time, last_at)) = self.last.filter(|(last_time, _)| *last_time != time) {
            let passed = now.saturating_duration_since(last_at).as_micros();
            let passed = (passed * u128::from(self.rate) / 1_000_000) as i64;
            let spread = (passed - i64::from(time.since(last_time))).unsigned_abs();
            // A jump of the timestamps is no jitter.
            if spread < u64::from(self.rate) * 10 {
                self.jitter16 = self.jitter16 + spread - (self.jitter16 + 8) / 16;
            }
        }
        if self.last.is_none_or(|(last_time, _)| last_time != time) {
            self.last = Some((time, now));
        }
    }

    /// Notes the stream's sender report, which ours refers to.
    pub fn on_sender_report(&mut self, now: Instant, wall: Ntp) {
        self.report = Some((wall, now));
    }

    /// The block for the next report, `None` before the first packet.
    pub fn block(&mut self, now: Instant) -> Option<ReportBlock> {
        let expected = self.highest - self.base? + 1;
        let (expected_since, received_since) =
            (expected - self.prior.0, self.received - self.prior.1);
        self.prior = (expected, self.received);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since * 256).checked_div(expected_since).unwrap_or(0).min(255);
        let lost = (expected as i64 - self.received as i64).clamp(-(1 << 23), (1 << 23) - 1);
        let (last_report, delay) = self.report.map_or((0, 0), |(wall, at)| {
            (wall.middle(), delay_units(now.saturating_duration_since(at)))
        });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            lost: lost as i32,
            // The unwrapper begins at one wrap, reports at none.
            highest: (self.highest - (1 << 16)) as u32,
            jitter: (self.jitter16 / 16) as u32,
            last_report,
            delay,
        })
    }
}

fn delay_units(delay: Duration) -> u32 {
    u32::try_from(delay.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_wrap_are_reported() {
        let start = Instant::now();
        let mut reception = Reception::new(7, 90_000);
        assert_eq!(reception.block(start), None);
        for step in 0..100_u32 {
            if step % 10 != 3 {
                let seq = Seq(65_500_u16.wrapping_add(step as u16));
                let at = start + Duration::from_millis(10) * step;
                reception.on_packet(at, seq, RtpTime(step * 900));
            }
        }
        let block = reception.block(start).unwrap();
        assert_eq!((block.ssrc, block.lost, block.fraction_lost), (7, 10, 25));
        assert_eq!((block.highest, block.jitter), (65_536 + 63, 0));
        assert_eq!(reception.block(start).unwrap().fraction_lost, 0, "nothing since");
    }

    #[test]
    fn jitter_is_the_mean_spread_of_arrival() {
        let start = Instant::now();
        let mut reception = Reception::new(7, 90_000);
        for step in 0..500_u32 {
            let late = Duration::from_millis(if step % 2 == 0 { 0 } else { 4 });
            let at = start + Duration::from_millis(20) * step + late;
            reception.on_packet(at, Seq(step as u16), RtpTime(step * 1800));
        }
        let jitter = reception.block(start).unwrap().jitter;
        assert!((340..=362).contains(&jitter), "4 ms are 360 ticks: {jitter}");
    }

    #[test]
    fn a_report_refers_to_the_senders_and_gives_the_round_trip() {
        let start = Instant::now();
        let mut reception = Reception::new(7, 90_000);
        reception.on_packet(start, Seq(1), RtpTime(0));
        let wall = Ntp(5_000 << 32);
        reception.on_sender_report(start, wall);
        let block = reception.block(start + Duration::from_millis(500)).unwrap();
        assert_eq!(block.delay, 32_768);
        let now = wall.plus(Duration::from_millis(750));
        assert_eq!(block.round_trip(now), Some(16_384), "250 ms");
        assert_eq!(ReportBlock::default().round_trip(now), None);
    }
}
