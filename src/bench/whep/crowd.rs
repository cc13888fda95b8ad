//! All viewers of a run in one thread: a few dozen on each UDP socket, told apart by their own
//! loopback addresses, so that thousands need little more than their keys.
//!
//! A socket's task reads what the kernel has (joined by GRO as the sender segmented it), hands it
//! to the viewers and writes their reports. Datagrams from elsewhere are those of the floor.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::peer::{AGAIN, CHECK_EVERY, HANDSHAKE_LIMIT, Identity, Peer, Read, Wants};
use super::measured::Measured;
use super::viewer::{Got, Viewer};

/// Viewers on one socket.
const SOCKET_VIEWERS: usize = 32;

/// Viewers that ask from one address: servers limit them.
const ADDRESS_VIEWERS: usize = 96;

/// Handshakes at the same time.
const HANDSHAKES: usize = 48;

/// How often a socket looks for reports that are due.
const TICK: Duration = Duration::from_millis(50);

/// Bytes that the kernel may hold for a socket.
const SOCKET_BYTES: usize = 4 << 20;

/// A crowd. Dropping it ends it.
pub(super) struct Crowd {
    whep: String,
    identity: Identity,
    wants: Wants,
    clients: Vec<reqwest::Client>,
    sockets: Vec<Socket>,
    measured: Arc<Mutex<Measured>>,
    gate: Arc<Semaphore>,
    connected: Arc<AtomicUsize>,
    joined: usize,
    streams: usize,
}

struct Socket {
    port: u16,
    joins: mpsc::Sender<Joining>,
    task: JoinHandle<()>,
}

/// A viewer whose offer was answered.
struct Joining {
    ip: Ipv4Addr,
    peer: Peer,
    permit: OwnedSemaphorePermit,
}

impl Crowd {
    /// Nobody yet; `whep` has `{}` for the number of the stream, of which there are `streams`.
    pub(super) fn new(
        whep: String,
        streams: usize,
        wants: Wants,
        identity: Identity,
        measured: Arc<Mutex<Measured>>,
    ) -> Self {
        Self {
            whep,
            identity,
            wants,
            clients: Vec::new(),
            sockets: Vec::new(),
            measured,
            gate: Arc::new(Semaphore::new(HANDSHAKES)),
            connected: Arc::default(),
            joined: 0,
            streams,
        }
    }

    /// Lets viewers join until there are `count`, and waits until all are connected.
    ///
    /// # Errors
    /// One of them is refused or does not get through.
    pub(super) async fn grow(&mut self, count: usize) -> Result<()> {
        while self.sockets.len() * SOCKET_VIEWERS < count {
            let socket = open(&self.measured, &self.connected)?;
            self.sockets.push(socket);
        }
        while self.clients.len() * ADDRESS_VIEWERS < count {
            let number = self.clients.len() as u32 + 1;
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 2, 0, 0)) + number);
            let client = reqwest::Client::builder().local_address(IpAddr::V4(ip)).no_proxy();
            self.clients.push(client.build()?);
        }
        let joins = stream::iter(self.joined..count).map(|number| self.join(number));
        let mut joins = joins.buffer_unordered(HANDSHAKES);
        while let Some(joined) = joins.next().await {
            joined?;
        }
        drop(joins);
        self.joined = count;
        let end = Instant::now() + HANDSHAKE_LIMIT;
        while self.connected.load(Ordering::Relaxed) < count {
            let connected = self.connected.load(Ordering::Relaxed);
            ensure!(Instant::now() < end, "only {connected} of {count} viewers got through");
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    async fn join(&self, number: usize) -> Result<()> {
        let permit = timeout(HANDSHAKE_LIMIT, Arc::clone(&self.gate).acquire_owned()).await;
        let permit = permit.context("those who joined before do not get through")??;
        let whep = self.whep.replace("{}", &(number % self.streams).to_string());
        let client = &self.clients[number / ADDRESS_VIEWERS];
        let peer = Peer::negotiate(client, &whep, &self.identity, self.wants).await?;
        let place = (number % SOCKET_VIEWERS) as u32 + 1;
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + place);
        let joining = Joining { ip, peer, permit };
        let sent = self.sockets[number / SOCKET_VIEWERS].joins.send(joining).await;
        ensure!(sent.is_ok(), "a socket of the crowd has ended");
        Ok(())
    }

    /// Addresses of all viewers, in the order in which they joined.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let place = |number: usize| {
            let place = (number % SOCKET_VIEWERS) as u32 + 1;
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + place);
            SocketAddr::new(ip.into(), self.sockets[number / SOCKET_VIEWERS].port)
        };
        (0..self.joined).map(place).collect()
    }

    /// Datagrams that the kernel could not keep for the crowd, since its sockets were opened.
    pub(super) fn dropped(&self) -> u64 {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let ports: Vec<String> =
            self.sockets.iter().map(|socket| format!(":{:04X}", socket.port)).collect();
        let dropped = table.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let ours = ports.iter().any(|port| fields.get(1).is_some_and(|at| at.ends_with(port)));
            fields.last().filter(|_| ours)?.parse::<u64>().ok()
        });
        dropped.sum()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.sockets.iter().for_each(|socket| socket.task.abort());
    }
}

fn open(measured: &Arc<Mutex<Measured>>, connected: &Arc<AtomicUsize>) -> Result<Socket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_nonblocking(true)?;
    let port = socket.local_addr()?.port();
    let socket = UdpSocket::from_std(socket)?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // The system may give less; then drops are counted and the run is void.
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BYTES);
    let (joins, joining) = mpsc::channel(SOCKET_VIEWERS);
    let bench = Bench {
        socket,
        state,
        port,
        seats: HashMap::new(),
        measured: Arc::clone(measured),
        connected: Arc::clone(connected),
        buffer: Vec::new(),
    };
    Ok(Socket { port, joins, task: tokio::spawn(bench.sit(joining)) })
}

/// The viewers of one socket.
struct Bench {
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
    seats: HashMap<IpAddr, Seat>,
    measured: Arc<Mutex<Measured>>,
    connected: Arc<AtomicUsize>,
    buffer: Vec<u8>,
}

struct Seat {
    ip: IpAddr,
    peer: Peer,
    viewer: Option<Viewer>,
    /// Held until the handshake is through.
    permit: Option<OwnedSemaphorePermit>,
    check_at: Instant,
}

impl Bench {
    async fn sit(mut self, mut joining: mpsc::Receiver<Joining>) {
        let bytes = self.state.gro_segments() * 1500;
        let mut buffers: [Vec<u8>; BATCH_SIZE] = std::array::from_fn(|_| vec![0; bytes]);
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                ready = self.socket.readable() => {
                    if ready.is_err() {
                        return;
                    }
                    let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
                    let socket = UdpSockRef::from(&self.socket);
                    let got = self.socket.try_io(Interest::READABLE, || {
                        self.state.recv(socket, &mut slices, &mut metas)
                    });
                    let now = Instant::now();
                    let count = got.unwrap_or(0);
                    for (meta, buffer) in metas.iter().zip(&buffers).take(count) {
                        self.read(now, meta, &buffer[..meta.len]);
                    }
                }
                Some(Joining { ip, peer, permit }) = joining.recv() => {
                    let ip = IpAddr::V4(ip);
                    let check_at = Instant::now();
                    let permit = Some(permit);
                    self.seats.insert(ip, Seat { ip, peer, viewer: None, permit, check_at });
                    self.tick();
                }
                _ = ticks.tick() => self.tick(),
            }
        }
    }

    fn read(&mut self, now: Instant, meta: &RecvMeta, bytes: &[u8]) {
        let Some(seat) = meta.dst_ip.and_then(|ip| self.seats.get_mut(&ip)) else { return };
        if meta.addr != seat.peer.server {
            return;
        }
        let mut measured = self.measured.lock();
        measured.datagrams(now, SocketAddr::new(seat.ip, self.port), bytes.len(), meta.stride);
        for datagram in bytes.chunks(meta.stride.max(1)) {
            if let (Some(viewer), true) = (&mut seat.viewer, datagram[0] & 0xc0 == 0x80) {
                if let Got::Picture(number) = viewer.media(now, datagram) {
                    measured.picture(now, number);
                }
                continue;
            }
            // A datagram that makes no sense is the server's fault and shows as a lost viewer.
            if let Ok(Read::Connected(keys)) = seat.peer.read(now, datagram) {
                seat.viewer = Some(Viewer::new(now, keys, rand::random()));
                seat.permit = None;
                self.connected.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(measured);
        flush(&self.socket, &self.state, seat);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for seat in self.seats.values_mut() {
            if now >= seat.check_at {
                let wait = if seat.viewer.is_some() { CHECK_EVERY } else { AGAIN };
                seat.check_at = now + wait;
                // Who is given up by the handshake does not get through, which is told.
                let _ = seat.peer.again(now);
                flush(&self.socket, &self.state, seat);
            }
            if let Some(viewer) = &mut seat.viewer {
                while let Some(report) = viewer.poll_report(now, &mut self.buffer) {
                    send(&self.socket, &self.state, seat.ip, seat.peer.server, &report);
                }
            }
        }
        let missing: u64 =
            self.seats.values().filter_map(|seat| seat.viewer.as_ref()).map(Viewer::missing).sum();
        self.measured.lock().missing(self.port, missing);
    }
}

fn flush(socket: &UdpSocket, state: &UdpSocketState, seat: &mut Seat) {
    for datagram in seat.peer.take_out() {
        send(socket, state, seat.ip, seat.peer.server, &datagram);
    }
}

fn send(socket: &UdpSocket, state: &UdpSocketState, from: IpAddr, to: SocketAddr, bytes: &[u8]) {
    let transmit = Transmit {
        destination: to,
        ecn: None,
        contents: bytes,
        segment_size: None,
        src_ip: Some(from),
    };
    // What the kernel does not take is lost, as on any way.
    let _ =
        socket.try_io(Interest::WRITABLE, || state.try_send(UdpSockRef::from(socket), &transmit));
}
