//! Profile, tier and level (7.3.3), which stand alike in parameter sets, in the decoder
//! configuration record and in the codec string of a manifest.

use std::fmt::Write;

use super::Error;
use super::sps::Fields;

/// `profile_tier_level()` without what it says about sub-layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileTierLevel {
    /// `general_profile_space`, 0 in everything that is in use.
    pub profile_space: u8,
    /// `general_tier_flag`: false Main, true High.
    pub high_tier: bool,
    /// `general_profile_idc`: 1 Main, 2 Main 10, 3 Main Still Picture, 4 range extensions.
    pub profile: u8,
    /// `general_profile_compatibility_flag`, flag 0 in the most significant bit.
    pub compatibility: u32,
    /// The 48 bits from `general_progressive_source_flag` on, in the low bits.
    pub constraints: u64,
    /// `general_level_idc`, thirty times the level.
    pub level: u8,
}

impl ProfileTierLevel {
    /// Reads the structure with the general profile and passes over `sub_layers_minus1` layers.
    pub(super) fn read(f: &mut Fields<'_>, sub_layers_minus1: u32) -> Result<Self, Error> {
        let profile_space = f.bits(2, "general_profile_space")? as u8;
        let high_tier = f.flag("general_tier_flag")?;
        let profile = f.bits(5, "general_profile_idc")? as u8;
        let compatibility = f.bits(32, "general_profile_compatibility_flag")?;
        let constraints = u64::from(f.bits(32, "general_constraint_flags")?) << 16
            | u64::from(f.bits(16, "general_constraint_flags")?);
        let level = f.bits(8, "general_level_idc")? as u8;
        let mut present = [(false, false); 8];
        for layer in present.iter_mut().take(sub_layers_minus1 as usize) {
            *layer = (
                f.flag("sub_layer_profile_present_flag")?,
                f.flag("sub_layer_level_present_flag")?,
            );
        }
        if sub_layers_minus1 > 0 {
            f.bits(2 * (8 - sub_layers_minus1), "reserved_zero_2bits")?;
        }
        for (has_profile, has_level) in present {
            if has_profile {
                f.skip(88, "sub_layer_profile_idc")?;
            }
            if has_level {
                f.skip(8, "sub_layer_level_idc")?;
            }
        }
        Ok(Self { profile_space, high_tier, profile, compatibility, constraints, level })
    }

    /// What follows `hvc1.` or `hev1.` in a codec string (ISO/IEC 14496-15 E.3): `1.6.L93.B0`.
    pub fn codec_string(&self) -> String {
        let mut out = String::new();
        if let space @ 1..=3 = self.profile_space {
            out.push(char::from(b'A' + space - 1));
        }
        let tier = if self.high_tier { 'H' } else { 'L' };
        let _ = write!(
            out,
            "{}.{:X}.{tier}{}",
            self.profile,
            self.compatibility.reverse_bits(),
            self.level
        );
        let bytes = self.constraints.to_be_bytes();
        let bytes = &bytes[2..];
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for byte in &bytes[..used] {
            let _ = write!(out, ".{byte:X}");
        }
        out
    }

    /// The name of the profile that users know.
    pub fn profile_name(&self) -> &'static str {
        match self.profile {
            1 => "Main",
            2 => "Main 10",
            3 => "Main Still Picture",
            4 => "Rext",
            9 => "SCC",
            _ => "other",
        }
    }
}
