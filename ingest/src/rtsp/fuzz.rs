//! What the fuzzer drives here: every parser of bytes from peers. Nothing may panic.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::announce;
use super::call::{Answer, Call};
use super::challenge::Challenge;
use super::digest;
use super::receiver::Receiver;
use super::session::{Event, Facts, Session};
use super::transport;

/// A client's half of a conversation whose wishes are granted, its media taken.
pub(crate) fn session(bytes: &[u8]) {
    let now = Instant::now();
    let facts = Facts {
        id: "0".repeat(32),
        nonce: "1".repeat(32),
        udp: true,
        command: Duration::from_secs(10),
        idle: Duration::from_secs(10),
    };
    let mut session = Session::new(facts, now);
    let mut input = BytesMut::from(bytes);
    let mut receiver = None;
    let mut out = Vec::new();
    while let Ok(Some(event)) = session.handle(now, &mut input) {
        match event {
            Event::Ask(ask) => session.grant(&ask),
            Event::Describe => session.describe(&[]),
            Event::Open { medium, .. } => session.opened(medium, (8000, 8001)),
            Event::Play => session.playing(now, &[]),
            Event::Record => {
                session.recording(now);
                receiver = Some(Receiver::new(&session.formats(), 1));
            }
            Event::Rtp { medium, packet } => {
                if let Some(receiver) = &mut receiver {
                    let _ = receiver.rtp(medium, &packet, now, &mut out);
                }
            }
            Event::Rtcp { medium, packet } => {
                if let Some(receiver) = &mut receiver {
                    receiver.rtcp(medium, &packet, now);
                }
            }
            Event::Reset | Event::Pause => {}
            Event::End => return,
        }
        out.clear();
    }
}

/// A description, and packets behind it: after a zero byte each has a byte that says for which
/// medium and when, and a byte of length.
pub(crate) fn media(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (sdp, packets) = bytes.split_at(end);
    let Ok(media) = announce::read(sdp) else { return };
    for datagrams in [false, true] {
        let formats = media.iter().map(|medium| (medium.format.clone(), datagrams));
        let mut receiver = Receiver::new(&formats.collect::<Vec<_>>(), 1);
        let (mut now, mut out) = (Instant::now(), Vec::new());
        let mut rest = packets.get(1..).unwrap_or_default();
        while let [kind, length, body @ ..] = rest {
            let (packet, after) = body.split_at(body.len().min(usize::from(*length)));
            now += Duration::from_millis(u64::from(*kind >> 2));
            let medium = usize::from(*kind & 1);
            match kind & 2 {
                0 => drop(receiver.rtp(medium, &Bytes::copy_from_slice(packet), now, &mut out)),
                _ => receiver.rtcp(medium, packet, now),
            }
            let _ = receiver.handle_timeout(now, &mut out);
            out.clear();
            rest = after;
        }
    }
}

/// The values of headers that we read ourselves.
pub(crate) fn headers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(digest::Credentials::Digest(proof)) = digest::read(text, "DESCRIBE") {
        let _ = proof.proves("password", "nonce");
    }
    if let Some(challenge) = Challenge::read(text) {
        let _ = challenge.answer(("user", "password"), ("DESCRIBE", "rtsp://h/cam"), 1, "own");
    }
    for udp in [false, true] {
        let _ = transport::choose(text, udp);
    }
}

/// A server's half of a conversation in which we want to play, with a description in it.
pub(crate) fn call(bytes: &[u8]) {
    let mut call = Call::new(Some(("user".into(), "password".into())), "own".into());
    call.ask("DESCRIBE", "rtsp://h/cam", "", Vec::new());
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(answer)) = call.handle(&mut input) {
        if let Answer::Done(response) = answer {
            let _ = announce::read(response.body());
            let _ = call.alive_interval();
            call.ask("PLAY", "rtsp://h/cam", "", Vec::new());
        }
        call.output().clear();
    }
}

/// A publisher from `ANNOUNCE` to its first packets; a reader.
pub(crate) const SESSION_SEEDS: &[&[u8]] = &[
    b"ANNOUNCE rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\nContent-Type: application/sdp\r\n\
Content-Length: 130\r\n\r\nv=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
a=rtpmap:96 H264/90000\r\na=control:t=0\r\nm=audio 0 RTP/AVP 8\r\n\r\n\
SETUP rtsp://h/cam/t=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n\
RECORD rtsp://h/cam RTSP/1.0\r\nCSeq: 3\r\n\r\n\
$\0\0\x12\x80\xe0\0\x01\0\0\0\x01\0\0\0\x02\x65\x88\x80\0\x10\0$\x01\0\x08\x80\xc9\0\x01\0\0\0\x02",
    b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\nAuthorization: Basic dG9tOng=\r\n\r\n\
SETUP rtsp://h/cam/trackID=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;client_port=5000-5001\r\n\r\n\
PLAY rtsp://h/cam RTSP/1.0\r\nCSeq: 3\r\n\r\n",
];

/// H.264 with AAC, and MP3, HEVC, Opus as cameras and encoders describe them.
pub(crate) const MEDIA_SEEDS: &[&[u8]] = &[
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
a=rtpmap:96 H264/90000\r\n\
a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LADNsCgL/lwEQAAAMABAAAAwDwPFC5IA==,aMqPIA==\r\n\
m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/44100/2\r\n\
a=fmtp:97 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=1210\r\n\
\0\x10\x12\x80\xe0\0\x01\0\0\0\x01\0\0\0\x02\x65\x88\x80\0\x10\0\x11\x12\x80\xe1\0\x01\0\0\0\x01\0\0\0\x03\0\x10\0\x10\xff\xff",
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
a=rtpmap:96 H265/90000\r\na=fmtp:96 sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=\r\n\
m=audio 0 RTP/AVP 14\r\n\0\x10\x10\x80\xe0\0\x01\0\0\0\x01\0\0\0\x02\x26\x01\x80\0",
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 97\r\n\
a=rtpmap:97 opus/48000/2\r\na=fmtp:97 sprop-stereo=1\r\n\0\x10\x10\x80\xe1\0\x01\0\0\0\x01\0\0\0\x02\xfc\xff\xfe\0",
];

/// Authorization and Transport.
pub(crate) const HEADERS_SEEDS: &[&[u8]] = &[
    b"Digest username=\"tom\", realm=\"Millstream\", nonce=\"nonce\", uri=\"rtsp://h/cam\", \
response=\"0\", algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"x\"",
    b"Basic dG9tOng=",
    b"Digest realm=\"cam\", nonce=\"n\", qop=\"auth,auth-int\", stale=true, Basic realm=\"cam\"",
    b"RTP/AVP/TCP;unicast;interleaved=0-1;mode=record,RTP/AVP;unicast;client_port=5000-5001",
];

/// Asks for credentials, describes, lets play, sends a packet.
pub(crate) const CALL_SEEDS: &[&[u8]] = &[
    b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm=\"cam\", nonce=\"n\"\r\n\r\n\
RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Base: rtsp://h/cam/\r\nContent-Type: application/sdp\r\n\
Content-Length: 64\r\n\r\nv=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n\
RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: 1;timeout=30\r\n\r\n$\0\0\x0c\x80\x08\0\x01\0\0\0\x01\0\0\0\x02",
    b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\nRTSP/1.0 454 Session Not Found\r\nCSeq: 1\r\n\r\n",
];
