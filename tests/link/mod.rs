//! A link between UDP programs as networks are: it loses, delays, reorders and limits datagrams.
//!
//! A relay on loopback: clients send to [`Link::addr`], each of them reaches the far end from a port
//! of its own, as behind a NAT, and answers come back the same way. What happens to the n-th datagram
//! of a way is decided by the seed alone, so that a run can be repeated. Tests of any crate take it
//! in by its path:
//!
//! ```ignore
//! #[path = "../../tests/link/mod.rs"]
//! mod link;
//! ```

#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Clients of a link, at most.
const CLIENTS_MAX: usize = 256;

/// How often a thread that waits for datagrams looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// What happens to datagrams in one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Share of the datagrams that are lost.
    pub(crate) loss: f64,
    /// How many are lost in a row when one is.
    pub(crate) burst: u32,
    /// Share of the datagrams that come twice.
    pub(crate) twice: f64,
    /// How long each takes.
    pub(crate) delay: Duration,
    /// How much longer, at most; chosen for each anew, so that later ones overtake.
    pub(crate) jitter: Duration,
    /// Bytes a second that fit through; `None` is no limit.
    pub(crate) rate: Option<u64>,
    /// How long a datagram may wait for the rate before it is lost.
    pub(crate) queue: Duration,
    /// Nothing comes through.
    pub(crate) cut: bool,
}

impl Default for Way {
    /// A wire: nothing is lost and nothing waits.
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: 1,
            twice: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: Duration::from_millis(200),
            cut: false,
        }
    }
}

impl Way {
    /// A wire of this length.
    pub(crate) fn of(delay_ms: u64) -> Self {
        Self { delay: Duration::from_millis(delay_ms), ..Self::default() }
    }

    /// The same, losing this share.
    pub(crate) fn losing(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// The same, reordering what is less than this apart.
    pub(crate) fn shaking(self, jitter_ms: u64) -> Self {
        Self { jitter: Duration::from_millis(jitter_ms), ..self }
    }
}

/// What became of the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Came in.
    pub(crate) datagrams: u64,
    /// Were lost.
    pub(crate) lost: u64,
    /// Went out after one that had come later.
    pub(crate) overtaken: u64,
}

/// Towards the far end.
const THERE: usize = 0;
/// To the clients.
const BACK: usize = 1;

/// A running link. Dropping it ends it.
pub(crate) struct Link {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    ways: [Mutex<Lane>; 2],
    waiting: Mutex<BinaryHeap<Waiting>>,
    grown: Condvar,
    stop: AtomicBool,
    counts: [[AtomicU64; 3]; 2],
}

/// One direction and its chance.
struct Lane {
    way: Way,
    chance: StdRng,
    /// How many more are lost of the present burst.
    losing: u32,
    /// When the rate lets the next one through.
    free: Instant,
    number: u64,
}

/// A datagram on its way.
struct Waiting {
    due: Instant,
    /// Counts up, so that what is due at the same time stays in order.
    number: u64,
    lane: usize,
    socket: Arc<UdpSocket>,
    /// Where to; a connected socket knows.
    to: Option<SocketAddr>,
    data: Arc<[u8]>,
}

impl Link {
    /// A link to `far`, the same both ways.
    pub(crate) fn both(far: SocketAddr, seed: u64, way: Way) -> Self {
        Self::start(far, seed, way, way)
    }

    /// A link to `far`: `there` is what happens to what clients send, `back` to the answers.
    pub(crate) fn start(far: SocketAddr, seed: u64, there: Way, back: Way) -> Self {
        let front = Arc::new(UdpSocket::bind((far.ip(), 0)).unwrap());
        front.set_read_timeout(Some(LOOK)).unwrap();
        let addr = front.local_addr().unwrap();
        let lane = |way, seed| {
            let chance = StdRng::seed_from_u64(seed);
            Mutex::new(Lane { way, chance, losing: 0, free: Instant::now(), number: 0 })
        };
        let shared = Arc::new(Shared {
            ways: [lane(there, seed), lane(back, !seed)],
            waiting: Mutex::default(),
            grown: Condvar::new(),
            stop: AtomicBool::new(false),
            counts: Default::default(),
        });
        let (sending, taking) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || sending.send()),
            std::thread::spawn(move || taking.take(&front, far)),
        ];
        Self { addr, shared, threads }
    }

    /// Where clients send to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what happens from now on.
    pub(crate) fn set(&self, there: Way, back: Way) {
        self.shared.ways[THERE].lock().unwrap().way = there;
        self.shared.ways[BACK].lock().unwrap().way = back;
    }

    /// What became of the datagrams so far: of those to the far end, and of the answers.
    pub(crate) fn seen(&self) -> [Seen; 2] {
        [THERE, BACK].map(|lane| {
            let [datagrams, lost, overtaken] =
                [0, 1, 2].map(|n| self.shared.counts[lane][n].load(Ordering::Relaxed));
            Seen { datagrams, lost, overtaken }
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.grown.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Takes what clients send, and begins a thread for the answers to each of them.
    fn take(self: &Arc<Self>, front: &Arc<UdpSocket>, far: SocketAddr) {
        let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut threads = Vec::new();
        let mut buffer = vec![0; 65_536];
        while !self.stopped() {
            let Ok((length, from)) = front.recv_from(&mut buffer) else { continue };
            let back = match clients.get(&from) {
                Some(back) => Arc::clone(back),
                None if clients.len() >= CLIENTS_MAX => continue,
                None => {
                    let back = Arc::new(UdpSocket::bind((far.ip(), 0)).unwrap());
                    back.connect(far).unwrap();
                    back.set_read_timeout(Some(LOOK)).unwrap();
                    clients.insert(from, Arc::clone(&back));
                    let (shared, front, answers) =
                        (Arc::clone(self), Arc::clone(front), Arc::clone(&back));
                    threads
                        .push(std::thread::spawn(move || shared.answers(&answers, &front, from)));
                    back
                }
            };
            self.carry(THERE, &back, None, &buffer[..length]);
        }
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    fn answers(&self, back: &UdpSocket, front: &Arc<UdpSocket>, client: SocketAddr) {
        let mut buffer = vec![0; 65_536];
        while !self.stopped() {
            if let Ok(length) = back.recv(&mut buffer) {
                self.carry(BACK, front, Some(client), &buffer[..length]);
            }
        }
    }

    /// Decides what happens to a datagram.
    fn carry(&self, lane: usize, socket: &Arc<UdpSocket>, to: Option<SocketAddr>, data: &[u8]) {
        let (now, data) = (Instant::now(), Arc::<[u8]>::from(data));
        self.counts[lane][0].fetch_add(1, Ordering::Relaxed);
        let mut this = self.ways[lane].lock().unwrap();
        let Some((due, twice)) = this.decide(now, data.len()) else {
            self.counts[lane][1].fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut waiting = self.waiting.lock().unwrap();
        for due in [Some(due), twice].into_iter().flatten() {
            this.number += 1;
            let (number, socket, data) = (this.number, Arc::clone(socket), Arc::clone(&data));
            waiting.push(Waiting { due, number, lane, socket, to, data });
        }
        drop(waiting);
        self.grown.notify_one();
    }

    /// Sends what is due.
    fn send(&self) {
        let mut last = [0; 2];
        let mut waiting = self.waiting.lock().unwrap();
        while !self.stopped() {
            let now = Instant::now();
            let Some(first) = waiting.peek() else {
                waiting = self.grown.wait_timeout(waiting, LOOK).unwrap().0;
                continue;
            };
            if first.due > now {
                let wait = (first.due - now).min(LOOK);
                waiting = self.grown.wait_timeout(waiting, wait).unwrap().0;
                continue;
            }
            let Some(Waiting { number, lane, socket, to, data, .. }) = waiting.pop() else {
                continue;
            };
            drop(waiting);
            if number < last[lane] {
                self.counts[lane][2].fetch_add(1, Ordering::Relaxed);
            }
            last[lane] = last[lane].max(number);
            // What the far end does not take is lost, as on a network.
            let _ = match to {
                Some(to) => socket.send_to(&data, to),
                None => socket.send(&data),
            };
            waiting = self.waiting.lock().unwrap();
        }
    }
}

impl Lane {
    /// When a datagram arrives, and its double if there is one; `None` when it is lost. Takes the
    /// same number of chances for each, whatever becomes of it.
    fn decide(&mut self, now: Instant, bytes: usize) -> Option<(Instant, Option<Instant>)> {
        let [lost, late, twice, later] = std::array::from_fn(|_| self.chance.random::<f64>());
        let way = self.way;
        if self.losing == 0 && lost < way.loss / f64::from(way.burst.max(1)) {
            self.losing = way.burst.max(1);
        }
        if self.losing > 0 {
            self.losing -= 1;
            return None;
        }
        if way.cut {
            return None;
        }
        let mut sent = now;
        if let Some(rate) = way.rate {
            let starts = self.free.max(now);
            if starts - now > way.queue {
                return None;
            }
            sent = starts + Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.free = sent;
        }
        let arrives = |late: f64| sent + way.delay + way.jitter.mul_f64(late);
        Some((arrives(late), (twice < way.twice).then(|| arrives(later))))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    /// The heap gives its greatest: that is what is due first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}
