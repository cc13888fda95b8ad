//! One sender, one lossy link, one receiver: every frame arrives, in virtual time with a seed.

use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::{Packet, Pts, TrackKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::clock::{Ntp, ViewerClock};
use super::fuzz;
use super::mapping::Mapping;
use super::packet::{Header, RtpPacket, RtpTime, Seq};
use super::payload::{PAYLOAD_BYTES_DEFAULT, Packetiser, PictureDepacketiser, Unit};
use super::reorder::{Output, Reorder};
use super::ring::{Ring, RingLimits};
use super::rtcp::{Compound, Message, messages};
use super::rtx;

const MEDIA: (u32, u8) = (11, 102);
const RESENT: (u32, u8) = (12, 103);

/// A datagram under way: to the receiver or back.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    at: std::cmp::Reverse<(Instant, u64)>,
    to_receiver: bool,
    bytes: Vec<u8>,
}

/// Loses, delays and doubles by chance.
struct Link {
    chance: StdRng,
    loss: f64,
    under_way: BinaryHeap<Datagram>,
    count: u64,
}

impl Link {
    fn send(&mut self, now: Instant, to_receiver: bool, bytes: &[u8]) {
        for _ in 0..if self.chance.random_bool(0.02) { 2 } else { 1 } {
            self.count += 1;
            // The first picture comes whole: before it there is nothing to miss.
            if self.count > 60 && self.chance.random_bool(self.loss) {
                continue;
            }
            let jitter = if self.chance.random_bool(0.05) { 9_000 } else { 500 };
            let jitter = if self.count > 60 { self.chance.random_range(0..jitter) } else { 0 };
            let delay = Duration::from_micros(20_000 + jitter);
            let at = std::cmp::Reverse((now + delay, self.count));
            self.under_way.push(Datagram { at, to_receiver, bytes: bytes.to_vec() });
        }
    }
}

struct Sender {
    ring: Ring,
    mapping: Mapping,
    clock: ViewerClock,
    rtx: Seq,
}

impl Sender {
    fn send(&mut self, now: Instant, picture: &Packet, link: &mut Link) {
        let packetiser = Packetiser::new(pipeline::Codec::H264, PAYLOAD_BYTES_DEFAULT);
        let frame = self.ring.push(packetiser.packetise(picture).unwrap());
        let at = self.clock.place(frame.pts, frame.arrived);
        let placed = self.mapping.place(&frame, at);
        for index in 0..frame.len() {
            let (ssrc, payload_type) = MEDIA;
            let seq = placed.first.plus(index as u64).seq();
            let header =
                Header { marker: frame.marker(index), payload_type, seq, time: placed.time, ssrc };
            let mut out = Vec::new();
            header.write(&[(4, b"0")], &mut out);
            out.extend_from_slice(frame.payload(index).unwrap());
            assert!(out.len() <= 1200 - 16);
            link.send(now, true, &out);
        }
    }

    fn feedback(&mut self, now: Instant, bytes: &[u8], link: &mut Link) {
        for message in messages(bytes).map(Result::unwrap) {
            let Message::Nack { media, lost, .. } = message else { continue };
            assert_eq!(media, MEDIA.0);
            for seq in lost {
                let sent = self.mapping.lookup(seq).expect("within the window");
                let (frame, packet) = self.ring.with_packet(sent.packet).expect("within the ring");
                let time = self.mapping.time_of(frame, &sent);
                assert!(self.mapping.may_resend());
                self.rtx = self.rtx.next();
                let (ssrc, payload_type) = RESENT;
                let marker = frame.marker(packet);
                let header = Header { marker, payload_type, seq: self.rtx, time, ssrc };
                let mut out = Vec::new();
                header.write(&[(4, b"0")], &mut out);
                rtx::wrap(seq, frame.payload(packet).unwrap(), &mut out);
                link.send(now, true, &out);
            }
        }
    }
}

struct Receiver {
    reorder: Reorder<(bool, RtpTime, Vec<u8>)>,
    depacketiser: PictureDepacketiser,
    units: Vec<Unit>,
}

impl Receiver {
    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let packet = RtpPacket::parse(bytes).unwrap();
        let (seq, payload) = if packet.ssrc == RESENT.0 {
            rtx::unwrap(packet.payload).unwrap()
        } else {
            (packet.seq, packet.payload)
        };
        self.reorder.insert(now, seq, (packet.marker, packet.time, payload.to_vec()));
    }

    fn poll(&mut self, now: Instant, link: &mut Link) {
        while let Some(output) = self.reorder.poll(now) {
            match output {
                Output::Packet(seq, (marker, time, payload)) => {
                    self.depacketiser.push(seq, time, marker, &payload, now).unwrap();
                    self.units.extend(std::iter::from_fn(|| self.depacketiser.poll()));
                }
                Output::Nack(lost) => {
                    let mut out = Vec::new();
                    Compound::new(&mut out).receiver_report(1, &[]).nack(1, MEDIA.0, &lost);
                    link.send(now, false, &out);
                }
                Output::Lost { .. } => {}
            }
        }
    }
}

/// Sends `count` pictures over the link and gives them and what came out.
fn transfer(seed: u64, loss: f64, ask: bool, count: u64) -> (Vec<Packet>, Receiver) {
    let start = Instant::now();
    let mut chance = StdRng::seed_from_u64(seed);
    let pictures: Vec<Packet> = (0..count)
        .map(|number| {
            let key = number % 60 == 0;
            let length = chance.random_range(200..6000) * if key { 5 } else { 1 };
            let head: &[u8] = if key {
                &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 0x88]
            } else {
                &[0, 0, 0, 1, 0x41, 0x9a]
            };
            let body = std::iter::repeat_with(|| chance.random_range(2..=255_u8)).take(length);
            let data: Bytes = head.iter().copied().chain(body).collect();
            let (pts, arrived) =
                (Pts(number as i64 * 3000), start + Duration::from_micros(33_333) * number as u32);
            Packet { kind: TrackKind::Video, pts, dts: pts, key, data, arrived }
        })
        .collect();
    let mut link = Link { chance, loss, under_way: BinaryHeap::new(), count: 0 };
    let mut sender = Sender {
        ring: Ring::new(RingLimits::default()),
        mapping: Mapping::new(Seq(0x7f00), RtpTime(u32::MAX - 9999), 90_000, 1024),
        clock: ViewerClock::new(start, Ntp(0)),
        rtx: Seq(65_500),
    };
    let mut receiver = Receiver {
        reorder: Reorder::new(ask),
        depacketiser: PictureDepacketiser::h264(),
        units: Vec::new(),
    };
    receiver.reorder.set_rtt(Duration::from_millis(42));
    let mut next = 0;
    loop {
        let picture = pictures.get(next).map(|picture| picture.arrived);
        let datagram = link.under_way.peek().map(|datagram| datagram.at.0.0);
        let timeout = receiver.reorder.next_timeout();
        let Some(now) = [picture, datagram, timeout].into_iter().flatten().min() else { break };
        if picture == Some(now) {
            sender.send(now, &pictures[next], &mut link);
            next += 1;
        } else if datagram == Some(now) {
            let datagram = link.under_way.pop().unwrap();
            if datagram.to_receiver {
                receiver.receive(now, &datagram.bytes);
            } else {
                sender.feedback(now, &datagram.bytes, &mut link);
            }
        }
        receiver.poll(now, &mut link);
    }
    (pictures, receiver)
}

#[test]
fn every_frame_survives_five_percent_of_loss() {
    for seed in 0..8 {
        // The end of the stream cannot be missed: its last packets have no successor.
        let (pictures, receiver) = transfer(seed, 0.05, true, 900);
        let counts = receiver.reorder.counts();
        assert!(
            counts.recovered > 50 && counts.duplicates + counts.late > 20,
            "seed {seed}: {counts:?}"
        );
        assert_eq!(counts.lost, 0, "seed {seed}: {counts:?}");
        assert!(receiver.units.len() >= 890, "seed {seed}: {}", receiver.units.len());
        for (unit, picture) in receiver.units.iter().zip(&pictures) {
            assert_eq!(unit.data, picture.data, "seed {seed}, {}", picture.pts);
            assert_eq!(unit.key, picture.key);
        }
    }
}

#[test]
fn without_retransmission_only_whole_pictures_come_out_each_run_from_a_key_picture() {
    let (pictures, receiver) = transfer(3, 0.01, false, 900);
    assert!(receiver.reorder.counts().lost > 10);
    assert!((100..800).contains(&receiver.units.len()), "{}", receiver.units.len());
    let mut last = None;
    for unit in &receiver.units {
        let number = pictures.iter().position(|picture| picture.data == unit.data).expect("whole");
        assert!(unit.key || last.is_some_and(|last: usize| last + 1 == number));
        last = Some(number);
    }
}

#[test]
fn the_fuzz_targets_take_their_seeds() {
    fuzz::HEADER_SEEDS.iter().for_each(|seed| fuzz::header(seed));
    fuzz::RTCP_SEEDS.iter().for_each(|seed| fuzz::rtcp(seed));
    fuzz::DEPACKETISE_SEEDS.iter().for_each(|seed| fuzz::depacketise(seed));
    assert!(fuzz::RTCP_SEEDS.iter().all(|seed| messages(seed).all(|message| message.is_ok())));
    assert!(fuzz::HEADER_SEEDS.iter().all(|seed| RtpPacket::parse(seed).is_ok()));
}
