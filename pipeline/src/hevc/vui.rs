//! Video usability information of a sequence parameter set (Annex E): shape of pixels, colours and
//! rate. What stands behind the rate is not needed and not read.

use crate::h264::{ColorDescription, sample_aspect};

use super::Error;
use super::sps::Fields;

/// Video usability information (E.2.1), as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vui {
    /// Width and height of a pixel; `None` when not stated or stated as unknown.
    pub sample_aspect: Option<(u16, u16)>,
    /// `video_full_range_flag`.
    pub full_range: bool,
    /// Colours by the numbers of ITU-T H.273.
    pub color: Option<ColorDescription>,
    /// `field_seq_flag`: each picture is a field.
    pub fields: bool,
    /// `vui_num_units_in_tick` and `vui_time_scale`; a picture lasts one tick.
    pub timing: Option<(u32, u32)>,
}

impl Vui {
    pub(super) fn read(f: &mut Fields<'_>) -> Result<Self, Error> {
        let mut vui = Self::default();
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
                    matrix: f.bits(8, "matrix_coeffs")? as u8,
                });
            }
        }
        if f.flag("chroma_loc_info_present_flag")? {
            f.ue(5, "chroma_sample_loc_type_top_field")?;
            f.ue(5, "chroma_sample_loc_type_bottom_field")?;
        }
        f.flag("neutral_chroma_indication_flag")?;
        vui.fields = f.flag("field_seq_flag")?;
        f.flag("frame_field_info_present_flag")?;
        if f.flag("default_display_window_flag")? {
            for _ in 0..4 {
                f.ue(u32::MAX, "def_disp_win_offset")?;
            }
        }
        if f.flag("vui_timing_info_present_flag")? {
            let units = f.bits(32, "vui_num_units_in_tick")?;
            let scale = f.bits(32, "vui_time_scale")?;
            vui.timing = (units > 0 && scale > 0).then_some((units, scale));
        }
        Ok(vui)
    }
}
