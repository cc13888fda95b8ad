//! An association over a way that loses, doubles and reorders, and peers that break the rules.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

#[path = "../../../tests/webrtc/caller.rs"]
pub(crate) mod caller;
use caller::Caller;

const STEP: Duration = Duration::from_millis(20);
const TEXT: u32 = 51;

/// Both sides and a way between them that loses, repeats and swaps.
struct Way {
    now: Instant,
    caller: Caller,
    called: Association,
    events: Vec<Event>,
    chance: StdRng,
    /// Of a hundred datagrams so many are lost; a quarter of it comes twice or late.
    loss: u32,
    late: Vec<(bool, Vec<u8>)>,
    packets: usize,
}

impl Way {
    fn new(seed: u64, loss: u32) -> Self {
        let now = Instant::now();
        Self {
            now,
            caller: Caller::new(now),
            called: Association::new(),
            events: Vec::new(),
            chance: StdRng::seed_from_u64(seed),
            loss,
            late: Vec::new(),
            packets: 0,
        }
    }

    fn carry(&mut self, to_called: bool, datagram: &[u8]) {
        self.packets += 1;
        let chance = self.chance.random_range(0..100);
        if chance < self.loss {
            return;
        }
        if chance < self.loss + self.loss / 4 {
            self.late.push((to_called, datagram.to_vec()));
            if chance % 2 == 0 {
                return;
            }
        }
        self.deliver(to_called, datagram);
    }

    fn deliver(&mut self, to_called: bool, datagram: &[u8]) {
        if to_called {
            self.called.read(self.now, datagram, &mut self.events);
        } else {
            self.caller.read(self.now, datagram);
        }
    }

    /// Runs until `done` or for so many steps of time.
    fn run(&mut self, steps: u32, done: impl Fn(&mut Self) -> bool) -> bool {
        for _ in 0..steps {
            for (to_called, datagram) in std::mem::take(&mut self.late) {
                self.deliver(to_called, &datagram);
            }
            for _ in 0..8 {
                let sent: Vec<Bytes> = self.caller.outgoing(self.now);
                let mut silent = sent.is_empty();
                for datagram in sent {
                    self.carry(true, &datagram);
                }
                if self.called.next_timeout().is_some_and(|at| at <= self.now) {
                    self.called.handle_timeout(self.now);
                }
                let mut buffer = Vec::new();
                while self.called.poll_transmit(self.now, &mut buffer) {
                    assert!(buffer.len() <= PACKET_BYTES_MAX, "{}", buffer.len());
                    self.carry(false, &buffer);
                    silent = false;
                }
                if silent {
                    break;
                }
            }
            if done(self) {
                return true;
            }
            self.now += STEP;
        }
        false
    }

    fn open(seed: u64, loss: u32) -> Self {
        let mut way = Self::new(seed, loss);
        assert!(way.run(3000, |way| way.caller.is_connected() && way.called.is_open()));
        way
    }
}

fn text(length: usize, seed: u8) -> String {
    (0..length).map(|at| char::from(b'a' + ((at / 7 + seed as usize) % 26) as u8)).collect()
}

#[test]
fn messages_go_both_ways_whole_and_in_order_over_a_bad_way() {
    for (seed, loss) in [(1, 0), (2, 5), (3, 15), (4, 25)] {
        let mut way = Way::open(seed, loss);
        let wanted: Vec<String> =
            [1, 5000, 65_536, 40, 30_000].iter().map(|&n| text(n, n as u8)).collect();
        way.caller.open(way.now, 6, "millstream");
        for message in &wanted {
            way.caller.say(way.now, 6, message);
        }
        assert!(way.run(20_000, |way| way.events.len() == 6), "{loss}: {:?}", way.called.closed());
        for (order, message) in wanted.iter().enumerate() {
            assert!(way.called.send(6, order as u16, TEXT, message.as_bytes()));
            let Event::Message(got) = &way.events[order + 1] else { panic!("a reset") };
            assert_eq!((got.stream, got.protocol), (6, TEXT));
            assert!(got.data == message.as_bytes(), "{} bytes", message.len());
        }
        let mut heard = Vec::new();
        let mut left = 20_000;
        while heard.len() < wanted.len() && left > 0 {
            way.run(1, |_| false);
            heard.extend(way.caller.heard(6));
            left -= 1;
        }
        assert!(heard == wanted, "loss {loss}: {} of {}", heard.len(), wanted.len());
        assert!(way.run(3000, |way| way.called.next_timeout().is_none()), "nothing is on the way");
    }
}

#[test]
fn an_association_at_rest_says_nothing() {
    let mut way = Way::open(5, 0);
    way.caller.open(way.now, 0, "millstream");
    way.run(200, |_| false);
    let before = way.packets;
    way.run(3000, |_| false);
    assert_eq!(way.packets, before);
    assert_eq!(way.called.next_timeout(), None);
}

#[test]
fn either_side_closes_a_stream() {
    for loss in [0, 20] {
        let mut way = Way::open(6, loss);
        way.caller.open(way.now, 2, "a");
        way.caller.open(way.now, 4, "b");
        assert!(way.run(3000, |way| way.events.len() == 2));
        way.caller.close(way.now, 2);
        assert!(way.run(3000, |way| way.events.last() == Some(&Event::Reset(2))), "{loss}");
        way.called.reset(2);
        way.called.reset(4);
        assert!(way.run(3000, |way| !way.caller.has(4)), "{loss}");
        assert!(way.run(3000, |way| way.called.next_timeout().is_none()), "{loss}");
    }
}

#[test]
fn a_peer_that_acknowledges_nothing_is_given_up() {
    let mut way = Way::open(7, 0);
    assert!(way.called.send(0, 0, TEXT, b"hello"));
    let (mut now, mut buffer, mut sent) = (way.now, Vec::new(), 0);
    while way.called.closed().is_none() {
        while way.called.poll_transmit(now, &mut buffer) {
            sent += 1;
        }
        now = way.called.next_timeout().unwrap();
        way.called.handle_timeout(now);
    }
    assert_eq!((sent, way.called.closed()), (11, Some("the peer acknowledges nothing")));
    assert!(now - way.now < Duration::from_secs(120));
    assert!(!way.called.send(0, 0, TEXT, b"hello"));
}

#[test]
fn what_waits_to_be_sent_is_bounded() {
    let mut way = Way::open(8, 0);
    let message = vec![b'x'; MESSAGE_BYTES_MAX];
    let queued = (0..100).filter(|&order| way.called.send(0, order, TEXT, &message)).count();
    assert_eq!(queued, 4);
}

#[test]
fn a_violation_ends_in_an_abort_that_the_peer_understands() {
    let mut way = Way::open(9, 0);
    let mut buffer = Vec::new();
    let mut packet = Writer::new(&mut buffer, 5000, PORT, way.called.tag);
    packet.chunk(kind::DATA, 3, &[&[0; 12]]);
    packet.finish();
    way.called.read(way.now, &buffer, &mut way.events);
    assert_eq!(way.called.closed(), Some("a DATA chunk without data"));
    assert!(way.run(3, |way| way.caller.association.is_closed()));
}

#[test]
fn nothing_is_taken_without_the_tag_and_the_cookie() {
    let mut called = Association::new();
    let (now, mut events, mut buffer) = (Instant::now(), Vec::new(), Vec::new());
    let mut tell = |called: &mut Association, tag, kind, body: &[u8]| {
        let mut bytes = Vec::new();
        let mut packet = Writer::new(&mut bytes, 5000, PORT, tag);
        packet.chunk(kind, 3, &[body]);
        packet.finish();
        called.read(now, &bytes, &mut events);
        assert!(events.is_empty());
        called.poll_transmit(now, &mut buffer).then(|| buffer[12])
    };
    let init = [0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let (tag, cookie) = (called.tag, called.cookie);
    assert_eq!(tell(&mut called, tag, kind::COOKIE_ECHO, &cookie), None);
    assert_eq!(tell(&mut called, 1, kind::INIT, &init), None);
    assert_eq!(tell(&mut called, 0, kind::INIT, &init[..15]), None);
    assert_eq!(tell(&mut called, 0, kind::INIT, &[0; 16]), None);
    assert_eq!(tell(&mut called, 0, kind::INIT, &init), Some(kind::INIT_ACK));
    assert_eq!(tell(&mut called, tag, kind::DATA, &[1; 20]), None);
    assert_eq!(tell(&mut called, tag, kind::COOKIE_ECHO, &[0; 16]), None);
    assert_eq!(tell(&mut called, !tag, kind::COOKIE_ECHO, &cookie), None);
    assert!(!called.is_open());
    assert_eq!(tell(&mut called, tag, kind::COOKIE_ECHO, &cookie), Some(kind::COOKIE_ACK));
    assert!(called.is_open());
    assert_eq!(tell(&mut called, tag, kind::COOKIE_ECHO, &cookie), Some(kind::COOKIE_ACK));
    assert_eq!(tell(&mut called, tag, kind::HEARTBEAT, b"beat"), Some(kind::HEARTBEAT_ACK));
    assert_eq!(tell(&mut called, tag, 200, b"?"), None);
    assert_eq!(tell(&mut called, !tag, kind::ABORT, b""), None);
    assert!(called.is_open());
    assert_eq!(tell(&mut called, tag, kind::SHUTDOWN, b"1234"), Some(kind::SHUTDOWN_ACK));
    assert_eq!(called.closed(), Some("the peer shut it down"));
}
