//! Targets for the fuzzer: everything here that reads what strangers wrote.

use std::net::SocketAddr;

use rtc_srtp::crypto::default_provider;

use super::Role;
use super::answer::{self, Local};
use super::http::Route;
use super::ice::Credentials;
use super::mux::Content;
use super::sdp::Offer;
use super::stun::Check;

/// A viewer's offer with all that an answer looks at.
pub const OFFER_SEEDS: &[&[u8]] = &[
    b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
      a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
      a=fingerprint:sha-256 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:\
      00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\n\
      m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
      a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n\
      a=rtcp-fb:96 nack\r\na=rtcp-fb:* nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
      a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
      a=ssrc-group:FID 7 8\r\na=ssrc:7 cname:x\r\n\
      m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n",
    b"v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n",
];

/// A trickled candidate and a restart.
pub const FRAGMENT_SEEDS: &[&[u8]] = &[
    b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
      a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
      a=end-of-candidates\r\n",
    b"a=group:BUNDLE 0 1\r\na=ice-options:trickle ice2\r\na=ice-ufrag:ysXw\r\n\
      a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n",
];

/// A binding request with a user name and an integrity that nobody made, and other first bytes.
pub const DATAGRAM_SEEDS: &[&[u8]] = &[
    b"\x00\x01\x00\x30\x21\x12\xa4\x42abcdefghijkl\x00\x06\x00\x09ours:peer\0\0\0\
      \x00\x08\x00\x1401234567890123456789\x00\x25\x00\x00\x80\x28\x00\x00",
    b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\x01\0",
    b"\x80\x60\0\x01\0\0\0\x02\0\0\0\x03payload",
];

/// Session and stream URLs.
pub const PATH_SEEDS: &[&[u8]] = &[b"/studio/cam/whip", b"/cam/whep/s3cret"];

/// Reads an offer and answers it for both roles. An answer is itself a session description.
pub fn offer(bytes: &[u8]) {
    let Ok(offer) = Offer::parse(bytes) else { return };
    let credentials = Credentials { ufrag: "ours".into(), password: "0".repeat(32) };
    let candidates = [SocketAddr::from(([127, 0, 0, 1], 8189))];
    let local = Local {
        credentials: &credentials,
        fingerprint: "00",
        candidates: &candidates,
        profile: None,
    };
    for role in [Role::Viewer, Role::Publisher] {
        if let Ok((agreed, text)) = answer::answer(&offer, role, &local) {
            assert!(agreed.video.is_some() || agreed.audio.is_some());
            let lines = text.lines().filter(|line| line.starts_with("m="));
            assert_eq!(lines.count(), offer.sections.len(), "{text}");
            assert!(text.lines().all(|line| line.as_bytes().get(1) == Some(&b'=')), "{text}");
        }
    }
}

/// Reads the body of a PATCH.
pub fn fragment(bytes: &[u8]) {
    if let Ok(fragment) = Offer::parse_fragment(bytes) {
        let first = fragment.sections.first().map(|section| fragment.transport(section));
        assert!(first.is_none_or(|transport| transport.fingerprints.len() <= 128));
    }
}

/// Tells what a datagram is and takes it for a check, whose password nobody can guess.
pub fn datagram(bytes: &[u8]) {
    let content = Content::of(bytes);
    if let Some(mut check) = Check::parse(bytes) {
        assert_eq!(content, Content::Stun);
        assert!(check.ours().len() + check.theirs().len() < bytes.len());
        if let Ok(provider) = default_provider() {
            assert_eq!(check.verify("a password that nobody knows", provider.crypto()), None);
            let from = SocketAddr::from(([192, 0, 2, 1], 1));
            assert!(check.success(from, "secret", provider.crypto()).is_some());
        }
    }
}

/// Splits the path of a URL.
pub fn path(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Route::parse(text);
    }
}
