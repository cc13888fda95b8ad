//! The sequence parameter set (7.3.2.2).
//!
//! Keeps what the node decides on. Values outside the standard's ranges, and pictures larger than
//! [`Size::SIDE_MAX`], are refused by the name of the field.

use crate::bits::BitReader;
use crate::frame::{Color, Size};
use crate::h264::{ChromaFormat, color_of};

use super::vui::Vui;
use super::{Error, NalKind, ProfileTierLevel};

const WHAT: &str = "sequence parameter set";

/// What a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpsInfo {
    /// `sps_seq_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// `sps_video_parameter_set_id`, 0 to 15.
    pub vps: u8,
    /// Temporal sub-layers, 1 to 7.
    pub sub_layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub nested: bool,
    /// Profile, tier and level.
    pub profile: ProfileTierLevel,
    /// Picture size after cropping, in pixels.
    pub size: Size,
    /// Picture size before cropping.
    pub coded_size: Size,
    /// Chroma sampling.
    pub chroma_format: ChromaFormat,
    /// Bits of a luma sample, 8 to 16.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample, 8 to 16.
    pub bit_depth_chroma: u8,
    /// `sps_max_num_reorder_pics` of the highest sub-layer: by how many pictures output may lag
    /// behind decoding.
    pub reorder_frames: u32,
    /// `sps_max_dec_pic_buffering_minus1` of the highest sub-layer.
    pub buffering_minus1: u32,
    /// Usability information, if there is any that can be read.
    pub vui: Option<Vui>,
}

impl SpsInfo {
    /// What the SPS in `nal` (header first, no start code) says.
    ///
    /// # Errors
    /// [`Error::WrongNal`], [`Error::Truncated`] and [`Error::OutOfRange`] with the field's name.
    pub fn parse(nal: &[u8]) -> Result<Self, Error> {
        read(nal).map(|layout| layout.info)
    }

    /// Matrix and range of the pictures; what is not signalled follows from the size.
    pub fn color(&self) -> Color {
        let vui = self.vui.as_ref();
        color_of(self.size, vui.and_then(|vui| vui.color), vui.is_some_and(|vui| vui.full_range))
    }

    /// Pictures in a second as far as stated.
    pub fn frames_per_second(&self) -> Option<f64> {
        self.vui.as_ref()?.timing.map(|(units, scale)| f64::from(scale) / f64::from(units))
    }
}

/// A parsed SPS and the bits between which its reordering stands.
pub(super) struct Layout {
    pub(super) info: SpsInfo,
    /// Bit of `sps_sub_layer_ordering_info_present_flag` in the payload.
    pub(super) ordering: usize,
    /// Bit behind the last of the ordering information.
    pub(super) behind: usize,
    /// Bit behind all that was read.
    pub(super) end: usize,
}

/// Fields by name, so that an error says which one is wrong.
pub(super) struct Fields<'a> {
    pub(super) bits: BitReader<'a>,
    pub(super) what: &'static str,
}

impl Fields<'_> {
    fn missing(&self, field: &'static str) -> Error {
        Error::Truncated { what: self.what, field }
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, Error> {
        self.bits.bit().ok_or_else(|| self.missing(field))
    }

    pub(super) fn bits(&mut self, count: u32, field: &'static str) -> Result<u32, Error> {
        self.bits.bits(count).ok_or_else(|| self.missing(field))
    }

    pub(super) fn skip(&mut self, count: u32, field: &'static str) -> Result<(), Error> {
        self.bits.skip(count).ok_or_else(|| self.missing(field))
    }

    pub(super) fn ue(&mut self, max: u32, field: &'static str) -> Result<u32, Error> {
        let value = self.bits.ue().ok_or_else(|| self.missing(field))?;
        if value > max { Err(Error::OutOfRange { field, value: value.into() }) } else { Ok(value) }
    }
}

pub(super) fn read(nal: &[u8]) -> Result<Layout, Error> {
    let Some((&[header, _], payload)) = nal.split_first_chunk::<2>() else {
        return Err(Error::Truncated { what: WHAT, field: "nal_unit_header" });
    };
    if NalKind::of(header) != NalKind::Sps {
        return Err(Error::WrongNal { expected: WHAT, nal_type: (header >> 1) & 0x3f });
    }
    let mut f = Fields { bits: BitReader::escaped(payload), what: WHAT };
    let vps = f.bits(4, "sps_video_parameter_set_id")? as u8;
    let sub_layers_minus1 = f.bits(3, "sps_max_sub_layers_minus1")?;
    if sub_layers_minus1 > 6 {
        let value = sub_layers_minus1.into();
        return Err(Error::OutOfRange { field: "sps_max_sub_layers_minus1", value });
    }
    let nested = f.flag("sps_temporal_id_nesting_flag")?;
    let profile = ProfileTierLevel::read(&mut f, sub_layers_minus1)?;
    let id = f.ue(15, "sps_seq_parameter_set_id")? as u8;
    let (chroma_format, separate_planes) = match f.ue(3, "chroma_format_idc")? {
        0 => (ChromaFormat::Monochrome, false),
        1 => (ChromaFormat::Yuv420, false),
        2 => (ChromaFormat::Yuv422, false),
        _ => (ChromaFormat::Yuv444, f.flag("separate_colour_plane_flag")?),
    };
    let coded_size = coded_size(&mut f)?;
    let mut size = coded_size;
    if f.flag("conformance_window_flag")? {
        size = cropped(&mut f, coded_size, chroma_format, separate_planes)?;
    }
    let bit_depth_luma = 8 + f.ue(8, "bit_depth_luma_minus8")? as u8;
    let bit_depth_chroma = 8 + f.ue(8, "bit_depth_chroma_minus8")? as u8;
    let order_bits = 4 + f.ue(12, "log2_max_pic_order_cnt_lsb_minus4")?;
    let ordering = f.bits.position();
    let each = f.flag("sps_sub_layer_ordering_info_present_flag")?;
    let (mut buffering_minus1, mut reorder_frames) = (0, 0);
    for _ in if each { 0 } else { sub_layers_minus1 }..=sub_layers_minus1 {
        buffering_minus1 = f.ue(15, "sps_max_dec_pic_buffering_minus1")?;
        reorder_frames = f.ue(15, "sps_max_num_reorder_pics")?;
        f.ue(u32::MAX, "sps_max_latency_increase_plus1")?;
    }
    let behind = f.bits.position();
    let vui = coding_tools(&mut f, order_bits)?;
    let info = SpsInfo {
        id,
        vps,
        sub_layers: sub_layers_minus1 as u8 + 1,
        nested,
        profile,
        size,
        coded_size,
        chroma_format,
        bit_depth_luma,
        bit_depth_chroma,
        reorder_frames,
        buffering_minus1,
        vui,
    };
    let end = f.bits.position();
    Ok(Layout { info, ordering, behind, end })
}

fn coded_size(f: &mut Fields<'_>) -> Result<Size, Error> {
    let side = |f: &mut Fields<'_>, field| match f.ue(Size::SIDE_MAX, field)? {
        0 => Err(Error::OutOfRange { field, value: 0 }),
        side => Ok(side),
    };
    let width = side(f, "pic_width_in_luma_samples")?;
    Ok(Size::new(width, side(f, "pic_height_in_luma_samples")?))
}

fn cropped(
    f: &mut Fields<'_>,
    coded: Size,
    chroma: ChromaFormat,
    separate_planes: bool,
) -> Result<Size, Error> {
    let (unit_x, unit_y) = match chroma {
        _ if separate_planes => (1, 1),
        ChromaFormat::Monochrome | ChromaFormat::Yuv444 => (1, 1),
        ChromaFormat::Yuv420 => (2, 2),
        ChromaFormat::Yuv422 => (2, 1),
    };
    let mut offset = |field| f.ue(Size::SIDE_MAX, field);
    let across = offset("conf_win_left_offset")? + offset("conf_win_right_offset")?;
    let down = offset("conf_win_top_offset")? + offset("conf_win_bottom_offset")?;
    let (across, down) = (across * unit_x, down * unit_y);
    if across >= coded.width || down >= coded.height {
        let value = across.max(down).into();
        return Err(Error::OutOfRange { field: "conf_win_offset", value });
    }
    Ok(Size::new(coded.width - across, coded.height - down))
}

/// What stands between the ordering information and the usability information, and the latter.
fn coding_tools(f: &mut Fields<'_>, order_bits: u32) -> Result<Option<Vui>, Error> {
    for field in [
        "log2_min_luma_coding_block_size_minus3",
        "log2_diff_max_min_luma_coding_block_size",
        "log2_min_luma_transform_block_size_minus2",
        "log2_diff_max_min_luma_transform_block_size",
        "max_transform_hierarchy_depth_inter",
        "max_transform_hierarchy_depth_intra",
    ] {
        f.ue(4, field)?;
    }
    if f.flag("scaling_list_enabled_flag")? && f.flag("sps_scaling_list_data_present_flag")? {
        skip_scaling_lists(f)?;
    }
    f.flag("amp_enabled_flag")?;
    f.flag("sample_adaptive_offset_enabled_flag")?;
    if f.flag("pcm_enabled_flag")? {
        f.bits(8, "pcm_sample_bit_depth_minus1")?;
        f.ue(2, "log2_min_pcm_luma_coding_block_size_minus3")?;
        f.ue(2, "log2_diff_max_min_pcm_luma_coding_block_size")?;
        f.flag("pcm_loop_filter_disabled_flag")?;
    }
    skip_reference_sets(f)?;
    if f.flag("long_term_ref_pics_present_flag")? {
        for _ in 0..f.ue(32, "num_long_term_ref_pics_sps")? {
            f.bits(order_bits, "lt_ref_pic_poc_lsb_sps")?;
            f.flag("used_by_curr_pic_lt_sps_flag")?;
        }
    }
    f.flag("sps_temporal_mvp_enabled_flag")?;
    f.flag("strong_intra_smoothing_enabled_flag")?;
    Ok(if f.flag("vui_parameters_present_flag")? { Some(Vui::read(f)?) } else { None })
}

/// `scaling_list_data()` (7.3.4).
fn skip_scaling_lists(f: &mut Fields<'_>) -> Result<(), Error> {
    for size in 0..4_u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !f.flag("scaling_list_pred_mode_flag")? {
                f.ue(5, "scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            let coefficients = 64.min(1 << (4 + (size << 1)));
            for _ in 0..coefficients + u32::from(size > 1) {
                f.ue(u32::MAX, "scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// `st_ref_pic_set()` (7.3.7) of all sets. A set may be told by its distance to the one before, so
/// each is worked out (7.4.8).
fn skip_reference_sets(f: &mut Fields<'_>) -> Result<(), Error> {
    let mut last: Vec<i64> = Vec::new();
    for index in 0..f.ue(64, "num_short_term_ref_pic_sets")? {
        let mut set = Vec::with_capacity(16);
        if index > 0 && f.flag("inter_ref_pic_set_prediction_flag")? {
            let back = f.flag("delta_rps_sign")?;
            let distance = i64::from(f.ue(0x7fff, "abs_delta_rps_minus1")?) + 1;
            let distance = if back { -distance } else { distance };
            for place in last.iter().copied().chain([0]) {
                let used = f.flag("used_by_curr_pic_flag")?;
                let kept = used || f.flag("use_delta_flag")?;
                if kept && place + distance != 0 {
                    set.push(place + distance);
                }
            }
            // The order of the standard: those before the picture, the nearest first, then those
            // behind it.
            set.sort_unstable_by_key(|place| (*place > 0, place.abs()));
        } else {
            let before = f.ue(16, "num_negative_pics")?;
            let behind = f.ue(16, "num_positive_pics")?;
            for (count, sign) in [(before, -1), (behind, 1)] {
                let mut place = 0;
                for _ in 0..count {
                    place += i64::from(f.ue(0x7fff, "delta_poc_minus1")?) + 1;
                    f.flag("used_by_curr_pic_flag")?;
                    set.push(sign * place);
                }
            }
        }
        if set.len() > 32 {
            let value = set.len() as u64;
            return Err(Error::OutOfRange { field: "NumDeltaPocs", value });
        }
        last = set;
    }
    Ok(())
}
