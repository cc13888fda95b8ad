//! Publishers as the router sees them: requests that come at once, too fast, late, from elsewhere.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::header::{HOST, ORIGIN, RETRY_AFTER};
use http::{Request, StatusCode};
use pipeline::packet::VideoTrack;
use pipeline::{Codec, Packet, Pts, Size, TrackKind, Tracks, fmp4, mpegts};
use tokio::sync::{Barrier, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::file::Kind;
use super::order::Order;
use super::traffic::FLYING_MAX;
use super::{Config, Server};
use crate::auth::{self, Access, Grant, Refusal, SharedAccess};
use crate::hub::{Hub, Item, Limits, Reader, Start};
use crate::name::StreamName;
use crate::paced::Piece;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// From picture to picture: 10 ms.
const STEP: i64 = 900;

/// Pictures of a segment, the first a key picture: 1 s, and more than are read ahead.
const PICTURES: usize = 100;

const END: &str = "#EXTM3U\n#EXT-X-ENDLIST\n";

/// Levels of H.264 that tell one encoder's pictures from another's.
const LEVEL_3: u8 = 0x1e;
const LEVEL_3_1: u8 = 0x1f;

fn sets(level: u8) -> Vec<u8> {
    let sps = [0, 0, 0, 1, 0x67, 0x42, 0xc0, level, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40];
    [&sps[..], &[0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80]].concat()
}

fn tracks(level: u8) -> Tracks {
    let (size, parameter_sets) = (Size::new(640, 360), sets(level).into());
    Tracks { video: Some(VideoTrack { codec: Codec::H264, size, parameter_sets }), audio: None }
}

fn picture(number: usize, key: bool, level: u8) -> Packet {
    let mut data = if key { sets(level) } else { Vec::new() };
    let slice: &[u8] = if key { &[0x65, 0x88, 0x84] } else { &[0x41, 0x9a, 0x02] };
    data.extend_from_slice(&[0, 0, 0, 1]);
    data.extend_from_slice(slice);
    data.resize(data.len() + 50, 0x55);
    let pts = Pts(number as i64 * STEP);
    let (kind, arrived) = (TrackKind::Video, Instant::now());
    Packet { kind, pts, dts: pts, key, data: data.into(), arrived }
}

/// Segments of MPEG-TS one after the other, each of its level.
fn segments(levels: &[u8]) -> Vec<Bytes> {
    let mut muxer = mpegts::Muxer::new(&tracks(LEVEL_3)).unwrap();
    let of = |(number, level): (usize, &u8)| {
        let mut out = BytesMut::new();
        muxer.start_segment(&mut out);
        for n in 0..PICTURES {
            let packet = picture(number * PICTURES + n, n == 0, *level);
            muxer.mux(&packet, &mut out).unwrap();
        }
        out.freeze()
    };
    levels.iter().enumerate().map(of).collect()
}

/// An init segment and two fragments.
fn fragments() -> (Bytes, Bytes, Bytes) {
    let mut writer = fmp4::Writer::new(&tracks(LEVEL_3)).unwrap();
    for n in 0..5 {
        writer.push(&picture(n, n == 0, LEVEL_3));
    }
    let first = writer.flush().unwrap().data;
    writer.push(&picture(5, false, LEVEL_3));
    (writer.init().clone(), first, writer.finish().unwrap().data)
}

struct Stage {
    hub: Hub,
    router: Router,
}

impl Stage {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with(Arc::new(auth::Open), change)
    }

    fn with(access: SharedAccess, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let hub = Hub::new(Limits::default());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let server = Server::new(config, hub.clone(), access, tasks, stop);
        Self { hub, router: server.over(Router::new()) }
    }

    fn ask(&self, request: Request<Body>) -> BoxFuture<'static, Response> {
        let router = self.router.clone();
        Box::pin(async move { router.oneshot(request).await.unwrap() })
    }

    fn put(&self, path: &str, body: impl Into<Body>) -> BoxFuture<'static, Response> {
        self.ask(Request::put(path).body(body.into()).unwrap())
    }

    async fn reader(&self) -> Reader {
        let name = StreamName::parse("cam").unwrap();
        let reader = self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await;
        reader.expect("the stream comes")
    }
}

/// All that comes until the end: the newest tracks, and how many pictures, without a gap.
async fn watch(mut reader: Reader) -> (Arc<Tracks>, usize) {
    let (mut newest, mut times) = (Arc::default(), Vec::new());
    let all = async {
        loop {
            match reader.next().await {
                Item::Tracks(tracks) => newest = tracks,
                Item::Packet(packet) => times.push(packet.pts.0),
                Item::Lagged(count) => panic!("{count} lost"),
                Item::End => return,
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the stream ends");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == STEP), "{times:?}");
    (newest, times.len())
}

/// A body that comes when the second half is dropped; the first tells that it is waited for.
fn held(bytes: Bytes) -> (Body, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (ask, asked) = oneshot::channel();
    let (go, may_go) = oneshot::channel();
    let body = stream::once(async move {
        let _ = ask.send(());
        let _ = may_go.await;
        Ok::<_, Infallible>(bytes)
    });
    (Body::from_stream(body), asked, go)
}

/// Lets everybody in, so many at the same moment.
struct Together(Barrier);

impl Access for Together {
    fn check(&self, request: auth::Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        Box::pin(async move {
            self.0.wait().await;
            Ok(Grant::of(&request))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_segment_and_its_first_fragment_that_come_at_once_are_one_stream() {
    let stage = Stage::with(Arc::new(Together(Barrier::new(2))), |_| {});
    let (init, first, second) = fragments();
    let fragment = stage.put("/cam/0.m4s", first);
    let (fragment, init) = tokio::join!(fragment, stage.put("/cam/init.mp4", init));
    assert_eq!((fragment.status(), init.status()), (StatusCode::OK, StatusCode::OK));
    let reader = stage.reader().await;
    assert_eq!(stage.put("/cam/1.m4s", second).await.status(), StatusCode::OK);
    assert_eq!(stage.put("/cam/i.m3u8", END).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(watch(reader).await.1, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_publishers_that_come_at_once_one_has_the_stream() {
    let stage = Stage::with(Arc::new(Together(Barrier::new(2))), |_| {});
    let segment = &segments(&[LEVEL_3])[0];
    let put = |token: &str| stage.put(&format!("/cam/0.ts?token={token}"), segment.clone());
    let (one, other) = tokio::join!(put("one"), put("other"));
    let mut answers = [one.status().as_u16(), other.status().as_u16()];
    answers.sort_unstable();
    assert_eq!(answers, [200, 409]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_came_too_fast_is_whole_when_it_comes_again() {
    let stage = Stage::new(|config| config.receive = Duration::from_millis(100));
    let segments = segments(&[LEVEL_3, LEVEL_3, LEVEL_3, LEVEL_3, LEVEL_3_1]);
    let (mut reader, mut refused) = (None, 0);
    for (number, segment) in segments.iter().enumerate() {
        refused = 0;
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = stage.put(&format!("/cam/{number}.ts"), segment.clone()).await;
            if answer.status() == StatusCode::OK {
                break;
            }
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().contains_key(RETRY_AFTER));
            assert!(Instant::now() < until, "it is never taken");
            refused += 1;
        }
        if reader.is_none() {
            reader = Some(stage.reader().await);
        }
    }
    assert!(refused > 0, "the last one found those before it waiting");
    assert_eq!(stage.put("/cam/i.m3u8", END).await.status(), StatusCode::NO_CONTENT);
    let (tracks, pictures) = watch(reader.unwrap()).await;
    assert_eq!(pictures, 5 * PICTURES);
    assert_eq!(tracks.video.as_ref().unwrap().parameter_sets[7], LEVEL_3_1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_few_segments_at_once_are_told_to_come_again() {
    let stage = Stage::new(|_| {});
    let segments = segments(&[LEVEL_3; FLYING_MAX + 2]);
    let put = |number: usize, body: Body| stage.put(&format!("/cam/{number}.ts"), body);
    assert_eq!(put(0, segments[0].clone().into()).await.status(), StatusCode::OK);
    let mut flying = Vec::new();
    for (number, segment) in segments.iter().enumerate().skip(1).take(FLYING_MAX) {
        let (body, asked, go) = held(segment.clone());
        flying.push((tokio::spawn(put(number, body)), go));
        asked.await.unwrap();
    }
    let late = put(FLYING_MAX + 1, segments[FLYING_MAX + 1].clone().into()).await;
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(late.headers().contains_key(RETRY_AFTER));
    for (put, go) in flying {
        drop(go);
        assert_eq!(put.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_a_segment_that_is_still_received() {
    let stage = Stage::new(|_| {});
    let segments = segments(&[LEVEL_3; 2]);
    assert_eq!(stage.put("/cam/0.ts", segments[0].clone()).await.status(), StatusCode::OK);
    let reader = stage.reader().await;
    let (body, asked, go) = held(segments[1].clone());
    let last = tokio::spawn(stage.put("/cam/1.ts", body));
    asked.await.unwrap();
    assert_eq!(stage.put("/cam/i.m3u8", END).await.status(), StatusCode::NO_CONTENT);
    drop(go);
    assert_eq!(last.await.unwrap().status(), StatusCode::OK);
    assert_eq!(watch(reader).await.1, 2 * PICTURES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_segments_are_still_shown_is_not_silent() {
    let stage = Stage::new(|config| config.idle = Duration::from_millis(200));
    let segments = segments(&[LEVEL_3; 3]);
    assert_eq!(stage.put("/cam/0.ts", segments[0].clone()).await.status(), StatusCode::OK);
    let reader = stage.reader().await;
    for (number, segment) in segments.iter().enumerate().skip(1) {
        let put = stage.put(&format!("/cam/{number}.ts"), segment.clone());
        assert_eq!(put.await.status(), StatusCode::OK);
    }
    assert_eq!(watch(reader).await.1, 3 * PICTURES);
}

#[tokio::test]
async fn pages_of_other_sites_may_not_publish() {
    let stage = Stage::new(|_| {});
    let segment = &segments(&[LEVEL_3])[0];
    let post = async |origin: &str| {
        let request = Request::post("/live/cam/0.ts").header(HOST, "localhost:8889");
        let request = request.header(ORIGIN, origin).body(segment.clone().into()).unwrap();
        stage.ask(request).await.status()
    };
    for origin in ["http://evil.example", "null", "http://localhost:8080"] {
        assert_eq!(post(origin).await, StatusCode::FORBIDDEN, "{origin}");
    }
    assert_eq!(post("http://localhost:8889").await, StatusCode::OK);
}

#[test]
fn what_a_refused_segment_said_of_the_tracks_holds_for_the_next() {
    let (init, first, second) = fragments();
    let mut order = Order::default();
    order.init(&init).unwrap();
    let cut_off = [&first[..], &second[..second.len() - 1]].concat();
    order.read(Kind::Mp4, "0", cut_off.into()).unwrap_err();
    let pieces = order.read(Kind::Mp4, "1", second).unwrap().unwrap();
    assert!(matches!(pieces[..], [Piece::Tracks(_), Piece::Packet(_), ..]));
}
