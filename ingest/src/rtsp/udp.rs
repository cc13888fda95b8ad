//! Datagrams: one pair of ports for RTP and RTCP of all sessions.
//!
//! Who sent a datagram is told by its address, which a session names in `SETUP` as ports of the
//! host that it is connected from; anything else is dropped and counted. No session can name
//! another host, and none gets an address that another one has.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Counters, add};

/// Room for datagrams in the kernel, in bytes, as far as the system allows it.
const BUFFER_BYTES: usize = 2 << 20;

/// Largest datagram in bytes.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Datagrams that wait for one session, at most.
pub(super) const WAITING_MAX: usize = 1024;

/// Pairs tried for one that is free, where any will do.
const FREE_PAIRS_TRIED: u32 = 32;

/// One that came for a session.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) medium: usize,
    pub(super) rtcp: bool,
    pub(super) packet: Bytes,
}

/// Where a session's datagrams go to.
#[derive(Clone, Debug)]
struct Route {
    medium: usize,
    to: mpsc::Sender<Datagram>,
}

/// By address, RTP and RTCP apart.
type Routes = [Mutex<HashMap<SocketAddr, Route>>; 2];

/// The two sockets. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sockets: [UdpSocket; 2],
    /// They are of IPv6 and take IPv4 addresses within it only.
    maps: bool,
    routes: Routes,
    counters: Arc<Counters>,
}

impl Ports {
    /// Binds RTP to `address` and RTCP to the port behind it; port 0 takes a free pair.
    pub(super) fn bind(address: SocketAddr, counters: Arc<Counters>) -> io::Result<Self> {
        let mut left = if address.port() == 0 { FREE_PAIRS_TRIED } else { 1 };
        loop {
            left -= 1;
            match pair(address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {}
                Err(error) => return Err(error),
                Ok(sockets) => {
                    let (maps, routes) = (address.is_ipv6(), Default::default());
                    let shared = Shared { sockets, maps, routes, counters };
                    return Ok(Self { shared: Arc::new(shared) });
                }
            }
        }
    }

    /// The numbers of both ports.
    pub(super) fn numbers(&self) -> (u16, u16) {
        let port = |at: usize| self.shared.sockets[at].local_addr().map_or(0, |of| of.port());
        (port(0), port(1))
    }

    /// Lets datagrams of a medium in; `None` when the client's ports are taken.
    pub(super) fn open(
        &self,
        peer: IpAddr,
        ports: (u16, u16),
        medium: usize,
        to: &mpsc::Sender<Datagram>,
    ) -> Option<Opened> {
        let addresses = [ports.0, ports.1].map(|port| SocketAddr::new(peer.to_canonical(), port));
        let [mut rtp, mut rtcp] = [self.shared.routes[0].lock(), self.shared.routes[1].lock()];
        if rtp.contains_key(&addresses[0]) || rtcp.contains_key(&addresses[1]) {
            return None;
        }
        rtp.insert(addresses[0], Route { medium, to: to.clone() });
        rtcp.insert(addresses[1], Route { medium, to: to.clone() });
        Some(Opened { ports: self.clone(), addresses })
    }

    /// Sends a datagram; what the system does not take at once is dropped.
    fn send(&self, rtcp: bool, to: SocketAddr, packet: &[u8]) -> bool {
        let to = match to.ip() {
            IpAddr::V4(ip) if self.shared.maps => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        };
        let sent = self.shared.sockets[usize::from(rtcp)].try_send_to(packet, to).is_ok();
        if !sent {
            add(&self.shared.counters.datagrams_dropped, 1);
        }
        sent
    }

    /// Hands out what comes until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.receive(false) => {}
            () = self.receive(true) => {}
        }
    }

    async fn receive(&self, rtcp: bool) {
        let at = usize::from(rtcp);
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            // Errors are those of earlier sends to hosts that have gone.
            let Ok((length, from)) = self.shared.sockets[at].recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let route = self.shared.routes[at].lock().get(&from).cloned();
            let taken = route.is_some_and(|Route { medium, to }| {
                let packet = Bytes::copy_from_slice(&buffer[..length]);
                to.try_send(Datagram { medium, rtcp, packet }).is_ok()
            });
            if !taken {
                add(&self.shared.counters.datagrams_dropped, 1);
            }
        }
    }
}

/// One medium's addresses; dropping it closes them.
#[derive(Debug)]
pub(super) struct Opened {
    ports: Ports,
    addresses: [SocketAddr; 2],
}

impl Opened {
    /// Sends to the client.
    pub(super) fn send(&self, rtcp: bool, packet: &[u8]) -> bool {
        self.ports.send(rtcp, self.addresses[usize::from(rtcp)], packet)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        for (routes, address) in self.ports.shared.routes.iter().zip(&self.addresses) {
            routes.lock().remove(address);
        }
    }
}

/// Two sockets on neighbouring ports, the first one even where it may be chosen (RFC 3550 11).
fn pair(address: SocketAddr) -> io::Result<[UdpSocket; 2]> {
    let first = socket(address)?;
    let port = first.local_addr()?.port();
    if address.port() == 0 && !port.is_multiple_of(2) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let next = port.checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let second = socket(SocketAddr::new(address.ip(), next))?;
    Ok([first, second])
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    // The system may give less; that costs packets under load but is no reason not to start.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}
