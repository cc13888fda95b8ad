//! What the network's own clients do, seen from the server.

use crate::support::{Node, soon};
use crate::wire::until;
use trickle::{Access, Config, Start};

async fn node() -> Node {
    let node = Node::start(Config::default()).await;
    node.server.create("cam", "", Access::ALL).unwrap();
    node
}

#[tokio::test]
async fn a_peer_opens_the_next_request_ahead_and_deletes_the_channel_at_its_end() {
    let node = node().await;
    let mut subscriber = node.server.local_subscriber("cam", Start::Next).unwrap();
    let mut ahead = node.raw().await;
    ahead.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked").await;
    for seq in 0..6 {
        let mut writer = ahead;
        ahead = node.raw().await;
        let head = format!("POST BASE/cam/{} HTTP/1.1\nTransfer-Encoding: chunked", seq + 1);
        ahead.send(&head).await;
        writer.chunk("x").await;
        let mut segment = soon(subscriber.next()).await.unwrap().unwrap();
        assert_eq!((segment.seq(), segment.skipped()), (seq, 0));
        writer.chunk("").await;
        assert!(writer.answer().await.contains(&format!("Lp-Trickle-Seq: {seq}\n")));
        assert!(soon(segment.chunk()).await.unwrap().is_some());
        assert!(soon(segment.chunk()).await.unwrap().is_none());
    }
    assert!(node.ask("DELETE BASE/cam HTTP/1.1").await.starts_with("HTTP/1.1 200 OK\n"));
    assert!(ahead.answer().await.contains("Lp-Trickle-Closed: terminated\n"));
    assert!(ahead.at_end().await, "the peer wakes by the closed connection");
    assert!(soon(subscriber.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_peer_may_open_the_same_index_again_before_it_sent_a_byte() {
    let node = node().await;
    let writers = || node.server.snapshot().channels[0].1.writers;
    let mut subscriber = node.server.local_subscriber("cam", Start::Next).unwrap();
    for _ in 0..3 {
        let mut broken = node.raw().await;
        broken.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked").await;
        until(|| writers() == 1).await;
        drop(broken);
        until(|| writers() == 0).await;
    }
    assert_eq!(node.server.snapshot().channels[0].1.next, 0, "a broken request is no empty one");
    let mut writer = node.raw().await;
    writer.send("POST BASE/cam/0 HTTP/1.1\nTransfer-Encoding: chunked\nConnection: close").await;
    writer.chunk("whole").await;
    writer.chunk("").await;
    assert!(writer.answer().await.starts_with("HTTP/1.1 200 OK\n"));
    let mut segment = soon(subscriber.next()).await.unwrap().unwrap();
    assert_eq!(soon(segment.chunk()).await.unwrap().as_deref(), Some(&b"whole"[..]));
    assert!(soon(segment.chunk()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_peer_that_renews_its_waiting_request_leaves_no_reader_behind() {
    let node = node().await;
    let readers = || node.server.snapshot().channels[0].1.readers;
    for _ in 0..10 {
        let mut waiting = node.raw().await;
        waiting.send("GET BASE/cam/0 HTTP/1.1\nConnection: close").await;
        until(|| readers() == 1).await;
        drop(waiting);
        until(|| readers() == 0).await;
    }
}

#[tokio::test]
async fn a_peer_that_restarts_at_zero_is_heard_with_and_without_a_reset() {
    for reset in ["", "\nLp-Trickle-Reset: 1"] {
        let node = node().await;
        let mut publisher = node.server.local_publisher("cam").unwrap();
        for _ in 0..12 {
            let mut segment = publisher.next().await.unwrap();
            segment.write("old".into()).await.unwrap();
            segment.close().await.unwrap();
        }
        drop(publisher);
        let mut writer = node.raw().await;
        writer.send(&format!("POST BASE/cam/0 HTTP/1.1\nContent-Length: 3{reset}")).await;
        writer.bytes("new").await;
        assert!(writer.answer().await.contains("Lp-Trickle-Seq: 0\n"));
        assert!(node.ask("GET BASE/cam/next HTTP/1.1").await.ends_with("\n1"));
        let mut reader = node.raw().await;
        reader.send("GET BASE/cam/-2 HTTP/1.1").await;
        assert!(reader.head().await.contains("Lp-Trickle-Seq: 0\n"));
        assert_eq!(reader.next_chunk().await, "new");
    }
}
