//! An established connection: datagrams and time go in, payloads and datagrams come out
//! (draft-sharabayko-srt-01, sections 3.2 and 4).
//!
//! A packet that makes no sense, or not now, is counted and passed over; nothing that a peer sends
//! ends more than its own connection.
//!
//! This file is long because what each control packet does to both halves is read together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use super::crypto::Crypto;
use super::receive::{Receive, Taken};
use super::send::Send;
use super::stats::{Rate, RoundTrip, Statistics};
use super::wire::{
    ControlHead, DATAGRAM_BYTES_MAX, DataHead, HEADER_BYTES, Head, KeySlot, PAYLOAD_BYTES_MAX, Seq,
    extension, kind, losses, word,
};

/// Time between acknowledgements.
const ACK_PERIOD: Duration = Duration::from_millis(10);

/// Packets after which one is sent at once, without figures.
const LIGHT_ACK_PACKETS: u32 = 64;

/// Time between lists of losses, at least.
const NAK_PERIOD: Duration = Duration::from_millis(20);

/// A connection on which nothing was sent for so long says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Control packets that wait to be sent, at most; more are left out.
const CONTROLS_MAX: usize = 256;

/// Acknowledgements whose answer is still expected, at most.
const ACKS_MAX: usize = 256;

/// Packets after which the key is changed, and how many before that the new one is told (6.1.6).
const KEY_PACKETS: u64 = 1 << 24;
const KEY_PACKETS_BEFORE: u64 = 1 << 12;

/// Time between two times that the new key is told, and between two that a peer's is looked at:
/// each costs a thousandth of a second of computing.
const KEY_PERIOD: Duration = Duration::from_millis(500);

/// States of key material in an answer (3.2.2).
const KEYS_NONE: u32 = 3;
const KEYS_BAD: u32 = 4;

/// What two sides agreed on.
pub(super) struct Terms {
    pub(super) local: u32,
    pub(super) peer: u32,
    /// When this side's clock was zero.
    pub(super) epoch: Instant,
    pub(super) first: Seq,
    /// Packets that the peer has room for, and we.
    pub(super) peer_window: usize,
    pub(super) window: usize,
    /// Delay of what comes in, and of what goes out at the peer.
    pub(super) latency_in: Duration,
    pub(super) latency_out: Duration,
    /// Limit of bandwidth out, 0 for none.
    pub(super) bytes_per_second: u64,
    /// Silence after which the peer is gone.
    pub(super) idle_timeout: Duration,
    pub(super) crypto: Option<Crypto>,
    /// Chance for new keys.
    pub(super) seed: [u8; 32],
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The peer said so.
    #[error("the peer closed the connection")]
    Shutdown,
    /// Nothing came from the peer.
    #[error("nothing came from the peer for {} s", .0.as_secs())]
    Silent(Duration),
    /// This side closed it.
    #[error("closed here")]
    Closed,
}

/// A control packet to be sent.
enum Control {
    Ack { number: u32, light: bool },
    Nak(Vec<u8>),
    AckAck(u32),
    KeepAlive,
    Shutdown,
    Drop(Seq, Seq),
    Keys { answer: bool, material: Bytes },
}

/// The change of keys that is under way.
#[derive(Default)]
struct KeyChange {
    /// Packets sent with the present key.
    packets: u64,
    /// The new key was made, and the peer has it.
    made: bool,
    taken: bool,
    told: Option<Instant>,
}

pub(super) struct Connection {
    local: u32,
    peer: u32,
    epoch: Instant,
    send: Send,
    receive: Receive,
    crypto: Option<Crypto>,
    slot: KeySlot,
    change: KeyChange,
    /// When a peer's new keys were looked at.
    keys_seen: Option<Instant>,
    chance: StdRng,
    controls: VecDeque<Control>,
    trip: RoundTrip,
    /// Number of the last acknowledgement, and those that wait for their answer.
    ack_number: u32,
    acks: VecDeque<(u32, Seq, Instant)>,
    /// What was acknowledged last, and what the peer knows to be.
    acked: Option<(Seq, Instant)>,
    acked_known: Option<Seq>,
    ack_due: Option<Instant>,
    light: u32,
    nak_due: Option<Instant>,
    heard: Instant,
    sent: Instant,
    idle_timeout: Duration,
    latency_out: Duration,
    ended: Option<Ended>,
    rate_in: Rate,
    rate_out: Rate,
    pub(super) stats: Statistics,
}

impl Connection {
    pub(super) fn new(now: Instant, terms: Terms) -> Self {
        // What is this much too late at the peer is not worth sending (4.6).
        let too_late = (terms.latency_out * 5 / 4).max(Duration::from_secs(1));
        let (peer_window, bandwidth) = (terms.peer_window, terms.bytes_per_second);
        let slot = terms.crypto.as_ref().map_or(KeySlot::Plain, Crypto::first_slot);
        let stats = Statistics {
            byte_mss: DATAGRAM_BYTES_MAX as u64 + 28,
            mbps_max_bw: bandwidth as f64 * 8e-6,
            ..Statistics::default()
        };
        Self {
            local: terms.local,
            peer: terms.peer,
            epoch: terms.epoch,
            send: Send::new(now, terms.first, peer_window, terms.window, too_late, bandwidth),
            receive: Receive::new(terms.first, terms.window, terms.latency_in),
            crypto: terms.crypto,
            slot,
            change: KeyChange::default(),
            keys_seen: None,
            chance: StdRng::from_seed(terms.seed),
            controls: VecDeque::new(),
            trip: RoundTrip::default(),
            ack_number: 0,
            acks: VecDeque::new(),
            acked: None,
            acked_known: None,
            ack_due: None,
            light: 0,
            nak_due: None,
            heard: now,
            sent: now,
            idle_timeout: terms.idle_timeout,
            latency_out: terms.latency_out,
            ended: None,
            rate_in: Rate::new(now),
            rate_out: Rate::new(now),
            stats,
        }
    }

    /// Takes a datagram of the peer.
    pub(super) fn handle(&mut self, now: Instant, mut datagram: BytesMut) {
        let head = Head::parse(&datagram).filter(|_| datagram.len() <= DATAGRAM_BYTES_MAX);
        let Some(head) = head else { return self.stats.packets_ignored += 1 };
        let to = match &head {
            Head::Data(head) => head.to,
            Head::Control(head) => head.to,
        };
        if to != self.local || self.ended.is_some() {
            return self.stats.packets_ignored += 1;
        }
        self.heard = now;
        let body = datagram.split_off(HEADER_BYTES);
        match head {
            Head::Data(head) => self.data(now, &head, body),
            Head::Control(head) => {
                if self.control(now, &head, &body).is_none() {
                    self.stats.packets_ignored += 1;
                }
            }
        }
    }

    fn data(&mut self, now: Instant, head: &DataHead, mut body: BytesMut) {
        let bytes = body.len() as u64;
        self.rate_in.add(now, body.len());
        let stats = &mut self.stats;
        stats.packets_received += 1;
        stats.bytes_received += bytes;
        if head.again {
            stats.packets_received_retrans += 1;
            stats.bytes_received_retrans += bytes;
        }
        self.light += 1;
        let due = now + ACK_PERIOD;
        self.ack_due = Some(self.ack_due.map_or(due, |before| before.min(due)));
        if !self.receive.wants(head.seq) {
            stats.packets_received_belated += 1;
            stats.bytes_received_belated += bytes;
            return;
        }
        let readable = match (&self.crypto, head.key) {
            (None, Some(KeySlot::Plain)) => true,
            (Some(crypto), Some(slot @ (KeySlot::Even | KeySlot::Odd))) => {
                crypto.apply(slot, head.seq, &mut body)
            }
            _ => false,
        };
        if !readable {
            stats.packets_received_undecrypt += 1;
            stats.bytes_received_undecrypt += bytes;
            return;
        }
        match self.receive.take(now, head, body.freeze()) {
            Taken::Hole(first, last) => {
                stats.packets_received_loss += last.since(first) as u64 + 1;
                let mut list = Vec::with_capacity(8);
                super::wire::put_loss(&mut list, first, last);
                self.say(Control::Nak(list));
                self.nak_due.get_or_insert(now + self.nak_period());
            }
            Taken::Kept => {}
            Taken::Late | Taken::Ahead => {
                self.stats.packets_received_belated += 1;
                return;
            }
        }
        self.stats.packets_received_unique += 1;
        self.stats.bytes_received_unique += bytes;
        if self.light >= LIGHT_ACK_PACKETS {
            self.light = 0;
            self.say(Control::Ack { number: 0, light: true });
        }
    }

    /// `None` for what makes no sense.
    fn control(&mut self, now: Instant, head: &ControlHead, body: &[u8]) -> Option<()> {
        match head.kind {
            kind::KEEP_ALIVE => {}
            kind::ACK => {
                self.stats.packets_received_ack += 1;
                let next = Seq::new(word(body, 0)?);
                let room = word(body, 3).map(|packets| packets as usize);
                if !self.send.acknowledge(now, next, room) {
                    return None;
                }
                if let Some(packets) = word(body, 5) {
                    self.stats.mbps_link_capacity =
                        f64::from(packets) * PAYLOAD_BYTES_MAX as f64 * 8e-6;
                }
                // One without figures wants no answer.
                if let (Some(trip), Some(deviation)) = (word(body, 1), word(body, 2)) {
                    self.say(Control::AckAck(head.info));
                    if self.stats.packets_received_unique == 0 {
                        let micros = |us: u32| Duration::from_micros(us.min(10_000_000).into());
                        (self.trip.mean, self.trip.deviation) = (micros(trip), micros(deviation));
                    }
                }
            }
            kind::NAK => {
                self.stats.packets_received_nak += 1;
                self.nak(now, body);
            }
            kind::SHUTDOWN => self.ended = Some(Ended::Shutdown),
            kind::ACK_ACK => {
                let place = self.acks.iter().position(|(number, ..)| *number == head.info)?;
                let (_, seq, at) = self.acks.drain(..=place).next_back()?;
                self.trip.sample(now.saturating_duration_since(at));
                self.acked_known = Some(seq);
            }
            kind::DROP_REQUEST => {
                let (first, last) = (Seq::new(word(body, 0)?), Seq::new(word(body, 1)?));
                if last.since(first) < 0 {
                    return None;
                }
                self.stats.packets_received_drop += self.receive.give_up(first, last) as u64;
            }
            kind::USER => match head.subtype {
                extension::KM_REQUEST => self.peer_keys(now, body),
                extension::KM_RESPONSE => {
                    self.stats.packets_received_km += 1;
                    // A refusal is one word.
                    self.change.taken |= self.change.made && body.len() > 4;
                }
                _ => return None,
            },
            _ => return None,
        }
        Some(())
    }

    fn nak(&mut self, now: Instant, body: &[u8]) {
        let rest = self.trip.mean;
        let mut after: Option<Seq> = None;
        for (first, last) in losses(body) {
            // Ranges grow: a list that goes over the same ones again only makes work.
            if after.is_some_and(|after| first.since(after) <= 0) {
                self.stats.packets_ignored += 1;
                continue;
            }
            after = Some(last);
            let (count, gone) = self.send.lost(now, (first, last), rest);
            self.stats.packets_send_loss += count as u64;
            if let Some((first, last)) = gone {
                self.say(Control::Drop(first, last));
            }
        }
    }

    /// The peer's next keys.
    fn peer_keys(&mut self, now: Instant, material: &[u8]) {
        self.stats.packets_received_km += 1;
        let recent = |seen: &Instant| now.saturating_duration_since(*seen) < KEY_PERIOD / 2;
        if self.keys_seen.as_ref().is_some_and(recent)
            || material.len() > super::handshake::KM_BYTES_MAX
        {
            return self.stats.packets_ignored += 1;
        }
        self.keys_seen = Some(now);
        let answer = match &mut self.crypto {
            None => Bytes::copy_from_slice(&KEYS_NONE.to_be_bytes()),
            Some(crypto) => match crypto.update(material) {
                Ok(()) => Bytes::copy_from_slice(material),
                Err(_) => Bytes::copy_from_slice(&KEYS_BAD.to_be_bytes()),
            },
        };
        self.say(Control::Keys { answer: true, material: answer });
    }

    /// The next payload in order.
    pub(super) fn read(&mut self, now: Instant) -> Option<Bytes> {
        let (data, lost) = self.receive.next(now)?;
        self.stats.packets_received_drop += lost as u64;
        Some(data)
    }

    /// Hands in a payload of at most [`PAYLOAD_BYTES_MAX`] bytes; false when the buffer is full.
    pub(super) fn write(&mut self, now: Instant, payload: Bytes) -> bool {
        debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX);
        self.send.push(now, payload)
    }

    /// The next datagram for the peer, into `out`; false when there is none now.
    pub(super) fn transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        out.clear();
        if let Some(control) = self.controls.pop_front() {
            self.put_control(now, control, out);
        } else if self.ended.is_some() {
            return false;
        } else if let Some(packet) = self.send.next(now, self.slot) {
            let head = DataHead {
                seq: packet.seq,
                key: Some(packet.key),
                again: packet.again,
                message: packet.message,
                time: self.time(packet.at),
                to: self.peer,
            };
            head.write(out);
            out.extend_from_slice(&packet.data);
            if let Some(crypto) = &self.crypto {
                crypto.apply(packet.key, packet.seq, &mut out[HEADER_BYTES..]);
            }
            let bytes = packet.data.len();
            self.rate_out.add(now, bytes);
            self.count_out(packet.again, bytes as u64);
            if !packet.again {
                self.turn_keys(now);
            }
        } else {
            return false;
        }
        self.sent = now;
        true
    }

    fn count_out(&mut self, again: bool, bytes: u64) {
        let stats = &mut self.stats;
        stats.packets_sent += 1;
        stats.bytes_sent += bytes;
        if again {
            stats.packets_retrans += 1;
            stats.bytes_retrans += bytes;
        } else {
            stats.packets_sent_unique += 1;
            stats.bytes_sent_unique += bytes;
        }
    }

    fn put_control(&mut self, now: Instant, control: Control, out: &mut Vec<u8>) {
        let head = ControlHead {
            kind: kind::KEEP_ALIVE,
            subtype: 0,
            info: 0,
            time: self.time(now),
            to: self.peer,
        };
        match control {
            Control::Ack { number, light } => {
                self.stats.packets_sent_ack += 1;
                ControlHead { kind: kind::ACK, info: number, ..head }.write(out);
                out.put_u32(self.receive.acknowledged().bits());
                if !light {
                    let micros =
                        |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                    let bytes = self.rate_in.bytes_per_second();
                    let packets = bytes / 1316.0;
                    out.put_u32(micros(self.trip.mean));
                    out.put_u32(micros(self.trip.deviation));
                    out.put_u32(self.receive.room().max(2) as u32);
                    out.put_u32(packets as u32);
                    // An estimate of the link: nobody asks for more than this.
                    out.put_u32((packets as u32).max(1000));
                    out.put_u32(bytes as u32);
                }
            }
            Control::Nak(list) => {
                self.stats.packets_sent_nak += 1;
                ControlHead { kind: kind::NAK, ..head }.write(out);
                out.put_slice(&list);
            }
            Control::AckAck(number) => {
                ControlHead { kind: kind::ACK_ACK, info: number, ..head }.write(out);
                out.put_u32(0);
            }
            Control::KeepAlive => {
                head.write(out);
                out.put_u32(0);
            }
            Control::Shutdown => {
                ControlHead { kind: kind::SHUTDOWN, ..head }.write(out);
                out.put_u32(0);
            }
            Control::Drop(first, last) => {
                ControlHead { kind: kind::DROP_REQUEST, ..head }.write(out);
                out.put_u32(first.bits());
                out.put_u32(last.bits());
            }
            Control::Keys { answer, material } => {
                self.stats.packets_sent_km += 1;
                let subtype = extension::KM_REQUEST + u16::from(answer);
                ControlHead { kind: kind::USER, subtype, ..head }.write(out);
                out.put_slice(&material);
            }
        }
    }

    /// Counts a packet towards the change of keys; makes, tells and uses the next one.
    fn turn_keys(&mut self, now: Instant) {
        let Some(crypto) = &mut self.crypto else { return };
        let change = &mut self.change;
        change.packets += 1;
        if change.packets < KEY_PACKETS - KEY_PACKETS_BEFORE {
            return;
        }
        let next = self.slot.other();
        if !std::mem::replace(&mut change.made, true) {
            let mut key = [0; 32];
            self.chance.fill_bytes(&mut key);
            crypto.put(next, &key);
        }
        if change.taken && change.packets >= KEY_PACKETS {
            self.slot = next;
            *change = KeyChange::default();
            return;
        }
        let told = |at: Instant| now.saturating_duration_since(at) < KEY_PERIOD;
        if !change.taken && !change.told.is_some_and(told) {
            change.told = Some(now);
            let material = crypto.material(&[self.slot, next]);
            self.say(Control::Keys { answer: false, material });
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn next_timeout(&self) -> Instant {
        let always = [self.heard + self.idle_timeout, self.sent + KEEP_ALIVE];
        let some = [
            self.ack_due,
            self.nak_due,
            self.receive.next_timeout(),
            self.send.next_timeout(self.probe_limit()),
        ];
        let next = always.into_iter().chain(some.into_iter().flatten()).min();
        next.unwrap_or(self.heard)
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        if now.saturating_duration_since(self.heard) >= self.idle_timeout {
            self.ended = Some(Ended::Silent(self.idle_timeout));
            return self.say(Control::Shutdown);
        }
        if self.ack_due.is_some_and(|due| now >= due) {
            self.ack_due = None;
            self.acknowledge(now);
        }
        if self.nak_due.is_some_and(|due| now >= due) {
            self.nak_due = None;
            if self.receive.any_missing() {
                let mut list = Vec::new();
                self.receive.missing(&mut list);
                self.say(Control::Nak(list));
                self.nak_due = Some(now + self.nak_period());
            }
        }
        let (packets, bytes) = self.send.drop_late(now);
        self.stats.packets_send_drop += packets as u64;
        self.stats.bytes_send_drop += bytes as u64;
        self.send.probe(now, self.probe_limit());
        if now.saturating_duration_since(self.sent) >= KEEP_ALIVE {
            self.sent = now;
            self.say(Control::KeepAlive);
        }
    }

    fn acknowledge(&mut self, now: Instant) {
        let next = self.receive.acknowledged();
        if self.acked_known == Some(next) {
            return;
        }
        // The same again only when the answer is overdue.
        if let Some((last, at)) = self.acked {
            let waited = now.saturating_duration_since(at);
            if last == next && waited < self.trip.limit() {
                self.ack_due = Some(at + self.trip.limit());
                return;
            }
        }
        self.acked = Some((next, now));
        self.ack_number = self.ack_number.wrapping_add(1).max(1);
        self.acks.push_back((self.ack_number, next, now));
        if self.acks.len() > ACKS_MAX {
            self.acks.pop_front();
        }
        self.light = 0;
        self.ack_due = Some(now + self.trip.limit());
        self.say(Control::Ack { number: self.ack_number, light: false });
    }

    /// Ends the connection from this side; what is to be sent tells the peer.
    pub(super) fn close(&mut self) {
        if self.ended.is_none() {
            self.ended = Some(Ended::Closed);
            self.controls.clear();
            self.say(Control::Shutdown);
        }
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Whether everything that was handed in has been sent and acknowledged.
    pub(super) fn delivered(&self, now: Instant) -> bool {
        self.send.waiting(now).0 == 0
    }

    /// Delay of what comes in, and of what goes out at the peer.
    pub(super) fn latencies(&self) -> (Duration, Duration) {
        (self.receive.latency(), self.latency_out)
    }

    /// Figures at this moment.
    pub(super) fn statistics(&mut self, now: Instant) -> Statistics {
        self.rate_in.turn(now);
        self.rate_out.turn(now);
        let (send_packets, send_bytes, send_age) = self.send.waiting(now);
        let (receive_packets, receive_bytes) = self.receive.waiting();
        let percent =
            |part: u64, all: u64| if all == 0 { 0.0 } else { 100.0 * part as f64 / all as f64 };
        let stats = &self.stats;
        let mean = stats.bytes_received.checked_div(stats.packets_received).unwrap_or_default();
        let room = |packets: usize| (packets * PAYLOAD_BYTES_MAX) as u64;
        Statistics {
            ms_rtt: self.trip.mean.as_secs_f64() * 1000.0,
            mbps_send_rate: self.rate_out.bytes_per_second() * 8e-6,
            mbps_receive_rate: self.rate_in.bytes_per_second() * 8e-6,
            packets_flow_window: self.send.window() as u64,
            packets_flight_size: self.send.under_way() as u64,
            packets_send_buf: send_packets as u64,
            bytes_send_buf: send_bytes as u64,
            ms_send_buf: send_age.as_millis() as u64,
            ms_send_tsb_pd_delay: self.latency_out.as_millis() as u64,
            packets_receive_buf: receive_packets as u64,
            bytes_receive_buf: receive_bytes as u64,
            ms_receive_tsb_pd_delay: self.receive.latency().as_millis() as u64,
            packets_send_loss_rate: percent(stats.bytes_retrans, stats.bytes_sent),
            packets_received_loss_rate: percent(stats.bytes_received_retrans, stats.bytes_received),
            us_snd_duration: self.send.busy(now).as_micros() as u64,
            bytes_received_loss: stats.packets_received_loss * mean,
            bytes_received_drop: stats.packets_received_drop * mean,
            us_packets_send_period: match stats.mbps_max_bw {
                0.0 => 0.0,
                limit => stats.byte_mss as f64 * 8.0 / limit,
            },
            bytes_avail_send_buf: room(self.send.room()),
            bytes_avail_receive_buf: room(self.receive.room()),
            ms_receive_buf: self.receive.span().as_millis() as u64,
            ..*stats
        }
    }

    fn say(&mut self, control: Control) {
        if self.controls.len() < CONTROLS_MAX {
            self.controls.push_back(control);
        } else {
            self.stats.packets_ignored += 1;
        }
    }

    fn nak_period(&self) -> Duration {
        (self.trip.limit() / 2).max(NAK_PERIOD)
    }

    fn probe_limit(&self) -> Duration {
        self.trip.limit() + 2 * ACK_PERIOD
    }

    fn time(&self, at: Instant) -> u32 {
        at.saturating_duration_since(self.epoch).as_micros() as u32
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
