//! ICE-TCP: sessions whose media travels over the TCP port of the same number.

use std::time::Duration;

use ingest::webrtc::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::Node;
use crate::peer::{PATIENCE, Peer, SILENCE};

#[tokio::test]
async fn a_viewer_behind_a_firewall_gets_everything_over_tcp() {
    let node = Node::with(Config { workers: 3, pin: false, ..Config::default() });
    let mut source = node.publish("cam");
    source.picture(true, 5000);
    for _ in 0..3 {
        let mut peer = Peer::new().await;
        let (location, _) = node.open(&mut peer, "/cam/whep?transport=tcp").await;
        assert!(!peer.answer.contains(" udp "), "{}", peer.answer);
        peer.use_tcp().await;
        peer.connect().await;
        assert!(peer.rtp(96, PATIENCE).await.is_some());
        source.picture(false, 30_000);
        assert!(peer.rtp(96, PATIENCE).await.is_some());
        let sessions = node.server.sessions().await;
        assert_eq!((sessions.len(), sessions[0].transport), (1, "tcp"));
        let delete = http::Request::delete(location).body(axum::body::Body::empty()).unwrap();
        assert_eq!(node.request(delete).await.status(), 200);
        while peer.receive(PATIENCE).await.is_some() {}
        let mut tcp = peer.tcp.take().unwrap().into_inner();
        assert_eq!(tcp.read(&mut [0; 1]).await.unwrap(), 0, "the connection is closed");
    }
}

#[tokio::test]
async fn a_publisher_over_tcp_may_come_back_on_another_connection() {
    let node = Node::new();
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whip").await;
    peer.use_tcp().await;
    peer.connect().await;
    peer.use_tcp().await;
    peer.ice().await;
    node.until_connected().await;
    // And from there to UDP.
    peer.tcp = None;
    peer.ice().await;
    node.until("over UDP", |sessions| sessions[0].transport == "udp").await;
}

#[tokio::test]
async fn strangers_on_the_port_are_shown_the_door() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    let wrong = peer.check_with("Awhoever:else", "a password that is wrong", true);
    let ours = peer.answer_value("a=ice-ufrag:");
    let forged = peer.check_with(&format!("{ours}:{}", peer.ufrag), "guessed", true);
    let framed = |datagram: &[u8]| [&(datagram.len() as u16).to_be_bytes(), datagram].concat();
    let cases = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0, 0],
        framed(&[22, 254, 253, 0, 0]),
        framed(&wrong),
        framed(&forged),
    ];
    for bytes in cases {
        let mut stranger = TcpStream::connect(node.server.local_addr()).await.unwrap();
        stranger.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut answer)).await;
        assert!(read.is_ok() && answer.is_empty(), "{bytes:?}: {read:?} {answer:?}");
    }
    // Many that say nothing keep neither UDP nor TCP from working.
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(node.server.local_addr()).await.unwrap());
    }
    peer.use_tcp().await;
    peer.connect().await;
    assert!(peer.rtp(96, PATIENCE).await.is_some());
    let gave_way = node.server.counters().gave_way.load(std::sync::atomic::Ordering::Relaxed);
    assert!((700..=745).contains(&gave_way), "{gave_way} of the oldest made room");
    drop(silent);
}

#[tokio::test]
async fn a_viewer_that_does_not_read_loses_packets_and_holds_up_nobody() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let (mut slow, mut other) = (Peer::new().await, Peer::new().await);
    node.open(&mut slow, "/cam/whep?transport=tcp").await;
    node.open(&mut other, "/cam/whep").await;
    slow.use_tcp().await;
    slow.connect().await;
    other.connect().await;
    assert!(other.rtp(96, PATIENCE).await.is_some());
    for _ in 0..150 {
        source.picture(false, 200_000);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let dropped = || {
        let counters = node.server.counters();
        counters.packets_dropped.load(std::sync::atomic::Ordering::Relaxed)
    };
    node.until("drops", |_| dropped() > 0).await;
    while other.receive(SILENCE).await.is_some() {}
    source.picture(true, 500);
    assert!(other.rtp(96, PATIENCE).await.is_some());
}
