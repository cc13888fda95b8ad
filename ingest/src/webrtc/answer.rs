//! Our answer to an offer (RFC 9429 5.3 as far as WHIP and WHEP use it).
//!
//! Each section is mirrored: one payload type (see [`formats`]) keeps its number, retransmission
//! rides along, a data channel beside media is taken, everything else is refused with port 0.
//!
//! This file is long because each section of an answer mirrors one of the offer, in one place.

use std::fmt::Write;
use std::net::SocketAddr;

use pipeline::Codec;
use rand::Rng;

use super::Role;
use super::formats;
use super::ice::{self, Credentials, Transports};
use super::sctp;
use super::sdp::{Fingerprint, Kind, Offer, Section, Setup, Transport};
use crate::rtp::packet::{PLAYOUT_DELAY_URI, REPAIRED_RID_URI, RID_URI, TRANSPORT_CC_URI};

/// The canonical name of what we send: one clock for picture and sound.
pub(crate) const CNAME: &str = "millstream";

/// Codings of the same pictures that are taken from a publisher; further ones are not mirrored, so
/// they are not sent.
pub(crate) use crate::hub::RENDITIONS_MAX;

/// Why an offer that could be read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refused {
    #[error(
        "the offer has no H.264 (packetization-mode=1), HEVC, VP8, VP9, AV1, Opus or G.711 to {0}"
    )]
    Media(&'static str),
    #[error("the offer does not bundle its media on one transport (a=group:BUNDLE)")]
    Bundle,
    #[error("the offer does not multiplex RTP and RTCP (a=rtcp-mux)")]
    Mux,
    #[error("the offer has no a=ice-ufrag and a=ice-pwd")]
    Ice,
    #[error("the offer has no a=fingerprint with SHA-256 or better")]
    Fingerprint,
}

/// One medium that both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Medium {
    pub(crate) codec: Codec,
    pub(crate) payload_type: u8,
    /// The payload type of retransmissions (RFC 4588), if the peer takes part in them.
    pub(crate) rtx: Option<u8>,
    pub(crate) nack: bool,
    pub(crate) pli: bool,
    pub(crate) fir: bool,
    pub(crate) remb: bool,
    /// The header extension number of transport-wide sequence numbers.
    pub(crate) transport_cc: Option<u8>,
    /// The header extension number of playout delays.
    pub(crate) playout_delay: Option<u8>,
    /// Several renditions of the same pictures come from the publisher.
    pub(crate) simulcast: Option<Simulcast>,
    /// What we send with.
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    /// What the peer announced.
    pub(crate) announced: Vec<u32>,
}

impl Medium {
    /// Ticks a second of its timestamps.
    pub(crate) const fn clock_rate(&self) -> u32 {
        match self.codec {
            Codec::Opus => 48_000,
            Codec::G711U | Codec::G711A => 8000,
            _ => 90_000,
        }
    }
}

/// Codings of the same pictures, each in a stream of its own (RFC 8853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Simulcast {
    /// Their names, in the order of the offer.
    pub(crate) rids: Vec<String>,
    /// The header extension numbers of the name, and of the name in a repair stream (RFC 8852).
    pub(crate) rid: u8,
    pub(crate) repaired: Option<u8>,
}

/// A data channel transport that both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// The longest message that the peer takes, if it said so; 0 is any.
    pub(crate) message_bytes_max: Option<u64>,
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) video: Option<Medium>,
    pub(crate) audio: Option<Medium>,
    pub(crate) data: Option<Data>,
    pub(crate) ufrag: String,
    pub(crate) fingerprint: Fingerprint,
    /// We speak first in the DTLS handshake.
    pub(crate) dtls_client: bool,
    /// The `mid` of each bundled section, media first, for ICE fragments.
    pub(crate) mids: Vec<(String, Option<String>)>,
}

/// Our side.
pub(crate) struct Local<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) fingerprint: &'a str,
    pub(crate) candidates: &'a [SocketAddr],
    pub(crate) transports: Transports,
    /// The stream that a viewer is going to get, as far as it is known.
    pub(crate) stream: Coded,
}

/// What is known of a stream's codings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coded {
    pub(crate) video: Option<Codec>,
    pub(crate) audio: Option<Codec>,
    /// `profile_idc` of H.264.
    pub(crate) profile: Option<u8>,
}

/// Answers an offer.
///
/// # Errors
/// What the offer lacks.
pub(crate) fn answer(
    offer: &Offer,
    role: Role,
    local: &Local<'_>,
) -> Result<(Agreed, String), Refused> {
    let mut chosen: Vec<Option<Medium>> = vec![None; offer.sections.len()];
    for kind in [Kind::Video, Kind::Audio] {
        let found = offer.sections.iter().enumerate().find_map(|(index, section)| {
            (section.kind == kind).then(|| Some((index, choose(section, role, local)?)))?
        });
        if let Some((index, medium)) = found {
            chosen[index] = Some(medium);
        }
    }
    let accepted: Vec<&Section> = offer
        .sections
        .iter()
        .zip(&chosen)
        .filter_map(|(section, medium)| medium.as_ref().map(|_| section))
        .collect();
    let Some(first) = accepted.first() else {
        return Err(Refused::Media(if role == Role::Viewer { "receive" } else { "send" }));
    };
    let bundled =
        |section: &&Section| section.mid.as_ref().is_some_and(|mid| offer.bundle.contains(mid));
    if accepted.len() > 1 && !accepted.iter().all(bundled) {
        return Err(Refused::Bundle);
    }
    if !accepted.iter().all(|section| section.rtcp_mux || section.bundle_only) {
        return Err(Refused::Mux);
    }
    let transport = transport(offer, first);
    let (Some(ufrag), Some(_)) = (transport.ufrag, transport.password) else {
        return Err(Refused::Ice);
    };
    let fingerprint = transport.fingerprints.into_iter().next().ok_or(Refused::Fingerprint)?;
    let dtls_client = transport.setup == Some(Setup::Passive);
    // Without a bundle there is no transport to share: such a channel is refused as ever.
    let data = offer
        .sections
        .iter()
        .position(|section| bundled(&section) && is_data_channel(section))
        .filter(|_| accepted.iter().all(bundled));
    let data_section = data.and_then(|index| offer.sections.get(index));
    let medium = |kind| {
        let both = offer.sections.iter().zip(&chosen);
        both.filter(|(section, _)| section.kind == kind).find_map(|(_, medium)| medium.clone())
    };
    let agreed = Agreed {
        video: medium(Kind::Video),
        audio: medium(Kind::Audio),
        data: data_section.map(|section| Data { message_bytes_max: section.message_bytes_max }),
        ufrag,
        fingerprint,
        dtls_client,
        mids: accepted
            .into_iter()
            .chain(data_section)
            .map(|section| (section.media.clone(), section.mid.clone()))
            .collect(),
    };
    let text = write(offer, &chosen, data, &agreed, role, local);
    Ok((agreed, text))
}

/// A bundled section may leave its transport to the first of its group (RFC 9143 7.1.3).
fn transport(offer: &Offer, first: &Section) -> Transport {
    let own = offer.transport(first);
    if own.ufrag.is_some() {
        return own;
    }
    offer
        .sections
        .iter()
        .filter(|section| section.mid.as_ref().is_some_and(|mid| offer.bundle.contains(mid)))
        .map(|section| offer.transport(section))
        .find(|transport| transport.ufrag.is_some())
        .unwrap_or(own)
}

/// Whether a section offers data channels in the form of RFC 8841.
fn is_data_channel(section: &Section) -> bool {
    section.media == "application"
        && section.protocol.ends_with("/DTLS/SCTP")
        && section.formats == "webrtc-datachannel"
        && (section.port != 0 || section.bundle_only)
}

fn choose(section: &Section, role: Role, local: &Local<'_>) -> Option<Medium> {
    let offered = section.port != 0 || section.bundle_only;
    let wanted = match role {
        Role::Publisher => section.direction.sends(),
        Role::Viewer => section.direction.receives(),
    };
    let secure = section.protocol.ends_with("RTP/SAVPF") || section.protocol.ends_with("RTP/SAVP");
    if !offered || !wanted || !secure {
        return None;
    }
    let stream = &local.stream;
    let (payload, codec) = match (role, section.kind) {
        (_, Kind::Other) => return None,
        (Role::Publisher, _) => formats::of_publisher(section)?,
        (Role::Viewer, Kind::Video) => formats::of_viewer(section, stream.video, stream.profile)?,
        (Role::Viewer, Kind::Audio) => formats::of_viewer(section, stream.audio, None)?,
    };
    let rtx = section.payloads.iter().find(|candidate| {
        candidate.name.eq_ignore_ascii_case("rtx")
            && candidate.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(payload.number)
    });
    let nack = payload.has_feedback("nack");
    // Numbers from 15 on need the two-byte form, which not every peer reads (RFC 8285 4.3).
    let extension = |uri| {
        let found =
            section.extensions.iter().find(|(id, have)| have == uri && (1..15).contains(id));
        found.map(|(id, _)| *id)
    };
    let mut announced = section.ssrcs.clone();
    announced.extend(section.repairs.iter().flat_map(|&(media, repair)| [media, repair]));
    Some(Medium {
        codec,
        payload_type: payload.number,
        rtx: rtx.filter(|_| nack).map(|rtx| rtx.number),
        nack,
        pli: payload.has_feedback("nack pli"),
        fir: payload.has_feedback("ccm fir"),
        remb: payload.has_feedback("goog-remb"),
        transport_cc: extension(TRANSPORT_CC_URI)
            .filter(|_| payload.has_feedback("transport-cc"))
            // A packet may carry one number only, and a repeat without RTX is the same packet.
            .filter(|_| role == Role::Publisher || rtx.is_some() || !nack),
        playout_delay: extension(PLAYOUT_DELAY_URI)
            .filter(|_| role == Role::Viewer && section.kind == Kind::Video),
        simulcast: extension(RID_URI).filter(|_| role == Role::Publisher).and_then(|rid| {
            let rids: Vec<String> = section.renditions().take(RENDITIONS_MAX).cloned().collect();
            let repaired = extension(REPAIRED_RID_URI);
            (rids.len() > 1).then_some(Simulcast { rids, rid, repaired })
        }),
        ssrc: random_ssrc(),
        rtx_ssrc: random_ssrc(),
        announced,
    })
}

fn random_ssrc() -> u32 {
    rand::rng().random_range(1..=u32::MAX)
}

fn write(
    offer: &Offer,
    chosen: &[Option<Medium>],
    data: Option<usize>,
    agreed: &Agreed,
    role: Role,
    local: &Local<'_>,
) -> String {
    let mut text = String::with_capacity(2048);
    let id = rand::rng().random_range(1..i64::MAX);
    let mids: Vec<&str> = agreed.mids.iter().filter_map(|(_, mid)| mid.as_deref()).collect();
    // Writing to a `String` cannot fail.
    let _ = write!(text, "v=0\r\no=- {id} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
    if !mids.is_empty() {
        let _ = write!(text, "a=group:BUNDLE {}\r\n", mids.join(" "));
    }
    text.push_str("a=ice-lite\r\na=msid-semantic: WMS *\r\n");
    for (index, (section, medium)) in offer.sections.iter().zip(chosen).enumerate() {
        let Some(medium) = medium else {
            if data == Some(index) {
                data_channel(&mut text, section, agreed, local);
            } else {
                refuse(&mut text, section);
            }
            continue;
        };
        let rtx = medium.rtx.map(|rtx| format!(" {rtx}")).unwrap_or_default();
        let (media, protocol) = (&section.media, &section.protocol);
        let _ = write!(
            text,
            "m={media} 9 {protocol} {}{rtx}\r\nc=IN IP4 0.0.0.0\r\n",
            medium.payload_type
        );
        if let Some(mid) = &section.mid {
            let _ = write!(text, "a=mid:{mid}\r\n");
        }
        text.push_str(match role {
            Role::Publisher => "a=recvonly\r\n",
            Role::Viewer => "a=sendonly\r\n",
        });
        ours(&mut text, agreed, local);
        text.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
        formats(&mut text, section, medium);
        if role == Role::Viewer {
            sources(&mut text, section.kind, medium);
        }
        text.push_str(&ice::candidate_lines(local.candidates, local.transports));
    }
    text
}

/// Our side of the transport.
fn ours(text: &mut String, agreed: &Agreed, local: &Local<'_>) {
    let _ = write!(
        text,
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{}\r\n",
        local.credentials.ufrag,
        local.credentials.password,
        local.fingerprint,
        if agreed.dtls_client { "active" } else { "passive" },
    );
}

/// A data channel on the transport of the media (RFC 8841).
fn data_channel(text: &mut String, section: &Section, agreed: &Agreed, local: &Local<'_>) {
    let _ = write!(
        text,
        "m=application 9 {} webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n",
        section.protocol
    );
    if let Some(mid) = &section.mid {
        let _ = write!(text, "a=mid:{mid}\r\n");
    }
    ours(text, agreed, local);
    let (port, most) = (sctp::PORT, sctp::MESSAGE_BYTES_MAX);
    let _ = write!(text, "a=sctp-port:{port}\r\na=max-message-size:{most}\r\n");
    text.push_str(&ice::candidate_lines(local.candidates, local.transports));
}

/// Port 0, and the formats as they came (RFC 3264 6).
fn refuse(text: &mut String, section: &Section) {
    let formats = if section.formats.is_empty() { "0" } else { &section.formats };
    let _ = write!(
        text,
        "m={} 0 {} {formats}\r\nc=IN IP4 0.0.0.0\r\n",
        section.media, section.protocol
    );
    if let Some(mid) = &section.mid {
        let _ = write!(text, "a=mid:{mid}\r\n");
    }
    if section.kind != Kind::Other {
        text.push_str("a=inactive\r\n");
    }
}

fn formats(text: &mut String, section: &Section, medium: &Medium) {
    let number = medium.payload_type;
    let Some(payload) = section.payloads.iter().find(|p| p.number == number) else { return };
    formats::describe(text, payload, medium.codec);
    let feedback = [
        (medium.nack, "nack"),
        (medium.pli, "nack pli"),
        (medium.fir, "ccm fir"),
        (medium.transport_cc.is_some(), "transport-cc"),
        (medium.remb && medium.transport_cc.is_none(), "goog-remb"),
    ];
    for (_, name) in feedback.iter().filter(|(on, _)| *on) {
        let _ = write!(text, "a=rtcp-fb:{number} {name}\r\n");
    }
    if let Some(rtx) = medium.rtx {
        let clock = payload.clock;
        let _ = write!(text, "a=rtpmap:{rtx} rtx/{clock}\r\na=fmtp:{rtx} apt={number}\r\n");
    }
    let simulcast = medium.simulcast.as_ref();
    let extensions = [
        (medium.transport_cc, TRANSPORT_CC_URI),
        (medium.playout_delay, PLAYOUT_DELAY_URI),
        (simulcast.map(|simulcast| simulcast.rid), RID_URI),
        (simulcast.and_then(|simulcast| simulcast.repaired), REPAIRED_RID_URI),
    ];
    for (id, uri) in extensions {
        if let Some(id) = id {
            let _ = write!(text, "a=extmap:{id} {uri}\r\n");
        }
    }
    if let Some(Simulcast { rids, .. }) = simulcast {
        for rid in rids {
            let _ = write!(text, "a=rid:{rid} recv\r\n");
        }
        let _ = write!(text, "a=simulcast:recv {}\r\n", rids.join(";"));
    }
}

fn sources(text: &mut String, kind: Kind, medium: &Medium) {
    let track = if kind == Kind::Audio { "audio" } else { "video" };
    let _ = write!(text, "a=msid:{CNAME} {track}\r\n");
    if medium.rtx.is_some() {
        let _ = write!(text, "a=ssrc-group:FID {} {}\r\n", medium.ssrc, medium.rtx_ssrc);
    }
    let repair = medium.rtx.map(|_| medium.rtx_ssrc);
    for ssrc in [Some(medium.ssrc), repair].into_iter().flatten() {
        let _ =
            write!(text, "a=ssrc:{ssrc} cname:{CNAME}\r\na=ssrc:{ssrc} msid:{CNAME} {track}\r\n");
    }
}

/// The answer to an ICE restart (RFC 9725 4.3.3): new credentials and the same candidates.
pub(crate) fn restart_fragment(
    mids: &[(String, Option<String>)],
    credentials: &Credentials,
    candidates: &[SocketAddr],
    transports: Transports,
) -> String {
    let bundled: Vec<&str> = mids.iter().filter_map(|(_, mid)| mid.as_deref()).collect();
    let mut text = String::new();
    if !bundled.is_empty() {
        let _ = write!(text, "a=group:BUNDLE {}\r\n", bundled.join(" "));
    }
    let (ufrag, password) = (&credentials.ufrag, &credentials.password);
    let _ = write!(text, "a=ice-lite\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
    for (media, mid) in mids.iter().take(1) {
        let _ = write!(text, "m={media} 9 UDP/TLS/RTP/SAVPF 0\r\n");
        if let Some(mid) = mid {
            let _ = write!(text, "a=mid:{mid}\r\n");
        }
    }
    text.push_str(&ice::candidate_lines(candidates, transports));
    text
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
