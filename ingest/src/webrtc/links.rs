//! TCP connections that carry a session where UDP does not get through (RFC 6544, passive side).
//!
//! Each datagram has its length in two bytes before it (RFC 4571). A connection is taken by
//! [`accept`], which reads only its first datagram, a check that names a worker, and then lives on
//! that worker's thread, which closes it at once unless the check is a valid one. Strangers that show
//! nothing are bounded in time and number; beyond that the oldest gives way to the newest. What a peer does not read is dropped, as a network would.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::counters::{Counters, add};
use super::strays::{self, Note, Others};
use super::stun::Check;
use super::worker::Event;
use crate::half_open::HalfOpen;

/// The longest datagram of a peer in bytes: what fits an Ethernet frame, and room.
pub(super) const DATAGRAM_BYTES_MAX: usize = 8192;

/// The first datagram, a check, has about 100 bytes.
const FIRST_BYTES_MAX: usize = 1024;

/// Sends that wait for a connection, each at most one frame of a stream, and bytes of them.
const SENDS_MAX: usize = 256;
const SENDS_BYTES_MAX: usize = 1 << 20;

/// How long a connection may take to show a check, and a peer to read what was sent.
const PROOF_LIMIT: Duration = Duration::from_secs(10);

/// Connections that have shown nothing yet.
const STRANGERS_MAX: usize = 256;

/// How long to rest when the system has no more file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Takes connections until the runtime ends and gives each to the worker that its first check
/// names.
pub(crate) async fn accept(listener: TcpListener, others: Others, counters: Arc<Counters>) {
    let strangers = HalfOpen::new(STRANGERS_MAX);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "no ICE-TCP connection was taken");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let over = CancellationToken::new();
        let let_go = over.clone();
        let (place, gave_way) = strangers.enter(peer.ip(), move || let_go.cancel());
        add(&counters.gave_way, gave_way.into());
        let others = others.again();
        tokio::spawn(async move {
            let shown = tokio::time::timeout(PROOF_LIMIT, introduce(stream));
            let named = over.run_until_cancelled(shown).await;
            if let Some(Ok(Some((worker, stream, first)))) = named {
                others.tell(worker, Note::Connection { stream, first });
            }
            drop(place);
        });
    }
}

/// The worker that the first datagram names.
async fn introduce(mut stream: TcpStream) -> Option<(u8, std::net::TcpStream, Vec<u8>)> {
    let first = read(&mut stream, FIRST_BYTES_MAX).await?;
    let worker = strays::worker_of(Check::parse(&first)?.ours())?;
    let _ = stream.set_nodelay(true);
    Some((worker, stream.into_std().ok()?, first))
}

/// The next datagram; `None` at the end or for one that is too long or empty.
pub(super) async fn read(stream: &mut (impl AsyncReadExt + Unpin), most: usize) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length == 0 || length > most {
        return None;
    }
    let mut datagram = vec![0; length];
    stream.read_exact(&mut datagram).await.ok()?;
    Some(datagram)
}

/// The connections of one worker.
#[derive(Default)]
pub(crate) struct Links {
    next: u32,
    open: HashMap<u32, Open>,
}

struct Open {
    remote: SocketAddr,
    sends: mpsc::Sender<Bytes>,
    /// Bytes in `sends`.
    waiting: Arc<AtomicUsize>,
    reading: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Links {
    /// Takes a connection: what comes on it and its end are told as events.
    pub(crate) fn add(
        &mut self,
        stream: std::net::TcpStream,
        events: mpsc::Sender<Event>,
    ) -> Option<(u32, SocketAddr)> {
        let stream = TcpStream::from_std(stream).ok()?;
        let remote = stream.peer_addr().ok()?;
        self.next = self.next.wrapping_add(1);
        let link = self.next;
        let (mut from, mut to) = stream.into_split();
        let (sends, mut sent) = mpsc::channel::<Bytes>(SENDS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        // Ends when the connection is dropped from the table, after what still waits.
        tokio::spawn(async move {
            while let Some(bytes) = sent.recv().await {
                let written = tokio::time::timeout(PROOF_LIMIT, to.write_all(&bytes)).await;
                if !matches!(written, Ok(Ok(()))) {
                    return;
                }
                left.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
        });
        let reading = tokio::spawn(async move {
            while let Some(datagram) = read(&mut from, DATAGRAM_BYTES_MAX).await {
                if events.send(Event::Arrived { link, datagram }).await.is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Hangup { link }).await;
        });
        let reading = reading.abort_handle();
        self.open.insert(link, Open { remote, sends, waiting, reading });
        Some((link, remote))
    }

    /// Who is at the other end.
    pub(crate) fn remote(&self, link: u32) -> Option<SocketAddr> {
        self.open.get(&link).map(|open| open.remote)
    }

    /// Forgets a connection, which closes it once what waits was sent.
    pub(crate) fn close(&mut self, link: u32) {
        self.open.remove(&link);
    }

    /// Sends `contents` cut into datagrams of `segment` bytes, of which the last may be shorter;
    /// false when the peer reads too slowly or is gone.
    pub(crate) fn send(&self, link: u32, contents: &[u8], segment: usize) -> bool {
        let Some(open) = self.open.get(&link) else { return false };
        if open.waiting.load(Ordering::Relaxed) + contents.len() > SENDS_BYTES_MAX {
            return false;
        }
        let segments = contents.chunks(segment.max(1));
        let mut framed = Vec::with_capacity(contents.len() + 2 * segments.len());
        for datagram in segments {
            let Ok(length) = u16::try_from(datagram.len()) else { return false };
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(datagram);
        }
        let bytes = framed.len();
        let taken = open.sends.try_send(framed.into()).is_ok();
        if taken {
            open.waiting.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }
}
