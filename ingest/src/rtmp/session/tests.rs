//! Conversations with a client that is played by the test, in virtual time.

use proptest::prelude::*;

use super::*;

/// A client with the other halves of the chunk stream.
struct Client {
    now: Instant,
    session: Session,
    writer: chunk::Writer,
    reader: chunk::Reader,
}

const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(10),
    command: Duration::from_secs(11),
    idle: Duration::from_secs(20),
    message_bytes: 10 << 20,
};

impl Client {
    /// After the handshake.
    fn new() -> Self {
        let now = Instant::now();
        let mut session = Session::new(LIMITS, [1; 32], now);
        let mut hello = BytesMut::from(&[3_u8][..]);
        hello.resize(1 + 2 * 1536, 0);
        assert_eq!(session.handle(now, &mut hello).unwrap(), None);
        let answer = session.output().split();
        assert_eq!(answer.len(), 1 + 2 * 1536);
        let limits =
            chunk::Limits { message_bytes: 1 << 24, unfinished_bytes: 1 << 24, streams: 64 };
        Self { now, session, writer: chunk::Writer::new(), reader: chunk::Reader::new(limits) }
    }

    /// Sends a message and gives all events.
    fn send(&mut self, kind: u8, stream: u32, time: u32, data: &[u8]) -> Result<Vec<Event>, Error> {
        let mut bytes = BytesMut::new();
        self.writer.write(&mut bytes, 3, kind, stream, time, &[data]);
        let mut events = Vec::new();
        while let Some(event) = self.session.handle(self.now, &mut bytes)? {
            events.push(event);
        }
        Ok(events)
    }

    fn command(&mut self, kind: u8, values: &[Value]) -> Result<Vec<Event>, Error> {
        let mut data = BytesMut::new();
        if kind == 17 {
            data.extend_from_slice(&[0]);
        }
        values.iter().for_each(|value| value.write(&mut data));
        self.send(kind, 1, 0, &data)
    }

    fn connect(&mut self, app: &str, tc_url: &str) {
        let facts = object([("app", app.into()), ("tcUrl", tc_url.into())]);
        self.command(20, &["connect".into(), 1.0.into(), facts]).unwrap();
        let answer = self.answers();
        assert!(answer.iter().any(|text| text.contains("NetConnection.Connect.Success")));
        self.command(20, &["createStream".into(), 2.0.into(), Value::Null]).unwrap();
    }

    fn ask(&mut self, command: &str, key: &str) -> Wish {
        let values = [command.into(), 3.0.into(), Value::Null, key.into(), "live".into()];
        match self.command(20, &values).unwrap().as_slice() {
            [Event::Wish(wish)] => wish.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn publishing() -> Self {
        let mut client = Self::new();
        client.connect("cam", "");
        client.ask("publish", "");
        client.session.accept(client.now);
        client
    }

    /// All messages from the server.
    fn messages(&mut self) -> Vec<Message> {
        let mut bytes = self.session.output().split();
        std::iter::from_fn(|| self.reader.next(&mut bytes).unwrap()).collect()
    }

    /// All commands from the server, as text.
    fn answers(&mut self) -> Vec<String> {
        let commands = self.messages().into_iter().filter(|message| message.kind == 20);
        let text = |message: Message| amf::read_all(&message.data, amf::Limits::COMMAND);
        commands.map(|message| format!("{:?}", text(message).unwrap())).collect()
    }
}

#[test]
fn names_and_credentials_are_found_wherever_clients_put_them() {
    let check = |app: &str, key: &str, tc_url: &str, wanted: [&str; 4]| {
        let mut client = Client::new();
        client.connect(app, tc_url);
        let wish = client.ask("publish", key);
        assert_eq!([&wish.name, &wish.user, &wish.password, &wish.token], wanted, "{app} {key}");
    };
    check("cam", "", "", ["cam", "", "", ""]);
    check("live/", "cam", "", ["live/cam", "", "", ""]);
    check("", "cam", "", ["cam", "", "", ""]);
    check("a/b", "c", "", ["a/b/c", "", "", ""]);
    check("cam?user=u&pass=p%20q", "", "", ["cam", "u", "p q", ""]);
    check("cam", "key?user=u&pass=p", "", ["cam/key", "u", "p", ""]);
    check("cam?user=u", "key?pass=p", "", ["cam/key", "u", "p", ""]);
    check("cam", "key?token=t.t", "", ["cam/key", "", "", "t.t"]);
    check("cam", "", "rtmp://h/cam?user=u&pass=p", ["cam", "u", "p", ""]);
}

#[test]
fn a_publisher_is_led_through_and_its_media_come_out() {
    for kind in [20, 17] {
        let mut client = Client::new();
        let facts = object([("app", "cam".into())]);
        client.command(kind, &["connect".into(), 1.0.into(), facts]).unwrap();
        for (index, name) in
            ["releaseStream", "FCPublish", "createStream", "_checkbw"].iter().enumerate()
        {
            let transaction = 2.0 + index as f64;
            client.command(kind, &[(*name).into(), transaction.into(), Value::Null]).unwrap();
            let wanted = format!("[String(\"_result\"), Number({transaction:?})");
            assert!(client.answers().iter().any(|answer| answer.starts_with(&wanted)), "{name}");
        }
        let values = ["publish".into(), 6.0.into(), Value::Null, "".into(), "live".into()];
        assert!(matches!(client.command(kind, &values).unwrap()[..], [Event::Wish(_)]));
        client.session.accept(client.now);
        assert!(client.answers()[0].contains("NetStream.Publish.Start"));
        let data = |bytes: &[u8]| BytesMut::from(bytes);
        assert_eq!(client.send(9, 1, 40, b"pic").unwrap(), [Event::Video(40, data(b"pic"))]);
        assert_eq!(client.send(8, 1, 50, b"snd").unwrap(), [Event::Audio(50, data(b"snd"))]);
        assert_eq!(client.send(8, 1, 60, b"").unwrap(), []);
        let end = ["deleteStream".into(), 7.0.into(), Value::Null, 1.0.into()];
        assert_eq!(client.command(kind, &end).unwrap(), [Event::End]);
    }
}

#[test]
fn nothing_is_read_while_a_wish_is_open() {
    let mut client = Client::new();
    client.connect("cam", "");
    client.ask("publish", "");
    let mut bytes = BytesMut::new();
    client.writer.write(&mut bytes, 4, 9, 1, 0, &[b"early"]);
    let before = bytes.len();
    assert_eq!(client.session.handle(client.now, &mut bytes).unwrap(), None);
    assert_eq!(bytes.len(), before);
    client.session.accept(client.now);
    let event = client.session.handle(client.now, &mut bytes).unwrap();
    assert_eq!(event, Some(Event::Video(0, BytesMut::from(&b"early"[..]))));
}

#[test]
fn a_refused_client_is_told_and_heard_no_more() {
    for (command, code) in
        [("publish", "NetStream.Publish.BadName"), ("play", "NetStream.Play.StreamNotFound")]
    {
        let mut client = Client::new();
        client.connect("cam", "");
        client.ask(command, "");
        client.answers();
        client.session.refuse("not allowed");
        let answer = client.answers().concat();
        assert!(answer.contains(code) && answer.contains("not allowed"), "{answer}");
        assert_eq!(client.send(9, 1, 0, b"x").unwrap(), []);
    }
}

#[test]
fn much_is_taken_only_from_those_who_may() {
    let mut client = Client::new();
    client.connect("cam", "");
    let long = client.send(20, 0, 0, &[0; 20_000]).unwrap_err();
    assert!(matches!(long, Error::Chunk(chunk::ChunkError::Long { length: 20_000, .. })), "{long}");

    let mut client = Client::new();
    client.connect("cam", "");
    let deep = [[0x0A, 0, 0, 0, 1].repeat(20), vec![5]].concat();
    assert!(matches!(client.send(20, 0, 0, &deep), Err(Error::Amf(amf::AmfError::Deep { .. }))));

    // Messages that may be sent one by one, but not as many unfinished ones.
    let mut client = Client::new();
    client.connect("cam", "");
    let unfinished = |chunk_stream: u8| {
        let head = [chunk_stream, 0, 0, 0, 0, 0x40, 0, 20, 0, 0, 0, 0];
        [&head[..], &[0; 16_000]].concat()
    };
    let chunk_size = [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0x3E, 0x80];
    let mut bytes = BytesMut::from(&[&chunk_size[..], &unfinished(4), &unfinished(5)].concat()[..]);
    let many = client.session.handle(client.now, &mut bytes).unwrap_err();
    let limit = BEFORE_ACCESS.unfinished_bytes;
    assert!(
        matches!(many, Error::Chunk(chunk::ChunkError::Unfinished(most)) if most == limit),
        "{many}"
    );

    let mut client = Client::publishing();
    let events = client.send(9, 1, 0, &vec![7; 1 << 20]).unwrap();
    assert!(matches!(&events[..], [Event::Video(0, data)] if data.len() == 1 << 20));
}

#[test]
fn each_wait_has_its_limit() {
    let start = Instant::now();
    let mut silent = Session::new(LIMITS, [0; 32], start);
    // Bytes that trickle in do not put the end off.
    let mut some = BytesMut::from(&[3, 0, 0][..]);
    silent.handle(start + Duration::from_secs(9), &mut some).unwrap();
    assert_eq!(silent.next_timeout(), Some(start + LIMITS.handshake));
    silent.handle_timeout(start + Duration::from_millis(9999)).unwrap();
    let error = silent.handle_timeout(start + LIMITS.handshake).unwrap_err();
    assert_eq!(error.to_string(), "no handshake within 10s");

    let mut client = Client::new();
    client.connect("cam", "");
    let error = client.session.handle_timeout(client.now + LIMITS.command).unwrap_err();
    assert_eq!(error.to_string(), "no publish or play within 11s");

    let mut client = Client::publishing();
    client.now += Duration::from_secs(19);
    client.session.handle_timeout(client.now).unwrap();
    client.send(9, 1, 0, b"x").unwrap();
    client.now += Duration::from_secs(19);
    client.session.handle_timeout(client.now).unwrap();
    client.now += Duration::from_secs(1);
    let error = client.session.handle_timeout(client.now).unwrap_err();
    assert_eq!(error.to_string(), "no media within 20s");
}

#[test]
fn commands_out_of_order_are_named() {
    let error = |client: &mut Client, name: &str| {
        client.command(20, &[name.into(), 1.0.into(), Value::Null]).unwrap_err().to_string()
    };
    let mut client = Client::new();
    assert!(error(&mut client, "publish").starts_with("publish: it came before"));
    let mut client = Client::new();
    client.connect("cam", "");
    assert_eq!(error(&mut client, "connect"), "connect: it was given before");
    assert!(client.send(9, 1, 0, b"x").unwrap_err().to_string().starts_with("media: it came"));
    let mut client = Client::publishing();
    assert!(error(&mut client, "play").contains("has a stream already"));
    let mut client = Client::new();
    client.connect("cam", "");
    let many = (0..20).try_for_each(|_| {
        client.command(20, &["createStream".into(), 1.0.into(), Value::Null]).map(|_| ())
    });
    assert!(many.unwrap_err().to_string().contains("too many streams"));
}

#[test]
fn pings_windows_and_unknown_calls_are_answered() {
    let mut client = Client::publishing();
    client.messages();
    client.send(4, 0, 0, &[0, 6, 1, 2, 3, 4]).unwrap();
    assert_eq!(client.messages()[0].data[..], [0, 7, 1, 2, 3, 4]);
    client.send(5, 0, 0, &2000_u32.to_be_bytes()).unwrap();
    client.messages();
    client.send(9, 1, 0, &[1; 3000]).unwrap();
    let acks = client.messages();
    assert!(matches!(&acks[..], [ack] if ack.kind == 3));
    client.command(20, &["fly".into(), 9.0.into(), Value::Null]).unwrap();
    assert!(client.answers()[0].starts_with("[String(\"_error\"), Number(9.0)"));
}

proptest! {
    #[test]
    fn any_bytes_after_the_handshake_end_in_events_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut client = Client::publishing();
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = client.session.handle(client.now, &mut input) {}
    }
}

#[test]
fn a_client_that_can_is_asked_to_come_back_when_the_node_stops() {
    for (caps, asked) in [(None, false), (Some(6.0), false), (Some(1.0), true)] {
        let mut client = Client::new();
        let mut facts = vec![("app".to_owned(), Value::from("live"))];
        facts.extend(caps.map(|caps| ("capsEx".to_owned(), Value::from(caps))));
        let values = ["connect".into(), 1.0.into(), Value::Object(facts)];
        client.command(20, &values).unwrap();
        let answer = client.session.output().split();
        let told = answer.windows(10).any(|bytes| bytes == b"fourCcList");
        assert_eq!(told, caps.is_some(), "a client of old is not shown what it does not know");
        client.session.request_reconnect();
        let said = client.session.output().split();
        let said = said.windows(16).any(|bytes| bytes == b"ReconnectRequest");
        assert_eq!(said, asked, "{caps:?}");
    }
}
