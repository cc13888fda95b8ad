//! Codecs of an offer: what its payload types carry, which of them is taken, and what a viewer can
//! be given at all.
//!
//! Payload types are matched by kind. Levels are not compared and profiles only where a decoder
//! would fail, since encoders write them as they like and decoders take more than they say.

use std::fmt::Write;
use std::sync::LazyLock;

use pipeline::Codec;

use super::Role;
use super::sdp::{Kind, Offer, Payload, Section};
use crate::views::Takes;

/// Codings of pictures, in the order in which they are wanted when a stream is re-encoded.
const PICTURES: [Codec; 5] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Hevc];

/// Codings of sound, likewise.
const SOUNDS: [Codec; 3] = [Codec::Opus, Codec::G711U, Codec::G711A];

/// Parameters of `a=fmtp` that an answer repeats as the peer wrote them.
const REPEATED: [&str; 8] = [
    "profile-id",
    "profile",
    "level-id",
    "level-idx",
    "tier",
    "tier-flag",
    "tx-mode",
    "interop-constraints",
];

/// The codec of a payload type that can be used in this role; `None` for others.
pub(crate) fn codec(payload: &Payload, role: Role) -> Option<Codec> {
    let is = |name: &str| payload.name.eq_ignore_ascii_case(name);
    let parameter = |name, usual| payload.parameter(name).unwrap_or(usual);
    let publisher = role == Role::Publisher;
    match payload.clock {
        90_000 if is("H264") => {
            let mode = parameter("packetization-mode", "0");
            (mode == "1" || (mode == "0" && publisher)).then_some(Codec::H264)
        }
        90_000 if is("H265") => {
            // RFC 7798 7.1: several streams for one picture are not joined.
            (parameter("tx-mode", "SRST") == "SRST").then_some(Codec::Hevc)
        }
        90_000 if is("VP8") => Some(Codec::Vp8),
        // Other profiles are for depths and samplings that viewers are not sent.
        90_000 if is("VP9") => {
            (publisher || parameter("profile-id", "0") == "0").then_some(Codec::Vp9)
        }
        90_000 if is("AV1") => {
            (publisher || parameter("profile", "0") == "0").then_some(Codec::Av1)
        }
        48_000 if is("opus") => Some(Codec::Opus),
        8000 if payload.channels <= 1 && is("PCMU") => Some(Codec::G711U),
        8000 if payload.channels <= 1 && is("PCMA") => Some(Codec::G711A),
        _ => None,
    }
}

/// The payload type that a publisher is going to send: its own first choice. VP8 yields to H.264,
/// since browsers put it first without being asked and most readers cannot take it.
pub(crate) fn of_publisher(section: &Section) -> Option<(&Payload, Codec)> {
    let mut offered = section.payloads.iter().filter_map(|p| Some((p, codec(p, Role::Publisher)?)));
    let first = offered.clone().next()?;
    let wanted = match first.1 {
        Codec::Vp8 if offered.any(|(_, codec)| codec == Codec::H264) => Codec::H264,
        codec => codec,
    };
    best(section, wanted, Role::Publisher, None).map(|payload| (payload, wanted))
}

/// The payload type with which a viewer gets a stream of `wanted`; while the stream's coding is
/// unknown, the one that streams mostly have.
pub(crate) fn of_viewer(
    section: &Section,
    wanted: Option<Codec>,
    profile: Option<u8>,
) -> Option<(&Payload, Codec)> {
    let usual = if section.kind == Kind::Video { &PICTURES[..] } else { &SOUNDS[..] };
    let one = wanted.as_ref().map(std::slice::from_ref);
    let found = |&codec: &Codec| Some((best(section, codec, Role::Viewer, profile)?, codec));
    one.unwrap_or(usual).iter().find_map(found)
}

/// Of several payload types of a codec the best one. H.264: that of the stream's own profile, else
/// constrained baseline, which every encoder has, else the peer's first.
fn best(section: &Section, wanted: Codec, role: Role, profile: Option<u8>) -> Option<&Payload> {
    let rank = |payload: &&Payload| {
        if wanted != Codec::H264 {
            return (false, false, false);
        }
        let level = payload.parameter("profile-level-id").unwrap_or("42e01f").to_ascii_lowercase();
        let one = payload.parameter("packetization-mode") == Some("1");
        let same = profile.is_some_and(|idc| level.starts_with(&format!("{idc:02x}")));
        (!one, !same, !level.starts_with("42e0"))
    };
    section.payloads.iter().filter(|p| codec(p, role) == Some(wanted)).min_by_key(rank)
}

/// What a viewer's offer can take, by the codings that it lists. Where it lists none of ours of a
/// kind, nothing of that kind is sent, and whatever the stream has will do.
pub(crate) fn takes(offer: &Offer, without: &[Codec]) -> &'static Takes {
    let listed = |kind: Kind, all: &[Codec]| {
        let sections = offer.sections.iter().filter(|s| s.kind == kind && s.direction.receives());
        let payloads = sections.flat_map(|section| &section.payloads);
        let codecs: Vec<Codec> = payloads.filter_map(|p| codec(p, Role::Viewer)).collect();
        let bit = |(place, codec): (usize, &Codec)| {
            usize::from(codecs.contains(codec) && !without.contains(codec)) << place
        };
        match all.iter().enumerate().map(bit).sum::<usize>() {
            0 => (1 << all.len()) - 1,
            bits => bits,
        }
    };
    let (pictures, sounds) = (listed(Kind::Video, &PICTURES), listed(Kind::Audio, &SOUNDS));
    &TAKES[pictures << SOUNDS.len() | sounds]
}

/// Every set of codings, by its bits: made once, so that readers can refer to theirs for good.
static TAKES: LazyLock<Vec<Takes>> = LazyLock::new(|| {
    let subset = |all: &[Codec], bits: usize| -> &'static [Codec] {
        let chosen = all.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
        chosen.map(|(_, codec)| *codec).collect::<Vec<_>>().leak()
    };
    let of = |bits: usize| Takes {
        video: subset(&PICTURES, bits >> SOUNDS.len()),
        audio: subset(&SOUNDS, bits),
        ..Takes::WEBRTC
    };
    (0..1 << (PICTURES.len() + SOUNDS.len())).map(of).collect()
});

/// `a=rtpmap` and `a=fmtp` of the answer for one payload type.
pub(crate) fn describe(text: &mut String, payload: &Payload, codec: Codec) {
    let number = payload.number;
    let map = match codec {
        Codec::Opus => "opus/48000/2",
        Codec::G711U => "PCMU/8000",
        Codec::G711A => "PCMA/8000",
        Codec::Hevc => "H265/90000",
        Codec::Vp8 => "VP8/90000",
        Codec::Vp9 => "VP9/90000",
        Codec::Av1 => "AV1/90000",
        _ => "H264/90000",
    };
    // Writing to a `String` cannot fail.
    let _ = write!(text, "a=rtpmap:{number} {map}\r\n");
    let parameters = match codec {
        Codec::Opus => {
            let stereo =
                ["stereo", "sprop-stereo"].iter().any(|s| payload.parameter(s) == Some("1"));
            let stereo = if stereo { ";stereo=1;sprop-stereo=1" } else { "" };
            format!("minptime=10;useinbandfec=1{stereo}")
        }
        Codec::H264 => {
            let level = payload.parameter("profile-level-id").filter(|level| level.len() == 6);
            let level = level.filter(|level| level.chars().all(|c| c.is_ascii_hexdigit()));
            let mode = payload.parameter("packetization-mode").filter(|mode| *mode == "1");
            format!(
                "level-asymmetry-allowed=1;packetization-mode={};profile-level-id={}",
                mode.unwrap_or("0"),
                level.unwrap_or("42e01f"),
            )
        }
        _ => {
            let plain = |value: &&str| {
                (1..=16).contains(&value.len()) && value.chars().all(|c| c.is_ascii_alphanumeric())
            };
            let pair = |name: &&str| {
                payload.parameter(name).filter(plain).map(|value| format!("{name}={value}"))
            };
            REPEATED.iter().filter_map(pair).collect::<Vec<_>>().join(";")
        }
    };
    if !parameters.is_empty() {
        let _ = write!(text, "a=fmtp:{number} {parameters}\r\n");
    }
}
