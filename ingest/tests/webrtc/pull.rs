//! Streams pulled from a WHEP server, which is a node of ours: every coding, a bad way, refusals, and
//! each way to end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use bytes::Bytes;
use ingest::hub::{Hub, Item, Limits, Start};
use ingest::name::StreamName;
use ingest::remote::{Ended, Error, Options, Secret, Sink, Snapshot, Status, Target};
use ingest::webrtc::{Config, pull};
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks, video};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::codings::key_picture;
use crate::harness::{Node, Source};
use crate::http_routes::Refuses;
use crate::link::{Link, Way};
use crate::peer::PATIENCE;

/// Media for `from` go by `to` for those who asked over this server.
type Detour = Option<(SocketAddr, SocketAddr)>;

/// Serves a node's routes on a free port.
async fn serve(node: &Node, detour: Detour) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router: Router = node.server.router();
    let router = router.layer(middleware::from_fn_with_state(detour, rewrite));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

/// Puts other candidates into answers.
async fn rewrite(State(detour): State<Detour>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some((from, to)) = detour else { return response };
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let (from, to) =
        (format!(" {} {} ", from.ip(), from.port()), format!(" {} {} ", to.ip(), to.port()));
    let mut response = Response::new(text.replace(&from, &to).into());
    *response.headers_mut() = parts.headers;
    response.headers_mut().remove("content-length");
    *response.status_mut() = parts.status;
    response
}

/// A hub with a pull that writes into it.
struct Near {
    hub: Hub,
    status: Status,
    stop: CancellationToken,
    task: JoinHandle<Result<Ended, Error>>,
}

impl Near {
    fn pulling(url: &str, options: Options) -> Self {
        let hub = Hub::new(Limits::default());
        let (status, stop) = (Status::default(), CancellationToken::new());
        let name = StreamName::parse("pulled").unwrap();
        let sink = Sink::new(hub.clone(), name, false, status.clone());
        let (target, until) = (Target::parse(url).unwrap(), stop.clone());
        let task = tokio::spawn(async move { pull(&target, &options, &sink, &until).await });
        Self { hub, status, stop, task }
    }

    /// What the pulled stream has until `enough`.
    async fn read(&self, mut enough: impl FnMut(&Tracks, &Packet) -> bool) {
        let name = StreamName::parse("pulled").unwrap();
        let reader = self.hub.wait_subscribe(&name, Start::LastKey, PATIENCE).await;
        let mut reader = reader.expect("the stream comes");
        let mut tracks = Tracks::default();
        loop {
            match tokio::time::timeout(PATIENCE, reader.next()).await.expect("media") {
                Item::Tracks(new) => tracks = (*new).clone(),
                Item::Packet(packet) => {
                    if enough(&tracks, &packet) {
                        return;
                    }
                }
                Item::Lagged(count) => panic!("{count} lost"),
                Item::End => panic!("the stream has ended"),
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.status.snapshot()
    }

    async fn ended(self) -> Result<Ended, Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap()
    }

    async fn refused(self) -> String {
        let error = self.ended().await.unwrap_err();
        assert!(!error.is_permanent(), "another attempt may go better: {error}");
        error.to_string()
    }
}

/// Writes pictures and sound at 30 a second, a key picture first and when asked, until it is
/// dropped; counts the wishes for key pictures.
struct Live {
    task: JoinHandle<()>,
    wishes: Arc<AtomicU64>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Live {
    fn start(mut source: Source) -> Self {
        let wishes = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&wishes);
        let task = tokio::spawn(async move {
            let mut asked = source.writer.key_requests();
            let mut clock = tokio::time::interval(Duration::from_millis(33));
            let mut count = 0_u64;
            loop {
                clock.tick().await;
                let wish = asked.try_next();
                counted.fetch_add(u64::from(wish), Ordering::Relaxed);
                source.picture(wish || count == 0, 3000);
                source.sound(&[0x7c, 1, 2, 3]);
                count += 1;
            }
        });
        Self { task, wishes }
    }
}

fn publisher_of(picture: Codec, sound: Codec, node: &Node) -> (Source, Bytes, Bytes) {
    let mut source = node.publish("cam");
    let mut assembler = video::Assembler::new(picture).unwrap();
    let unit = assembler.unit(key_picture(picture)).unwrap().unwrap();
    let sample_rate = if sound == Codec::Opus { 48_000 } else { 8000 };
    let channels = if sound == Codec::Opus { 2 } else { 1 };
    source.writer.set_tracks(Tracks {
        video: assembler.track(),
        audio: Some(AudioTrack { codec: sound, sample_rate, channels, config: Bytes::new() }),
    });
    let wave = if sound == Codec::Opus { vec![0x7c, 1, 2, 3] } else { vec![0x55; 160] };
    (source, unit.data, wave.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_every_coding_is_pulled_as_it_is() {
    for (picture, sound) in [
        (Codec::H264, Codec::Opus),
        (Codec::Hevc, Codec::G711U),
        (Codec::Vp8, Codec::G711A),
        (Codec::Vp9, Codec::Opus),
        (Codec::Av1, Codec::Opus),
    ] {
        let far = Node::new();
        let (mut source, unit, wave) = publisher_of(picture, sound, &far);
        let (shown, heard) = (unit.clone(), wave.clone());
        let writing = tokio::spawn(async move {
            for count in 0.. {
                let packet = |kind, data: &Bytes| Packet {
                    kind,
                    pts: Pts(count * 3000),
                    dts: Pts(count * 3000),
                    key: true,
                    data: data.clone(),
                    arrived: Instant::now(),
                };
                source.writer.write(packet(TrackKind::Video, &unit));
                source.writer.write(packet(TrackKind::Audio, &wave));
                tokio::time::sleep(Duration::from_millis(33)).await;
            }
        });
        let address = serve(&far, None).await;
        let near = Near::pulling(&format!("whep://{address}/cam/whep"), Options::default());
        let mut counts = [0; 2];
        near.read(|tracks, packet| {
            let video = packet.kind.is_video();
            assert_eq!(packet.data, if video { &shown } else { &heard }, "{picture} {sound}");
            counts[usize::from(video)] += 1;
            let codecs = [
                tracks.video.as_ref().map(|track| track.codec),
                tracks.audio.as_ref().map(|track| track.codec),
            ];
            counts.iter().all(|count| *count >= 5) && codecs == [Some(picture), Some(sound)]
        })
        .await;
        let told = near.snapshot();
        assert!(told.packets >= 5 && told.bytes > 100, "{told:?}");
        // The end here is told there at once.
        near.stop.cancel();
        assert!(matches!(near.ended().await, Ok(Ended::Stopped)));
        far.until_empty().await;
        writing.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bad_way_loses_is_asked_for_again_or_else_a_key_picture_is() {
    let far = Node::new();
    let live = Live::start(far.publish("cam"));
    let media = far.server.local_addr();
    let lossy = Way::of(10).losing(0.05);
    let link = Link::start(media, 11, Way::of(10), lossy);
    let address = serve(&far, Some((media, link.addr()))).await;
    let near = Near::pulling(&format!("whep://{address}/cam/whep"), Options::default());
    let (mut last, mut pictures) = (None, 0);
    near.read(|_, packet| {
        if packet.kind.is_video() {
            // Each picture is filled with its number, in seven bits.
            let number = packet.data.last().unwrap() & 0x7f;
            let next = last.map_or(number, |last: u8| (last + 1) & 0x7f);
            // At first a fresh key picture may take the place of those before it.
            assert!(pictures < 30 || number == next, "{next} is missing before {number}");
            last = Some(number);
            pictures += 1;
        }
        pictures >= 120
    })
    .await;
    let counters = far.server.counters();
    let resent = counters.packets_resent.load(Ordering::Relaxed);
    assert!(link.seen()[1].lost > 0 && resent > 0, "{:?} {resent}", link.seen());
    // So much is lost that repeats come too late: only a key picture helps.
    let wishes = live.wishes.load(Ordering::Relaxed);
    link.set(Way::of(10), Way::of(10).losing(0.9));
    let end = Instant::now() + PATIENCE;
    while live.wishes.load(Ordering::Relaxed) == wishes {
        assert!(Instant::now() < end, "no key picture was asked for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    link.set(Way::of(10), Way::of(10));
    let restored = Instant::now();
    near.read(|_, packet| packet.kind.is_video() && packet.arrived > restored).await;
    near.stop.cancel();
    assert!(matches!(near.ended().await, Ok(Ended::Stopped)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_there_is_the_end_here() {
    let config = Config { rejoin_timeout: Duration::from_millis(100), ..Config::default() };
    let far = Node::with(config);
    let live = Live::start(far.publish("cam"));
    let address = serve(&far, None).await;
    let near = Near::pulling(&format!("whep://{address}/cam/whep"), Options::default());
    near.read(|_, packet| packet.kind.is_video()).await;
    drop(live);
    assert!(matches!(near.ended().await, Ok(Ended::ByPeer)));
    // Somebody is thrown out there.
    let _live = Live::start(far.publish("cam"));
    let near = Near::pulling(&format!("whep://{address}/cam/whep"), Options::default());
    near.read(|_, packet| packet.kind.is_video()).await;
    let id = far.server.sessions().await[0].id.clone();
    assert!(far.server.kick(&id).await);
    assert!(matches!(near.ended().await, Ok(Ended::ByPeer)));
    // Somebody else publishes here.
    let near = Near::pulling(&format!("whep://{address}/cam/whep"), Options::default());
    near.read(|_, packet| packet.kind.is_video()).await;
    assert!(near.hub.kick(&StreamName::parse("pulled").unwrap()));
    assert!(matches!(near.ended().await, Ok(Ended::Replaced)));
    far.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pulled_says_why_and_leaves_the_name_free() {
    let far = Node::allowing(Arc::new(Refuses(true)));
    let _live = Live::start(far.publish("cam"));
    let address = serve(&far, None).await;
    let with = |bearer: &str| Options { bearer: Secret(bearer.into()), ..Options::default() };
    let pulling =
        |path: &str, bearer| Near::pulling(&format!("whep://{address}/{path}"), with(bearer));
    let reason = pulling("cam/whep", "").refused().await;
    assert_eq!(reason, "the offer was refused: 401 Unauthorized not allowed");
    let reason = pulling("cam/whep", "me:wrong").refused().await;
    assert!(reason.contains("401"), "{reason}");
    let reason = pulling("other/whep", "me:secret").refused().await;
    assert!(reason.contains("404 Not Found") && reason.contains("other"), "{reason}");
    let reason = pulling("cam/watch", "me:secret").refused().await;
    assert!(reason.contains("404"), "{reason}");
    let near = pulling("cam/whep", "me:secret");
    near.read(|_, packet| packet.kind.is_video()).await;
    // User and password of the URL go as they do to any HTTP server.
    let named = format!("whep://me:secret@{address}/cam/whep");
    let basic = Near::pulling(&named, Options::default());
    basic.read(|_, packet| packet.kind.is_video()).await;

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reason = Near::pulling(&format!("whep://{free}/cam/whep"), with("")).refused().await;
    assert!(reason.starts_with("asking the server"), "{reason}");
    // Signalling comes through, media does not.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let detour = Some((far.server.local_addr(), nobody.local_addr().unwrap()));
    let address = serve(&far, detour).await;
    let options = Options { connect_timeout: Duration::from_millis(500), ..with("me:secret") };
    let near = Near::pulling(&format!("whep://{address}/cam/whep"), options);
    let hub = near.hub.clone();
    let reason = near.refused().await;
    assert!(reason.contains("checks of the server's UDP addresses"), "{reason}");
    assert!(hub.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_given_up() {
    let far = Node::new();
    // Its publisher stays, and says nothing after its first picture.
    let mut source = far.publish("cam");
    source.picture(true, 3000);
    let address = serve(&far, None).await;
    let options = Options { idle_timeout: Duration::from_millis(700), ..Options::default() };
    let near = Near::pulling(&format!("whep://{address}/cam/whep"), options);
    let reason = near.refused().await;
    assert_eq!(reason, "no media of the source within 700ms");
    far.until_empty().await;
}
