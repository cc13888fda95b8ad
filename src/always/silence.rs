//! Sound in which nothing is heard, as constant frames: nothing is encoded.

use bytes::Bytes;
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Pts, Ticks};

/// A frame of AAC-LC with one silent channel (ISO/IEC 14496-3 4.4.2): a single channel element whose
/// spectrum has no bands, all of its 29 bits 0, and the end, 111.
const AAC_MONO: [u8; 4] = [0, 0, 0, 0x07];

/// The same with a pair of channels: `001`, its tag, a common window, 35 bits of 0, the end.
const AAC_STEREO: [u8; 6] = [0x21, 0, 0, 0, 0, 0x1c];

/// 20 ms of Opus, CELT at full band, without a bit of sound (RFC 6716 3.1): mono and stereo.
const OPUS_MONO: [u8; 3] = [0xf8, 0xff, 0xfe];
const OPUS_STEREO: [u8; 3] = [0xfc, 0xff, 0xfe];

/// Samples of AAC's frame.
const AAC_SAMPLES: i64 = 1024;

/// What is sent where no publisher has said what its sound is: AAC-LC, 48 kHz, stereo.
const CONFIG: [u8; 2] = [0x11, 0x90];

/// Frames of silence in one coding.
pub(super) struct Silence {
    track: AudioTrack,
    frame: &'static [u8],
    /// Samples of a frame.
    samples: i64,
    /// Where the silence begins, and how many frames it has by now.
    from: Pts,
    frames: i64,
}

impl Silence {
    /// Silence that goes on after such sound; `None` for codings that it is not made in.
    pub(super) fn after(track: &AudioTrack) -> Option<Self> {
        let rate = i64::from(track.sample_rate);
        let (frame, samples): (&[u8], i64) = match (track.codec, track.channels) {
            // Only AAC-LC: the first five bits are the kind of object.
            (Codec::Aac, 1 | 2) if track.config.first().is_some_and(|byte| byte >> 3 == 2) => {
                (if track.channels == 1 { &AAC_MONO } else { &AAC_STEREO }, AAC_SAMPLES)
            }
            (Codec::Opus, 1) => (&OPUS_MONO, rate / 50),
            (Codec::Opus, 2) => (&OPUS_STEREO, rate / 50),
            _ => return None,
        };
        let from = Pts(0);
        (rate > 0).then(|| Self { track: track.clone(), frame, samples, from, frames: 0 })
    }

    /// Silence for readers of whom the stream's sound is not known, in the first of these codings.
    pub(super) fn of(codings: &[Codec]) -> Option<Self> {
        let codec = codings.iter().find(|codec| matches!(codec, Codec::Aac | Codec::Opus))?;
        let config = match codec {
            Codec::Aac => Bytes::from_static(&CONFIG),
            _ => Bytes::new(),
        };
        Self::after(&AudioTrack { codec: *codec, sample_rate: 48_000, channels: 2, config })
    }

    pub(super) const fn track(&self) -> &AudioTrack {
        &self.track
    }

    /// Begins at this time, or a frame behind the last sound if that is later.
    pub(super) fn begin(&mut self, at: Pts, last: Option<Pts>) {
        self.frames = 0;
        self.from = last.map_or(at, |last| at.max(last + self.ticks(1)));
    }

    /// The next frame, if it begins before `end`.
    pub(super) fn next_before(&mut self, end: Pts) -> Option<(Pts, Bytes)> {
        let at = self.from + self.ticks(self.frames);
        (at < end).then(|| {
            self.frames += 1;
            (at, Bytes::from_static(self.frame))
        })
    }

    fn ticks(&self, frames: i64) -> Ticks {
        Ticks(frames * self.samples * Ticks::SECOND.0 / i64::from(self.track.sample_rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_goes_on_without_gaps_in_the_publishers_coding() {
        let config = Bytes::from_static(&[0x12, 0x08]);
        let track = AudioTrack { codec: Codec::Aac, sample_rate: 44_100, channels: 1, config };
        let mut silence = Silence::after(&track).unwrap();
        silence.begin(Pts(1000), Some(Pts(5000)));
        let mut times = Vec::new();
        while let Some((at, frame)) = silence.next_before(Pts(900_000)) {
            assert_eq!(frame[..], AAC_MONO);
            times.push(at.0);
        }
        assert_eq!(times[0], 5000 + 2089);
        assert!(times.windows(2).all(|pair| (2089..=2090).contains(&(pair[1] - pair[0]))));
        assert_eq!(times.len() as i64, (900_000 - times[0]) * 441 / 1024 / 900 + 1);
    }

    #[test]
    fn what_cannot_be_silent_has_no_sound() {
        let track = |codec, channels| AudioTrack {
            codec,
            sample_rate: 48_000,
            channels,
            config: Bytes::new(),
        };
        assert!(Silence::after(&track(Codec::Mp3, 2)).is_none());
        assert!(Silence::after(&track(Codec::Opus, 6)).is_none());
        assert!(Silence::after(&track(Codec::Aac, 2)).is_none(), "its kind is not known");
        let made = Silence::of(&[Codec::G711U, Codec::Opus]).unwrap();
        assert_eq!(made.track().codec, Codec::Opus);
        assert!(Silence::of(&[Codec::Mp3]).is_none());
    }

    #[test]
    fn the_frames_decode_to_silence() {
        codecs::init().unwrap();
        for (codings, into) in [([Codec::Aac], Codec::Opus), ([Codec::Opus], Codec::Aac)] {
            let mut silence = Silence::of(&codings).unwrap();
            let mut transcoder = codecs::audio::Transcoder::new(silence.track(), into).unwrap();
            let mut out = Vec::new();
            while let Some((pts, data)) = silence.next_before(Pts(90_000)) {
                let packet = pipeline::Packet {
                    kind: pipeline::TrackKind::Audio,
                    pts,
                    dts: pts,
                    key: true,
                    data,
                    arrived: std::time::Instant::now(),
                };
                transcoder.push(&packet, &mut out).unwrap();
            }
            assert!(out.len() > 30, "{codings:?}: {} frames", out.len());
        }
    }
}
