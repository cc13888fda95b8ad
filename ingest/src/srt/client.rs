//! Calls to other servers: streams that are pulled from them and pushed to them by URLs like
//! `srt://host:port?streamid=...&passphrase=...&latency=...` (milliseconds, as in libsrt's tools).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;
use url::Url;

use super::call::{Call, CallError, Caller, Chance};
use super::connection::Ended as Over;
use super::crypto::{KeyLength, PASSPHRASE_BYTES};
use super::handshake::STREAM_ID_BYTES_MAX;
use super::link::{DATAGRAMS_WAITING, Link, Shown, now};
use super::server::open_socket;
use super::session::{self, SessionError};
use crate::hub::Reader;
use crate::mpegts::Feed;
use crate::remote::{Ended, Error, Options, Sink, Status, Target};

/// Longest latency that can be asked for, in milliseconds: what fits into the handshake.
const LATENCY_MS_MAX: u64 = u16::MAX as u64;

/// Packets that may be under way or wait for a lost one, as a server's default.
const WINDOW: usize = 8192;

/// Addresses of a name that are tried, at most.
const ADDRESSES_MAX: usize = 4;

/// Why a URL is none that can be called. Carries no passphrase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum AddressError {
    /// Another scheme, or no host or port.
    #[error("an SRT address looks like srt://host:port?streamid=...")]
    Form,
    /// `mode=` is something else.
    #[error("mode={0}: only mode=caller is possible here")]
    Mode(String),
    /// Too long for the protocol.
    #[error("the stream id has {0} bytes, at most {STREAM_ID_BYTES_MAX} are allowed")]
    StreamId(usize),
    /// Too short or too long.
    #[error("a passphrase has 10 to 79 bytes, this one has {0}")]
    Passphrase(usize),
    /// No number, or none of the possible ones.
    #[error("{0} has a value that is not possible")]
    Value(&'static str),
}

/// Whom to call, and how.
#[derive(Clone)]
struct Address {
    host: String,
    port: u16,
    stream_id: String,
    passphrase: Option<String>,
    key_length: KeyLength,
    latency: Duration,
}

impl Address {
    /// Reads an `srt://` URL. Options that are not known here (`transtype`, `pkt_size`, ...) are
    /// passed over, as they are about programs.
    fn parse(url: &Url) -> Result<Self, AddressError> {
        let host = url.host_str().filter(|host| !host.is_empty() && url.scheme() == "srt");
        let (Some(host), Some(port)) = (host, url.port()) else { return Err(AddressError::Form) };
        let mut address = Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            stream_id: String::new(),
            passphrase: None,
            key_length: KeyLength::Aes128,
            latency: Duration::from_millis(120),
        };
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "streamid" if value.len() > STREAM_ID_BYTES_MAX => {
                    return Err(AddressError::StreamId(value.len()));
                }
                "streamid" => address.stream_id = value.into_owned(),
                "passphrase" if value.is_empty() => {}
                "passphrase" if !PASSPHRASE_BYTES.contains(&value.len()) => {
                    return Err(AddressError::Passphrase(value.len()));
                }
                "passphrase" => address.passphrase = Some(value.into_owned()),
                "pbkeylen" => {
                    let length = value.parse().ok().and_then(KeyLength::from_bytes);
                    address.key_length = length.ok_or(AddressError::Value("pbkeylen"))?;
                }
                "latency" => {
                    let ms = value.parse().ok().filter(|ms| *ms <= LATENCY_MS_MAX);
                    address.latency =
                        Duration::from_millis(ms.ok_or(AddressError::Value("latency"))?);
                }
                "mode" if value != "caller" => {
                    return Err(AddressError::Mode(value.chars().take(16).collect()));
                }
                _ => {}
            }
        }
        Ok(address)
    }
}

/// Pulls a stream until it ends or `stop`. The stream is claimed when its first packet is here.
///
/// # Errors
/// Why this attempt failed.
pub async fn pull(
    target: &Target,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let address = address(target)?;
    let mut dialled = match connect(&address, options, options.idle_timeout, stop).await? {
        Some(dialled) => dialled,
        None => return Ok(Ended::Stopped),
    };
    let link = &mut dialled.link;
    let ended = feed(link, &dialled.remote, options, sink, stop).await;
    link.close().await;
    ended
}

async fn feed(
    link: &mut Link,
    remote: &SocketAddr,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let limit = options.idle_timeout;
    let end = tokio::time::Instant::now() + limit;
    let first = loop {
        if let Some(payload) = link.read() {
            break payload;
        }
        let sent = link.flush().await;
        sent.map_err(|error| Error::protocol("sending", error))?;
        tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            woken = link.wait() => if let Err(over) = woken {
                return ended(Err(over.into()));
            },
            () = tokio::time::sleep_until(end) => {
                return Err(Error::Timeout { what: "media", limit });
            }
        }
    };
    let mut feed = Feed::new(now(), sink.publish("srt", remote)?, limit);
    feed.push(now(), &first);
    let count = |link: &mut Link, feed: &mut Feed| {
        sink.status().count(session::account(link, None).0, feed.take_packets());
    };
    ended(session::publish(link, &mut feed, stop, count).await)
}

/// Pushes a stream until it ends or `stop`. `reader` reads transport packets
/// ([`Fanout::subscribe`](crate::mpegts::Fanout::subscribe)).
///
/// # Errors
/// Why this attempt failed.
pub async fn push(
    target: &Target,
    options: &Options,
    mut reader: Reader,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let address = address(target)?;
    let mut dialled = match connect(&address, options, options.write_timeout, stop).await? {
        Some(dialled) => dialled,
        None => return Ok(Ended::Stopped),
    };
    status.connected();
    // The handshake took time: begin where the stream is now.
    reader.skip_to_key();
    let link = &mut dialled.link;
    let (mut carried, mut skipped) = (0, 0);
    let count = |link: &mut Link| {
        status.count(session::account(link, None).1, link.carried - carried);
        status.dropped(link.skipped - skipped);
        (carried, skipped) = (link.carried, link.skipped);
    };
    let over = session::read(link, &mut reader, stop, count).await;
    link.close().await;
    ended(over)
}

/// What a session's end means for an attempt.
fn ended(over: Result<(), SessionError>) -> Result<Ended, Error> {
    match over {
        Ok(()) => Ok(Ended::StreamOver),
        Err(SessionError::Ended(Over::Shutdown | Over::Closed)) => Ok(Ended::ByPeer),
        Err(SessionError::Ended(Over::Silent(limit))) => {
            Err(Error::Timeout { what: "word of the other side", limit })
        }
        Err(SessionError::Cancelled) => Ok(Ended::Stopped),
        Err(SessionError::Replaced) => Ok(Ended::Replaced),
        Err(SessionError::Media(error)) => {
            Err(Error::Media { what: "transport stream", reason: error.to_string() })
        }
        Err(SessionError::Socket(error)) => Err(Error::protocol("sending", error)),
    }
}

fn address(target: &Target) -> Result<Address, Error> {
    Address::parse(target.url()).map_err(|error| target.fault(error.to_string()))
}

/// A link and the task that receives for it, which ends with it.
struct Dialled {
    link: Link,
    remote: SocketAddr,
    receive: tokio::task::JoinHandle<()>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.receive.abort();
    }
}

/// Connects to the first address of the name that answers; `None` after `stop`.
async fn connect(
    address: &Address,
    options: &Options,
    silence: Duration,
    stop: &CancellationToken,
) -> Result<Option<Dialled>, Error> {
    let Address { host, port, .. } = address;
    let limit = options.connect_timeout;
    let failed = |source| Error::Connect { host: format!("{host}:{port}"), source };
    let looking = tokio::time::timeout(limit, tokio::net::lookup_host((host.as_str(), *port)));
    let found = tokio::select! {
        () = stop.cancelled() => return Ok(None),
        found = looking => found.map_err(|_| Error::Timeout { what: "address of the name", limit }),
    };
    let all: Vec<SocketAddr> = found?.map_err(failed)?.take(ADDRESSES_MAX).collect();
    let each = limit / all.len().max(1) as u32;
    let mut last = failed(std::io::Error::other("the name has no address"));
    for remote in all {
        match call(address, remote, each, silence, stop).await {
            Err(error @ (Error::Connect { .. } | Error::Timeout { .. })) => last = error,
            done => return done,
        }
    }
    Err(last)
}

async fn call(
    address: &Address,
    remote: SocketAddr,
    limit: Duration,
    silence: Duration,
    stop: &CancellationToken,
) -> Result<Option<Dialled>, Error> {
    let failed = |source| Error::Connect { host: remote.to_string(), source };
    let any = match remote.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = open_socket(SocketAddr::new(any, 0)).map_err(failed)?;
    socket.connect(remote).await.map_err(failed)?;
    let call = Call {
        stream_id: address.stream_id.clone(),
        passphrase: address.passphrase.clone(),
        key_length: address.key_length,
        latency: address.latency,
        window: WINDOW,
        bytes_per_second: 0,
        idle_timeout: silence,
        timeout: limit,
        peer: remote.ip(),
    };
    let mut keys = [0; 48];
    rand::fill(&mut keys);
    let chance = Chance {
        socket: rand::random_range(1..1 << 30),
        first: rand::random_range(0..1 << 31),
        keys,
        seed: rand::random(),
    };
    let mut caller = Caller::new(now(), call, chance);
    let mut buffer = BytesMut::new();
    let connection = loop {
        if let Some(request) = caller.transmit(now()) {
            // A refusal of the system (nobody listens yet) is as good as no answer.
            let _ = socket.send(&request).await;
        }
        let due = caller.next_timeout(now()).map_err(refused)?;
        buffer.clear();
        buffer.reserve(2048);
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep_until(due.into()) => {}
            received = socket.recv_buf(&mut buffer) => if received.is_ok()
                && let Some(connection) = caller.handle(now(), &buffer).map_err(refused)?
            {
                break connection;
            }
        }
    };
    info!(%remote, "SRT call answered");
    let socket = Arc::new(socket);
    let (datagrams, receiver) = mpsc::channel(DATAGRAMS_WAITING);
    let receive = tokio::spawn(receive(Arc::clone(&socket), datagrams));
    let link = Link::new(connection, socket, remote, receiver, Shown::default());
    Ok(Some(Dialled { link, remote, receive }))
}

fn refused(error: CallError) -> Error {
    match error {
        CallError::Refused(reject) => {
            Error::Refused { what: "the SRT connection", reason: reject.to_string() }
        }
        CallError::Timeout(limit) => Error::Timeout { what: "answer to the SRT handshake", limit },
        other => Error::protocol("the SRT handshake", other),
    }
}

/// Hands a socket's datagrams on. The socket is connected: nobody else's come in.
async fn receive(socket: Arc<UdpSocket>, datagrams: mpsc::Sender<BytesMut>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(2048);
        match socket.recv_buf(&mut buffer).await {
            Ok(_) => {
                use mpsc::error::TrySendError::Closed;
                if let Err(Closed(_)) = datagrams.try_send(buffer.split()) {
                    return;
                }
            }
            // Nobody listens there any more; silence will end the call.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(&Url::parse(text).unwrap())
    }

    #[test]
    fn urls_of_the_usual_tools_are_read() {
        let text = "srt://studio.example:8890?streamid=%23!::m=publish,r=cam&latency=400\
            &passphrase=a%20long%20one&pbkeylen=32&mode=caller&transtype=live";
        let address = parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((address.host.as_str(), address.port), ("studio.example", 8890));
        assert_eq!(address.stream_id, "#!::m=publish,r=cam");
        assert_eq!(address.passphrase.as_deref(), Some("a long one"));
        assert_eq!(address.key_length, KeyLength::Aes256);
        assert_eq!(address.latency, Duration::from_millis(400));
    }

    #[test]
    fn what_cannot_be_called_is_refused_without_telling_the_passphrase() {
        let error = |text| parse(text).err();
        assert_eq!(error("srt://host"), Some(AddressError::Form));
        assert_eq!(error("udp://host:1"), Some(AddressError::Form));
        assert_eq!(error("srt://h:1?mode=listener"), Some(AddressError::Mode("listener".into())));
        assert_eq!(error("srt://h:1?passphrase=short"), Some(AddressError::Passphrase(5)));
        assert_eq!(error("srt://h:1?latency=70000"), Some(AddressError::Value("latency")));
        assert_eq!(error("srt://h:1?pbkeylen=17"), Some(AddressError::Value("pbkeylen")));
        let long = format!("srt://h:1?streamid={}", "x".repeat(513));
        assert_eq!(error(&long), Some(AddressError::StreamId(513)));
    }
}
