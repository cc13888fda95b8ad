//! Our offers: to a WHIP server of what a stream has (RFC 9725), to a WHEP server of everything that
//! we can take.

use std::fmt::Write;
use std::net::SocketAddr;

use pipeline::Tracks;

use crate::rtp::packet::TRANSPORT_CC_URI;
use crate::webrtc::answer::CNAME;
use crate::webrtc::ice::{Credentials, Transports, candidate_lines};

/// Payload types of what is sent.
pub(super) const PICTURES: u8 = 96;
pub(super) const REPAIR: u8 = 97;
pub(super) const SOUND: u8 = 111;

/// The extension number of transport-wide sequence numbers.
pub(super) const TRANSPORT_CC: u8 = 3;

/// Codings of pictures that are taken, each followed by the number of its repair: as they come, the
/// ones that most readers take first. H.264 in the profiles that WebRTC servers tell apart.
const TAKEN: [(u8, &str, &str); 7] = [
    (96, "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (98, "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"),
    (100, "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"),
    (102, "H265/90000", ""),
    (104, "VP8/90000", ""),
    (106, "VP9/90000", "profile-id=0"),
    (108, "AV1/90000", ""),
];

/// Codings of sound that are taken.
const HEARD: [(u8, &str, &str); 3] = [
    (111, "opus/48000/2", "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"),
    (0, "PCMU/8000", ""),
    (8, "PCMA/8000", ""),
];

/// Our side of a session.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) credentials: Credentials,
    pub(super) fingerprint: String,
    /// Where we are, as far as that is known.
    pub(super) local: SocketAddr,
    /// Random numbers of our sources: pictures, their repair, sound. A receiver reports under them.
    pub(super) sources: [u32; 3],
}

// Writing to a `String` cannot fail.
impl Ours {
    /// The offer of H.264 and Opus, of what the stream has of both.
    pub(super) fn to_send(&self, tracks: &Tracks) -> String {
        let mids: Vec<&str> =
            [tracks.video.as_ref().map(|_| "0"), tracks.audio.as_ref().map(|_| "1")]
                .into_iter()
                .flatten()
                .collect();
        let mut text = self.head(&mids);
        if let Some(video) = &tracks.video {
            let level = profile_level(&video.parameter_sets);
            let [ssrc, repair, _] = self.sources;
            let _ = write!(text, "m=video 9 UDP/TLS/RTP/SAVPF {PICTURES} {REPAIR}\r\na=mid:0\r\n");
            self.transport(&mut text, "sendonly");
            let parameters =
                format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={level}");
            picture(&mut text, (PICTURES, "H264/90000", &parameters));
            let _ = write!(
                text,
                "a=extmap:{TRANSPORT_CC} {TRANSPORT_CC_URI}\r\na=msid:{CNAME} video\r\n\
                 a=ssrc-group:FID {ssrc} {repair}\r\na=ssrc:{ssrc} cname:{CNAME}\r\n\
                 a=ssrc:{repair} cname:{CNAME}\r\n"
            );
        }
        if tracks.audio.is_some() {
            let ssrc = self.sources[2];
            let _ = write!(text, "m=audio 9 UDP/TLS/RTP/SAVPF {SOUND}\r\na=mid:1\r\n");
            self.transport(&mut text, "sendonly");
            sound(&mut text, HEARD[0]);
            let _ = write!(text, "a=msid:{CNAME} audio\r\na=ssrc:{ssrc} cname:{CNAME}\r\n");
        }
        text
    }

    /// The offer to take pictures and sound in whatever coding they are.
    pub(super) fn to_receive(&self) -> String {
        let mut text = self.head(&["0", "1"]);
        let numbers = TAKEN.map(|(number, ..)| format!("{number} {}", number + 1)).join(" ");
        let _ = write!(text, "m=video 9 UDP/TLS/RTP/SAVPF {numbers}\r\na=mid:0\r\n");
        self.transport(&mut text, "recvonly");
        TAKEN.into_iter().for_each(|taken| picture(&mut text, taken));
        let _ = write!(text, "a=extmap:{TRANSPORT_CC} {TRANSPORT_CC_URI}\r\n");
        let numbers = HEARD.map(|(number, ..)| number.to_string()).join(" ");
        let _ = write!(text, "m=audio 9 UDP/TLS/RTP/SAVPF {numbers}\r\na=mid:1\r\n");
        self.transport(&mut text, "recvonly");
        HEARD.into_iter().for_each(|heard| sound(&mut text, heard));
        text
    }

    fn head(&self, mids: &[&str]) -> String {
        let mut text = String::with_capacity(4096);
        let _ = write!(
            text,
            "v=0\r\no=- {} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
             a=msid-semantic: WMS *\r\n",
            u64::from(self.sources[0]) << 31 | u64::from(self.sources[2]) >> 1,
            mids.join(" "),
        );
        text
    }

    fn transport(&self, text: &mut String, direction: &str) {
        let Credentials { ufrag, password } = &self.credentials;
        let _ = write!(
            text,
            "c=IN IP4 0.0.0.0\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
             a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=fingerprint:sha-256 {}\r\n\
             a=setup:actpass\r\n{}",
            self.fingerprint,
            candidate_lines(&[self.local], Transports { udp: true, tcp: false }),
        );
    }
}

/// A coding of pictures, with the feedback on it and its repair, whose number is the next.
fn picture(text: &mut String, (number, map, parameters): (u8, &str, &str)) {
    sound(text, (number, map, parameters));
    let repair = number + 1;
    let _ = write!(
        text,
        "a=rtcp-fb:{number} nack\r\na=rtcp-fb:{number} nack pli\r\na=rtcp-fb:{number} ccm fir\r\n\
         a=rtcp-fb:{number} transport-cc\r\n\
         a=rtpmap:{repair} rtx/90000\r\na=fmtp:{repair} apt={number}\r\n"
    );
}

fn sound(text: &mut String, (number, map, parameters): (u8, &str, &str)) {
    let _ = write!(text, "a=rtpmap:{number} {map}\r\n");
    if !parameters.is_empty() {
        let _ = write!(text, "a=fmtp:{number} {parameters}\r\n");
    }
}

/// Profile, constraints and level of the sequence parameter set, in hexadecimal; constrained
/// baseline 3.1 where there is none.
fn profile_level(sets: &[u8]) -> String {
    let sps = |w: &[u8]| (w[..3] == [0, 0, 1] && w[3] & 0x1f == 7).then(|| hex::encode(&w[4..7]));
    sets.windows(7).find_map(sps).unwrap_or_else(|| "42e01f".into())
}
