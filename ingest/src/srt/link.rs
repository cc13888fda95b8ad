//! One connection and its share of a socket: waits for datagrams and time, sends what is to be sent.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::connection::{Connection, Ended};
use super::stats::Statistics;

/// Datagrams that wait for a session, at most; more are dropped, as a network drops them.
pub(super) const DATAGRAMS_WAITING: usize = 1024;

/// Datagrams taken at once before anything is sent.
const BATCH: usize = 64;

/// Time between two times that figures are shown.
const SHOW_PERIOD: Duration = Duration::from_millis(250);

/// Figures of a connection for those who look on.
pub(super) type Shown = Arc<Mutex<Statistics>>;

pub(super) struct Link {
    connection: Connection,
    socket: Arc<UdpSocket>,
    remote: SocketAddr,
    datagrams: mpsc::Receiver<BytesMut>,
    timer: Pin<Box<Sleep>>,
    out: Vec<u8>,
    shown: Shown,
    shown_at: Instant,
    /// Packets of media that were left out because the reader was too slow.
    pub(super) skipped: u64,
    /// Those that were handed in.
    pub(super) carried: u64,
    /// Bytes of datagrams since they were last taken: in, out.
    traffic: (u64, u64),
}

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        socket: Arc<UdpSocket>,
        remote: SocketAddr,
        datagrams: mpsc::Receiver<BytesMut>,
        shown: Shown,
    ) -> Self {
        Self {
            connection,
            socket,
            remote,
            datagrams,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            out: Vec::with_capacity(2048),
            shown,
            shown_at: now(),
            skipped: 0,
            carried: 0,
            traffic: (0, 0),
        }
    }

    /// Waits until something came or is due, and takes it. Dropping the future loses nothing.
    pub(super) async fn wait(&mut self) -> Result<(), Ended> {
        if let Some(ended) = self.connection.ended() {
            return Err(ended);
        }
        let due = self.connection.next_timeout();
        if self.timer.deadline() != due.into() {
            self.timer.as_mut().reset(due.into());
        }
        tokio::select! {
            biased;
            datagram = self.datagrams.recv() => {
                let Some(mut datagram) = datagram else { return Err(Ended::Closed) };
                let now = now();
                for _ in 0..BATCH {
                    self.traffic.0 += datagram.len() as u64;
                    self.connection.handle(now, datagram);
                    match self.datagrams.try_recv() {
                        Ok(next) => datagram = next,
                        Err(_) => break,
                    }
                }
            }
            () = &mut self.timer => {}
        }
        // Also after a datagram: a flood of them must not put off what is due.
        let now = now();
        if now >= self.connection.next_timeout() {
            self.connection.handle_timeout(now);
        }
        if now.saturating_duration_since(self.shown_at) >= SHOW_PERIOD {
            self.show();
        }
        Ok(())
    }

    /// The next payload in order.
    pub(super) fn read(&mut self) -> Option<Bytes> {
        self.connection.read(now())
    }

    /// Hands in a payload; false when there is no room.
    pub(super) fn write(&mut self, payload: Bytes) -> bool {
        self.connection.write(now(), payload)
    }

    /// Sends what is to be sent now.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while self.connection.transmit(now(), &mut self.out) {
            let sent = match self.socket.try_send_to(&self.out, self.remote) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.send_to(&self.out, self.remote).await
                }
                sent => sent,
            };
            match sent {
                Ok(bytes) => self.traffic.1 += bytes as u64,
                // A datagram that the system refuses is one that the network lost, except where it
                // says that there is no way at all.
                Err(error) if error.kind() == io::ErrorKind::NetworkUnreachable => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Says good-bye.
    pub(super) async fn close(&mut self) {
        self.connection.close();
        let _ = self.flush().await;
        self.show();
    }

    /// Bytes of datagrams in and out since this was last asked.
    pub(super) fn take_traffic(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.traffic)
    }

    /// Packets that were too late to be sent.
    pub(super) fn dropped(&self) -> u64 {
        self.connection.stats.packets_send_drop
    }

    /// Whether everything was sent and acknowledged.
    pub(super) fn delivered(&self) -> bool {
        self.connection.delivered(now())
    }

    /// What both sides agreed on: delay of what comes in, and of what goes out.
    pub(super) fn latencies(&self) -> (Duration, Duration) {
        self.connection.latencies()
    }

    /// Puts the figures where they can be looked at.
    pub(super) fn show(&mut self) {
        let now = now();
        let mut statistics = self.connection.statistics(now);
        statistics.outbound_frames_discarded = self.skipped;
        *self.shown.lock() = statistics;
        self.shown_at = now;
    }

    pub(super) fn statistics(&mut self) -> Statistics {
        self.show();
        *self.shown.lock()
    }
}
