//! Answers: offers of real browsers and broken ones, and what is said to each.

use super::*;
use proptest::prelude::*;

/// A viewer's offer as Chromium writes it, shortened.
const VIEWER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 102 103 106 107\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 PRINT\r\n\
    a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtpmap:102 H264/90000\r\n\
    a=fmtp:102 packetization-mode=1;profile-level-id=42001f\r\n\
    a=rtcp-fb:102 nack\r\na=rtcp-fb:102 nack pli\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
    a=rtpmap:106 H264/90000\r\na=fmtp:106 packetization-mode=1;profile-level-id=64001f\r\n\
    a=rtcp-fb:106 nack\r\na=rtpmap:107 rtx/90000\r\na=fmtp:107 apt=106\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 PRINT\r\na=rtpmap:111 opus/48000/2\r\n";

fn parse(text: &str) -> Offer {
    let print = ["AB"; 32].join(":");
    Offer::parse(text.replace("PRINT", &print).as_bytes()).unwrap()
}

fn answered(text: &str, role: Role, profile: Option<u8>) -> Result<(Agreed, String), Refused> {
    let credentials = Credentials { ufrag: "ours".into(), password: "our password".into() };
    let candidates = [SocketAddr::from(([127, 0, 0, 1], 8189))];
    let local = Local {
        credentials: &credentials,
        fingerprint: "CD",
        candidates: &candidates,
        transports: Transports { udp: true, tcp: false },
        stream: Coded { profile, ..Coded::default() },
    };
    answer(&parse(text), role, &local)
}

#[test]
fn each_section_is_mirrored() {
    let (agreed, text) = answered(VIEWER, Role::Viewer, None).unwrap();
    let video = agreed.video.unwrap();
    assert_eq!((video.payload_type, video.rtx, video.playout_delay), (102, Some(103), Some(5)));
    assert_eq!(agreed.audio.unwrap().payload_type, 111);
    assert!(!agreed.dtls_client);
    let media: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        media,
        [
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "m=video 9 UDP/TLS/RTP/SAVPF 102 103",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111"
        ]
    );
    for line in ["a=ice-lite", "a=group:BUNDLE 0 1 2", "a=setup:passive", "a=sendonly"] {
        assert!(text.lines().any(|have| have == line), "{line} in {text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("a=candidate")).count(), 3);
}

#[test]
fn a_data_channel_is_taken_in_the_bundle_of_media_only() {
    let check = |from: &str, to: &str, wanted: Option<Data>| {
        let (agreed, text) = answered(&VIEWER.replace(from, to), Role::Viewer, None).unwrap();
        assert_eq!(agreed.data, wanted, "{to}");
        let taken = text.contains("m=application 9 ");
        assert_eq!(taken, wanted.is_some(), "{text}");
        assert_eq!(text.contains("a=sctp-port:5000\r\na=max-message-size:65536\r\n"), taken);
        assert_eq!(agreed.mids.len(), if taken { 3 } else { 2 });
        assert_eq!(agreed.mids[0].0, "video");
    };
    let some = |message_bytes_max| Some(Data { message_bytes_max });
    check("", "", some(None));
    check(
        "a=mid:2",
        "a=mid:2\r\na=sctp-port:5000\r\na=max-message-size:262144",
        some(Some(262_144)),
    );
    check("BUNDLE 0 1 2", "BUNDLE 0 1", None);
    check("m=application 9", "m=application 0", None);
    check("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000", None);
    check("UDP/DTLS/SCTP", "TCP/DTLS/SCTP", some(None));
    // Alone it has nothing to steer.
    let alone = VIEWER.replace("H264", "H261").replace("VP8", "H263").replace("opus", "G723");
    assert_eq!(answered(&alone, Role::Viewer, None).unwrap_err(), Refused::Media("receive"));
    let bad = VIEWER.replace("a=mid:2", "a=sctp-port:70000");
    let error = Offer::parse(bad.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "line 7: a=sctp-port is no port");
}

#[test]
fn the_payload_type_of_the_streams_profile_is_preferred() {
    let pick = |profile| answered(VIEWER, Role::Viewer, profile).unwrap().0.video.unwrap();
    assert_eq!(pick(Some(0x64)).payload_type, 106);
    assert_eq!(pick(Some(0x42)).payload_type, 102);
    assert_eq!(pick(Some(0x4d)).payload_type, 102);
}

/// An offer with all that browsers have, in the order of Chromium.
const ALL: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 PRINT\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 98 100 45 49\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
    a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=0\r\n\
    a=rtpmap:100 VP9/90000\r\na=fmtp:100 profile-id=2\r\n\
    a=rtpmap:45 AV1/90000\r\na=fmtp:45 level-idx=5;profile=0;tier=0\r\n\
    a=rtpmap:49 H265/90000\r\na=fmtp:49 level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\na=mid:1\r\na=sendrecv\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n";

#[test]
fn a_publishers_first_choice_is_taken_but_for_the_vp8_that_browsers_put_first() {
    let pick = |formats: &str| {
        let text = ALL.replace("96 97 102 98 100 45 49", formats);
        let (agreed, text) = answered(&text, Role::Publisher, None).unwrap();
        let video = agreed.video.unwrap();
        let map = format!("a=rtpmap:{} {}/90000", video.payload_type, video.codec);
        assert!(text.contains(&map), "{map} in {text}");
        (video.codec, video.payload_type, video.rtx)
    };
    assert_eq!(pick("96 97 102 98 100 45 49"), (Codec::H264, 102, None));
    assert_eq!(pick("96 97 98"), (Codec::Vp8, 96, Some(97)));
    assert_eq!(pick("98 96 97 102"), (Codec::Vp9, 98, None));
    assert_eq!(pick("100 98"), (Codec::Vp9, 100, None));
    assert_eq!(pick("45 102 96"), (Codec::Av1, 45, None));
    assert_eq!(pick("49 102"), (Codec::Hevc, 49, None));
}

#[test]
fn g711_is_known_by_its_number_alone() {
    let text = ALL.replace("SAVPF 111 0 8", "SAVPF 8 0");
    let (agreed, text) = answered(&text, Role::Publisher, None).unwrap();
    let audio = agreed.audio.unwrap();
    assert_eq!((audio.codec, audio.payload_type, audio.clock_rate()), (Codec::G711A, 8, 8000));
    assert!(text.contains("a=rtpmap:8 PCMA/8000\r\n"), "{text}");
}

#[test]
fn a_viewer_gets_the_streams_own_coding_with_the_parameters_that_it_offered() {
    let of = |video, audio| {
        let credentials = Credentials { ufrag: "ours".into(), password: "our password".into() };
        let local = Local {
            credentials: &credentials,
            fingerprint: "CD",
            candidates: &[],
            transports: Transports { udp: true, tcp: false },
            stream: Coded { video: Some(video), audio: Some(audio), profile: None },
        };
        let (agreed, text) = answer(&parse(ALL), Role::Viewer, &local).unwrap();
        (agreed.video.map(|m| m.payload_type), agreed.audio.map(|m| m.payload_type), text)
    };
    let (video, audio, text) = of(Codec::Av1, Codec::G711U);
    assert_eq!((video, audio), (Some(45), Some(0)));
    assert!(text.contains("a=fmtp:45 profile=0;level-idx=5;tier=0\r\n"), "{text}");
    assert_eq!(of(Codec::Vp9, Codec::Opus).0, Some(98));
    assert_eq!(of(Codec::Hevc, Codec::Opus).0, Some(49));
    // Nothing of ours carries it: the medium is refused, the other one flows.
    assert_eq!(of(Codec::H264, Codec::Flac).1, None);
}

#[test]
fn what_a_viewer_can_take_is_read_from_its_offer() {
    let takes = |formats: &str, without: &[Codec]| {
        let offer = parse(&ALL.replace("96 97 102 98 100 45 49", formats));
        let takes = formats::takes(&offer, without);
        (takes.video.to_vec(), takes.audio.to_vec())
    };
    let sounds = vec![Codec::Opus, Codec::G711U, Codec::G711A];
    assert_eq!(takes("98 96", &[]), (vec![Codec::Vp8, Codec::Vp9], sounds.clone()));
    assert_eq!(takes("102", &[Codec::G711U]).1, [Codec::Opus, Codec::G711A]);
    // A viewer without pictures of ours gets none, so none is re-encoded for it.
    assert_eq!(takes("100", &[]).0.len(), 5);
}

#[test]
fn a_passive_offer_is_answered_actively_and_an_active_one_passively() {
    let of = |setup: &str| {
        let text = VIEWER.replace("actpass", setup);
        let (agreed, text) = answered(&text, Role::Viewer, None).unwrap();
        (agreed.dtls_client, text.contains("a=setup:active"))
    };
    assert_eq!(of("passive"), (true, true));
    assert_eq!(of("active"), (false, false));
}

#[test]
fn what_an_offer_lacks_is_said() {
    let check = |from: &str, to: &str, role, wanted| {
        assert_eq!(answered(&VIEWER.replace(from, to), role, None).unwrap_err(), wanted);
    };
    check("", "", Role::Publisher, Refused::Media("send"));
    check("H264", "H261", Role::Publisher, Refused::Media("send"));
    check("a=rtcp-mux", "a=x", Role::Viewer, Refused::Mux);
    check("BUNDLE 0 1 2", "BUNDLE 0", Role::Viewer, Refused::Bundle);
    check("a=ice-pwd", "a=x", Role::Viewer, Refused::Ice);
    check("a=fingerprint", "a=x", Role::Viewer, Refused::Fingerprint);
    check("sha-256", "sha-1", Role::Viewer, Refused::Fingerprint);
}

#[test]
fn single_unit_mode_is_for_publishers_only() {
    let text = VIEWER.replace("packetization-mode=1", "packetization-mode=0");
    let (agreed, _) = answered(&text, Role::Viewer, None).unwrap();
    assert_eq!(agreed.video.unwrap().codec, Codec::Vp8);
    let (agreed, _) =
        answered(&text.replace("recvonly", "sendonly"), Role::Publisher, None).unwrap();
    assert!(agreed.video.is_some());
}

#[test]
fn a_restart_names_new_credentials_in_a_fragment() {
    let credentials = Credentials { ufrag: "fresh".into(), password: "0".repeat(32) };
    let mids = [("video".to_owned(), Some("0".to_owned())), ("audio".to_owned(), None)];
    let candidates = [SocketAddr::from(([192, 0, 2, 1], 8189))];
    let transports = Transports { udp: true, tcp: false };
    let text = restart_fragment(&mids, &credentials, &candidates, transports);
    let back = Offer::parse_fragment(text.as_bytes()).unwrap();
    assert_eq!(back.session.ufrag.as_deref(), Some("fresh"));
    assert_eq!(back.sections.len(), 1);
}

proptest! {
    #[test]
    fn no_change_of_an_offer_makes_a_bad_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..20),
    ) {
        let mut bytes = VIEWER.replace("PRINT", &["AB"; 32].join(":")).into_bytes();
        for (place, byte, kind) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => { bytes.remove(place); }
                _ => bytes.truncate(place.max(bytes.len() - bytes.len().min(40))),
            }
        }
        super::super::fuzz::offer(&bytes);
        super::super::fuzz::fragment(&bytes);
    }

    #[test]
    fn no_datagram_is_taken_for_a_check_of_ours(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        stun in any::<bool>(),
    ) {
        if stun && bytes.len() >= 20 {
            bytes[..2].copy_from_slice(&[0, 1]);
            let length = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
        }
        super::super::fuzz::datagram(&bytes);
        super::super::fuzz::path(&bytes);
    }
}

/// A publisher's offer of two renditions as Chromium writes it, shortened.
const SIMULCAST: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 PRINT\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
    a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
    a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
    a=extmap:13 urn:3gpp:video-orientation\r\na=rtpmap:102 H264/90000\r\n\
    a=fmtp:102 packetization-mode=1;profile-level-id=42001f\r\na=rid:h send\r\na=rid:l send\r\n\
    a=simulcast:send h;l\r\n";

#[test]
fn codings_of_the_same_pictures_are_taken_and_named_in_the_answer() {
    let (agreed, text) = answered(SIMULCAST, Role::Publisher, None).unwrap();
    let simulcast = agreed.video.unwrap().simulcast.unwrap();
    assert_eq!((simulcast.rid, simulcast.repaired), (10, Some(11)));
    assert_eq!(simulcast.rids, ["h", "l"]);
    for line in [
        "a=rid:h recv",
        "a=rid:l recv",
        "a=simulcast:recv h;l",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in {text}");
    }
    // Without the names in packets they could not be told apart.
    let unnamed = SIMULCAST.replace("sdes:rtp-stream-id", "other");
    let (agreed, text) = answered(&unnamed, Role::Publisher, None).unwrap();
    assert_eq!(agreed.video.unwrap().simulcast, None);
    assert!(!text.contains("simulcast") && !text.contains("a=rid"), "{text}");
    // One rendition alone is no choice.
    let alone = SIMULCAST.replace("send h;l", "send h");
    assert_eq!(answered(&alone, Role::Publisher, None).unwrap().0.video.unwrap().simulcast, None);
}

#[test]
fn a_publisher_is_not_asked_to_leave_turning_to_others() {
    let (_, text) = answered(SIMULCAST, Role::Publisher, None).unwrap();
    assert!(!text.contains("video-orientation"), "{text}");
}
