//! A channel in use: the core behind a lock, with wake-ups, and handles that give their place
//! back when they are dropped. In process and over HTTP everything goes through these handles.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::channel::{Channel, ChannelStats, Opened, Read, SegmentId, Start, Target, Wake};
use crate::config::{Access, Limits};
use crate::error::Refusal;

/// Wakes the readers of one segment, and the publish requests that wait in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waker(Arc<Notify>);

impl Wake for Waker {
    fn wake(&self) {
        self.0.notify_waiters();
    }
}

/// One channel of a server.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) name: Arc<str>,
    pub(crate) mime: Arc<str>,
    pub(crate) access: Access,
    core: Mutex<Channel<Waker>>,
}

/// What opening a segment gave.
#[derive(Debug)]
pub(crate) enum OpenedHandle {
    Open(WriteHandle),
    Over { index: u64 },
}

impl Live {
    pub(crate) fn new(name: Arc<str>, mime: Arc<str>, access: Access, limits: Limits) -> Self {
        let core = Mutex::new(Channel::new(limits, Instant::now().into_std()));
        Self { name, mime, access, core }
    }

    pub(crate) fn open(
        self: &Arc<Self>,
        target: Target,
        reset: bool,
    ) -> Result<OpenedHandle, Refusal> {
        Ok(match self.core.lock().open(target, reset)? {
            Opened::Over { index } => OpenedHandle::Over { index },
            Opened::Open { id, index, waker } => OpenedHandle::Open(WriteHandle {
                channel: self.clone(),
                id,
                index,
                waker,
                wrote: false,
                finished: false,
            }),
        })
    }

    pub(crate) fn subscribe(self: &Arc<Self>, start: Start) -> Result<ReadHandle, Refusal> {
        let joined = self.core.lock().subscribe(start)?;
        Ok(ReadHandle {
            channel: self.clone(),
            id: joined.id,
            index: joined.index,
            latest: joined.latest,
            waker: joined.waker,
            cursor: 0,
        })
    }

    pub(crate) fn delete(&self, index: u64) -> Result<(), Refusal> {
        self.core.lock().delete(index)
    }

    pub(crate) fn close(&self) {
        self.core.lock().close();
    }

    /// The write head, and whether the channel is closed.
    pub(crate) fn head(&self) -> (u64, bool) {
        let core = self.core.lock();
        (core.next_write(), core.is_closed())
    }

    pub(crate) fn last_write(&self) -> std::time::Instant {
        self.core.lock().last_write()
    }

    pub(crate) fn stats(&self) -> ChannelStats {
        self.core.lock().stats()
    }
}

/// A place in a segment for writing. Dropped unfinished, the segment stays open.
#[derive(Debug)]
pub(crate) struct WriteHandle {
    channel: Arc<Live>,
    id: SegmentId,
    pub(crate) index: u64,
    waker: Waker,
    wrote: bool,
    finished: bool,
}

impl WriteHandle {
    pub(crate) fn append(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        self.wrote |= !chunk.is_empty();
        self.channel.core.lock().append(Instant::now().into_std(), self.id, chunk)
    }

    /// Whether a byte went through this handle.
    pub(crate) fn wrote(&self) -> bool {
        self.wrote
    }

    /// Ends the segment; tells whether the channel is closed.
    pub(crate) fn finish(mut self) -> bool {
        self.finished = true;
        self.channel.core.lock().finish(self.id)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.channel.core.lock().is_over(self.id)
    }

    /// Waits until the segment is ended by somebody else.
    pub(crate) async fn over(&self) {
        loop {
            let woken = self.waker.0.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if self.is_over() {
                return;
            }
            woken.await;
        }
    }
}

impl Drop for WriteHandle {
    fn drop(&mut self) {
        if !self.finished {
            self.channel.core.lock().release(self.id);
        }
    }
}

/// A place in a segment for reading.
#[derive(Debug)]
pub(crate) struct ReadHandle {
    channel: Arc<Live>,
    id: SegmentId,
    pub(crate) index: u64,
    /// The write head when the reader came.
    pub(crate) latest: u64,
    waker: Waker,
    cursor: usize,
}

impl ReadHandle {
    pub(crate) fn channel(&self) -> &Arc<Live> {
        &self.channel
    }

    /// Waits for what comes at the cursor, never [`Read::Wait`], without moving on. Cancel-safe.
    pub(crate) async fn peek(&self) -> Read {
        loop {
            let read = self.look();
            if read != Read::Wait {
                return read;
            }
            let woken = self.waker.0.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            // Between the first look and now the segment may have moved.
            let read = self.look();
            if read != Read::Wait {
                return read;
            }
            woken.await;
        }
    }

    /// Waits for what comes next and moves behind it. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Read {
        let read = self.peek().await;
        self.cursor += usize::from(matches!(read, Read::Chunk(_)));
        read
    }

    fn look(&self) -> Read {
        self.channel.core.lock().read(self.id, self.cursor)
    }
}

impl Drop for ReadHandle {
    fn drop(&mut self) {
        self.channel.core.lock().leave(self.id);
    }
}
