//! A session that gives way ends alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use http::Request;
use tokio::sync::oneshot;
use tower::ServiceExt;

use super::Command;
use crate::auth;
use crate::hub::{self, Hub};
use crate::webrtc::{Config, HubViews, Server};

fn offer() -> String {
    let print = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {print}\r\na=setup:actpass\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\n"
    )
}

#[tokio::test]
async fn a_session_that_panics_ends_alone_and_frees_its_name() {
    let hub = Hub::new(hub::Limits::default());
    let views = Arc::new(HubViews::new(hub.clone()));
    let config = Config { udp: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
    let server = Server::start(config, hub.clone(), Arc::new(auth::Open), views).unwrap();
    for name in ["one", "two"] {
        let request = Request::post(format!("/{name}/whip"));
        let request = request.header("content-type", "application/sdp").body(Body::from(offer()));
        let response = server.router().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 201);
    }
    let sessions = server.sessions().await;
    let broken = sessions.iter().find(|session| session.stream.as_str() == "one").unwrap();
    let (reply, done) = oneshot::channel();
    let command = Command::Break { id: broken.id.clone(), reply };
    assert!(server.shared.workers.send(0, command).await.is_ok());
    done.await.unwrap();
    let left = server.sessions().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].stream.as_str(), "two");
    assert_eq!(hub.list().len(), 1, "the name is free");
    assert_eq!(server.counters().sessions_panicked.load(Ordering::Relaxed), 1);
    server.run(std::future::ready(())).await;
}
