//! Viewers at the live edge are written to by one task for many of them.
//!
//! Most viewers have had everything and wait for the next packet. Waking a task for each of them
//! costs as much as what it is woken for, so here the viewers of a stream sit in rows, and the task
//! of a row reads the stream, makes each viewer's message and writes it to his socket at once. What
//! is out of the ordinary is left to the viewer's own task, to which he goes back: a socket that
//! does not take everything, a client that says something, tracks that change, the end.

use std::collections::HashMap;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Buf as _;
use parking_lot::Mutex;
use pipeline::Packet;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::session::Outlet;
use super::units::Units;
use super::{Counters, add};
use crate::hub::{Item, Reader};
use crate::name::StreamName;
use crate::sessions::Meter;

/// Viewers of a row. Its task writes to them without a pause, some milliseconds for each picture;
/// the rows of a stream spread over the cores.
const SEATS_MAX: usize = 256;

/// Packets that a row takes at once. It is only more than a few when its task had to wait.
const BATCH_MAX: usize = 256;

/// Pieces of a write.
const PIECES_MAX: usize = 16;

/// The audiences of a listener.
#[derive(Default)]
pub(super) struct Audiences {
    all: Mutex<HashMap<StreamName, Weak<Audience>>>,
}

impl Audiences {
    /// Those who watch a stream.
    pub(super) fn of(&self, name: &StreamName) -> Arc<Audience> {
        let mut all = self.all.lock();
        if let Some(audience) = all.get(name).and_then(Weak::upgrade) {
            return audience;
        }
        all.retain(|_, audience| audience.strong_count() > 0);
        let audience = Arc::<Audience>::default();
        all.insert(name.clone(), Arc::downgrade(&audience));
        audience
    }
}

/// Those who watch one stream.
#[derive(Default)]
pub(super) struct Audience {
    /// Pictures made for all of them.
    pub(super) units: Arc<Units>,
    rows: Mutex<Vec<Arc<Row>>>,
}

/// What a row needs of its viewer.
pub(super) struct Stay {
    /// The sending half of his session. Nothing waits in it when he sits down.
    pub(super) outlet: Outlet,
    pub(super) socket: Arc<TcpStream>,
    pub(super) meter: Meter,
}

impl Stay {
    /// Writes what of the batch he has not had. False when he must go back to his own task.
    fn send(&mut self, batch: &[(u64, Packet)], next: &mut u64, sent: &mut u64) -> bool {
        for (number, packet) in batch {
            // He may have come with more than the row had read.
            if *number >= *next {
                self.outlet.packet(packet);
                *next = number + 1;
            }
        }
        let out = self.outlet.output();
        while !out.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let count = out.chunks_vectored(&mut pieces);
            // Errors are met again, and named, by the viewer's own task.
            let Ok(written) = self.socket.try_write_vectored(&pieces[..count]) else {
                return false;
            };
            out.advance(written);
            self.meter.sent(written as u64);
            *sent += written as u64;
        }
        true
    }
}

impl Audience {
    /// Seats a viewer who has had all up to `reader`; gives him back if there is more meanwhile.
    pub(super) fn sit(
        &self,
        stay: Box<Stay>,
        reader: &Reader,
        merge: Duration,
        counters: &Arc<Counters>,
    ) -> Result<Seat, Box<Stay>> {
        let mut rows = self.rows.lock();
        rows.retain(|row| !row.door.lock().closed);
        let next = reader.position();
        let chair = |stay| {
            Arc::new(Chair {
                place: Mutex::new(Place { stay: Some(stay), next }),
                back: Notify::new(),
            })
        };
        for row in rows.iter().filter(|row| row.anchor.matches(reader)) {
            let mut door = row.door.lock();
            if door.closed || door.count >= SEATS_MAX {
                continue;
            }
            if door.position > next {
                // The row's task was woken earlier than the viewer's.
                return Err(stay);
            }
            let chair = chair(stay);
            door.count += 1;
            door.coming.push(Arc::clone(&chair));
            return Ok(Seat { chair, row: Arc::clone(row) });
        }
        let chair = chair(stay);
        let coming = vec![Arc::clone(&chair)];
        let door = Mutex::new(Door { coming, count: 1, position: next, closed: false });
        let row = Arc::new(Row { anchor: reader.beside(), door, empty: Notify::new() });
        rows.push(Arc::clone(&row));
        tokio::spawn(run(Arc::clone(&row), reader.beside(), merge, Arc::clone(counters)));
        Ok(Seat { chair, row })
    }
}

/// A viewer's seat in a row. Dropping it leaves it.
pub(super) struct Seat {
    chair: Arc<Chair>,
    row: Arc<Row>,
}

impl Seat {
    /// Waits until the viewer must go back to his own task.
    pub(super) async fn sent_back(&self) {
        self.chair.back.notified().await;
    }

    /// Takes the viewer out of the row: his sending half and the number of the packet that he is to
    /// get next. `None` when the making of a message panicked.
    pub(super) fn leave(self) -> Option<(Outlet, u64)> {
        let mut place = self.chair.place.lock();
        let next = place.next;
        place.stay.take().map(|stay| (stay.outlet, next))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.chair.place.lock().stay = None;
        let mut door = self.row.door.lock();
        door.count -= 1;
        door.coming.retain(|coming| !Arc::ptr_eq(coming, &self.chair));
        if door.count == 0 {
            self.row.empty.notify_one();
        }
    }
}

/// A seat as the row sees it.
struct Chair {
    place: Mutex<Place>,
    /// Tells the viewer's own task that he comes back.
    back: Notify,
}

struct Place {
    /// `None` when the viewer has left.
    stay: Option<Box<Stay>>,
    /// The number of the packet that he is to get next.
    next: u64,
}

impl Chair {
    /// Whether the viewer goes on sitting there.
    fn send(&self, batch: &[(u64, Packet)], sent: &mut u64) -> bool {
        let mut place = self.place.lock();
        let Place { stay: Some(stay), next } = &mut *place else { return false };
        // What one viewer's message does must not hurt those beside him.
        let sends = AssertUnwindSafe(|| stay.send(batch, next, sent));
        let stays = catch_unwind(sends).unwrap_or_else(|_| {
            place.stay = None;
            false
        });
        if !stays {
            self.back.notify_one();
        }
        stays
    }
}

/// Viewers of one task.
struct Row {
    /// Which stream and tracks it reads.
    anchor: Reader,
    door: Mutex<Door>,
    /// Tells the task that nobody is left.
    empty: Notify,
}

/// Who comes and goes.
struct Door {
    coming: Vec<Arc<Chair>>,
    /// Viewers in the row, those who come included.
    count: usize,
    /// Packets before this number are not sent to those who come now.
    position: u64,
    closed: bool,
}

/// Reads the stream for a row until everybody has left, or something comes that is not a packet.
async fn run(row: Arc<Row>, mut reader: Reader, merge: Duration, counters: Arc<Counters>) {
    let (mut chairs, mut batch) = (Vec::new(), Vec::new());
    loop {
        let item = tokio::select! {
            item = reader.next() => item,
            () = row.empty.notified() => {
                let mut door = row.door.lock();
                door.closed = door.count == 0;
                if door.closed {
                    return;
                }
                continue;
            }
        };
        if let (Item::Packet(_), Some(written)) = (&item, reader.last_written())
            && !merge.is_zero()
        {
            tokio::time::sleep_until((written + merge).into()).await;
        }
        let mut next = Some(item);
        while let Some(Item::Packet(packet)) = next {
            batch.push((reader.position() - 1, packet));
            next = if batch.len() < BATCH_MAX { reader.try_next() } else { None };
        }
        let over = next.is_some();
        {
            let mut door = row.door.lock();
            chairs.append(&mut door.coming);
            (door.position, door.closed) = (reader.position(), over);
        }
        let mut sent = 0;
        chairs.retain(|chair: &Arc<Chair>| chair.send(&batch, &mut sent));
        add(&counters.bytes_out, sent);
        batch.clear();
        if over {
            chairs.iter().for_each(|chair| chair.back.notify_one());
            return;
        }
        // Other rows, and those who publish, have their turn however much there is to send.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::hub::{Hub, Limits, Publisher, Start, Writer};
    use crate::sessions::Sessions;

    fn stream() -> (Hub, Writer, StreamName) {
        let (hub, name) = (Hub::new(Limits::default()), StreamName::parse("cam").unwrap());
        let publisher = Publisher { protocol: "test", id: String::new(), remote: String::new() };
        let writer = hub.publish(name.clone(), publisher, false).unwrap();
        (hub, writer, name)
    }

    /// A viewer whose socket nobody reads.
    async fn stay() -> Box<Stay> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr: SocketAddr = listener.local_addr().unwrap();
        let socket = Arc::new(TcpStream::connect(addr).await.unwrap());
        let open = Sessions::new("rtmp").open(addr, CancellationToken::new());
        Box::new(Stay { outlet: Outlet::default(), socket, meter: open.meter() })
    }

    #[tokio::test]
    async fn rows_fill_up_and_go_when_their_last_viewer_has_left() {
        let (hub, _writer, name) = stream();
        let (audience, counters) = (Audience::default(), Arc::default());
        let reader = hub.subscribe(&name, Start::Live).unwrap();
        let mut seats = Vec::new();
        for _ in 0..=SEATS_MAX {
            let seat = audience.sit(stay().await, &reader, Duration::ZERO, &counters);
            seats.push(seat.ok().expect("nothing else to read"));
        }
        assert_eq!(audience.rows.lock().len(), 2);
        let rows: Vec<_> = audience.rows.lock().iter().map(Arc::downgrade).collect();
        let (_, next) = seats.remove(0).leave().expect("he was there");
        assert_eq!(next, reader.position());
        drop((seats, audience));
        let gone = async {
            while rows.iter().any(|row| row.strong_count() > 0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("their tasks end");
    }

    #[tokio::test]
    async fn who_comes_after_a_packet_was_sent_reads_it_himself() {
        let (hub, mut writer, name) = stream();
        let (audience, counters) = (Audience::default(), Arc::default());
        let early = hub.subscribe(&name, Start::Live).unwrap();
        let first = audience.sit(stay().await, &early, Duration::ZERO, &counters).ok().unwrap();
        let (pts, data) = (pipeline::Pts(0), bytes::Bytes::from_static(b"sound"));
        let (kind, arrived) = (pipeline::TrackKind::Audio, std::time::Instant::now());
        writer.write(Packet { kind, pts, dts: pts, key: true, data, arrived });
        let position = || first.row.door.lock().position;
        while position() == early.position() {
            tokio::task::yield_now().await;
        }
        assert!(audience.sit(stay().await, &early, Duration::ZERO, &counters).is_err());
        let mut late = hub.subscribe(&name, Start::Live).unwrap();
        assert!(audience.sit(stay().await, &late, Duration::ZERO, &counters).is_ok());
        // The end is for each viewer's own task.
        drop(writer);
        first.sent_back().await;
        assert_eq!(first.leave().unwrap().1, late.position());
        assert!(matches!(late.next().await, Item::End));
    }
}
