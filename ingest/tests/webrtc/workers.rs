//! Several workers on one port: whichever socket the kernel picks, a session works as on one.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;

use http::Request;
use ingest::webrtc::Config;
use tokio::net::UdpSocket;

use crate::harness::Node;
use crate::peer::{PATIENCE, Peer, SILENCE, is_success};

const WORKERS: u8 = 4;

/// Sessions of a test: enough that some of them live on another worker than their datagrams reach.
const SESSIONS: usize = 8;

fn node(udp: SocketAddr) -> Node {
    Node::with(Config { udp, workers: WORKERS, pin: false, ..Config::default() })
}

async fn viewers(node: &Node) -> Vec<(Peer, String)> {
    let mut peers = Vec::new();
    for _ in 0..SESSIONS {
        let mut peer = Peer::new().await;
        let (location, _) = node.open(&mut peer, "/cam/whep").await;
        if peer.server.is_ipv6() {
            peer.socket = UdpSocket::bind("[::1]:0").await.unwrap();
        }
        peer.connect().await;
        peers.push((peer, location));
    }
    peers
}

async fn all_see(node: &Node, peers: &mut [(Peer, String)], source: &mut crate::harness::Source) {
    node.until_connected().await;
    source.picture(false, 500);
    for (peer, _) in peers {
        assert!(peer.rtp(96, PATIENCE).await.is_some());
    }
}

#[tokio::test]
async fn sessions_are_spread_over_workers_and_follow_their_peers_to_other_addresses() {
    for udp in [Config::default().udp, SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
        let node = node(udp);
        let mut source = node.publish("cam");
        source.picture(true, 500);
        let mut peers = viewers(&node).await;
        let letters: std::collections::HashSet<char> = peers
            .iter()
            .filter_map(|(peer, _)| peer.answer_value("a=ice-ufrag:").chars().next())
            .collect();
        assert_eq!(letters.len(), usize::from(WORKERS), "{letters:?}");
        all_see(&node, &mut peers, &mut source).await;

        for (peer, _) in &mut peers {
            peer.move_away().await;
            peer.ice().await;
        }
        all_see(&node, &mut peers, &mut source).await;
        // Reports from the new addresses reach the sessions too: a viewer that says goodbye is gone.
        let left = peers.len() - 1;
        let (mut leaver, _) = peers.pop().unwrap();
        let goodbye = [0x81, 203, 0, 1, 0, 0, 0, 9];
        leaver.send_rtcp(&goodbye).await;
        node.until("one less", |sessions| sessions.len() == left).await;
        let counters = node.server.counters();
        assert!(counters.strays.load(Ordering::Relaxed) > 0, "the kernel always guessed right");
        assert_eq!(counters.strays_dropped.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn ice_restarts_and_deletes_reach_the_worker_of_their_session() {
    let node = node(Config::default().udp);
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peers = viewers(&node).await;
    for (peer, location) in &mut peers {
        peer.ufrag = format!("again{}", rand::random::<u16>());
        let (ufrag, password) = (&peer.ufrag, &peer.password);
        let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
        let request = Request::patch(location.as_str())
            .header("content-type", "application/trickle-ice-sdpfrag")
            .header("if-match", "*");
        let response = node.request(request.body(fragment.into()).unwrap()).await;
        assert_eq!(response.status(), 200);
        peer.answered(crate::harness::text(response).await);
        peer.move_away().await;
        peer.ice().await;
    }
    all_see(&node, &mut peers, &mut source).await;
    for (_, location) in &peers {
        let request = Request::delete(location.as_str()).body(axum::body::Body::empty()).unwrap();
        assert_eq!(node.request(request).await.status(), 200);
    }
    node.until_empty().await;
}

#[tokio::test]
async fn an_address_on_one_worker_cannot_be_taken_by_a_session_of_another() {
    let node = node(Config::default().udp);
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peers = viewers(&node).await;
    all_see(&node, &mut peers, &mut source).await;
    // Each session's valid check, as if forged from the first one's address.
    let (victim, thieves) = peers.split_first_mut().unwrap();
    for (thief, _) in thieves.iter() {
        victim.0.send(&thief.check()).await;
    }
    while let Some(datagram) = victim.0.receive(SILENCE).await {
        assert!(!is_success(&datagram));
        victim.0.open(&datagram);
    }
    all_see(&node, &mut peers, &mut source).await;
}

#[tokio::test]
async fn a_port_of_another_server_is_not_shared_with_it() {
    let first = node(Config::default().udp);
    let hub = ingest::Hub::new(ingest::hub::Limits::default());
    let views = std::sync::Arc::new(ingest::webrtc::HubViews::new(hub.clone()));
    let config = Config { udp: first.server.local_addr(), workers: WORKERS, ..Config::default() };
    let access = std::sync::Arc::new(ingest::auth::Open);
    let second = ingest::webrtc::Server::start(config, hub, access, views);
    assert_eq!(second.err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
}
