//! Streams that are pulled from other servers and pushed to them, and transport streams over UDP.

use std::time::Duration;

use ingest::StreamName;
use ingest::remote::{Ended, Error, Options, Sink, State, Status, Target};
use ingest::{mpegts, srt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::node::{Node, PUBLISH_SECRET, READ_SECRET, clip, pictures, run};

fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}

fn soon() -> Options {
    let second = Duration::from_secs(1);
    Options { connect_timeout: 4 * second, idle_timeout: 2 * second, ..Options::default() }
}

/// ffmpeg publishes a clip once, in real time.
async fn publish(url: String) -> JoinHandle<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    clip(&path).await;
    tokio::spawn(async move {
        let line = format!("-v error -re -i {} -c copy -f mpegts {url}", path.display());
        let output = run("ffmpeg", &line).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        drop(dir);
    })
}

/// Where a pull writes to.
fn sink(node: &Node, stream: &str) -> (Sink, Status) {
    let status = Status::default();
    (Sink::new(node.hub.clone(), name(stream), false, status.clone()), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_stream_is_pulled_from_another_server_until_it_ends() {
    let (far, near) = (Node::start(|_| {}).await, Node::start(|_| {}).await);
    let url =
        format!("srt://{}?streamid=publish:secret&linger=2&passphrase={PUBLISH_SECRET}", far.addr);
    let push = publish(url).await;
    drop(far.reader("secret").await);
    let url = format!("srt://{}?streamid=read:secret&passphrase={READ_SECRET}", far.addr);
    let target = Target::parse(&url).unwrap();
    let (sink, status) = sink(&near, "pulled");
    let stop = CancellationToken::new();
    let pull = tokio::spawn(async move { srt::pull(&target, &soon(), &sink, &stop).await });
    let count = pictures(near.reader("pulled").await).await;
    // It begins at a key picture, each second has one.
    assert!(count >= 50, "{count} pictures");
    assert_eq!(pull.await.unwrap().unwrap(), Ended::ByPeer);
    let said = status.snapshot();
    assert!(said.state == State::Running && said.bytes > 10_000, "{said:?}");
    assert!(said.packets > count as u64, "{said:?}");
    push.await.unwrap();
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_pushed_to_another_server_until_it_ends() {
    let (near, far) = (Node::start(|_| {}).await, Node::start(|_| {}).await);
    let push = publish(format!("srt://{}?streamid=publish:cam&linger=2", near.addr)).await;
    drop(near.reader("cam").await);
    let url = format!("srt://{}?streamid=%23!::m=publish,r=copy&latency=300", far.addr);
    let target = Target::for_push(&url).unwrap();
    let reader = near.fanout.subscribe(&name("cam")).await.unwrap();
    let status = Status::default();
    let (told, stop) = (status.clone(), CancellationToken::new());
    let pushed =
        tokio::spawn(async move { srt::push(&target, &soon(), reader, &told, &stop).await });
    let reader = far.reader("copy").await;
    assert_eq!(far.connections.list()[0].1.ms_receive_tsb_pd_delay, 300);
    let count = pictures(reader).await;
    assert!(count >= 50, "{count} pictures");
    assert_eq!(pushed.await.unwrap().unwrap(), Ended::StreamOver);
    let said = status.snapshot();
    assert!(said.bytes > 10_000 && said.packets >= count as u64, "{said:?}");
    assert_eq!(said.dropped, 0);
    push.await.unwrap();
    near.stop().await;
    far.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_end_that_cannot_be_had_says_why_and_a_name_stays_free_until_media_is_there() {
    let (far, near) = (Node::start(|_| {}).await, Node::start(|_| {}).await);
    let (sink, status) = sink(&near, "cam");
    let stop = CancellationToken::new();
    let attempt = async |url: String| {
        let target = Target::parse(&url).unwrap();
        srt::pull(&target, &soon(), &sink, &stop).await.unwrap_err()
    };
    let refused = attempt(format!("srt://{}?streamid=read:nothing", far.addr)).await;
    let said =
        matches!(&refused, Error::Refused { reason, .. } if reason.contains("no such stream"));
    assert!(said, "{refused}");
    let secret = attempt(format!("srt://{}?streamid=read:secret", far.addr)).await;
    assert!(matches!(secret, Error::Refused { .. }), "{secret}");
    let nobody = attempt("srt://127.0.0.1:9?streamid=read:cam".into()).await;
    assert!(matches!(nobody, Error::Timeout { .. }), "{nobody}");
    let wrong = attempt(format!("srt://{}?passphrase=short", far.addr)).await;
    assert!(wrong.is_permanent() && !wrong.to_string().contains("short"), "{wrong}");
    assert!(near.hub.list().is_empty());
    assert_eq!(status.state(), State::Idle);
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_stream_over_udp_is_pulled() {
    udp("127.0.0.1", "", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_stream_of_a_multicast_group_is_pulled() {
    let ours = "?interface=127.0.0.1&source=127.0.0.1";
    udp("239.255.77.1", ours, "&localaddr=127.0.0.1&ttl=0").await;
}

async fn udp(ip: &str, ours: &str, theirs: &str) {
    let node = Node::start(|_| {}).await;
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = Target::parse(&format!("udp://{ip}:{port}{ours}")).unwrap();
    let (sink, status) = sink(&node, "cam");
    let (stop, free) = (CancellationToken::new(), node.hub.clone());
    let pulling = stop.clone();
    let pull = tokio::spawn(async move {
        let options = Options { idle_timeout: Duration::from_secs(20), ..Options::default() };
        mpegts::pull(&target, &options, &sink, &pulling).await
    });
    assert!(free.list().is_empty(), "nothing was sent yet");
    let push = publish(format!("udp://{ip}:{port}?pkt_size=1316{theirs}")).await;
    let mut reader = node.reader("cam").await;
    let mut count = 0;
    // UDP has no good-bye: the last picture of the clip has nothing behind it that ends it.
    while count < 95 {
        match tokio::time::timeout(crate::node::PATIENCE, reader.next()).await.unwrap() {
            ingest::hub::Item::Packet(packet) => count += usize::from(packet.kind.is_video()),
            ingest::hub::Item::Tracks(_) => {}
            other => panic!("{other:?}"),
        }
    }
    push.await.unwrap();
    stop.cancel();
    assert_eq!(pull.await.unwrap().unwrap(), Ended::Stopped);
    assert!(status.snapshot().packets >= 95, "{:?}", status.snapshot());
    node.stop().await;
}
