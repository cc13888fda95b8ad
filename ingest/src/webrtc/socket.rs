//! The UDP socket: many datagrams per call in, one frame per call out (GRO and GSO through
//! `quinn-udp`).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::canonical_ip;
use super::ice::Path;

/// Room for datagrams in the kernel, in bytes, as far as the system allows it.
const BUFFER_BYTES: usize = 4 << 20;

/// The largest send: what UDP's length field can say, less headers.
const SEND_BYTES_MAX: usize = 65_000;

/// Where datagrams go; the worker's socket, or a list in tests.
pub(crate) trait Send {
    /// Sends `contents`, cut into datagrams of `segment` bytes of which only the last is shorter.
    /// Returns false when the system did not take them.
    fn send(&mut self, path: Path, contents: &[u8], segment: usize) -> bool;
}

/// Binds the port. An IPv6 wildcard takes IPv4 as well.
pub(crate) fn bind(address: SocketAddr) -> io::Result<(std::net::UdpSocket, SocketAddr)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("udp {address}: {error}"));
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into()).map_err(named)?;
    // The system may give less; that costs packets under load but is no reason not to start.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    let socket: std::net::UdpSocket = socket.into();
    let local = socket.local_addr()?;
    Ok((socket, local))
}

/// One worker's socket.
pub(crate) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Port {
    /// Registers a bound socket with the runtime of this thread.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket, state })
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
        let segment = segment.max(1);
        let per_send = (SEND_BYTES_MAX / segment).clamp(1, self.state.max_gso_segments());
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
            let path = Path { remote: meta.addr, local };
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
