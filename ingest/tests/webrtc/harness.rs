//! A node with nothing but a hub and WebRTC, and the packets that tests put into it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use ingest::auth::SharedAccess;
use ingest::hub::{self, Hub, Publisher, Writer};
use ingest::name::StreamName;
use ingest::webrtc::{Config, HubViews, Server, SessionState};
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Codec, Packet, Pts, Size, TrackKind, Tracks};
use tower::ServiceExt;

use crate::peer::{PATIENCE, Peer};

pub(crate) const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40];
pub(crate) const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) server: Server,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    /// A node on a free port of loopback.
    pub(crate) fn with(config: Config) -> Self {
        Self::of(config, Arc::new(ingest::auth::Open))
    }

    /// A node that asks who may.
    pub(crate) fn allowing(access: SharedAccess) -> Self {
        Self::of(Config::default(), access)
    }

    fn of(config: Config, access: SharedAccess) -> Self {
        let config = Config { udp: SocketAddr::new(config.udp.ip(), 0), ..config };
        let hub = Hub::new(hub::Limits::default());
        let views = HubViews::new(hub.clone()).waiting(Duration::from_millis(50));
        let server = Server::start(config, hub.clone(), access, Arc::new(views)).unwrap();
        Self { hub, server }
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> Response<Body> {
        let mut request = request;
        let from = SocketAddr::from(([127, 0, 0, 1], 4711));
        request.extensions_mut().insert(ConnectInfo(from));
        self.server.router().oneshot(request).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Response<Body> {
        let request = Request::post(path).header("content-type", "application/sdp");
        self.request(request.body(body.into()).unwrap()).await
    }

    /// Lets a peer open a session; returns its URL and entity tag.
    pub(crate) async fn open(&self, peer: &mut Peer, path: &str) -> (String, String) {
        let publishes = path.split('?').next().is_some_and(|path| path.ends_with("whip"));
        let direction = if publishes { "sendonly" } else { "recvonly" };
        let response = self.post(path, peer.offer(direction)).await;
        let (status, location, etag) = (
            response.status(),
            response.headers().get("location").cloned(),
            response.headers().get("etag").cloned(),
        );
        let answer = text(response).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        peer.answered(answer);
        let text = |value: Option<http::HeaderValue>| value.unwrap().to_str().unwrap().to_owned();
        (text(location), text(etag))
    }

    /// A stream that somebody publishes without WebRTC.
    pub(crate) fn publish(&self, name: &str) -> Source {
        let publisher = Publisher { protocol: "test", id: "1".into(), remote: String::new() };
        let name = StreamName::parse(name).unwrap();
        let mut writer = self.hub.publish(name, publisher, false).unwrap();
        writer.set_tracks(Tracks {
            video: Some(VideoTrack {
                codec: Codec::H264,
                size: Size::new(640, 360),
                parameter_sets: annex_b(&[SPS, PPS]),
            }),
            audio: Some(AudioTrack {
                codec: Codec::Opus,
                sample_rate: 48_000,
                channels: 2,
                config: Bytes::new(),
            }),
        });
        Source { writer, frames: 0 }
    }

    /// Waits until the sessions are as wanted.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&[ingest::webrtc::SessionStatus]) -> bool,
    ) {
        let end = Instant::now() + PATIENCE;
        loop {
            let sessions = self.server.sessions().await;
            if wanted(&sessions) {
                return;
            }
            assert!(Instant::now() < end, "{what}: {sessions:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until_connected(&self) {
        self.until("connected", |sessions| {
            !sessions.is_empty() && sessions.iter().all(|s| s.state == SessionState::Connected)
        })
        .await;
    }

    pub(crate) async fn until_empty(&self) {
        self.until("no sessions", <[_]>::is_empty).await;
    }
}

/// A publisher in the same process: 30 frames a second by their names.
pub(crate) struct Source {
    pub(crate) writer: Writer,
    frames: i64,
}

impl Source {
    /// Writes a picture of about `bytes`; a key picture has parameter sets.
    pub(crate) fn picture(&mut self, key: bool, bytes: usize) -> Bytes {
        let slice = slice(key, bytes, self.frames as u8);
        let data = if key { annex_b(&[SPS, PPS, &slice]) } else { annex_b(&[&slice]) };
        let pts = Pts(self.frames * 3000);
        self.frames += 1;
        self.write(TrackKind::Video, pts, key, data.clone());
        data
    }

    pub(crate) fn sound(&mut self, payload: &'static [u8]) {
        self.write(TrackKind::Audio, Pts(self.frames * 3000), true, Bytes::from_static(payload));
    }

    fn write(&mut self, kind: TrackKind, pts: Pts, key: bool, data: Bytes) {
        self.writer.write(Packet { kind, pts, dts: pts, key, data, arrived: Instant::now() });
    }
}

/// A slice NAL unit, filled so that no start code appears in it.
pub(crate) fn slice(key: bool, bytes: usize, fill: u8) -> Vec<u8> {
    let mut slice = if key { vec![0x65, 0x88, 0x84] } else { vec![0x41, 0x9a, 0x02] };
    slice.resize(bytes.max(4), fill | 0x80);
    slice
}

pub(crate) fn annex_b(units: &[&[u8]]) -> Bytes {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit]).flatten().copied().collect()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}
