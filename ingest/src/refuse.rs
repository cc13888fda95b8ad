//! Refusals over HTTP in words, as HLS players and publishers of segments get them.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::auth::Refusal;

/// What a client that came too early or too much is told to wait, in seconds.
const RETRY_AFTER_S: &str = "2";

/// A refusal with its reason.
pub(crate) fn refuse(status: StatusCode, text: &str) -> Box<Response> {
    let keep = [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    Box::new((status, keep, format!("{text}\n")).into_response())
}

/// There is no room now.
pub(crate) fn busy(text: &str) -> Box<Response> {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}

/// What the owner of the node does not allow. Why, is for the log.
pub(crate) fn not_allowed(refusal: &Refusal) -> Box<Response> {
    if !refusal.ask_credentials {
        return refuse(StatusCode::FORBIDDEN, "not allowed");
    }
    let mut response = refuse(StatusCode::UNAUTHORIZED, "not allowed");
    let challenge = HeaderValue::from_static("Basic realm=\"millstream\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}
