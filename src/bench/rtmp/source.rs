//! The publisher of what the players of a run play: synthetic pictures of equal size, each with the
//! time at which it left.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::RATE;
use super::client::{self, number, text};
use super::mark;

/// Pictures from key picture to key picture.
const GROUP: u32 = 2 * RATE;

/// A publisher. Dropping it ends it.
pub(super) struct Source {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// How far it was behind its plan at the worst moment, in microseconds.
    late_us: AtomicU64,
}

impl Source {
    /// Publishes so much from now on.
    pub(super) fn start(addr: SocketAddr, kbits: u32) -> Result<Self> {
        let mut socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        let publish = [text("publish"), number(3.0), vec![5], text(""), text("live")].concat();
        let mut begin = client::hello(&publish);
        begin.extend(client::message(9, 0, &[&[0x17, 0, 0, 0, 0][..], RECORD].concat()));
        socket.write_all(&begin)?;
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("source".into());
        let thread = thread.spawn(move || send(socket, kbits, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How far it was behind its plan at the worst moment since the last call.
    pub(super) fn take_lateness(&self) -> Duration {
        Duration::from_micros(self.shared.late_us.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that gave way has said so itself.
            let _ = thread.join();
        }
    }
}

fn send(mut socket: TcpStream, kbits: u32, shared: &Shared) {
    // The tag, a unit's length, its type and the begin of a slice header that names parameter set 0
    // stand before what is filled: 5, 4 and 3 bytes.
    let mut unit = mark::picture(mark::picture_bytes(kbits).saturating_sub(12));
    let length = (unit.len() as u32 + 3).to_be_bytes();
    let begun = Instant::now();
    for index in 0_u32.. {
        let due = Duration::from_secs(1) * index / RATE;
        std::thread::sleep((begun + due).saturating_duration_since(Instant::now()));
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let late = begun.elapsed().saturating_sub(due).as_micros() as u64;
        shared.late_us.fetch_max(late, Ordering::Relaxed);
        let (head, slice) = match index % GROUP {
            0 => (0x17, [0x65, 0x88, 0x80]),
            _ => (0x27, [0x41, 0x9A, 0x80]),
        };
        mark::stamp(&mut unit);
        let body = [&[head, 1, 0, 0, 0][..], &length, &slice, &unit].concat();
        // The server that goes away ends the run, which is told elsewhere.
        if socket.write_all(&client::message(9, due.as_millis() as u32, &body)).is_err() {
            return;
        }
    }
}

/// A decoder's configuration of an H.264 stream of 640x360.
const RECORD: &[u8] = &[
    0x01, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0x00, 0x19, 0x67, 0x42, 0xC0, 0x1E, 0xDA, 0x02, 0x80, 0xBF,
    0xE5, 0xC0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xF2, 0x3C, 0x58, 0xBA,
    0x80, 0x01, 0x00, 0x04, 0x68, 0xCE, 0x0F, 0xC8,
];
