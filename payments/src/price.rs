//! Prices and fees: exact fractions of wei, never a float; each function names its rounding.
//!
//! The fee of a frame is the one figure that both sides compute on their own and must agree on to
//! the wei: ceil(width × height × price).

use std::fmt;
use std::time::Duration;

use alloy_primitives::{U256, U512};

/// The sampling rate of the interval rhythm: 1280 × 720 pixels at 30 frames a second, whatever the
/// stream really is, as the existing network counts.
pub const INTERVAL_PIXELS_PER_SECOND: u64 = 27_648_000;

/// Money in wei.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wei(pub U256);

impl Wei {
    /// Nothing.
    pub const ZERO: Wei = Wei(U256::ZERO);
    /// The largest amount that can be written.
    pub const MAX: Wei = Wei(U256::MAX);

    /// `wei` wei.
    pub const fn new(wei: u128) -> Self {
        Self(U256::from_limbs([wei as u64, (wei >> 64) as u64, 0, 0]))
    }

    /// True for nothing.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The sum, or `None` when it cannot be written.
    pub fn checked_add(self, other: Wei) -> Option<Wei> {
        self.0.checked_add(other.0).map(Wei)
    }

    /// The difference, or `None` when `other` is more.
    pub fn checked_sub(self, other: Wei) -> Option<Wei> {
        self.0.checked_sub(other.0).map(Wei)
    }

    /// The sum, held at [`Wei::MAX`].
    pub fn saturating_add(self, other: Wei) -> Wei {
        Wei(self.0.saturating_add(other.0))
    }

    /// The difference, held at nothing.
    pub fn saturating_sub(self, other: Wei) -> Wei {
        Wei(self.0.saturating_sub(other.0))
    }

    /// `count` times this, held at [`Wei::MAX`].
    pub fn saturating_mul(self, count: u64) -> Wei {
        Wei(self.0.saturating_mul(U256::from(count)))
    }

    /// `count` times this, or `None` when it cannot be written.
    pub fn checked_mul(self, count: u64) -> Option<Wei> {
        self.0.checked_mul(U256::from(count)).map(Wei)
    }

    /// Reads decimal digits.
    pub fn from_decimal(text: &str) -> Option<Wei> {
        let plain =
            !text.is_empty() && text.len() <= 78 && text.bytes().all(|b| b.is_ascii_digit());
        if plain { U256::from_str_radix(text, 10).ok().map(Wei) } else { None }
    }

    /// The nearest float, for graphs only: money is never computed with it.
    pub fn approximate(self) -> f64 {
        self.0
            .as_limbs()
            .iter()
            .rev()
            .fold(0.0, |sum, limb| sum * 18446744073709551616.0 + *limb as f64)
    }
}

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei", self.0)
    }
}

impl From<u128> for Wei {
    fn from(wei: u128) -> Self {
        Self::new(wei)
    }
}

impl std::iter::Sum for Wei {
    fn sum<I: Iterator<Item = Wei>>(amounts: I) -> Wei {
        amounts.fold(Wei::ZERO, Wei::saturating_add)
    }
}

impl serde::Serialize for Wei {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Wei {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Wei::from_decimal(&text)
            .ok_or_else(|| serde::de::Error::custom("an amount of wei is a string of digits"))
    }
}

/// A number of pixels; what is metered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pixels(pub u64);

/// Width and height of a picture as it is shown (cropped), in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PictureSize {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl PictureSize {
    /// Largest side that is quoted, in pixels.
    pub const SIDE_MAX: u32 = 16_384;

    /// A size with both sides from 1 to [`PictureSize::SIDE_MAX`].
    pub fn new(width: u32, height: u32) -> Option<Self> {
        let fits = |side| (1..=Self::SIDE_MAX).contains(&side);
        (fits(width) && fits(height)).then_some(Self { width, height })
    }

    /// Columns times rows.
    pub fn pixels(self) -> Pixels {
        Pixels(u64::from(self.width) * u64::from(self.height))
    }
}

impl fmt::Display for PictureSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Frames a second, in thousandths, exact for 29.97 as far as money needs it: it sizes windows
/// and limits, never a fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameRate(u32);

impl FrameRate {
    /// The fastest rate that is served, in frames a second.
    pub const MAX_FPS: u32 = 240;

    /// `fps_milli` thousandths of a frame a second, held to 1 to 240 frames a second.
    pub fn from_milli(fps_milli: u32) -> Self {
        Self(fps_milli.clamp(1_000, Self::MAX_FPS * 1_000))
    }

    /// `fps` frames a second, held to 1 to 240.
    pub fn from_fps(fps: u32) -> Self {
        Self::from_milli(fps.saturating_mul(1_000))
    }

    /// Thousandths of a frame a second.
    pub fn milli(self) -> u32 {
        self.0
    }

    /// Frames in `time`, rounded up.
    pub fn frames_ceil(self, time: Duration) -> u64 {
        let frames = (u128::from(self.0) * time.as_micros()).div_ceil(1_000_000_000);
        u64::try_from(frames).unwrap_or(u64::MAX)
    }

    /// Time from one frame to the next.
    pub fn interval(self) -> Duration {
        Duration::from_nanos(1_000_000_000_000 / u64::from(self.0))
    }

    /// The default of either side's frame limit: max(3, ceil(0.3 × fps)).
    pub fn default_frames_at_risk(self) -> u32 {
        (3 * self.0).div_ceil(10_000).max(3)
    }
}

/// Wei for a number of pixels: an exact fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PricePerPixel {
    /// Wei.
    wei: u64,
    /// For so many pixels; never 0.
    pixels: u64,
}

impl PricePerPixel {
    /// `wei` for `pixels` pixels, or `None` for zero pixels.
    pub fn new(wei: u64, pixels: u64) -> Option<Self> {
        (pixels != 0).then_some(Self { wei, pixels })
    }

    /// The upper number: wei.
    pub fn wei(self) -> u64 {
        self.wei
    }

    /// The lower number: pixels, never 0.
    pub fn pixels(self) -> u64 {
        self.pixels
    }

    /// True when `self` asks for more than `other`.
    pub fn exceeds(self, other: Self) -> bool {
        u128::from(self.wei) * u128::from(other.pixels)
            > u128::from(other.wei) * u128::from(self.pixels)
    }
}

/// ceil(pixels × price): what a frame costs. Never overflows.
pub fn fee_ceil(pixels: Pixels, price: PricePerPixel) -> Wei {
    let product = u128::from(pixels.0) * u128::from(price.wei);
    Wei::new(product.div_ceil(u128::from(price.pixels)))
}

/// ceil(fee × (2^256 − 1) / face value): the smallest probability whose expected value, rounded
/// down, is the fee. `None` when the face value is zero or below the fee.
pub fn win_prob_for(fee: Wei, face_value: Wei) -> Option<U256> {
    if face_value.is_zero() || fee > face_value {
        return None;
    }
    let product: U512 = fee.0.widening_mul(U256::MAX);
    let prob = product.div_ceil(U512::from(face_value.0));
    Some(U256::from(prob))
}

/// floor(face value × win probability / (2^256 − 1)): what a ticket is credited.
pub fn expected_value_floor(face_value: Wei, win_prob: U256) -> Wei {
    let product: U512 = face_value.0.widening_mul(win_prob);
    Wei(U256::from(product / U512::from(U256::MAX)))
}

/// ceil(27,648,000 × seconds × price): the fee of an interval in the rhythm of the network. The
/// time counts exactly to the microsecond.
pub fn interval_fee_ceil(time: Duration, price: PricePerPixel) -> Wei {
    let micros = U256::from(time.as_micros());
    let product = micros * U256::from(INTERVAL_PIXELS_PER_SECOND) * U256::from(price.wei);
    Wei(product.div_ceil(U256::from(1_000_000u64) * U256::from(price.pixels)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(wei: u64, pixels: u64) -> PricePerPixel {
        PricePerPixel::new(wei, pixels).unwrap()
    }

    #[test]
    fn a_fee_is_rounded_up_to_the_wei() {
        let check = |pixels, wei, per, fee| {
            assert_eq!(fee_ceil(Pixels(pixels), price(wei, per)), Wei::new(fee));
        };
        check(0, 7, 3, 0);
        check(1, 7, 3, 3);
        check(3, 7, 3, 7);
        check(640 * 360, 1200, 1, 276_480_000);
        check(640 * 360, 1, 1000, 231);
        check(u64::MAX, u64::MAX, 1, u128::from(u64::MAX) * u128::from(u64::MAX));
        assert!(PricePerPixel::new(1, 0).is_none());
    }

    #[test]
    fn an_interval_costs_the_flat_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(interval_fee_ceil(second, price(1, 1)), Wei::new(27_648_000));
        assert_eq!(interval_fee_ceil(second * 60, price(1, 1)), Wei::new(1_658_880_000));
        assert_eq!(interval_fee_ceil(Duration::from_micros(1), price(1, 1)), Wei::new(28));
        assert_eq!(interval_fee_ceil(Duration::ZERO, price(9, 1)), Wei::ZERO);
    }

    // The existing network takes EV × ceil(max / faceValue); ours takes the
    // ceiling last, so ours may be smaller by less than EV and never gives less than the fee.
    #[test]
    fn probabilities_stand_beside_the_networks_examples() {
        let check = |face: u128, theirs: &str| {
            let theirs = U256::from_str_radix(theirs, 10).unwrap();
            let ours = win_prob_for(Wei::new(5), Wei::new(face)).unwrap();
            assert!(ours <= theirs && theirs - ours < U256::from(5));
            assert_eq!(U256::from(5) * U256::MAX.div_ceil(U256::from(face)), theirs);
        };
        check(
            100_000_000,
            "5789604461865809771178549250434395392663499233282028201972879200395660",
        );
        check(777_000_000, "745122839364969082519761808292714979750772102095499125093034646125570");
        check(10_001, "57890255593098787833002192285115442382396752657554526567072084795477017120");
        assert_eq!(win_prob_for(Wei::new(5), Wei::new(5)), Some(U256::MAX));
        assert_eq!(win_prob_for(Wei::new(5), Wei::new(4)), None);
        assert_eq!(win_prob_for(Wei::ZERO, Wei::ZERO), None);
        let half = U256::MAX / U256::from(2);
        assert_eq!(expected_value_floor(Wei::new(1000), half), Wei::new(499));
        assert_eq!(expected_value_floor(Wei::new(1000), U256::ZERO), Wei::ZERO);
        assert_eq!(expected_value_floor(Wei::new(1000), U256::MAX), Wei::new(1000));
    }

    #[test]
    fn limits_follow_the_frame_rate() {
        let check = |fps, frames| {
            assert_eq!(FrameRate::from_fps(fps).default_frames_at_risk(), frames);
        };
        check(1, 3);
        check(10, 3);
        check(11, 4);
        check(30, 9);
        check(60, 18);
        let rate = FrameRate::from_fps(60);
        assert_eq!(rate.frames_ceil(Duration::from_millis(150)), 9);
        assert_eq!(rate.frames_ceil(Duration::from_millis(151)), 10);
    }

    #[test]
    fn wei_travel_as_strings_of_digits() {
        let text = serde_json::to_string(&Wei::MAX).unwrap();
        assert_eq!(serde_json::from_str::<Wei>(&text).unwrap(), Wei::MAX);
        for bad in ["\"-1\"", "\"\"", "\"1e3\"", "\"0x10\"", "5"] {
            assert!(serde_json::from_str::<Wei>(bad).is_err(), "{bad}");
        }
        assert_eq!(Wei::new(1 << 70).approximate(), (1u128 << 70) as f64);
    }

    proptest! {
        #[test]
        fn the_expected_value_of_a_quote_is_the_fee(fee in 1u128.., more in 0u128..) {
            let face = Wei::new(fee).saturating_add(Wei::new(more));
            let prob = win_prob_for(Wei::new(fee), face).unwrap();
            prop_assert_eq!(expected_value_floor(face, prob), Wei::new(fee));
        }

        #[test]
        fn a_fee_is_the_least_whole_number_that_covers_the_price(
            pixels: u64, wei: u64, per in 1u64..,
        ) {
            let fee = fee_ceil(Pixels(pixels), price(wei, per)).0;
            let exact = U256::from(pixels) * U256::from(wei);
            let per = U256::from(per);
            prop_assert!(fee * per >= exact);
            prop_assert!(fee.is_zero() || (fee - U256::from(1)) * per < exact);
        }
    }
}
