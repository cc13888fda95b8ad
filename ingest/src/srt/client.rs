//! Calls to other servers: streams that are pulled from them and pushed to them by URLs like
//! `srt://host:port?streamid=...&passphrase=...&latency=...` (milliseconds, as in libsrt's tools).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;
use url::Url;

use super::call::{Call, CallError, Caller, Chance};
use super::connection::Ended;
use super::crypto::{KeyLength, PASSPHRASE_BYTES};
use super::handshake::STREAM_ID_BYTES_MAX;
use super::link::{DATAGRAMS_WAITING, Link, Shown, now};
use super::server::open_socket;
use super::session::{self, SessionError};
use crate::hub::Writer;
use crate::mpegts::{Fanout, Feed};
use crate::name::StreamName;
use crate::views::ViewError;

/// Longest latency that can be asked for, in milliseconds: what fits into the handshake.
const LATENCY_MS_MAX: u64 = u16::MAX as u64;

/// Packets that may be under way or wait for a lost one, as a server's default.
const WINDOW: usize = 8192;

/// Without a word or without media from the other side for so long, a call is over.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the first request to the connection, name look-up apart.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a URL is none that can be called. Carries no passphrase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
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
pub struct Target {
    host: String,
    port: u16,
    stream_id: String,
    passphrase: Option<String>,
    key_length: KeyLength,
    latency: Duration,
}

impl Target {
    /// Reads an `srt://` URL. Options that are not known here (`transtype`, `pkt_size`, ...) are
    /// passed over, as they are about programs.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(url: &Url) -> Result<Self, TargetError> {
        let host = url.host_str().filter(|host| !host.is_empty() && url.scheme() == "srt");
        let (Some(host), Some(port)) = (host, url.port()) else { return Err(TargetError::Form) };
        let mut target = Self {
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
                    return Err(TargetError::StreamId(value.len()));
                }
                "streamid" => target.stream_id = value.into_owned(),
                "passphrase" if value.is_empty() => {}
                "passphrase" if !PASSPHRASE_BYTES.contains(&value.len()) => {
                    return Err(TargetError::Passphrase(value.len()));
                }
                "passphrase" => target.passphrase = Some(value.into_owned()),
                "pbkeylen" => {
                    let length = value.parse().ok().and_then(KeyLength::from_bytes);
                    target.key_length = length.ok_or(TargetError::Value("pbkeylen"))?;
                }
                "latency" => {
                    let ms = value.parse().ok().filter(|ms| *ms <= LATENCY_MS_MAX);
                    target.latency =
                        Duration::from_millis(ms.ok_or(TargetError::Value("latency"))?);
                }
                "mode" if value != "caller" => {
                    return Err(TargetError::Mode(value.chars().take(16).collect()));
                }
                _ => {}
            }
        }
        Ok(target)
    }
}

/// Why a call ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The host's name leads nowhere, or there is no socket for it.
    #[error("{host}: {source}")]
    Host {
        /// The host.
        host: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The handshake.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stream to be pushed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Pulls a stream into `writer` until it ends or `stop`. An end that the other side said is no
/// error.
///
/// # Errors
/// [`ClientError`]; [`SessionError::Cancelled`] in it after `stop`.
pub async fn pull(url: &Url, writer: Writer, stop: &CancellationToken) -> Result<(), ClientError> {
    let mut link = connect(&Target::parse(url)?, stop).await?;
    let mut feed = Feed::new(now(), writer, IDLE_TIMEOUT);
    let ended = session::publish(&mut link.link, &mut feed, stop, |_| {}).await;
    link.link.close().await;
    close(ended)
}

/// Pushes a stream until it ends or `stop`. `sent` is told of bytes on the wire.
///
/// # Errors
/// [`ClientError`]; [`SessionError::Cancelled`] in it after `stop`.
pub async fn push(
    url: &Url,
    fanout: &Fanout,
    name: &StreamName,
    stop: &CancellationToken,
    mut sent: impl FnMut(u64),
) -> Result<(), ClientError> {
    let target = Target::parse(url)?;
    let mut reader = fanout.subscribe(name).await?;
    let mut link = connect(&target, stop).await?;
    // The handshake took time: begin where the stream is now.
    reader.skip_to_key();
    let count = |link: &mut Link| sent(session::account(link, None).1);
    let ended = session::read(&mut link.link, &mut reader, stop, count).await;
    link.link.close().await;
    close(ended)
}

fn close(ended: Result<(), SessionError>) -> Result<(), ClientError> {
    match ended {
        Ok(()) | Err(SessionError::Ended(Ended::Shutdown)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A link and the task that receives for it, which ends with it.
struct Dialled {
    link: Link,
    receive: tokio::task::JoinHandle<()>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.receive.abort();
    }
}

async fn connect(target: &Target, stop: &CancellationToken) -> Result<Dialled, ClientError> {
    let Target { host, port, .. } = target;
    let failed = |source| ClientError::Host { host: host.clone(), source };
    let found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(failed)?.next();
    let no_address = || std::io::Error::other("the name has no address");
    let remote: SocketAddr = found.ok_or_else(no_address).map_err(failed)?;
    let any = match remote.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let socket = open_socket(SocketAddr::new(any, 0)).map_err(failed)?;
    socket.connect(remote).await.map_err(failed)?;
    let call = Call {
        stream_id: target.stream_id.clone(),
        passphrase: target.passphrase.clone(),
        key_length: target.key_length,
        latency: target.latency,
        window: WINDOW,
        bytes_per_second: 0,
        idle_timeout: IDLE_TIMEOUT,
        timeout: HANDSHAKE_TIMEOUT,
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
        let due = caller.next_timeout(now())?;
        buffer.clear();
        buffer.reserve(2048);
        tokio::select! {
            () = stop.cancelled() => return Err(SessionError::Cancelled.into()),
            () = tokio::time::sleep_until(due.into()) => {}
            received = socket.recv_buf(&mut buffer) => if received.is_ok()
                && let Some(connection) = caller.handle(now(), &buffer)?
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
    Ok(Dialled { link, receive })
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

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse(&Url::parse(text).unwrap())
    }

    #[test]
    fn urls_of_the_usual_tools_are_read() {
        let text = "srt://studio.example:8890?streamid=%23!::m=publish,r=cam&latency=400\
            &passphrase=a%20long%20one&pbkeylen=32&mode=caller&transtype=live";
        let target = parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((target.host.as_str(), target.port), ("studio.example", 8890));
        assert_eq!(target.stream_id, "#!::m=publish,r=cam");
        assert_eq!(target.passphrase.as_deref(), Some("a long one"));
        assert_eq!(target.key_length, KeyLength::Aes256);
        assert_eq!(target.latency, Duration::from_millis(400));
    }

    #[test]
    fn what_cannot_be_called_is_refused_without_telling_the_passphrase() {
        let error = |text| parse(text).err();
        assert_eq!(error("srt://host"), Some(TargetError::Form));
        assert_eq!(error("udp://host:1"), Some(TargetError::Form));
        assert_eq!(error("srt://h:1?mode=listener"), Some(TargetError::Mode("listener".into())));
        assert_eq!(error("srt://h:1?passphrase=short"), Some(TargetError::Passphrase(5)));
        assert_eq!(error("srt://h:1?latency=70000"), Some(TargetError::Value("latency")));
        assert_eq!(error("srt://h:1?pbkeylen=17"), Some(TargetError::Value("pbkeylen")));
        let long = format!("srt://h:1?streamid={}", "x".repeat(513));
        assert_eq!(error(&long), Some(TargetError::StreamId(513)));
    }
}
