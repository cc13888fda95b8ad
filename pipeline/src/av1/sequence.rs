//! The sequence header (5.5): profile, level, size and colours.

use crate::bits::BitReader;
use crate::frame::{Color, Size};
use crate::h264::{ChromaFormat, ColorDescription, color_of};

use super::Error;

/// What a sequence header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point: 8 is 4.0.
    pub level: u8,
    /// `seq_tier` of the first operating point: false Main, true High.
    pub high_tier: bool,
    /// `still_picture` with the short form of headers (`reduced_still_picture_header`).
    pub reduced: bool,
    /// `max_frame_width` and `max_frame_height`.
    pub size: Size,
    /// Bits of a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// Chroma sampling.
    pub chroma_format: ChromaFormat,
    /// `chroma_sample_position`, 0 where it is unknown or there is none.
    pub chroma_position: u8,
    /// Colours by the numbers of ITU-T H.273, where they are stated.
    pub color: Option<ColorDescription>,
    /// `color_range`.
    pub full_range: bool,
    /// Pictures in a second as `(time_scale, units in a picture)`, where the distance is constant.
    pub rate: Option<(u32, u64)>,
}

struct Fields<'a>(BitReader<'a>);

impl Fields<'_> {
    fn take(&mut self, count: u32, field: &'static str) -> Result<u32, Error> {
        self.0.bits(count).ok_or(Error::Truncated { what: "sequence header", field })
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, Error> {
        Ok(self.take(1, field)? == 1)
    }
}

impl SequenceHeader {
    /// Reads the payload of a sequence header OBU.
    ///
    /// # Errors
    /// [`Error::Truncated`] and [`Error::OutOfRange`] with the field's name.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut f = Fields(BitReader::new(payload));
        let profile = f.take(3, "seq_profile")? as u8;
        if profile > 2 {
            return Err(Error::OutOfRange { field: "seq_profile", value: profile.into() });
        }
        f.flag("still_picture")?;
        let reduced = f.flag("reduced_still_picture_header")?;
        let (mut level, mut high_tier, mut rate) = (0, false, None);
        if reduced {
            level = f.take(5, "seq_level_idx")? as u8;
        } else {
            rate = operating_points(&mut f, &mut level, &mut high_tier)?;
        }
        let width_bits = f.take(4, "frame_width_bits_minus_1")? + 1;
        let height_bits = f.take(4, "frame_height_bits_minus_1")? + 1;
        let width = f.take(width_bits, "max_frame_width_minus_1")? + 1;
        let height = f.take(height_bits, "max_frame_height_minus_1")? + 1;
        let size = Size::new(width, height);
        if !size.is_valid() {
            let value = width.max(height).into();
            return Err(Error::OutOfRange { field: "max_frame_width_minus_1", value });
        }
        tools(&mut f, reduced)?;
        let mut header = Self {
            profile,
            level,
            high_tier,
            reduced,
            size,
            bit_depth: 8,
            chroma_format: ChromaFormat::Yuv420,
            chroma_position: 0,
            color: None,
            full_range: false,
            rate,
        };
        header.colors(&mut f)?;
        Ok(header)
    }

    /// `color_config()` (5.5.2).
    fn colors(&mut self, f: &mut Fields<'_>) -> Result<(), Error> {
        let high = f.flag("high_bitdepth")?;
        self.bit_depth = match (self.profile, high) {
            (2, true) if f.flag("twelve_bit")? => 12,
            (_, true) => 10,
            _ => 8,
        };
        let mono = self.profile != 1 && f.flag("mono_chrome")?;
        if f.flag("color_description_present_flag")? {
            self.color = Some(ColorDescription {
                primaries: f.take(8, "color_primaries")? as u8,
                transfer: f.take(8, "transfer_characteristics")? as u8,
                matrix: f.take(8, "matrix_coefficients")? as u8,
            });
        }
        if mono {
            self.full_range = f.flag("color_range")?;
            self.chroma_format = ChromaFormat::Monochrome;
            return Ok(());
        }
        let srgb = ColorDescription { primaries: 1, transfer: 13, matrix: 0 };
        if self.color == Some(srgb) {
            self.full_range = true;
            self.chroma_format = ChromaFormat::Yuv444;
            return Ok(());
        }
        self.full_range = f.flag("color_range")?;
        self.chroma_format = match self.profile {
            0 => ChromaFormat::Yuv420,
            1 => ChromaFormat::Yuv444,
            _ if self.bit_depth != 12 => ChromaFormat::Yuv422,
            _ if !f.flag("subsampling_x")? => ChromaFormat::Yuv444,
            _ if f.flag("subsampling_y")? => ChromaFormat::Yuv420,
            _ => ChromaFormat::Yuv422,
        };
        if self.chroma_format == ChromaFormat::Yuv420 {
            self.chroma_position = f.take(2, "chroma_sample_position")? as u8;
        }
        Ok(())
    }

    /// Matrix and range of the pictures; what is not signalled follows from the size.
    pub fn picture_color(&self) -> Color {
        color_of(self.size, self.color, self.full_range)
    }

    /// Pictures in a second as far as stated.
    pub fn frames_per_second(&self) -> Option<f64> {
        self.rate.map(|(scale, units)| f64::from(scale) / units as f64)
    }
}

/// Timing, decoder model and operating points (5.5.1); what is kept is the first point and a
/// constant rate.
fn operating_points(
    f: &mut Fields<'_>,
    level: &mut u8,
    high_tier: &mut bool,
) -> Result<Option<(u32, u64)>, Error> {
    let mut rate = None;
    let mut delay_bits = None;
    if f.flag("timing_info_present_flag")? {
        let units = f.take(32, "num_units_in_display_tick")?;
        let scale = f.take(32, "time_scale")?;
        if f.flag("equal_picture_interval")? {
            // uvlc() is Exp-Golomb (4.10.3).
            let missing =
                Error::Truncated { what: "sequence header", field: "num_ticks_per_picture" };
            let ticks = u64::from(f.0.ue().ok_or(missing)?) + 1;
            rate = (units > 0 && scale > 0).then_some((scale, u64::from(units) * ticks));
        }
        if f.flag("decoder_model_info_present_flag")? {
            delay_bits = Some(f.take(5, "buffer_delay_length_minus_1")? + 1);
            f.take(32, "num_units_in_decoding_tick")?;
            f.take(10, "buffer_removal_time_length_minus_1")?;
        }
    }
    let display_delay = f.flag("initial_display_delay_present_flag")?;
    for point in 0..=f.take(5, "operating_points_cnt_minus_1")? {
        f.take(12, "operating_point_idc")?;
        let point_level = f.take(5, "seq_level_idx")? as u8;
        let tier = point_level > 7 && f.flag("seq_tier")?;
        if point == 0 {
            (*level, *high_tier) = (point_level, tier);
        }
        if let Some(bits) = delay_bits
            && f.flag("decoder_model_present_for_this_op")?
        {
            f.take(bits, "decoder_buffer_delay")?;
            f.take(bits, "encoder_buffer_delay")?;
            f.flag("low_delay_mode_flag")?;
        }
        if display_delay && f.flag("initial_display_delay_present_for_this_op")? {
            f.take(4, "initial_display_delay_minus_1")?;
        }
    }
    Ok(rate)
}

/// What stands between the size and the colours.
fn tools(f: &mut Fields<'_>, reduced: bool) -> Result<(), Error> {
    if !reduced && f.flag("frame_id_numbers_present_flag")? {
        f.take(7, "delta_frame_id_length_minus_2")?;
    }
    f.take(3, "use_128x128_superblock")?;
    if !reduced {
        f.take(4, "enable_interintra_compound")?;
        let order_hint = f.flag("enable_order_hint")?;
        if order_hint {
            f.take(2, "enable_jnt_comp")?;
        }
        let chosen = f.flag("seq_choose_screen_content_tools")?;
        let content = chosen || f.flag("seq_force_screen_content_tools")?;
        if content && !f.flag("seq_choose_integer_mv")? {
            f.flag("seq_force_integer_mv")?;
        }
        if order_hint {
            f.take(3, "order_hint_bits_minus_1")?;
        }
    }
    f.take(3, "enable_superres")?;
    Ok(())
}
