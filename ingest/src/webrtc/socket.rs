//! The port: many datagrams per call in, up to 16 packets of a frame per call out (GRO and GSO
//! through `quinn-udp`); one UDP socket for each worker, one TCP socket for all.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::canonical_ip;
use super::ice::{Link, Path};
use super::links::Links;

/// Room for datagrams in the kernel, in bytes, as far as the system allows it.
const BUFFER_BYTES: usize = 4 << 20;

/// Ports tried for one that is free for UDP and TCP, where any will do.
const FREE_PORTS_TRIED: u32 = 16;

/// TCP connections that the system holds until they are taken.
const BACKLOG: i32 = 512;

/// Packets of one send: what a switch on the way buffers without loss.
const BURST_PACKETS_MAX: usize = 16;

/// The largest send: what UDP's length field can say, less headers.
const SEND_BYTES_MAX: usize = 65_000;

/// Where datagrams go; the worker's socket, or a list in tests.
pub(crate) trait Send {
    /// Sends `contents`, cut into datagrams of `segment` bytes of which only the last is shorter.
    /// Returns false when the system did not take them.
    fn send(&mut self, path: Path, contents: &[u8], segment: usize) -> bool;
}

/// What serves the one port.
pub(crate) struct Bound {
    /// One socket for each worker.
    pub(crate) udp: Vec<std::net::UdpSocket>,
    pub(crate) tcp: Option<std::net::TcpListener>,
    pub(crate) local: SocketAddr,
}

/// Binds `workers` UDP sockets to one port, and TCP to the port of the same number if `tcp` says
/// so. An IPv6 wildcard takes IPv4 as well.
pub(crate) fn bind(address: SocketAddr, workers: u8, tcp: bool) -> io::Result<Bound> {
    let mut left = if address.port() == 0 { FREE_PORTS_TRIED } else { 1 };
    loop {
        left -= 1;
        match bind_once(address, workers, tcp) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {}
            result => return result,
        }
    }
}

fn bind_once(address: SocketAddr, workers: u8, tcp: bool) -> io::Result<Bound> {
    let named = |kind: &'static str| {
        move |error: io::Error| io::Error::new(error.kind(), format!("{kind} {address}: {error}"))
    };
    let several = workers > 1;
    if several {
        // Sockets that share a port share it with anybody's of the same user: a second server would
        // silently take half of the sessions. One that shares nothing tells.
        drop(udp(address, false).map_err(named("udp"))?);
    }
    let first = udp(address, several).map_err(named("udp"))?;
    let local = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(udp(local, true).map_err(named("udp"))?);
    }
    let tcp = tcp.then(|| listen(local).map_err(named("tcp"))).transpose()?;
    Ok(Bound { udp: sockets, tcp, local })
}

fn udp(address: SocketAddr, several: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if several {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    // The system may give less; that costs packets under load but is no reason not to start.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One worker's socket.
pub(crate) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    pub(crate) links: Links,
}

impl Port {
    /// Registers a bound socket with the runtime of this thread.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket, state, links: Links::default() })
    }

    /// Waits until something can be received.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives what is there, at most one batch; false when nothing was.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> bool {
        let Inbox { buffers, metas, count } = inbox;
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let got = self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut slices, metas)
        });
        *count = got.unwrap_or(0);
        *count > 0
    }
}

impl Send for Port {
    fn send(&mut self, path: Path, contents: &[u8], segment: usize) -> bool {
        if let Link::Tcp(link) = path.link {
            return self.links.send(link, contents, segment);
        }
        let segment = segment.max(1);
        let most = self.state.max_gso_segments().min(BURST_PACKETS_MAX);
        let per_send = (SEND_BYTES_MAX / segment).clamp(1, most);
        contents.chunks(per_send * segment).all(|part| {
            let transmit = Transmit {
                destination: path.remote,
                ecn: None,
                contents: part,
                segment_size: (part.len() > segment).then_some(segment),
                src_ip: path.local,
            };
            let socket = UdpSockRef::from(&self.socket);
            self.socket
                .try_io(Interest::WRITABLE, || self.state.try_send(socket, &transmit))
                .is_ok()
        })
    }
}

/// Buffers for one batch of received datagrams.
pub(crate) struct Inbox {
    buffers: [Vec<u8>; BATCH_SIZE],
    metas: [RecvMeta; BATCH_SIZE],
    count: usize,
}

impl Inbox {
    /// Room for a batch, each buffer for several datagrams that the kernel joined.
    pub(crate) fn new(port: &Port) -> Self {
        let bytes = (port.state.gro_segments() * 2048).clamp(2048, 65_536);
        Self {
            buffers: std::array::from_fn(|_| vec![0; bytes]),
            metas: [RecvMeta::default(); BATCH_SIZE],
            count: 0,
        }
    }

    /// The datagrams of the batch and the ways they came. The local address is only kept where the
    /// socket is bound to all of them, since only then does the answer need it.
    pub(crate) fn datagrams(&self, wildcard: bool) -> impl Iterator<Item = (Path, &[u8])> {
        self.metas.iter().zip(&self.buffers).take(self.count).flat_map(move |(meta, buffer)| {
            let local = meta.dst_ip.filter(|_| wildcard).map(|ip| local_ip(ip, meta.addr));
            let path = Path::udp(meta.addr, local);
            buffer[..meta.len].chunks(meta.stride.max(1)).map(move |datagram| (path, datagram))
        })
    }
}

/// A source address of the family that the destination has on this socket.
fn local_ip(ip: IpAddr, remote: SocketAddr) -> IpAddr {
    match (canonical_ip(ip), remote) {
        (IpAddr::V4(four), SocketAddr::V6(_)) => IpAddr::V6(four.to_ipv6_mapped()),
        (ip, _) => ip,
    }
}
