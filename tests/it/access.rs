//! Who may publish and watch, and what HTTP answers to those who may not.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::programs::ffmpeg;
use crate::push::{LIVE, Push};
use crate::soak;

/// An offer as a browser makes it, without media lines that anybody would take.
const EMPTY_OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

async fn status(node: &Running, method: Method, path: &str, token: &str, body: &str) -> StatusCode {
    let mut request = node.client.request(method, node.http(path));
    if !body.is_empty() {
        request = request.header("content-type", "application/sdp").body(body.to_owned());
    }
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn whip_and_whep_answer_as_their_rfcs_say() {
    let node = Running::start(|_| {}).await;
    let answer = node.client.request(Method::OPTIONS, node.http("cam/whip")).send().await.unwrap();
    assert!(answer.status().is_success());
    assert_eq!(answer.headers()["accept-post"], "application/sdp");
    for (method, path, body, wanted) in [
        (Method::GET, "cam/whep", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "cam/whip", "no offer", StatusCode::BAD_REQUEST),
        (Method::POST, "nobody/whep", EMPTY_OFFER, StatusCode::NOT_FOUND),
        (Method::DELETE, "cam/whip/00000000000000000000000000000000", "", StatusCode::NOT_FOUND),
        (Method::POST, "cam-out/whip", EMPTY_OFFER, StatusCode::BAD_REQUEST),
        (Method::POST, "v1/cam/whip", EMPTY_OFFER, StatusCode::BAD_REQUEST),
        (Method::POST, "a//b/whip", EMPTY_OFFER, StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(status(&node, method.clone(), path, "", body).await, wanted, "{method} {path}");
    }
    let plain = node.client.post(node.http("cam/whip")).body("v=0").send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    // The operator's routes are not on the listener for people.
    for path in ["v1/status", "object_info", "metrics", "console"] {
        let answer = node.client.get(node.http(path)).send().await.unwrap();
        assert!(answer.status() != StatusCode::OK, "{path} answers on 8889");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_no_more_readers_than_it_may_whatever_they_speak() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let few = millstream::config::Stream { readers_max: Some(1), ..Default::default() };
        settings.streams.insert("cam".into(), few);
    })
    .await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam", 5).await;
    let readers = |status: &Value, count: u64| {
        find(status, "cam").is_some_and(|stream| stream["readers"].as_u64() == Some(count))
    };
    let mut viewer = tokio::process::Command::new(ffmpeg());
    viewer.args(["-v", "error", "-nostdin", "-i", &node.rtmp("cam"), "-f", "null", "-"]);
    let mut viewer = viewer.kill_on_drop(true).spawn().unwrap();
    node.until("a viewer by RTMP", |status| readers(status, 1)).await;
    let by_hls = || status(&node, Method::GET, "cam/index.m3u8", "", "");
    assert_eq!(by_hls().await, StatusCode::FORBIDDEN);
    let by_whep = status(&node, Method::POST, "cam/whep", "", soak::OFFER).await;
    assert_eq!(by_whep, StatusCode::FORBIDDEN);
    viewer.kill().await.unwrap();
    node.until("room", |status| readers(status, 0)).await;
    assert_eq!(by_hls().await, StatusCode::OK);
    push.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_answers_on_the_same_port() {
    let node = Running::start(|_| {}).await;
    let client = millstream::peer_http_client().unwrap();
    let url = node.http("assets/streams.json").replace("http://", "https://");
    let streams: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(streams, serde_json::json!([]));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_needs_the_password_by_rtmp_and_whip() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.auth.publish_user = "ann".into();
        settings.auth.publish_password = "secret".into();
    })
    .await;
    for wrong in ["", "?user=ann&pass=wrong", "?user=bob&pass=secret"] {
        let mut push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp(&format!("cam{wrong}")));
        assert!(!push.until_ended().await, "{wrong:?} was let in");
    }
    let right = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam?user=ann&pass=secret"));
    let status_now = node.until_pictures("cam-out", 3).await;
    assert!(find(&status_now, "cam").is_some(), "the name is without the credentials");
    right.finish().await;
    node.until_idle().await;

    let post = |token| status(&node, Method::POST, "cam/whip", token, EMPTY_OFFER);
    assert_eq!(post("").await, StatusCode::UNAUTHORIZED);
    assert_eq!(post("wrong").await, StatusCode::UNAUTHORIZED);
    // The right one is let in, and only then its empty offer refused.
    assert_eq!(post("ann:secret").await, StatusCode::NOT_ACCEPTABLE);
    let refused = Push::whip(Card::SMALL, "", &node.http("cam/whip"));
    let mut refused = refused;
    assert!(!refused.until_ended().await);
    let push = Push::whip(Card::SMALL, "-authorization ann:secret", &node.http("cam/whip"));
    node.until_pictures("cam-out", 3).await;
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_names_and_names_of_processed_streams_are_refused_by_rtmp() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    for name in ["cam-out", "v1/cam", "metrics", "assets/x"] {
        let mut push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp(name));
        assert!(!push.until_ended().await, "{name} was let in");
    }
    node.until_idle().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_is_refused_and_the_first_goes_on() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let mut first = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 3).await;
    let mut second = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    assert!(!second.until_ended().await, "the second publisher was let in");
    let mut third = Push::whip(Card::SMALL, "", &node.http("cam/whip"));
    assert!(!third.until_ended().await, "the third publisher was let in");
    let now = node.status().await;
    let frames = find(&now, "cam-out").unwrap()["frames"].as_u64().unwrap();
    node.until_pictures("cam-out", frames + 10).await;
    assert_eq!(first.ended(), None);
    first.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_takes_over_where_the_settings_say_so() {
    let _alone = alone().await;
    let node = Running::start(|settings| settings.rtmp.take_over = true).await;
    let mut first = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 3).await;
    let of = |status: &Value| find(status, "cam").map(|view| view["since_ms"].clone());
    let before = of(&node.status().await);
    let second = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    first.until_ended().await;
    node.until("the second publisher", |status| {
        let found = of(status);
        found.is_some() && found != before
    })
    .await;
    node.until_pictures("cam-out", 10).await;
    second.finish().await;
    node.until_idle().await;
    node.stop().await;
}

/// The certificate that the node shows on its HTTPS port.
async fn shown(node: &Running) -> Vec<u8> {
    let config = trickle::Trust::Anyone.client_config(&[b"http/1.1"]).unwrap();
    let address = node.node.addresses().http.unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::from(address.ip());
    let stream = connector.connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_while_the_node_runs() {
    let mut data = std::path::PathBuf::new();
    let node = Running::start(|settings| data.clone_from(&settings.data_dir)).await;
    let first = shown(&node).await;
    let made = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    std::fs::write(data.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(data.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let end = std::time::Instant::now() + crate::programs::PATIENCE;
    loop {
        let now = shown(&node).await;
        if now != first {
            assert_eq!(now, made.cert.der().to_vec());
            break;
        }
        assert!(std::time::Instant::now() < end, "the old certificate stays");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_taken_back_lets_nobody_in_from_then_on_and_whoever_is_in_stays() {
    let _alone = alone().await;
    let node = Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        settings.auth.publish_password = "secret".into();
        settings.auth.read_password = "hidden".into();
        settings.auth.failure_delay_ms_max = 0;
    })
    .await;
    let wish = json!({
        "permissions": [{ "action": "publish" }, { "action": "read" }], "seconds": 600,
    });
    let tokens = node.admin("v1/tokens");
    let made = node.client.post(&tokens).json(&wish).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let mut publisher = Push::rtmp(Card::SMALL, LIVE, &node.rtmp(&format!("cam?pass={token}")));
    node.until_pictures("cam", 30).await;
    let get = async |path: &str| node.client.get(node.http(path)).send().await.unwrap();
    let index = format!("cam/index.m3u8?token={token}");
    let list = get(&index).await.text().await.unwrap();
    let media = list.lines().find(|line| !line.starts_with('#')).unwrap();
    let media = format!("cam/{media}");
    assert_eq!(get(&media).await.status(), StatusCode::OK);
    let offer = || status(&node, Method::POST, "cam/whep", token, EMPTY_OFFER);
    // Let in; what is wrong then is only that the offer is empty.
    assert_ne!(offer().await, StatusCode::UNAUTHORIZED);

    let gone = node.client.delete(format!("{tokens}/{id}")).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::OK);
    let since = Instant::now();
    assert_eq!(get(&index).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(offer().await, StatusCode::UNAUTHORIZED);
    assert!(since.elapsed() < Duration::from_secs(1), "refused after {:?}", since.elapsed());
    let rtsp = node.rtsp("rtsp").replace("://", &format!("://any:{token}@"));
    for mut refused in [
        Push::rtmp(Card::SMALL, LIVE, &node.rtmp(&format!("rtmp?pass={token}"))),
        Push::srt(Card::SMALL, LIVE, &node.srt(&format!("publish:srt:any:{token}"))),
        Push::rtsp(Card::SMALL, LIVE, "tcp", &rtsp),
    ] {
        assert!(!refused.until_ended().await, "somebody was let in with a token taken back");
    }

    // Sessions that began go on, until somebody ends them.
    let frames = |status: &Value| find(status, "cam").and_then(|cam| cam["frames"].as_u64());
    let before = frames(&node.status().await).expect("the stream goes on");
    node.until_pictures("cam", before + 30).await;
    assert_eq!(publisher.ended(), None);
    assert_eq!(get(&media).await.status(), StatusCode::OK);
    publisher.finish().await;
    node.stop().await;
}
