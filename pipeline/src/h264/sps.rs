//! The sequence parameter set (7.3.2.1.1) with its usability information (Annex E).
//!
//! Reads all of it; keeps what the node decides on. Values outside the standard's ranges, and
//! pictures larger than [`Size::SIDE_MAX`], are refused by the name of the field.

use std::fmt;

use crate::bits::BitReader;
use crate::frame::{Color, Matrix, Size};

use super::vui::{ColorDescription, Vui, read_vui};
use super::{Error, NalKind};

/// How chroma is sampled (`chroma_format_idc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChromaFormat {
    /// No chroma.
    Monochrome,
    /// Half resolution both ways.
    Yuv420,
    /// Half resolution across.
    Yuv422,
    /// Full resolution.
    Yuv444,
}

impl fmt::Display for ChromaFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Monochrome => "4:0:0",
            Self::Yuv420 => "4:2:0",
            Self::Yuv422 => "4:2:2",
            Self::Yuv444 => "4:4:4",
        })
    }
}

/// What a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpsInfo {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `profile_idc`: 66 Baseline, 77 Main, 100 High and so on (A.2).
    pub profile: u8,
    /// The byte of `constraint_set0_flag` (most significant bit) to `constraint_set5_flag`.
    pub constraints: u8,
    /// `level_idc`, ten times the level.
    pub level: u8,
    /// Picture size after cropping, in pixels.
    pub size: Size,
    /// Picture size before cropping, a multiple of 16 (or 32 rows where interlaced).
    pub coded_size: Size,
    /// Chroma sampling.
    pub chroma_format: ChromaFormat,
    /// Bits of a luma sample, 8 to 14.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample, 8 to 14.
    pub bit_depth_chroma: u8,
    /// False when pictures may be fields or hold them: interlaced.
    pub frame_mbs_only: bool,
    /// `max_num_ref_frames`, 0 to 16.
    pub reference_frames: u32,
    /// `pic_order_cnt_type`; 2 means that pictures are shown in the order they are sent.
    pub order_count_type: u32,
    /// By how many pictures output may lag behind decoding; `None` when the stream does not say,
    /// which allows any number. Baseline, `pic_order_cnt_type` 2 and the intra profiles count as 0.
    pub reorder_frames: Option<u32>,
    /// Usability information, if there is any.
    pub vui: Option<Vui>,
}

impl SpsInfo {
    /// What the SPS in `nal` (header byte first, no start code) says.
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

    /// Frames in a second as far as stated.
    pub fn frames_per_second(&self) -> Option<f64> {
        self.vui.as_ref()?.timing.map(|timing| timing.frames_per_second())
    }

    /// The name of the profile that users know, with what the constraint flags add.
    pub fn profile_name(&self) -> &'static str {
        let set = |n: u8| self.constraints & (0x80 >> n) != 0;
        match self.profile {
            66 if set(1) => "Constrained Baseline",
            66 => "Baseline",
            77 => "Main",
            88 => "Extended",
            100 if set(4) && set(5) => "Constrained High",
            100 => "High",
            110 => "High 10",
            122 => "High 4:2:2",
            244 => "High 4:4:4 Predictive",
            44 => "CAVLC 4:4:4 Intra",
            _ => "other",
        }
    }
}

/// Matrix and range of pictures of this size as far as they are signalled.
pub(crate) fn color_of(size: Size, color: Option<ColorDescription>, full_range: bool) -> Color {
    let matrix = match color.map(|color| color.matrix) {
        Some(1) => Matrix::Bt709,
        Some(4..=6) => Matrix::Bt601,
        _ => Color::unsignalled(size).matrix,
    };
    Color { matrix, full_range }
}

/// A parsed SPS and the bits where its tail can be written anew.
pub(super) struct Layout {
    pub(super) info: SpsInfo,
    /// Bit of `vui_parameters_present_flag` in the payload.
    pub(super) vui_flag: usize,
    /// Bit of `bitstream_restriction_flag`, if there is a VUI.
    pub(super) restriction_flag: Option<usize>,
}

/// Fields by name, so that an error says which one is wrong.
pub(super) struct Fields<'a> {
    pub(super) bits: BitReader<'a>,
}

impl Fields<'_> {
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, Error> {
        self.bits.bit().ok_or(Error::Truncated { what: "sequence parameter set", field })
    }

    pub(super) fn bits(&mut self, count: u32, field: &'static str) -> Result<u32, Error> {
        self.bits.bits(count).ok_or(Error::Truncated { what: "sequence parameter set", field })
    }

    pub(super) fn ue(&mut self, max: u32, field: &'static str) -> Result<u32, Error> {
        let value =
            self.bits.ue().ok_or(Error::Truncated { what: "sequence parameter set", field })?;
        if value > max { Err(Error::OutOfRange { field, value: value.into() }) } else { Ok(value) }
    }

    pub(super) fn se(&mut self, field: &'static str) -> Result<i32, Error> {
        self.bits.se().ok_or(Error::Truncated { what: "sequence parameter set", field })
    }
}

pub(super) fn read(nal: &[u8]) -> Result<Layout, Error> {
    let what = "sequence parameter set";
    let Some((&header, payload)) = nal.split_first() else {
        return Err(Error::Truncated { what, field: "nal_unit_type" });
    };
    if NalKind::of(header) != NalKind::Sps {
        return Err(Error::WrongNal { expected: what, nal_type: header & 0x1f });
    }
    let mut f = Fields { bits: BitReader::escaped(payload) };
    let profile = f.bits(8, "profile_idc")? as u8;
    let constraints = f.bits(8, "constraint_set_flags")? as u8;
    let level = f.bits(8, "level_idc")? as u8;
    let id = f.ue(31, "seq_parameter_set_id")? as u8;

    let mut chroma_format = ChromaFormat::Yuv420;
    let mut separate_planes = false;
    let (mut bit_depth_luma, mut bit_depth_chroma) = (8, 8);
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma_format = match f.ue(3, "chroma_format_idc")? {
            0 => ChromaFormat::Monochrome,
            1 => ChromaFormat::Yuv420,
            2 => ChromaFormat::Yuv422,
            _ => ChromaFormat::Yuv444,
        };
        if chroma_format == ChromaFormat::Yuv444 {
            separate_planes = f.flag("separate_colour_plane_flag")?;
        }
        bit_depth_luma = 8 + f.ue(6, "bit_depth_luma_minus8")? as u8;
        bit_depth_chroma = 8 + f.ue(6, "bit_depth_chroma_minus8")? as u8;
        f.flag("qpprime_y_zero_transform_bypass_flag")?;
        if f.flag("seq_scaling_matrix_present_flag")? {
            let lists = if chroma_format == ChromaFormat::Yuv444 { 12 } else { 8 };
            for list in 0..lists {
                if f.flag("seq_scaling_list_present_flag")? {
                    skip_scaling_list(&mut f, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }

    f.ue(12, "log2_max_frame_num_minus4")?;
    let order_count_type = f.ue(2, "pic_order_cnt_type")?;
    match order_count_type {
        0 => {
            f.ue(12, "log2_max_pic_order_cnt_lsb_minus4")?;
        }
        1 => {
            f.flag("delta_pic_order_always_zero_flag")?;
            f.se("offset_for_non_ref_pic")?;
            f.se("offset_for_top_to_bottom_field")?;
            for _ in 0..f.ue(255, "num_ref_frames_in_pic_order_cnt_cycle")? {
                f.se("offset_for_ref_frame")?;
            }
        }
        _ => {}
    }
    let reference_frames = f.ue(16, "max_num_ref_frames")?;
    f.flag("gaps_in_frame_num_value_allowed_flag")?;

    let side_blocks_max = Size::SIDE_MAX / 16;
    let width = 16 * (f.ue(side_blocks_max - 1, "pic_width_in_mbs_minus1")? + 1);
    let map_units = f.ue(side_blocks_max - 1, "pic_height_in_map_units_minus1")? + 1;
    let frame_mbs_only = f.flag("frame_mbs_only_flag")?;
    let fields = 2 - u32::from(frame_mbs_only);
    let height = 16 * map_units * fields;
    if height > Size::SIDE_MAX {
        let value = u64::from(map_units - 1);
        return Err(Error::OutOfRange { field: "pic_height_in_map_units_minus1", value });
    }
    if !frame_mbs_only {
        f.flag("mb_adaptive_frame_field_flag")?;
    }
    f.flag("direct_8x8_inference_flag")?;
    let mut size = Size::new(width, height);
    if f.flag("frame_cropping_flag")? {
        let (unit_x, unit_y) = match chroma_format {
            _ if separate_planes => (1, 1),
            ChromaFormat::Monochrome | ChromaFormat::Yuv444 => (1, 1),
            ChromaFormat::Yuv420 => (2, 2),
            ChromaFormat::Yuv422 => (2, 1),
        };
        let side = Size::SIDE_MAX;
        let across =
            f.ue(side, "frame_crop_left_offset")? + f.ue(side, "frame_crop_right_offset")?;
        let down = f.ue(side, "frame_crop_top_offset")? + f.ue(side, "frame_crop_bottom_offset")?;
        let (across, down) = (across * unit_x, down * unit_y * fields);
        if across >= width || down >= height {
            return Err(Error::OutOfRange {
                field: "frame_crop_offset",
                value: across.max(down).into(),
            });
        }
        size = Size::new(width - across, height - down);
    }

    let vui_flag = f.bits.position();
    let mut restriction_flag = None;
    let mut vui = None;
    if f.flag("vui_parameters_present_flag")? {
        let (parsed, at) = read_vui(&mut f)?;
        vui = Some(parsed);
        restriction_flag = Some(at);
    }

    // E.2.1: these profiles with constraint_set3_flag are intra only, so nothing is held back.
    let intra_only =
        profile == 44 || (constraints & 0x10 != 0 && matches!(profile, 86 | 100 | 110 | 122 | 244));
    let never_reordered = profile == 66 || order_count_type == 2 || intra_only;
    let stated = vui.as_ref().and_then(|vui: &Vui| vui.restriction).map(|r| r.reorder_frames);
    let reorder_frames = stated.or(never_reordered.then_some(0));
    let info = SpsInfo {
        id,
        profile,
        constraints,
        level,
        size,
        coded_size: Size::new(width, height),
        chroma_format,
        bit_depth_luma,
        bit_depth_chroma,
        frame_mbs_only,
        reference_frames,
        order_count_type,
        reorder_frames,
        vui,
    };
    Ok(Layout { info, vui_flag, restriction_flag })
}

fn skip_scaling_list(f: &mut Fields<'_>, length: usize) -> Result<(), Error> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..length {
        if next != 0 {
            let delta = f.se("delta_scale")?;
            if !(-128..=127).contains(&delta) {
                let value = u64::from(delta.unsigned_abs());
                return Err(Error::OutOfRange { field: "delta_scale", value });
            }
            next = (last + delta + 256) % 256;
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}
