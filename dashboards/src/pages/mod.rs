//! The web pages: for viewers and publishers ([`edge`]) and for the operator ([`console`]).
//!
//! Pages are fixed files without a build step; what changes they fetch as JSON from the node. So a
//! page holds no outside text, and its content security policy allows no script but ours. Stream
//! names may hold slashes: a path is a page's by its ending, see [`Page::of`].

mod assets;
mod path;
mod policy;
mod qr;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Serialize;

use assets::Asset;
pub use path::{Page, RESERVED};
use policy::Policy;

/// What the pages for viewers and publishers say about the node, as `/assets/node.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeFacts {
    /// The version.
    pub version: &'static str,
    /// The TCP port that takes RTMP, if any does.
    pub rtmp_port: Option<u16>,
    /// The UDP port that takes SRT.
    pub srt_port: Option<u16>,
    /// The TCP port that takes RTSP.
    pub rtsp_port: Option<u16>,
    /// Whether streams are served as HLS.
    pub hls: bool,
    /// Whether publishers need a password.
    pub publish_needs_password: bool,
    /// Whether viewers need a password.
    pub read_needs_password: bool,
}

/// Pages for viewers and publishers. What is not a page, `rest` answers: WHIP, WHEP and the like.
///
/// Own routes are `/`, `/favicon.ico`, `/assets/…` and every path that [`Page::of`] knows. Routes
/// below `/assets/` may be merged in, such as `/assets/streams.json`.
pub fn edge(facts: &NodeFacts, rest: Router) -> Router {
    let facts = serde_json::to_string(facts).unwrap_or_default();
    let node = get(async move || {
        let kind =
            [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        (kind, facts)
    });
    shared()
        .route(
            "/",
            get(async |headers: HeaderMap| page(&assets::LANDING, Policy::Landing, &headers)),
        )
        .route("/assets/node.json", node)
        .route("/assets/qr.svg", get(qr::serve))
        .fallback_service(rest.layer(middleware::from_fn(stream_pages)))
}

/// The operator's console: `/`, `/favicon.ico` and `/assets/…`.
pub fn console() -> Router {
    let console = async |headers: HeaderMap| page(&assets::CONSOLE, Policy::Console, &headers);
    shared().route("/", get(console))
}

fn shared() -> Router {
    let icon = async |headers: HeaderMap| file(&assets::ICON, &headers);
    Router::new().route("/assets/{*path}", get(asset)).route("/favicon.ico", get(icon))
}

/// Answers the pages of streams and passes everything else on.
async fn stream_pages(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let headers = request.headers();
    match Page::of(request.uri().path()) {
        Some(Page::Player) => page(&assets::PLAYER, Policy::Player, headers),
        Some(Page::Publish) => page(&assets::PUBLISH, Policy::Publish, headers),
        Some(Page::Moved(to)) => {
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            Redirect::permanent(&format!("{to}{query}")).into_response()
        }
        None => next.run(request).await,
    }
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    match assets::find(&path) {
        Some(asset) => file(asset, &headers),
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}

fn page(asset: &Asset, policy: Policy, request: &HeaderMap) -> Response {
    let mut response = asset.respond(request);
    policy.apply(response.headers_mut());
    response
}

/// A file that pages of any origin may use.
fn file(asset: &Asset, request: &HeaderMap) -> Response {
    let mut response = asset.respond(request);
    policy::open(response.headers_mut());
    response
}

#[cfg(test)]
mod tests;
