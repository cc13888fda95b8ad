//! What containers and manifests say about a track of sound, for all codecs in one shape.

use bytes::{BufMut, Bytes, BytesMut};

use crate::aac::AudioSpecificConfig;
use crate::flac::StreamInfo;
use crate::packet::{AudioTrack, Codec};
use crate::{aac, flac, opus};

/// What is wrong with the description of a track; the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// AAC.
    #[error(transparent)]
    Aac(#[from] aac::Error),
    /// FLAC.
    #[error(transparent)]
    Flac(#[from] flac::Error),
    /// A codec of pictures where sound was expected.
    #[error("{0} is no audio codec")]
    NoAudio(Codec),
}

/// What a container or a manifest says about a track of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Sample entry of MP4: `mp4a`, `Opus`, `fLaC`, `ulaw`, `alaw`, and `.mp3`, which is also the
    /// FourCC of enhanced RTMP.
    pub four_cc: [u8; 4],
    /// What the sample entry's box holds: AAC its AudioSpecificConfig (inside `esds`), Opus the
    /// contents of `dOps`, FLAC the STREAMINFO block with its header (inside `dfLa`); else empty.
    pub record: Bytes,
    /// For `CODECS` of HLS, MSE and the like (RFC 6381): `mp4a.40.2`, `opus`, `mp4a.40.34`, `fLaC`.
    pub codecs: String,
    /// Samples in a second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u8,
    /// Samples in a frame where all frames have the same: AAC 1024 or 960, MP3 1152 or 576.
    pub frame_samples: Option<u32>,
}

impl Description {
    /// What `track` says of itself.
    ///
    /// # Errors
    /// Those of AudioSpecificConfig and STREAMINFO.
    pub fn of(track: &AudioTrack) -> Result<Self, Error> {
        let of = |four_cc: &[u8; 4], codecs: &str| Self {
            four_cc: *four_cc,
            record: Bytes::new(),
            codecs: codecs.to_owned(),
            sample_rate: track.sample_rate,
            channels: track.channels,
            frame_samples: None,
        };
        Ok(match track.codec {
            Codec::Aac => {
                let record = aac_config(track)?;
                let config = AudioSpecificConfig::parse(&record)?;
                // HE-AAC where it is signalled so that old decoders see it: 5, with parametric
                // stereo 29.
                let kind = match config.extension {
                    Some(sbr) if sbr.hierarchical && sbr.parametric_stereo => 29,
                    Some(sbr) if sbr.hierarchical => 5,
                    _ => config.object_type,
                };
                // With replication a frame has twice the samples at twice the rate.
                let ratio = config.output_rate() / config.sample_rate.max(1);
                Self {
                    record,
                    frame_samples: Some(u32::from(config.frame_samples) * ratio.max(1)),
                    ..of(b"mp4a", &format!("mp4a.40.{kind}"))
                }
            }
            Codec::Opus => Self { record: opus_box(track.channels), ..of(b"Opus", "opus") },
            Codec::Mp3 => {
                let samples = if track.sample_rate < 32_000 { 576 } else { 1152 };
                Self { frame_samples: Some(samples), ..of(b".mp3", "mp4a.40.34") }
            }
            Codec::Flac => {
                let info = StreamInfo::parse(&track.config)?;
                Self { record: info.block(), ..of(b"fLaC", "fLaC") }
            }
            Codec::G711U => of(b"ulaw", "ulaw"),
            Codec::G711A => of(b"alaw", "alaw"),
            other => return Err(Error::NoAudio(other)),
        })
    }
}

/// The track's AudioSpecificConfig, or that of plain AAC LC where nobody gave one.
///
/// # Errors
/// When the track's rate or channels have no such config.
pub fn aac_config(track: &AudioTrack) -> Result<Bytes, aac::Error> {
    if !track.config.is_empty() {
        return Ok(track.config.clone());
    }
    let config = AudioSpecificConfig::lc(track.sample_rate, track.channels)?;
    Ok(Bytes::from(config.to_bytes()?))
}

/// The identification header of RFC 7845 5.1 for a stream of one or two channels, as FLV and Ogg
/// have it. Nothing is skipped at the start: packets' times say when they are heard.
pub fn opus_head(channels: u8) -> [u8; 19] {
    let mut head = *b"OpusHead\x01\x02\x00\x00\x80\xBB\x00\x00\x00\x00\x00";
    head[9] = channels;
    head
}

/// Contents of `dOps` (Opus in ISO base media files, 4.3.2): the same fields, most significant
/// byte first.
fn opus_box(channels: u8) -> Bytes {
    let mut out = BytesMut::with_capacity(11);
    out.put_slice(&[0, channels, 0, 0]);
    out.put_u32(opus::SAMPLE_RATE);
    out.put_slice(&[0, 0, 0]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(codec: Codec, sample_rate: u32, channels: u8, config: &[u8]) -> AudioTrack {
        AudioTrack { codec, sample_rate, channels, config: Bytes::copy_from_slice(config) }
    }

    #[test]
    fn each_codec_has_its_names() {
        let of = |codec, config: &[u8]| {
            let description = Description::of(&track(codec, 48_000, 2, config)).unwrap();
            (description.codecs, description.frame_samples)
        };
        assert_eq!(of(Codec::Aac, &[0x11, 0x90]), ("mp4a.40.2".into(), Some(1024)));
        assert_eq!(of(Codec::Aac, &[]), ("mp4a.40.2".into(), Some(1024)));
        // HE-AAC: 24 kHz in the core, 48 kHz heard.
        assert_eq!(of(Codec::Aac, &[0x2b, 0x11, 0x88, 0]), ("mp4a.40.5".into(), Some(2048)));
        assert_eq!(of(Codec::Opus, &[]), ("opus".into(), None));
        assert_eq!(of(Codec::Mp3, &[]), ("mp4a.40.34".into(), Some(1152)));
        let opus = Description::of(&track(Codec::Opus, 48_000, 2, &[])).unwrap();
        assert_eq!(opus.record[..], [0, 2, 0, 0, 0, 0, 0xbb, 0x80, 0, 0, 0]);
        let h264 = Description::of(&track(Codec::H264, 48_000, 2, &[]));
        assert_eq!(h264, Err(Error::NoAudio(Codec::H264)));
        assert!(Description::of(&track(Codec::Flac, 48_000, 2, &[])).is_err());
    }
}
