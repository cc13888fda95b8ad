//! Strangers, thieves and noise: nothing that is not authentic changes a session.

use std::time::Duration;

use http::Request;
use rand::{Rng, SeedableRng};
use std::sync::atomic::Ordering;

use crate::harness::Node;
use crate::peer::{PATIENCE, Peer, SILENCE, is_success};

#[tokio::test]
async fn a_check_with_a_wrong_name_or_password_is_not_answered() {
    let node = Node::new();
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whip").await;
    let ours = peer.answer_value("a=ice-ufrag:").to_owned();
    let password = peer.answer_value("a=ice-pwd:").to_owned();
    let theirs = peer.ufrag.clone();
    for (name, password) in [
        (format!("{ours}x:{theirs}"), password.as_str()),
        (format!("{ours}:{theirs}x"), password.as_str()),
        (format!("{ours}:{theirs}"), "a password that is wrong"),
        (format!("{ours}:{theirs}"), peer.password.as_str()),
    ] {
        peer.send(&peer.check_with(&name, password, true)).await;
    }
    assert_eq!(peer.receive(SILENCE).await, None);
    assert_eq!(node.server.sessions().await[0].remote, None);
    peer.ice().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_the_offers_ends_the_session() {
    let node = Node::new();
    let mut honest = Peer::new().await;
    let offer = honest.offer("sendonly");
    let print = offer.lines().find(|line| line.contains("fingerprint")).unwrap().to_owned();
    let other = Peer::new().await.offer("sendonly");
    let other = other.lines().find(|line| line.contains("fingerprint")).unwrap();
    let response = node.post("/cam/whip", offer.replace(&print, other)).await;
    honest.answered(crate::harness::text(response).await);
    honest.ice().await;
    assert!(!honest.dtls().await);
    node.until_empty().await;
}

#[tokio::test]
async fn a_hello_from_elsewhere_is_ignored_and_the_real_peer_gets_through() {
    let node = Node::new();
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whip").await;
    let mut forger = Peer::new().await;
    forger.server = peer.server;
    for _ in 0..3 {
        assert!(!forger.dtls_step(SILENCE / 3).await, "a hello before any check");
    }
    peer.ice().await;
    for _ in 0..3 {
        assert!(!forger.dtls_step(SILENCE / 3).await, "a hello while the peer checks");
    }
    assert!(peer.dtls().await);
    node.until_connected().await;
}

#[tokio::test]
async fn noise_in_every_state_is_survived() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut noise = async |peer: &Peer, firsts: &[u8]| {
        for count in 0..200_usize {
            let mut junk = vec![0; random.random_range(1..300)];
            random.fill(&mut junk[..]);
            junk[0] = firsts[count % firsts.len()];
            peer.send(&junk).await;
        }
    };
    let all = [0, 1, 20, 23, 63, 128, 129, 144, 191, 200, 255];
    noise(&peer, &all).await;
    peer.ice().await;
    // DTLS junk is held against the handshake's allowance, so here it is everything else.
    noise(&peer, &[0, 1, 128, 129, 144, 191, 200, 255]).await;
    assert!(peer.dtls().await);
    noise(&peer, &all).await;
    node.until_connected().await;
    source.picture(true, 500);
    assert!(peer.rtp(96, PATIENCE).await.is_some());
    let counters = node.server.counters();
    assert_eq!(counters.sessions_panicked.load(Ordering::Relaxed), 0);
    assert!(counters.datagrams_dropped.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_thousand_half_open_sessions_leave_a_living_stream_untouched() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut viewer = Peer::new().await;
    node.open(&mut viewer, "/cam/whep").await;
    viewer.connect().await;
    assert!(viewer.rtp(96, PATIENCE).await.is_some());
    let asker = Peer::new().await;
    let offer = asker.offer("recvonly");
    for count in 0..1000 {
        let response = node.post("/cam/whep", offer.clone()).await;
        assert_eq!(response.status(), 201, "{count}");
        // Every other one gets as far as its first check, and then says no more.
        if count % 2 == 0 {
            let answer = crate::harness::text(response).await;
            let mut half = Peer::new().await;
            half.ufrag.clone_from(&asker.ufrag);
            half.answered(answer);
            half.send(&half.check()).await;
        }
        if count % 100 == 0 {
            source.picture(false, 500);
            assert!(viewer.rtp(96, PATIENCE).await.is_some(), "after {count}");
        }
    }
    let gave_way = node.server.counters().gave_way.load(Ordering::Relaxed);
    assert!(gave_way >= 1000 - 128, "{gave_way} gave way");
    // Who means it gets in meanwhile.
    let mut late = Peer::new().await;
    node.open(&mut late, "/cam/whep").await;
    late.connect().await;
    source.picture(true, 500);
    assert!(late.rtp(96, PATIENCE).await.is_some());
    assert!(viewer.rtp(96, PATIENCE).await.is_some());
}

#[tokio::test]
async fn nobody_takes_the_address_of_a_living_session_with_his_own_credentials() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let (mut victim, mut thief) = (Peer::new().await, Peer::new().await);
    node.open(&mut victim, "/cam/whep").await;
    node.open(&mut thief, "/cam/whep").await;
    victim.connect().await;
    assert!(victim.rtp(96, PATIENCE).await.is_some());
    // The thief's valid check, as if forged from the victim's address.
    victim.send(&thief.check()).await;
    let end = std::time::Instant::now() + SILENCE;
    while let Some(datagram) =
        victim.receive(end.saturating_duration_since(std::time::Instant::now())).await
    {
        assert!(!is_success(&datagram));
        victim.open(&datagram);
    }
    source.picture(false, 500);
    assert!(victim.rtp(96, PATIENCE).await.is_some());
}

#[tokio::test]
async fn media_moves_to_another_address_only_after_an_authentic_check() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    peer.connect().await;
    assert!(peer.rtp(96, PATIENCE).await.is_some());

    let other = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let ours = peer.answer_value("a=ice-ufrag:").to_owned();
    let forged = peer.check_with(&format!("{ours}:{}", peer.ufrag), "guessed", true);
    other.send_to(&forged, peer.server).await.unwrap();
    other.send_to(&[128; 40], peer.server).await.unwrap();
    source.picture(false, 500);
    assert!(peer.rtp(96, PATIENCE).await.is_some());

    let old = std::mem::replace(&mut peer.socket, other);
    peer.ice().await;
    source.picture(false, 500);
    assert!(peer.rtp(96, PATIENCE).await.is_some());
    let mut byte = [0; 2048];
    // What was on its way before the move may still arrive there; nothing does after it.
    while tokio::time::timeout(Duration::from_millis(50), old.recv(&mut byte)).await.is_ok() {}
    source.picture(false, 500);
    assert!(peer.rtp(96, PATIENCE).await.is_some());
    assert!(tokio::time::timeout(SILENCE, old.recv(&mut byte)).await.is_err());
}

#[tokio::test]
async fn a_session_without_consent_ends() {
    let config = ingest::webrtc::Config {
        consent_timeout: Duration::from_millis(600),
        ..Default::default()
    };
    let node = Node::with(config);
    let _source = node.publish("cam");
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    peer.connect().await;
    node.until_connected().await;
    // With checks it lives on, for longer than the limit.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        peer.send(&peer.check()).await;
    }
    assert_eq!(node.server.sessions().await.len(), 1);
    node.until_empty().await;
}

#[tokio::test]
async fn a_restart_gives_new_credentials_and_the_media_goes_on() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peer = Peer::new().await;
    let (location, etag) = node.open(&mut peer, "/cam/whep").await;
    peer.connect().await;
    let old = peer.check();

    peer.ufrag = "restarted".into();
    let password = &peer.password;
    let fragment = format!("a=ice-ufrag:restarted\r\na=ice-pwd:{password}\r\n");
    let request = Request::patch(&location)
        .header("content-type", "application/trickle-ice-sdpfrag")
        .header("if-match", "*")
        .body(fragment.into())
        .unwrap();
    let response = node.request(request).await;
    assert_eq!(response.status(), 200);
    assert_ne!(response.headers()["etag"].to_str().unwrap(), etag);
    let answer = crate::harness::text(response).await;
    assert!(answer.contains("a=candidate:"), "{answer}");
    peer.answered(answer);
    peer.socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    peer.ice().await;
    source.picture(false, 500);
    assert!(peer.rtp(96, PATIENCE).await.is_some());

    // The old credentials are gone with the first check that used the new ones.
    let outsider = Peer::new().await;
    outsider.socket.send_to(&old, peer.server).await.unwrap();
    assert_eq!(outsider.receive(SILENCE).await, None);
}
