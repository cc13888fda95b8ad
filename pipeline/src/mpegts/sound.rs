//! Sound of a PES packet into frames with a time each: ADTS frames, which may straddle PES packets,
//! and Opus packets behind their control headers.

use bytes::{Buf, Bytes, BytesMut};

use crate::aac::AdtsHeader;
use crate::opus::{self, ControlHeader};
use crate::packet::{AudioTrack, Codec};
use crate::time::{Pts, TICKS_PER_SECOND, Ticks};

use super::Stats;

/// A frame's time by counting samples from the last stated time, exact to a tick.
#[derive(Clone, Copy, Debug, Default)]
struct SampleClock {
    base: Option<Pts>,
    samples: i64,
}

impl SampleClock {
    fn set(&mut self, base: Option<Pts>) {
        *self = Self { base, samples: 0 };
    }

    /// The time of the next frame, which lasts `samples` at `rate`.
    fn step(&mut self, samples: u32, rate: u32) -> Option<Pts> {
        let past = i128::from(self.samples) * i128::from(TICKS_PER_SECOND) / i128::from(rate);
        self.samples += i64::from(samples);
        self.base.map(|base| base + Ticks(past as i64))
    }
}

/// Takes PES payloads of one AAC or Opus stream apart.
#[derive(Debug)]
pub(super) struct Splitter {
    codec: Codec,
    clock: SampleClock,
    /// Beginning of an ADTS frame whose end is in the next PES packet.
    rest: BytesMut,
    /// Head of the last ADTS frame, to see a change.
    adts: Option<(u8, u32, u8)>,
}

/// What comes out of a [`Splitter`].
pub(super) enum Sound {
    /// The track is this from here on.
    Track(AudioTrack),
    Frame(Pts, Bytes),
}

impl Splitter {
    pub(super) fn new(codec: Codec) -> Self {
        let clock = SampleClock::default();
        Self { codec, clock, rest: BytesMut::new(), adts: None }
    }

    /// Bytes were lost: nothing goes on over the hole.
    pub(super) fn lost(&mut self) {
        self.rest.clear();
        self.clock.set(None);
    }

    pub(super) fn push(
        &mut self,
        data: Bytes,
        pts: Option<Pts>,
        stats: &mut Stats,
        out: impl FnMut(Sound),
    ) {
        match self.codec {
            Codec::Opus => self.push_opus(data, pts, stats, out),
            _ => self.push_adts(data, pts, stats, out),
        }
    }

    fn push_opus(
        &mut self,
        mut data: Bytes,
        pts: Option<Pts>,
        stats: &mut Stats,
        mut out: impl FnMut(Sound),
    ) {
        if pts.is_some() {
            self.clock.set(pts);
        }
        while !data.is_empty() {
            let Ok((header, length)) = ControlHeader::parse(&data) else {
                stats.broken_units += 1;
                return;
            };
            data.advance(length);
            if header.packet_bytes > data.len() {
                stats.broken_units += 1;
                return;
            }
            let packet = data.split_to(header.packet_bytes);
            match opus::packet_samples(&packet) {
                Ok(samples) => match self.clock.step(samples, opus::SAMPLE_RATE) {
                    Some(pts) => out(Sound::Frame(pts, packet)),
                    None => stats.untimed_units += 1,
                },
                Err(_) => {
                    stats.broken_units += 1;
                    return;
                }
            }
        }
    }

    fn push_adts(
        &mut self,
        data: Bytes,
        pts: Option<Pts>,
        stats: &mut Stats,
        mut out: impl FnMut(Sound),
    ) {
        // The stated time is that of the first frame that begins in this PES packet (2.4.3.7).
        let mut stated = pts;
        let begins_at = self.rest.len();
        let data = if self.rest.is_empty() {
            data
        } else {
            let mut joined = std::mem::take(&mut self.rest);
            joined.extend_from_slice(&data);
            joined.freeze()
        };
        let mut at = 0;
        let mut hunting = false;
        while at < data.len() {
            if at >= begins_at && stated.is_some() {
                self.clock.set(stated.take());
            }
            let header = match AdtsHeader::parse(&data[at..]) {
                Ok(Some(header)) if data.len() - at >= header.frame_bytes => header,
                Ok(_) => {
                    self.rest = BytesMut::from(&data[at..]);
                    break;
                }
                Err(_) => {
                    if !std::mem::replace(&mut hunting, true) {
                        stats.broken_units += 1;
                    }
                    let next = data[at + 1..].iter().position(|byte| *byte == 0xff);
                    at = next.map_or(data.len(), |found| at + 1 + found);
                    continue;
                }
            };
            hunting = false;
            let frame = data.slice(at + header.header_bytes..at + header.frame_bytes);
            at += header.frame_bytes;
            let head = (header.object_type, header.sample_rate, header.channel_configuration);
            if self.adts != Some(head) {
                let track = header.config().and_then(|config| {
                    let bytes = Bytes::from(config.to_bytes()?);
                    Ok((config.channels, bytes))
                });
                let Ok((channels, config)) = track else {
                    stats.broken_units += 1;
                    continue;
                };
                self.adts = Some(head);
                let (codec, sample_rate) = (Codec::Aac, header.sample_rate);
                out(Sound::Track(AudioTrack { codec, sample_rate, channels, config }));
            }
            match self.clock.step(1024, header.sample_rate) {
                Some(pts) if !frame.is_empty() => out(Sound::Frame(pts, frame)),
                Some(_) => {}
                None => stats.untimed_units += 1,
            }
        }
        // A time that no frame began at is not kept for a later PES packet.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aac::AudioSpecificConfig;

    fn frames(splitter: &mut Splitter, data: &[u8], pts: Option<i64>) -> Vec<(i64, Bytes)> {
        let (mut stats, mut found) = (Stats::default(), Vec::new());
        splitter.push(Bytes::copy_from_slice(data), pts.map(Pts), &mut stats, |sound| {
            if let Sound::Frame(pts, data) = sound {
                found.push((pts.0, data));
            }
        });
        found
    }

    #[test]
    fn frames_that_straddle_keep_the_time_of_their_own_beginning() {
        let config = AudioSpecificConfig::lc(44_100, 2).unwrap();
        let frame = |value: u8| [&config.adts_header(50).unwrap()[..], &[value; 50]].concat();
        let stream: Vec<u8> = (1..=4).flat_map(frame).collect();
        let body = |value: u8| Bytes::from(vec![value; 50]);
        let mut splitter = Splitter::new(Codec::Aac);
        // Cut in the third frame: its time counts on from the first, the fourth has a stated one.
        let (first, second) = stream.split_at(120);
        let found = frames(&mut splitter, first, Some(1000));
        assert_eq!(found, [(1000, body(1)), (1000 + 1024 * 90_000 / 44_100, body(2))]);
        let found = frames(&mut splitter, second, Some(8000));
        assert_eq!(found, [(1000 + 2048 * 90_000 / 44_100, body(3)), (8000, body(4))]);
        // Without a stated time it counts on; behind a loss it has none until one is stated.
        let found = frames(&mut splitter, &frame(5), None);
        assert_eq!(found, [(8000 + 1024 * 90_000 / 44_100, body(5))]);
        splitter.lost();
        assert_eq!(frames(&mut splitter, &frame(6), None), []);
    }

    #[test]
    fn opus_packets_of_one_pes_follow_each_other_by_their_lengths() {
        let mut data = BytesMut::new();
        for toc in [0xfc, 0x80, 0xfc] {
            ControlHeader { packet_bytes: 3, ..ControlHeader::default() }.write(&mut data);
            data.extend_from_slice(&[toc, 1, 2]);
        }
        let found = frames(&mut Splitter::new(Codec::Opus), &data, Some(100));
        let times: Vec<_> = found.iter().map(|(pts, _)| *pts).collect();
        assert_eq!(times, [100, 100 + 1800, 100 + 1800 + 225]);
    }
}
