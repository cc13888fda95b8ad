//! A stream pushed to a WHIP server. What goes out begins with a key picture that comes after the
//! connection stands; earlier ones are of no use to a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::Tracks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Call, Caller, refused};
use crate::hub::{Hub, Item, Reader};
use crate::remote::{Ended, Error, Options, Status, Target};
use crate::webrtc::Role;
use crate::webrtc::end::End;
use crate::webrtc::session::{Media, Session};
use crate::webrtc::stream::Stream;
use crate::webrtc::viewer::Viewer;

/// How long a stream that has picture or sound is waited for to have both.
const BOTH_WITHIN: Duration = Duration::from_millis(500);

/// Pushes a stream in the form of [`crate::views::Takes::WEBRTC`] until it ends or `stop`.
///
/// # Errors
/// [`Error`]: the server cannot be reached, refuses, or went away.
pub async fn push(
    target: &Target,
    options: &Options,
    (hub, mut reader): (&Hub, Reader),
    status: &Status,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let connecting = async {
        let tracks = tracks(&mut reader).await.ok_or(Ended::StreamOver);
        match tracks {
            Ok(tracks) => Push::connect(target, options, hub, &reader, tracks).await.map(Ok),
            Err(ended) => Ok(Err(ended)),
        }
    };
    let limit = options.connect_timeout;
    let connected = tokio::select! {
        () = stop.cancelled() => return Ok(Ended::Stopped),
        connected = tokio::time::timeout(limit, connecting) => connected,
    };
    let late = Error::Timeout { what: "answer of the WHIP server", limit };
    let mut push = match connected.unwrap_or(Err(late))? {
        Ok(push) => push,
        Err(ended) => return Ok(ended),
    };
    let ended = push.run(&mut reader, (options, status), stop).await;
    push.call.goodbye().await;
    ended
}

/// What the stream has; `None` when it is over.
async fn tracks(reader: &mut Reader) -> Option<Tracks> {
    let mut found = Tracks::default();
    let mut until = None;
    loop {
        let item = match until {
            None => reader.next().await,
            Some(until) => match tokio::time::timeout_at(until, reader.next()).await {
                Ok(item) => item,
                Err(_) => return Some(found),
            },
        };
        match item {
            Item::Tracks(tracks) => found = (*tracks).clone(),
            Item::End => return None,
            Item::Packet(_) | Item::Lagged(_) => {}
        }
        if found.video.is_some() && found.audio.is_some() {
            return Some(found);
        }
        if found.video.is_some() || found.audio.is_some() {
            until.get_or_insert(tokio::time::Instant::now() + BOTH_WITHIN);
        }
    }
}

/// A session at a server, and the stream that it gets.
struct Push {
    call: Call,
    stream: Stream,
}

impl Push {
    async fn connect(
        target: &Target,
        options: &Options,
        hub: &Hub,
        reader: &Reader,
        tracks: Tracks,
    ) -> Result<Self, Error> {
        let caller = Caller::new(target, options).await?;
        let (answer, resource) = caller.ask(caller.ours.to_send(&tracks)).await?;
        let answered = caller.ours.sending(&tracks, &answer).map_err(|error| refused(&error))?;
        let (audience, _) = watch::channel(0);
        let source = reader.name().clone();
        let mut stream = Stream::new(source.clone(), source.clone(), hub.clone(), audience, None);
        stream.set_tracks(Arc::new(tracks));
        let media = |agreed: &_| Media::Viewer(Box::new(Viewer::new(agreed, 0)));
        let call = caller.call((answered, resource), (Role::Viewer, &source), media, options)?;
        Ok(Self { call, stream })
    }

    async fn run(
        &mut self,
        reader: &mut Reader,
        (options, status): (&Options, &Status),
        stop: &CancellationToken,
    ) -> Result<Ended, Error> {
        let over = |end| match Call::over(end, "sending media", options) {
            None => Ok(Ended::ByPeer),
            Some(error) => Err(error),
        };
        let mut connected = false;
        loop {
            let now = Instant::now();
            if !connected && self.call.session.is_connected() {
                connected = true;
                status.connected();
                if !self.skip_to_now(reader) {
                    return Ok(Ended::StreamOver);
                }
            }
            let wake = self.call.next_timeout(now);
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                readable = self.call.readable() => {
                    readable?;
                    if let Err(end) = self.call.receive(Some(&self.stream), |_| ()) {
                        return over(end);
                    }
                }
                item = reader.next(), if connected => match item {
                    Item::Tracks(tracks) => {
                        self.stream.set_tracks(tracks);
                        let fits = match &self.call.session.media {
                            Media::Viewer(viewer) => viewer.fits(&self.stream),
                            Media::Publisher(_) => false,
                        };
                        if !fits {
                            return over(End::Recoded);
                        }
                    }
                    Item::Packet(packet) => self.packet(&packet, status),
                    Item::Lagged(count) => status.dropped(count),
                    Item::End => return Ok(Ended::StreamOver),
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if let Err(end) = self.call.timeout() {
                return over(end);
            }
        }
    }

    /// Leaves out what was written while the connection was made; false at the stream's end.
    fn skip_to_now(&mut self, reader: &mut Reader) -> bool {
        while let Some(item) = reader.try_next() {
            match item {
                Item::Tracks(tracks) => self.stream.set_tracks(tracks),
                Item::End => return false,
                Item::Packet(_) | Item::Lagged(_) => {}
            }
        }
        reader.request_key_frame();
        true
    }

    fn packet(&mut self, packet: &pipeline::Packet, status: &Status) {
        let now = Instant::now();
        let Some(frame) = self.stream.packet(now, packet) else { return };
        let figures = |session: &Session| match &session.media {
            Media::Viewer(viewer) => (viewer.figures.packets, viewer.figures.bytes),
            Media::Publisher(_) => (0, 0),
        };
        let before = figures(&self.call.session);
        let stream = &self.stream;
        self.call.with(now, |session, io| session.frame(io, stream, &frame));
        let after = figures(&self.call.session);
        if after.0 > before.0 {
            status.count(after.1 - before.1, 1);
        }
    }
}
