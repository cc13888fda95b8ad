//! What a client may say in which state, and what nobody may say at any time.

use proptest::prelude::*;
use rtsp_types::StatusCode;

use super::*;
use crate::rtp::packet::{RtpTime, Seq};
use crate::rtsp::describe::{self, Outgoing};

const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
a=rtpmap:96 H264/90000\r\na=control:trackID=0\r\nm=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n";

/// A client's half of a conversation, whose wishes are granted.
struct Talk {
    session: Session,
    input: BytesMut,
    now: Instant,
    sequence: u32,
    grants: bool,
}

impl Talk {
    fn new() -> Self {
        let facts = Facts {
            id: "a".repeat(32),
            nonce: "b".repeat(32),
            udp: true,
            command: Duration::from_secs(10),
            idle: Duration::from_secs(10),
        };
        let now = Instant::now();
        let (session, input) = (Session::new(facts, now), BytesMut::new());
        Self { session, input, now, sequence: 0, grants: true }
    }

    /// Sends these bytes; what came of them that is the shell's business.
    fn bytes(&mut self, bytes: &[u8]) -> Result<Vec<String>, SessionError> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.session.handle(self.now, &mut self.input)? {
            events.push(match event {
                Event::Ask(ask) => {
                    match self.grants {
                        true => self.session.grant(&ask),
                        false => drop(self.session.deny(&ask, true, true)),
                    }
                    format!("{} {}", ask.action.as_str(), ask.path)
                }
                Event::Describe => {
                    self.session.describe(&tracks());
                    "describe".into()
                }
                Event::Open { medium, ports } => {
                    self.session.opened(medium, (8000, 8001));
                    format!("open {medium} {}-{}", ports.0, ports.1)
                }
                Event::Play => {
                    self.session.playing(self.now, &[(0, Seq(7), RtpTime(9))]);
                    "play".into()
                }
                Event::Record => {
                    self.session.recording(self.now);
                    "record".into()
                }
                Event::Rtp { medium, packet } => format!("rtp {medium} {}", packet.len()),
                Event::Rtcp { medium, packet } => format!("rtcp {medium} {}", packet.len()),
                Event::Reset => "reset".into(),
                Event::Pause => "pause".into(),
                Event::End => "end".into(),
            });
        }
        Ok(events)
    }

    /// Sends a request with these lines and this body; status and head of the answer.
    fn ask(&mut self, line: &str, lines: &str, body: &str) -> (u16, String) {
        self.sequence += 1;
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let sequence = self.sequence;
        let text = format!("{line} RTSP/1.0\r\nCSeq: {sequence}\r\n{lines}{length}\r\n{body}");
        self.bytes(text.as_bytes()).unwrap();
        let answer = String::from_utf8(std::mem::take(self.session.output())).unwrap();
        let status = answer.strip_prefix("RTSP/1.0 ").unwrap()[..3].parse().unwrap();
        assert!(answer.contains(&format!("CSeq: {sequence}\r\n")), "{answer}");
        (status, answer)
    }

    fn status(&mut self, line: &str, lines: &str) -> u16 {
        self.ask(line, lines, "").0
    }

    fn set_up(&mut self, track: u32, transport: &str, more: &str) -> (u16, String) {
        let line = format!("SETUP rtsp://h/cam/trackID={track}");
        self.ask(&line, &format!("Transport: {transport}\r\n{more}"), "")
    }

    /// The header of our session.
    fn ours(&self) -> String {
        format!("Session: {}\r\n", self.session.id())
    }

    fn announce(&mut self) {
        let (status, answer) =
            self.ask("ANNOUNCE rtsp://h/cam", "Content-Type: application/sdp\r\n", SDP);
        assert_eq!(status, 200, "{answer}");
    }

    /// Up to the record state, on channels 0 to 3.
    fn recording() -> Self {
        let mut talk = Self::new();
        talk.announce();
        assert_eq!(talk.set_up(0, "RTP/AVP/TCP;interleaved=0-1;mode=record", "").0, 200);
        let ours = talk.ours();
        assert_eq!(talk.set_up(1, "RTP/AVP/TCP;interleaved=2-3;mode=record", &ours).0, 200);
        assert_eq!(talk.status("RECORD rtsp://h/cam", &ours), 200);
        talk
    }

    /// Up to the play state, with one track on channels 0 and 1.
    fn playing() -> Self {
        let mut talk = Self::new();
        assert_eq!(talk.status("DESCRIBE rtsp://h/cam", ""), 200);
        assert_eq!(talk.set_up(0, "RTP/AVP/TCP;interleaved=0-1", "").0, 200);
        let ours = talk.ours();
        assert_eq!(talk.status("PLAY rtsp://h/cam/", &ours), 200);
        talk
    }
}

fn tracks() -> Vec<Outgoing> {
    use pipeline::packet::{AudioTrack, VideoTrack};
    let none = Bytes::new();
    let video = VideoTrack {
        codec: pipeline::Codec::H264,
        size: pipeline::Size::new(2, 2),
        parameter_sets: none.clone(),
    };
    let audio =
        AudioTrack { codec: pipeline::Codec::Opus, sample_rate: 48_000, channels: 2, config: none };
    describe::outgoing(&pipeline::Tracks { video: Some(video), audio: Some(audio) })
}

#[test]
fn a_publisher_says_what_it_has_sets_it_up_and_sends() {
    let mut talk = Talk::recording();
    let sent = talk.bytes(b"$\0\0\x02ab$\x03\0\x01c").unwrap();
    assert_eq!(sent, ["rtp 0 2", "rtcp 1 1"]);
    let ours = talk.ours();
    assert_eq!(talk.status("TEARDOWN rtsp://h/cam", &ours), 200);
    assert_eq!(talk.bytes(b"$\0\0\x02ab").unwrap(), [""; 0], "nothing is heard after goodbye");
}

#[test]
fn a_reader_is_told_tracks_channels_and_where_sending_begins() {
    let mut talk = Talk::new();
    let (_, answer) = talk.ask("DESCRIBE rtsp://tom:secret@h:8554/cam?pass=secret", "", "");
    assert!(answer.contains("Content-Base: rtsp://h:8554/cam/\r\n"), "{answer}");
    assert!(answer.contains("a=control:trackID=1") && !answer.contains("secret"), "{answer}");
    let (_, answer) = talk.set_up(1, "RTP/AVP/TCP", "");
    assert!(answer.contains("interleaved=0-1"), "{answer}");
    let ours = talk.ours();
    let (_, answer) = talk.set_up(0, "RTP/AVP/TCP", &ours);
    assert!(answer.contains("interleaved=2-3"), "{answer}");
    let (_, answer) = talk.ask("PLAY rtsp://h/cam/", &ours, "");
    assert!(answer.contains("url=rtsp://h/cam/trackID=0;seq=7;rtptime=9"), "{answer}");
    assert_eq!(talk.status("PAUSE rtsp://h/cam/", &ours), 200);
    talk.now += Duration::from_secs(59);
    assert_eq!(talk.session.handle_timeout(talk.now), Ok(()), "a paused reader has time");
    assert_eq!(talk.status("PLAY rtsp://h/cam/", &ours), 200);
}

#[test]
fn a_medium_is_set_up_once_on_channels_and_ports_of_its_own() {
    let mut talk = Talk::new();
    talk.announce();
    assert_eq!(talk.set_up(0, "RTP/AVP/TCP;interleaved=0-1", "").0, 200);
    let ours = talk.ours();
    assert_eq!(talk.set_up(0, "RTP/AVP/TCP;interleaved=4-5", &ours).0, 455, "the same again");
    for taken in ["0-1", "1-2", "4-0"] {
        let transport = format!("RTP/AVP/TCP;interleaved={taken}");
        assert_eq!(talk.set_up(1, &transport, &ours).0, 400, "{taken}");
    }
    for (transport, status) in [
        ("RTP/AVP/TCP;interleaved=255-256", 400),
        ("RTP/AVP/TCP;interleaved=7-7", 400),
        ("RTP/AVP;unicast;client_port=0-1", 400),
        ("RTP/AVP;multicast", 461),
        ("RTP/SAVP;unicast;client_port=5000-5001", 461),
        ("", 461),
    ] {
        assert_eq!(talk.set_up(1, transport, &ours).0, status, "{transport}");
    }
    assert_eq!(talk.set_up(7, "RTP/AVP/TCP", &ours).0, 404);
    assert_eq!(talk.set_up(1, "RTP/AVP;unicast;client_port=5000-5001", &ours).0, 200);
}

#[test]
fn a_reader_that_got_nothing_as_datagrams_begins_anew_under_another_id() {
    let mut talk = Talk::new();
    assert_eq!(talk.status("DESCRIBE rtsp://h/cam", ""), 200);
    assert_eq!(talk.set_up(0, "RTP/AVP;unicast;client_port=5000-5001", "").0, 200);
    let before = talk.ours();
    assert_eq!(talk.set_up(0, "RTP/AVP/TCP;interleaved=0-1", "").0, 200);
    assert_ne!(talk.ours(), before);
    assert_eq!(talk.status("PLAY rtsp://h/cam", &before), 454);
    let ours = talk.ours();
    assert_eq!(talk.status("PLAY rtsp://h/cam", &ours), 200);
    let mut publisher = Talk::new();
    publisher.announce();
    assert_eq!(publisher.set_up(0, "RTP/AVP/TCP;interleaved=0-1", "").0, 200);
    assert_eq!(publisher.set_up(0, "RTP/AVP/TCP;interleaved=0-1", "").0, 455, "a publisher not");
}

#[test]
fn a_session_of_another_connection_names_nothing() {
    let stolen = Talk::playing().ours();
    for request in ["PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "RECORD", "SETUP"] {
        assert_eq!(Talk::new().status(&format!("{request} rtsp://h/cam"), &stolen), 454);
        let line = format!("{request} rtsp://h/cam");
        let other = stolen.replace('a', "c");
        assert_eq!(Talk::playing().status(&line, &other), 454, "{request}");
    }
}

#[test]
fn what_is_said_in_the_wrong_state_changes_nothing() {
    for (request, statuses) in [
        // In this order: at the start, set up to record, recording, playing.
        ("DESCRIBE", [200, 455, 455, 455]),
        ("PLAY", [455, 455, 455, 200]),
        ("RECORD", [455, 200, 200, 455]),
        ("PAUSE", [455, 200, 200, 200]),
        ("REDIRECT", [501, 501, 501, 501]),
        ("OPTIONS", [200, 200, 200, 200]),
        ("GET_PARAMETER", [200, 200, 200, 200]),
    ] {
        let mut ready = Talk::new();
        ready.announce();
        assert_eq!(ready.set_up(0, "RTP/AVP/TCP;interleaved=0-1", "").0, 200);
        let talks = [Talk::new(), ready, Talk::recording(), Talk::playing()];
        for (at, (mut talk, status)) in talks.into_iter().zip(statuses).enumerate() {
            let said = talk.status(&format!("{request} rtsp://h/cam"), "");
            assert_eq!(said, status, "{request} in state {at}");
        }
    }
    let mut talk = Talk::recording();
    let ours = talk.ours();
    assert_eq!(talk.set_up(1, "RTP/AVP/TCP;interleaved=8-9", &ours).0, 455);
    assert_eq!(talk.bytes(b"$\x02\0\x01a").unwrap(), ["rtp 1 1"], "it goes on as it was");
}

#[test]
fn a_frame_on_a_channel_that_was_not_set_up_ends_the_connection() {
    for (mut talk, channel) in [(Talk::new(), 0), (Talk::playing(), 2), (Talk::recording(), 255)] {
        let frame = [b'$', channel, 0, 1, 7];
        assert_eq!(talk.bytes(&frame), Err(SessionError::Channel(channel)));
    }
}

#[test]
fn wrong_credentials_may_be_tried_three_times() {
    let mut talk = Talk::new();
    talk.grants = false;
    let (status, answer) = talk.ask("DESCRIBE rtsp://h/cam", "", "");
    assert_eq!(status, 401);
    let kinds = ["algorithm=SHA-256", "algorithm=MD5", "Basic realm="];
    let places = kinds.map(|kind| answer.find(kind).unwrap());
    assert!(places.is_sorted(), "{answer}");
    for _ in 0..2 {
        assert_eq!(talk.status("DESCRIBE rtsp://h/cam", "Authorization: Basic dG9tOng=\r\n"), 401);
    }
    let ask = "DESCRIBE rtsp://h/cam RTSP/1.0\r\nCSeq: 9\r\nAuthorization: Basic dG9tOng=\r\n\r\n";
    talk.input.extend_from_slice(ask.as_bytes());
    let event = talk.session.handle(talk.now, &mut talk.input).unwrap();
    let Some(Event::Ask(ask)) = event else { panic!("{event:?}") };
    assert!(!talk.session.deny(&ask, true, true), "the third is the last");
}

#[test]
fn a_grant_holds_for_one_stream_and_one_action() {
    let mut talk = Talk::new();
    assert_eq!(talk.status("DESCRIBE rtsp://h/cam", ""), 200);
    talk.grants = false;
    let sdp = "Content-Type: application/sdp\r\n";
    assert_eq!(talk.ask("ANNOUNCE rtsp://h/cam", sdp, SDP).0, 401, "publishing is another action");
    let mut talk = Talk::new();
    assert_eq!(talk.status("DESCRIBE rtsp://h/cam", ""), 200);
    let line = "SETUP rtsp://h/other/trackID=0";
    assert_eq!(talk.status(line, "Transport: RTP/AVP/TCP\r\n"), 404, "another stream");
    assert_eq!(talk.status("SETUP rtsp://h/camera/trackID=0", "Transport: RTP/AVP/TCP\r\n"), 404);
}

#[test]
fn requests_that_are_none_are_answered_and_named() {
    let mut talk = Talk::new();
    assert_eq!(talk.ask("ANNOUNCE rtsp://h/cam", "Content-Type: text/plain\r\n", "x").0, 415);
    let sdp = "Content-Type: application/sdp\r\n";
    assert_eq!(talk.ask("ANNOUNCE rtsp://h/cam", sdp, "v=1\r\n").0, 415);
    assert_eq!(talk.status("DESCRIBE rtsp://h/cam", "Accept: text/html\r\n"), 406);
    let (status, answer) = talk.ask("DESCRIBE rtsp://h/cam", "Require: implicit-play\r\n", "");
    assert!(status == 551 && answer.contains("Unsupported: implicit-play"), "{answer}");
    assert!(talk.bytes(b"OPTIONS * RTSP/1.0\r\n\r\n").unwrap().is_empty());
    let answer = String::from_utf8(std::mem::take(talk.session.output())).unwrap();
    assert!(answer.starts_with("RTSP/1.0 400"), "without a number: {answer}");
    assert!(matches!(talk.bytes(b"\x16\x03\x01"), Err(SessionError::Framing(_))));
    assert!(talk.session.output().starts_with(b"RTSP/1.0 400"));
}

#[test]
fn silence_ends_a_session_at_the_limit_of_its_state() {
    let limit = |mut talk: Talk| {
        let at = talk.session.next_timeout()?;
        assert_eq!(talk.session.handle_timeout(at - Duration::from_millis(1)), Ok(()));
        assert!(talk.session.handle_timeout(at).is_err());
        talk.now = at;
        Some(at)
    };
    assert!(limit(Talk::new()).is_some());
    assert!(limit(Talk::recording()).is_some());
    assert_eq!(limit(Talk::playing()), None, "writing to it fails instead");
    let mut datagrams = Talk::new();
    assert_eq!(datagrams.status("DESCRIBE rtsp://h/cam", ""), 200);
    assert_eq!(datagrams.set_up(0, "RTP/AVP;unicast;client_port=5000-5001", "").0, 200);
    assert_eq!(datagrams.status("PLAY rtsp://h/cam", ""), 200);
    assert!(limit(datagrams).is_some());
    // One that only ever asks is not served for ever.
    let mut busy = Talk::new();
    for _ in 0..59 {
        busy.now += Duration::from_secs(1);
        assert_eq!(busy.status("OPTIONS *", ""), 200);
        assert_eq!(busy.session.handle_timeout(busy.now), Ok(()));
    }
    busy.now += Duration::from_secs(1);
    assert!(busy.session.handle_timeout(busy.now).is_err());
}

#[test]
fn a_shell_that_cannot_do_it_refuses_and_the_client_may_ask_again() {
    let mut talk = Talk::new();
    talk.bytes(b"").unwrap();
    let ask = b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    talk.input.extend_from_slice(ask);
    let Ok(Some(Event::Ask(ask))) = talk.session.handle(talk.now, &mut talk.input) else {
        panic!()
    };
    talk.session.grant(&ask);
    let Ok(Some(Event::Describe)) = talk.session.handle(talk.now, &mut talk.input) else {
        panic!()
    };
    talk.session.refuse(StatusCode::NotFound, "nobody publishes it");
    let answer = std::mem::take(talk.session.output());
    assert!(answer.starts_with(b"RTSP/1.0 404") && answer.ends_with(b"nobody publishes it"));
    assert_eq!(talk.status("DESCRIBE rtsp://h/cam", ""), 200);
}

/// Requests, frames and junk of which a hostile conversation is made.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec![
        "OPTIONS", "DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "RECORD", "PAUSE", "TEARDOWN", "HELLO",
    ]);
    let path = prop::sample::select(vec!["cam", "cam/trackID=0", "cam/trackID=1", "", "//", "*"]);
    let transport = prop::sample::select(vec![
        "RTP/AVP/TCP;interleaved=0-1",
        "RTP/AVP/TCP;interleaved=2-3",
        "RTP/AVP/TCP;interleaved=1-300",
        "RTP/AVP;client_port=5000-5001",
        "RTP/AVP;client_port=0-0",
    ]);
    let request = (method, path, transport, any::<bool>(), any::<bool>()).prop_map(
        |(method, path, transport, session, body)| {
            let session = if session { format!("Session: {}00\r\n", "a".repeat(32)) } else { String::new() };
            let (length, body) = if body { (SDP.len(), SDP) } else { (0, "") };
            format!(
                "{method} rtsp://h/{path} RTSP/1.0\r\nCSeq: 1\r\nTransport: {transport}\r\n{session}\
                 Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .into_bytes()
        },
    );
    let frame = (0..5_u8, prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(channel, bytes)| [&[b'$', channel, 0, bytes.len() as u8][..], &bytes].concat());
    let junk = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![8 => request, 2 => frame, 1 => junk]
}

proptest! {
    #[test]
    fn no_conversation_makes_a_session_panic_or_forget_its_rules(
        pieces in prop::collection::vec(pieces(), 0..12), grants in any::<bool>(),
    ) {
        let mut talk = Talk::new();
        talk.grants = grants;
        let mut permitted = false;
        for piece in pieces {
            match talk.bytes(&piece) {
                Ok(events) => {
                    for event in events {
                        permitted |= event.starts_with("read ") || event.starts_with("publish ");
                        let media = event == "play" || event == "record" || event.starts_with("rt");
                        prop_assert!(!media || permitted && grants, "{event} without a grant");
                    }
                }
                Err(_) => break,
            }
            let lowers = talk.session.lowers();
            let channels = lowers.iter().flatten().filter_map(|lower| match lower {
                Lower::Tcp(rtp, rtcp) => Some([*rtp, *rtcp]),
                Lower::Udp(..) => None,
            });
            let mut channels: Vec<u8> = channels.flatten().collect();
            let count = channels.len();
            channels.sort_unstable();
            channels.dedup();
            prop_assert_eq!(channels.len(), count, "a channel twice");
        }
    }
}
