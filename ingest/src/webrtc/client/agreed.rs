//! What a server's answer to an offer of ours agrees to.

use std::net::SocketAddr;

use pipeline::{Codec, Tracks};

use super::checks::CANDIDATES_MAX;
use super::offer::Ours;
use crate::rtp::packet::TRANSPORT_CC_URI;
use crate::webrtc::Role;
use crate::webrtc::answer::{Agreed, Medium};
use crate::webrtc::formats;
use crate::webrtc::ice::Credentials;
use crate::webrtc::sdp::{Kind, Offer, Section, Setup};

/// Why an answer cannot be used. All are the server's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("it takes neither picture nor sound")]
    Nothing,
    #[error("it refuses the pictures (H.264)")]
    Pictures,
    #[error("it gives neither picture nor sound in a coding that was offered")]
    Nowhere,
    #[error("it has no ICE credentials")]
    Ice,
    #[error("it has no fingerprint with SHA-256 or better")]
    Fingerprint,
    #[error("it has no candidate for UDP that can be reached from here")]
    Candidates,
    #[error("its DTLS role is not active or passive")]
    Setup,
}

/// What both sides agreed on, and where the server is.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) agreed: Agreed,
    pub(super) theirs: Credentials,
    pub(super) candidates: Vec<SocketAddr>,
}

impl Ours {
    /// What an answer to [`Self::to_send`] agrees to.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn sending(&self, tracks: &Tracks, answer: &Offer) -> Result<Answered, AnswerError> {
        let taken = |kind| accepted(answer, kind, |section| section.direction.receives());
        let [ssrc, rtx_ssrc, sound_ssrc] = self.sources;
        let video = tracks
            .video
            .as_ref()
            .and_then(|video| medium(taken(Kind::Video)?, Some(video.codec), (ssrc, rtx_ssrc)));
        let audio = tracks
            .audio
            .as_ref()
            .and_then(|audio| medium(taken(Kind::Audio)?, Some(audio.codec), (sound_ssrc, 0)));
        if tracks.video.is_some() && video.is_none() {
            return Err(AnswerError::Pictures);
        }
        let kind = if video.is_some() { Kind::Video } else { Kind::Audio };
        let Some(first) = taken(kind).filter(|_| video.is_some() || audio.is_some()) else {
            return Err(AnswerError::Nothing);
        };
        // Where packets are reported on, repeats have a stream of their own.
        let own = |medium: Medium| Medium {
            transport_cc: medium.transport_cc.filter(|_| medium.rtx.is_some() || !medium.nack),
            ..medium
        };
        self.transport_of(answer, first, (video.map(own), audio.map(own)))
    }

    /// What an answer to [`Self::to_receive`] agrees to: the first coding of each kind that it names.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn receiving(&self, answer: &Offer) -> Result<Answered, AnswerError> {
        let given = |kind| accepted(answer, kind, |section| section.direction.sends());
        let [ssrc, _, sound_ssrc] = self.sources;
        let video = given(Kind::Video).and_then(|section| medium(section, None, (ssrc, 0)));
        let audio = given(Kind::Audio).and_then(|section| medium(section, None, (sound_ssrc, 0)));
        let kind = if video.is_some() { Kind::Video } else { Kind::Audio };
        let Some(first) = given(kind).filter(|_| video.is_some() || audio.is_some()) else {
            return Err(AnswerError::Nowhere);
        };
        self.transport_of(answer, first, (video, audio))
    }

    fn transport_of(
        &self,
        answer: &Offer,
        first: &Section,
        (video, audio): (Option<Medium>, Option<Medium>),
    ) -> Result<Answered, AnswerError> {
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

/// The section of a kind that the server did not refuse.
fn accepted(answer: &Offer, kind: Kind, goes: impl Fn(&Section) -> bool) -> Option<&Section> {
    let mut sections = answer.sections.iter();
    sections.find(|section| section.kind == kind && section.port != 0 && goes(section))
}

/// What a section of the answer agrees to of ours: this coding, or the first that it names.
fn medium(
    section: &Section,
    wanted: Option<Codec>,
    (ssrc, rtx_ssrc): (u32, u32),
) -> Option<Medium> {
    let mut known = section
        .payloads
        .iter()
        .filter_map(|payload| Some((payload, formats::codec(payload, Role::Publisher)?)));
    let (payload, codec) = known.find(|(_, codec)| wanted.is_none_or(|wanted| wanted == *codec))?;
    let number = payload.number;
    let repairs = |apt: &str| apt.parse() == Ok(number);
    let rtx = section.payloads.iter().find(|payload| {
        payload.name.eq_ignore_ascii_case("rtx") && payload.parameter("apt").is_some_and(repairs)
    });
    let nack = payload.has_feedback("nack");
    let rtx = rtx.filter(|_| nack).map(|rtx| rtx.number);
    let numbered = |(id, uri): &&(u8, String)| uri == TRANSPORT_CC_URI && (1..15).contains(id);
    let transport_cc = section.extensions.iter().find(numbered).map(|(id, _)| *id);
    let mut announced = section.ssrcs.clone();
    for ssrc in section.repairs.iter().flat_map(|&(media, repair)| [media, repair]) {
        if !announced.contains(&ssrc) {
            announced.push(ssrc);
        }
    }
    Some(Medium {
        codec,
        payload_type: number,
        rtx,
        nack,
        pli: payload.has_feedback("nack pli"),
        fir: payload.has_feedback("ccm fir"),
        remb: false,
        transport_cc: transport_cc.filter(|_| payload.has_feedback("transport-cc")),
        playout_delay: None,
        simulcast: None,
        ssrc,
        rtx_ssrc,
        announced,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipeline::Size;
    use pipeline::packet::{AudioTrack, VideoTrack};

    use super::super::offer::{PICTURES, REPAIR, SOUND, TRANSPORT_CC};
    use super::*;
    use crate::webrtc::answer::{Coded, Local, answer};
    use crate::webrtc::ice::Transports;

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
    fn answered_by_us(offer: &str, role: Role, stream: Coded) -> String {
        let credentials = Credentials { ufrag: "theirs".into(), password: "q".repeat(24) };
        let local = Local {
            credentials: &credentials,
            fingerprint: &["CD"; 32].join(":"),
            candidates: &[SocketAddr::from(([192, 0, 2, 2], 8189))],
            transports: Transports { udp: true, tcp: true },
            stream,
        };
        let offer = Offer::parse(offer.as_bytes()).unwrap();
        answer(&offer, role, &local).unwrap().1
    }

    fn publishing(offer: &str) -> String {
        answered_by_us(offer, Role::Publisher, Coded::default())
    }

    #[test]
    fn our_own_server_takes_the_offer_and_we_take_its_answer() {
        let (ours, tracks) = (ours(), tracks());
        let offer = ours.to_send(&tracks);
        assert!(offer.contains("profile-level-id=64001f"), "{offer}");
        let answer = Offer::parse(publishing(&offer).as_bytes()).unwrap();
        let Answered { agreed, theirs, candidates } = ours.sending(&tracks, &answer).unwrap();
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
        let text = publishing(&ours.to_send(&tracks));
        let check = |from: &str, to: &str, wanted| {
            let bent = text.replace(from, to);
            assert_ne!(bent, text, "{from}");
            let answer = Offer::parse(bent.as_bytes()).unwrap();
            assert_eq!(ours.sending(&tracks, &answer).unwrap_err(), wanted, "{from}");
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
        let text = publishing(&ours.to_send(&tracks));
        let answer = Offer::parse(text.as_bytes()).unwrap();
        let agreed = ours.sending(&tracks, &answer).unwrap().agreed;
        assert!(agreed.video.is_none() && agreed.audio.is_some());
        let none = text.replace("m=audio 9", "m=audio 0");
        let none = Offer::parse(none.as_bytes()).unwrap();
        assert_eq!(ours.sending(&tracks, &none).unwrap_err(), AnswerError::Nothing);
    }

    #[test]
    fn our_own_server_gives_a_stream_of_any_coding_as_it_is_and_we_take_it() {
        let (ours, offer) = (ours(), ours().to_receive());
        for video in [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Vp9, Codec::Av1] {
            for audio in [Codec::Opus, Codec::G711U, Codec::G711A] {
                let stream = Coded { video: Some(video), audio: Some(audio), profile: Some(0x64) };
                let text = answered_by_us(&offer, Role::Viewer, stream);
                let answer = Offer::parse(text.as_bytes()).unwrap();
                let agreed = ours.receiving(&answer).unwrap().agreed;
                let (pictures, sound) = (agreed.video.unwrap(), agreed.audio.unwrap());
                assert_eq!((pictures.codec, sound.codec), (video, audio));
                assert_eq!(pictures.rtx, Some(pictures.payload_type + 1));
                assert!(pictures.nack && pictures.pli && pictures.transport_cc.is_some());
                assert_eq!(pictures.announced.len(), 2, "its source and that of its repair");
                assert_eq!((pictures.ssrc, sound.ssrc), (7, 9), "what reports go under");
            }
        }
        let stream = Coded { video: Some(Codec::H264), audio: None, profile: Some(0x64) };
        let text = answered_by_us(&offer, Role::Viewer, stream);
        assert!(text.contains("profile-level-id=64001f"), "{text}");
    }

    #[test]
    fn an_answer_that_gives_nothing_is_refused() {
        let (ours, offer) = (ours(), ours().to_receive());
        let text = answered_by_us(&offer, Role::Viewer, Coded::default());
        for (from, to) in [("a=sendonly", "a=inactive"), ("m=", "m=x-")] {
            let bent = text.replace(from, to);
            let answer = Offer::parse(bent.as_bytes()).unwrap();
            assert_eq!(ours.receiving(&answer).unwrap_err(), AnswerError::Nowhere, "{from}");
        }
        let sound = text.replace("m=video 9", "m=video 0");
        let answer = Offer::parse(sound.as_bytes()).unwrap();
        let agreed = ours.receiving(&answer).unwrap().agreed;
        assert!(agreed.video.is_none() && agreed.audio.is_some());
    }
}
