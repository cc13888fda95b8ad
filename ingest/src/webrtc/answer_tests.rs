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
        profile,
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
    let alone = VIEWER.replace("H264", "H265").replace("opus", "pcmu");
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
    check("H264", "H265", Role::Publisher, Refused::Media("send"));
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
    assert_eq!(agreed.video, None);
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
