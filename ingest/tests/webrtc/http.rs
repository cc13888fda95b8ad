//! The routes by RFC 9725: what is answered with which status and headers.

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode};
use ingest::auth::{Access, Grant, Refusal};
use ingest::hub::{self, Hub};
use ingest::webrtc::{Config, HubViews, IceServer, Login, Server};
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Node, text};
use crate::peer::{PATIENCE, Peer};

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn an_offer_is_answered_with_a_session_url_that_can_be_deleted_once() {
    let node = Node::new();
    let _source = node.publish("studio/cam");
    let peer = Peer::new().await;
    let response = node.post("/studio/cam/whep", peer.offer("recvonly")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/sdp");
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(headers["access-control-expose-headers"].to_str().unwrap().contains("Location"));
    assert!(headers["etag"].to_str().unwrap().starts_with('"'));
    let location = headers["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with("/studio/cam/whep/"), "{location}");
    let answer = text(response).await;
    assert!(answer.contains("m=application 9 "), "{answer}");

    let wrong_role = location.replace("whep", "whip");
    let status = |r: http::Response<Body>| r.status();
    assert_eq!(status(node.request(request("DELETE", &wrong_role, &[], "")).await), 404);
    assert_eq!(status(node.request(request("DELETE", &location, &[], "")).await), 200);
    assert_eq!(status(node.request(request("DELETE", &location, &[], "")).await), 404);
    assert!(node.server.sessions().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_its_status() {
    let node = Node::new();
    let _source = node.publish("cam");
    let offer = Peer::new().await.offer("recvonly");
    let sdp = ("content-type", "application/sdp");
    let check = async |method: &str, path: &str, headers: &[(&str, &str)], body: &str, wanted| {
        let response = node.request(request(method, path, headers, body)).await;
        let status = response.status();
        assert_eq!(status, wanted, "{method} {path}: {}", text(response).await);
    };
    check("POST", "/cam/whep", &[("content-type", "text/plain")], &offer, 415).await;
    check("POST", "/cam/whep", &[], &offer, 415).await;
    check("POST", "/cam/whep", &[sdp], "hello", 400).await;
    check("POST", "/cam/whep", &[sdp], "v=0\r\n", 406).await;
    check("POST", "/cam/whep", &[sdp], &"a=x\n".repeat(20_000), 413).await;
    check("POST", "/cam/whep", &[sdp], &offer.replace("H264", "VP8").replace("opus", "x"), 406)
        .await;
    check("POST", "/other/whep", &[sdp], &offer, 404).await;
    check("POST", "/c%20m/whep", &[sdp], &offer, 400).await;
    check("POST", "/v3/whep", &[sdp], &offer, 400).await;
    check("POST", "/cam-out/whip", &[sdp], &offer.replace("recvonly", "sendonly"), 400).await;
    check("POST", "/cam/whip", &[sdp], &offer.replace("recvonly", "sendonly"), 409).await;
    check("GET", "/cam/whep", &[], "", 405).await;
    check("PUT", "/cam/whip", &[], "", 405).await;
    check("POST", "/cam/whep/secret", &[sdp], &offer, 405).await;
    check("DELETE", "/cam/whep/secret", &[], "", 404).await;
    check("GET", "/cam", &[], "", 404).await;
    assert!(node.server.sessions().await.is_empty());
}

#[tokio::test]
async fn a_preflight_says_what_is_allowed() {
    let config = Config {
        ice_servers: vec![IceServer { url: "stun:stun.example.org".into(), login: Login::Open }],
        origins: vec!["https://a.example".into()],
        ..Config::default()
    };
    let node = Node::with(config);
    let ask = |origin: &'static str| request("OPTIONS", "/cam/whip", &[("origin", origin)], "");
    let response = node.request(ask("https://a.example")).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], "https://a.example");
    assert_eq!(headers["accept-post"], "application/sdp");
    assert_eq!(headers["link"], "<stun:stun.example.org>; rel=\"ice-server\"");
    let methods = headers["access-control-allow-methods"].to_str().unwrap();
    for method in [Method::POST, Method::PATCH, Method::DELETE] {
        assert!(methods.contains(method.as_str()));
    }
    let response = node.request(ask("https://b.example")).await;
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_fragment_needs_the_tag_of_the_session() {
    let node = Node::new();
    let _source = node.publish("cam");
    let mut peer = Peer::new().await;
    let (location, etag) = node.open(&mut peer, "/cam/whep").await;
    let kind = ("content-type", "application/trickle-ice-sdpfrag");
    let (ufrag, password) = (peer.ufrag.clone(), peer.password.clone());
    let fragment = format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:v\r\n\
         a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n"
    );
    let patch = async |headers: &[(&str, &str)], body: &str| {
        node.request(request("PATCH", &location, headers, body)).await.status()
    };
    assert_eq!(patch(&[kind], &fragment).await, 428);
    assert_eq!(patch(&[kind, ("if-match", "\"other\"")], &fragment).await, 412);
    assert_eq!(patch(&[("if-match", &etag)], &fragment).await, 415);
    assert_eq!(patch(&[kind, ("if-match", &etag)], &fragment).await, 204);
    assert_eq!(patch(&[kind, ("if-match", &etag)], "junk").await, 400);
    let half = fragment.replace(&ufrag, "newname").replace("a=ice-pwd", "a=x");
    assert_eq!(patch(&[kind, ("if-match", "*")], &half).await, 400);
}

/// Lets `me` in with `secret`, and says to others whether credentials would help.
pub(crate) struct Refuses(pub(crate) bool);

impl Access for Refuses {
    fn check(&self, request: ingest::auth::Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        let allowed = request.user == "me" && request.password == "secret";
        let refusal = Refusal { reason: "no".into(), ask_credentials: self.0 };
        Box::pin(std::future::ready(if allowed { Ok(Grant::of(&request)) } else { Err(refusal) }))
    }
}

#[tokio::test]
async fn whoever_may_not_publish_holds_no_name() {
    for (ask, wanted) in [(true, 401), (false, 403)] {
        let hub = Hub::new(hub::Limits::default());
        let views = Arc::new(HubViews::new(hub.clone()).waiting(Duration::ZERO));
        let config = Config { udp: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        let server = Server::start(config, hub.clone(), Arc::new(Refuses(ask)), views).unwrap();
        let node = Node { hub, server };
        let offer = Peer::new().await.offer("sendonly");
        let sdp = ("content-type", "application/sdp");
        let response = node.request(request("POST", "/cam/whip", &[sdp], &offer)).await;
        assert_eq!(response.status(), wanted);
        assert_eq!(response.headers().contains_key("www-authenticate"), ask);
        assert!(node.hub.list().is_empty());
        let allowed = [sdp, ("authorization", "Bearer me:secret")];
        let response = node.request(request("POST", "/cam/whip", &allowed, &offer)).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let url = "/dog/whip?user=me&pass=secret";
        let response = node.request(request("POST", url, &[sdp], &offer)).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert!(response.headers()["location"].to_str().unwrap().starts_with("/dog/whip/"));
    }
}

#[tokio::test]
async fn each_limit_is_named_and_says_when_to_come_again() {
    let limits = [
        (Config { sessions_max: 1, ..Config::default() }, 503, "limit"),
        (Config { sessions_per_ip_max: 1, ..Config::default() }, 429, "address"),
    ];
    for (config, status, word) in limits {
        let node = Node::with(config);
        let _source = node.publish("cam");
        let mut viewer = Peer::new().await;
        node.open(&mut viewer, "/cam/whep").await;
        viewer.connect().await;
        node.until_connected().await;
        let response = node.post("/cam/whep", Peer::new().await.offer("recvonly")).await;
        assert_eq!(response.status(), status);
        assert!(response.headers().contains_key("retry-after"));
        assert!(text(response).await.contains(word), "{word}");
    }
}

#[tokio::test]
async fn a_session_whose_peer_does_not_come_gives_way_to_the_next() {
    let node = Node::with(Config { handshakes_max: 1, ..Config::default() });
    let mut source = node.publish("cam");
    source.picture(true, 500);
    node.open(&mut Peer::new().await, "/cam/whep").await;
    let mut viewer = Peer::new().await;
    node.open(&mut viewer, "/cam/whep").await;
    viewer.connect().await;
    assert!(viewer.rtp(96, PATIENCE).await.is_some());
    assert_eq!(node.server.sessions().await.len(), 1);
    let gave_way = &node.server.counters().gave_way;
    assert_eq!(gave_way.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_session_whose_peer_never_comes_makes_room_again() {
    let config = Config { handshake_timeout: Duration::from_millis(100), ..Config::default() };
    let node = Node::with(config);
    node.open(&mut Peer::new().await, "/cam/whip").await;
    assert_eq!(node.server.sessions().await.len(), 1);
    node.until_empty().await;
    assert!(
        node.hub
            .publish(
                ingest::StreamName::parse("cam").unwrap(),
                hub::Publisher { protocol: "test", id: String::new(), remote: String::new() },
                false
            )
            .is_ok()
    );
}
