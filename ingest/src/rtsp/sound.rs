//! Sound in an SDP: the format of a medium's payloads and the track that they make.

use bytes::Bytes;
use pipeline::Codec;
use pipeline::aac::AudioSpecificConfig;
use pipeline::packet::AudioTrack;

use super::announce::{Map, Parameters};
use crate::rtp::payload::aac::{Lengths, latm_config};
use crate::rtp::payload::{SoundFormat, mpa};

/// Standing payload types (RFC 3551 table 4).
pub(super) const PCMU_TYPE: u8 = 0;
pub(super) const PCMA_TYPE: u8 = 8;
pub(super) const MPA_TYPE: u8 = 14;

/// The format, and the track as far as the SDP says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) format: SoundFormat,
    pub(super) codec: Codec,
    /// Missing for MP3, whose frames say it.
    pub(super) track: Option<AudioTrack>,
}

/// What this mapping means; `None` for what is not carried.
///
/// # Errors
/// What is wrong with the parameters of a format that is carried.
pub(super) fn read(map: &Map, of: &Parameters<'_>) -> Result<Option<Sound>, &'static str> {
    let track = |codec, sample_rate, channels, config| {
        Some(AudioTrack { codec, sample_rate, channels, config })
    };
    let channels = map.channels.clamp(1, 8);
    Ok(Some(match map.name.as_str() {
        "OPUS" => {
            let stereo = of.get("sprop-stereo") == Some("1");
            let channels = if stereo { 2 } else { 1 };
            let track = track(Codec::Opus, 48_000, channels, Bytes::new());
            Sound { format: SoundFormat::Opus, codec: Codec::Opus, track }
        }
        "PCMU" | "PCMA" => {
            let codec = if map.name == "PCMU" { Codec::G711U } else { Codec::G711A };
            let track = track(codec, map.rate, channels, Bytes::new());
            Sound { format: SoundFormat::G711, codec, track }
        }
        "MPA" if map.rate == mpa::CLOCK_RATE => {
            Sound { format: SoundFormat::Mpa, codec: Codec::Mp3, track: None }
        }
        "MPEG4-GENERIC" => {
            let config = of.hex("config").ok_or("no config of mpeg4-generic")?;
            let config = AudioSpecificConfig::parse(&config)
                .map_err(|_| "the config of mpeg4-generic cannot be read")?;
            let lengths = lengths(of)?;
            aac(config, map.rate, |step| SoundFormat::Aac { lengths, step })?
        }
        "MP4A-LATM" => {
            if of.get("cpresent").is_some_and(|value| value != "0") {
                return Err("MP4A-LATM with its config in band");
            }
            let mux = of.hex("config").ok_or("no config of MP4A-LATM")?;
            let config = latm_config(&mux).ok_or("the config of MP4A-LATM cannot be read")?;
            aac(config, map.rate, |step| SoundFormat::Latm { step })?
        }
        _ => return Ok(None),
    }))
}

fn aac(
    config: AudioSpecificConfig,
    rate: u32,
    format: impl FnOnce(u32) -> SoundFormat,
) -> Result<Sound, &'static str> {
    let bytes = config.to_bytes().map_err(|_| "an AAC config that is not carried")?;
    // Ticks of the RTP clock for a frame of the core's samples.
    let samples = u64::from(config.frame_samples) * u64::from(rate);
    let step = (samples / u64::from(config.sample_rate.max(1))) as u32;
    let track = AudioTrack {
        codec: Codec::Aac,
        sample_rate: config.output_rate(),
        channels: config.output_channels(),
        config: bytes.into(),
    };
    Ok(Sound { format: format(step), codec: Codec::Aac, track: Some(track) })
}

/// The lengths of RFC 3640 4.1. Fields that shift the header's layout are refused.
fn lengths(of: &Parameters<'_>) -> Result<Lengths, &'static str> {
    let mode = of.get("mode").unwrap_or("AAC-hbr");
    let usual = if mode.eq_ignore_ascii_case("AAC-lbr") { Lengths::LBR } else { Lengths::HBR };
    let number = |key: &str, usual: u8, max: u8| match of.get(key) {
        None => Ok(usual),
        Some(text) => text
            .parse()
            .ok()
            .filter(|value| *value <= max)
            .ok_or("a length of mpeg4-generic out of range"),
    };
    let others = [
        "ctsdeltalength",
        "dtsdeltalength",
        "randomaccessindication",
        "streamstateindication",
        "auxiliarydatasizelength",
    ];
    if others.iter().any(|key| of.get(key).is_some_and(|value| value != "0")) {
        return Err("a form of mpeg4-generic that is not carried");
    }
    let size = number("sizelength", usual.size, 16)?;
    if size == 0 {
        return Err("mpeg4-generic without sizes");
    }
    Ok(Lengths {
        size,
        index: number("indexlength", usual.index, 8)?,
        delta: number("indexdeltalength", usual.delta, 8)?,
    })
}
