//! Clients without manners: they connect and say nothing, half of a hello, or rubbish, and hang up.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Longest rubbish, in bytes; it fits into a datagram.
const RUBBISH_MAX: usize = 1400;

/// The version and less than half of the 1536 bytes behind it.
pub(crate) const HALF_RTMP: &[u8] = &[3; 700];

/// The beginning of a record of TLS with 512 bytes.
pub(crate) const HALF_TLS: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

pub(crate) const HALF_HTTP: &[u8] = b"POST /steady/whep HTTP/1.1\r\nContent-Length: 99\r\nHos";

pub(crate) const HALF_RTSP: &[u8] = b"OPTIONS rtsp://node/steady RTSP/1.0\r\nCSeq: 1\r\nAcc";

/// A frame of ICE-TCP (RFC 4571) of which a tenth comes.
pub(crate) const HALF_FRAME: &[u8] = &[0, 100, 0, 1, 0, 80, 0x21, 0x12, 0xa4, 0x42];

/// The header of a check without what it announces.
pub(crate) const HALF_CHECK: &[u8] = &[0, 1, 0, 80, 0x21, 0x12, 0xa4, 0x42];

/// A handshake of SRT that ends within its header.
pub(crate) const HALF_SRT: &[u8] = &[0x80, 0, 0, 0, 0, 0, 0, 0];

/// RTP that ends within its header.
pub(crate) const HALF_RTP: &[u8] = &[0x80, 96, 0, 1];

/// A port of the node.
pub(crate) struct Door {
    pub(crate) name: &'static str,
    address: SocketAddr,
    datagrams: bool,
    half: &'static [u8],
}

impl Door {
    /// One of TCP, with the beginning of what is spoken there.
    pub(crate) fn connection(name: &'static str, address: SocketAddr, half: &'static [u8]) -> Self {
        Self { name, address, datagrams: false, half }
    }

    /// One of UDP.
    pub(crate) fn datagrams(name: &'static str, address: SocketAddr, half: &'static [u8]) -> Self {
        Self { name, address, datagrams: true, half }
    }

    /// Comes without manners and stays for a moment; false where nobody is at home.
    pub(crate) async fn knock(&self, moment: Duration, chance: &mut StdRng) -> bool {
        let words = match chance.random_range(0..4) {
            0 => Vec::new(),
            1 | 2 => self.half.to_vec(),
            _ => {
                let mut rubbish = vec![0; chance.random_range(1..RUBBISH_MAX)];
                chance.fill_bytes(&mut rubbish);
                rubbish
            }
        };
        if self.datagrams {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            return socket.send_to(&words, self.address).await.is_ok();
        }
        let Ok(mut socket) = TcpStream::connect(self.address).await else { return false };
        // It may be shown the door before it has said all.
        let _ = socket.write_all(&words).await;
        sleep(moment).await;
        true
    }
}

/// Addresses that are free for connections and, with the port behind it, for datagrams.
pub(crate) fn free_addresses() -> [SocketAddr; 4] {
    // All are held until all are found.
    let mut held = Vec::new();
    [(); 4].map(|()| {
        loop {
            let first = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = first.local_addr().unwrap();
            let (ip, port) = (address.ip(), address.port());
            // RTP has an even port (RFC 3550 11).
            if !port.is_multiple_of(2) {
                continue;
            }
            let Ok(second) = UdpSocket::bind((ip, port + 1)) else { continue };
            let Ok(listener) = TcpListener::bind(address) else { continue };
            held.push((first, second, listener));
            break address;
        }
    })
}
