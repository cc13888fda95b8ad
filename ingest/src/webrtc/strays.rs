//! Datagrams that reached the wrong worker.
//!
//! With several sockets on one port the kernel picks the socket by addresses, which signalling
//! cannot foresee. The first letter of our user name fragment says whose a check is; it is handed
//! over, and once its owner has verified it the owner says so, from when on everything else from
//! that address is handed over too. Each address keeps coming to the same socket, so whoever
//! receives it also guards it: see [`super::mux`].

use tokio::sync::mpsc;

use super::ice::{Path, Source};

/// Notes that wait for a worker; more are dropped and counted, as a full socket would.
const NOTES_MAX: usize = 1024;

/// The longest datagram that is handed over, in bytes. Peers send no more than a path takes.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Letters that name workers, one each.
const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Most workers of a server.
pub(crate) const WORKERS_MAX: u8 = LETTERS.len() as u8;

/// The letter that user name fragments and session URLs of a worker begin with.
pub(crate) fn letter(worker: u8) -> char {
    char::from(LETTERS[usize::from(worker % WORKERS_MAX)])
}

/// The worker of a user name fragment or session URL.
pub(crate) fn worker_of(text: &[u8]) -> Option<u8> {
    let place = LETTERS.iter().position(|letter| Some(letter) == text.first())?;
    u8::try_from(place).ok()
}

/// What one worker tells another.
pub(crate) enum Note {
    /// Worker `by` received what should be yours.
    Datagram { by: u8, path: Path, datagram: Box<[u8]> },
    /// A check that you handed over was verified: hand over all that comes from there, and only
    /// then give the peer this answer, since it goes on at once.
    Verified { path: Path, owner: u8, answer: Vec<u8> },
    /// A session of `owner` is still heard from this address.
    Held { source: Source, owner: u8 },
    /// A connection that began with a check for a session of yours, and that check.
    Connection { stream: std::net::TcpStream, first: Vec<u8> },
}

/// One worker's way to the others.
pub(crate) struct Others {
    me: u8,
    notes: Vec<mpsc::Sender<Note>>,
}

impl Others {
    /// The way of each worker to all others, and each one's inbox.
    pub(crate) fn of(workers: u8) -> Vec<(Self, mpsc::Receiver<Note>)> {
        let (notes, inboxes): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::channel(NOTES_MAX)).unzip();
        let inboxes = inboxes.into_iter().enumerate();
        inboxes.map(|(me, inbox)| (Self { me: me as u8, notes: notes.clone() }, inbox)).collect()
    }

    /// This worker's number.
    pub(crate) fn me(&self) -> u8 {
        self.me
    }

    /// Whether there is such a worker besides this one.
    pub(crate) fn knows(&self, worker: u8) -> bool {
        worker != self.me && usize::from(worker) < self.notes.len()
    }

    /// Passes a datagram on; false when it had to be dropped.
    pub(crate) fn hand_over(&self, to: u8, path: Path, datagram: &[u8]) -> bool {
        datagram.len() <= DATAGRAM_BYTES_MAX
            && self.tell(to, Note::Datagram { by: self.me, path, datagram: datagram.into() })
    }

    /// Tells worker `to` something, which may be this one; false when its inbox is full.
    pub(crate) fn tell(&self, to: u8, note: Note) -> bool {
        self.notes.get(usize::from(to)).is_some_and(|notes| notes.try_send(note).is_ok())
    }

    /// A way for a task of this worker.
    pub(crate) fn again(&self) -> Self {
        Self { me: self.me, notes: self.notes.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_letter_of_its_own() {
        for worker in 0..WORKERS_MAX {
            let text = format!("{}123", letter(worker));
            assert_eq!(worker_of(text.as_bytes()), Some(worker));
        }
        assert_eq!((worker_of(b""), worker_of(b"1A")), (None, None));
    }

    #[test]
    fn a_full_inbox_drops_and_does_not_wait() {
        let mut both = Others::of(2);
        let (_, mut inbox) = both.remove(1);
        let (others, _) = both.remove(0);
        assert!(others.knows(1) && !others.knows(0) && !others.knows(2));
        let path = Path::udp(std::net::SocketAddr::from(([192, 0, 2, 1], 1)), None);
        let taken = (0..2000).filter(|_| others.hand_over(1, path, b"x")).count();
        assert_eq!(taken, NOTES_MAX);
        assert!(!others.hand_over(1, path, &[0; DATAGRAM_BYTES_MAX + 1]));
        assert!(matches!(inbox.try_recv(), Ok(Note::Datagram { by: 0, .. })));
    }
}
