//! Tracks as an SDP, for those who play from us and for servers that we push to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipeline::annexb::nals;
use pipeline::audio::aac_config;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Codec, TrackKind, Tracks};
use sdp_types::{Attribute, Connection, Media, Origin, Session, Time};

use super::sound;
use crate::rtp::payload::Packetiser;

/// Payload types that we choose (RFC 3551 table 5).
const VIDEO_TYPE: u8 = 96;
const AUDIO_TYPE: u8 = 97;

/// One track as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) kind: TrackKind,
    /// Where it is controlled, relative to the stream.
    pub(super) control: String,
    pub(super) payload_type: u8,
    /// Ticks of its RTP clock in a second.
    pub(super) clock_rate: u32,
    attributes: Vec<(&'static str, String)>,
}

/// What of `tracks` goes out, picture first.
pub(super) fn outgoing(tracks: &Tracks) -> Vec<Outgoing> {
    let video = tracks.video.as_ref().filter(|track| Packetiser::carries(track.codec));
    let audio = tracks.audio.as_ref().filter(|track| Packetiser::carries(track.codec));
    let media = video.map(picture).into_iter().chain(audio.and_then(sounds));
    media.enumerate().map(|(at, medium)| medium.numbered(at)).collect()
}

impl Outgoing {
    /// Whether a track that was described as `old` may go on as this one: parameter sets of
    /// pictures go with the pictures, anything else was promised.
    pub(super) fn continues(&self, old: &Self) -> bool {
        let same = |name: &str| {
            let of = |medium: &Self| medium.attributes.iter().find(|a| a.0 == name).cloned();
            of(self) == of(old)
        };
        self.kind == old.kind && same("rtpmap") && (self.kind.is_video() || same("fmtp"))
    }

    fn numbered(self, at: usize) -> Self {
        Self { control: format!("trackID={at}"), ..self }
    }
}

/// The text of a description; `id` names this description.
pub(super) fn sdp(name: &str, id: u64, media: &[Outgoing]) -> Vec<u8> {
    let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
    let attribute = |name: &str, value: &str| Attribute {
        attribute: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let mut session =
        Session::new(Origin::with_ip_addr(id, 1, std::net::Ipv4Addr::LOCALHOST), name);
    session.connection = Some(Connection::from_ip_addr(unspecified));
    session.times = vec![Time { start_time: 0, stop_time: 0, repeats: Vec::new() }];
    session.attributes = vec![attribute("control", "*"), attribute("range", "npt=now-")];
    for medium in media {
        let kind = if medium.kind.is_video() { "video" } else { "audio" };
        let own = medium.attributes.iter().map(|(name, value)| attribute(name, value));
        session.medias.push(Media {
            media: kind.into(),
            port: 0,
            num_ports: None,
            proto: "RTP/AVP".into(),
            fmt: medium.payload_type.to_string(),
            media_title: None,
            connections: Vec::new(),
            bandwidths: Vec::new(),
            key: None,
            attributes: own.chain([attribute("control", &medium.control)]).collect(),
        });
    }
    let mut text = Vec::new();
    // Writing into memory does not fail.
    let _ = session.write(&mut text);
    text
}

fn picture(track: &VideoTrack) -> Outgoing {
    let sets = || nals(&track.parameter_sets);
    let coded = |nal: &[u8]| STANDARD.encode(nal);
    let (name, parameters) = match track.codec {
        Codec::H264 => {
            let mut parameters = "packetization-mode=1".to_owned();
            if let Some(sps) = sets().find(|nal| nal[0] & 0x1f == 7 && nal.len() > 3) {
                parameters += &format!(";profile-level-id={}", hex::encode(&sps[1..4]));
            }
            let all: Vec<String> = sets().map(coded).collect();
            if !all.is_empty() {
                parameters += &format!(";sprop-parameter-sets={}", all.join(","));
            }
            ("H264", parameters)
        }
        Codec::Hevc => {
            let of = |kind: u8| {
                sets().filter(move |nal| nal[0] >> 1 & 0x3f == kind).map(coded).collect::<Vec<_>>()
            };
            let named = [("sprop-vps", of(32)), ("sprop-sps", of(33)), ("sprop-pps", of(34))];
            let named = named.into_iter().filter(|(_, sets)| !sets.is_empty());
            let all: Vec<_> =
                named.map(|(name, sets)| format!("{name}={}", sets.join(","))).collect();
            ("H265", all.join(";"))
        }
        codec => (codec.name(), String::new()),
    };
    medium(TrackKind::Video, VIDEO_TYPE, 90_000, format!("{name}/90000"), parameters)
}

/// `None` for AAC whose config cannot be said.
fn sounds(track: &AudioTrack) -> Option<Outgoing> {
    let (rate, channels) = (track.sample_rate, track.channels.max(1));
    let with_channels = |name: &str| match channels {
        1 => format!("{name}/{rate}"),
        _ => format!("{name}/{rate}/{channels}"),
    };
    let (payload_type, clock_rate, map, parameters) = match track.codec {
        Codec::Opus => {
            let stereo = if channels > 1 { "sprop-stereo=1" } else { "" };
            (AUDIO_TYPE, 48_000, "opus/48000/2".to_owned(), stereo.to_owned())
        }
        Codec::Aac => {
            let config = hex::encode(aac_config(track).ok()?);
            let parameters = format!(
                "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;\
                 indexdeltalength=3;config={config}"
            );
            (AUDIO_TYPE, rate, format!("mpeg4-generic/{rate}/{channels}"), parameters)
        }
        Codec::Mp3 => (sound::MPA_TYPE, 90_000, "MPA/90000".to_owned(), String::new()),
        Codec::G711U | Codec::G711A => {
            let (name, standing) = match track.codec {
                Codec::G711U => ("PCMU", sound::PCMU_TYPE),
                _ => ("PCMA", sound::PCMA_TYPE),
            };
            let kind = if (rate, channels) == (8000, 1) { standing } else { AUDIO_TYPE };
            (kind, rate, with_channels(name), String::new())
        }
        _ => return None,
    };
    Some(medium(TrackKind::Audio, payload_type, clock_rate, map, parameters))
}

fn medium(
    kind: TrackKind,
    payload_type: u8,
    clock_rate: u32,
    map: String,
    parameters: String,
) -> Outgoing {
    let mut attributes = vec![("rtpmap", format!("{payload_type} {map}"))];
    if !parameters.is_empty() {
        attributes.push(("fmtp", format!("{payload_type} {parameters}")));
    }
    Outgoing { kind, control: String::new(), payload_type, clock_rate, attributes }
}
