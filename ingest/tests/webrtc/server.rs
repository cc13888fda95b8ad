//! The server as a whole: where it listens, how it stops.

use std::net::SocketAddr;

use ingest::webrtc::{Config, HubViews, Server};
use std::sync::Arc;
use std::time::Duration;

use crate::harness::Node;
use crate::peer::{PATIENCE, Peer};

fn listening(udp: &str) -> std::io::Result<Node> {
    let hub = ingest::Hub::new(ingest::hub::Limits::default());
    let views = Arc::new(HubViews::new(hub.clone()).waiting(Duration::ZERO));
    let config = Config { udp: udp.parse().unwrap(), ..Config::default() };
    let server = Server::start(config, hub.clone(), Arc::new(ingest::auth::Open), views)?;
    Ok(Node { hub, server })
}

#[tokio::test]
async fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    for (bind, ask) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let Ok(node) = listening(bind) else {
            eprintln!("skipped: {bind} cannot be bound here");
            continue;
        };
        let mut source = node.publish("cam");
        source.picture(true, 5000);
        let mut peer = Peer::new().await;
        node.open(&mut peer, "/cam/whep").await;
        // A connected socket takes nothing from any other address.
        peer.server = SocketAddr::new(ask.parse().unwrap(), node.server.local_addr().port());
        let local = if ask.contains(':') { "[::1]:0" } else { "127.0.0.1:0" };
        peer.socket = tokio::net::UdpSocket::bind(local).await.unwrap();
        peer.socket.connect(peer.server).await.unwrap();
        peer.connect().await;
        assert!(peer.rtp(96, PATIENCE).await.is_some(), "{bind} {ask}");
        let sessions = node.server.sessions().await;
        assert_eq!(sessions[0].local.unwrap().ip(), ask.parse::<std::net::IpAddr>().unwrap());
        assert_eq!(sessions[0].remote.unwrap(), peer.socket.local_addr().unwrap());
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = listening(&address).err().expect("an error").to_string();
    assert!(error.contains(&address), "{error}");
}

#[tokio::test]
async fn stopping_says_goodbye_and_frees_names_and_port() {
    let node = Node::new();
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whip").await;
    peer.connect().await;
    node.until_connected().await;
    let address = node.server.local_addr();
    let stop = tokio::spawn(node.server.clone().run(std::future::ready(())));
    tokio::time::timeout(PATIENCE, stop).await.expect("an end").unwrap();
    let mut alert = false;
    while let Some(datagram) = peer.receive(Duration::from_millis(200)).await {
        alert |= datagram[0] == 21;
    }
    assert!(alert, "no close_notify");
    assert!(node.hub.list().is_empty());
    assert!(std::net::UdpSocket::bind(address).is_ok());
    let response = node.post("/cam/whip", Peer::new().await.offer("sendonly")).await;
    assert_eq!(response.status(), 503);
}
