//! SCTP under data channels (RFC 9260 over DTLS, RFC 8261), as the side that is called.
//!
//! One association for one peer that already proved itself, so there is no path to manage, no
//! address to verify and no cookie to sign. The peer begins; we never send INIT. Offered is RFC
//! 6525, by which channels are closed; not offered are partial reliability, interleaving and
//! authentication.
//!
//! Whatever the peer does, an association takes a bounded room and a datagram a bounded time: no
//! stream has a state here, queues are bounded in bytes and chunks, and what no sender does
//! ([`Violation`]) ends the association with an ABORT.

mod receive;
mod reset;
mod transmit;
mod wire;

use std::collections::VecDeque;
use std::time::Instant;

use rand::Rng;

use receive::Inbound;
pub(crate) use receive::Message;
use reset::Resets;
use transmit::{Outbound, PACKET_BYTES_MAX};
use wire::{Chunk, Packet, Writer, kind, u16_at, u32_at};

/// The port that our answer names.
pub(crate) const PORT: u16 = 5000;

/// The longest message, both ways.
pub(crate) const MESSAGE_BYTES_MAX: usize = 65_536;

/// Answers to chunks that wait for [`Association::poll_transmit`]; further ones are not given.
const REPLIES_MAX: usize = 8;

/// The longest body that is repeated in a HEARTBEAT ACK.
const HEARTBEAT_BYTES_MAX: usize = 1024;

const PARAMETER_COOKIE: u16 = 7;
const PARAMETER_EXTENSIONS: u16 = 0x8008;
const CAUSE_PROTOCOL_VIOLATION: u16 = 13;

/// What no sender does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(&'static str);

/// What a datagram brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message(Message),
    /// The peer sends nothing more on this stream.
    Reset(u16),
}

/// Where an association is.
enum State {
    /// Nothing came, or an INIT that was answered.
    Waiting(Option<Called>),
    Open(Box<Open>),
    /// Over; why.
    Closed(String),
}

/// What an INIT said.
#[derive(Clone, Copy)]
struct Called {
    port: u16,
    tag: u32,
    window: u32,
    first: u32,
}

struct Open {
    peer: Called,
    inbound: Inbound,
    outbound: Outbound,
    resets: Resets,
}

/// One association.
pub(crate) struct Association {
    tag: u32,
    first: u32,
    cookie: [u8; 16],
    state: State,
    /// Chunks to send: type, flags, body; and the tag and port of who gets them.
    replies: VecDeque<(Called, u8, Vec<u8>)>,
}

impl Association {
    /// An association that waits to be called.
    pub(crate) fn new() -> Self {
        let mut random = rand::rng();
        Self {
            tag: random.random_range(1..=u32::MAX),
            first: random.random(),
            cookie: random.random(),
            state: State::Waiting(None),
            replies: VecDeque::new(),
        }
    }

    /// Whether messages can be sent.
    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Why it is over.
    pub(crate) fn closed(&self) -> Option<&str> {
        match &self.state {
            State::Closed(why) => Some(why),
            _ => None,
        }
    }

    /// Takes a datagram of the peer. One that is no SCTP for this association is dropped.
    pub(crate) fn read(&mut self, now: Instant, datagram: &[u8], events: &mut Vec<Event>) {
        let Some(packet) = Packet::parse(datagram).filter(|p| p.destination == PORT) else {
            return;
        };
        for chunk in packet.chunks() {
            if self.closed().is_some() {
                return;
            }
            match self.chunk(now, &packet, chunk, events) {
                Ok(true) => {}
                Ok(false) => return,
                Err(violation) => return self.abort(violation),
            }
        }
    }

    /// Takes a chunk; false when the rest of the packet is not to be looked at.
    fn chunk(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        chunk: Chunk<'_>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Violation> {
        if chunk.kind == kind::INIT {
            self.init(packet, chunk.body);
            return Ok(false);
        }
        if packet.tag != self.tag {
            return Ok(false);
        }
        if chunk.kind == kind::COOKIE_ECHO {
            return Ok(self.cookie(chunk.body));
        }
        let State::Open(open) = &mut self.state else { return Ok(false) };
        match chunk.kind {
            kind::DATA => {
                let mut messages = Vec::new();
                let result = open.inbound.data(chunk.flags, chunk.body, &mut messages);
                events.extend(messages.into_iter().map(Event::Message));
                result?;
                for stream in open.resets.due(open.inbound.cumulative()) {
                    events.push(Event::Reset(stream));
                }
            }
            kind::SACK => open.outbound.sack(now, chunk.body),
            kind::HEARTBEAT if chunk.body.len() <= HEARTBEAT_BYTES_MAX => {
                let peer = open.peer;
                self.reply(peer, kind::HEARTBEAT_ACK, chunk.body.to_vec());
            }
            kind::RECONFIG => {
                let peer = open.peer;
                let cumulative = open.inbound.cumulative();
                let (streams, answers) = open.resets.read(chunk.body, cumulative);
                events.extend(streams.into_iter().map(Event::Reset));
                for answer in answers {
                    self.reply(peer, kind::RECONFIG, answer);
                }
            }
            kind::ABORT => self.state = State::Closed("the peer aborted it".into()),
            kind::SHUTDOWN => {
                let peer = open.peer;
                self.reply(peer, kind::SHUTDOWN_ACK, Vec::new());
                self.state = State::Closed("the peer shut it down".into());
            }
            // Those of the RFC are known and passed over; of others the highest bit says whether the
            // rest of the packet is to be read (RFC 9260 3.2).
            kind => return Ok(kind <= kind::SHUTDOWN_COMPLETE || kind >= 128),
        }
        Ok(true)
    }

    /// An association that is open takes no INIT: its peer has no reason to begin again without
    /// another DTLS handshake, and one that was on the way for long is none.
    fn init(&mut self, packet: &Packet<'_>, body: &[u8]) {
        let State::Waiting(called) = &mut self.state else { return };
        let (Some(tag), Some(window), Some(first)) =
            (u32_at(body, 0), u32_at(body, 4), u32_at(body, 12))
        else {
            return;
        };
        let streams = [u16_at(body, 8), u16_at(body, 10)];
        if packet.tag != 0 || tag == 0 || streams.contains(&Some(0)) {
            return;
        }
        let peer = Called { port: packet.source, tag, window, first };
        *called = Some(peer);
        let mut answer = Vec::with_capacity(64);
        answer.extend_from_slice(&self.tag.to_be_bytes());
        answer.extend_from_slice(&Inbound::new(first).window().to_be_bytes());
        answer.extend_from_slice(&[0xff; 4]);
        answer.extend_from_slice(&self.first.to_be_bytes());
        answer.extend(wire::parameter(PARAMETER_COOKIE, &self.cookie));
        answer.extend(wire::parameter(PARAMETER_EXTENSIONS, &[kind::RECONFIG]));
        self.reply(peer, kind::INIT_ACK, answer);
    }

    fn cookie(&mut self, body: &[u8]) -> bool {
        if body != self.cookie {
            return false;
        }
        let peer = match &self.state {
            State::Waiting(Some(peer)) => {
                let peer = *peer;
                self.state = State::Open(Box::new(Open {
                    peer,
                    inbound: Inbound::new(peer.first),
                    outbound: Outbound::new(self.first, peer.window),
                    resets: Resets::new(self.first, peer.first),
                }));
                peer
            }
            // Our acknowledgement was lost.
            State::Open(open) => open.peer,
            State::Waiting(None) | State::Closed(_) => return false,
        };
        self.reply(peer, kind::COOKIE_ACK, Vec::new());
        true
    }

    fn reply(&mut self, to: Called, kind: u8, body: Vec<u8>) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back((to, kind, body));
        }
    }

    fn abort(&mut self, violation: Violation) {
        if let State::Open(open) = &self.state {
            let peer = open.peer;
            let cause = wire::parameter(CAUSE_PROTOCOL_VIOLATION, violation.0.as_bytes());
            self.replies.clear();
            self.reply(peer, kind::ABORT, cause);
        }
        self.state = State::Closed(violation.to_string());
    }

    /// Queues a message; `order` counts those of its stream. False when there is no room or nobody
    /// to send it to.
    pub(crate) fn send(&mut self, stream: u16, order: u16, protocol: u32, data: &[u8]) -> bool {
        match &mut self.state {
            State::Open(open) => open.outbound.push(stream, order, protocol, data),
            _ => false,
        }
    }

    /// Bytes of messages that are not acknowledged yet.
    pub(crate) fn waiting(&self) -> usize {
        match &self.state {
            State::Open(open) => open.outbound.waiting(),
            _ => 0,
        }
    }

    /// Tells the peer that nothing more comes on a stream, after what was queued.
    pub(crate) fn reset(&mut self, stream: u16) {
        if let State::Open(open) = &mut self.state {
            open.resets.wish(stream);
        }
    }

    /// Writes the next packet into `buffer`; false when there is none.
    pub(crate) fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> bool {
        if let Some((to, kind, body)) = self.replies.pop_front() {
            let mut packet = Writer::new(buffer, PORT, to.port, to.tag);
            packet.chunk(kind, 0, &[&body]);
            packet.finish();
            return true;
        }
        let State::Open(open) = &mut self.state else { return false };
        let mut packet = Writer::new(buffer, PORT, open.peer.port, open.peer.tag);
        if open.inbound.owes_sack {
            packet.chunk(kind::SACK, 0, &[&open.inbound.sack()]);
        }
        let (last, rto) = (open.outbound.last(), open.outbound.rto());
        if let Some(request) = open.resets.request(now, last, rto) {
            packet.chunk(kind::RECONFIG, 0, &[&request]);
        }
        open.outbound.write(now, &mut packet);
        let some = !packet.is_empty();
        packet.finish();
        debug_assert!(buffer.len() <= PACKET_BYTES_MAX + 200);
        some
    }

    /// When [`Self::handle_timeout`] is due; never while nothing is on the way.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Open(open) => {
                let both = [open.outbound.next_timeout(), open.resets.next_timeout()];
                both.into_iter().flatten().min()
            }
            _ => None,
        }
    }

    /// Makes ready to send again what was lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let State::Open(open) = &mut self.state {
            let alive = open.outbound.handle_timeout(now);
            if !alive || !open.resets.handle_timeout(now) {
                self.state = State::Closed("the peer acknowledges nothing".into());
            }
        }
    }
}

/// Puts our port, tag, cookie and the checksum into a packet that a fuzzer made, which could not
/// guess them.
pub(crate) fn adopt(association: &Association, packet: &mut [u8]) {
    let first = packet.get(12).copied();
    let tag = if first == Some(kind::INIT) { 0 } else { association.tag };
    if let Some(header) = packet.get_mut(2..8) {
        header[..2].copy_from_slice(&PORT.to_be_bytes());
        header[2..].copy_from_slice(&tag.to_be_bytes());
    }
    if let (Some(&kind::COOKIE_ECHO), Some(cookie)) = (first.as_ref(), packet.get_mut(16..32)) {
        cookie.copy_from_slice(&association.cookie);
    }
    wire::seal(packet);
}

#[cfg(test)]
#[path = "sctp_tests.rs"]
pub(crate) mod tests;
