//! Many bare RTMP players in this process.
//!
//! A player says what every client says, then reads and counts. A few read at once, as real ones
//! do, and note how old the pictures are. The others are read in turn by one thread, each a few
//! times a second: on one machine a reader that waits would be woken at the sender's cost, which no
//! reader elsewhere is.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::client::{self, number, text};
use super::mark;

/// Every so many players one notes delays.
const NOTED_EVERY: u32 = 20;

/// Players that connect at the same time.
const CONNECTING_MAX: usize = 32;

/// How long a player may take to its first picture.
const PATIENCE: Duration = Duration::from_secs(60);

/// Read buffer of a player, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Bytes that may wait for a player before he is read, well below a socket's buffer.
const WAITING_BYTES: u32 = 16 << 10;

/// Longest time between two reads of a player, in milliseconds.
const TURN_MS_MAX: u32 = 250;

/// Delays kept at most.
const DELAYS_MAX: usize = 4_000_000;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    bytes: AtomicU64,
    noting: AtomicBool,
    delays: Mutex<Vec<f64>>,
}

/// Connected players. Dropping them disconnects them.
pub(super) struct Players {
    addr: SocketAddr,
    speak: bool,
    shared: Arc<Shared>,
    count: u32,
    noted: Vec<JoinHandle<()>>,
    /// To the thread that reads those who note nothing.
    quiet: mpsc::SyncSender<std::net::TcpStream>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Players {
    /// Nobody yet. Those of the floor do not speak.
    pub(super) fn new(addr: SocketAddr, kbits: u32, speak: bool) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let turn = Duration::from_millis((WAITING_BYTES * 8 / kbits).clamp(1, TURN_MS_MAX).into());
        let (quiet, coming) = mpsc::sync_channel(super::PLAYERS_MAX as usize);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("players".into());
        let thread = thread.spawn(move || read_in_turn(&coming, &theirs, turn))?;
        let thread = Some(thread);
        Ok(Self { addr, speak, shared, count: 0, noted: Vec::new(), quiet, thread })
    }

    /// Lets players join until there are `count`, and waits until each has had bytes of the stream.
    pub(super) async fn grow(&mut self, count: u32) -> Result<()> {
        let room = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut connecting = tokio::task::JoinSet::new();
        let (addr, speak) = (self.addr, self.speak);
        for index in self.count..count {
            let room = Arc::clone(&room);
            connecting.spawn(async move {
                let _turn = room.acquire_owned().await?;
                let begun = tokio::time::timeout(PATIENCE, begin(addr, speak)).await;
                begun.context("a player gets no picture")?.map(|socket| (index, socket))
            });
        }
        while let Some(begun) = connecting.join_next().await {
            let (index, socket) = begun??;
            if index.is_multiple_of(NOTED_EVERY) {
                self.noted.push(tokio::spawn(read_and_note(socket, Arc::clone(&self.shared))));
            } else {
                self.quiet.send(socket.into_std()?).context("the readers' thread ended")?;
            }
        }
        self.count = count;
        Ok(())
    }

    /// Bytes that all have read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Whether delays are kept from now on.
    pub(super) fn note_delays(&self, on: bool) {
        self.shared.noting.store(on, Ordering::Release);
    }

    /// How old pictures were in milliseconds, of all that were noted.
    pub(super) fn delays_ms(&self) -> Vec<f64> {
        std::mem::take(&mut *self.shared.delays.lock())
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.noted.iter().for_each(JoinHandle::abort);
        if let Some(thread) = self.thread.take() {
            // One that gave way has said so itself.
            let _ = thread.join();
        }
    }
}

/// Says what is wanted and waits for the first bytes of a picture.
async fn begin(addr: SocketAddr, speak: bool) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(addr).await?;
    if speak {
        let play = [text("play"), number(3.0), vec![5], text(""), number(-2000.0)].concat();
        socket.write_all(&client::hello(&play)).await?;
    }
    // More than all that is said before a picture.
    let mut rest: usize = if speak { 4096 } else { 1 };
    let mut bytes = [0; 4096];
    while rest > 0 {
        let count = socket.read(&mut bytes[..rest]).await?;
        ensure!(count > 0, "the server refuses a player");
        rest -= count;
    }
    Ok(socket)
}

async fn read_and_note(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut bytes = vec![0; READ_BYTES];
    let mut kept = 0;
    loop {
        let Ok(count @ 1..) = socket.read(&mut bytes[kept..]).await else { return };
        shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let end = kept + count;
        if shared.noting.load(Ordering::Acquire) {
            let now = mark::now();
            let mut delays = shared.delays.lock();
            let room = DELAYS_MAX.saturating_sub(delays.len());
            let ages = mark::times(&bytes[..end]).map(|sent| now.saturating_sub(sent));
            delays.extend(ages.take(room).map(|nanoseconds| nanoseconds as f64 / 1e6));
        }
        // A time may be cut in two.
        kept = (mark::MARKED_BYTES - 1).min(end);
        bytes.copy_within(end - kept..end, 0);
    }
}

/// Reads each socket once a `turn`, a few at a time, until it is told to stop.
fn read_in_turn(coming: &mpsc::Receiver<std::net::TcpStream>, shared: &Shared, turn: Duration) {
    const STEP: Duration = Duration::from_millis(1);
    let mut waste = vec![0; READ_BYTES];
    let mut sockets: Vec<std::net::TcpStream> = Vec::new();
    let (mut at, mut owed, mut last) = (0, 0.0, Instant::now());
    while !shared.stop.load(Ordering::Relaxed) {
        sockets.extend(coming.try_iter());
        let now = Instant::now();
        owed += sockets.len() as f64 * (now - last).as_secs_f64() / turn.as_secs_f64();
        // Who was away for long does not read anybody twice.
        owed = owed.min(sockets.len() as f64);
        last = now;
        while owed >= 1.0 {
            owed -= 1.0;
            at = (at + 1) % sockets.len();
            // What has ended or failed brings nothing, which shows in the sum.
            while let Ok(count @ 1..) = sockets[at].read(&mut waste) {
                shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
                if count < waste.len() {
                    break;
                }
            }
        }
        std::thread::sleep(STEP);
    }
}
