//! The operator's face on 9997: the API of this node (`/v1`) and the console; and 9998: metrics
//! and health. Neither is ever reachable through the listener for viewers.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::access::{self, Asked, NodeAccess};
use crate::api;
use crate::config::{self, Right};
use crate::status::Parts;

/// The longest body of a request in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The routes on 9997.
pub fn router(parts: Parts, settings: &config::Admin) -> Router {
    let guard_of = Guard { token: settings.token.clone(), access: parts.access.clone() };
    Router::new()
        .merge(api::router())
        .with_state(parts)
        .merge(dashboards::pages::console())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(move |request, next| guard(guard_of.clone(), request, next)))
}

/// The routes on 9998. Ready until `stop`.
pub fn metrics_router(parts: Parts, stop: CancellationToken) -> Router {
    let access = parts.access.clone();
    let metrics = get(metrics).layer(middleware::from_fn(move |request, next| {
        guard_metrics(access.clone(), request, next)
    }));
    let ready = move || async move {
        match stop.is_cancelled() {
            false => (StatusCode::OK, "ready\n"),
            true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        }
    };
    Router::new()
        .route("/metrics", metrics)
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(parts)
}

/// Who may use console and API.
#[derive(Clone)]
struct Guard {
    token: String,
    access: NodeAccess,
}

/// Lets in who may: with the token, or as a user who may use the API; where neither is set, who is
/// on this machine and was not sent by a foreign page.
async fn guard(guard: Guard, request: Request, next: Next) -> Response {
    let refused = match refusal(&guard, request.headers(), request.extensions()).await {
        None => return next.run(request).await,
        Some(refused) => refused,
    };
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"millstream\"")];
    if request.uri().path().starts_with("/v3/") {
        let body = json!({ "status": "error", "error": "authentication error" });
        return (StatusCode::UNAUTHORIZED, challenge, Json(body)).into_response();
    }
    info!(reason = refused, "not let in to the API");
    (StatusCode::UNAUTHORIZED, challenge, "not allowed\n").into_response()
}

/// Why somebody may not use the API.
async fn refusal(guard: &Guard, headers: &HeaderMap, facts: &Extensions) -> Option<String> {
    let peer = facts.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    let Some(peer) = peer else { return Some("the peer is not known".into()) };
    if guard.token.is_empty() && !guard.access.guards(Right::Api) {
        let own = peer.is_loopback() && own_host(headers);
        return (!own).then(|| "only this machine may".into());
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (user, password, token) = access::from_header(given.unwrap_or_default());
    let same = |text: &str| bool::from(text.as_bytes().ct_eq(guard.token.as_bytes()));
    if !guard.token.is_empty() && (same(&password) || same(&token)) {
        return None;
    }
    let asked = Asked {
        right: Right::Api,
        stream: "",
        ip: peer,
        user: &user,
        password: &password,
        token: &token,
        query: "",
    };
    guard.access.allow(&asked).await.err().map(|refusal| refusal.reason)
}

/// Where users of the settings may read the metrics, nobody else may.
async fn guard_metrics(access: NodeAccess, request: Request, next: Next) -> Response {
    if !access.guards(Right::Metrics) {
        return next.run(request).await;
    }
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (user, password, token) = access::from_header(given.unwrap_or_default());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let asked = Asked {
        right: Right::Metrics,
        stream: "",
        ip: peer.unwrap_or_else(|| std::net::Ipv4Addr::UNSPECIFIED.into()),
        user: &user,
        password: &password,
        token: &token,
        query: "",
    };
    match access.allow(&asked).await {
        Ok(()) => next.run(request).await,
        Err(_) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"millstream\"")];
            (StatusCode::UNAUTHORIZED, challenge, "not allowed\n").into_response()
        }
    }
}

/// Whether the request names this machine: a page of another site that found a way to loopback
/// by a name of its own (DNS rebinding) does not.
fn own_host(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(_) => name,
        Err(_) => host,
    });
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let own = name == "localhost" || address.is_ok();
    let same_origin = text(header::ORIGIN)
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, rest)| rest == host));
    own && same_origin
}

async fn metrics(State(parts): State<Parts>) -> Response {
    let kind = [(header::CONTENT_TYPE, dashboards::metrics::CONTENT_TYPE)];
    (kind, parts.exposition().await.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_without_a_token() {
        let check = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            own_host(&headers)
        };
        assert!(check("localhost:9997", None));
        assert!(check("127.0.0.1:9997", Some("http://127.0.0.1:9997")));
        assert!(check("[::1]:9997", None));
        assert!(!check("evil.example:9997", None));
        assert!(!check("127.0.0.1:9997", Some("http://evil.example")));
    }
}
