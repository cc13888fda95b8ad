//! Streams that are pulled from other RTMP and RTMPS servers and pushed to them: the shell around
//! [`call::Call`].
//!
//! A user and password in the URL are for servers that ask for a login by challenge
//! ([`mod@login`]); Millstream, MediaMTX and SRS take credentials in the query, which is sent as it
//! is written.

pub(crate) mod address;
pub(crate) mod call;
pub(crate) mod login;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::address::Address;
use self::call::{Call, Event};
use self::login::Credentials;
use super::carrier::{self, Carrier};
use super::publish::Publish;
use super::session::Role;
use super::socket::Socket;
use crate::hub::{Item, Reader};
use crate::remote::{Ended, Error, Options, Sink, Status, Target};
use crate::views::Takes;

/// Port of `rtmp://` without one.
const PORT: u16 = 1935;

/// Port of `rtmps://` without one, which is what the large services use.
const PORT_TLS: u16 = 443;

/// Connections that a login may take: to be asked, to be challenged, to be let in.
const CONNECTIONS_MAX: u32 = 3;

/// Bytes of one message of a server.
const MESSAGE_BYTES_MAX: usize = 10 << 20;

/// Read buffer, in bytes.
const READ_BYTES: usize = 64 << 10;

/// A server is sent this many bytes at once, if they are there.
const WRITE_BATCH: usize = 64 << 10;

/// Broken media messages in a row that end a pull.
const BROKEN_MAX: u32 = 100;

/// How long the last words to a server may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// The form of a stream that every RTMP server takes. Others get what they announce besides.
pub fn takes() -> &'static Takes {
    super::capabilities::Capabilities::default().takes()
}

/// Pulls a stream: one attempt.
///
/// # Errors
/// [`Error`].
pub async fn pull(
    target: &Target,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    tokio::select! {
        () = stop.cancelled() => Ok(Ended::Stopped),
        ended = pulled(target, options, sink) => ended,
    }
}

async fn pulled(target: &Target, options: &Options, sink: &Sink) -> Result<Ended, Error> {
    let mut line = Line::open(target, options, Role::Play).await?;
    let (mut media, mut out) = (Publish::default(), Vec::new());
    let mut carrier: Option<Carrier> = None;
    let mut broken = 0;
    let mut heard = Instant::now();
    let stalled = || Error::Timeout { what: "media", limit: options.idle_timeout };
    loop {
        let event = tokio::select! {
            () = closed(carrier.as_ref()) => return Ok(Ended::Replaced),
            event = tokio::time::timeout_at(heard + options.idle_timeout, line.next()) => event,
        };
        let now = Instant::now();
        let taken = match event.map_err(|_| stalled())?? {
            Some(Event::Video(time, data)) => {
                heard = now;
                sink.status().count(data.len() as u64, 1);
                media.video(now.into_std(), time, data, &mut out)
            }
            Some(Event::Audio(time, data)) => {
                heard = now;
                sink.status().count(data.len() as u64, 1);
                media.audio(now.into_std(), time, data, &mut out)
            }
            Some(Event::Data(values)) => {
                media.metadata(&values, &mut out);
                Ok(())
            }
            Some(Event::Refused(reason)) => return Err(Error::Refused { what: "playing", reason }),
            Some(Event::Started | Event::Again(_)) => Ok(()),
            Some(Event::End) | None => return Ok(Ended::ByPeer),
        };
        for output in out.drain(..) {
            broken = 0;
            let carrier = match &mut carrier {
                Some(carrier) => carrier,
                none => {
                    let writer = sink.publish(line.protocol, &line.remote)?;
                    none.insert(Carrier::new(sink.hub().clone(), writer))
                }
            };
            carrier.put(output);
        }
        if let Some(left) = media.take_left_out() {
            carrier::tell(&left);
        }
        if let Err(error) = taken {
            broken += 1;
            debug!(%error, broken, "RTMP media message passed over");
            if !error.can_pass() || broken >= BROKEN_MAX {
                return Err(Error::Media { what: "media", reason: error.to_string() });
            }
        }
    }
}

async fn closed(carrier: Option<&Carrier>) {
    match carrier {
        Some(carrier) => carrier.writer().closed().await,
        None => std::future::pending().await,
    }
}

/// Pushes a stream: one attempt.
///
/// # Errors
/// [`Error`].
pub async fn push(
    target: &Target,
    options: &Options,
    mut reader: Reader,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let mut line = tokio::select! {
        () = stop.cancelled() => return Ok(Ended::Stopped),
        line = Line::open(target, options, Role::Publish) => line?,
    };
    status.connected();
    reader.skip_to_key();
    let ended = pushed(&mut line, options, &mut reader, status, stop).await?;
    if ended != Ended::ByPeer {
        line.farewell().await;
    }
    Ok(ended)
}

async fn pushed(
    line: &mut Line,
    options: &Options,
    reader: &mut Reader,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    loop {
        let item = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            event = line.next() => match event? {
                Some(Event::Refused(reason)) => {
                    return Err(Error::Refused { what: "publishing", reason });
                }
                Some(Event::End) | None => return Ok(Ended::ByPeer),
                Some(_) => continue,
            },
            item = reader.next() => item,
        };
        let (mut next, mut packets, mut over) = (Some(item), 0, false);
        while let Some(item) = next.take() {
            match item {
                Item::Tracks(tracks) => {
                    if !line.call.send_tracks(&tracks) {
                        let reason = "nothing in it that this server takes by RTMP".into();
                        return Err(Error::Media { what: "the stream", reason });
                    }
                    if let Some(left) = line.call.left_out(&tracks) {
                        warn!(
                            codec = left.name(),
                            "left out: the RTMP server has not announced it"
                        );
                    }
                }
                Item::Packet(packet) => {
                    line.call.send_packet(&packet);
                    packets += 1;
                }
                Item::Lagged(count) => {
                    status.dropped(count);
                    line.call.lagged();
                }
                Item::End => over = true,
            }
            if !over && line.call.output().len() < WRITE_BATCH {
                next = reader.try_next();
            }
        }
        let bytes = line.call.output().len() as u64;
        let limit = options.write_timeout;
        let written = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            written = tokio::time::timeout(limit, line.flush()) => written,
        };
        written.map_err(|_| Error::Timeout { what: "reading by the server", limit })??;
        status.count(bytes, packets);
        if over {
            return Ok(Ended::StreamOver);
        }
    }
}

/// A connection with a call on it.
struct Line {
    socket: Socket,
    call: Call,
    input: BytesMut,
    /// The server's address.
    remote: String,
    /// `rtmp` or `rtmps`.
    protocol: &'static str,
}

impl Line {
    /// Connects and says what is wanted, until the server has accepted.
    async fn open(target: &Target, options: &Options, role: Role) -> Result<Self, Error> {
        let address = Address::of(target.url());
        let address = address
            .ok_or_else(|| target.fault("an RTMP address looks like rtmp://host/app/key"))?;
        let what = match role {
            Role::Publish => "publishing",
            Role::Play => "playing",
        };
        let mut login: Option<String> = None;
        for _ in 0..CONNECTIONS_MAX {
            let address = match &login {
                Some(query) => address.with_login(query),
                None => address.clone(),
            };
            let mut line = Self::connect(target, options, role, address).await?;
            let limit = options.connect_timeout;
            let event = tokio::time::timeout(limit, line.started()).await;
            match event.map_err(|_| Error::Timeout { what: "answer of the server", limit })?? {
                Event::Again(query) => login = Some(query),
                Event::Refused(reason) => return Err(Error::Refused { what, reason }),
                Event::Started => return Ok(line),
                _ => break,
            }
        }
        let reason = "the server closed the connection".into();
        Err(Error::Refused { what, reason })
    }

    async fn connect(
        target: &Target,
        options: &Options,
        role: Role,
        address: Address,
    ) -> Result<Self, Error> {
        let tls = target.scheme() == "rtmps";
        let (host, port) = target.address(if tls { PORT_TLS } else { PORT })?;
        let socket = crate::remote::connect(host, port, options).await?;
        let remote = socket.peer_addr().map(|addr| addr.to_string()).unwrap_or_default();
        let socket = match tls {
            true => {
                let socket = crate::remote::secure(socket, host, options).await?;
                Socket::Tls(Box::new(socket.into()))
            }
            false => Socket::Plain(Arc::new(socket)),
        };
        let credentials = target.credentials();
        let credentials = credentials.map(|(user, password)| Credentials { user, password });
        let call = Call::new(role, address, credentials, MESSAGE_BYTES_MAX, rand::random());
        let protocol = if tls { "rtmps" } else { "rtmp" };
        Ok(Self { socket, call, input: BytesMut::new(), remote, protocol })
    }

    /// Waits for the server's word on the wish.
    async fn started(&mut self) -> Result<Event, Error> {
        loop {
            match self.next().await? {
                None => return Ok(Event::End),
                // Greetings of servers that have more to say than they were asked for.
                Some(Event::Video(..) | Event::Audio(..) | Event::Data(_)) => {}
                Some(event) => return Ok(event),
            }
        }
    }

    /// The next event; `None` at the end of the connection. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let event = self.call.handle(&mut self.input);
            if let Some(event) = event.map_err(|error| Error::protocol("reading", error))? {
                return Ok(Some(event));
            }
            self.flush().await?;
            self.input.reserve(READ_BYTES);
            let read = self.socket.read_buf(&mut self.input).await;
            if read.map_err(|error| Error::protocol("reading", error))? == 0 {
                return Ok(None);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let socket = &mut self.socket;
        let written = async {
            socket.write_all_buf(self.call.output()).await?;
            socket.flush().await
        };
        written.await.map_err(|error| Error::protocol("writing", error))
    }

    /// Says that the stream is over, if the server takes it at once.
    async fn farewell(&mut self) {
        self.call.finish();
        let said = async {
            if self.flush().await.is_ok() {
                let _ = self.socket.shutdown().await;
                // Left to the server to close, so that nothing is lost in a reset.
                while matches!(self.socket.read_buf(&mut self.input).await, Ok(1..)) {
                    self.input.clear();
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, said).await;
    }
}
