//! A bare WHEP viewer: it offers H.264, checks, shakes hands, and then only notes when the last
//! packet of each picture came. RTP's header stays in the clear under SRTP, and it holds all that
//! is asked here, so that nothing is decrypted or decoded and the viewer costs next to nothing.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::peer::{self, CHECK_EVERY, DATAGRAM_BYTES, H264, Identity, Peer, Wants};
use crate::hops::{Hop, Row};

/// A picture that came in whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    /// RTP's time stamp.
    timestamp: u32,
    /// When its last packet was read, in nanoseconds of the system's clock.
    at_ns: u64,
}

/// The running viewer. Dropping it ends it.
pub(super) struct Receiver {
    pictures: Arc<Mutex<Vec<Picture>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Watches a WHEP address from now on.
    pub(super) async fn attach(whep: &str) -> Result<Self> {
        let wants = Wants { publish: None, audio: false, feedback: false };
        let identity = Identity::generate()?;
        let peer = Peer::negotiate(&crate::http_client()?, whep, &identity, wants).await?;
        let (socket, peer, _) = peer::connect(peer).await.context("WHEP")?;
        let mut session = Session { socket, peer };
        let pictures = Arc::<Mutex<Vec<Picture>>>::default();
        let noting = Arc::clone(&pictures);
        let task = tokio::spawn(async move {
            // An error here is the end of the socket: the run then lacks pictures and says so.
            let _ = session.listen(&noting).await;
        });
        Ok(Self { pictures, task })
    }

    /// What came so far.
    pub(super) fn pictures(&self) -> Vec<Picture> {
        self.pictures.lock().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rows for pictures that came. RTP's clock is the source's with another zero, which is found by
/// pairing each picture with the newest frame that had left by then and taking what most say.
pub(super) fn rows(pictures: &[Picture], trace: &[Row]) -> Vec<Row> {
    let mut left: Vec<&Row> = trace.iter().filter(|row| row.hop == Hop::Splice).collect();
    left.sort_by_key(|row| row.at_ns);
    let mut votes = std::collections::HashMap::<u32, usize>::new();
    for picture in pictures {
        let before = left.partition_point(|row| row.at_ns <= picture.at_ns);
        if let Some(row) = before.checked_sub(1).map(|place| left[place]) {
            *votes.entry(picture.timestamp.wrapping_sub(row.pts as u32)).or_default() += 1;
        }
    }
    let Some((&zero, _)) = votes.iter().max_by_key(|(_, votes)| **votes) else { return Vec::new() };
    let names: std::collections::HashMap<u32, i64> =
        left.iter().map(|row| (row.pts as u32, row.pts)).collect();
    let named = pictures.iter().filter_map(|picture| {
        let pts = *names.get(&picture.timestamp.wrapping_sub(zero))?;
        Some(Row { pts, hop: Hop::Egress, at_ns: picture.at_ns, took_ns: 0 })
    });
    named.collect()
}

struct Session {
    socket: UdpSocket,
    peer: Peer,
}

impl Session {
    async fn listen(&mut self, pictures: &Mutex<Vec<Picture>>) -> Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut alive = tokio::time::interval(CHECK_EVERY);
        loop {
            let (length, _) = tokio::select! {
                got = self.socket.recv_from(&mut buffer) => got?,
                _ = alive.tick() => {
                    self.peer.again(Instant::now())?;
                    for datagram in self.peer.take_out() {
                        self.socket.send_to(&datagram, self.peer.server).await?;
                    }
                    continue;
                }
            };
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if let Some(timestamp) = end_of_picture(&buffer[..length]) {
                pictures.lock().push(Picture { timestamp, at_ns: since.as_nanos() as u64 });
            }
        }
    }
}

/// The time stamp of the picture whose last packet this is (RFC 3550 5.1, RFC 6184 5.1).
fn end_of_picture(datagram: &[u8]) -> Option<u32> {
    let [first, second, _, _, a, b, c, d, ..] = *datagram else { return None };
    let last = first >> 6 == 2 && second == 0x80 | H264;
    last.then(|| u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_named_by_the_time_stamps_that_most_agree_on() {
        const MS: u64 = 1_000_000;
        let splice = |n: u64| Row {
            pts: n as i64 * 3000,
            hop: Hop::Splice,
            at_ns: 1000 * MS + n * 33 * MS,
            took_ns: 0,
        };
        let trace: Vec<Row> = (0..30).map(splice).collect();
        let zero = u32::MAX - 10_000;
        // The third one comes so late that the next frame has left already.
        let seen = |n: u64| Picture {
            timestamp: zero.wrapping_add(n as u32 * 3000),
            at_ns: 1000 * MS + n * 33 * MS + if n == 3 { 40 } else { 2 } * MS,
        };
        let pictures: Vec<Picture> = (0..30).map(seen).collect();
        let rows = rows(&pictures, &trace);
        let names: Vec<i64> = rows.iter().map(|row| row.pts).collect();
        assert_eq!(names, (0..30).map(|n| n * 3000).collect::<Vec<_>>());
    }

    #[test]
    fn only_the_marked_packet_of_a_picture_ends_it() {
        let packet = |marker: u8| [0x90, marker | H264, 0, 1, 0, 0, 0x12, 0x34, 9, 9, 9, 9];
        assert_eq!(end_of_picture(&packet(0x80)), Some(0x1234));
        assert_eq!(end_of_picture(&packet(0)), None);
        assert_eq!(end_of_picture(&[0x16, 0xfe]), None);
    }
}
