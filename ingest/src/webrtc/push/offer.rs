//! Our offer to a WHIP server (RFC 9725), and what its answer agrees to.

use std::fmt::Write;
use std::net::SocketAddr;

use pipeline::{Codec, Tracks};

use super::checks::CANDIDATES_MAX;
use crate::rtp::packet::TRANSPORT_CC_URI;
use crate::webrtc::Role;
use crate::webrtc::answer::{Agreed, CNAME, Medium};
use crate::webrtc::formats;
use crate::webrtc::ice::{Credentials, Transports, candidate_lines};
use crate::webrtc::sdp::{Kind, Offer, Section, Setup};

/// Payload types of ours.
const PICTURES: u8 = 96;
const REPAIR: u8 = 97;
const SOUND: u8 = 111;

/// The extension number of transport-wide sequence numbers.
const TRANSPORT_CC: u8 = 3;

/// Why an answer cannot be used. All are the server's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("it takes neither picture nor sound")]
    Nothing,
    #[error("it refuses the pictures (H.264)")]
    Pictures,
    #[error("it has no ICE credentials")]
    Ice,
    #[error("it has no fingerprint with SHA-256 or better")]
    Fingerprint,
    #[error("it has no candidate for UDP")]
    Candidates,
    #[error("its DTLS role is not active or passive")]
    Setup,
}

/// What is offered of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Ours {
    pub(crate) credentials: Credentials,
    pub(crate) fingerprint: String,
    /// Where we are, as far as that is known.
    pub(crate) local: SocketAddr,
    /// Random numbers of our sources: pictures, their repair, sound.
    pub(crate) sources: [u32; 3],
}

/// What both sides agreed on, and where the server is.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) agreed: Agreed,
    pub(crate) theirs: Credentials,
    pub(crate) candidates: Vec<SocketAddr>,
}

impl Ours {
    /// The offer of H.264 and Opus, of what the stream has of both.
    pub(crate) fn offer(&self, tracks: &Tracks) -> String {
        let mut text = String::with_capacity(2048);
        let mids: Vec<&str> =
            [tracks.video.as_ref().map(|_| "0"), tracks.audio.as_ref().map(|_| "1")]
                .into_iter()
                .flatten()
                .collect();
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "v=0\r\no=- {} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
             a=msid-semantic: WMS *\r\n",
            u64::from(self.sources[0]) << 31 | u64::from(self.sources[2]) >> 1,
            mids.join(" "),
        );
        if let Some(video) = &tracks.video {
            let level = profile_level(&video.parameter_sets);
            let [ssrc, repair, _] = self.sources;
            let _ = write!(text, "m=video 9 UDP/TLS/RTP/SAVPF {PICTURES} {REPAIR}\r\na=mid:0\r\n");
            self.transport(&mut text);
            let _ = write!(
                text,
                "a=rtpmap:{PICTURES} H264/90000\r\n\
                 a=fmtp:{PICTURES} level-asymmetry-allowed=1;packetization-mode=1;\
                 profile-level-id={level}\r\n\
                 a=rtcp-fb:{PICTURES} nack\r\na=rtcp-fb:{PICTURES} nack pli\r\n\
                 a=rtcp-fb:{PICTURES} ccm fir\r\na=rtcp-fb:{PICTURES} transport-cc\r\n\
                 a=rtpmap:{REPAIR} rtx/90000\r\na=fmtp:{REPAIR} apt={PICTURES}\r\n\
                 a=extmap:{TRANSPORT_CC} {TRANSPORT_CC_URI}\r\na=msid:{CNAME} video\r\n\
                 a=ssrc-group:FID {ssrc} {repair}\r\na=ssrc:{ssrc} cname:{CNAME}\r\n\
                 a=ssrc:{repair} cname:{CNAME}\r\n"
            );
        }
        if tracks.audio.is_some() {
            let ssrc = self.sources[2];
            let _ = write!(text, "m=audio 9 UDP/TLS/RTP/SAVPF {SOUND}\r\na=mid:1\r\n");
            self.transport(&mut text);
            let _ = write!(
                text,
                "a=rtpmap:{SOUND} opus/48000/2\r\n\
                 a=fmtp:{SOUND} minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1\r\n\
                 a=msid:{CNAME} audio\r\na=ssrc:{ssrc} cname:{CNAME}\r\n"
            );
        }
        text
    }

    fn transport(&self, text: &mut String) {
        let Credentials { ufrag, password } = &self.credentials;
        let _ = write!(
            text,
            "c=IN IP4 0.0.0.0\r\na=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=ice-ufrag:{ufrag}\r\n\
             a=ice-pwd:{password}\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\n{}",
            self.fingerprint,
            candidate_lines(&[self.local], Transports { udp: true, tcp: false }),
        );
    }

    /// What an answer to [`Self::offer`] agrees to.
    ///
    /// # Errors
    /// What it lacks.
    pub(crate) fn answered(
        &self,
        tracks: &Tracks,
        answer: &Offer,
    ) -> Result<Answered, AnswerError> {
        let taken = |kind| {
            let takes = |section: &&Section| {
                section.kind == kind && section.port != 0 && section.direction.receives()
            };
            answer.sections.iter().find(takes)
        };
        let [ssrc, rtx_ssrc, sound_ssrc] = self.sources;
        let video = tracks
            .video
            .as_ref()
            .and_then(|video| medium(taken(Kind::Video)?, video.codec, (ssrc, rtx_ssrc)));
        let audio = tracks
            .audio
            .as_ref()
            .and_then(|audio| medium(taken(Kind::Audio)?, audio.codec, (sound_ssrc, 0)));
        if tracks.video.is_some() && video.is_none() {
            return Err(AnswerError::Pictures);
        }
        let kind = if video.is_some() { Kind::Video } else { Kind::Audio };
        let Some(first) = taken(kind).filter(|_| video.is_some() || audio.is_some()) else {
            return Err(AnswerError::Nothing);
        };
        let transport = answer.transport(first);
        let (Some(ufrag), Some(password)) = (transport.ufrag, transport.password) else {
            return Err(AnswerError::Ice);
        };
        let fingerprint = transport.fingerprints.into_iter().next();
        let fingerprint = fingerprint.ok_or(AnswerError::Fingerprint)?;
        let dtls_client = match transport.setup {
            Some(Setup::Passive) => true,
            Some(Setup::Active) => false,
            Some(Setup::ActPass) | None => return Err(AnswerError::Setup),
        };
        let four = self.local.is_ipv4();
        let mut candidates: Vec<SocketAddr> = Vec::new();
        for address in answer.sections.iter().flat_map(|section| &section.candidates) {
            if address.is_ipv4() == four && !candidates.contains(address) {
                candidates.push(*address);
            }
        }
        candidates.truncate(CANDIDATES_MAX);
        if candidates.is_empty() {
            return Err(AnswerError::Candidates);
        }
        let agreed = Agreed {
            video,
            audio,
            data: None,
            ufrag: ufrag.clone(),
            fingerprint,
            dtls_client,
            mids: Vec::new(),
        };
        Ok(Answered { agreed, theirs: Credentials { ufrag, password }, candidates })
    }
}

/// What a section of the answer agrees to of ours.
fn medium(section: &Section, codec: Codec, (ssrc, rtx_ssrc): (u32, u32)) -> Option<Medium> {
    let payload =
        section.payloads.iter().find(|p| formats::codec(p, Role::Publisher) == Some(codec))?;
    let number = payload.number;
    let repairs = |apt: &str| apt.parse() == Ok(number);
    let rtx = section.payloads.iter().find(|payload| {
        payload.name.eq_ignore_ascii_case("rtx") && payload.parameter("apt").is_some_and(repairs)
    });
    let nack = payload.has_feedback("nack");
    let rtx = rtx.filter(|_| nack).map(|rtx| rtx.number);
    let numbered = |(id, uri): &&(u8, String)| uri == TRANSPORT_CC_URI && (1..15).contains(id);
    let transport_cc = section.extensions.iter().find(numbered).map(|(id, _)| *id);
    Some(Medium {
        codec,
        payload_type: number,
        rtx,
        nack,
        pli: payload.has_feedback("nack pli"),
        fir: payload.has_feedback("ccm fir"),
        remb: false,
        // Where packets are reported on, repeats have a stream of their own.
        transport_cc: transport_cc
            .filter(|_| payload.has_feedback("transport-cc") && (rtx.is_some() || !nack)),
        playout_delay: None,
        simulcast: None,
        ssrc,
        rtx_ssrc,
        announced: section.ssrcs.clone(),
    })
}

/// Profile, constraints and level of the sequence parameter set, in hexadecimal; constrained
/// baseline 3.1 where there is none.
fn profile_level(sets: &[u8]) -> String {
    let sps = |w: &[u8]| (w[..3] == [0, 0, 1] && w[3] & 0x1f == 7).then(|| hex::encode(&w[4..7]));
    sets.windows(7).find_map(sps).unwrap_or_else(|| "42e01f".into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipeline::Size;
    use pipeline::packet::{AudioTrack, VideoTrack};

    use super::*;
    use crate::webrtc::answer::{Coded, Local, answer};

    fn tracks() -> Tracks {
        let sets = Bytes::from_static(&[0, 0, 0, 1, 0x67, 0x64, 0x00, 0x1f, 0xac]);
        let size = Size::new(640, 360);
        let video = VideoTrack { codec: Codec::H264, size, parameter_sets: sets };
        let (sample_rate, channels, config) = (48_000, 2, Bytes::new());
        let audio = AudioTrack { codec: Codec::Opus, sample_rate, channels, config };
        Tracks { video: Some(video), audio: Some(audio) }
    }

    fn ours() -> Ours {
        Ours {
            credentials: Credentials { ufrag: "ours".into(), password: "p".repeat(24) },
            fingerprint: ["AB"; 32].join(":"),
            local: SocketAddr::from(([192, 0, 2, 1], 4711)),
            sources: [7, 8, 9],
        }
    }

    /// What a server of ours says to an offer.
    fn answered_by_us(offer: &str) -> String {
        let credentials = Credentials { ufrag: "theirs".into(), password: "q".repeat(24) };
        let local = Local {
            credentials: &credentials,
            fingerprint: &["CD"; 32].join(":"),
            candidates: &[SocketAddr::from(([192, 0, 2, 2], 8189))],
            transports: Transports { udp: true, tcp: true },
            stream: Coded::default(),
        };
        let offer = Offer::parse(offer.as_bytes()).unwrap();
        answer(&offer, Role::Publisher, &local).unwrap().1
    }

    #[test]
    fn our_own_server_takes_the_offer_and_we_take_its_answer() {
        let (ours, tracks) = (ours(), tracks());
        let offer = ours.offer(&tracks);
        assert!(offer.contains("profile-level-id=64001f"), "{offer}");
        let text = answered_by_us(&offer);
        let answer = Offer::parse(text.as_bytes()).unwrap();
        let Answered { agreed, theirs, candidates } = ours.answered(&tracks, &answer).unwrap();
        let video = agreed.video.unwrap();
        assert_eq!((video.payload_type, video.rtx, video.ssrc), (PICTURES, Some(REPAIR), 7));
        assert!(video.nack && video.pli && video.transport_cc == Some(TRANSPORT_CC));
        assert_eq!(agreed.audio.unwrap().payload_type, SOUND);
        assert!(agreed.dtls_client);
        assert_eq!(theirs.ufrag, "theirs");
        assert_eq!(candidates, [SocketAddr::from(([192, 0, 2, 2], 8189))]);
    }

    #[test]
    fn an_answer_that_lacks_something_is_refused_with_the_reason() {
        let (ours, tracks) = (ours(), tracks());
        let text = answered_by_us(&ours.offer(&tracks));
        let check = |from: &str, to: &str, wanted| {
            let bent = text.replace(from, to);
            assert_ne!(bent, text, "{from}");
            let answer = Offer::parse(bent.as_bytes()).unwrap();
            assert_eq!(ours.answered(&tracks, &answer).unwrap_err(), wanted, "{from}");
        };
        check("m=video 9", "m=video 0", AnswerError::Pictures);
        check("H264/", "H999/", AnswerError::Pictures);
        check("a=recvonly", "a=inactive", AnswerError::Pictures);
        check("a=ice-ufrag:theirs", "a=x", AnswerError::Ice);
        check("a=fingerprint:sha-256", "a=fingerprint:sha-1", AnswerError::Fingerprint);
        check("a=setup:passive", "a=setup:actpass", AnswerError::Setup);
        check(" udp ", " tcp ", AnswerError::Candidates);
    }

    #[test]
    fn sound_alone_is_enough_where_there_is_no_picture() {
        let (ours, tracks) = (ours(), Tracks { video: None, ..tracks() });
        let text = answered_by_us(&ours.offer(&tracks));
        let answer = Offer::parse(text.as_bytes()).unwrap();
        let agreed = ours.answered(&tracks, &answer).unwrap().agreed;
        assert!(agreed.video.is_none() && agreed.audio.is_some());
        let none = text.replace("m=audio 9", "m=audio 0");
        let none = Offer::parse(none.as_bytes()).unwrap();
        assert_eq!(ours.answered(&tracks, &none).unwrap_err(), AnswerError::Nothing);
    }
}
