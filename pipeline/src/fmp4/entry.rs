//! How each codec is described (its sample entry and its name after RFC 6381) and how its packets
//! become samples.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{
    Atom as _, Audio, Av01, Av1c, Avc1, Avcc, Codec as Entry, Dfla, Dops, Esds, FixedPoint, Flac,
    FlacMetadataBlock, Hvc1, Hvcc, Mp4a, Pasp, Visual, Vp09, VpcC, esds,
};

use crate::aac::AudioSpecificConfig;
use crate::annexb::nals;
use crate::h264::NalKind;
use crate::opus;
use crate::packet::{AudioTrack, Codec, VideoTrack};
use crate::video;

use super::{Error, VIDEO_TIMESCALE};

/// What is written about a track.
pub(super) struct Description {
    pub(super) entry: Entry,
    /// The name in playlists (RFC 6381), `avc1.64001f` say.
    pub(super) name: String,
    /// Units in a second.
    pub(super) timescale: u32,
}

/// The entry of a picture track.
pub(super) fn video(track: &VideoTrack) -> Result<Description, Error> {
    if track.parameter_sets.is_empty() || track.size.width == 0 || track.size.height == 0 {
        return Err(Error::NotReady(track.codec));
    }
    let video::Description { record, codecs, sample_aspect, .. } = video::Description::of(track)?;
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    let visual = Visual {
        width: side(track.size.width),
        height: side(track.size.height),
        ..Visual::default()
    };
    let pasp = sample_aspect.map(|(h_spacing, v_spacing)| Pasp {
        h_spacing: h_spacing.into(),
        v_spacing: v_spacing.into(),
    });
    let mut record = &record[..];
    let entry = match track.codec {
        Codec::H264 => {
            let avcc = Avcc::decode_body(&mut record)?;
            Entry::from(Avc1 { visual, avcc, pasp, ..Avc1::default() })
        }
        Codec::Hevc => {
            let hvcc = Hvcc::decode_body(&mut record)?;
            Entry::from(Hvc1 { visual, hvcc, pasp, ..Hvc1::default() })
        }
        Codec::Av1 => {
            let av1c = Av1c::decode_body(&mut record)?;
            Entry::from(Av01 { visual, av1c, pasp, ..Av01::default() })
        }
        Codec::Vp9 => {
            // A full box: version 1, no flags.
            let full = [&[1, 0, 0, 0], record].concat();
            let vpcc = VpcC::decode_body(&mut &full[..])?;
            Entry::from(Vp09 { visual, vpcc, pasp, ..Vp09::default() })
        }
        other => return Err(Error::Codec(other)),
    };
    Ok(Description { entry, name: codecs, timescale: VIDEO_TIMESCALE })
}

/// The entry of a sound track.
pub(super) fn audio(track: &AudioTrack) -> Result<Description, Error> {
    let rate = track.sample_rate;
    let fault = |why| Error::Sound { codec: track.codec, why };
    if rate == 0 || track.channels == 0 {
        return Err(fault("rate or channels are not known"));
    }
    let audio = |rate: u32, sample_size: u16| Audio {
        data_reference_index: 1,
        channel_count: track.channels.into(),
        sample_size,
        // 16 bits hold no more than 65,535 Hz; the codec's own header says what is true.
        sample_rate: FixedPoint::new(u16::try_from(rate).unwrap_or(0), 0),
    };
    match track.codec {
        Codec::Aac => {
            let config = AudioSpecificConfig::parse(&track.config)?;
            let kind = match config.extension {
                Some(sbr) if sbr.hierarchical && sbr.parametric_stereo => 29,
                Some(sbr) if sbr.hierarchical => 5,
                _ => config.object_type,
            };
            let specific = esds::DecoderSpecific {
                raw: track.config.to_vec(),
                ..esds::DecoderSpecific::default()
            };
            let entry = mp4a(audio(config.sample_rate, 16), 0x40, Some(specific));
            let name = format!("mp4a.40.{kind}");
            Ok(Description { entry, name, timescale: config.sample_rate })
        }
        // MPEG-1 audio by its number in ISO/IEC 14496-1 table 5.
        Codec::Mp3 => {
            let entry = mp4a(audio(rate, 16), 0x6b, None);
            Ok(Description { entry, name: "mp4a.40.34".into(), timescale: rate })
        }
        Codec::Opus => {
            if track.channels > 2 {
                return Err(fault("more than two channels need a mapping table"));
            }
            let dops = Dops {
                output_channel_count: track.channels,
                // What a decoder needs to settle: 80 ms by RFC 7845 4.6; live streams have no
                // beginning of their own, so nothing is cut off.
                pre_skip: 0,
                input_sample_rate: opus::SAMPLE_RATE,
                output_gain: 0,
                channel_mapping: None,
            };
            let audio = audio(opus::SAMPLE_RATE, 16);
            let entry = Entry::from(mp4_atom::Opus { audio, dops, btrt: None });
            Ok(Description { entry, name: "opus".into(), timescale: opus::SAMPLE_RATE })
        }
        Codec::Flac => {
            let info = flac_stream_info(&track.config).ok_or(fault("no STREAMINFO"))?;
            // Rate, channels, depth and length share eight bytes (RFC 9639 8.2).
            let packed = info[10..18].iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
            let block = FlacMetadataBlock::StreamInfo {
                minimum_block_size: u16::from_be_bytes([info[0], info[1]]),
                maximum_block_size: u16::from_be_bytes([info[2], info[3]]),
                minimum_frame_size: [info[4], info[5], info[6]].into(),
                maximum_frame_size: [info[7], info[8], info[9]].into(),
                sample_rate: (packed >> 44) as u32,
                num_channels_minus_one: (packed >> 41) as u8 & 7,
                bits_per_sample_minus_one: (packed >> 36) as u8 & 31,
                number_of_interchannel_samples: packed & ((1 << 36) - 1),
                md5_checksum: info[18..].to_vec(),
            };
            let depth = ((packed >> 36) as u16 & 31) + 1;
            let entry =
                Entry::from(Flac { audio: audio(rate, depth), dfla: Dfla { blocks: vec![block] } });
            Ok(Description { entry, name: "fLaC".into(), timescale: rate })
        }
        other => Err(Error::Codec(other)),
    }
}

fn mp4a(audio: Audio, object_type: u8, specific: Option<esds::DecoderSpecific>) -> Entry {
    let dec_config = esds::DecoderConfig {
        object_type_indication: object_type,
        stream_type: 5,
        dec_specific: specific,
        ..esds::DecoderConfig::default()
    };
    let sl_config = esds::SLConfig {};
    let es_desc = esds::EsDescriptor { es_id: 2, dec_config, sl_config, ..Default::default() };
    Entry::from(Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None })
}

/// The 34 bytes of STREAMINFO in what stands for a FLAC header: `fLaC` with its metadata blocks, the
/// blocks alone, or STREAMINFO itself (RFC 9639 8).
fn flac_stream_info(config: &[u8]) -> Option<&[u8]> {
    const BYTES: usize = 34;
    let blocks = config.strip_prefix(b"fLaC").unwrap_or(config);
    if blocks.len() == BYTES {
        return Some(blocks);
    }
    let (head, rest) = blocks.split_first_chunk::<4>()?;
    (head[0] & 0x7f == 0).then(|| rest.get(..BYTES)).flatten()
}

/// Appends a packet's bytes as a sample and answers how many there are. Parameter sets are left
/// out, as the entry has them (ISO/IEC 14496-15 5.3.3 forbids them inside `avc1` and `hvc1`).
pub(super) fn put_sample(codec: Codec, data: &Bytes, out: &mut BytesMut) -> usize {
    let before = out.len();
    let length_prefixed = |out: &mut BytesMut, leave_out: fn(u8) -> bool| {
        for nal in nals(data).filter(|nal| !leave_out(nal[0])) {
            out.put_u32(nal.len() as u32);
            out.put_slice(nal);
        }
    };
    match codec {
        Codec::H264 => length_prefixed(out, |head| {
            matches!(NalKind::of(head), NalKind::Sps | NalKind::Pps | NalKind::AccessUnitDelimiter)
        }),
        // VPS, SPS, PPS and the delimiter (ITU-T H.265 table 7-1).
        Codec::Hevc => length_prefixed(out, |head| matches!((head >> 1) & 0x3f, 32..=35)),
        // Temporal delimiters are left out of samples (AV1-ISOBMFF 2.4).
        Codec::Av1 => out.put_slice(data.strip_prefix(&[0x12, 0x00]).unwrap_or(data)),
        _ => out.put_slice(data),
    }
    out.len() - before
}

/// How long a sound packet lasts, in units of its track's timescale; `None` where only the next
/// packet tells.
pub(super) fn samples_of(
    track: &AudioTrack,
    frame_samples: Option<u32>,
    data: &[u8],
) -> Option<u32> {
    match track.codec {
        Codec::Opus => opus::packet_samples(data).ok(),
        // Layer III: two granules of 576 samples, one in the half-rate versions
        // (ISO/IEC 11172-3 2.4.3.4, 13818-3 2.4.3.4).
        Codec::Mp3 => data.get(1).map(|byte| if byte & 0x18 == 0x18 { 1152 } else { 576 }),
        Codec::Flac => flac_samples(&track.config, data),
        _ => frame_samples,
    }
}

/// Samples of a FLAC frame, from the code in its header (RFC 9639 9.1.1); frames that spell their
/// size out take that of STREAMINFO, if all frames but the last are as large.
fn flac_samples(config: &[u8], frame: &[u8]) -> Option<u32> {
    match u32::from(*frame.get(2)? >> 4) {
        1 => Some(192),
        code @ 2..=5 => Some(144 << code),
        code @ 8..=15 => Some(1 << code),
        _ => {
            let info = flac_stream_info(config)?;
            let size = u32::from(u16::from_be_bytes([info[2], info[3]]));
            (size > 0 && info[..2] == info[2..4]).then_some(size)
        }
    }
}
