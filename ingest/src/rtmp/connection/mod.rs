//! The life of one connection: bytes between the socket and the [`Session`], wishes to the owner
//! of the node, a publisher's media into the hub. Viewers are in [`viewer`].

mod further;
mod viewer;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::carrier::{self, Carrier};
use super::error::Error;
use super::publish::Publish;
use super::session::{Event, Limits, Role, Session, Wish};
use super::socket::Socket;
use super::{Shared, add};
use crate::auth::{Action, Grant, Request};
use crate::hub::{Publisher, Writer};
use crate::name::StreamName;
use crate::sessions::{Open, SessionState};
use crate::views::ViewError;

/// Read buffer until a client's rights are known, in bytes.
const READ_BEFORE_ACCESS: usize = 4 << 10;

/// Read buffer of a publisher, in bytes.
const READ_PUBLISHER: usize = 64 << 10;

/// Broken media messages in a row that end a publisher.
const BROKEN_MAX: u32 = 100;

/// How long a refused client may take to read why.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs a connection to its end and logs how it ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    open: Open,
    socket: TcpStream,
    shutdown: CancellationToken,
) {
    let counters = Arc::clone(&shared.counters);
    let ended = AssertUnwindSafe(live(shared, open, socket, shutdown)).catch_unwind().await;
    let ended = ended.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(ToString::to_string);
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Panicked(words.unwrap_or_default()))
    });
    match ended {
        Ok(()) => info!("RTMP connection closed"),
        Err(Error::Refused(reason)) => warn!(%reason, "RTMP client refused"),
        Err(reason @ Error::GaveWay) => debug!(%reason, "RTMP connection ended"),
        Err(reason @ (Error::Kicked | Error::Replaced | Error::Stopping)) => {
            info!(%reason, "RTMP connection ended");
        }
        Err(reason) => {
            add(&counters.failed, 1);
            warn!(%reason, "RTMP connection failed");
        }
    }
}

async fn live(
    shared: Arc<Shared>,
    open: Open,
    socket: TcpStream,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (began, limit) = (now(), shared.config.handshake_timeout);
    let accepted = Socket::accept(socket, shared.config.tls.clone());
    let accepted = tokio::select! {
        () = open.cancel().cancelled() => return Err(Error::cancelled(&open, &shutdown)),
        accepted = tokio::time::timeout(limit, accepted) => accepted,
    };
    let stalled = |_| Error::Stalled { what: "TLS handshake", limit };
    let socket = accepted.map_err(stalled)?.map_err(Error::Tls)?;
    let mut connection = Connection::new(shared, open, socket, shutdown, began);
    let ended = connection.serve().await;
    if matches!(ended, Err(Error::Stopping)) {
        connection.session.request_reconnect();
        connection.farewell().await;
    }
    ended
}

struct Connection {
    shared: Arc<Shared>,
    open: Open,
    socket: Socket,
    shutdown: CancellationToken,
    session: Session,
    input: BytesMut,
    timer: Pin<Box<Sleep>>,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Connection {
    fn new(
        shared: Arc<Shared>,
        open: Open,
        socket: Socket,
        shutdown: CancellationToken,
        began: Instant,
    ) -> Self {
        let config = &shared.config;
        let limits = Limits {
            handshake: config.handshake_timeout,
            command: config.command_timeout,
            idle: config.idle_timeout,
            message_bytes: config.message_bytes_max.min(0xFF_FFFF),
        };
        let session = Session::new(limits, rand::random(), began);
        let timer = Box::pin(tokio::time::sleep(config.handshake_timeout));
        Self { shared, open, socket, shutdown, session, input: BytesMut::new(), timer }
    }

    async fn serve(&mut self) -> Result<(), Error> {
        loop {
            while let Some(event) = self.session.handle(now(), &mut self.input)? {
                match event {
                    Event::Wish(wish) => return self.grant(wish).await,
                    Event::End => return Ok(()),
                    Event::Video(..) | Event::Audio(..) | Event::Data(_) => {}
                }
            }
            self.flush().await?;
            if self.read(None, READ_BEFORE_ACCESS).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Asks whether the client may, then does what it wants.
    async fn grant(&mut self, wish: Wish) -> Result<(), Error> {
        let name = match wish.role {
            Role::Publish => StreamName::for_publisher(&wish.name),
            Role::Play => StreamName::parse(&wish.name),
        };
        let name = match name {
            Ok(name) => name,
            Err(error) => return self.refuse(&error.to_string(), error.to_string()).await,
        };
        tracing::Span::current().record("stream", name.as_str());
        let request = Request {
            action: match wish.role {
                Role::Publish => Action::Publish,
                Role::Play => Action::Read,
            },
            name: name.clone(),
            protocol: self.shared.protocol,
            id: self.open.id().to_owned(),
            ip: self.open.remote().ip(),
            user: wish.user.clone(),
            password: wish.password,
            token: wish.token,
            query: wish.query.clone(),
            user_agent: wish.agent,
        };
        let shared = Arc::clone(&self.shared);
        let limit = shared.config.command_timeout;
        let answer = tokio::select! {
            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
            answer = tokio::time::timeout(limit, shared.access.check(request)) => answer,
        };
        let Ok(answer) = answer else {
            let _ = self.refuse("not allowed", String::new()).await;
            return Err(Error::Stalled { what: "answer whether the client may do this", limit });
        };
        let Grant { name, lifetime, take_over } = match answer {
            Ok(grant) => grant,
            Err(refusal) => return self.refuse("not allowed", refusal.reason).await,
        };
        self.open.limit(lifetime);
        match wish.role {
            Role::Publish => {
                let publisher = Publisher {
                    protocol: self.shared.protocol,
                    id: self.open.id().to_owned(),
                    remote: self.open.remote().to_string(),
                };
                let take_over = take_over.unwrap_or(shared.config.take_over);
                match shared.hub.publish(name.clone(), publisher, take_over) {
                    Ok(writer) => {
                        self.open.begin(SessionState::Publish, name, &wish.user, &wish.query);
                        self.publish(writer).await
                    }
                    Err(error) => {
                        self.refuse("the stream cannot be published now", error.to_string()).await
                    }
                }
            }
            Role::Play => {
                let takes = wish.takes;
                let view =
                    tokio::time::timeout(shared.config.play_wait, shared.views.view(&name, takes));
                let view = tokio::select! {
                    () = self.open.cancel().cancelled() => return Err(self.cancelled()),
                    view = view => view,
                };
                match view.unwrap_or_else(|_| Err(ViewError::NotFound(name.clone()))) {
                    Ok(reader) => {
                        self.open.begin(SessionState::Read, name, &wish.user, &wish.query);
                        self.play(reader).await
                    }
                    Err(ViewError::NotFound(_)) => {
                        self.refuse("there is no such stream", "no such stream".into()).await
                    }
                    Err(error) => self.refuse(&error.to_string(), error.to_string()).await,
                }
            }
        }
    }

    /// Tells the client `words` and the log `reason`.
    async fn refuse(&mut self, words: &str, reason: String) -> Result<(), Error> {
        // Counted before the client hears of it, so that it never knows more than the figures.
        add(&self.shared.counters.refused, 1);
        self.session.refuse(words);
        self.hang_up().await;
        Err(Error::Refused(reason))
    }

    async fn publish(&mut self, writer: Writer) -> Result<(), Error> {
        self.session.accept(now());
        info!("RTMP publisher accepted");
        let mut carrier = Carrier::new(self.shared.hub.clone(), writer);
        let mut media = Publish::default();
        let mut out = Vec::new();
        let mut broken = 0;
        let (mut repaired, mut left_out) = (0, 0);
        loop {
            let arrived = now();
            while let Some(event) = self.session.handle(arrived, &mut self.input)? {
                let taken = match event {
                    Event::Video(time, data) => media.video(arrived, time, data, &mut out),
                    Event::Audio(time, data) => media.audio(arrived, time, data, &mut out),
                    Event::Data(values) => {
                        media.metadata(&values, &mut out);
                        Ok(())
                    }
                    Event::End => {
                        // The name is free from here on; clients end a stream in several steps and
                        // take it ill when the connection goes before they are through.
                        drop(carrier);
                        self.linger().await;
                        return Ok(());
                    }
                    Event::Wish(_) => Ok(()),
                };
                for output in out.drain(..) {
                    broken = 0;
                    carrier.put(output);
                }
                if let Err(error) = taken {
                    add(&self.shared.counters.media_errors, 1);
                    if !error.can_pass() {
                        return Err(error.into());
                    }
                    broken += 1;
                    debug!(%error, broken, "RTMP media message passed over");
                    if broken >= BROKEN_MAX {
                        return Err(Error::BrokenMedia { count: broken, last: error.to_string() });
                    }
                }
            }
            if media.left_out() != left_out {
                add(&self.shared.counters.further_tracks, media.left_out() - left_out);
                left_out = media.left_out();
                if let Some(left) = media.take_left_out() {
                    carrier::tell(&left);
                }
            }
            if media.repaired() != repaired {
                add(&self.shared.counters.clock_jumps, media.repaired() - repaired);
                repaired = media.repaired();
                debug!(repaired, "RTMP publisher's clock jumped");
            }
            self.flush().await?;
            if self.read(Some(carrier.writer()), READ_PUBLISHER).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Waits for bytes. The timer is put off only when it fires, not with each read.
    async fn read(&mut self, writer: Option<&Writer>, room: usize) -> Result<usize, Error> {
        if self.session.next_timeout().is_some_and(|next| self.timer.deadline() > next.into()) {
            self.set_timer();
        }
        loop {
            self.input.reserve(room);
            let closed = async {
                match writer {
                    Some(writer) => writer.closed().await,
                    None => std::future::pending().await,
                }
            };
            let count = tokio::select! {
                biased;
                () = self.open.cancel().cancelled() => return Err(self.cancelled()),
                () = closed => return Err(Error::Replaced),
                count = self.socket.read_buf(&mut self.input) => count?,
                () = &mut self.timer => {
                    self.session.handle_timeout(now())?;
                    self.set_timer();
                    continue;
                }
            };
            self.count_in(count);
            return Ok(count);
        }
    }

    fn count_in(&self, count: usize) {
        self.open.received(count as u64);
        add(&self.shared.counters.bytes_in, count as u64);
    }

    fn set_timer(&mut self) {
        // A day stands for never: the state in which nothing is waited for ends by itself.
        let next = self.session.next_timeout();
        let next = next.unwrap_or_else(|| now() + std::time::Duration::from_secs(86_400));
        self.timer.as_mut().reset(next.into());
    }

    /// Sends what the session has to say.
    async fn flush(&mut self) -> Result<(), Error> {
        let out = self.session.output();
        if out.is_empty() {
            return Ok(());
        }
        let count = out.len() as u64;
        let limit = self.shared.config.write_timeout;
        let socket = &mut self.socket;
        let written = async {
            socket.write_all_buf(out).await?;
            // TLS may hold what it has encrypted.
            socket.flush().await
        };
        let written = tokio::select! {
            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
            written = tokio::time::timeout(limit, written) => written,
        };
        written.map_err(|_| Error::Stalled { what: "reading by the client", limit })??;
        self.open.sent(count);
        add(&self.shared.counters.bytes_out, count);
        Ok(())
    }

    /// Sends what is left to say when the connection is over for our own reasons, if the client
    /// takes it at once.
    async fn farewell(&mut self) {
        let out = self.session.output();
        if !out.is_empty() {
            let socket = &mut self.socket;
            let said = async {
                socket.write_all_buf(out).await?;
                socket.shutdown().await
            };
            let _ = tokio::time::timeout(LINGER, said).await;
        }
    }

    /// Sends the last words and waits a moment for the client to go, so that they are not lost in
    /// a reset.
    async fn hang_up(&mut self) {
        if self.flush().await.is_ok() && self.socket.shutdown().await.is_ok() {
            self.linger().await;
        }
    }

    /// Waits a moment for the client to go.
    async fn linger(&mut self) {
        let mut rest = [0; 1024];
        let gone = async { while matches!(self.socket.read(&mut rest).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(LINGER, gone).await;
    }

    fn cancelled(&self) -> Error {
        Error::cancelled(&self.open, &self.shutdown)
    }
}
