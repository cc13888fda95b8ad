//! Settings of the renditions that this node makes of a stream's pictures.

use std::ops::RangeInclusive;

use ingest::hub::RENDITIONS_MAX;
use serde::{Deserialize, Serialize};

/// Characters of a rendition's name.
const NAME_MAX: usize = 16;

/// Rows of a rendition.
const HEIGHT: RangeInclusive<u32> = 16..=4320;

/// Its kilobits in a second.
const BITRATE_KBPS: RangeInclusive<u32> = 32..=50_000;

/// Its pictures in a second, at most.
const FPS: RangeInclusive<u32> = 1..=240;

/// What of H.264 a rendition uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum H264Profile {
    /// Constrained Baseline, which every WebRTC viewer plays.
    #[default]
    Baseline,
    /// About a tenth fewer bits for the same picture.
    Main,
    /// A little fewer still.
    High,
}

/// A smaller rendition of a stream's pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rendition {
    /// What viewers call it, `360p` say: letters, digits, `.`, `_`, `-`, 16 at most.
    pub name: String,
    /// Rows of its pictures, an even number; as many columns as keep the shape. It is left out while
    /// the stream has no more rows.
    pub height: u32,
    /// Kilobits in a second, sound not counted.
    pub bitrate_kbps: u32,
    /// Pictures in a second at most; as many as the stream has where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<u32>,
    /// `baseline`, `main` or `high`, where it is coded in H.264; `baseline` where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<H264Profile>,
    /// Made of the processed stream (`{name}-out`) instead of the published one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub processed: bool,
}

/// Checks the renditions of a stream.
///
/// # Errors
/// What is wrong, and with which one.
pub(super) fn check(renditions: &[Rendition]) -> Result<(), String> {
    for (at, rendition) in renditions.iter().enumerate() {
        let Rendition { name, height, bitrate_kbps, fps, processed, .. } = rendition;
        let fault = |why: String| Err(format!("renditions: {name:?}: {why}"));
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
            let why = "a name has 1 to 16 letters, digits, dots, underscores and hyphens";
            return fault(why.into());
        }
        if !HEIGHT.contains(height) || !height.is_multiple_of(2) {
            let (low, high) = HEIGHT.into_inner();
            return fault(format!("height {height} is no even number from {low} to {high}"));
        }
        if !BITRATE_KBPS.contains(bitrate_kbps) {
            let (low, high) = BITRATE_KBPS.into_inner();
            return fault(format!("bitrate_kbps {bitrate_kbps} is not from {low} to {high}"));
        }
        if let Some(fps) = fps
            && !FPS.contains(fps)
        {
            let (low, high) = FPS.into_inner();
            return fault(format!("fps {fps} is not from {low} to {high}"));
        }
        let before = renditions[..at].iter().filter(|other| other.processed == *processed);
        if before.clone().any(|other| other.name == *name) {
            return fault("the name is given twice".into());
        }
        if before.count() >= RENDITIONS_MAX {
            return fault(format!("a stream has {RENDITIONS_MAX} renditions at most"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendition_that_cannot_be_made_is_refused_with_its_name_and_the_reason() {
        let rendition = |name: &str, height, bitrate_kbps| Rendition {
            name: name.into(),
            height,
            bitrate_kbps,
            ..Rendition::default()
        };
        let low = rendition("360p", 360, 700);
        assert_eq!(check(&[low.clone(), rendition("720p", 720, 2500)]), Ok(()));
        let processed = Rendition { processed: true, ..low.clone() };
        assert_eq!(check(&[low.clone(), processed]), Ok(()), "of two streams");
        for (wrong, word) in [
            (rendition("", 360, 700), "name"),
            (rendition("a/b", 360, 700), "name"),
            (rendition("odd", 361, 700), "361"),
            (rendition("tall", 9000, 700), "9000"),
            (rendition("thin", 360, 1), "bitrate_kbps"),
            (Rendition { fps: Some(0), ..rendition("still", 360, 700) }, "fps 0"),
            (low.clone(), "twice"),
        ] {
            let error = check(&[low.clone(), wrong.clone()]).unwrap_err();
            assert!(error.contains(word) && error.contains(&wrong.name), "{error}");
        }
        let slow = Rendition { fps: Some(15), ..rendition("slow", 360, 700) };
        assert_eq!(check(&[low.clone(), slow]), Ok(()));
        let many: Vec<_> = (0..5).map(|n| rendition(&format!("r{n}"), 100, 100)).collect();
        assert!(check(&many).unwrap_err().contains("at most"));
    }

    #[test]
    fn rate_and_profile_are_written_as_they_are_read() {
        let text =
            "name = \"low\"\nheight = 360\nbitrate_kbps = 700\nfps = 15\nprofile = \"high\"\n";
        let rendition: Rendition = toml::from_str(text).unwrap();
        assert_eq!((rendition.fps, rendition.profile), (Some(15), Some(H264Profile::High)));
        assert_eq!(toml::to_string(&rendition).unwrap(), text);
        assert!(toml::from_str::<Rendition>("profile = \"extended\"").is_err());
    }
}
