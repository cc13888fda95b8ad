//! A client that says what a test tells it to, byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::PATIENCE;

/// H.264 without parameter sets and G.711.
pub(crate) const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
m=audio 0 RTP/AVP 8\r\na=control:trackID=0\r\n";

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    sequence: u32,
    sent: u32,
}

/// The RTP packet of this number, with 20 ms of G.711.
pub(crate) fn rtp(number: u32) -> Vec<u8> {
    let [_, _, high, low] = number.to_be_bytes();
    let time = (number * 160).to_be_bytes();
    let head = [&[0x80, 0x88, high, low][..], &time, &7_u32.to_be_bytes()].concat();
    [&head[..], &[0xd5; 160]].concat()
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        Self { stream, sequence: 0, sent: 0 }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request; the status and the head of its answer.
    pub(crate) async fn ask(&mut self, line: &str, lines: &str, body: &str) -> (u16, String) {
        self.sequence += 1;
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let sequence = self.sequence;
        let text = format!("{line} RTSP/1.0\r\nCSeq: {sequence}\r\n{lines}{length}\r\n{body}");
        self.send(text.as_bytes()).await;
        let answer = tokio::time::timeout(PATIENCE, self.answer()).await;
        answer.unwrap_or_else(|_| panic!("{line} is not answered"))
    }

    async fn answer(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return (0, String::new()),
            }
        }
        let mut head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        if let Some(length) = length {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).await.unwrap();
            head += &String::from_utf8(body).unwrap();
        }
        (head[9..12].parse().unwrap(), head)
    }

    /// The value of `Session` in an answer, as a header to send.
    pub(crate) fn session(answer: &str) -> String {
        let line = answer.lines().find(|line| line.starts_with("Session: ")).unwrap();
        format!("{}\r\n", line.split(';').next().unwrap())
    }

    /// Announces `name`, sets its track up with this transport and begins; the session's header.
    pub(crate) async fn publish(addr: SocketAddr, name: &str, transport: &str) -> (Self, String) {
        let mut client = Self::connect(addr).await;
        let url = format!("rtsp://h/{name}");
        let (status, answer) =
            client.ask(&format!("ANNOUNCE {url}"), "Content-Type: application/sdp\r\n", SDP).await;
        assert_eq!(status, 200, "{answer}");
        let line = format!("SETUP {url}/trackID=0");
        let (status, answer) = client.ask(&line, &format!("Transport: {transport}\r\n"), "").await;
        assert_eq!(status, 200, "{answer}");
        let session = Self::session(&answer);
        let (status, answer) = client.ask(&format!("RECORD {url}"), &session, "").await;
        assert_eq!(status, 200, "{answer}");
        (client, session)
    }

    /// Sends the next 20 ms of sound over the connection.
    pub(crate) async fn sound(&mut self) {
        self.sent += 1;
        let packet = rtp(self.sent);
        let [high, low] = (packet.len() as u16).to_be_bytes();
        self.send(&[&[b'$', 0, high, low], &packet[..]].concat()).await;
    }

    /// Waits until the server has closed the connection; what it said before.
    pub(crate) async fn closed(mut self) -> String {
        let mut said = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut said)).await;
        // A reset is an end too.
        let _ = closed.expect("the connection stays open");
        String::from_utf8_lossy(&said).into_owned()
    }
}
