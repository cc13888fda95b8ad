//! `GET /{stream}/snapshot.jpg`: what a live stream shows now, as JPEG. With `?time=`, a time after RFC
//! 3339: what was recorded then.
//!
//! The newest group of pictures is decoded from its key picture on, once for all who ask within a
//! second, on a thread for such work. Whoever may watch the stream may have it; for a recorded moment
//! it is those who may play recordings back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use image::codecs::jpeg::JpegEncoder;
use ingest::StreamName;
use ingest::auth::{self, Action, SharedAccess};
use ingest::hub::{Hub, Item, Start};
use ingest::record::{Group, GroupError, Moment, Recordings};
use parking_lot::Mutex;
use pipeline::color::Converter;
use pipeline::frame::Surface;
use pipeline::graph::Pool;
use pipeline::packet::VideoTrack;
use pipeline::{Frame, Packet, Pts};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tracing::{debug, warn};

/// How the last part of the path is called.
const FILE: &str = "/snapshot.jpg";

/// How long a picture is handed out.
const FRESH: Duration = Duration::from_secs(1);

/// Pictures of a group that are decoded at most. Of a longer group the key picture is shown.
const GROUP_MAX: usize = 250;

/// Streams that are decoded for this at the same time; each takes a core for a moment.
const DECODERS_MAX: usize = 2;

/// Requests that wait for one, in all.
const WAITING_MAX: usize = 64;

/// Streams whose last picture is kept.
const KEPT_MAX: usize = 256;

/// Of 100.
const QUALITY: u8 = 85;

type Slot = Arc<AsyncMutex<Option<(Instant, Bytes)>>>;

/// Makes the pictures. Cloning shares it.
#[derive(Clone)]
pub struct Snapshots {
    hub: Hub,
    access: SharedAccess,
    recordings: Option<Recordings>,
    kept: Arc<Mutex<HashMap<StreamName, Slot>>>,
    decoders: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody publishes it, or only sound.
    #[error("the stream has no picture")]
    NoPicture,
    /// No key picture came yet.
    #[error("no key picture came yet")]
    NotYet,
    /// Too many ask.
    #[error("too many snapshots are asked for")]
    Busy,
    /// Nothing was recorded then.
    #[error("there is no recording of that moment")]
    NoRecording,
    /// The disk or the store of recordings.
    #[error("the recording cannot be read")]
    Unreadable,
    /// It cannot be decoded, or not be put into a JPEG.
    #[error("the picture cannot be shown: {0}")]
    Broken(String),
}

impl Snapshots {
    /// Snapshots of a hub's streams, and of what was recorded of them.
    pub fn new(hub: Hub, access: SharedAccess, recordings: Option<Recordings>) -> Self {
        Self {
            hub,
            access,
            recordings,
            kept: Arc::default(),
            decoders: Arc::new(Semaphore::new(DECODERS_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// Answers what asks for a snapshot and passes every other request on to `rest`.
    pub fn over(self, rest: Router) -> Router {
        rest.layer(middleware::from_fn_with_state(self, answer))
    }

    /// What the stream shows, at most a second old.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn of(&self, name: &StreamName) -> Result<Bytes, Error> {
        let _place = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        let slot = {
            let mut kept = self.kept.lock();
            if !kept.contains_key(name) {
                kept.retain(|_, slot| Arc::strong_count(slot) > 1 || is_fresh(slot));
                if kept.len() >= KEPT_MAX {
                    return Err(Error::Busy);
                }
            }
            Arc::clone(kept.entry(name.clone()).or_default())
        };
        // All who ask for the same stream wait for the first of them.
        let mut slot = slot.lock().await;
        if let Some((_, jpeg)) = slot.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
            return Ok(jpeg.clone());
        }
        let (track, group) = self.newest_group(name)?;
        let _decoder = self.decoders.acquire().await;
        let made = tokio::task::spawn_blocking(move || picture(&track, &group, None)).await;
        let jpeg = made.map_err(|error| Error::Broken(error.to_string()))??;
        *slot = Some((Instant::now(), jpeg.clone()));
        Ok(jpeg)
    }

    /// What the stream showed at a moment, if it was recorded.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn at(&self, name: &StreamName, at: Moment) -> Result<Bytes, Error> {
        let _place = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        let recordings = self.recordings.as_ref().ok_or(Error::NoRecording)?;
        let _decoder = self.decoders.acquire().await;
        let group = recordings.group(name, at).await.map_err(|error| match error {
            GroupError::Nothing => Error::NoRecording,
            GroupError::Io(error) => {
                warn!(stream = %name, %error, "a recording cannot be read");
                Error::Unreadable
            }
            error => Error::Broken(error.to_string()),
        })?;
        let Group { track, packets, until } = group;
        if packets.len() > GROUP_MAX {
            let long = packets.len();
            return Err(Error::Broken(format!("{long} pictures from the key picture on")));
        }
        let made = move || picture(&track, &packets, Some(until));
        let made = tokio::task::spawn_blocking(made).await;
        made.map_err(|error| Error::Broken(error.to_string()))?
    }

    /// The pictures from the last key picture on.
    fn newest_group(&self, name: &StreamName) -> Result<(VideoTrack, Vec<Packet>), Error> {
        let mut reader = self.hub.tap(name, Start::LastKey).ok_or(Error::NoPicture)?;
        let (mut track, mut group) = (None, Vec::<Packet>::new());
        while let Some(item) = reader.try_next() {
            match item {
                Item::Tracks(tracks) => {
                    track.clone_from(&tracks.video);
                    group.clear();
                }
                Item::Packet(packet) if packet.kind.is_video() => {
                    if packet.key {
                        group.clear();
                    }
                    if packet.key || !group.is_empty() {
                        group.push(packet);
                    }
                }
                Item::Packet(_) => {}
                Item::Lagged(_) => group.clear(),
                Item::End => break,
            }
        }
        if group.is_empty() {
            reader.request_key_frame();
        }
        if group.len() > GROUP_MAX {
            group.truncate(1);
        }
        match track {
            None => Err(Error::NoPicture),
            Some(_) if group.is_empty() => Err(Error::NotYet),
            Some(track) => Ok((track, group)),
        }
    }
}

/// Whether a picture may still be handed out.
fn is_fresh(slot: &Slot) -> bool {
    let made = slot.try_lock().ok().and_then(|slot| slot.as_ref().map(|(made, _)| *made));
    made.is_some_and(|made| made.elapsed() < FRESH)
}

/// The last picture of a group, or the last up to a time.
fn picture(track: &VideoTrack, group: &[Packet], until: Option<Pts>) -> Result<Bytes, Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
    let mut decoder = codecs::video::decoder(track).map_err(|error| broken(&error))?;
    let (mut frames, mut last) = (Vec::new(), None);
    let due = |frame: &Frame| until.is_none_or(|until| frame.pts <= until);
    for packet in group {
        decoder.decode(packet, &mut frames).map_err(|error| broken(&error))?;
        last = frames.drain(..).rfind(due).or(last);
    }
    decoder.flush(&mut frames).map_err(|error| broken(&error))?;
    let frame = frames.drain(..).rfind(due).or(last).ok_or(Error::NotYet)?;
    jpeg(&frame)
}

fn jpeg(frame: &Frame) -> Result<Bytes, Error> {
    let Surface::Host(planes) = &frame.surface else {
        return Err(Error::Broken("it lies in a device's memory".into()));
    };
    let image = Converter::new()
        .to_image(planes, frame.size, frame.format, frame.color, &mut Pool::default())
        .ok_or_else(|| Error::Broken("its planes are too small".into()))?;
    let channels = [0, 1, 2].map(|channel| image.plane(channel));
    let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let pixels = (0..channels[0].len()).flat_map(|at| channels.map(|plane| byte(plane[at])));
    let pixels: Vec<u8> = pixels.collect();
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, QUALITY)
        .encode(&pixels, frame.size.width, frame.size.height, image::ExtendedColorType::Rgb8)
        .map_err(|error| Error::Broken(error.to_string()))?;
    Ok(out.into())
}

async fn answer(State(snapshots): State<Snapshots>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let wanted = path.strip_suffix(FILE).and_then(|path| path.strip_prefix('/'));
    let Some(name) = wanted.and_then(|name| StreamName::parse(name).ok()) else {
        return next.run(request).await;
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let Some(peer) = peer else { return next.run(request).await };
    let query = request.uri().query().unwrap_or_default().to_owned();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let time = pairs.find(|(key, _)| key == "time").map(|(_, time)| time.into_owned());
    let at = match time.as_deref().map(Moment::parse) {
        Some(None) => {
            return (StatusCode::BAD_REQUEST, "time is not a time after RFC 3339\n")
                .into_response();
        }
        at => at.flatten(),
    };
    let action = if at.is_some() { Action::Playback } else { Action::Read };
    let name = match snapshots.admit(action, name, peer, &query, request.headers()).await {
        Ok(name) => name,
        Err(refused) => return *refused,
    };
    let made = match at {
        Some(at) => snapshots.at(&name, at).await,
        None => snapshots.of(&name).await,
    };
    match made {
        Ok(jpeg) => {
            let headers =
                [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-store")];
            (headers, jpeg).into_response()
        }
        Err(error) => {
            debug!(stream = %name, %error, "no snapshot");
            let status = match error {
                Error::NoPicture | Error::NoRecording => StatusCode::NOT_FOUND,
                Error::NotYet | Error::Busy | Error::Unreadable => StatusCode::SERVICE_UNAVAILABLE,
                Error::Broken(_) => StatusCode::UNPROCESSABLE_ENTITY,
            };
            let mut response = (status, format!("{error}\n")).into_response();
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    }
}

impl Snapshots {
    /// The stream that may be looked at.
    async fn admit(
        &self,
        action: Action,
        name: StreamName,
        peer: SocketAddr,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<StreamName, Box<Response>> {
        let question =
            auth::Request::over_http(action, name, "snapshot", peer.ip(), headers, query);
        self.access.check(question).await.map(|grant| grant.name).map_err(|refusal| {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"millstream\"")];
            Box::new(match refusal.ask_credentials {
                true => (StatusCode::UNAUTHORIZED, challenge, "not allowed\n").into_response(),
                false => (StatusCode::FORBIDDEN, "not allowed\n").into_response(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use ingest::auth::Open;
    use ingest::hub::{Limits, Publisher};
    use pipeline::{Codec, Size, TrackKind, Tracks};

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_stream_without_a_picture_is_told_from_one_that_has_none_yet() {
        codecs::init().unwrap();
        let hub = Hub::new(Limits::default());
        let snapshots = Snapshots::new(hub.clone(), Arc::new(Open), None);
        assert!(matches!(snapshots.of(&name("cam")).await, Err(Error::NoPicture)));
        let publisher = Publisher { protocol: "test", id: "test".into(), remote: String::new() };
        let mut writer = hub.publish(name("cam"), publisher, false).unwrap();
        writer.set_tracks(Tracks::default());
        assert!(matches!(snapshots.of(&name("cam")).await, Err(Error::NoPicture)));
        let video = VideoTrack {
            codec: Codec::H264,
            size: Size::new(64, 64),
            parameter_sets: bytes::Bytes::new(),
        };
        writer.set_tracks(Tracks { video: Some(video), audio: None });
        assert!(matches!(snapshots.of(&name("cam")).await, Err(Error::NotYet)));
        assert!(writer.key_requests().try_next(), "the publisher is asked for one");
        let data = bytes::Bytes::from_static(b"no picture");
        let (pts, arrived) = (Pts(0), Instant::now());
        let kind = TrackKind::Video;
        writer.write(Packet { kind, pts, dts: pts, key: true, data, arrived });
        assert!(matches!(snapshots.of(&name("cam")).await, Err(Error::Broken(_) | Error::NotYet)));
    }

    #[tokio::test]
    async fn more_than_may_wait_are_sent_away() {
        let hub = Hub::new(Limits::default());
        let snapshots = Snapshots::new(hub, Arc::new(Open), None);
        let all = u32::try_from(WAITING_MAX).unwrap();
        let _waiting = snapshots.waiting.clone().try_acquire_many_owned(all).unwrap();
        assert!(matches!(snapshots.of(&name("cam")).await, Err(Error::Busy)));
    }
}
