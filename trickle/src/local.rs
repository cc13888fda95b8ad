//! Publishing and subscribing inside the process: the same rules and faces as over HTTP, and the
//! payload goes from writer to readers by reference.

use std::sync::Arc;

use bytes::Bytes;

use crate::channel::{Read, Start, Target};
use crate::error::{Error, Refusal};
use crate::http::{Answer, Operation};
use crate::live::{Live, OpenedHandle, ReadHandle, WriteHandle};
use crate::server::Server;
use crate::subscriber::{Body, Segment};

/// Segments that are passed over because somebody else wrote them, before giving up.
const OCCUPIED_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Publisher {
    server: Server,
    channel: Arc<Live>,
    /// The following segment, opened ahead so that its readers can wait in it.
    ahead: Option<WriteHandle>,
    next: u64,
    /// One clone for each segment that is handed out.
    in_flight: Arc<()>,
}

impl Publisher {
    /// Begins at the write head.
    pub(crate) fn new(channel: Arc<Live>, server: Server) -> Self {
        let (next, _) = channel.head();
        Self { server, channel, ahead: None, next, in_flight: Arc::new(()) }
    }

    pub(crate) fn next(&mut self) -> Result<Writer, Error> {
        let handle = match self.ahead.take().filter(|ahead| !ahead.is_over()) {
            Some(ahead) => ahead,
            None => self.open()?,
        };
        self.next = handle.index + 1;
        // Opened ahead only for the sake of early readers: a refusal here is reported when the
        // segment is really wanted.
        if let Ok(OpenedHandle::Open(ahead)) = self.channel.open(Target::At(self.next), false) {
            self.ahead = Some(ahead);
        }
        Ok(Writer {
            channel: self.channel.clone(),
            seq: handle.index,
            handle: Some(handle),
            _in_flight: self.in_flight.clone(),
        })
    }

    fn open(&mut self) -> Result<WriteHandle, Error> {
        for _ in 0..OCCUPIED_MAX {
            let opened = self.channel.open(Target::At(self.next), false);
            match opened.map_err(|refusal| error(&self.channel.name, self.next, refusal))? {
                OpenedHandle::Open(handle) => return Ok(handle),
                OpenedHandle::Over { index } => self.next = index + 1,
            }
        }
        let what = format!("{OCCUPIED_MAX} segments in a row are written by somebody else");
        Err(Error::Protocol { channel: self.channel.name.clone(), what })
    }

    pub(crate) fn in_flight(&self) -> usize {
        Arc::strong_count(&self.in_flight) - 1
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel.name
    }

    /// Closes and removes the channel.
    pub(crate) fn close(self) -> Result<(), Error> {
        let name = &self.channel.name;
        // Another channel may have taken the name since; that one is not ours to close.
        match self.server.find(name) {
            Ok(present) if Arc::ptr_eq(&present, &self.channel) => {}
            _ => return Err(Error::NotFound { channel: name.clone() }),
        }
        self.server.close(name).map_err(|refusal| error(name, 0, refusal))
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    channel: Arc<Live>,
    seq: u64,
    /// `None` once the segment is ended.
    handle: Option<WriteHandle>,
    _in_flight: Arc<()>,
}

impl Writer {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        let gone = || Error::Closed { channel: self.channel.name.clone() };
        let handle = self.handle.as_mut().ok_or_else(gone)?;
        if self.channel.head().1 {
            return Err(gone());
        }
        handle.append(chunk).map_err(|refusal| error(&self.channel.name, self.seq, refusal))
    }

    pub(crate) fn close(mut self) -> Result<(), Error> {
        if self.handle.take().is_some_and(WriteHandle::finish) {
            return Err(Error::Closed { channel: self.channel.name.clone() });
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Given up: the segment ends here, as a DELETE would end it.
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.finish();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Subscriber {
    channel: Arc<Live>,
    position: Start,
    /// The place at `position`, once joined.
    waiting: Option<ReadHandle>,
    last: Option<u64>,
}

impl Subscriber {
    pub(crate) fn new(channel: Arc<Live>, start: Start) -> Self {
        // Joined at once, so that a segment which begins before the first `next` is not missed.
        let waiting = channel.subscribe(start).ok();
        Self { channel, position: start, waiting, last: None }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Segment>, Error> {
        loop {
            let handle = match self.waiting.take() {
                Some(handle) => self.waiting.insert(handle),
                None => match self.channel.subscribe(self.position) {
                    Ok(handle) => self.waiting.insert(handle),
                    Err(Refusal::Closed) => return Ok(None),
                    Err(Refusal::NotAvailable { latest }) => {
                        self.position = Start::At(latest);
                        continue;
                    }
                    Err(refusal) => return Err(error(&self.channel.name, 0, refusal)),
                },
            };
            let index = handle.index;
            let first = handle.peek().await;
            let handle = self.waiting.take();
            self.position = Start::At(index + 1);
            match first {
                Read::End { closed: true, .. } => return Ok(None),
                Read::Cut | Read::Wait => continue,
                Read::Chunk(_) | Read::End { .. } => {}
            }
            let Some(handle) = handle else { continue };
            let skipped = self.last.map_or(0, |last| index.saturating_sub(last + 1));
            self.last = Some(index);
            return Ok(Some(Segment {
                seq: index,
                latest: (handle.latest != index).then_some(handle.latest),
                skipped,
                mime: Some(self.channel.mime.clone()),
                body: Body::Local(Reader { handle, bytes: 0 }),
            }));
        }
    }

    pub(crate) fn seek(&mut self, start: Start) {
        (self.position, self.last) = (start, None);
        self.waiting = self.channel.subscribe(start).ok();
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel.name
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    handle: ReadHandle,
    bytes: u64,
}

impl Reader {
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match self.handle.next().await {
            Read::Chunk(chunk) => {
                self.bytes += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Read::End { .. } => Ok(None),
            Read::Cut | Read::Wait => Err(Error::Reset {
                channel: self.handle.channel().name.clone(),
                seq: self.handle.index,
                bytes: self.bytes,
                reason: "thrown out of the ring while it was read".to_owned(),
            }),
        }
    }
}

/// What a refusal means to a caller in this process: the same as to one behind HTTP.
pub(crate) fn error(channel: &Arc<str>, seq: u64, refusal: Refusal) -> Error {
    let channel = channel.clone();
    match refusal {
        Refusal::NotFound | Refusal::Name => Error::NotFound { channel },
        Refusal::Closed => Error::Closed { channel },
        Refusal::SegmentTooLarge { limit } => Error::TooLarge { channel, seq, limit },
        other => {
            let answer = Answer::refused(&other, Operation::Subscribe, "");
            Error::Refused { channel, status: answer.status.as_u16(), text: other.to_string() }
        }
    }
}
