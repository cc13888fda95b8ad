//! The video codecs behind one shape, for whoever carries several: units brought to the form of
//! [`crate::packet`], and what containers and manifests say about a track.
//!
//! Which codecs a transport takes is the transport's to say; nothing here refuses one.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use crate::frame::{Color, Size};
use crate::h264::{self, ChromaFormat, ColorDescription};
use crate::packet::{Codec, VideoTrack};
use crate::{av1, hevc, vp8, vp9};

/// What is wrong with coded pictures or with what describes them; the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// H.264.
    #[error(transparent)]
    H264(#[from] h264::Error),
    /// HEVC.
    #[error(transparent)]
    Hevc(#[from] hevc::Error),
    /// AV1.
    #[error(transparent)]
    Av1(#[from] av1::Error),
    /// VP9.
    #[error(transparent)]
    Vp9(#[from] vp9::Error),
    /// VP8.
    #[error(transparent)]
    Vp8(#[from] vp8::Error),
    /// A codec of sound where pictures were expected.
    #[error("{0} is no video codec")]
    NoVideo(Codec),
}

/// One coded picture in the form of [`crate::packet`].
#[derive(Clone, Debug)]
pub struct Unit {
    /// The bytes of a packet.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub key: bool,
    /// Whether other pictures may refer to it: false only where it is known that skipping this one
    /// harms no other.
    pub reference: bool,
    /// Whether [`Assembler::track`] is another than at the last key unit; only a key unit says so.
    pub changed: bool,
}

/// Makes units of one stream. See the assemblers of the codecs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Assembler {
    /// Of H.264.
    H264(h264::Assembler),
    /// Of HEVC.
    Hevc(hevc::Assembler),
    /// Of AV1.
    Av1(av1::Assembler),
    /// Of VP9.
    Vp9(vp9::Assembler),
    /// Of VP8.
    Vp8(vp8::Assembler),
}

impl Assembler {
    /// One that knows nothing yet; `None` for a codec of sound.
    pub fn new(codec: Codec) -> Option<Self> {
        Some(match codec {
            Codec::H264 => Self::H264(h264::Assembler::new()),
            Codec::Hevc => Self::Hevc(hevc::Assembler::new()),
            Codec::Av1 => Self::Av1(av1::Assembler::new()),
            Codec::Vp9 => Self::Vp9(vp9::Assembler::new()),
            Codec::Vp8 => Self::Vp8(vp8::Assembler::new()),
            _ => return None,
        })
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        match self {
            Self::H264(_) => Codec::H264,
            Self::Hevc(_) => Codec::Hevc,
            Self::Av1(_) => Codec::Av1,
            Self::Vp9(_) => Codec::Vp9,
            Self::Vp8(_) => Codec::Vp8,
        }
    }

    /// Takes the record of FLV and MP4: `avcC`, `hvcC`, `av1C`; that of VP9 says nothing which a
    /// key frame does not say, and VP8 has none. Answers whether what is known is other than before.
    ///
    /// # Errors
    /// Those of the codec's record.
    pub fn configure(&mut self, record: &[u8]) -> Result<bool, Error> {
        Ok(match self {
            Self::H264(of) => of.configure(&h264::DecoderConfiguration::parse(record)?)?,
            Self::Hevc(of) => of.configure(&hevc::DecoderConfiguration::parse(record)?)?,
            Self::Av1(of) => of.configure(&av1::CodecConfiguration::parse(record)?)?,
            Self::Vp9(_) => vp9::record(record).map(|_| false)?,
            Self::Vp8(_) => false,
        })
    }

    /// Takes the parameter sets of a track ([`VideoTrack::parameter_sets`]). Answers as
    /// [`Self::configure`].
    ///
    /// # Errors
    /// Those of the codec's parameter sets.
    pub fn configure_sets(&mut self, sets: &Bytes) -> Result<bool, Error> {
        Ok(match self {
            Self::H264(of) => of.configure_annex_b(sets)?,
            Self::Hevc(of) => of.configure_annex_b(sets)?,
            Self::Av1(of) => of.configure_obu(sets)?,
            Self::Vp9(_) | Self::Vp8(_) => false,
        })
    }

    /// The track as far as it is known.
    pub fn track(&self) -> Option<VideoTrack> {
        match self {
            Self::H264(of) => of.track(),
            Self::Hevc(of) => of.track(),
            Self::Av1(of) => of.track(),
            Self::Vp9(of) => of.track(),
            Self::Vp8(of) => of.track(),
        }
    }

    /// Takes a picture as FLV and MP4 have it: H.264 and HEVC with length prefixes, the others as
    /// they are. `None` when there is no picture in it.
    ///
    /// # Errors
    /// Those of the codec; the unit is lost, the stream can go on.
    pub fn sample(&mut self, sample: BytesMut) -> Result<Option<Unit>, Error> {
        match self {
            Self::H264(of) => Ok(of.length_prefixed(sample)?.map(Unit::from)),
            Self::Hevc(of) => Ok(of.length_prefixed(sample)?.map(Unit::from)),
            _ => self.unit(sample.freeze()),
        }
    }

    /// Takes a picture as a byte stream has it: H.264 and HEVC in Annex B, AV1 as temporal unit,
    /// VP8 and VP9 as frame. `None` when there is no picture in it.
    ///
    /// # Errors
    /// Those of the codec; the unit is lost, the stream can go on.
    pub fn unit(&mut self, unit: Bytes) -> Result<Option<Unit>, Error> {
        let plain = |data, key, changed| Unit { data, key, reference: true, changed };
        Ok(match self {
            Self::H264(of) => of.annex_b(unit)?.map(Unit::from),
            Self::Hevc(of) => of.annex_b(unit)?.map(Unit::from),
            Self::Av1(of) => of.unit(unit)?.map(|u| plain(u.data, u.key, u.changed)),
            Self::Vp9(of) => of.frame(unit)?.map(|u| plain(u.data, u.key, u.changed)),
            Self::Vp8(of) => of.frame(unit)?.map(|u| plain(u.data, u.key, u.changed)),
        })
    }
}

impl From<h264::Unit> for Unit {
    fn from(unit: h264::Unit) -> Self {
        let h264::Unit { data, key, reference, changed, .. } = unit;
        Self { data, key, reference, changed }
    }
}

impl From<hevc::Unit> for Unit {
    fn from(unit: hevc::Unit) -> Self {
        let hevc::Unit { data, key, reference, changed, .. } = unit;
        Self { data, key, reference, changed }
    }
}

/// What a container or a manifest says about a track of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Sample entry of MP4 and FourCC of enhanced RTMP: `avc1`, `hvc1`, `av01`, `vp09`, `vp08`.
    pub four_cc: [u8; 4],
    /// Contents of the box `avcC`, `hvcC`, `av1C` or `vpcC` (that one without its version and
    /// flags, which are 1 and 0).
    pub record: Bytes,
    /// For `CODECS` of HLS, MSE and the like (RFC 6381): `avc1.64001f`, `hvc1.1.6.L93.B0`,
    /// `av01.0.04M.08`, `vp09.00.31.08`, `vp08.00.31.08`.
    pub codecs: String,
    /// Picture size after cropping, in pixels.
    pub size: Size,
    /// Width and height of a pixel, where the stream states one that is not square.
    pub sample_aspect: Option<(u16, u16)>,
    /// Matrix and range, stated or inferred.
    pub color: Color,
    /// Colours by the numbers of ITU-T H.273, where they are stated.
    pub color_description: Option<ColorDescription>,
    /// Chroma sampling.
    pub chroma_format: ChromaFormat,
    /// Bits of a luma sample.
    pub bit_depth: u8,
    /// By how many pictures output may lag behind decoding; `None` where the stream does not say.
    pub reorder_frames: Option<u32>,
    /// Pictures in a second as far as stated, in thousandths.
    pub frames_per_kilosecond: Option<u64>,
}

impl Description {
    /// What `track` says of itself.
    ///
    /// # Errors
    /// Those of the codec's parameter sets, which may be missing yet.
    pub fn of(track: &VideoTrack) -> Result<Self, Error> {
        match track.codec {
            Codec::H264 => of_h264(track),
            Codec::Hevc => of_hevc(track),
            Codec::Av1 => of_av1(track),
            Codec::Vp9 => of_vp9(track),
            Codec::Vp8 => Ok(of_vp8(track)),
            other => Err(Error::NoVideo(other)),
        }
    }
}

fn thousandths(rate: Option<f64>) -> Option<u64> {
    rate.filter(|rate| (0.001..=1e6).contains(rate)).map(|rate| (rate * 1000.0).round() as u64)
}

fn of_h264(track: &VideoTrack) -> Result<Description, Error> {
    let record = h264::DecoderConfiguration::from_annex_b(&track.parameter_sets)?;
    let sps = h264::SpsInfo::parse(&record.sps[0])?;
    let (profile, compatibility, level) = (record.profile, record.compatibility, record.level);
    Ok(Description {
        four_cc: *b"avc1",
        record: record.to_bytes()?,
        codecs: format!("avc1.{profile:02x}{compatibility:02x}{level:02x}"),
        size: sps.size,
        sample_aspect: sps.vui.as_ref().and_then(|vui| vui.sample_aspect).filter(|(w, h)| w != h),
        color: sps.color(),
        color_description: sps.vui.as_ref().and_then(|vui| vui.color),
        chroma_format: sps.chroma_format,
        bit_depth: sps.bit_depth_luma,
        reorder_frames: sps.reorder_frames,
        frames_per_kilosecond: thousandths(sps.frames_per_second()),
    })
}

fn of_hevc(track: &VideoTrack) -> Result<Description, Error> {
    let record = hevc::DecoderConfiguration::from_annex_b(&track.parameter_sets)?;
    let is_sps = |nal: &&Bytes| hevc::NalKind::of(nal[0]) == hevc::NalKind::Sps;
    let sps = record.sets.iter().find(is_sps).map_or(&[][..], |nal| nal);
    let sps = hevc::SpsInfo::parse(sps)?;
    let vui = sps.vui.as_ref();
    Ok(Description {
        four_cc: *b"hvc1",
        record: record.to_bytes(),
        codecs: format!("hvc1.{}", record.profile.codec_string()),
        size: sps.size,
        sample_aspect: vui.and_then(|vui| vui.sample_aspect).filter(|(w, h)| w != h),
        color: sps.color(),
        color_description: vui.and_then(|vui| vui.color),
        chroma_format: sps.chroma_format,
        bit_depth: sps.bit_depth_luma,
        reorder_frames: Some(sps.reorder_frames),
        frames_per_kilosecond: thousandths(sps.frames_per_second()),
    })
}

fn of_av1(track: &VideoTrack) -> Result<Description, Error> {
    let mut assembler = av1::Assembler::new();
    assembler.configure_obu(&track.parameter_sets)?;
    let info = assembler.sequence_header().ok_or(av1::Error::MissingSequenceHeader)?;
    let record = av1::CodecConfiguration::from_sequence_header(&track.parameter_sets)?;
    let tier = if info.high_tier { 'H' } else { 'M' };
    let mut codecs = format!("av01.{}.{:02}{tier}.{:02}", info.profile, info.level, info.bit_depth);
    // AV1 in ISO base media files, 5: what follows may be left out where it is the common case.
    let usual = ColorDescription { primaries: 1, transfer: 1, matrix: 1 };
    let mono = info.chroma_format == ChromaFormat::Monochrome;
    let color = info.color.unwrap_or(ColorDescription { primaries: 2, transfer: 2, matrix: 2 });
    let plain = !mono && info.chroma_format == ChromaFormat::Yuv420 && !info.full_range;
    if !(plain && (info.color.is_none() || color == usual)) {
        let sampling = match info.chroma_format {
            ChromaFormat::Monochrome => "110".to_owned(),
            ChromaFormat::Yuv420 => format!("11{}", info.chroma_position),
            ChromaFormat::Yuv422 => "100".to_owned(),
            ChromaFormat::Yuv444 => "000".to_owned(),
        };
        let _ = write!(
            codecs,
            ".{}.{sampling}.{:02}.{:02}.{:02}.{}",
            u8::from(mono),
            color.primaries,
            color.transfer,
            color.matrix,
            u8::from(info.full_range)
        );
    }
    Ok(Description {
        four_cc: *b"av01",
        record: record.to_bytes(),
        codecs,
        size: info.size,
        sample_aspect: None,
        color: info.picture_color(),
        color_description: info.color,
        chroma_format: info.chroma_format,
        bit_depth: info.bit_depth,
        reorder_frames: Some(0),
        frames_per_kilosecond: thousandths(info.frames_per_second()),
    })
}

fn of_vp9(track: &VideoTrack) -> Result<Description, Error> {
    let record = vp9::record(&track.parameter_sets)?;
    let [profile, level, third, primaries, transfer, matrix, ..] = record[..] else {
        let what = "VPCodecConfigurationRecord";
        return Err(vp9::Error::Truncated { what, field: "matrixCoefficients" }.into());
    };
    let stated = ColorDescription { primaries, transfer, matrix };
    let color_description = (primaries != 2).then_some(stated);
    let chroma_format = match (third >> 1) & 7 {
        2 => ChromaFormat::Yuv422,
        3 => ChromaFormat::Yuv444,
        _ => ChromaFormat::Yuv420,
    };
    Ok(Description {
        four_cc: *b"vp09",
        codecs: format!("vp09.{profile:02}.{level:02}.{:02}", third >> 4),
        size: track.size,
        sample_aspect: None,
        color: h264::color_of(track.size, color_description, third & 1 == 1),
        color_description,
        chroma_format,
        bit_depth: third >> 4,
        reorder_frames: Some(0),
        frames_per_kilosecond: None,
        record,
    })
}

fn of_vp8(track: &VideoTrack) -> Description {
    let level = vp9::level(track.size);
    Description {
        four_cc: *b"vp08",
        record: Bytes::copy_from_slice(&[0, level, 0x82, 2, 2, 2, 0, 0]),
        codecs: format!("vp08.00.{level:02}.08"),
        size: track.size,
        sample_aspect: None,
        color: Color::unsignalled(track.size),
        color_description: None,
        chroma_format: ChromaFormat::Yuv420,
        bit_depth: 8,
        reorder_frames: Some(0),
        frames_per_kilosecond: None,
    }
}

#[cfg(test)]
#[path = "video_tests.rs"]
mod tests;
