//! AAC as bytes: the AudioSpecificConfig of FLV, MP4 and SDP, and the ADTS header of MPEG-TS
//! (ISO/IEC 14496-3). Frames themselves are not opened.
//!
//! This file is long because AudioSpecificConfig and ADTS are two spellings of the same fields.

use crate::bits::{BitReader, BitWriter};

/// `samplingFrequencyIndex` 0 to 12 (table 1.18), in Hz.
pub const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// The longest ADTS frame with its header, in bytes: the field has 13 bits.
pub const ADTS_FRAME_BYTES_MAX: usize = 8191;

/// Bytes of an ADTS header without checksum.
pub const ADTS_HEADER_BYTES: usize = 7;

/// What is wrong with bytes that should be AAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data ends too early; the sender's fault.
    #[error("AAC {what} ends before {field}")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// The field that is missing.
        field: &'static str,
    },
    /// A field has a value that is reserved or that this node does not take; the sender's fault.
    #[error("AAC {field} is {value}, which is not supported")]
    Unsupported {
        /// The field, by its name in the standard.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// The bytes do not begin with the sync word of ADTS.
    #[error("no ADTS sync word")]
    NoSync,
    /// What ADTS has no room for; our caller's fault.
    #[error("ADTS cannot carry {field} {value}")]
    NotInAdts {
        /// What does not fit.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// AudioSpecificConfig (1.6.2.1): how to decode the frames of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Audio object type of the core coder: 2 for AAC LC.
    pub object_type: u8,
    /// Sampling rate of the core coder in Hz, up to 24 bits.
    pub sample_rate: u32,
    /// `channelConfiguration`, 0 when a program config element describes them.
    pub channel_configuration: u8,
    /// Channels of the core coder; parametric stereo makes two of one.
    pub channels: u8,
    /// Samples per frame and channel of the core coder: 1024, or 960.
    pub frame_samples: u16,
    /// Spectral band replication, if it is signalled.
    pub extension: Option<Extension>,
}

/// Signalled spectral band replication (HE-AAC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Sampling rate after it in Hz, usually twice that of the core.
    pub sample_rate: u32,
    /// Whether parametric stereo is used (HE-AAC version 2).
    pub parametric_stereo: bool,
    /// True where old decoders are told as well (object type 5 or 29 in front); false where it is
    /// appended and they do not see it.
    pub hierarchical: bool,
}

impl AudioSpecificConfig {
    /// Plain AAC LC.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless `channels` is 1 to 6 or 8 and `sample_rate` fits in 24 bits.
    pub fn lc(sample_rate: u32, channels: u8) -> Result<Self, Error> {
        let channel_configuration = match channels {
            1..=6 => channels,
            8 => 7,
            _ => return Err(Error::Unsupported { field: "channels", value: channels.into() }),
        };
        if sample_rate == 0 || sample_rate >= 1 << 24 {
            return Err(Error::Unsupported { field: "sample rate", value: sample_rate });
        }
        let (object_type, frame_samples, extension) = (2, 1024, None);
        Ok(Self {
            object_type,
            sample_rate,
            channel_configuration,
            channels,
            frame_samples,
            extension,
        })
    }

    /// Reads a config. Bytes behind it are ignored.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::Unsupported`] for object types that are not AAC (1 to 4, 6,
    /// 17, 19, 20, 22, 23), reserved channel configurations and rates.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut f = Fields { bits: BitReader::new(bytes) };
        let mut object_type = f.object_type()?;
        let mut sample_rate = f.rate("samplingFrequencyIndex")?;
        let channel_configuration = f.take(4, "channelConfiguration")? as u8;
        let mut extension = None;
        if matches!(object_type, 5 | 29) {
            let parametric_stereo = object_type == 29;
            let rate = f.rate("extensionSamplingFrequencyIndex")?;
            extension =
                Some(Extension { sample_rate: rate, parametric_stereo, hierarchical: true });
            object_type = f.object_type()?;
        }
        if !matches!(object_type, 1..=4 | 6 | 17 | 19 | 20 | 22 | 23) {
            return Err(Error::Unsupported { field: "audioObjectType", value: object_type.into() });
        }
        // GASpecificConfig (4.4.1).
        let frame_samples = if f.take(1, "frameLengthFlag")? == 1 { 960 } else { 1024 };
        if f.take(1, "dependsOnCoreCoder")? == 1 {
            f.take(14, "coreCoderDelay")?;
        }
        let extended = f.take(1, "extensionFlag")? == 1;
        let channels = match channel_configuration {
            0 => f.program_config(&mut sample_rate)?,
            1..=6 => channel_configuration,
            7 | 12 | 14 => 8,
            11 => 7,
            13 => 24,
            value => {
                return Err(Error::Unsupported {
                    field: "channelConfiguration",
                    value: value.into(),
                });
            }
        };
        if matches!(object_type, 6 | 20) {
            f.take(3, "layerNr")?;
        }
        if extended {
            if object_type == 22 {
                f.take(16, "numOfSubFrame and layer_length")?;
            }
            if matches!(object_type, 17 | 19 | 20 | 23) {
                f.take(3, "resilience flags")?;
            }
            f.take(1, "extensionFlag3")?;
        }
        if matches!(object_type, 17 | 19 | 20 | 22 | 23) {
            f.take(2, "epConfig")?;
        }
        if extension.is_none() {
            extension = f.appended_extension();
        }
        Ok(Self {
            object_type,
            sample_rate,
            channel_configuration,
            channels,
            frame_samples,
            extension,
        })
    }

    /// The config's bytes, for what [`Self::lc`] or [`AdtsHeader::config`] made or what was read
    /// with a channel configuration of its own.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for layouts that need a program config element and for error
    /// resilient object types, which are read only.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        if self.channel_configuration == 0 {
            return Err(Error::Unsupported { field: "channelConfiguration", value: 0 });
        }
        if !matches!(self.object_type, 1..=4) {
            let value = self.object_type.into();
            return Err(Error::Unsupported { field: "audioObjectType", value });
        }
        let mut out = BitWriter::default();
        let rate = |out: &mut BitWriter, rate: u32| match rate_index(rate) {
            Some(index) => out.bits(index.into(), 4),
            None => {
                out.bits(15, 4);
                out.bits(rate, 24);
            }
        };
        let core = u32::from(self.object_type);
        match self.extension {
            Some(sbr) if sbr.hierarchical => {
                out.bits(if sbr.parametric_stereo { 29 } else { 5 }, 5);
                rate(&mut out, self.sample_rate);
                out.bits(self.channel_configuration.into(), 4);
                rate(&mut out, sbr.sample_rate);
                out.bits(core, 5);
            }
            _ => {
                out.bits(core, 5);
                rate(&mut out, self.sample_rate);
                out.bits(self.channel_configuration.into(), 4);
            }
        }
        out.bit(self.frame_samples == 960);
        out.bits(0, 2);
        if let Some(sbr) = self.extension.filter(|sbr| !sbr.hierarchical) {
            out.bits(0x2b7, 11);
            out.bits(5, 5);
            out.bit(true);
            rate(&mut out, sbr.sample_rate);
            if sbr.parametric_stereo {
                out.bits(0x548, 11);
                out.bit(true);
            }
        }
        Ok(out.into_bytes())
    }

    /// Samples in a second after spectral band replication, as far as it is signalled.
    pub fn output_rate(&self) -> u32 {
        self.extension.map_or(self.sample_rate, |sbr| sbr.sample_rate)
    }

    /// Channels after parametric stereo, as far as it is signalled.
    pub fn output_channels(&self) -> u8 {
        let stereo = self.extension.is_some_and(|sbr| sbr.parametric_stereo);
        if stereo && self.channels == 1 { 2 } else { self.channels }
    }

    /// The ADTS header for a raw frame of `frame_bytes`. Replication is left to be found in the
    /// frames themselves, as ADTS cannot signal it.
    ///
    /// # Errors
    /// [`Error::NotInAdts`] for object types over 4, rates that are not in [`SAMPLE_RATES`],
    /// channel configurations outside 1 to 7, 960 samples, and frames over 8,184 bytes.
    pub fn adts_header(&self, frame_bytes: usize) -> Result<[u8; ADTS_HEADER_BYTES], Error> {
        let not = |field, value| Error::NotInAdts { field, value };
        let Some(profile @ 0..=3) = self.object_type.checked_sub(1) else {
            return Err(not("object type", self.object_type.into()));
        };
        let index = rate_index(self.sample_rate).ok_or(not("sample rate", self.sample_rate))?;
        let channels = self.channel_configuration;
        if !(1..=7).contains(&channels) {
            return Err(not("channel configuration", channels.into()));
        }
        if self.frame_samples != 1024 {
            return Err(not("samples per frame", self.frame_samples.into()));
        }
        let length = frame_bytes + ADTS_HEADER_BYTES;
        if length > ADTS_FRAME_BYTES_MAX {
            return Err(not("frame bytes", u32::try_from(frame_bytes).unwrap_or(u32::MAX)));
        }
        Ok([
            0xff,
            // MPEG-4, layer 0, no checksum.
            0xf1,
            (profile << 6) | (index << 2) | (channels >> 2),
            ((channels & 3) << 6) | (length >> 11) as u8,
            (length >> 3) as u8,
            // Fullness 0x7ff: rate may vary. One frame.
            ((length as u8 & 7) << 5) | 0x1f,
            0xfc,
        ])
    }
}

/// What an ADTS header (1.A.2) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdtsHeader {
    /// Audio object type, 1 to 4.
    pub object_type: u8,
    /// Sampling rate in Hz.
    pub sample_rate: u32,
    /// `channel_configuration`, 0 to 7; 0 when the frames describe the channels themselves.
    pub channel_configuration: u8,
    /// Bytes of this header: 7, or 9 with a checksum.
    pub header_bytes: usize,
    /// Bytes of header and frame.
    pub frame_bytes: usize,
}

impl AdtsHeader {
    /// Reads the header at the start of `bytes`. `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`Error::NoSync`]; [`Error::Unsupported`] for reserved rates, lengths shorter than the
    /// header and several raw blocks in a frame, which nobody writes.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Error> {
        if bytes.first().is_some_and(|first| *first != 0xff)
            || bytes.get(1).is_some_and(|second| second & 0xf6 != 0xf0)
        {
            return Err(Error::NoSync);
        }
        let Some(&[_, b1, b2, b3, b4, b5, b6]) = bytes.first_chunk::<ADTS_HEADER_BYTES>() else {
            return Ok(None);
        };
        let index = (b2 >> 2) & 15;
        let Some(&sample_rate) = SAMPLE_RATES.get(usize::from(index)) else {
            let field = "sampling_frequency_index";
            return Err(Error::Unsupported { field, value: index.into() });
        };
        let header_bytes = if b1 & 1 == 1 { 7 } else { 9 };
        let frame_bytes =
            (usize::from(b3 & 3) << 11) | (usize::from(b4) << 3) | usize::from(b5 >> 5);
        if frame_bytes < header_bytes {
            let field = "aac_frame_length";
            return Err(Error::Unsupported { field, value: frame_bytes as u32 });
        }
        if b6 & 3 != 0 {
            let field = "number_of_raw_data_blocks_in_frame";
            return Err(Error::Unsupported { field, value: u32::from(b6 & 3) });
        }
        Ok(Some(Self {
            object_type: (b2 >> 6) + 1,
            sample_rate,
            channel_configuration: ((b2 & 1) << 2) | (b3 >> 6),
            header_bytes,
            frame_bytes,
        }))
    }

    /// The config that says the same.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for channel configuration 0.
    pub fn config(&self) -> Result<AudioSpecificConfig, Error> {
        let channels = match self.channel_configuration {
            0 => return Err(Error::Unsupported { field: "channel_configuration", value: 0 }),
            7 => 8,
            same => same,
        };
        let config = AudioSpecificConfig::lc(self.sample_rate, channels)?;
        Ok(AudioSpecificConfig { object_type: self.object_type, ..config })
    }
}

fn rate_index(rate: u32) -> Option<u8> {
    SAMPLE_RATES.iter().position(|known| *known == rate).map(|index| index as u8)
}

struct Fields<'a> {
    bits: BitReader<'a>,
}

impl Fields<'_> {
    fn take(&mut self, count: u32, field: &'static str) -> Result<u32, Error> {
        self.bits.bits(count).ok_or(Error::Truncated { what: "AudioSpecificConfig", field })
    }

    fn object_type(&mut self) -> Result<u8, Error> {
        let number = self.take(5, "audioObjectType")?;
        let escaped = number == 31;
        Ok(if escaped { 32 + self.take(6, "audioObjectTypeExt")? as u8 } else { number as u8 })
    }

    fn rate(&mut self, field: &'static str) -> Result<u32, Error> {
        let rate = match self.take(4, field)? {
            15 => self.take(24, field)?,
            index => match SAMPLE_RATES.get(index as usize) {
                Some(rate) => *rate,
                None => return Err(Error::Unsupported { field, value: index }),
            },
        };
        if rate == 0 { Err(Error::Unsupported { field, value: 0 }) } else { Ok(rate) }
    }

    /// program_config_element (4.4.1.1); answers the number of channels. Its rate counts.
    fn program_config(&mut self, sample_rate: &mut u32) -> Result<u8, Error> {
        self.take(6, "element_instance_tag and object_type")?;
        let index = self.take(4, "sampling_frequency_index")?;
        if let Some(rate) = SAMPLE_RATES.get(index as usize) {
            *sample_rate = *rate;
        }
        let front = self.take(4, "num_front_channel_elements")?;
        let side = self.take(4, "num_side_channel_elements")?;
        let back = self.take(4, "num_back_channel_elements")?;
        let low = self.take(2, "num_lfe_channel_elements")?;
        let data = self.take(3, "num_assoc_data_elements")?;
        let coupling = self.take(4, "num_valid_cc_elements")?;
        for field in ["mono_mixdown_element_number", "stereo_mixdown_element_number"] {
            if self.take(1, field)? == 1 {
                self.take(4, field)?;
            }
        }
        if self.take(1, "matrix_mixdown_idx_present")? == 1 {
            self.take(3, "matrix_mixdown_idx")?;
        }
        let mut channels = low;
        for _ in 0..front + side + back {
            channels += 1 + self.take(1, "element_is_cpe")?;
            self.take(4, "element_tag_select")?;
        }
        for _ in 0..low + data {
            self.take(4, "element_tag_select")?;
        }
        for _ in 0..coupling {
            self.take(5, "cc_element")?;
        }
        self.bits.align();
        let comment = self.take(8, "comment_field_bytes")?;
        self.bits
            .skip(comment * 8)
            .ok_or(Error::Truncated { what: "AudioSpecificConfig", field: "comment_field_data" })?;
        match channels {
            0 => Err(Error::Unsupported { field: "channels", value: 0 }),
            // 45 elements of two and three low ones at most: fits.
            channels => Ok(channels as u8),
        }
    }

    /// The backward compatible signalling behind the config, where there is one.
    fn appended_extension(&mut self) -> Option<Extension> {
        if self.bits.bits(11)? != 0x2b7 || self.object_type().ok()? != 5 || !self.bits.bit()? {
            return None;
        }
        let sample_rate = self.rate("extensionSamplingFrequencyIndex").ok()?;
        let stereo = self.bits.bits(11) == Some(0x548) && self.bits.bit() == Some(true);
        Some(Extension { sample_rate, parametric_stereo: stereo, hierarchical: false })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn configs_of_common_encoders_read_as_meant() {
        let lc = AudioSpecificConfig::parse(&[0x12, 0x10]).unwrap();
        assert_eq!(lc, AudioSpecificConfig::lc(44_100, 2).unwrap());
        assert_eq!(AudioSpecificConfig::lc(48_000, 1).unwrap().to_bytes().unwrap(), [0x11, 0x88]);
        // HE-AAC, appended signalling: LC 22050 Hz stereo, replication to 44100 Hz.
        let he = AudioSpecificConfig::parse(&[0x13, 0x90, 0x56, 0xe5, 0xa0]).unwrap();
        assert_eq!((he.sample_rate, he.output_rate(), he.channels), (22_050, 44_100, 2));
        // HE-AAC v2, hierarchical: mono made stereo.
        let v2 = AudioSpecificConfig::parse(&[0xeb, 0x09, 0x88, 0x00]).unwrap();
        assert_eq!((v2.sample_rate, v2.output_rate()), (24_000, 48_000));
        assert_eq!((v2.channels, v2.output_channels()), (1, 2));
    }

    #[test]
    fn what_cannot_be_carried_is_named() {
        let opus = AudioSpecificConfig::parse(&[0xf8, 0x00, 0x00]).unwrap_err();
        assert!(matches!(opus, Error::Unsupported { field: "audioObjectType", .. }), "{opus}");
        let empty = AudioSpecificConfig::parse(&[]).unwrap_err();
        assert_eq!(empty.to_string(), "AAC AudioSpecificConfig ends before audioObjectType");
        let odd = AudioSpecificConfig::lc(12_345, 2).unwrap();
        let error = odd.adts_header(10).unwrap_err();
        assert_eq!(error, Error::NotInAdts { field: "sample rate", value: 12_345 });
        assert!(AudioSpecificConfig::lc(48_000, 2).unwrap().adts_header(8185).is_err());
        assert_eq!(AdtsHeader::parse(&[0xff, 0x00]), Err(Error::NoSync));
        assert_eq!(AdtsHeader::parse(&[0xff, 0xf1, 0x50]), Ok(None));
    }

    proptest! {
        #[test]
        fn a_config_survives_both_ways(
            object_type in 1_u8..=4, rate in 1_u32..1 << 24, channels in 1_u8..=6,
            short: bool, sbr in prop::option::of((1_u32..1 << 24, any::<bool>(), any::<bool>())),
        ) {
            let extension = sbr.map(|(sample_rate, parametric_stereo, hierarchical)| {
                Extension { sample_rate, parametric_stereo, hierarchical }
            });
            let config = AudioSpecificConfig {
                object_type,
                frame_samples: if short { 960 } else { 1024 },
                extension,
                ..AudioSpecificConfig::lc(rate, channels).unwrap()
            };
            prop_assert_eq!(AudioSpecificConfig::parse(&config.to_bytes().unwrap()), Ok(config));
        }

        #[test]
        fn an_adts_header_says_what_the_config_said(
            index in 0..SAMPLE_RATES.len(), channels in prop::sample::select(vec![1_u8, 2, 6, 8]),
            bytes in 0_usize..=8184,
        ) {
            let config = AudioSpecificConfig::lc(SAMPLE_RATES[index], channels).unwrap();
            let header = AdtsHeader::parse(&config.adts_header(bytes).unwrap()).unwrap().unwrap();
            prop_assert_eq!(header.config(), Ok(config));
            prop_assert_eq!(header.frame_bytes - header.header_bytes, bytes);
        }
    }
}
