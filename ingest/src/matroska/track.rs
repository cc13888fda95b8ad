//! What a file says of its tracks (RFC 9559 5.1.4), as far as they can be carried.

use bytes::{Bytes, BytesMut};
use pipeline::aac::AudioSpecificConfig;
use pipeline::flac::StreamInfo;
use pipeline::mp3::FrameHeader;
use pipeline::packet::AudioTrack;
use pipeline::{Codec, opus};

use super::ebml::{children, float, text, unsigned};
use crate::mp4::Config;

/// Bytes that a track leaves away from the beginning of each frame, at most.
const STRIPPED_MAX: usize = 64;

/// Samples of an AAC frame where its config says nothing else.
const AAC_SAMPLES: u32 = 1024;

/// A track that can be carried.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) number: u64,
    pub(super) config: Config,
    /// What its frames are without (header stripping, RFC 9559 5.1.4.1.31.6).
    stripped: Bytes,
    /// How long a frame lasts, in nanoseconds, if that is said.
    frame_ns: Option<u64>,
}

impl Track {
    /// Reads a `TrackEntry`; `Err` is what it is called if it cannot be carried.
    pub(super) fn parse(entry: &[u8]) -> Result<Self, String> {
        let (mut number, mut id, mut private) = (0, "", &[][..]);
        let (mut rate, mut channels) = (8000.0, 1);
        let (mut frame_ns, mut stripped) = (None, Ok(Bytes::new()));
        for (element, body) in children(entry) {
            match element {
                0xD7 => number = unsigned(body).unwrap_or(0),
                0x86 => id = text(body).unwrap_or_default(),
                0x63A2 => private = body,
                0x23_E383 => frame_ns = unsigned(body).filter(|duration| *duration > 0),
                0xE1 => {
                    for (element, body) in children(body) {
                        match element {
                            0xB5 => rate = float(body).unwrap_or(rate),
                            0x9F => channels = unsigned(body).unwrap_or(channels),
                            _ => {}
                        }
                    }
                }
                0x6D80 => stripped = encodings(body),
                _ => {}
            }
        }
        let stripped = stripped.map_err(|how| format!("{id} ({how})"))?;
        let sound = |codec| {
            let (sample_rate, config) = (rate.clamp(1.0, 1e6) as u32, Bytes::new());
            let channels = u8::try_from(channels).ok().filter(|channels| *channels > 0)?;
            Some(Config::Audio(AudioTrack { codec, sample_rate, channels, config }))
        };
        let config = match id {
            "V_MPEG4/ISO/AVC" => Some(Config::Video(Codec::H264, private.to_vec())),
            "V_MPEGH/ISO/HEVC" => Some(Config::Video(Codec::Hevc, private.to_vec())),
            "V_AV1" => Some(Config::Video(Codec::Av1, private.to_vec())),
            // A key frame says all that is needed.
            "V_VP8" => Some(Config::Video(Codec::Vp8, Vec::new())),
            "V_VP9" => Some(Config::Video(Codec::Vp9, Vec::new())),
            "A_AAC" => AudioSpecificConfig::parse(private).ok().map(|config| {
                Config::Audio(AudioTrack {
                    codec: Codec::Aac,
                    sample_rate: config.output_rate(),
                    channels: config.output_channels(),
                    config: Bytes::copy_from_slice(private),
                })
            }),
            // Family 0 of RFC 7845 5.1.1, one or two channels.
            "A_OPUS" if private.get(18).is_none_or(|family| *family == 0) => {
                let channels = private.get(9).copied().unwrap_or(channels as u8).max(1);
                let (sample_rate, config) = (opus::SAMPLE_RATE, Bytes::new());
                let codec = Codec::Opus;
                Some(Config::Audio(AudioTrack { codec, sample_rate, channels, config }))
            }
            "A_FLAC" => StreamInfo::parse(private).ok().map(|info| Config::Audio(info.track())),
            "A_MPEG/L3" => sound(Codec::Mp3),
            _ => None,
        };
        let config = config.filter(|_| number > 0).ok_or_else(|| id.to_owned())?;
        Ok(Self { number, config, stripped, frame_ns })
    }

    pub(super) fn is_video(&self) -> bool {
        matches!(self.config, Config::Video(..))
    }

    /// A frame with what the file leaves away.
    pub(super) fn whole(&self, frame: &[u8]) -> BytesMut {
        let mut whole = BytesMut::with_capacity(self.stripped.len() + frame.len());
        whole.extend_from_slice(&self.stripped);
        whole.extend_from_slice(frame);
        whole
    }

    /// How long a frame lasts, in ticks of 90 kHz; 0 where nothing tells.
    pub(super) fn ticks(&self, frame: &[u8]) -> i64 {
        if let Some(duration) = self.frame_ns {
            return i64::try_from(duration).unwrap_or(0) / 1000 * 9 / 100;
        }
        let Config::Audio(track) = &self.config else { return 0 };
        let samples = match track.codec {
            Codec::Aac => AAC_SAMPLES,
            Codec::Opus => opus::packet_samples(frame).unwrap_or(0),
            Codec::Mp3 => FrameHeader::parse(frame).map_or(0, |header| header.samples),
            _ => 0,
        };
        i64::from(samples) * 90_000 / i64::from(track.sample_rate.max(1))
    }
}

/// What frames are without; `Err` is how else they are changed.
fn encodings(body: &[u8]) -> Result<Bytes, &'static str> {
    let mut stripped = Bytes::new();
    for (element, encoding) in children(body) {
        if element != 0x6240 {
            continue;
        }
        // Without a word it is zlib.
        let (mut kind, mut algorithm, mut settings) = (0, 0, &[][..]);
        for (element, body) in children(encoding) {
            match element {
                0x5033 => kind = unsigned(body).unwrap_or(1),
                0x5034 => {
                    for (element, body) in children(body) {
                        match element {
                            0x4254 => algorithm = unsigned(body).unwrap_or(0),
                            0x4255 => settings = body,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match (kind, algorithm) {
            (0, 3) if settings.len() <= STRIPPED_MAX => stripped = Bytes::copy_from_slice(settings),
            (0, _) => return Err("compressed"),
            _ => return Err("encrypted"),
        }
    }
    Ok(stripped)
}
