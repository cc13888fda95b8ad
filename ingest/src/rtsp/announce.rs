//! A publisher's or camera's SDP: which media there are, and how their payloads are to be read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use pipeline::annexb::START_CODE;
use pipeline::h264::PARAMETER_SETS_BYTES_MAX;
use pipeline::{Codec, TrackKind};
use sdp_types::{Media, Session};

use super::sound::{self, Sound};

/// Media of an SDP, at most.
const MEDIA_MAX: usize = 16;

/// Why an SDP cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// It is no SDP.
    #[error("the SDP cannot be read: {0}")]
    Malformed(String),
    /// More than 16 media.
    #[error("an SDP with {0} media, at most {MEDIA_MAX} are taken")]
    Many(usize),
    /// Nothing in it can be carried.
    #[error("nothing in the SDP can be carried: {0}")]
    Nothing(String),
}

/// One medium of the SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    /// Where it is controlled: relative to the stream, or a whole address.
    pub(super) control: String,
    /// How it is read; `None` for a medium that is passed over.
    pub(super) format: Option<Format>,
}

/// How payloads of a medium are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    /// Ticks of the RTP clock in a second.
    pub(super) clock_rate: u32,
    pub(super) coding: Coding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Pictures, and their parameter sets in Annex B as far as they are said.
    Picture(Codec, Bytes),
    Sound(Sound),
}

impl Format {
    pub(super) const fn kind(&self) -> TrackKind {
        match self.coding {
            Coding::Picture(..) => TrackKind::Video,
            Coding::Sound(_) => TrackKind::Audio,
        }
    }

    pub(super) const fn codec(&self) -> Codec {
        match &self.coding {
            Coding::Picture(codec, _) => *codec,
            Coding::Sound(sound) => sound.codec,
        }
    }
}

/// `a=rtpmap`, the name in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) name: String,
    pub(super) rate: u32,
    pub(super) channels: u8,
}

/// The parameters of `a=fmtp`.
pub(super) struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    pub(super) fn get(&self, wanted: &str) -> Option<&'a str> {
        let pairs = self.0.split(';').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.trim().trim_matches('"'))
    }

    pub(super) fn hex(&self, wanted: &str) -> Option<Vec<u8>> {
        hex::decode(self.get(wanted)?).ok()
    }

    /// Adds the NAL units of a list in base64 to `sets`; what cannot be read is left out, since
    /// the sender may give it again in band.
    fn sets(&self, wanted: &str, sets: &mut BytesMut) {
        let list = self.get(wanted).unwrap_or_default();
        for set in list.split(',').filter_map(|text| STANDARD.decode(text.trim()).ok()) {
            if !set.is_empty() && sets.len() + set.len() < PARAMETER_SETS_BYTES_MAX {
                sets.extend_from_slice(&START_CODE);
                sets.extend_from_slice(&set);
            }
        }
    }
}

/// Reads an SDP. Of each kind the first medium that can be carried has a format; the others are
/// passed over.
///
/// # Errors
/// [`SdpError`].
pub(super) fn read(sdp: &[u8]) -> Result<Vec<Incoming>, SdpError> {
    let session = Session::parse(sdp).map_err(|error| SdpError::Malformed(error.to_string()))?;
    if session.medias.len() > MEDIA_MAX {
        return Err(SdpError::Many(session.medias.len()));
    }
    let (mut media, mut reasons) = (Vec::new(), Vec::new());
    let mut have = [false; 2];
    for medium in &session.medias {
        let control = medium.attributes.iter().find(|a| a.attribute == "control");
        let control = control.and_then(|a| a.value.clone()).unwrap_or_default();
        let format = match format(medium) {
            Ok(format) => {
                let place = usize::from(format.kind().is_video());
                (!std::mem::replace(&mut have[place], true)).then_some(format)
            }
            Err(reason) => {
                reasons.push(format!("{} {}: {reason}", medium.media, medium.fmt));
                None
            }
        };
        media.push(Incoming { control, format });
    }
    if have == [false; 2] {
        let reasons = reasons.join("; ");
        return Err(SdpError::Nothing(reasons.chars().take(300).collect()));
    }
    Ok(media)
}

/// Why a medium is passed over.
#[derive(Debug)]
enum Reason {
    Unknown(String),
    Parameters(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "{what} is not carried"),
            Self::Parameters(what) => f.write_str(what),
        }
    }
}

/// The first of a medium's formats that can be carried.
fn format(medium: &Media) -> Result<Format, Reason> {
    if !medium.proto.starts_with("RTP/AVP") {
        return Err(Reason::Unknown(medium.proto.clone()));
    }
    let mut reason = Reason::Unknown(medium.media.clone());
    for payload_type in medium.fmt.split_whitespace().filter_map(|text| text.parse().ok()) {
        match one(medium, payload_type) {
            Ok(format) => return Ok(format),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

fn one(medium: &Media, payload_type: u8) -> Result<Format, Reason> {
    let of = |name: &str| {
        medium.attributes.iter().filter(|a| a.attribute == name).find_map(|a| {
            let (number, rest) = a.value.as_deref()?.trim().split_once(' ')?;
            (number.parse() == Ok(payload_type)).then(|| rest.trim())
        })
    };
    let map = match of("rtpmap") {
        Some(map) => parse_map(map),
        None => standing(payload_type),
    };
    let map = map.ok_or_else(|| Reason::Unknown(format!("payload type {payload_type}")))?;
    if payload_type > 127 || map.rate == 0 || map.rate > 1_000_000 {
        return Err(Reason::Parameters("a payload type or clock rate out of range"));
    }
    let parameters = Parameters(of("fmtp").unwrap_or_default());
    let coding = if medium.media.eq_ignore_ascii_case("video") {
        picture(&map, &parameters)?
    } else if medium.media.eq_ignore_ascii_case("audio") {
        let sound = sound::read(&map, &parameters).map_err(Reason::Parameters)?;
        Coding::Sound(sound.ok_or_else(|| Reason::Unknown(map.name.clone()))?)
    } else {
        return Err(Reason::Unknown(medium.media.clone()));
    };
    Ok(Format { payload_type, clock_rate: map.rate, coding })
}

fn parse_map(text: &str) -> Option<Map> {
    let mut parts = text.split('/');
    let name = parts.next()?.trim().to_ascii_uppercase();
    let rate = parts.next()?.trim().parse().ok()?;
    let channels = parts.next().map_or(Some(1), |text| text.trim().parse().ok())?;
    Some(Map { name, rate, channels })
}

/// Payload types that need no `rtpmap`.
fn standing(payload_type: u8) -> Option<Map> {
    let map = |name: &str, rate| Some(Map { name: name.to_owned(), rate, channels: 1 });
    match payload_type {
        sound::PCMU_TYPE => map("PCMU", 8000),
        sound::PCMA_TYPE => map("PCMA", 8000),
        sound::MPA_TYPE => map("MPA", 90_000),
        _ => None,
    }
}

fn picture(map: &Map, of: &Parameters<'_>) -> Result<Coding, Reason> {
    let mut sets = BytesMut::new();
    let codec = match map.name.as_str() {
        "H264" => {
            if of.get("packetization-mode") == Some("2") {
                return Err(Reason::Parameters("H264 in interleaved mode"));
            }
            of.sets("sprop-parameter-sets", &mut sets);
            Codec::H264
        }
        "H265" => {
            if of.get("sprop-max-don-diff").is_some_and(|value| value != "0") {
                return Err(Reason::Parameters("H265 with decoding order numbers"));
            }
            ["sprop-vps", "sprop-sps", "sprop-pps"].iter().for_each(|key| of.sets(key, &mut sets));
            Codec::Hevc
        }
        "VP8" => Codec::Vp8,
        "VP9" => Codec::Vp9,
        "AV1" => Codec::Av1,
        other => return Err(Reason::Unknown(other.to_owned())),
    };
    if map.rate != 90_000 {
        return Err(Reason::Parameters("pictures with another clock than 90 kHz"));
    }
    Ok(Coding::Picture(codec, sets.freeze()))
}

#[cfg(test)]
#[path = "sdp_tests.rs"]
mod tests;
