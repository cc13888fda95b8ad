//! Video usability information of a sequence parameter set (Annex E): shape of pixels, colours,
//! rate, and how far pictures are reordered.

use super::Error;
use super::sps::Fields;

/// Video usability information (E.1.1), as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vui {
    /// Width and height of a pixel; `None` when not stated or stated as unknown.
    pub sample_aspect: Option<(u16, u16)>,
    /// `video_full_range_flag`.
    pub full_range: bool,
    /// Colours by the numbers of ITU-T H.273.
    pub color: Option<ColorDescription>,
    /// The stated rate of pictures.
    pub timing: Option<Timing>,
    /// Limits that tell a decoder how much to hold back.
    pub restriction: Option<BitstreamRestriction>,
}

/// Colours by the numbers of ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColorDescription {
    /// `ColourPrimaries`.
    pub primaries: u8,
    /// `TransferCharacteristics`.
    pub transfer: u8,
    /// `MatrixCoefficients`.
    pub matrix: u8,
}

/// `num_units_in_tick`, `time_scale` and `fixed_frame_rate_flag`. A frame lasts two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Clock units in a tick, not 0.
    pub units_in_tick: u32,
    /// Clock units in a second, not 0.
    pub time_scale: u32,
    /// Whether the distance of frames is constant.
    pub fixed_rate: bool,
}

impl Timing {
    /// Frames in a second.
    pub fn frames_per_second(&self) -> f64 {
        f64::from(self.time_scale) / (2.0 * f64::from(self.units_in_tick))
    }
}

/// The two fields of the bitstream restriction that say how much a decoder holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitstreamRestriction {
    /// `max_num_reorder_frames`.
    pub reorder_frames: u32,
    /// `max_dec_frame_buffering`.
    pub frame_buffering: u32,
}

/// The VUI, and the bit of its `bitstream_restriction_flag`.
pub(super) fn read_vui(f: &mut Fields<'_>) -> Result<(Vui, usize), Error> {
    let mut vui = Vui::default();
    if f.flag("aspect_ratio_info_present_flag")? {
        let number = f.bits(8, "aspect_ratio_idc")?;
        let (width, height) = match number {
            255 => (f.bits(16, "sar_width")? as u16, f.bits(16, "sar_height")? as u16),
            _ => sample_aspect(number),
        };
        vui.sample_aspect = (width > 0 && height > 0).then_some((width, height));
    }
    if f.flag("overscan_info_present_flag")? {
        f.flag("overscan_appropriate_flag")?;
    }
    if f.flag("video_signal_type_present_flag")? {
        f.bits(3, "video_format")?;
        vui.full_range = f.flag("video_full_range_flag")?;
        if f.flag("colour_description_present_flag")? {
            vui.color = Some(ColorDescription {
                primaries: f.bits(8, "colour_primaries")? as u8,
                transfer: f.bits(8, "transfer_characteristics")? as u8,
                matrix: f.bits(8, "matrix_coefficients")? as u8,
            });
        }
    }
    if f.flag("chroma_loc_info_present_flag")? {
        f.ue(5, "chroma_sample_loc_type_top_field")?;
        f.ue(5, "chroma_sample_loc_type_bottom_field")?;
    }
    if f.flag("timing_info_present_flag")? {
        let units_in_tick = f.bits(32, "num_units_in_tick")?;
        let time_scale = f.bits(32, "time_scale")?;
        let fixed_rate = f.flag("fixed_frame_rate_flag")?;
        // Zero is forbidden, yet written by some cameras: then the rate is simply unknown.
        vui.timing = (units_in_tick > 0 && time_scale > 0).then_some(Timing {
            units_in_tick,
            time_scale,
            fixed_rate,
        });
    }
    let nal_hrd = f.flag("nal_hrd_parameters_present_flag")?;
    if nal_hrd {
        skip_hrd(f)?;
    }
    let vcl_hrd = f.flag("vcl_hrd_parameters_present_flag")?;
    if vcl_hrd {
        skip_hrd(f)?;
    }
    if nal_hrd || vcl_hrd {
        f.flag("low_delay_hrd_flag")?;
    }
    f.flag("pic_struct_present_flag")?;
    let at = f.bits.position();
    if f.flag("bitstream_restriction_flag")? {
        f.flag("motion_vectors_over_pic_boundaries_flag")?;
        f.ue(16, "max_bytes_per_pic_denom")?;
        f.ue(16, "max_bits_per_mb_denom")?;
        f.ue(16, "log2_max_mv_length_horizontal")?;
        f.ue(16, "log2_max_mv_length_vertical")?;
        let reorder_frames = f.ue(16, "max_num_reorder_frames")?;
        let frame_buffering = f.ue(16, "max_dec_frame_buffering")?;
        vui.restriction = Some(BitstreamRestriction { reorder_frames, frame_buffering });
    }
    Ok((vui, at))
}

fn skip_hrd(f: &mut Fields<'_>) -> Result<(), Error> {
    let count = f.ue(31, "cpb_cnt_minus1")? + 1;
    f.bits(8, "bit_rate_scale and cpb_size_scale")?;
    for _ in 0..count {
        f.ue(u32::MAX, "bit_rate_value_minus1")?;
        f.ue(u32::MAX, "cpb_size_value_minus1")?;
        f.flag("cbr_flag")?;
    }
    f.bits(20, "hrd delay lengths")?;
    Ok(())
}

/// The shape of a pixel by `aspect_ratio_idc`, zero by zero for what is reserved (ITU-T H.273
/// table 2, which HEVC shares).
pub(crate) fn sample_aspect(number: u32) -> (u16, u16) {
    SAMPLE_ASPECTS.get(number as usize).copied().unwrap_or((0, 0))
}

/// Table E-1, by `aspect_ratio_idc`.
const SAMPLE_ASPECTS: [(u16, u16); 17] = [
    (0, 0),
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];
