//! One RTMP connection as a state machine: bytes in, bytes and events out (Adobe RTMP 1.0, 7).
//!
//! It asks nobody and waits for nothing. When a client wants to publish or play, the session stops
//! reading until it is told [`Session::accept`] or [`Session::refuse`], so no medium and no memory
//! is taken from somebody without the right to it. Commands are in [`command`].
//!
//! This file is long because states and messages are read together.

mod command;
mod outlet;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pipeline::{Packet, TrackKind, Tracks};

use super::amf::{self, Value, object};
use super::chunk::{self, Message};
use super::error::Error;
use super::handshake::Handshake;
use super::outbox::Outbox;
use super::play;
use super::units::Units;
use crate::hub::Item;
use crate::views::Takes;
pub(crate) use outlet::Outlet;

/// Bytes between acknowledgements in both directions until the client says otherwise.
const ACK_WINDOW: u32 = 2_500_000;

/// Our chunk size towards the client, in bytes.
const CHUNK_SIZE: u32 = 60_000;

/// Streams that one connection may create.
const STREAMS_MAX: u32 = 16;

/// Chunk streams of our messages.
const CONTROL: u8 = 2;
const COMMANDS: u8 = 3;
const STATUS: u8 = 5;
const SOUND: u8 = 4;
const PICTURE: u8 = 6;

/// How much a session takes and waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the first byte to the end of the handshake.
    pub(crate) handshake: Duration,
    /// From the handshake to `publish` or `play`.
    pub(crate) command: Duration,
    /// Between two media messages of a publisher.
    pub(crate) idle: Duration,
    /// Bytes of one message of a publisher.
    pub(crate) message_bytes: usize,
}

/// What a client of unknown rights may send: 64 KiB with buffers and answers.
const BEFORE_ACCESS: chunk::Limits =
    chunk::Limits { message_bytes: 16 << 10, unfinished_bytes: 24 << 10, streams: 8 };

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Write a stream.
    Publish,
    /// Watch one.
    Play,
}

/// A client's wish, to be answered before anything else happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Publish or play.
    pub(crate) role: Role,
    /// `app`, or `app/key`, as the client wrote it.
    pub(crate) name: String,
    /// From the query, or empty.
    pub(crate) user: String,
    /// From the query, or empty.
    pub(crate) password: String,
    /// From the query, or empty.
    pub(crate) token: String,
    /// The query as the client wrote it.
    pub(crate) query: String,
    /// What the client calls itself.
    pub(crate) agent: String,
    /// The form of a stream that it can play.
    pub(crate) takes: &'static Takes,
}

/// What a session tells its shell.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// Answer with [`Session::accept`] or [`Session::refuse`].
    Wish(Wish),
    /// A publisher's video message: timestamp and body.
    Video(u32, BytesMut),
    /// A publisher's audio message: timestamp and body.
    Audio(u32, BytesMut),
    /// The values of a publisher's data message.
    Data(Vec<Value>),
    /// The client has ended the stream.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake,
    /// Nothing but `connect` is expected.
    Fresh,
    Connected,
    /// A wish is with the shell: role and message stream.
    Asked(Role, u32),
    Publishing,
    Playing(u32),
    Ended,
}

/// The core of one connection.
pub(crate) struct Session {
    limits: Limits,
    state: State,
    /// The last step that counts against a time limit.
    progress: Instant,
    handshake: Handshake,
    reader: chunk::Reader,
    outlet: Outlet,
    scratch: BytesMut,
    app: String,
    tc_url: String,
    agent: String,
    streams: u32,
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Session {
    /// A session that began at `now`; its random bytes follow from `seed`.
    pub(crate) fn new(limits: Limits, seed: [u8; 32], now: Instant) -> Self {
        Self {
            limits,
            state: State::Handshake,
            progress: now,
            handshake: Handshake::new(seed),
            reader: chunk::Reader::new(BEFORE_ACCESS),
            outlet: Outlet::default(),
            scratch: BytesMut::new(),
            app: String::new(),
            tc_url: String::new(),
            agent: String::new(),
            streams: 0,
            received: 0,
            acknowledged: 0,
            window: ACK_WINDOW,
        }
    }

    /// Takes bytes off `input`, which came by `now`, up to the next event. `None` when more bytes
    /// are needed, or an answer to [`Event::Wish`].
    ///
    /// # Errors
    /// [`Error`]: the connection is to be closed.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
    ) -> Result<Option<Event>, Error> {
        let before = input.len();
        let event = self.advance(now, input);
        self.received = self.received.wrapping_add((before - input.len()) as u32);
        if self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.control(3, &self.received.to_be_bytes());
        }
        event
    }

    /// Bytes for the client, to be taken from the front as they are sent.
    pub(crate) fn output(&mut self) -> &mut Outbox {
        self.outlet.output()
    }

    /// When [`Self::handle_timeout`] is to be called, if nothing else happens.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.wait().map(|(_, limit)| self.progress + limit)
    }

    /// Checks the time limits.
    ///
    /// # Errors
    /// [`Error::Stalled`] when one is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.wait() {
            Some((what, limit)) if now >= self.progress + limit => {
                Err(Error::Stalled { what, limit })
            }
            _ => Ok(()),
        }
    }

    fn wait(&self) -> Option<(&'static str, Duration)> {
        match self.state {
            State::Handshake => Some(("handshake", self.limits.handshake)),
            State::Fresh | State::Connected => Some(("publish or play", self.limits.command)),
            State::Publishing => Some(("media", self.limits.idle)),
            State::Asked(..) | State::Playing(_) | State::Ended => None,
        }
    }

    /// Grants the wish.
    pub(crate) fn accept(&mut self, now: Instant) {
        let State::Asked(role, stream) = self.state else { return };
        self.progress = now;
        // Stream begin (7.1.7).
        self.control(4, &[&[0, 0], stream.to_be_bytes().as_slice()].concat());
        match role {
            Role::Publish => {
                self.reader.set_limits(chunk::Limits {
                    message_bytes: self.limits.message_bytes,
                    unfinished_bytes: self.limits.message_bytes.saturating_mul(2),
                    streams: 64,
                });
                self.state = State::Publishing;
                self.status(stream, "status", "NetStream.Publish.Start", "publishing");
            }
            Role::Play => {
                self.state = State::Playing(stream);
                self.outlet.stream = stream;
                self.status(stream, "status", "NetStream.Play.Reset", "playing");
                self.status(stream, "status", "NetStream.Play.Start", "playing");
                let access = [Value::from("|RtmpSampleAccess"), true.into(), true.into()];
                self.values(STATUS, play::DATA, stream, &access);
            }
        }
    }

    /// Denies the wish, with words for the client.
    pub(crate) fn refuse(&mut self, reason: &str) {
        let State::Asked(role, stream) = self.state else { return };
        let code = match role {
            Role::Publish => "NetStream.Publish.BadName",
            Role::Play => "NetStream.Play.StreamNotFound",
        };
        self.status(stream, "error", code, reason);
        self.state = State::Ended;
    }

    /// Tells a viewer what the following packets are. False when none of it can be carried.
    pub(crate) fn send_tracks(&mut self, tracks: &Tracks) -> bool {
        self.plays() && self.outlet.tracks(tracks)
    }

    /// Sends a packet to a viewer.
    pub(crate) fn send_packet(&mut self, packet: &Packet) {
        if self.plays() {
            self.outlet.packet(packet);
        }
    }

    /// Something of a further track of this kind and number.
    pub(crate) fn send_further(&mut self, kind: TrackKind, number: u8, item: &Item) {
        if self.plays() {
            self.outlet.further(kind, number, item);
        }
    }

    /// Whether the viewer understands further tracks.
    pub(crate) fn is_multitrack(&self) -> bool {
        self.outlet.play.capabilities().multitrack()
    }

    fn plays(&self) -> bool {
        matches!(self.state, State::Playing(_))
    }

    /// Gives away the sending half of a viewer's session. Until it is back nothing can be said and
    /// nothing may be handled.
    pub(crate) fn take_outlet(&mut self) -> Outlet {
        std::mem::take(&mut self.outlet)
    }

    /// Takes it back.
    pub(crate) fn put_outlet(&mut self, outlet: Outlet) {
        self.outlet = outlet;
    }

    /// Pictures are made once for this viewer and all others who share these.
    pub(crate) fn share(&mut self, units: Arc<Units>) {
        self.outlet.play.share(units);
    }

    /// A viewer has lost packets by being slow.
    pub(crate) fn lagged(&mut self) {
        self.outlet.play.lagged();
    }

    /// Tells a viewer that the stream is over.
    pub(crate) fn end(&mut self, reason: &str) {
        if let State::Playing(stream) = self.state {
            self.status(stream, "status", "NetStream.Play.UnpublishNotify", reason);
            self.control(4, &[&[0, 1], stream.to_be_bytes().as_slice()].concat());
        }
        self.state = State::Ended;
    }

    fn advance(&mut self, now: Instant, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        if self.state == State::Handshake {
            if !self.handshake.handle(input, self.outlet.out.tail())? {
                return Ok(None);
            }
            self.state = State::Fresh;
            self.progress = now;
        }
        while !matches!(self.state, State::Asked(..) | State::Ended) {
            let Some(message) = self.reader.next(input)? else { return Ok(None) };
            if let Some(event) = self.message(now, message)? {
                return Ok(Some(event));
            }
        }
        if self.state == State::Ended {
            // What comes after the end is of no use to anybody.
            input.clear();
        }
        Ok(None)
    }

    fn message(&mut self, now: Instant, mut message: Message) -> Result<Option<Event>, Error> {
        match message.kind {
            // Acknowledgement, and the bandwidth that the client would like.
            3 | 6 => {}
            4 => self.user_control(&message),
            5 => self.window = chunk::control(&message)?.max(1024),
            play::AUDIO | play::VIDEO => match self.state {
                State::Publishing => {
                    self.progress = now;
                    let Message { timestamp, data, .. } = message;
                    // Encoders send empty messages to keep the connection alive.
                    if data.is_empty() {
                        return Ok(None);
                    }
                    return Ok(Some(if message.kind == play::VIDEO {
                        Event::Video(timestamp, data)
                    } else {
                        Event::Audio(timestamp, data)
                    }));
                }
                State::Playing(_) => {}
                _ => return Err(early("media")),
            },
            // AMF3 messages of this kind have one byte and then AMF0.
            15 | 18 if self.state == State::Publishing => {
                if message.kind == 15 && !message.data.is_empty() {
                    let _ = message.data.split_to(1);
                }
                // Metadata is advice: what cannot be read is passed over.
                if let Ok(values) = amf::read_all(&message.data, amf::Limits::DATA) {
                    return Ok(Some(Event::Data(values)));
                }
            }
            17 | 20 => {
                if message.kind == 17 && message.data.first() == Some(&0) {
                    let _ = message.data.split_to(1);
                }
                let values = amf::read_all(&message.data, amf::Limits::COMMAND)?;
                return self.command(message.stream, &values);
            }
            22 => {
                let reason = "aggregate messages are not served";
                return Err(Error::Command { command: "aggregate".into(), reason });
            }
            // Shared objects and whatever else means nothing to a stream.
            _ => {}
        }
        Ok(None)
    }

    fn user_control(&mut self, message: &Message) {
        // Ping request, answered with its own time (7.1.7).
        if let Some([0, 6, time @ ..]) = message.data.first_chunk::<6>() {
            let [a, b, c, d] = *time;
            self.control(4, &[0, 7, a, b, c, d]);
        }
    }

    fn control(&mut self, kind: u8, payload: &[u8]) {
        self.outlet.writer.write(self.outlet.out.tail(), CONTROL, kind, 0, 0, &[payload]);
    }

    fn result(&mut self, transaction: f64, values: &[Value]) {
        let mut all = vec!["_result".into(), transaction.into()];
        all.extend_from_slice(values);
        self.values(COMMANDS, 20, 0, &all);
    }

    fn status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let facts = object([
            ("level", level.into()),
            ("code", code.into()),
            ("description", description.into()),
        ]);
        self.values(STATUS, 20, stream, &["onStatus".into(), 0.0.into(), Value::Null, facts]);
    }

    fn values(&mut self, chunk_stream: u8, kind: u8, stream: u32, values: &[Value]) {
        self.scratch.clear();
        values.iter().for_each(|value| value.write(&mut self.scratch));
        let parts: &[&[u8]] = &[&self.scratch];
        self.outlet.writer.write(self.outlet.out.tail(), chunk_stream, kind, stream, 0, parts);
    }
}

fn early(command: &str) -> Error {
    let command = command.chars().take(64).collect();
    Error::Command { command, reason: "it came before what has to precede it" }
}

#[cfg(test)]
mod tests;
