//! What a connection does with the hub: a publisher's transport stream goes in, a reader's goes out.
//! The same for those who call us and those whom we call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::connection::Ended;
use super::link::{Link, now};
use crate::hub::{Item, Reader};
use crate::mpegts::{Feed, FeedError};
use crate::sessions::Open;

/// Bytes of seven transport packets: what one SRT packet carries, by custom.
const PAYLOAD_BYTES: usize = 7 * 188;

/// How long the last packets of a stream that ended may take.
const LINGER: Duration = Duration::from_secs(1);

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The connection ended.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// A publisher sends nothing of use.
    #[error(transparent)]
    Media(#[from] FeedError),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(#[from] std::io::Error),
    /// Another publisher took the name, or the stream was stopped.
    #[error("replaced by another publisher, or stopped")]
    Replaced,
    /// Kicked, its lifetime is over, or the node stops.
    #[error("ended by the owner")]
    Cancelled,
}

/// Counts a connection's bytes where its session is listed.
pub(super) fn account(link: &mut Link, open: Option<&Open>) -> (u64, u64) {
    let (received, sent) = link.take_traffic();
    if let Some(open) = open {
        open.received(received);
        open.sent(sent);
    }
    (received, sent)
}

/// Carries a publisher's stream until it ends; `count` is told of bytes in and out.
pub(super) async fn publish(
    link: &mut Link,
    feed: &mut Feed,
    cancel: &CancellationToken,
    mut count: impl FnMut(&mut Link, &mut Feed),
) -> Result<(), SessionError> {
    loop {
        let now = now();
        while let Some(payload) = link.read() {
            feed.push(now, &payload);
        }
        link.flush().await?;
        count(link, feed);
        feed.check(now)?;
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SessionError::Cancelled),
            () = feed.closed() => return Err(SessionError::Replaced),
            woken = link.wait() => match woken {
                Ok(()) => {}
                Err(ended) => {
                    // What came before the good-bye is whole.
                    while let Some(payload) = link.read() {
                        feed.push(now, &payload);
                    }
                    feed.end(now);
                    return Err(ended.into());
                }
            },
        }
    }
}

/// Carries a stream of transport packets to a reader until it ends.
pub(super) async fn read(
    link: &mut Link,
    reader: &mut Reader,
    cancel: &CancellationToken,
    mut count: impl FnMut(&mut Link),
) -> Result<(), SessionError> {
    let mut pace = Pace { wants_key: false, dropped: link.dropped() };
    loop {
        link.flush().await?;
        count(link);
        let item = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SessionError::Cancelled),
            woken = link.wait() => {
                woken?;
                // A reader has nothing to say; what it sends all the same is not kept.
                while link.read().is_some() {}
                pace.check(link, reader);
                continue;
            }
            item = reader.next() => item,
        };
        let mut next = Some(item);
        while let Some(item) = next {
            match item {
                // The tables are in the stream.
                Item::Tracks(_) => {}
                Item::Packet(packet) => {
                    let starts = packet.key && packet.kind.is_video();
                    pace.packet(link, reader, packet.data, starts);
                }
                Item::Lagged(packets) => {
                    link.skipped += packets;
                    debug!(packets, "SRT reader was too slow");
                }
                Item::End => return linger(link, cancel, count).await,
            }
            // The link comes first again after each picture.
            link.flush().await?;
            next = reader.try_next();
            if next.is_some() && cancel.is_cancelled() {
                return Err(SessionError::Cancelled);
            }
        }
    }
}

/// Keeps a reader that cannot follow at whole pictures.
struct Pace {
    wants_key: bool,
    /// Packets that were too late to be sent, as far as is known.
    dropped: u64,
}

impl Pace {
    /// What was dropped as too late breaks pictures up to the next key.
    fn check(&mut self, link: &Link, reader: &mut Reader) {
        if link.dropped() != self.dropped {
            self.dropped = link.dropped();
            self.wants_key = true;
            reader.skip_to_key();
        }
    }

    fn packet(&mut self, link: &mut Link, reader: &mut Reader, data: Bytes, starts: bool) {
        self.wants_key &= !starts;
        if self.wants_key {
            link.skipped += 1;
            return;
        }
        let pieces = data.len().div_ceil(PAYLOAD_BYTES);
        for piece in 0..pieces {
            let end = data.len().min((piece + 1) * PAYLOAD_BYTES);
            if !link.write(data.slice(piece * PAYLOAD_BYTES..end)) {
                link.skipped += 1;
                self.wants_key = true;
                reader.skip_to_key();
                return;
            }
        }
        link.carried += 1;
    }
}

/// The stream is over: waits a moment until the reader has all of it.
async fn linger(
    link: &mut Link,
    cancel: &CancellationToken,
    mut count: impl FnMut(&mut Link),
) -> Result<(), SessionError> {
    let end: Instant = now() + LINGER;
    while !link.delivered() && now() < end && !cancel.is_cancelled() {
        link.flush().await?;
        let woken = tokio::time::timeout_at(end.into(), link.wait()).await;
        if let Ok(Err(ended)) = woken {
            return Err(ended.into());
        }
    }
    link.close().await;
    count(link);
    Ok(())
}
