//! Streams pulled from other servers and pushed to them.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ingest::auth::{Access, Grant, Refusal, Request};
use ingest::hub::{Hub, Limits, Publisher, Start, Writer};
use ingest::remote::{Ended, Error, Options, Sink, State, Status, Target, Trust};
use ingest::{StreamName, rtmp};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kit::*;

fn name() -> StreamName {
    StreamName::parse("here").unwrap()
}

/// A pull into a hub of its own.
struct Pull {
    hub: Hub,
    status: Status,
    stop: CancellationToken,
    task: JoinHandle<Result<Ended, Error>>,
}

impl Pull {
    fn start(url: &str, options: Options) -> Self {
        let (hub, status) = (Hub::new(Limits::default()), Status::default());
        let stop = CancellationToken::new();
        let sink = Sink::new(hub.clone(), name(), false, status.clone());
        let (target, until) = (Target::parse(url).unwrap(), stop.clone());
        let task = tokio::spawn(async move { rtmp::pull(&target, &options, &sink, &until).await });
        Self { hub, status, stop, task }
    }

    async fn ended(self) -> Result<Ended, Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap()
    }
}

/// A clip in a hub, in real time: ffmpeg publishes it to a server of ours.
async fn clip_in_a_hub(dir: &Path, seconds_to_wait: bool) -> (Node, tokio::process::Child) {
    let path = dir.join("clip.flv");
    clip(&path).await;
    let node = Node::start(|_| {}).await;
    let live = match seconds_to_wait {
        true => publish_forever(&path, &node.url("rtmp", "cam")),
        false => {
            let url = node.url("rtmp", "cam");
            let line = format!("-v error -re -i {} -c copy -f flv {url}", path.display());
            command(&ffmpeg(), &line).spawn().unwrap()
        }
    };
    (node, live)
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_stream_is_pulled_from_our_server_picture_by_picture_with_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _live) = clip_in_a_hub(dir.path(), false).await;
    let source = node.reader("cam").await;
    let pull = Pull::start(&node.url("rtmp", "cam"), Options::default());
    let got = reader(&pull.hub, "here").await;
    assert_eq!(pull.status.state(), State::Running);
    let publisher = pull.hub.status(&name()).unwrap().publisher;
    assert_eq!((publisher.protocol, publisher.remote), ("rtmp", node.addr.to_string()));
    let ((_, sent), (tracks, received)) = tokio::join!(read_all(source), read_all(got));
    assert_eq!(pull.ended().await.unwrap(), Ended::ByPeer);
    let (sent, received) = (shown(&sent), shown(&received));
    assert_eq!(received.len(), PICTURES);
    let from_first = |times: &[i64]| times.iter().map(|t| t - times[0]).collect::<Vec<_>>();
    assert_eq!(from_first(&received), from_first(&sent));
    assert!(tracks.video.is_some() && tracks.audio.is_some());
}

#[tokio::test]
async fn a_stream_is_pushed_to_our_server_over_tls_and_ends_there_when_it_ends_here() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _live) = clip_in_a_hub(dir.path(), false).await;
    let reader_here = node.reader("cam").await;
    let certificate = Certificate::new();
    let there = Node::start(|config| config.tls = Some(certificate.server())).await;
    let trust = Trust::Authority(Arc::from(certificate.pem.as_bytes()));
    let options = Options { trust, ..Options::default() };
    let target = Target::for_push(&there.url("rtmps", "studio/key")).unwrap();
    let (status, stop) = (Status::default(), CancellationToken::new());
    let push = rtmp::push(&target, &options, reader_here, &status, &stop);
    let arrived = async { read_all(there.reader("studio/key").await).await };
    let (ended, (_, packets)) = tokio::join!(push, arrived);
    assert_eq!(ended.unwrap(), Ended::StreamOver);
    assert_eq!(shown(&packets).len(), PICTURES);
    let told = status.snapshot();
    assert!(told.packets as usize >= packets.len() && told.bytes > 10_000 && told.dropped == 0);
    assert_eq!(there.counters.snapshot().failed, 0);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_taken() {
    let certificate = Certificate::new();
    let there = Node::start(|config| config.tls = Some(certificate.server())).await;
    let trust = Trust::Authority(Arc::from(Certificate::new().pem.as_bytes()));
    let pull = Pull::start(&there.url("rtmps", "cam"), Options { trust, ..Options::default() });
    let error = pull.ended().await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error}");
}

/// ffmpeg as a server, of either version: it waits for one publisher and writes what comes.
async fn pushed_to_ffmpeg(program: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let (node, _live) = clip_in_a_hub(dir.path(), true).await;
    let (port, file) = (free_port(), dir.path().join("got.flv"));
    let url = format!("rtmp://127.0.0.1:{port}/live/key");
    let line = format!("-v error -y -listen 1 -i {url} -c copy {}", file.display());
    let server = command(program, &line).spawn().unwrap();
    let target = Target::for_push(&url).unwrap();
    let (status, stop) = (Status::default(), CancellationToken::new());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let pushing = async {
        loop {
            let reader_here = node.reader("cam").await;
            let ended = rtmp::push(&target, &Options::default(), reader_here, &status, &stop).await;
            match ended {
                // It does not listen yet.
                Err(Error::Connect { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                ended => return ended,
            }
        }
    };
    let enough = async {
        while status.snapshot().packets < 150 {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", status.snapshot());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(pushing, enough);
    assert_eq!(ended.unwrap(), Ended::Stopped);
    let output = tokio::time::timeout(PATIENCE, server.wait_with_output()).await;
    let output = output.expect("ffmpeg ends with the stream").unwrap();
    assert!(output.status.success(), "{}", words(&output));
    let line = format!(
        "-v error -count_packets -show_entries stream=codec_name,nb_read_packets -of csv=p=0 {}",
        file.display()
    );
    let found = run(Path::new("/usr/bin/ffprobe"), &line).await;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("h264,") && found.contains("aac,"), "{found}");
    let packets: u64 =
        found.lines().filter_map(|line| line.rsplit(',').next()?.trim().parse::<u64>().ok()).sum();
    assert!(packets >= 140, "{found}");
    let decoded = run(program, &format!("-v error -xerror -i {} -f null -", file.display())).await;
    assert!(decoded.status.success() && words(&decoded).is_empty(), "{}", words(&decoded));
}

#[tokio::test]
async fn a_stream_is_pushed_to_ffmpeg_5() {
    pushed_to_ffmpeg(&ffmpeg()).await;
}

#[tokio::test]
async fn a_stream_is_pushed_to_ffmpeg_9() {
    pushed_to_ffmpeg(&ffmpeg_9()).await;
}

/// ffmpeg as a server that a stream is pulled from.
async fn pulled_from_ffmpeg(program: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.flv");
    clip(&path).await;
    let url = format!("rtmp://127.0.0.1:{}/live/key", free_port());
    let line = format!("-v error -re -i {} -c copy -f flv -listen 1 {url}", path.display());
    let _server = command(program, &line).spawn().unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pull = Pull::start(&url, Options::default());
        let hub = pull.hub.clone();
        let read = tokio::spawn(async move { read_all(reader(&hub, "here").await).await });
        match pull.ended().await {
            // It does not listen yet.
            Err(Error::Connect { .. }) if tokio::time::Instant::now() < deadline => {
                read.abort();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            ended => {
                assert_eq!(ended.unwrap(), Ended::ByPeer);
                let (tracks, packets) = read.await.unwrap();
                assert_eq!(shown(&packets).len(), PICTURES);
                assert!(tracks.audio.is_some());
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_is_pulled_from_ffmpeg_5() {
    pulled_from_ffmpeg(&ffmpeg()).await;
}

#[tokio::test]
async fn a_stream_is_pulled_from_ffmpeg_9() {
    pulled_from_ffmpeg(&ffmpeg_9()).await;
}

#[tokio::test]
async fn what_gstreamer_publishes_is_pulled_and_pushed_on_to_where_gstreamer_plays() {
    let (first, last) = (Node::start(|_| {}).await, Node::start(|_| {}).await);
    let line = format!(
        "-q videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! h264parse \
         ! flvmux streamable=true ! rtmp2sink location={}",
        first.url("rtmp", "studio/cam")
    );
    let _live = command(&gst_launch(), &line).spawn().unwrap();
    first.reader("studio/cam").await;
    let pull = Pull::start(&first.url("rtmp", "studio/cam"), Options::default());
    let reader_here = reader(&pull.hub, "here").await;
    let target = Target::for_push(&last.url("rtmp", "studio/cam")).unwrap();
    let (status, stop) = (Status::default(), CancellationToken::new());
    let (status_too, until) = (status.clone(), stop.clone());
    let push = tokio::spawn(async move {
        rtmp::push(&target, &Options::default(), reader_here, &status_too, &until).await
    });
    last.reader("studio/cam").await;
    for source in ["rtmp2src", "rtmpsrc"] {
        let line = format!(
            "-q {source} location={} ! flvdemux ! h264parse ! avdec_h264 ! fakesink num-buffers=25",
            last.url("rtmp", "studio/cam")
        );
        let played = run(&gst_launch(), &line).await;
        assert!(played.status.success(), "{source}: {}", words(&played));
    }
    stop.cancel();
    assert_eq!(push.await.unwrap().unwrap(), Ended::Stopped);
    pull.stop.cancel();
    assert_eq!(pull.ended().await.unwrap(), Ended::Stopped);
}

/// Lets nobody in.
struct Nobody;

impl Access for Nobody {
    fn check(&self, _: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        let refusal = Refusal { reason: "wrong password".into(), ask_credentials: true };
        Box::pin(std::future::ready(Err(refusal)))
    }
}

fn writer(hub: &Hub) -> Writer {
    let publisher = Publisher { protocol: "test", id: "1".into(), remote: String::new() };
    hub.publish(name(), publisher, false).unwrap()
}

#[tokio::test]
async fn refusals_name_the_reason_and_no_secret() {
    let node = Node::with_access(|_| {}, Arc::new(Nobody)).await;
    let url = node.url("rtmp", "cam?user=u&pass=verysecret");
    let error = Pull::start(&url, Options::default()).ended().await.unwrap_err();
    assert_eq!(error.to_string(), "playing was refused: not allowed");
    let hub = Hub::new(Limits::default());
    let _writer = writer(&hub);
    let reader_here = hub.subscribe(&name(), Start::LastKey).unwrap();
    let target = Target::for_push(&url).unwrap();
    let (status, stop) = (Status::default(), CancellationToken::new());
    let error = rtmp::push(&target, &Options::default(), reader_here, &status, &stop).await;
    assert_eq!(error.unwrap_err().to_string(), "publishing was refused: not allowed");
    let error = Pull::start("rtmp://127.0.0.1/", Options::default()).ended().await.unwrap_err();
    assert!(error.is_permanent(), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtmp://{}/live/cam", silent.local_addr().unwrap());
    let short = Duration::from_millis(200);
    let options = Options { connect_timeout: short, ..Options::default() };
    let error = Pull::start(&url, options).ended().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");

    // A stream without media, which is published but never sent.
    let node = Node::start(|_| {}).await;
    let _idle = node.hub.publish(
        StreamName::parse("cam").unwrap(),
        Publisher { protocol: "test", id: "1".into(), remote: String::new() },
        false,
    );
    let options = Options { idle_timeout: short, ..Options::default() };
    let error = Pull::start(&node.url("rtmp", "cam"), options).ended().await.unwrap_err();
    assert_eq!(error.to_string(), "no media within 200ms");
}
