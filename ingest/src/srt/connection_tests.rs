//! Both cores against each other: a caller and a listener over a simulated link with virtual time.

use rand::Rng;

use super::super::accept::{Door, Knock, Offer};
use super::super::call::{Call, CallError, Caller, Chance};
use super::super::crypto::KeyLength;
use super::super::handshake::Reject;
use super::*;

const MS: Duration = Duration::from_millis(1);
const PEER: &str = "192.0.2.7:4000";

/// A caller, a listener, and what a test lets happen between them.
struct Link {
    now: Instant,
    start: Instant,
    chance: StdRng,
    loss: f64,
    /// One way.
    delay: Duration,
    jitter: Duration,
    /// To whom (true: the listener), when, what.
    wire: Vec<(bool, Instant, Vec<u8>)>,
    caller: Connection,
    listener: Connection,
}

fn call(passphrase: Option<&str>, length: KeyLength) -> Call {
    Call {
        stream_id: "publish:cam".into(),
        passphrase: passphrase.map(str::to_owned),
        key_length: length,
        latency: 200 * MS,
        window: 8192,
        bytes_per_second: 0,
        idle_timeout: 5000 * MS,
        timeout: 3000 * MS,
        peer: [127, 0, 0, 1].into(),
    }
}

fn offer(passphrase: Option<&str>) -> Offer {
    Offer {
        local: 0x77,
        passphrase: passphrase.map(str::to_owned),
        key_length: None,
        latency: 120 * MS,
        window: 8192,
        bytes_per_second: 0,
        idle_timeout: 5000 * MS,
        seed: [2; 32],
    }
}

/// A handshake without loss: the caller's connection or error, and the listener's or refusal.
fn shake(
    now: Instant,
    call: Call,
    offer: Offer,
) -> (Result<Connection, CallError>, Result<Connection, Reject>) {
    let door = Door::new(now, &[3; 32], 9);
    let from = PEER.parse().unwrap();
    let chance = Chance { socket: 0x55, first: 0x7FFF_FFF0, keys: [5; 48], seed: [1; 32] };
    let mut caller = Caller::new(now, call, chance);
    let first = caller.transmit(now).unwrap();
    let Knock::Answer(answer) = door.handle(now, from, &first) else { panic!("no answer") };
    assert!(answer.len() <= first.len(), "an answer longer than the question");
    assert!(caller.handle(now, &answer).unwrap().is_none());
    let second = caller.transmit(now).unwrap();
    let elsewhere = "192.0.2.8:4000".parse().unwrap();
    assert!(matches!(door.handle(now, elsewhere, &second), Knock::Noise), "a stolen cookie");
    let Knock::Wish(wish) = door.handle(now, from, &second) else { panic!("no wish") };
    assert_eq!(wish.stream_id(), "publish:cam");
    match wish.agree(now, &offer) {
        Ok((terms, answer)) => {
            let connection = caller.handle(now, &answer).map(|found| found.expect("connected"));
            (connection, Ok(Connection::new(now, terms)))
        }
        Err(reject) => {
            let refused = caller.handle(now, &wish.refuse(reject)).map(|_| panic!("connected"));
            (refused, Err(reject))
        }
    }
}

impl Link {
    fn new(seed: u64, passphrase: Option<&str>) -> Self {
        let now = Instant::now();
        let (caller, listener) = shake(now, call(passphrase, KeyLength::Aes128), offer(passphrase));
        Self {
            now,
            start: now,
            chance: StdRng::seed_from_u64(seed),
            loss: 0.0,
            delay: 10 * MS,
            jitter: Duration::ZERO,
            wire: Vec::new(),
            caller: caller.unwrap(),
            listener: listener.unwrap(),
        }
    }

    /// A millisecond; answers what the listener and the caller read.
    fn step(&mut self) -> (Vec<Bytes>, Vec<Bytes>) {
        self.now += MS;
        let now = self.now;
        let arrived: Vec<_> = self.wire.extract_if(.., |(_, at, _)| *at <= now).collect();
        for (to_listener, _, datagram) in arrived {
            let side = if to_listener { &mut self.listener } else { &mut self.caller };
            side.handle(now, BytesMut::from(&datagram[..]));
        }
        let mut read = [Vec::new(), Vec::new()];
        let mut out = Vec::new();
        for (index, to_listener) in [(0, false), (1, true)] {
            let side = if to_listener { &mut self.caller } else { &mut self.listener };
            if now >= side.next_timeout() {
                side.handle_timeout(now);
            }
            read[index].extend(std::iter::from_fn(|| side.read(now)));
            while side.transmit(now, &mut out) {
                if !self.chance.random_bool(self.loss) {
                    let jitter = self.jitter.as_micros() as u64;
                    let jitter = Duration::from_micros(self.chance.random_range(0..=jitter));
                    self.wire.push((to_listener, now + self.delay + jitter, out.clone()));
                }
            }
        }
        let [listener, caller] = read;
        (listener, caller)
    }

    /// Sends `count` packets at a packet each millisecond and reads them at the other end.
    fn carry(&mut self, count: u32) -> Vec<u32> {
        let mut got = Vec::new();
        for n in 0..count + 1500 {
            if n < count {
                let mut data = vec![n as u8; 1316];
                data[..4].copy_from_slice(&n.to_be_bytes());
                assert!(self.caller.write(self.now, data.into()));
            }
            let (read, _) = self.step();
            for data in read {
                let n = u32::from_be_bytes(data[..4].try_into().unwrap());
                assert!(data.len() == 1316 && data[4..].iter().all(|byte| *byte == n as u8));
                got.push(n);
            }
        }
        got
    }
}

#[test]
fn both_sides_agree_on_the_longer_latency_and_on_keys_of_any_length() {
    let now = Instant::now();
    for (passphrase, length) in [
        (None, KeyLength::Aes128),
        (Some("a long passphrase"), KeyLength::Aes128),
        (Some("a long passphrase"), KeyLength::Aes192),
        (Some("a long passphrase"), KeyLength::Aes256),
    ] {
        let (caller, listener) = shake(now, call(passphrase, length), offer(passphrase));
        assert_eq!(caller.unwrap().latencies(), (200 * MS, 200 * MS));
        assert_eq!(listener.unwrap().latencies(), (200 * MS, 200 * MS));
    }
}

#[test]
fn a_wrong_or_missing_passphrase_is_told_by_the_protocols_own_code() {
    let now = Instant::now();
    let (right, wrong) = (Some("a long passphrase"), Some("another passphrase"));
    for (theirs, ours, reject) in [
        (wrong, right, Reject::BadSecret),
        (None, right, Reject::Unsecure),
        (right, None, Reject::Unsecure),
    ] {
        let (caller, listener) = shake(now, call(theirs, KeyLength::Aes128), offer(ours));
        assert_eq!(listener.err(), Some(reject));
        assert_eq!(caller.err(), Some(CallError::Refused(reject)));
    }
    let strong = Offer { key_length: Some(KeyLength::Aes256), ..offer(right) };
    let (_, listener) = shake(now, call(right, KeyLength::Aes128), strong);
    assert_eq!(listener.err(), Some(Reject::Unsecure));
}

#[test]
fn without_loss_everything_arrives_once_and_at_once() {
    let mut link = Link::new(1, None);
    assert_eq!(link.carry(3000), (0..3000).collect::<Vec<_>>());
    let stats = link.listener.statistics(link.now);
    assert_eq!((stats.packets_received_unique, stats.packets_sent_nak), (3000, 0));
    assert!((19.0..30.0).contains(&stats.ms_rtt), "{}", stats.ms_rtt);
    assert!(link.caller.delivered(link.now));
    assert_eq!(link.caller.statistics(link.now).packets_retrans, 0);
}

#[test]
fn at_five_percent_loss_and_reordering_nothing_is_missing() {
    for (seed, passphrase) in [(2, None), (3, Some("a long passphrase"))] {
        let mut link = Link::new(seed, passphrase);
        (link.loss, link.jitter) = (0.05, 5 * MS);
        assert_eq!(link.carry(5000), (0..5000).collect::<Vec<_>>());
        let stats = link.listener.statistics(link.now);
        assert!(stats.packets_received_loss > 100, "{stats:?}");
        assert_eq!((stats.packets_received_drop, stats.packets_received_undecrypt), (0, 0));
        let sent = link.caller.statistics(link.now);
        assert!(sent.packets_retrans < 5000, "{sent:?}");
        assert!(link.caller.delivered(link.now), "the last packets too");
    }
}

#[test]
fn what_cannot_come_in_time_is_given_up_and_the_rest_is_in_order() {
    let mut link = Link::new(4, None);
    (link.loss, link.delay) = (0.3, 90 * MS);
    let got = link.carry(3000);
    assert!(got.is_sorted() && got.len() > 2000, "{}", got.len());
    let stats = link.listener.statistics(link.now);
    let through = u64::from(*got.last().unwrap()) + 1;
    assert_eq!(got.len() as u64 + stats.packets_received_drop, through);
}

#[test]
fn a_link_that_is_cut_for_a_second_goes_on() {
    let mut link = Link::new(5, None);
    link.carry(100);
    link.loss = 1.0;
    let during = link.carry(500);
    link.loss = 0.0;
    let after = link.carry(500);
    assert!(during.len() < 50 && after.len() >= 500, "{} {}", during.len(), after.len());
    assert_eq!(link.listener.ended(), None);
}

#[test]
fn silence_ends_a_connection_and_quiet_does_not() {
    let mut link = Link::new(6, None);
    for _ in 0..20_000 {
        link.step();
    }
    assert_eq!((link.caller.ended(), link.listener.ended()), (None, None));
    link.loss = 1.0;
    for _ in 0..5100 {
        link.step();
    }
    assert_eq!(link.listener.ended(), Some(Ended::Silent(5000 * MS)));
    assert!(link.now - link.start > 25_000 * MS);
}

#[test]
fn a_close_is_told() {
    let mut link = Link::new(7, None);
    link.carry(10);
    link.caller.close();
    for _ in 0..20 {
        link.step();
    }
    assert_eq!(link.listener.ended(), Some(Ended::Shutdown));
    assert_eq!(link.caller.ended(), Some(Ended::Closed));
}

#[test]
fn keys_change_under_way() {
    let mut link = Link::new(8, Some("a long passphrase"));
    link.loss = 0.05;
    link.carry(100);
    for round in 0..2 {
        let before = link.caller.slot;
        link.caller.change.packets = KEY_PACKETS - KEY_PACKETS_BEFORE - 10;
        let got = link.carry(KEY_PACKETS_BEFORE as u32 + 1000);
        assert_eq!(got.len(), KEY_PACKETS_BEFORE as usize + 1000, "round {round}");
        assert_eq!(link.caller.slot, before.other());
        assert!(link.listener.stats.packets_received_km > round);
    }
    assert_eq!(link.listener.stats.packets_received_undecrypt, 0);
}

#[test]
fn plain_packets_in_an_encrypted_connection_are_not_believed() {
    let mut link = Link::new(9, Some("a long passphrase"));
    let plain = |seq: u32| {
        let key = Some(KeySlot::Plain);
        let seq = Seq::new(seq);
        let mut out = Vec::new();
        DataHead { seq, key, again: false, message: 1, time: 0, to: 0x77 }.write(&mut out);
        out.extend([0x47; 188]);
        BytesMut::from(&out[..])
    };
    link.listener.handle(link.now, plain(0x7FFF_FFF0));
    assert_eq!(link.listener.read(link.now), None);
    assert_eq!(link.listener.stats.packets_received_undecrypt, 1);
    assert_eq!(link.carry(10).len(), 10);
}

/// Junk that looks like packets: any control type and number, in and out of range.
fn junk(chance: &mut StdRng, to: u32) -> BytesMut {
    let length = chance.random_range(0..1500);
    let mut bytes: Vec<u8> = (0..length).map(|_| chance.random()).collect();
    if length >= 16 {
        if chance.random_bool(0.8) {
            let kinds = [0, 1, 2, 3, 4, 6, 7, 8, 0x7FFF, 0x1234];
            let kind: u16 = kinds[chance.random_range(0..kinds.len())];
            bytes[..2].copy_from_slice(&(0x8000 | kind).to_be_bytes());
            bytes[2..4].copy_from_slice(&chance.random_range(0_u16..9).to_be_bytes());
        }
        bytes[12..16].copy_from_slice(&to.to_be_bytes());
        if length >= 24 && chance.random_bool(0.5) {
            // Numbers near those in use, whose first is 0x7FFFFFF0.
            for at in [16, 20] {
                let near = 0x7FFF_FFF0_u32.wrapping_add(chance.random_range(0..5000)) & 0x7FFF_FFFF;
                bytes[at..at + 4].copy_from_slice(&near.to_be_bytes());
            }
        }
    }
    BytesMut::from(&bytes[..])
}

#[test]
fn junk_in_an_established_connection_neither_ends_nor_stops_nor_fills_it() {
    for (seed, passphrase) in [(10, None), (11, Some("a long passphrase"))] {
        let mut link = Link::new(seed, passphrase);
        let mut chance = StdRng::seed_from_u64(seed);
        for _ in 0..20_000 {
            let now = link.now;
            link.listener.handle(now, junk(&mut chance, 0x77));
            link.caller.handle(now, junk(&mut chance, 0x55));
            if chance.random_bool(0.1) {
                link.caller.write(now, Bytes::from_static(&[1; 1316]));
                link.step();
            }
            assert!(link.listener.controls.len() <= CONTROLS_MAX);
            assert!(link.listener.acks.len() <= ACKS_MAX);
            assert!(link.listener.receive.waiting().0 <= 8192);
        }
        assert_eq!((link.caller.ended(), link.listener.ended()), (None, None));
    }
}
