//! Transport streams over plain UDP: `udp://127.0.0.1:5004`, `udp+mpegts://239.1.1.1:5004?interface=192.0.2.7`.
//!
//! Plain UDP repairs nothing: what is lost is missing, and the decoder goes on at the next key
//! picture. Packets of RTP around the transport stream (RFC 2250) are taken off.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use super::feed::Feed;
use crate::remote::{Ended, Error, Options, Sink, Target};

/// Bytes of a datagram, at most.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What the socket is asked to keep in bytes, as far as the system allows.
const SOCKET_BYTES: usize = 8 << 20;

/// Time between two looks whether the source is still there.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

/// After so long without a datagram another sender is taken.
const SILENCE: Duration = Duration::from_secs(1);

/// Why a source cannot be had.
#[derive(Debug, thiserror::Error)]
enum UdpError {
    /// The URL.
    #[error("a UDP source looks like udp://address:port, with ?interface=address for multicast")]
    Form,
    /// The interface is none, or not of the group's kind.
    #[error(
        "interface {0:?} must be an address of this machine of the group's kind (IPv6: its number)"
    )]
    Interface(String),
}

/// Where a transport stream comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct UdpSource {
    addr: SocketAddr,
    interface: Option<String>,
    /// Only datagrams of this address are taken.
    from: Option<IpAddr>,
}

impl UdpSource {
    /// Reads a URL; `interface=` names the interface of a group, `source=` the only sender that is
    /// listened to.
    fn parse(url: &Url) -> Result<Self, UdpError> {
        if !["udp", "udp+mpegts"].contains(&url.scheme()) {
            return Err(UdpError::Form);
        }
        // `udp://@239.1.1.1:5004` is how some programs write a group.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let ip: IpAddr = match host {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse().map_err(|_| UdpError::Form)?,
        };
        let port = url.port().ok_or(UdpError::Form)?;
        let mut source = Self { addr: SocketAddr::new(ip, port), interface: None, from: None };
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "interface" | "localaddr" => source.interface = Some(value.into_owned()),
                "source" | "sources" => {
                    source.from = Some(value.parse().map_err(|_| UdpError::Form)?);
                }
                _ => {}
            }
        }
        source.group_interface()?;
        Ok(source)
    }

    /// Binds its socket, and joins its group if it is one.
    fn bind(&self) -> io::Result<UdpSocket> {
        let interface = self.group_interface().map_err(io::Error::other)?;
        let domain = socket2::Domain::for_address(self.addr);
        let kind = socket2::Type::DGRAM;
        let socket = socket2::Socket::new(domain, kind, Some(socket2::Protocol::UDP))?;
        let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
        socket.set_nonblocking(true)?;
        if self.addr.ip().is_multicast() {
            // Others on this machine may listen to the same group.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&self.addr.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        match (self.addr.ip(), interface) {
            (IpAddr::V4(group), Interface::V4(ip)) if group.is_multicast() => {
                socket.join_multicast_v4(group, ip)?;
            }
            (IpAddr::V6(group), Interface::V6(number)) if group.is_multicast() => {
                socket.join_multicast_v6(&group, number)?;
            }
            _ => {}
        }
        Ok(socket)
    }

    fn group_interface(&self) -> Result<Interface, UdpError> {
        let given = self.interface.as_deref();
        let wrong = || UdpError::Interface(given.unwrap_or_default().chars().take(64).collect());
        Ok(match self.addr.ip() {
            IpAddr::V4(_) => Interface::V4(match given {
                None => Ipv4Addr::UNSPECIFIED,
                Some(text) => text.parse().map_err(|_| wrong())?,
            }),
            IpAddr::V6(_) => Interface::V6(match given {
                None => 0,
                Some(text) => text.parse().map_err(|_| wrong())?,
            }),
        })
    }

    fn accepts(&self, from: SocketAddr) -> bool {
        self.from.is_none_or(|only| only == from.ip())
    }
}

/// Where a group is joined: an address, or the number of an interface.
enum Interface {
    V4(Ipv4Addr),
    V6(u32),
}

/// Pulls a transport stream until nothing more comes or `stop`. The stream is claimed when the first
/// datagram is here; of several programs the first is taken.
///
/// # Errors
/// Why this attempt failed; plain UDP has no good-bye, so its end is an error too.
pub async fn pull(
    target: &Target,
    options: &Options,
    sink: &Sink,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let source = UdpSource::parse(target.url()).map_err(|error| target.fault(error.to_string()))?;
    let failed = |error| Error::Connect { host: source.addr.to_string(), source: error };
    let socket = source.bind().map_err(failed)?;
    let mut pulled = Pulled { source: &source, sender: None, heard: now(), strangers: 0 };
    let ended = pulled.run(&socket, options, sink, stop).await;
    if pulled.strangers > 0 {
        warn!(pulled.strangers, "UDP datagrams of other senders were passed over");
    }
    ended
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One attempt.
struct Pulled<'a> {
    source: &'a UdpSource,
    /// One sender at a time: two streams mixed would be none.
    sender: Option<SocketAddr>,
    heard: Instant,
    strangers: u64,
}

impl Pulled<'_> {
    async fn run(
        &mut self,
        socket: &UdpSocket,
        options: &Options,
        sink: &Sink,
        stop: &CancellationToken,
    ) -> Result<Ended, Error> {
        let limit = options.idle_timeout;
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut check = tokio::time::interval(CHECK_PERIOD);
        let mut feed: Option<Feed> = None;
        loop {
            let replaced = async {
                match &feed {
                    Some(feed) => feed.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = replaced => return Ok(Ended::Replaced),
                _ = check.tick() => match &feed {
                    Some(feed) => feed.check(now()).map_err(|error| {
                        Error::Media { what: "transport stream", reason: error.to_string() }
                    })?,
                    None if now().saturating_duration_since(self.heard) >= limit => {
                        return Err(Error::Timeout { what: "datagram", limit });
                    }
                    None => {}
                },
                received = socket.recv_from(&mut buffer) => {
                    let Ok((length, from)) = received else { continue };
                    let arrived = now();
                    if !self.takes(arrived, from) {
                        continue;
                    }
                    let feed = match &mut feed {
                        Some(feed) => feed,
                        none => none.insert(Feed::new(arrived, sink.publish("mpegts", from)?, limit)),
                    };
                    feed.push(arrived, payload(&buffer[..length]));
                    sink.status().count(length as u64, feed.take_packets());
                }
            }
        }
    }

    /// Whether a datagram is of the source's sender; another one may follow when that is silent.
    fn takes(&mut self, arrived: Instant, from: SocketAddr) -> bool {
        let silent = arrived.saturating_duration_since(self.heard) >= SILENCE;
        let other = self.sender.is_some_and(|known| known != from && !silent);
        if other || !self.source.accepts(from) {
            self.strangers += 1;
            return false;
        }
        if self.sender != Some(from) {
            info!(%from, "MPEG-TS over UDP");
            self.sender = Some(from);
        }
        self.heard = arrived;
        true
    }
}

/// What is behind a header of RTP, if there is one: a datagram of a transport stream begins with
/// its sync byte, and RTP (version 2, payload type 33) does not.
fn payload(datagram: &[u8]) -> &[u8] {
    let [first, kind, ..] = datagram else { return datagram };
    if first >> 6 != 2 || kind & 0x7F != 33 {
        return datagram;
    }
    let mut start = 12 + 4 * usize::from(first & 0x0F);
    if first & 0x10 != 0
        && let Some([high, low]) = datagram.get(start + 2..start + 4)
    {
        start += 4 + 4 * usize::from(u16::from_be_bytes([*high, *low]));
    }
    datagram.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<UdpSource, UdpError> {
        UdpSource::parse(&Url::parse(text).unwrap())
    }

    #[test]
    fn addresses_groups_and_interfaces_are_read() {
        let plain = parse("udp://127.0.0.1:5004").unwrap();
        assert_eq!((plain.addr, plain.interface), (([127, 0, 0, 1], 5004).into(), None));
        let group =
            parse("udp+mpegts://239.1.2.3:5004?interface=127.0.0.1&source=192.0.2.1").unwrap();
        assert!(group.addr.ip().is_multicast() && group.interface.is_some());
        assert!(group.accepts(([192, 0, 2, 1], 9).into()));
        assert!(!group.accepts(([192, 0, 2, 2], 9).into()));
        assert!(parse("udp://[ff02::1]:5004?interface=2").is_ok());
        for bad in ["udp://127.0.0.1", "srt://127.0.0.1:1", "udp://host.example:5004"] {
            assert!(matches!(parse(bad), Err(UdpError::Form)), "{bad}");
        }
        let wrong = parse("udp://239.1.1.1:5004?interface=eth0");
        assert!(matches!(wrong, Err(UdpError::Interface(_))));
    }

    #[test]
    fn a_header_of_rtp_is_taken_off() {
        let plain = [0x47, 0x40, 0, 0x10];
        assert_eq!(payload(&plain), plain);
        let mut rtp = vec![0x80, 33, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        rtp.extend(plain);
        assert_eq!(payload(&rtp), plain);
        let mut extended =
            vec![0x91, 33, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 1, 5, 5, 5, 5];
        extended.extend(plain);
        assert_eq!(payload(&extended), plain);
        assert!(payload(&[0x9F, 33, 0]).is_empty());
    }
}
