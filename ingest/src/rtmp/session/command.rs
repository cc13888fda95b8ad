//! The commands of a client and their answers (Adobe RTMP 1.0, 7.2).
//!
//! Calls that older servers know and that change nothing for a live stream are answered, so that
//! clients go on; unknown ones get an error.

use super::{
    ACK_WINDOW, CHUNK_SIZE, COMMANDS, Event, Role, STREAMS_MAX, Session, State, Wish, early,
};
use crate::rtmp::amf::{Value, object};
use crate::rtmp::capabilities::{self, Capabilities};
use crate::rtmp::error::Error;
use crate::rtmp::play::Play;

impl Session {
    pub(super) fn command(
        &mut self,
        stream: u32,
        values: &[Value],
    ) -> Result<Option<Event>, Error> {
        let name = values.first().and_then(Value::as_str).unwrap_or_default();
        let transaction = values.get(1).and_then(Value::as_number).unwrap_or_default();
        let wrong =
            |reason| Err(Error::Command { command: name.chars().take(64).collect(), reason });
        let running = matches!(self.state, State::Publishing | State::Playing(_));
        match name {
            "" => return wrong("a command without a name"),
            "connect" if self.state != State::Fresh => return wrong("it was given before"),
            "connect" => self.connect(transaction, values.get(2)),
            _ if self.state == State::Fresh => return Err(early(name)),
            "createStream" => {
                if self.streams >= STREAMS_MAX {
                    return wrong("too many streams on one connection");
                }
                self.streams += 1;
                let id = Value::from(f64::from(self.streams));
                self.result(transaction, &[Value::Null, id]);
            }
            "publish" | "play" => {
                if running {
                    return wrong("this connection has a stream already");
                }
                let role = if name == "publish" { Role::Publish } else { Role::Play };
                let key = values.get(3).and_then(Value::as_str).unwrap_or_default();
                self.state = State::Asked(role, stream);
                return Ok(Some(Event::Wish(self.wish(role, key))));
            }
            "deleteStream" | "closeStream" | "FCUnpublish" if running => {
                self.state = State::Ended;
                return Ok(Some(Event::End));
            }
            "deleteStream" | "closeStream" | "FCUnpublish" => {}
            "FCPublish" => {
                self.result(transaction, &[Value::Null, Value::Undefined]);
                let code = "NetStream.Publish.Start";
                let facts = object([("code", code.into()), ("description", "".into())]);
                let values = ["onFCPublish".into(), 0.0.into(), Value::Null, facts];
                self.values(COMMANDS, 20, 0, &values);
            }
            "releaseStream" | "_checkbw" | "FCSubscribe" => {
                self.result(transaction, &[Value::Null, Value::Undefined]);
            }
            // A live stream has no length.
            "getStreamLength" => self.result(transaction, &[Value::Null, 0.0.into()]),
            // A live stream neither waits nor seeks.
            "pause" | "pauseRaw" | "seek" | "receiveAudio" | "receiveVideo" => {}
            "_result" | "_error" | "onBWDone" => {}
            _ if transaction != 0.0 => {
                let code = "NetConnection.Call.Failed".into();
                let facts = object([("level", "error".into()), ("code", code)]);
                let values = ["_error".into(), transaction.into(), Value::Null, facts];
                self.values(COMMANDS, 20, 0, &values);
            }
            _ => {}
        }
        Ok(None)
    }

    fn connect(&mut self, transaction: f64, facts: Option<&Value>) {
        let text = |name| {
            let value = facts.and_then(|facts| facts.get(name)).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        (self.app, self.tc_url, self.agent) = (text("app"), text("tcUrl"), text("flashVer"));
        let encoding = facts.and_then(|facts| facts.get("objectEncoding"));
        let encoding = encoding.and_then(Value::as_number).unwrap_or(0.0);
        let takes = facts.map(Capabilities::of).unwrap_or_default();
        self.outlet.play = Play::new(takes);
        self.state = State::Connected;
        self.control(5, &ACK_WINDOW.to_be_bytes());
        self.control(6, &[ACK_WINDOW.to_be_bytes().as_slice(), &[2]].concat());
        self.outlet.writer.set_chunk_size(CHUNK_SIZE, self.outlet.out.tail());
        let server = object([("fmsVer", "FMS/3,5,7,7009".into()), ("capabilities", 31.0.into())]);
        let mut status = object([
            ("level", "status".into()),
            ("code", "NetConnection.Connect.Success".into()),
            ("description", "connected".into()),
            ("objectEncoding", encoding.into()),
        ]);
        // Clients of old need not be shown what they do not know.
        if let (true, Value::Object(members)) = (takes.is_enhanced(), &mut status) {
            members.extend(capabilities::ours());
        }
        self.result(transaction, &[server, status]);
    }

    /// Asks a client that can to come back, since the node stops (Enhanced RTMP v2, "Reconnect
    /// Request"). Without an address it comes back to the same one.
    pub(crate) fn request_reconnect(&mut self) {
        if self.outlet.play.capabilities().reconnects() && self.state != State::Ended {
            let (code, reason) = ("NetConnection.Connect.ReconnectRequest", "the node stops");
            self.status(0, "status", code, reason);
        }
    }

    /// What the client wants, put together from `connect` and `key`.
    fn wish(&self, role: Role, key: &str) -> Wish {
        let (app, app_query) = split_query(&self.app);
        let (key, key_query) = split_query(key);
        let parts = [app, key].map(|part| part.trim_matches('/'));
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let queries = [app_query, key_query];
        let mut query = queries.into_iter().filter(|q| !q.is_empty()).collect::<Vec<_>>().join("&");
        if query.is_empty() {
            query = split_query(&self.tc_url).1.to_owned();
        }
        let mut wish = Wish {
            role,
            name: parts.join("/"),
            user: String::new(),
            password: String::new(),
            token: String::new(),
            query: String::new(),
            agent: self.agent.clone(),
            takes: self.outlet.play.capabilities().takes(),
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "user" => wish.user = value.into_owned(),
                "pass" => wish.password = value.into_owned(),
                "token" | "jwt" => wish.token = value.into_owned(),
                _ => {}
            }
        }
        wish.query = query;
        wish
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}
