//! The HTTP face: the start of live jobs, node classes, and the channels.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use tracing::info;

use super::{Orchestrator, StartError};
use crate::rpc::credentials::CredentialError;
use crate::rpc::live::{DOCUMENT_BYTES_MAX, START_PATH, StartRequest, TRICKLE_PATH};

/// The routes.
pub(super) fn router(orchestrator: Orchestrator) -> Router {
    let channels = orchestrator.trickle().router(TRICKLE_PATH);
    Router::new()
        .route(START_PATH, post(start))
        .route("/object_info", get(object_info))
        .route("/status", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(DOCUMENT_BYTES_MAX))
        .with_state(orchestrator)
        .merge(channels)
}

async fn start(State(node): State<Orchestrator>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let request = match serde_json::from_slice::<StartRequest>(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let (payment, segment) = (header("Livepeer-Payment"), header("Livepeer-Segment"));
    let answer = match node.check_start(payment, segment) {
        Ok(caller) => node.start(&caller, request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            info!(%error, "job refused");
            refuse(status(&error), &error.to_string())
        }
    }
}

/// The status of a refusal: peers match on it and on the text.
fn status(error: &StartError) -> StatusCode {
    match error {
        StartError::Full
        | StartError::Stopping
        | StartError::Channels(_)
        | StartError::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
        StartError::Credentials(CredentialError::PaymentEncoding) => StatusCode::PAYMENT_REQUIRED,
        StartError::Credentials(_) => StatusCode::FORBIDDEN,
        StartError::Model(_)
        | StartError::Prompt(_)
        | StartError::Unpaid
        | StartError::Payment(_)
        | StartError::FrameTerms(_) => StatusCode::BAD_REQUEST,
    }
}

/// Plain text with a newline, as peers expect errors.
fn refuse(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

async fn object_info(State(node): State<Orchestrator>) -> Json<serde_json::Value> {
    Json(node.object_info())
}
