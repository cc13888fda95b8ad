//! Targets for the fuzzer: everything here that reads what strangers wrote.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rtc_srtp::crypto::default_provider;

use super::Role;
use super::answer::{self, Local};
use super::channels::Channels;
use super::client;
use super::http::Route;
use super::ice::{Credentials, Transports};
use super::links;
use super::mux::Content;
use super::sctp;
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
        transports: Transports { udp: true, tcp: true },
        stream: answer::Coded::default(),
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

/// What a WHEP server answers: a picture with its repair, and sound.
pub const ANSWER_SEEDS: &[&[u8]] =
    &[b"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\n\
      a=ice-ufrag:theirs\r\na=ice-pwd:0123456789012345678901\r\na=setup:passive\r\n\
      a=fingerprint:sha-256 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:\
      00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\n\
      m=video 9 UDP/TLS/RTP/SAVPF 104 105\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
      a=rtpmap:104 VP8/90000\r\na=rtcp-fb:104 nack\r\na=rtcp-fb:104 transport-cc\r\n\
      a=rtpmap:105 rtx/90000\r\na=fmtp:105 apt=104\r\n\
      a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
      a=ssrc-group:FID 7 8\r\na=ssrc:7 cname:x\r\n\
      a=candidate:1 1 udp 2130706431 127.0.0.1 8189 typ host\r\n\
      m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n"];

/// Reads what a server answers to an offer of ours.
pub fn answer(bytes: &[u8]) {
    if let Ok(answer) = Offer::parse(bytes) {
        client::read_answer(&answer);
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

/// A framed check, an empty datagram and one that is cut off.
pub const TCP_SEEDS: &[&[u8]] = &[
    b"\x00\x14\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl\x00\x03\x80\x60\0",
    b"\0\0\x01",
    b"\xff\xff\x01\x02",
];

/// Reads the datagrams of a connection.
pub fn tcp(bytes: &[u8]) {
    let (mut rest, mut taken) = (bytes, 0);
    // Bytes in memory are always there, so nothing waits.
    while let Some(Some(datagram)) =
        links::read(&mut rest, links::DATAGRAM_BYTES_MAX).now_or_never()
    {
        taken += 2 + datagram.len();
        assert!((1..=links::DATAGRAM_BYTES_MAX).contains(&datagram.len()));
        assert_eq!(&bytes[taken - datagram.len()..taken], datagram);
    }
}

/// Splits the path of a URL.
pub fn path(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Route::parse(text);
    }
}

/// INIT, COOKIE ECHO (whose cookie is put in), an opened channel, a question and a reset, each
/// behind its length.
pub const CHANNELS_SEEDS: &[&[u8]] = &[
    b"\x00\x20\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x01\0\0\x14\0\0\0\x09\0\x01\0\0\0\x04\0\x04\0\0\0\x01\
      \x00\x20\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x0a\0\0\x14cookiecookiecook\
      \x00\x34\x13\x88\x13\x88\0\0\0\0\0\0\0\0\0\x03\0\x26\0\0\0\x01\0\x02\0\0\0\0\0\x32\
      \x03\0\0\0\0\0\0\0\0\x0a\0\0millstream\0\0\
      \x00\x20\x13\x88\x13\x88\0\0\0\0\0\0\0\0\0\x03\0\x12\0\0\0\x02\0\x02\0\x01\0\0\0\x33{}\0\0\
      \x00\x24\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x82\0\0\x16\0\x0d\0\x12\0\0\0\x01\0\0\0\x01\0\0\0\x02\
      \0\x02\0\0",
    b"\x00\x20\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x01\0\0\x14\0\0\0\x09\0\x01\0\0\0\x04\0\x04\xff\xff\xff\xff\
      \x00\x20\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x0a\0\0\x14cookiecookiecook\
      \x00\x20\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x03\0\0\x14\0\0\0\x01\0\x01\0\0\0\x01\0\0\0\x02\0\x03\
      \x00\x18\x13\x88\x13\x88\0\0\0\0\0\0\0\0\xc0\0\0\x0c\x7f\0\0\0\0\0\0\0\
      \x00\x14\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x04\0\0\x08beat\
      \x00\x10\x13\x88\x13\x88\0\0\0\0\0\0\0\0\x07\0\0\x04",
];

/// Gives datagrams to the channels of a session as if they came through DTLS, with right
/// checksums, tags and cookies, lets time pass between them and answers what is asked.
pub fn channels(bytes: &[u8]) {
    talk(bytes);
}

/// How many questions were read.
fn talk(bytes: &[u8]) -> usize {
    let mut now = Instant::now();
    let mut channels = Channels::new(now, None);
    let (mut questions, mut buffer, mut rest) = (Vec::new(), Vec::new(), bytes);
    let mut count = 0;
    while let Some((length, more)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(more.len());
        let (datagram, next) = more.split_at(length);
        rest = next;
        let mut datagram = datagram.to_vec();
        sctp::adopt(channels.association(), &mut datagram);
        channels.read(now, &datagram, &mut questions);
        for question in questions.drain(..) {
            count += 1;
            assert!(question.text.len() <= sctp::MESSAGE_BYTES_MAX);
            channels.answer(question.channel, Some(&question.text));
        }
        let mut sent = 0;
        while channels.poll_transmit(now, &mut buffer) {
            sent += 1;
            assert!(sent < 1000 && buffer.len() < 1200);
        }
        now += Duration::from_millis(u64::from(datagram.last().copied().unwrap_or_default()));
        channels.handle_timeout(now);
        assert!(channels.next_timeout().is_none_or(|at| at > now));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seed_of_channels_reaches_a_question() {
        assert_eq!(talk(CHANNELS_SEEDS[0]), 1);
    }
}
