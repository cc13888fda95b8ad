//! Money in settings: texts that become exact values at the edge.

use std::fmt;

use payments::price::{PricePerPixel, Wei};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Wei for pixels, written `"1200"` (wei for one pixel) or `"3/2"` (3 wei for 2 pixels).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Price(pub PricePerPixel);

/// An amount of wei, written as a decimal text since TOML's integers end at 2^63.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub Wei);

impl Price {
    /// Reads the text.
    pub fn parse(text: &str) -> Option<Self> {
        let (wei, pixels) = text.split_once('/').unwrap_or((text, "1"));
        let number = |text: &str| text.trim().parse().ok();
        PricePerPixel::new(number(wei)?, number(pixels)?).map(Self)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.pixels() {
            1 => write!(f, "{}", self.0.wei()),
            pixels => write!(f, "{}/{pixels}", self.0.wei()),
        }
    }
}

impl fmt::Debug for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no price: write wei for a pixel, \"3/2\" say"))
        })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Wei::from_decimal(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no whole number of wei")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_fractions() {
        let check = |text: &str, wanted: Option<(u64, u64)>| {
            let price = Price::parse(text).map(|Price(price)| (price.wei(), price.pixels()));
            assert_eq!(price, wanted, "{text}");
        };
        check("1200", Some((1200, 1)));
        check("3 / 2", Some((3, 2)));
        check("0", Some((0, 1)));
        check("1/0", None);
        check("1.5", None);
        check("-1", None);
    }
}
