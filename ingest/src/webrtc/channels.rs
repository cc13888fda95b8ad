//! The data channels of one session (RFC 8831, RFC 8832): opened by the peer, limited, and read as
//! questions that get an answer each.
//!
//! Refused: a fifth channel, labels that nobody serves and channels that were agreed on without
//! words (`negotiated`), which are reset; binary messages, and questions faster than
//! [`RATE_PER_S`] or beyond [`WAITING_MAX`] at a time, which are answered with an error document.

use std::time::{Duration, Instant};

use super::messages::{LABEL, refusal};
use super::results::Results;
use super::sctp::{self, Association, Event, Message};

/// Channels at a time.
const CHANNELS_MAX: usize = 4;

/// Questions that wait for their answer at a time.
const WAITING_MAX: usize = 8;

/// Questions a second over time, and how many may come at once.
const RATE_PER_S: u32 = 20;

/// Bytes that wait for being sent or acknowledged, above which results stay where they can be
/// dropped: what a way of 200 ms and 500 kbit/s holds.
const RESULTS_BYTES_MAX: usize = 12 << 10;

/// Payload protocol identifiers (RFC 8831 8).
const DCEP: u32 = 50;
const TEXT: u32 = 51;
const TEXT_EMPTY: u32 = 56;

/// Message types of RFC 8832.
const OPEN: u8 = 3;
const ACKNOWLEDGE: u8 = 2;

/// An answer that must not be longer than the peer takes; without a word of it 64 KiB (RFC 8841).
const PEER_MESSAGE_BYTES: usize = 65_536;

/// A question of the peer, on a channel that has this number in its session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) channel: u32,
    pub(crate) text: String,
}

struct Channel {
    stream: u16,
    /// Counts the session's channels: an answer is not for the next one on the same stream.
    number: u32,
    /// Messages sent.
    order: u16,
}

/// All channels of a session and the association under them.
pub(crate) struct Channels {
    association: Association,
    open: Vec<Channel>,
    opened: u32,
    waiting: usize,
    /// When the allowance was full, or would be.
    full_at: Instant,
    answer_bytes_max: usize,
    events: Vec<Event>,
    noted: bool,
}

impl Channels {
    /// No channel yet. `message_bytes_max` is what the peer's offer says it takes; 0 is anything.
    pub(crate) fn new(now: Instant, message_bytes_max: Option<u64>) -> Self {
        let limit = match message_bytes_max {
            None => PEER_MESSAGE_BYTES,
            Some(0) => sctp::MESSAGE_BYTES_MAX,
            Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        Self {
            association: Association::new(),
            open: Vec::new(),
            opened: 0,
            waiting: 0,
            full_at: now,
            answer_bytes_max: limit.min(sctp::MESSAGE_BYTES_MAX),
            events: Vec::new(),
            noted: false,
        }
    }

    /// Takes a datagram that came through DTLS.
    pub(crate) fn read(&mut self, now: Instant, datagram: &[u8], questions: &mut Vec<Question>) {
        let mut events = std::mem::take(&mut self.events);
        self.association.read(now, datagram, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Message(message) => self.message(now, message, questions),
                Event::Reset(stream) => {
                    self.open.retain(|channel| channel.stream != stream);
                    self.association.reset(stream);
                }
            }
        }
        self.events = events;
        self.note();
    }

    /// Says once why nothing is heard any more.
    fn note(&mut self) {
        if let Some(why) = self.association.closed()
            && !std::mem::replace(&mut self.noted, true)
        {
            tracing::debug!(why, "data channels are over");
            self.open = Vec::new();
        }
    }

    fn message(&mut self, now: Instant, message: Message, questions: &mut Vec<Question>) {
        let Message { stream, protocol, data } = message;
        if protocol == DCEP {
            return self.control(stream, &data);
        }
        let Some(channel) = self.open.iter().find(|channel| channel.stream == stream) else {
            return self.association.reset(stream);
        };
        let channel = channel.number;
        let text = match protocol {
            TEXT => String::from_utf8(data).ok(),
            TEXT_EMPTY => Some(String::new()),
            _ => None,
        };
        let refused = match text {
            None => refusal("not_text", "messages are UTF-8 text"),
            Some(_) if self.waiting >= WAITING_MAX => {
                refusal("busy", &format!("{WAITING_MAX} messages wait for their answer"))
            }
            Some(_) if !self.allowed(now) => {
                refusal("rate_limit", &format!("more than {RATE_PER_S} messages a second"))
            }
            Some(text) => {
                self.waiting += 1;
                return questions.push(Question { channel, text });
            }
        };
        self.say(channel, &refused);
    }

    /// Takes one from the allowance, which fills at [`RATE_PER_S`] and holds as many.
    fn allowed(&mut self, now: Instant) -> bool {
        let one = Duration::from_secs(1) / RATE_PER_S;
        let full_at = self.full_at.max(now) + one;
        let allowed = full_at.saturating_duration_since(now) <= one * RATE_PER_S;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }

    /// A message of RFC 8832.
    fn control(&mut self, stream: u16, data: &[u8]) {
        if data.first() != Some(&OPEN) {
            return;
        }
        let known = self.open.iter().any(|channel| channel.stream == stream);
        if known || self.open.len() >= CHANNELS_MAX || label(data) != Some(LABEL.as_bytes()) {
            self.open.retain(|channel| channel.stream != stream);
            return self.association.reset(stream);
        }
        if self.association.send(stream, 0, DCEP, &[ACKNOWLEDGE]) {
            self.opened = self.opened.wrapping_add(1);
            self.open.push(Channel { stream, number: self.opened, order: 1 });
        }
    }

    /// Gives the answer to a question; `None` is none.
    pub(crate) fn answer(&mut self, channel: u32, answer: Option<&str>) {
        self.waiting = self.waiting.saturating_sub(1);
        match answer {
            Some(text) if text.len() > self.answer_bytes_max => {
                self.say(channel, &refusal("too_long", "the answer is too long for a message"));
            }
            Some(text) => self.say(channel, text),
            None => {}
        }
    }

    /// Says something on all channels.
    pub(crate) fn tell(&mut self, text: &str) {
        let numbers: Vec<u32> = self.open.iter().map(|channel| channel.number).collect();
        numbers.into_iter().for_each(|number| self.say(number, text));
    }

    /// Says results on all channels as far as they leave soon, the others stay in the queue. Gives
    /// how many messages that were.
    pub(crate) fn tell_results(&mut self, now: Instant, results: &mut Results) -> u64 {
        if self.open.is_empty() {
            results.clear();
        }
        let mut said = 0;
        while self.association.waiting() <= RESULTS_BYTES_MAX
            && let Some(text) = results.pop(now)
        {
            self.tell(&text);
            said += self.open.len() as u64;
        }
        said
    }

    /// A peer that lets its answers pile up gets no more of them.
    fn say(&mut self, channel: u32, text: &str) {
        let Some(channel) = self.open.iter_mut().find(|open| open.number == channel) else {
            return;
        };
        let (protocol, data) = match text.as_bytes() {
            [] => (TEXT_EMPTY, &[0][..]),
            data => (TEXT, data),
        };
        if self.association.send(channel.stream, channel.order, protocol, data) {
            channel.order = channel.order.wrapping_add(1);
        }
    }

    /// Writes the next packet into `buffer`; false when there is none.
    pub(crate) fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> bool {
        self.association.poll_transmit(now, buffer)
    }

    /// When [`Self::handle_timeout`] is due; never while nothing is on the way.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.association.next_timeout()
    }

    /// Makes ready to send again what was lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
        self.note();
    }

    /// The association, for a fuzzer.
    pub(crate) fn association(&self) -> &Association {
        &self.association
    }
}

/// The label of a DATA_CHANNEL_OPEN message (RFC 8832 5.1).
fn label(open: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes([*open.get(8)?, *open.get(9)?]);
    open.get(12..)?.get(..usize::from(length))
}

#[cfg(test)]
#[path = "channels_tests.rs"]
mod tests;
