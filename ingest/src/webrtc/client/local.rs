//! Where we send from.

use std::net::{IpAddr, SocketAddr};

use crate::remote::{Error, Target};
use crate::webrtc::socket::Port;

/// A socket of the family in which the server is reached, and our address towards it.
pub(super) async fn socket(target: &Target) -> Result<(Port, SocketAddr), Error> {
    let (host, port) = target.address(if target.scheme().ends_with('s') { 443 } else { 80 })?;
    let name = format!("{host}:{port}");
    let unreachable = |source| Error::Connect { host: name.clone(), source };
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(unreachable)?;
    let none = || unreachable(std::io::Error::other("the name has no address"));
    let server = found.next().ok_or_else(none)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a datagram socket sends nothing: it tells which address of ours leads there.
    let probe = std::net::UdpSocket::bind((any, 0)).map_err(unreachable)?;
    probe.connect(server).map_err(unreachable)?;
    let ip = probe.local_addr().map_err(unreachable)?.ip();
    let socket = std::net::UdpSocket::bind((ip, 0)).map_err(unreachable)?;
    socket.set_nonblocking(true).map_err(unreachable)?;
    let local = socket.local_addr().map_err(unreachable)?;
    Ok((Port::new(socket).map_err(unreachable)?, local))
}
