//! Packets of a publisher: in order, late, lost, broken, and from another sender.

use pipeline::Pts;
use proptest::prelude::*;

use super::*;
use crate::rtp::packet::{Header, RtpTime, Seq};
use crate::rtsp::announce;

const START: u32 = 90_000;

/// H.264 with its parameter sets, and G.711.
const SDP: &[u8] = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; \
sprop-parameter-sets=Z0LADNsCgL/lwEQAAAMABAAAAwDwPFC5IA==,aMqPIA==\r\nm=audio 0 RTP/AVP 8\r\n";

const VIDEO: usize = 0;
const AUDIO: usize = 1;

const KEY: &[u8] = &[0x65, 0x88, 0x84, 0, 0x10];
const OTHER: &[u8] = &[0x41, 0x9a, 0x02, 0, 0x10];

struct Rig {
    receiver: Receiver,
    now: Instant,
    out: Vec<Output>,
}

impl Rig {
    fn new(media: &[usize], datagrams: bool) -> Self {
        let formats = announce::read(SDP)
            .unwrap()
            .into_iter()
            .enumerate()
            .map(|(at, medium)| (medium.format.filter(|_| media.contains(&at)), datagrams));
        let receiver = Receiver::new(&formats.collect::<Vec<_>>(), 1);
        Self { receiver, now: Instant::now(), out: Vec::new() }
    }

    fn send(
        &mut self,
        medium: usize,
        seq: u16,
        time: u32,
        payload: &[u8],
    ) -> Result<(), MediaError> {
        self.send_from(2, medium, seq, time, payload)
    }

    fn send_from(
        &mut self,
        ssrc: u32,
        medium: usize,
        seq: u16,
        time: u32,
        payload: &[u8],
    ) -> Result<(), MediaError> {
        let payload_type = if medium == VIDEO { 96 } else { 8 };
        let header =
            Header { marker: true, payload_type, seq: Seq(seq), time: RtpTime(time), ssrc };
        let mut bytes = Vec::new();
        header.write(&[], &mut bytes);
        bytes.extend_from_slice(payload);
        self.receiver.rtp(medium, &bytes.into(), self.now, &mut self.out)
    }

    fn wait(&mut self, millis: u64) -> Vec<(usize, Vec<u8>)> {
        self.now += Duration::from_millis(millis);
        self.receiver.handle_timeout(self.now, &mut self.out)
    }

    /// What came out since the last time: `tracks`, or kind, key and name in ms.
    fn taken(&mut self) -> Vec<String> {
        let name = |output| match output {
            Output::Tracks(_) => "tracks".to_owned(),
            Output::Packet(Packet { kind, key, pts: Pts(pts), .. }) => {
                let kind = if kind.is_video() { "video" } else { "audio" };
                format!("{kind}{} {}", if key { "!" } else { "" }, pts / 90)
            }
        };
        self.out.drain(..).map(name).collect()
    }
}

fn asks_for_a_key(reports: &[(usize, Vec<u8>)]) -> bool {
    reports.iter().any(|(_, report)| {
        messages(report).flatten().any(|message| matches!(message, Message::PictureLoss { .. }))
    })
}

#[test]
fn tracks_come_first_and_frames_are_held_until_all_are_known() {
    let mut rig = Rig::new(&[VIDEO, AUDIO], false);
    rig.send(AUDIO, 1, 0, &[0; 160]).unwrap();
    assert!(rig.taken().is_empty(), "the picture may come");
    rig.send(VIDEO, 1, START, KEY).unwrap();
    assert_eq!(rig.taken(), ["tracks", "audio! 0", "video! 0"]);
    rig.now += Duration::from_millis(40);
    rig.send(VIDEO, 2, START + 3600, OTHER).unwrap();
    assert_eq!(rig.taken(), ["video 40"]);
}

#[test]
fn a_picture_that_does_not_come_holds_sound_back_for_two_seconds() {
    let mut rig = Rig::new(&[VIDEO, AUDIO], false);
    rig.send(AUDIO, 1, 0, &[0; 160]).unwrap();
    let due = rig.receiver.next_timeout().unwrap();
    assert!(due <= rig.now + HOLD_MAX);
    rig.wait(1999);
    assert!(rig.taken().is_empty());
    rig.wait(1);
    assert_eq!(rig.taken(), ["tracks", "audio! 0"]);
}

#[test]
fn datagrams_are_put_in_order_and_a_lost_one_asks_for_a_key_picture() {
    let mut rig = Rig::new(&[VIDEO], true);
    for (seq, payload) in [(1, KEY), (3, OTHER), (2, OTHER)] {
        rig.send(VIDEO, seq, START + u32::from(seq) * 3600, payload).unwrap();
    }
    assert_eq!(rig.taken(), ["tracks", "video! 0", "video 40", "video 80"]);
    rig.send(VIDEO, 5, START + 5 * 3600, OTHER).unwrap();
    assert!(rig.taken().is_empty(), "the one before may be late");
    let reports = rig.wait(21);
    assert!(rig.taken().is_empty(), "a picture that needs a lost one is not shown");
    assert!(asks_for_a_key(&reports));
    rig.send(VIDEO, 6, START + 6 * 3600, KEY).unwrap();
    assert_eq!(rig.taken(), ["video! 200"]);
    assert!(!asks_for_a_key(&rig.wait(1000)), "the wish was answered");
}

#[test]
fn a_reader_that_wants_a_key_picture_has_the_sender_asked() {
    let mut rig = Rig::new(&[VIDEO], false);
    rig.send(VIDEO, 1, START, KEY).unwrap();
    rig.receiver.want_key();
    assert!(asks_for_a_key(&rig.wait(0)));
    assert!(!asks_for_a_key(&rig.wait(100)), "once");
}

#[test]
fn reports_go_back_every_two_seconds() {
    let mut rig = Rig::new(&[AUDIO], true);
    rig.send(AUDIO, 1, 0, &[0; 160]).unwrap();
    rig.send(AUDIO, 4, 480, &[0; 160]).unwrap();
    assert!(rig.wait(1000).is_empty());
    let reports = rig.wait(1000);
    let blocks: Vec<_> = messages(&reports[0].1)
        .flatten()
        .filter_map(|message| match message {
            Message::ReceiverReport { blocks, .. } => Some(blocks.collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(blocks.len(), 1);
    assert_eq!((blocks[0].ssrc, blocks[0].lost), (2, 2));
}

#[test]
fn another_sender_on_the_same_road_begins_anew() {
    let mut rig = Rig::new(&[AUDIO], true);
    rig.send(AUDIO, 60_000, 0, &[0; 160]).unwrap();
    rig.send_from(9, AUDIO, 5, 160, &[0; 160]).unwrap();
    assert_eq!(rig.taken().len(), 3);
}

#[test]
fn packets_that_are_none_are_named_and_passed_over() {
    let mut rig = Rig::new(&[VIDEO, AUDIO], false);
    let junk = Bytes::from_static(b"\x00\x01");
    let error = rig.receiver.rtp(VIDEO, &junk, rig.now, &mut rig.out).unwrap_err();
    assert!(matches!(error, MediaError::Packet(_)), "{error}");
    let (payload_type, seq) = (13, Seq(1));
    let header = Header { marker: true, payload_type, seq, time: RtpTime(0), ssrc: 2 };
    let mut bytes = Vec::new();
    header.write(&[], &mut bytes);
    let error = rig.receiver.rtp(AUDIO, &bytes.into(), rig.now, &mut rig.out).unwrap_err();
    assert_eq!(error, MediaError::PayloadType(13));
    rig.receiver.rtcp(VIDEO, b"\x80\xc8\0\xff", rig.now);
    rig.receiver.rtp(7, &Bytes::new(), rig.now, &mut rig.out).unwrap();
    rig.send(AUDIO, 1, 0, &[0; 160]).unwrap();
    rig.send(VIDEO, 2, START, KEY).unwrap();
    assert_eq!(rig.taken(), ["tracks", "audio! 0", "video! 0"]);
}

proptest! {
    #[test]
    fn no_packets_make_it_panic_or_its_times_fall(
        datagrams in any::<bool>(),
        packets in prop::collection::vec(
            (0..2_usize, any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)),
            0..60,
        ),
    ) {
        let mut rig = Rig::new(&[VIDEO, AUDIO], datagrams);
        let mut last = [None; 2];
        for (medium, seq, time, payload) in packets {
            let _ = rig.send(medium, seq % 16, time, &payload);
            rig.receiver.rtcp(medium, &payload, rig.now);
            rig.wait(u64::from(seq % 50));
            for output in rig.out.drain(..) {
                if let Output::Packet(packet) = output {
                    let last = &mut last[usize::from(packet.kind.is_video())];
                    prop_assert!(last.is_none_or(|last| packet.dts > last), "{:?}", packet);
                    *last = Some(packet.dts);
                }
            }
        }
    }
}
