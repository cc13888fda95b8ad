//! SRT's packets by hand, for what no proper program sends (draft-sharabayko-srt-01, section 3).

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::node::PATIENCE;

/// A caller that does only what it is told.
pub(crate) struct Raw {
    pub(crate) socket: Arc<UdpSocket>,
    /// Its own number, and the session's at the server once it is accepted.
    id: u32,
    pub(crate) session: u32,
    cookie: u32,
}

impl Raw {
    pub(crate) async fn new(server: SocketAddr, id: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server).await.unwrap();
        Self { socket: Arc::new(socket), id, session: 0, cookie: 0 }
    }

    /// Another caller from the same port.
    pub(crate) fn beside(&self, id: u32) -> Self {
        Self { socket: Arc::clone(&self.socket), id, session: 0, cookie: 0 }
    }

    /// The first request.
    pub(crate) async fn ask(&self) {
        self.socket.send(&handshake(4, 2, 1, self.id, 0, &[])).await.unwrap();
    }

    /// Takes the answer to it.
    pub(crate) async fn cookie(&mut self) {
        let answer = self.receive().await;
        self.cookie = word(&answer, 16 + 28);
    }

    /// The second request.
    pub(crate) async fn conclude(&self, stream_id: &str, keys: Option<&[u8]>) {
        let mut extensions = vec![0, 1, 0, 3, 0, 1, 5, 0, 0, 0, 0, 0xbf, 0, 120, 0, 120];
        if let Some(keys) = keys {
            extensions.extend([0, 3, 0, (keys.len() / 4) as u8]);
            extensions.extend(keys);
        }
        let mut id = stream_id.as_bytes().to_vec();
        id.resize(id.len().next_multiple_of(4), 0);
        extensions.extend([0, 5, 0, (id.len() / 4) as u8]);
        id.chunks(4).for_each(|word| extensions.extend(word.iter().rev()));
        let flags = if keys.is_some() { 7 } else { 5 };
        let request = handshake(5, flags, u32::MAX, self.id, self.cookie, &extensions);
        self.socket.send(&request).await.unwrap();
    }

    /// Takes the answer to it: zero, or the number of the refusal.
    pub(crate) async fn answer(&mut self) -> u32 {
        let answer = self.receive().await;
        let kind = word(&answer, 16 + 20);
        if kind != u32::MAX {
            return kind;
        }
        self.session = word(&answer, 16 + 24);
        0
    }

    /// The whole handshake.
    pub(crate) async fn shake(server: SocketAddr, id: u32, stream_id: &str) -> Self {
        let mut raw = Self::new(server, id).await;
        raw.ask().await;
        raw.cookie().await;
        raw.conclude(stream_id, None).await;
        assert_eq!(raw.answer().await, 0, "{stream_id} is refused");
        raw
    }

    /// A control packet for the session.
    pub(crate) fn control(&self, kind: u16, info: u32, body: &[u8]) -> Vec<u8> {
        control(kind, info, self.session, body)
    }

    /// The next packet that is a handshake.
    async fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        loop {
            let length = timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
            let datagram = &buffer[..length.expect("an answer").unwrap()];
            if datagram[..4] == [0x80, 0, 0, 0] {
                return datagram.to_vec();
            }
        }
    }
}

/// A control packet for the socket `to`.
pub(crate) fn control(kind: u16, info: u32, to: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = (0x8000 | kind).to_be_bytes().to_vec();
    packet.extend([0, 0]);
    for word in [info, 0, to] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(body);
    packet
}

/// A data packet for the socket `to`.
pub(crate) fn data(seq: u32, to: u32, payload: &[u8]) -> Vec<u8> {
    let words = [seq, 0xC000_0001, 0, to];
    let mut packet: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    packet.extend(payload);
    packet
}

fn handshake(version: u32, flags: u16, kind: u32, id: u32, cookie: u32, more: &[u8]) -> Vec<u8> {
    let words = [version, u32::from(flags), 0x100, 1500, 8192, kind, id, cookie];
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    body.extend([1, 0, 0, 127]);
    body.extend([0; 12]);
    body.extend(more);
    control(0, 0, 0, &body)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Key material as it should look, whose key nobody has.
pub(crate) fn keys() -> Vec<u8> {
    let mut keys = vec![0x12, 0x20, 0x29, 1, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 4, 4];
    keys.extend([7; 16 + 24]);
    keys
}
