//! Clients that break the rules, beside a publisher who keeps them and must not notice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ingest::auth::{Access, Grant, Refusal, Request};
use ingest::hub::{Item, Reader};
use ingest::sessions::SessionState;
use tokio::net::UdpSocket;

use super::client::{Client, SDP, rtp};
use super::harness::*;

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";

/// The next frame of a stream.
async fn frame(reader: &mut Reader) -> i64 {
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("a frame comes") {
            Item::Packet(packet) => return packet.pts.0,
            Item::Tracks(_) => {}
            Item::Lagged(count) => panic!("{count} lost"),
            Item::End => panic!("the stream has ended"),
        }
    }
}

/// A publisher and somebody who looks at it.
async fn live(node: &Node) -> (Client, Reader) {
    let (mut client, _) = Client::publish(node.addr, "room", TCP).await;
    client.sound().await;
    let mut reader = node.reader("room").await;
    frame(&mut reader).await;
    (client, reader)
}

/// Frames still pass, each of them.
async fn untouched(client: &mut Client, reader: &mut Reader) {
    for _ in 0..20 {
        client.sound().await;
        frame(reader).await;
    }
}

/// Asks until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} never came"));
}

#[tokio::test]
async fn junk_in_any_state_ends_that_connection_alone() {
    let node = Node::start(|_| {}).await;
    let (mut publisher, mut reader) = live(&node).await;
    let long = [b"OPTIONS * RTSP/1.0\r\nX: ".to_vec(), vec![b'x'; 20_000]].concat();
    let junk: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\0\0\0\0",
        b"$\x09\0\x04abcd",
        b"$\xff\xff\xff",
        b"DESCRIBE rtsp://h/room RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 99999999999\r\n\r\n",
        b"SETUP \xff\xfe RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        &long,
    ];
    for bytes in junk {
        let at = String::from_utf8_lossy(&bytes[..bytes.len().min(30)]).into_owned();
        let mut fresh = Client::connect(node.addr).await;
        fresh.send(bytes).await;
        fresh.closed().await;
        let mut described = Client::connect(node.addr).await;
        assert_eq!(described.ask("DESCRIBE rtsp://h/room", "", "").await.0, 200, "before {at}");
        described.send(bytes).await;
        described.closed().await;
        // A frame of any length on the channel of RTP is what a publisher sends.
        let (mut recording, _) = Client::publish(node.addr, "junk", TCP).await;
        match bytes {
            b"$\xff\xff\xff" => drop(recording),
            _ => {
                recording.send(bytes).await;
                recording.closed().await;
            }
        }
        until("the name", || node.hub.list().len() == 1).await;
    }
    untouched(&mut publisher, &mut reader).await;
    node.stop().await;
}

#[tokio::test]
async fn a_hundred_broken_packets_in_a_row_end_a_publisher_and_fewer_do_not() {
    let node = Node::start(|_| {}).await;
    let (mut publisher, mut reader) = live(&node).await;
    let broken = b"$\0\0\x04junk";
    for _ in 0..99 {
        publisher.send(broken).await;
    }
    // Good ones begin the count anew.
    untouched(&mut publisher, &mut reader).await;
    for _ in 0..99 {
        publisher.send(broken).await;
    }
    until("198 of them", || node.counters.snapshot().media_errors == 198).await;
    untouched(&mut publisher, &mut reader).await;
    for _ in 0..100 {
        publisher.send(broken).await;
    }
    publisher.closed().await;
    until("the name", || node.hub.list().is_empty()).await;
    assert_eq!(node.counters.snapshot().media_errors, 298);
    node.stop().await;
}

#[tokio::test]
async fn a_session_cannot_be_taken_over_from_another_connection() {
    let node = Node::start(|_| {}).await;
    let (mut publisher, session) = Client::publish(node.addr, "room", TCP).await;
    publisher.sound().await;
    let mut reader = node.reader("room").await;
    for request in ["TEARDOWN", "RECORD", "PAUSE", "GET_PARAMETER", "SETUP", "PLAY"] {
        let mut thief = Client::connect(node.addr).await;
        let (status, _) = thief.ask(&format!("{request} rtsp://h/room"), &session, "").await;
        assert_eq!(status, 454, "{request}");
        let mut frame = vec![b'$', 0, 0, 172];
        frame.extend_from_slice(&rtp(9000));
        thief.send(&frame).await;
        thief.closed().await;
    }
    untouched(&mut publisher, &mut reader).await;
    let mut second = Client::connect(node.addr).await;
    let sdp = "Content-Type: application/sdp\r\n";
    assert_eq!(second.ask("ANNOUNCE rtsp://h/room", sdp, SDP).await.0, 200);
    let transport = format!("Transport: {TCP}\r\n");
    assert_eq!(second.ask("SETUP rtsp://h/room/trackID=0", &transport, "").await.0, 200);
    assert_eq!(second.ask("RECORD rtsp://h/room", "", "").await.0, 403, "the name is taken");
    untouched(&mut publisher, &mut reader).await;
    node.stop().await;
}

#[tokio::test]
async fn where_it_is_allowed_a_second_publisher_replaces_the_first() {
    let node = Node::start(|config| config.take_over = true).await;
    let (first, _) = Client::publish(node.addr, "room", TCP).await;
    let (mut second, _) = Client::publish(node.addr, "room", TCP).await;
    first.closed().await;
    second.sound().await;
    node.reader("room").await;
    node.stop().await;
}

#[tokio::test]
async fn a_second_setup_of_a_medium_leaves_the_first_as_it_is() {
    let node = Node::start(|_| {}).await;
    let (mut publisher, session) = Client::publish(node.addr, "room", TCP).await;
    for transport in [TCP, "RTP/AVP;unicast;client_port=5000-5001"] {
        let lines = format!("{session}Transport: {transport}\r\n");
        assert_eq!(publisher.ask("SETUP rtsp://h/room/trackID=0", &lines, "").await.0, 455);
    }
    publisher.sound().await;
    let mut reader = node.reader("room").await;
    untouched(&mut publisher, &mut reader).await;
    node.stop().await;
}

/// Ports for RTP and RTCP, and the transport that names them.
async fn ports() -> ([UdpSocket; 2], String) {
    let socket = async || UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sockets = [socket().await, socket().await];
    let [rtp, rtcp] = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port());
    (sockets, format!("RTP/AVP;unicast;client_port={rtp}-{rtcp};mode=record"))
}

#[tokio::test]
async fn what_a_goodbye_overtakes_on_its_way_is_still_taken() {
    let node = Node::start(|_| {}).await;
    let ([rtp_port, _rtcp_port], transport) = ports().await;
    let (mut publisher, _) = Client::publish(node.addr, "room", &transport).await;
    let to = ("127.0.0.1", node.udp.0);
    rtp_port.send_to(&rtp(1), to).await.unwrap();
    let mut reader = node.reader("room").await;
    let first = frame(&mut reader).await;
    publisher.send(b"TEARDOWN rtsp://h/room RTSP/1.0\r\nCSeq: 9\r\n\r\n").await;
    // The third is lost.
    for number in [2, 4] {
        rtp_port.send_to(&rtp(number), to).await.unwrap();
    }
    assert_eq!(frame(&mut reader).await, first + 1800);
    assert_eq!(frame(&mut reader).await, first + 5400);
    let end = tokio::time::timeout(PATIENCE, reader.next()).await;
    assert!(matches!(end, Ok(Item::End)), "{end:?}");
    node.stop().await;
}

#[tokio::test]
async fn only_datagrams_of_the_client_s_own_ports_are_heard() {
    let node = Node::start(|_| {}).await;
    let ([rtp_port, rtcp_port], transport) = ports().await;
    let numbers = [&rtp_port, &rtcp_port].map(|socket| socket.local_addr().unwrap().port());
    let (mut publisher, _) = Client::publish(node.addr, "room", &transport).await;
    let to = ("127.0.0.1", node.udp.0);
    rtp_port.send_to(&rtp(1), to).await.unwrap();
    let mut reader = node.reader("room").await;
    let first = frame(&mut reader).await;
    // Another port of the same host, another address with the same port, and our RTCP port.
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = UdpSocket::bind(("127.0.0.2", numbers[0])).await.unwrap();
    for (at, socket) in [&stranger, &elsewhere].into_iter().enumerate() {
        socket.send_to(&rtp(2 + at as u32), to).await.unwrap();
    }
    rtcp_port.send_to(&rtp(4), to).await.unwrap();
    until("three drops", || node.counters.snapshot().datagrams_dropped == 3).await;
    rtp_port.send_to(&rtp(2), to).await.unwrap();
    assert_eq!(frame(&mut reader).await, first + 1800, "the next frame is the publisher's own");
    // Nobody else gets its ports.
    let mut second = Client::connect(node.addr).await;
    let sdp = "Content-Type: application/sdp\r\n";
    assert_eq!(second.ask("ANNOUNCE rtsp://h/second", sdp, SDP).await.0, 200);
    let lines = format!("Transport: {transport}\r\n");
    assert_eq!(second.ask("SETUP rtsp://h/second/trackID=0", &lines, "").await.0, 400);
    let line = "SETUP rtsp://h/second/trackID=0";
    let zero = "Transport: RTP/AVP;unicast;client_port=0-1\r\n";
    assert_eq!(second.ask(line, zero, "").await.0, 400, "port 0");
    assert_eq!(publisher.ask("TEARDOWN rtsp://h/room", "", "").await.0, 200);
    publisher.closed().await;
    assert_eq!(second.ask(line, &lines, "").await.0, 200, "the ports are free again");
    node.stop().await;
}

#[tokio::test]
async fn a_thousand_half_open_connections_leave_a_live_stream_untouched() {
    let node = Node::start(|_| {}).await;
    let (mut publisher, mut reader) = live(&node).await;
    let mut half = Vec::new();
    for at in 0..1000 {
        let mut client = Client::connect(node.addr).await;
        if at % 2 == 0 {
            // Those that gave way are closed.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"DESCRIBE rts").await;
        }
        half.push(client);
        if at % 50 == 0 {
            untouched(&mut publisher, &mut reader).await;
        }
    }
    until("the limit", || node.counters.snapshot().gave_way > 700).await;
    untouched(&mut publisher, &mut reader).await;
    let mut viewer = Client::connect(node.addr).await;
    assert_eq!(viewer.ask("DESCRIBE rtsp://h/room", "", "").await.0, 200, "meanwhile");
    drop(half);
    drop(viewer);
    until("their end", || node.sessions[0].list().len() == 1).await;
    let mut viewer = Client::connect(node.addr).await;
    assert_eq!(viewer.ask("DESCRIBE rtsp://h/room", "", "").await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn silence_ends_a_connection_and_a_publisher() {
    let node = Node::start(|config| {
        config.command_timeout = Duration::from_millis(300);
        config.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let mut half = Client::connect(node.addr).await;
    half.send(b"OPTIONS * RT").await;
    let (publisher, _) = Client::publish(node.addr, "room", TCP).await;
    half.closed().await;
    publisher.closed().await;
    until("the name", || node.hub.list().is_empty()).await;
    assert_eq!(node.counters.snapshot().failed, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go_and_nobody_else_waits() {
    let node = Node::start(|config| config.write_timeout = Duration::from_millis(500)).await;
    let (mut publisher, mut reader) = live(&node).await;
    let mut deaf = Client::connect(node.addr).await;
    assert_eq!(deaf.ask("DESCRIBE rtsp://h/room", "", "").await.0, 200);
    let lines = "Transport: RTP/AVP/TCP;interleaved=0-1\r\n";
    assert_eq!(deaf.ask("SETUP rtsp://h/room/trackID=0", lines, "").await.0, 200);
    assert_eq!(deaf.ask("PLAY rtsp://h/room", "", "").await.0, 200);
    until("the reader", || {
        node.sessions[0].list().iter().any(|session| session.state == SessionState::Read)
    })
    .await;
    let sessions = node.sessions[0].clone();
    let flood = async {
        while sessions.list().len() == 2 {
            for _ in 0..200 {
                publisher.sound().await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("the deaf reader is let go");
    drop(reader);
    reader = node.reader("room").await;
    publisher.sound().await;
    frame(&mut reader).await;
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_is_kicked_is_gone() {
    let node = Node::start(|_| {}).await;
    let (publisher, _) = Client::publish(node.addr, "room", TCP).await;
    let listed = node.sessions[0].list();
    assert_eq!((listed.len(), listed[0].state), (1, SessionState::Publish));
    assert!(node.sessions[0].kick(&listed[0].id));
    publisher.closed().await;
    until("the name", || node.hub.list().is_empty()).await;
    assert!(node.sessions[0].list().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn credentials_are_asked_for_and_three_wrong_ones_end_the_connection() {
    let node = Node::with_access(|_| {}, Arc::new(Password)).await;
    let mut client = Client::connect(node.addr).await;
    let (status, answer) = client.ask("DESCRIBE rtsp://h/room", "", "").await;
    assert_eq!(status, 401);
    assert!(answer.contains("Digest realm=") && answer.contains("Basic realm="), "{answer}");
    for _ in 0..3 {
        let wrong = "Authorization: Basic dG9tOndyb25n\r\n";
        assert_eq!(client.ask("DESCRIBE rtsp://h/room", wrong, "").await.0, 401);
    }
    client.closed().await;
    let mut client = Client::connect(node.addr).await;
    let right = "Content-Type: application/sdp\r\nAuthorization: Basic dG9tOnNlY3JldA==\r\n";
    assert_eq!(client.ask("ANNOUNCE rtsp://h/room", right, SDP).await.0, 200);
    let mut client = Client::connect(node.addr).await;
    let line = "ANNOUNCE rtsp://h/room?user=tom&pass=secret";
    assert_eq!(client.ask(line, "Content-Type: application/sdp\r\n", SDP).await.0, 200);
    let reserved = "ANNOUNCE rtsp://h/room-out?user=tom&pass=secret";
    assert_eq!(client.ask(reserved, "Content-Type: application/sdp\r\n", SDP).await.0, 400);
    node.stop().await;
}

/// Panics when it is asked about one name.
struct Faulty;

impl Access for Faulty {
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        assert_ne!(request.name.as_str(), "fault", "as the test says");
        Box::pin(std::future::ready(Ok(Grant::of(&request))))
    }
}

#[tokio::test]
async fn a_fault_of_ours_in_a_connection_ends_that_connection_alone() {
    let node = Node::with_access(|_| {}, Arc::new(Faulty)).await;
    let (mut publisher, mut reader) = live(&node).await;
    let mut hit = Client::connect(node.addr).await;
    hit.send(b"DESCRIBE rtsp://h/fault RTSP/1.0\r\nCSeq: 1\r\n\r\n").await;
    hit.closed().await;
    until("its end", || node.counters.snapshot().failed == 1).await;
    until("its place", || node.sessions[0].list().len() == 1).await;
    untouched(&mut publisher, &mut reader).await;
    node.stop().await;
}
