//! The live routes of the existing node on the listener for viewers: change a running stream's
//! graph, and see how it goes.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use ingest::StreamName;
use ingest::auth::{Action, Request, SharedAccess};
use serde_json::json;
use tower_http::cors::{Any, CorsLayer};

use crate::access::from_header;
use crate::api;
use crate::status::Parts;

/// The longest body of a request in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
struct Face {
    parts: Parts,
    access: SharedAccess,
}

/// The routes. Whoever may publish a stream may change its graph.
pub fn router(parts: Parts, access: SharedAccess) -> Router {
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any);
    Router::new()
        .route("/live/video-to-video/{stream}/update", post(update))
        .route("/live/video-to-video/{stream}/status", get(status))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(cors)
        .with_state(Face { parts, access })
}

/// `POST .../update` with `{"prompt": {...}}` or the graph itself; answers as
/// [`api::update`] does.
async fn update(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(stream): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(name) = StreamName::parse(&stream) else {
        return problem(StatusCode::NOT_FOUND, "Malformed stream ID");
    };
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (mut user, mut password, mut token) = from_header(header.unwrap_or_default());
    let query = query.unwrap_or_default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "user" => user = value.into_owned(),
            "pass" => password = value.into_owned(),
            "token" => token = value.into_owned(),
            _ => {}
        }
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let request = Request {
        action: Action::Publish,
        name: name.clone(),
        protocol: "http",
        id: format!("{:016x}", rand::random::<u64>()),
        ip: peer.ip().to_canonical(),
        user,
        password,
        token,
        query,
        user_agent: agent.unwrap_or_default().chars().take(256).collect(),
    };
    if let Err(refusal) = face.access.check(request).await {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"millstream\"")];
        return match refusal.ask_credentials {
            true => (StatusCode::UNAUTHORIZED, challenge, "not allowed\n").into_response(),
            false => problem(StatusCode::FORBIDDEN, "not allowed"),
        };
    }
    let document = match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(document) => document,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let prompt = document.get("prompt").cloned().unwrap_or(document);
    api::update(&face.parts, &name, prompt).await
}

/// `GET .../status`: the stream as the landing page shows it, with its processing.
async fn status(State(face): State<Face>, Path(stream): Path<String>) -> Response {
    let name = StreamName::parse(&stream).ok();
    let view = name.and_then(|name| face.parts.edge_stream(&name));
    match view {
        Some(view) => Json(view).into_response(),
        None => problem(StatusCode::NOT_FOUND, "Stream not found"),
    }
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": { "message": text } }))).into_response()
}
