//! Data channels of whole sessions: questions and answers, and what may not disturb the media.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use ingest::auth::{Access, Action, Grant, Refusal, Request};
use ingest::rtp::packet::RtpPacket;
use ingest::webrtc::{Answer, Messages, Role, Speaker};
use pipeline::Pts;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::caller::Caller;
use crate::harness::Node;
use crate::peer::{PATIENCE, Peer, SILENCE};

/// Says who said what.
pub(crate) struct Echo;

impl Messages for Echo {
    fn message(&self, from: Speaker, text: String) -> BoxFuture<'static, Option<Answer>> {
        assert!(text != "panic", "asked to");
        let role = if from.role == Role::Viewer { "viewer" } else { "publisher" };
        let answer = format!("{} {role} {} {text}", from.stream, from.may_steer);
        let pts = text.strip_prefix("pts ").map(|pts| Pts(pts.parse().unwrap()));
        let answer = if pts.is_some() { "{\"is\":1}".to_owned() } else { answer };
        Box::pin(async move { (text != "say nothing").then_some(Answer { text: answer, pts }) })
    }
}

/// Lets everybody read and nobody publish but by a token; counts questions.
#[derive(Default)]
struct Readers(AtomicUsize);

impl Access for Readers {
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let source = request.name.as_str() == "cam";
        let fits = request.action == Action::Read || source && request.token == "secret";
        let refusal = Refusal { reason: "no".into(), ask_credentials: false };
        Box::pin(async move { if fits { Ok(Grant::of(&request)) } else { Err(refusal) } })
    }
}

/// A session's peer with the other side of SCTP.
struct Asker {
    peer: Peer,
    caller: Caller,
}

impl Asker {
    async fn new(mut peer: Peer) -> Self {
        peer.connect().await;
        Self::connected(peer).await
    }

    async fn connected(peer: Peer) -> Self {
        let mut asker = Self { peer, caller: Caller::new(Instant::now()) };
        asker.run(|caller| caller.is_connected()).await;
        asker
    }

    async fn viewer(node: &Node) -> Self {
        let mut peer = Peer::new().await;
        node.open(&mut peer, "/cam/whep").await;
        Self::new(peer).await
    }

    /// Carries both ways until `done`.
    async fn run(&mut self, mut done: impl FnMut(&mut Caller) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(&mut self.caller) {
            assert!(Instant::now() < end, "the server does not answer");
            for datagram in self.caller.outgoing(Instant::now()) {
                self.peer.send_data(&datagram).await;
            }
            for datagram in self.peer.data(Duration::from_millis(20)).await {
                self.caller.read(Instant::now(), &datagram);
            }
        }
    }

    fn open(&mut self, stream: u16) {
        self.caller.open(Instant::now(), stream, "millstream");
    }

    async fn ask(&mut self, stream: u16, text: &str) -> String {
        self.caller.say(Instant::now(), stream, text);
        self.hears(stream).await
    }

    /// The next words of the server.
    async fn hears(&mut self, stream: u16) -> String {
        let mut heard = Vec::new();
        self.run(|caller| {
            heard.extend(caller.heard(stream));
            !heard.is_empty()
        })
        .await;
        heard.remove(0)
    }
}

#[tokio::test]
async fn viewers_and_publishers_are_told_apart() {
    let node = Node::new();
    node.server.answer_messages(Arc::new(Echo));
    let _source = node.publish("cam");
    let mut viewer = Asker::viewer(&node).await;
    viewer.open(0);
    assert_eq!(viewer.ask(0, "hello").await, "cam viewer true hello");
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/mine/whip").await;
    let mut publisher = Asker::new(peer).await;
    publisher.open(2);
    assert_eq!(publisher.ask(2, "hello").await, "mine publisher true hello");
}

#[tokio::test]
async fn an_answer_about_a_picture_carries_the_timestamp_that_it_has_for_the_viewer() {
    let node = Node::new();
    node.server.answer_messages(Arc::new(Echo));
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    peer.connect().await;
    let packet = peer.rtp(96, PATIENCE).await.expect("the picture");
    let time = RtpPacket::parse(&packet).unwrap().time.0;
    let mut viewer = Asker::connected(peer).await;
    viewer.open(0);
    let rtp = |answer: String| {
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["is"], 1);
        answer["rtp"].as_u64().unwrap() as u32
    };
    assert_eq!(rtp(viewer.ask(0, "pts 0").await), time, "the picture that was sent");
    // Pictures to come are as far apart as their names.
    let next = rtp(viewer.ask(0, "pts 3000").await);
    assert_eq!(rtp(viewer.ask(0, "pts 93000").await), next.wrapping_add(90_000));
}

#[tokio::test]
async fn viewers_are_told_at_once_that_the_publisher_left_and_that_it_is_back() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut viewer = Asker::viewer(&node).await;
    viewer.open(0);
    assert!(viewer.ask(0, "hello").await.contains("unsupported"));
    drop(source);
    assert_eq!(viewer.hears(0).await, r#"{"type":"stream","state":"offline"}"#);
    let _source = node.publish("cam");
    assert_eq!(viewer.hears(0).await, r#"{"type":"stream","state":"online"}"#);
}

#[tokio::test]
async fn each_viewer_counts_as_one_reader_of_the_stream() {
    let node = Node::new();
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peers = Vec::new();
    for count in 1..=3 {
        let mut peer = Peer::new().await;
        let (location, _) = node.open(&mut peer, "/cam/whep").await;
        peers.push(location);
        node.until("so many readers", |_| node.hub.list()[0].readers == count).await;
    }
    let leave = http::Request::delete(&peers[0]).body(axum::body::Body::empty()).unwrap();
    assert_eq!(node.request(leave).await.status(), 200);
    node.until("two readers", |_| node.hub.list()[0].readers == 2).await;
}

#[tokio::test]
async fn without_a_node_behind_it_messages_are_refused() {
    let node = Node::new();
    let _source = node.publish("cam");
    let mut viewer = Asker::viewer(&node).await;
    viewer.open(0);
    assert!(viewer.ask(0, "hello").await.contains("unsupported"));
}

#[tokio::test]
async fn a_handler_that_gives_way_or_says_nothing_leaves_room_for_the_next() {
    let node = Node::new();
    node.server.answer_messages(Arc::new(Echo));
    let _source = node.publish("cam");
    let mut viewer = Asker::viewer(&node).await;
    viewer.open(0);
    for round in 0..6 {
        for text in ["panic", "say nothing"] {
            viewer.caller.say(Instant::now(), 0, text);
        }
        assert_eq!(viewer.ask(0, "x").await, "cam viewer true x", "{round}");
    }
    assert_eq!(node.server.sessions().await.len(), 1);
}

#[tokio::test]
async fn a_viewer_steers_with_the_credentials_of_a_publisher_of_the_source() {
    let readers = Arc::new(Readers::default());
    let node = Node::allowing(readers.clone());
    node.server.answer_messages(Arc::new(Echo));
    let _source = node.publish("cam-out");
    for (query, wanted) in [("", "false"), ("?token=wrong", "false"), ("?token=secret", "true")] {
        let mut peer = Peer::new().await;
        node.open(&mut peer, &format!("/cam-out/whep{query}")).await;
        let mut viewer = Asker::new(peer).await;
        viewer.open(0);
        let answer = viewer.ask(0, "x").await;
        assert_eq!(answer, format!("cam-out viewer {wanted} x"), "{query}");
    }
    let before = readers.0.load(Ordering::Relaxed);
    let offer = Peer::new().await.offer("recvonly");
    let media_only = offer.split("m=application").next().unwrap().to_owned();
    node.post("/cam-out/whep", media_only).await;
    assert_eq!(readers.0.load(Ordering::Relaxed), before + 1, "asked once without a channel");
}

#[tokio::test]
async fn junk_through_dtls_disturbs_no_media() {
    let node = Node::new();
    node.server.answer_messages(Arc::new(Echo));
    let mut source = node.publish("cam");
    source.picture(true, 500);
    let mut peer = Peer::new().await;
    node.open(&mut peer, "/cam/whep").await;
    peer.connect().await;
    let mut chance = StdRng::seed_from_u64(11);
    for _ in 0..600 {
        let junk: Vec<u8> = (0..chance.random_range(0..1100)).map(|_| chance.random()).collect();
        peer.send_data(&junk).await;
    }
    let mut asker = Asker { peer, caller: Caller::new(Instant::now()) };
    asker.run(|caller| caller.is_connected()).await;
    asker.open(0);
    assert_eq!(asker.ask(0, "still").await, "cam viewer true still");
    // A broken form of what is said ends the association at the most.
    for _ in 0..200 {
        asker.caller.say(Instant::now(), 0, "broken");
        for datagram in asker.caller.outgoing(Instant::now()) {
            let mut datagram = datagram.to_vec();
            let at = chance.random_range(0..datagram.len());
            datagram[at] ^= 1 << chance.random_range(0..8);
            asker.peer.send_data(&datagram).await;
        }
    }
    while asker.peer.receive(Duration::from_millis(50)).await.is_some() {}
    source.picture(true, 500);
    assert!(asker.peer.rtp(96, PATIENCE).await.is_some(), "pictures go on");
    assert_eq!(node.server.counters().sessions_panicked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_session_without_a_channel_in_its_offer_hears_none() {
    let node = Node::new();
    node.server.answer_messages(Arc::new(Echo));
    let _source = node.publish("cam");
    let mut peer = Peer::new().await;
    let offer = peer.offer("recvonly");
    let media_only = offer.split("m=application").next().unwrap().to_owned();
    let response = node.post("/cam/whep", media_only).await;
    assert_eq!(response.status(), http::StatusCode::CREATED);
    peer.answered(crate::harness::text(response).await);
    assert!(!peer.answer.contains("m=application"));
    peer.connect().await;
    let mut caller = Caller::new(Instant::now());
    for datagram in caller.outgoing(Instant::now()) {
        peer.send_data(&datagram).await;
    }
    assert!(peer.data(SILENCE).await.is_empty());
}
