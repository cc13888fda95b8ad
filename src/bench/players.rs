//! Many bare RTMP players, and the publisher of what they play.
//!
//! A player says what every client says, then reads and counts. Some look for the time that each
//! picture carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::rtmp::RATE;

/// What stands before the time in a picture.
pub(super) const MARK: [u8; 8] = *b"\xf0MillSt\xf1";

/// Every so many players one looks for the times.
const NOTED_EVERY: u32 = 20;

/// Players that connect at the same time.
const CONNECTING_MAX: usize = 32;

/// How long a player may take to its first picture.
const PATIENCE: Duration = Duration::from_secs(60);

/// Read buffer of a player, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Delays kept at most.
const DELAYS_MAX: usize = 4_000_000;

/// The stream.
const STREAM: &str = "bench";

/// Nanoseconds since 1970, the same in all processes.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64
}

/// A picture of so many bytes with the time at its end. Nobody decodes it.
pub(super) fn picture(bytes: usize) -> Vec<u8> {
    let mut picture = vec![0x5A; bytes.max(MARK.len() + 8)];
    stamp(&mut picture);
    picture
}

/// Writes the time into it.
pub(super) fn stamp(picture: &mut [u8]) {
    let at = picture.len() - 8;
    picture[at - MARK.len()..at].copy_from_slice(&MARK);
    picture[at..].copy_from_slice(&now().to_be_bytes());
}

/// Bytes of one picture.
pub(super) fn picture_bytes(kbits: u32) -> usize {
    (kbits * 125 / RATE) as usize
}

/// What players have counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    /// Bytes read by all.
    pub(super) bytes: u64,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicU64,
    noting: AtomicBool,
    delays: Mutex<Vec<f64>>,
}

/// Connected players. Dropping them disconnects them.
pub(super) struct Players {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Players {
    /// Connects so many, and waits until each has had bytes of the stream. Those of the floor say
    /// nothing.
    pub(super) async fn connect(addr: SocketAddr, count: u32, speaks: bool) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let room = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut connecting = tokio::task::JoinSet::new();
        for index in 0..count {
            let room = Arc::clone(&room).acquire_owned().await?;
            connecting.spawn(async move {
                let begun = tokio::time::timeout(PATIENCE, begin(addr, speaks)).await;
                drop(room);
                begun.context("a player gets no picture")?.map(|socket| (index, socket))
            });
        }
        let mut players = Self { shared, tasks: Vec::new() };
        while let Some(begun) = connecting.join_next().await {
            let (index, socket) = begun??;
            let noted = index % NOTED_EVERY == 0;
            let shared = Arc::clone(&players.shared);
            players.tasks.push(tokio::spawn(read(socket, shared, noted)));
        }
        Ok(players)
    }

    /// What they have counted so far.
    pub(super) fn count(&self) -> Count {
        Count { bytes: self.shared.bytes.load(Ordering::Relaxed) }
    }

    /// Whether delays are kept from now on.
    pub(super) fn note_delays(&self, on: bool) {
        self.shared.noting.store(on, Ordering::Release);
    }

    /// Milliseconds from the publisher to a player, of all pictures that were noted.
    pub(super) fn delays_ms(&self) -> Vec<f64> {
        std::mem::take(&mut *self.shared.delays.lock())
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Says what is wanted and waits for the first bytes of a picture.
async fn begin(addr: SocketAddr, speaks: bool) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(addr).await?;
    if speaks {
        let play = [text("play"), number(3.0), vec![5], text(""), number(-2000.0)].concat();
        socket.write_all(&hello(&play)).await?;
    }
    // More than all that is said before a picture.
    let mut rest: usize = if speaks { 4096 } else { 1 };
    let mut bytes = [0; 4096];
    while rest > 0 {
        let count = socket.read(&mut bytes[..rest.min(4096)]).await?;
        anyhow::ensure!(count > 0, "the server refuses a player");
        rest -= count;
    }
    Ok(socket)
}

async fn read(mut socket: TcpStream, shared: Arc<Shared>, noted: bool) {
    let mut bytes = vec![0; if noted { READ_BYTES } else { 0 }];
    let mut kept = 0;
    loop {
        if !noted {
            let Ok(count) = read_away(&mut socket).await else { return };
            shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
            continue;
        }
        let Ok(count @ 1..) = socket.read(&mut bytes[kept..]).await else { return };
        shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let end = kept + count;
        if shared.noting.load(Ordering::Acquire) {
            let now = now();
            let mut delays = shared.delays.lock();
            for at in marks(&bytes[..end]) {
                let mut sent = [0; 8];
                sent.copy_from_slice(&bytes[at..at + 8]);
                let delay = now.saturating_sub(u64::from_be_bytes(sent));
                if delays.len() < DELAYS_MAX {
                    delays.push(delay as f64 / 1e6);
                }
            }
        }
        // A time may be cut in two.
        kept = (MARK.len() + 7).min(end);
        bytes.copy_within(end - kept..end, 0);
    }
}

/// Reads what is there into a buffer that all share, so that players cost the machine little.
async fn read_away(socket: &mut TcpStream) -> std::io::Result<usize> {
    thread_local! {
        static WASTE: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; READ_BYTES]);
    }
    loop {
        socket.readable().await?;
        let read = WASTE.with_borrow_mut(|waste| socket.try_read(waste));
        match read {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Where whole times begin.
fn marks(bytes: &[u8]) -> Vec<usize> {
    let last = bytes.len().saturating_sub(MARK.len() + 8);
    let mut found = Vec::new();
    let mut at = 0;
    while at <= last && bytes.len() >= MARK.len() + 8 {
        match bytes[at..].iter().position(|byte| *byte == MARK[0]) {
            Some(ahead) if at + ahead <= last => {
                at += ahead;
                if bytes[at..].starts_with(&MARK) {
                    found.push(at + MARK.len());
                    at += MARK.len() + 8;
                } else {
                    at += 1;
                }
            }
            _ => break,
        }
    }
    found
}

/// Publishes pictures of the clip's bitrate until it is told to stop.
pub(super) async fn publish(
    addr: SocketAddr,
    kbits: u32,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    let (mut read, mut write) = socket.into_split();
    tokio::spawn(async move { while matches!(read.read(&mut [0; 4096]).await, Ok(1..)) {} });
    let publish = [text("publish"), number(3.0), vec![5], text(""), text("live")].concat();
    let mut begin = hello(&publish);
    begin.extend(message(9, 0, &[&[0x17, 0, 0, 0, 0], RECORD].concat()));
    write.write_all(&begin).await?;
    // A unit's length, its type and its first byte stand before what is filled.
    let mut unit = picture(picture_bytes(kbits).saturating_sub(10));
    let length = (unit.len() as u32 + 2).to_be_bytes();
    Ok(tokio::spawn(async move {
        let began = tokio::time::Instant::now();
        for index in 0_u32.. {
            let due = Duration::from_secs(1) * index / RATE;
            tokio::time::sleep_until(began + due).await;
            if stop.load(Ordering::Acquire) {
                return;
            }
            let key = index % (2 * RATE) == 0;
            let head: [u8; 7] = if key {
                [0x17, 1, 0, 0, 0, length[0], length[1]]
            } else {
                [0x27, 1, 0, 0, 0, length[0], length[1]]
            };
            let slice = if key { [0x65, 0x88] } else { [0x41, 0x9A] };
            stamp(&mut unit);
            let body = [&head[..], &length[2..], &slice, &unit].concat();
            let time = due.as_millis() as u32;
            if write.write_all(&message(9, time, &body)).await.is_err() {
                return;
            }
        }
    }))
}

/// A decoder's configuration of an H.264 stream of 640x360.
const RECORD: &[u8] = &[
    0x01, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0x00, 0x19, 0x67, 0x42, 0xC0, 0x1E, 0xDA, 0x02, 0x80, 0xBF,
    0xE5, 0xC0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xF2, 0x3C, 0x58, 0xBA,
    0x80, 0x01, 0x00, 0x04, 0x68, 0xCE, 0x0F, 0xC8,
];

/// Everything that a client says up to its wish, which the server need not answer in between.
fn hello(wish: &[u8]) -> Vec<u8> {
    let mut hello = vec![3];
    hello.resize(1 + 2 * 1536, 0);
    // The largest chunks, so that each message is one.
    hello.extend(message(1, 0, &0xFF_FFFF_u32.to_be_bytes()));
    let app = [&[3, 0, 3][..], b"app", &text(STREAM), &[0, 0, 9]].concat();
    hello.extend(message(20, 0, &[text("connect"), number(1.0), app].concat()));
    hello.extend(message(20, 0, &[text("createStream"), number(2.0), vec![5]].concat()));
    hello.extend(message(20, 0, wish));
    hello
}

/// A message in one chunk on message stream 1.
fn message(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if kind == 9 { 6 } else { 3 }];
    bytes.extend(&time.min(0xFF_FFFF).to_be_bytes()[1..]);
    bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, 1, 0, 0, 0]);
    if time >= 0xFF_FFFF {
        bytes.extend(time.to_be_bytes());
    }
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&[2, 0, text.len() as u8], text.as_bytes()].concat()
}

fn number(number: f64) -> Vec<u8> {
    [&[0], &number.to_be_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_picture_is_found_wherever_it_lies() {
        let picture = picture(100);
        let two = [&picture[..], &[0xF0, 1, 2][..], &picture[..]].concat();
        assert_eq!(marks(&two), [92, 195]);
        assert_eq!(marks(&two[..97]), [], "cut in two it is found when the rest is there");
        assert_eq!(marks(b"short"), []);
        let mut sent = [0; 8];
        sent.copy_from_slice(&two[92..100]);
        assert!(now() - u64::from_be_bytes(sent) < 60_000_000_000);
    }
}
