//! What the client says when the other end stalls, breaks or lies, and what is left behind.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use trickle::{
    Access, Client, ClientConfig, Config, Error, Fault, Limits, PublisherOptions, Refusal, Server,
    Start, SubscriberOptions, Trust,
};

use crate::support::{Node, soon};
use crate::wire::until;

fn client() -> Client {
    Client::new(&ClientConfig::default()).unwrap()
}

fn impatient() -> PublisherOptions {
    PublisherOptions {
        retries: 2,
        retry_pause: Duration::from_millis(1),
        write_timeout: Duration::from_millis(50),
        answer_timeout: Duration::from_millis(200),
        queue_bytes: 1 << 20,
        ..PublisherOptions::default()
    }
}

async fn cam(node: &Node) -> String {
    node.server.create("cam", "", Access::ALL).unwrap();
    node.url("cam")
}

#[tokio::test]
async fn a_server_that_dies_within_a_segment_is_named_to_both_sides() {
    let node = Node::start(Config::default()).await;
    let url = cam(&node).await;
    let mut publisher = client().publisher(&url, impatient()).await.unwrap();
    let options = SubscriberOptions {
        start: Start::Current,
        retries: 1,
        retry_pause: Duration::from_millis(1),
        ..SubscriberOptions::default()
    };
    let mut subscriber = client().subscriber(&url, options).await.unwrap();
    let mut writing = soon(publisher.next()).await.unwrap();
    writing.write(Bytes::from_static(b"abc")).await.unwrap();
    let mut reading = soon(subscriber.next()).await.unwrap().unwrap();
    assert_eq!(soon(reading.chunk()).await.unwrap().as_deref(), Some(&b"abc"[..]));
    node.kill().await;
    let cut = soon(reading.chunk()).await.unwrap_err();
    assert!(matches!(&cut, Error::Reset { seq: 0, bytes: 3, .. }), "{cut:?}");
    assert_eq!((cut.fault(), cut.can_retry()), (Fault::Network, true));
    let broken = soon(writing.close()).await.unwrap_err();
    assert!(matches!(broken, Error::Io { doing: "publishing", .. }), "{broken:?}");
    let gone = soon(subscriber.next()).await.unwrap_err();
    assert!(matches!(gone, Error::Io { doing: "subscribing", .. }), "{gone:?}");
    let gone = soon(async {
        loop {
            match publisher.next().await {
                Ok(segment) => drop(segment.close().await),
                Err(failure) => return failure,
            }
        }
    });
    assert!(matches!(gone.await, Error::Io { .. }));
}

#[tokio::test]
async fn a_publisher_and_a_subscriber_survive_a_restart_of_the_server() {
    let node = Node::start(Config::default()).await;
    let (url, address) = (cam(&node).await, node.address);
    let options = PublisherOptions {
        retries: 1000,
        retry_pause: Duration::from_millis(5),
        ..PublisherOptions::default()
    };
    let mut publisher = client().publisher(&url, options).await.unwrap();
    until(|| node.server.snapshot().channels[0].1.writers == 1).await;
    node.kill().await;
    let node = Node::start_at(address).await;
    cam(&node).await;
    until(|| node.server.snapshot().channels[0].1.writers >= 1).await;
    let mut subscriber = node.server.local_subscriber("cam", Start::Next).unwrap();
    let mut segment = soon(publisher.next()).await.unwrap();
    segment.write(Bytes::from_static(b"back")).await.unwrap();
    soon(segment.close()).await.unwrap();
    let mut segment = soon(subscriber.next()).await.unwrap().unwrap();
    assert_eq!(segment.seq(), 0);
    assert_eq!(soon(segment.chunk()).await.unwrap().as_deref(), Some(&b"back"[..]));
}

/// A listener that answers each request's head with the same bytes; with none, it reads nothing.
async fn wooden(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                let mut received = Vec::new();
                while stream.read_buf(&mut received).await.is_ok_and(|read| read > 0) {
                    if received.ends_with(b"\r\n\r\n") {
                        received.clear();
                        stream.write_all(answer.as_bytes()).await.ok();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_peer_that_takes_nothing_stalls_the_write_but_not_for_ever() {
    let address = wooden("").await;
    let mut publisher =
        client().publisher(&format!("http://{address}/cam"), impatient()).await.unwrap();
    let mut segment = soon(publisher.next()).await.unwrap();
    let chunk = Bytes::from(vec![0; 256 << 10]);
    let stalled = soon(async {
        loop {
            if let Err(failure) = segment.write(chunk.clone()).await {
                return failure;
            }
        }
    })
    .await;
    let Error::Stalled { seq: 0, queued, .. } = stalled else { panic!("{stalled:?}") };
    assert!(queued <= 1 << 20);
    assert_eq!(publisher.in_flight(), 1);
    let answer = soon(segment.close()).await.unwrap_err();
    assert!(matches!(&answer, Error::Io { .. }), "{answer:?}");
    assert!(answer.to_string().contains("after the last byte"), "{answer}");
    assert_eq!(publisher.in_flight(), 0);
}

#[tokio::test]
async fn answers_outside_the_protocol_are_named() {
    let table = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "without Lp-Trickle-Seq"),
        (
            "HTTP/1.1 200 OK\r\nLp-Trickle-Seq: x\r\nContent-Length: 0\r\n\r\n",
            "without Lp-Trickle-Seq",
        ),
        ("HTTP/1.1 418 Teapot\r\nContent-Length: 6\r\n\r\nshort\n", "refused with 418: short"),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "refused with 302"),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nbusy\n", "refused with 503: busy"),
        ("nonsense\r\n\r\n", "subscribing: "),
        (
            "HTTP/1.1 470 x\r\nLp-Trickle-Latest: 7\r\nContent-Length: 0\r\n\r\n",
            "write head itself",
        ),
        ("HTTP/1.1 470 x\r\nContent-Length: 0\r\n\r\n", "write head itself"),
    ];
    for (answer, expected) in table {
        let address = wooden(answer).await;
        let options = SubscriberOptions {
            start: Start::Current,
            retries: 1,
            retry_pause: Duration::from_millis(1),
            ..SubscriberOptions::default()
        };
        let url = format!("http://{address}/cam");
        let mut subscriber = client().subscriber(&url, options).await.unwrap();
        let failure = soon(subscriber.next()).await.unwrap_err().to_string();
        assert!(failure.contains(expected), "{answer:?} gave {failure:?}");
    }
}

#[tokio::test]
async fn a_quiet_request_is_renewed_without_losing_a_segment() {
    let node = Node::start(Config::default()).await;
    let url = cam(&node).await;
    let options = SubscriberOptions {
        renew_after: Duration::from_millis(10),
        ..SubscriberOptions::default()
    };
    let mut subscriber = client().subscriber(&url, options).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(100), subscriber.next()).await;
    assert!(waiting.is_err(), "a quiet channel is no failure");
    let mut publisher = node.server.local_publisher("cam").unwrap();
    for seq in 0..5 {
        let mut segment = publisher.next().await.unwrap();
        segment.write(Bytes::from_static(b"x")).await.unwrap();
        segment.close().await.unwrap();
        let segment = soon(subscriber.next()).await.unwrap().unwrap();
        assert_eq!((segment.seq(), segment.skipped()), (seq, 0));
    }
}

#[tokio::test]
async fn bad_addresses_are_the_callers_fault() {
    for url in ["", "cam", "ftp://x/cam", "http://x/cam?a=b", "http://x/cam#a"] {
        let failure = client().subscriber(url, SubscriberOptions::default()).await.unwrap_err();
        assert_eq!((failure.fault(), failure.can_retry()), (Fault::Caller, false), "{url}");
    }
    let options = PublisherOptions { mime: "a\nb".into(), ..PublisherOptions::default() };
    assert!(client().publisher("http://127.0.0.1:1/cam", options).await.is_err());
}

#[tokio::test]
async fn a_pinned_certificate_is_the_only_one_believed() {
    let node = Node::start_tls(Config::default(), &["h2"]).await;
    let url = cam(&node).await;
    let der = node.certificate.clone().unwrap();
    let mut pin = [0; 32];
    pin.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &der).as_ref());
    let with = |trust| Client::new(&ClientConfig { trust, ..ClientConfig::default() }).unwrap();
    assert_eq!(soon(with(Trust::Pinned(pin)).head(&url)).await.unwrap(), 0);
    assert_eq!(soon(with(Trust::Anyone).head(&url)).await.unwrap(), 0);
    pin[0] ^= 1;
    let failure = soon(with(Trust::Pinned(pin)).head(&url)).await.unwrap_err();
    assert!(matches!(&failure, Error::Io { .. }), "{failure:?}");
    assert!(!failure.to_string().contains("/cam\""), "{failure}");
}

#[tokio::test]
async fn a_tls_server_without_http2_is_spoken_to_in_http1() {
    let node = Node::start_tls(Config::default(), &["http/1.1"]).await;
    let url = cam(&node).await;
    let mut publisher = client().publisher(&url, impatient()).await.unwrap();
    let mut segment = soon(publisher.next()).await.unwrap();
    segment.write(Bytes::from_static(b"x")).await.unwrap();
    soon(segment.close()).await.unwrap();
    assert_eq!(soon(client().head(&url)).await.unwrap(), 1);
}

#[tokio::test]
async fn create_close_and_head_work_from_afar() {
    let node = Node::start(Config { autocreate: true, ..Config::default() }).await;
    let (client, url) = (client(), node.url("made"));
    soon(client.create(&url, "text/plain")).await.unwrap();
    soon(client.create(&url, "text/plain")).await.unwrap();
    assert_eq!(soon(client.head(&url)).await.unwrap(), 0);
    soon(client.close(&url)).await.unwrap();
    assert!(matches!(soon(client.close(&url)).await, Err(Error::NotFound { .. })));
    assert!(matches!(soon(client.head(&url)).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_hundred_readers_share_the_bytes_of_one_publisher() {
    let server = Server::new(Config::default());
    server.create("cam", "", Access::ALL).unwrap();
    let mut publisher = server.local_publisher("cam").unwrap();
    let mut readers: Vec<_> =
        (0..100).map(|_| server.local_subscriber("cam", Start::Next).unwrap()).collect();
    let chunk = Bytes::from(vec![7; 1 << 20]);
    let mut segment = publisher.next().await.unwrap();
    segment.write(chunk.clone()).await.unwrap();
    let mut held = Vec::new();
    for reader in &mut readers {
        let mut segment = soon(reader.next()).await.unwrap().unwrap();
        held.push(soon(segment.chunk()).await.unwrap().unwrap());
    }
    assert!(held.iter().all(|bytes| bytes.as_ptr() == chunk.as_ptr()));
    let stats = server.snapshot().channels[0].1;
    assert_eq!(stats.bytes_kept, chunk.len() + trickle::CHUNK_COST);
}

#[tokio::test(start_paused = true)]
async fn idle_channels_are_swept_and_busy_or_internal_ones_are_not() {
    let server = Server::new(Config { changefeed: true, ..Config::default() });
    for name in ["idle", "busy", "_internal"] {
        server.create(name, "", Access::ALL).unwrap();
    }
    let mut waiting = server.local_subscriber("idle", Start::Next).unwrap();
    let mut publisher = server.local_publisher("busy").unwrap();
    let sweeper = server.clone();
    let sweeping = tokio::spawn(async move { sweeper.maintain().await });
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(90)).await;
        let mut segment = publisher.next().await.unwrap();
        segment.write(Bytes::from_static(b"x")).await.unwrap();
        segment.close().await.unwrap();
    }
    assert!(waiting.next().await.unwrap().is_none());
    assert!(!server.contains("idle") && server.contains("busy") && server.contains("_internal"));
    assert!(server.contains(trickle::CHANGES));
    assert_eq!(server.snapshot().swept, 1);
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert!(!server.contains("busy"));
    sweeping.abort();
}

#[tokio::test]
async fn five_hundred_channels_come_and_go_and_leave_nothing() {
    let node = Node::start(Config::default()).await;
    let client = client();
    for at in 0..500 {
        let name = format!("{}/c{at}", trickle::unguessable());
        node.server.create(&name, "", Access::ALL).unwrap();
        let mut subscriber = node.server.local_subscriber(&name, Start::Next).unwrap();
        let url = node.url(&name);
        let mut publisher = client.publisher(&url, PublisherOptions::default()).await.unwrap();
        let mut segment = soon(publisher.next()).await.unwrap();
        segment.write(Bytes::from_static(b"x")).await.unwrap();
        drop(soon(subscriber.next()).await.unwrap().unwrap());
        segment.close();
        soon(publisher.close()).await.unwrap();
    }
    let snapshot = node.server.snapshot();
    assert!(snapshot.channels.is_empty());
    assert_eq!(snapshot.closed, 500);
}

#[tokio::test]
async fn a_local_reader_that_sleeps_through_two_rings_is_cut_by_name() {
    let limits = Limits { ring_segments: 2, ..Limits::default() };
    let server = Server::new(Config { limits, ..Config::default() });
    server.create("cam", "", Access::ALL).unwrap();
    assert_eq!(server.create("cam", "", Access::ALL), Err(Refusal::Exists));
    assert_eq!(server.create("a/b/c", "", Access::ALL), Err(Refusal::Name));
    let mut publisher = server.local_publisher("cam").unwrap();
    let mut asleep = Vec::new();
    for _ in 0..8 {
        let mut reader = server.local_subscriber("cam", Start::Next).unwrap();
        let mut segment = publisher.next().await.unwrap();
        segment.write(Bytes::from_static(b"x")).await.unwrap();
        segment.close().await.unwrap();
        asleep.push(soon(reader.next()).await.unwrap().unwrap());
    }
    let cut = soon(asleep[0].chunk()).await.unwrap_err();
    assert!(matches!(cut, Error::Reset { seq: 0, bytes: 0, .. }), "{cut:?}");
    assert!(soon(asleep[7].chunk()).await.unwrap().is_some());
    drop(asleep);
    assert_eq!(server.snapshot().channels[0].1.readers, 0);
}
