//! Calls answered by our own server's core, and by servers that the test plays.

use std::time::{Duration, Instant};

use bytes::Buf as _;
use url::Url;

use super::*;
use crate::rtmp::amf::object;
use crate::rtmp::session::{self, Session};

fn call(role: Role, url: &str) -> Call {
    let address = Address::of(&Url::parse(url).unwrap()).unwrap();
    let me = Credentials { user: "me".into(), password: "secret".into() };
    Call::new(role, address, Some(me), 1 << 20, [9; 32])
}

/// A call and our own server, joined.
struct Pair {
    call: Call,
    session: Session,
    now: Instant,
}

impl Pair {
    fn new(role: Role, url: &str) -> Self {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let limits = session::Limits {
            handshake: second,
            command: second,
            idle: second,
            message_bytes: 1 << 20,
        };
        Self { call: call(role, url), session: Session::new(limits, [7; 32], now), now }
    }

    /// Carries bytes both ways until nobody has more to say.
    fn talk(&mut self) -> (Vec<Event>, Vec<session::Event>) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        loop {
            let (mut up, mut down) = (self.call.output().split(), self.session.output().split());
            if up.is_empty() && down.is_empty() {
                return (ours, theirs);
            }
            while let Some(event) = self.session.handle(self.now, &mut up).unwrap() {
                theirs.push(event);
            }
            while let Some(event) = self.call.handle(&mut down).unwrap() {
                ours.push(event);
            }
        }
    }
}

#[test]
fn our_server_hears_the_wish_with_its_credentials_and_starts_it() {
    for role in [Role::Publish, Role::Play] {
        let mut pair = Pair::new(role, "rtmp://h/live/cam?user=u&pass=p");
        let (ours, theirs) = pair.talk();
        assert_eq!(ours, []);
        let [session::Event::Wish(wish)] = &theirs[..] else { panic!("{theirs:?}") };
        assert_eq!(
            (wish.role, wish.name.as_str(), wish.user.as_str(), wish.password.as_str()),
            (role, "live/cam", "u", "p")
        );
        assert!(wish.takes.video.contains(&Codec::Hevc), "what we take is announced");
        pair.session.accept(pair.now);
        let (ours, _) = pair.talk();
        assert_eq!(ours.first(), Some(&Event::Started));
    }
}

#[test]
fn a_refusal_comes_with_the_servers_words() {
    for role in [Role::Publish, Role::Play] {
        let mut pair = Pair::new(role, "rtmp://h/live/cam");
        pair.talk();
        pair.session.refuse("not allowed");
        let (ours, _) = pair.talk();
        assert_eq!(ours, [Event::Refused("not allowed".into())]);
    }
}

#[test]
fn a_finished_push_ends_the_servers_stream_and_an_ended_stream_our_pull() {
    let mut pair = Pair::new(Role::Publish, "rtmp://h/live/cam");
    pair.talk();
    pair.session.accept(pair.now);
    pair.talk();
    pair.call.finish();
    assert_eq!(pair.talk().1, [session::Event::End]);

    let mut pair = Pair::new(Role::Play, "rtmp://h/live/cam");
    pair.talk();
    pair.session.accept(pair.now);
    pair.talk();
    pair.session.end("over");
    assert_eq!(pair.talk().0.last(), Some(&Event::End));
}

/// A server that the test plays, after the handshake.
struct Played {
    call: Call,
    writer: chunk::Writer,
    reader: chunk::Reader,
}

impl Played {
    fn new(role: Role) -> Self {
        let mut call = call(role, "rtmp://h/live/cam");
        assert_eq!(call.output().split().len(), 1537);
        let mut hello = BytesMut::from(&[3_u8][..]);
        hello.resize(1 + 2 * 1536, 0);
        assert_eq!(call.handle(&mut hello).unwrap(), None);
        call.output().advance(1536);
        Self { call, writer: chunk::Writer::new(), reader: chunk::Reader::new(BEFORE_MEDIA) }
    }

    /// The names of the commands that the call has sent.
    fn commands(&mut self) -> Vec<String> {
        let mut bytes = self.call.output().split();
        let messages = std::iter::from_fn(|| self.reader.next(&mut bytes).unwrap());
        let commands = messages.filter(|message| message.kind == 20);
        let name = |message: Message| match &amf::read_all(&message.data, amf::Limits::DATA) {
            Ok(values) => values[0].as_str().unwrap().to_owned(),
            Err(error) => panic!("{error}"),
        };
        commands.map(name).collect()
    }

    fn say(&mut self, kind: u8, data: &[u8]) -> Result<Vec<Event>, Error> {
        let mut bytes = BytesMut::new();
        self.writer.write(&mut bytes, 3, kind, 1, 0, &[data]);
        let mut events = Vec::new();
        while let Some(event) = self.call.handle(&mut bytes)? {
            events.push(event);
        }
        Ok(events)
    }

    fn answer(&mut self, values: &[Value]) -> Vec<Event> {
        let mut data = BytesMut::new();
        values.iter().for_each(|value| value.write(&mut data));
        self.say(20, &data).unwrap()
    }

    fn status(&mut self, level: &'static str, code: &'static str) -> Vec<Event> {
        let facts = object([("level", level.into()), ("code", code.into())]);
        self.answer(&["onStatus".into(), 0.0.into(), Value::Null, facts])
    }

    fn asking(role: Role) -> Self {
        let mut played = Self::new(role);
        assert_eq!(played.commands(), ["connect"]);
        played.answer(&["_result".into(), CONNECT.into(), Value::Null, Value::Null]);
        let wanted: &[&str] = match role {
            Role::Publish => &["releaseStream", "FCPublish", "createStream"],
            Role::Play => &["createStream"],
        };
        assert_eq!(played.commands(), wanted);
        played.answer(&["_result".into(), CREATE_STREAM.into(), Value::Null, 7.0.into()]);
        assert_eq!(played.commands(), [if role == Role::Publish { "publish" } else { "play" }]);
        assert_eq!(played.call.stream, 7);
        played
    }
}

#[test]
fn servers_that_answer_little_are_understood() {
    let mut played = Played::asking(Role::Publish);
    assert_eq!(played.status("status", "NetStream.Publish.Start"), [Event::Started]);
    assert_eq!(played.status("status", "NetStream.Publish.Start"), [], "once is enough");
    // Media before the word that it comes is the word.
    let mut played = Played::asking(Role::Play);
    let media = BytesMut::from(&b"\x17\x01"[..]);
    assert_eq!(played.say(9, &media).unwrap(), [Event::Started, Event::Video(0, media)]);
    assert_eq!(played.say(4, &[0, 6, 1, 2, 3, 4]).unwrap(), []);
    assert!(!played.call.output().is_empty(), "a ping is answered");
    assert_eq!(played.say(4, &[0, 1, 0, 0, 0, 7]).unwrap(), [Event::End]);
    assert_eq!(played.say(9, b"more").unwrap(), [], "what comes after the end is nothing");
}

#[test]
fn a_login_is_asked_for_step_by_step() {
    let mut played = Played::new(Role::Publish);
    let words = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
    let facts = object([("description", words.into())]);
    let events = played.answer(&["_error".into(), CONNECT.into(), Value::Null, facts]);
    assert_eq!(events, [Event::Again("?authmod=adobe&user=me".into())]);
    let mut played = Played::new(Role::Publish);
    let facts = object([("description", "no such application".into())]);
    let events = played.answer(&["_error".into(), CONNECT.into(), Value::Null, facts]);
    assert_eq!(events, [Event::Refused("no such application".into())]);
}

#[test]
fn answers_out_of_order_change_nothing_and_much_is_taken_only_as_media() {
    let mut played = Played::new(Role::Play);
    assert_eq!(played.status("status", "NetStream.Play.Start"), []);
    assert_eq!(played.answer(&["_result".into(), 4.0.into(), Value::Null, 1.0.into()]), []);
    assert_eq!(played.call.state, State::Connecting);
    let long = played.say(20, &[0; 70_000]).unwrap_err();
    assert!(matches!(long, Error::Chunk(chunk::ChunkError::Long { .. })), "{long}");
    let mut played = Played::asking(Role::Play);
    played.status("status", "NetStream.Play.Start");
    assert!(matches!(&played.say(9, &[1; 200_000]).unwrap()[..], [Event::Video(0, _)]));
}
