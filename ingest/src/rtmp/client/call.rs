//! A call to another server as a state machine: bytes in, bytes and events out. The client's side
//! of Adobe RTMP 1.0, 7.2, to publish or to play one stream.
//!
//! This file is long because what is asked and how its answer is taken are read together.

use std::collections::VecDeque;

use bytes::BytesMut;
use pipeline::{Codec, Packet, Tracks};

use super::address::Address;
use super::login::{Credentials, Login, login};
use crate::rtmp::amf::{self, Value};
use crate::rtmp::capabilities::{self, Capabilities};
use crate::rtmp::chunk::{self, Message};
use crate::rtmp::error::Error;
use crate::rtmp::handshake::ClientHandshake;
use crate::rtmp::outbox::Outbox;
use crate::rtmp::play::{self, Play};
use crate::rtmp::session::Role;

/// Our chunk size towards the server, in bytes.
const CHUNK_SIZE: u32 = 60_000;

/// Bytes between acknowledgements until the server says otherwise.
const ACK_WINDOW: u32 = 2_500_000;

/// Chunk streams of our messages.
const CONTROL: u8 = 2;
const COMMANDS: u8 = 3;
const SOUND: u8 = 4;
const FACTS: u8 = 5;
const PICTURE: u8 = 6;

/// Numbers of our calls, to which the answers refer.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH_OR_PLAY: f64 = 5.0;

/// What a server may send before media flows: its answers, and metadata.
const BEFORE_MEDIA: chunk::Limits =
    chunk::Limits { message_bytes: 64 << 10, unfinished_bytes: 128 << 10, streams: 64 };

/// Words of a server that are kept.
const WORDS_MAX_CHARS: usize = 200;

/// What a call tells its shell.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// The server has accepted: media may flow.
    Started,
    /// A video message: timestamp and body.
    Video(u32, BytesMut),
    /// An audio message: timestamp and body.
    Audio(u32, BytesMut),
    /// The values of a data message.
    Data(Vec<Value>),
    /// The server has ended the stream.
    End,
    /// Connect again, with this query.
    Again(String),
    /// The server says no, in its words.
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake,
    Connecting,
    Creating,
    /// `publish` or `play` was said.
    Asking,
    Running,
    Ended,
}

/// The core of one call.
pub(crate) struct Call {
    role: Role,
    address: Address,
    credentials: Option<Credentials>,
    chance: u32,
    message_bytes: usize,
    state: State,
    handshake: ClientHandshake,
    reader: chunk::Reader,
    writer: chunk::Writer,
    out: Outbox,
    scratch: BytesMut,
    play: Play,
    /// The message stream that the server gave.
    stream: u32,
    received: u32,
    acknowledged: u32,
    window: u32,
    events: VecDeque<Event>,
}

impl Call {
    /// Begins a call; its random bytes follow from `seed`. Messages of media may have so many
    /// bytes.
    pub(crate) fn new(
        role: Role,
        address: Address,
        credentials: Option<Credentials>,
        message_bytes: usize,
        seed: [u8; 32],
    ) -> Self {
        let mut out = Outbox::new();
        let chance = u32::from_be_bytes([seed[0], seed[1], seed[2], seed[3]]);
        Self {
            role,
            address,
            credentials,
            chance,
            message_bytes,
            state: State::Handshake,
            handshake: ClientHandshake::new(seed, out.tail()),
            reader: chunk::Reader::new(BEFORE_MEDIA),
            writer: chunk::Writer::new(),
            out,
            scratch: BytesMut::new(),
            play: Play::new(Capabilities::default()),
            stream: 0,
            received: 0,
            acknowledged: 0,
            window: ACK_WINDOW,
            events: VecDeque::new(),
        }
    }

    /// Takes bytes off `input` up to the next event; `None` when more are needed.
    ///
    /// # Errors
    /// [`Error`]: the connection is to be closed.
    pub(crate) fn handle(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let before = input.len();
        let advanced = self.advance(input);
        self.received = self.received.wrapping_add((before - input.len()) as u32);
        if self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.control(3, &self.received.to_be_bytes());
        }
        advanced?;
        Ok(self.events.pop_front())
    }

    /// Bytes for the server, to be taken from the front as they are sent.
    pub(crate) fn output(&mut self) -> &mut Outbox {
        &mut self.out
    }

    /// Tells the server what the following packets are. False when it takes none of it.
    pub(crate) fn send_tracks(&mut self, tracks: &Tracks) -> bool {
        let (writer, out, stream) = (&mut self.writer, &mut self.out, self.stream);
        self.play.tracks(tracks, &mut |kind, time, head, body| match kind {
            // A server passes metadata on that is marked so (Adobe, FLV metadata over RTMP).
            play::DATA => {
                let mut marked = BytesMut::new();
                Value::from("@setDataFrame").write(&mut marked);
                writer.write(out.tail(), FACTS, kind, stream, time, &[&marked, head, body]);
            }
            _ => writer.write_shared(out, chunk_stream(kind), kind, stream, time, head, body),
        })
    }

    /// What of these tracks the server does not take.
    pub(crate) fn left_out(&self, tracks: &Tracks) -> Option<Codec> {
        self.play.left_out(tracks)
    }

    /// Sends a packet.
    pub(crate) fn send_packet(&mut self, packet: &Packet) {
        let (writer, out, stream) = (&mut self.writer, &mut self.out, self.stream);
        self.play.packet(packet, &mut |kind, time, head, body| {
            writer.write_shared(out, chunk_stream(kind), kind, stream, time, head, body);
        });
    }

    /// Packets were lost.
    pub(crate) fn lagged(&mut self) {
        self.play.lagged();
    }

    /// Says that the stream is over.
    pub(crate) fn finish(&mut self) {
        if self.stream != 0 {
            if self.role == Role::Publish {
                let key = Value::from(self.address.key.as_str());
                self.command(0, &["FCUnpublish".into(), 0.0.into(), Value::Null, key]);
            }
            let stream = f64::from(self.stream).into();
            self.command(0, &["deleteStream".into(), 0.0.into(), Value::Null, stream]);
        }
        self.state = State::Ended;
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        if self.state == State::Handshake {
            if !self.handshake.handle(input, self.out.tail())? {
                return Ok(());
            }
            self.state = State::Connecting;
            self.connect();
        }
        while self.events.is_empty() && self.state != State::Ended {
            let Some(message) = self.reader.next(input)? else { return Ok(()) };
            self.message(message)?;
        }
        Ok(())
    }

    fn connect(&mut self) {
        let Address { app, tc_url, .. } = &self.address;
        let mut facts = vec![
            ("app".to_owned(), Value::from(app.as_str())),
            ("type".to_owned(), "nonprivate".into()),
            ("flashVer".to_owned(), "FMLE/3.0 (compatible; Millstream)".into()),
            ("tcUrl".to_owned(), tc_url.as_str().into()),
            ("objectEncoding".to_owned(), 0.0.into()),
        ];
        if self.role == Role::Play {
            // H.264, AAC and MP3 (Adobe, 7.2.1.1); the rest is said in the enhanced form.
            facts.push(("fpad".to_owned(), false.into()));
            facts.push(("capabilities".to_owned(), 15.0.into()));
            facts.push(("audioCodecs".to_owned(), 4071.0.into()));
            facts.push(("videoCodecs".to_owned(), 252.0.into()));
            facts.push(("videoFunction".to_owned(), 1.0.into()));
        }
        facts.extend(capabilities::ours());
        self.command(0, &["connect".into(), CONNECT.into(), Value::Object(facts)]);
    }

    fn message(&mut self, mut message: Message) -> Result<(), Error> {
        match message.kind {
            4 => self.user_control(&message),
            5 => self.window = chunk::control(&message)?.max(1024),
            play::AUDIO | play::VIDEO if self.role == Role::Play => {
                // Some servers send media before they say that they do.
                self.start();
                let Message { timestamp, data, kind, .. } = message;
                if self.state == State::Running && !data.is_empty() {
                    self.events.push_back(match kind {
                        play::VIDEO => Event::Video(timestamp, data),
                        _ => Event::Audio(timestamp, data),
                    });
                }
            }
            // AMF3 messages of this kind have one byte and then AMF0.
            15 | 18 => {
                if message.kind == 15 && !message.data.is_empty() {
                    let _ = message.data.split_to(1);
                }
                // Metadata is advice: what cannot be read is passed over.
                if let Ok(values) = amf::read_all(&message.data, amf::Limits::DATA) {
                    self.events.push_back(Event::Data(values));
                }
            }
            17 | 20 => {
                if message.kind == 17 && message.data.first() == Some(&0) {
                    let _ = message.data.split_to(1);
                }
                let values = amf::read_all(&message.data, amf::Limits::DATA)?;
                self.answer(&values)?;
            }
            22 => {
                let reason = "aggregate messages are not taken";
                return Err(Error::Command { command: "aggregate".into(), reason });
            }
            _ => {}
        }
        Ok(())
    }

    fn user_control(&mut self, message: &Message) {
        match message.data.first_chunk::<6>() {
            // End of the stream (7.1.7).
            Some([0, 1, ..]) if self.role == Role::Play && self.state == State::Running => {
                self.end(Event::End);
            }
            // Ping request, answered with its own time.
            Some([0, 6, a, b, c, d]) => self.control(4, &[0, 7, *a, *b, *c, *d]),
            _ => {}
        }
    }

    fn answer(&mut self, values: &[Value]) -> Result<(), Error> {
        let name = values.first().and_then(Value::as_str).unwrap_or_default();
        let transaction = values.get(1).and_then(Value::as_number).unwrap_or_default();
        let facts = values.get(3);
        let text = |name| facts.and_then(|facts| facts.get(name)).and_then(Value::as_str);
        let words = || {
            let words = text("description").filter(|words| !words.is_empty()).or(text("code"));
            words.unwrap_or("no reason given").chars().take(WORDS_MAX_CHARS).collect::<String>()
        };
        match (name, self.state) {
            ("_result", State::Connecting) if transaction == CONNECT => {
                self.play = Play::new(facts.map(Capabilities::of).unwrap_or_default());
                self.state = State::Creating;
                self.create();
            }
            ("_result", State::Creating) if transaction == CREATE_STREAM => {
                let stream = facts.and_then(Value::as_number).unwrap_or_default();
                if !(0.0..=f64::from(u32::MAX)).contains(&stream) {
                    let reason = "the stream's number is none";
                    return Err(Error::Command { command: "createStream".into(), reason });
                }
                self.stream = stream as u32;
                self.state = State::Asking;
                self.ask();
            }
            ("_error", State::Connecting) => {
                let said = words();
                let app = &self.address.app;
                let event = match login(&said, app, self.credentials.as_ref(), self.chance) {
                    Login::No => Event::Refused(said),
                    Login::Again(query) => Event::Again(query),
                    Login::Failed(reason) => Event::Refused(reason.into()),
                };
                self.end(event);
            }
            ("_error", State::Creating) if transaction == CREATE_STREAM => {
                self.end(Event::Refused(words()));
            }
            ("_error", State::Asking) if transaction == PUBLISH_OR_PLAY => {
                self.end(Event::Refused(words()));
            }
            ("onStatus", State::Asking | State::Running) => {
                let (level, code) = (text("level"), text("code").unwrap_or_default());
                match code {
                    "NetStream.Publish.Start" | "NetStream.Play.Start" => self.start(),
                    "NetStream.Play.UnpublishNotify"
                    | "NetStream.Play.Stop"
                    | "NetStream.Play.Complete"
                    | "NetStream.Unpublish.Success"
                    | "NetConnection.Connect.ReconnectRequest" => self.end(Event::End),
                    "NetStream.Play.StreamNotFound" | "NetStream.Play.Failed" => {
                        self.end(Event::Refused(words()));
                    }
                    _ if level == Some("error") => self.end(Event::Refused(words())),
                    _ => {}
                }
            }
            ("close", _) => self.end(Event::End),
            _ => {}
        }
        Ok(())
    }

    /// What follows an accepted `connect`.
    fn create(&mut self) {
        self.control(5, &ACK_WINDOW.to_be_bytes());
        if self.role == Role::Publish {
            self.writer.set_chunk_size(CHUNK_SIZE, self.out.tail());
            let key = Value::from(self.address.key.as_str());
            for (name, number) in [("releaseStream", RELEASE_STREAM), ("FCPublish", FC_PUBLISH)] {
                self.command(0, &[name.into(), number.into(), Value::Null, key.clone()]);
            }
        }
        self.command(0, &["createStream".into(), CREATE_STREAM.into(), Value::Null]);
    }

    fn ask(&mut self) {
        let key = Value::from(self.address.key.as_str());
        let stream = self.stream;
        match self.role {
            Role::Publish => {
                let number = PUBLISH_OR_PLAY.into();
                let values = ["publish".into(), number, Value::Null, key, "live".into()];
                self.command(stream, &values);
            }
            Role::Play => {
                let number = PUBLISH_OR_PLAY.into();
                // From where it is live, or else from the beginning of a recording (7.2.2.1).
                self.command(stream, &["play".into(), number, Value::Null, key, (-2000.0).into()]);
                // How much is buffered, in milliseconds (7.1.7).
                let mut facts = vec![0, 3];
                facts.extend(stream.to_be_bytes());
                facts.extend(3000_u32.to_be_bytes());
                self.control(4, &facts);
            }
        }
    }

    fn start(&mut self) {
        if self.state == State::Asking {
            self.state = State::Running;
            self.events.push_back(Event::Started);
            if self.role == Role::Play {
                self.reader.set_limits(chunk::Limits {
                    message_bytes: self.message_bytes,
                    unfinished_bytes: self.message_bytes.saturating_mul(2),
                    streams: 64,
                });
            }
        }
    }

    fn end(&mut self, event: Event) {
        self.state = State::Ended;
        self.events.push_back(event);
    }

    fn control(&mut self, kind: u8, payload: &[u8]) {
        self.writer.write(self.out.tail(), CONTROL, kind, 0, 0, &[payload]);
    }

    fn command(&mut self, stream: u32, values: &[Value]) {
        self.scratch.clear();
        values.iter().for_each(|value| value.write(&mut self.scratch));
        let parts: &[&[u8]] = &[&self.scratch];
        self.writer.write(self.out.tail(), COMMANDS, 20, stream, 0, parts);
    }
}

fn chunk_stream(kind: u8) -> u8 {
    if kind == play::AUDIO { SOUND } else { PICTURE }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
