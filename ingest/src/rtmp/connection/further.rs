//! Further tracks for a viewer that understands several: the stream's renditions and the further
//! sounds of its publisher, each read beside the stream.

use std::time::{Duration, Instant};

use pipeline::TrackKind;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::hub::{Hub, Item, Start};
use crate::name::StreamName;

/// How often new tracks are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Packets on their way to one viewer. When there is no room the reader of the track waits and is
/// told by the hub what it missed.
const WAITING_MAX: usize = 64;

/// Something of a further track.
pub(super) struct News {
    pub(super) kind: TrackKind,
    /// From 1.
    pub(super) number: u8,
    pub(super) item: Item,
}

/// The further tracks of one viewer.
pub(super) struct Further {
    hub: Hub,
    stream: StreamName,
    looked: Option<Instant>,
    feeds: Vec<Feed>,
    tell: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
}

/// Who reads one of them.
struct Feed {
    kind: TrackKind,
    number: u8,
    task: AbortHandle,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Further {
    /// Those of a stream. None yet.
    pub(super) fn new(hub: Hub, stream: StreamName) -> Self {
        let (tell, news) = mpsc::channel(WAITING_MAX);
        Self { hub, stream, looked: None, feeds: Vec::new(), tell, news }
    }

    /// Begins to read what is new, now and then.
    pub(super) fn look(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let stream = self.stream.clone();
        self.feeds.retain(|feed| !feed.task.is_finished());
        let size = |name: &StreamName| self.hub.status(name)?.tracks.video.as_ref().map(|v| v.size);
        let own = size(&stream);
        let renditions = self.hub.renditions(&stream);
        // Of simulcast one of the renditions is the stream.
        let others = (1..).zip(renditions.iter()).filter(|(_, name)| size(name) != own);
        let pictures = others.map(|(number, name)| (TrackKind::Video, number, name.clone()));
        let sounds = self.hub.sounds(&stream).into_iter();
        let sounds = sounds.filter_map(|(name, _)| Some((TrackKind::Audio, name.sound()?, name)));
        for (kind, number, name) in pictures.chain(sounds).collect::<Vec<_>>() {
            let known = self.feeds.iter().any(|feed| feed.kind == kind && feed.number == number);
            if !known {
                let feed = feed(self.hub.clone(), name, (kind, number), self.tell.clone());
                let task = tokio::spawn(feed).abort_handle();
                self.feeds.push(Feed { kind, number, task });
            }
        }
    }

    /// The next of any of them, if it is there.
    pub(super) fn try_next(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// The next of any of them.
    pub(super) async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            // We hold a sender ourselves: this does not happen.
            None => std::future::pending().await,
        }
    }
}

/// Reads one track to its end.
async fn feed(hub: Hub, name: StreamName, of: (TrackKind, u8), tell: mpsc::Sender<News>) {
    let (kind, number) = of;
    let Some(mut reader) = hub.tap(&name, Start::LastKey) else { return };
    loop {
        let item = match reader.next().await {
            // A further sound has the stream's pictures with it, which the viewer has already.
            Item::Packet(packet) if packet.kind != kind => continue,
            Item::Tracks(tracks) if kind == TrackKind::Audio => {
                let mut tracks = (*tracks).clone();
                tracks.video = None;
                Item::Tracks(tracks.into())
            }
            item => item,
        };
        let over = matches!(item, Item::End);
        if tell.send(News { kind, number, item }).await.is_err() || over {
            return;
        }
    }
}
