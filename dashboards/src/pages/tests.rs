//! What a browser gets: pages, files, headers, and what is passed on.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::routing::any;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

fn rest() -> Router {
    Router::new()
        .route("/live/video-to-video/{stream}/update", any(async || "live"))
        .fallback(async |request: Request| format!("rest {}", request.uri().path()))
}

fn pages() -> Router {
    let facts = NodeFacts {
        version: "1.2.3",
        rtmp_port: Some(1935),
        srt_port: Some(8890),
        ..NodeFacts::default()
    };
    let streams = Router::new().route("/assets/streams.json", get(async || "[]"));
    edge(&facts, rest()).merge(streams)
}

async fn ask(router: Router, method: &str, path: &str, tag: Option<&HeaderValue>) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(tag) = tag {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn policy(response: &Response) -> &str {
    response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap()
}

#[tokio::test]
async fn each_page_is_itself_and_may_run_only_our_scripts() {
    for (path, mark, ancestors) in [
        ("/", "landing.js", "frame-ancestors 'self'"),
        ("/cam/", "player.js", "frame-ancestors *"),
        ("/a/b/cam-out/?muted=0", "player.js", "frame-ancestors *"),
        ("/a/cam/publish", "publish.js", "frame-ancestors 'self'"),
    ] {
        let response = ask(pages(), "GET", path, None).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(policy(&response).contains("default-src 'self'; script-src 'self';"), "{path}");
        assert!(policy(&response).ends_with(ancestors), "{path}");
        assert!(!policy(&response).contains("unsafe"), "{path}");
        let headers = response.headers();
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(text(response).await.contains(mark), "{path}");
    }
}

#[tokio::test]
async fn what_is_no_page_is_passed_on() {
    for (method, path) in [
        ("POST", "/cam/whep"),
        ("DELETE", "/cam/whep/secret"),
        ("GET", "/cam/whip"),
        ("POST", "/cam/"),
        ("OPTIONS", "/cam"),
        ("GET", "/v1/status"),
        ("GET", "//evil.example/"),
    ] {
        let response = ask(pages(), method, path, None).await;
        assert_eq!(text(response).await, format!("rest {path}"), "{method} {path}");
    }
    let live = ask(pages(), "POST", "/live/video-to-video/cam/update", None).await;
    assert_eq!(text(live).await, "live");
    assert_eq!(text(ask(pages(), "GET", "/assets/streams.json", None).await).await, "[]");
}

#[tokio::test]
async fn a_stream_without_a_slash_at_its_end_is_sent_to_its_page() {
    for (path, to) in [
        ("/cam", "cam/"),
        ("/a/cam?muted=1&user=x", "cam/?muted=1&user=x"),
        ("/cam/publish/", "../publish"),
    ] {
        let response = ask(pages(), "GET", path, None).await;
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT, "{path}");
        assert_eq!(response.headers()[header::LOCATION], to, "{path}");
    }
}

#[tokio::test]
async fn files_are_for_every_origin_and_sent_once() {
    let first = ask(pages(), "GET", "/assets/millstream.js", None).await;
    assert_eq!(first.status(), StatusCode::OK);
    let headers = first.headers();
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
    assert_eq!(headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let tag = headers[header::ETAG].clone();
    let again = ask(pages(), "GET", "/assets/millstream.js", Some(&tag)).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(again.headers()[header::ETAG], tag);
    assert_eq!(text(again).await, "");
    let other = HeaderValue::from_static("\"0\", W/\"1\"");
    let changed = ask(pages(), "GET", "/assets/millstream.js", Some(&other)).await;
    assert_eq!(changed.status(), StatusCode::OK);
    let page = ask(pages(), "GET", "/cam/", None).await.headers()[header::ETAG].clone();
    let page = ask(pages(), "GET", "/cam/", Some(&page)).await;
    assert_eq!(page.status(), StatusCode::NOT_MODIFIED);
    assert!(page.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    let none = ask(pages(), "GET", "/assets/../Cargo.toml", None).await;
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
    let icon = ask(pages(), "GET", "/favicon.ico", None).await;
    assert_eq!(icon.headers()[header::CONTENT_TYPE], "image/svg+xml");
}

#[tokio::test]
async fn the_console_can_not_be_embedded() {
    let response = ask(console(), "GET", "/", None).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(policy(&response).ends_with("frame-ancestors 'none'"));
    assert_eq!(response.headers()[header::X_FRAME_OPTIONS], "DENY");
    assert!(text(response).await.contains("console.js"));
    let module = ask(console(), "GET", "/assets/console.js", None).await;
    assert_eq!(module.status(), StatusCode::OK);
    let player = ask(console(), "GET", "/cam/", None).await;
    assert_eq!(player.status(), StatusCode::NOT_FOUND, "streams are not watched at the console");
}

#[tokio::test]
async fn the_pages_learn_about_the_node() {
    let response = ask(pages(), "GET", "/assets/node.json", None).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let facts: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(facts["version"], "1.2.3");
    assert_eq!(facts["rtmp_port"], 1935);
    assert_eq!(facts["srt_port"], 8890);
    assert!(facts["rtsp_port"].is_null());
    assert_eq!(facts["publish_needs_password"], false);
}

#[tokio::test]
async fn an_address_becomes_a_qr_code() {
    let good = "/assets/qr.svg?address=http%3A%2F%2F192.0.2.7%3A8889%2Fcam%2F";
    let response = ask(pages(), "GET", good, None).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "image/svg+xml");
    assert!(text(response).await.contains("<svg"));
    let long = format!("/assets/qr.svg?address=http://{}", "x".repeat(300));
    for bad in ["/assets/qr.svg", "/assets/qr.svg?address=javascript:1", &long] {
        let response = ask(pages(), "GET", bad, None).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}
