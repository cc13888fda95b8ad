//! The choice of a rendition by the viewer itself: the `layer` extension of WHEP
//! (draft-murillo-whep-00, 4.4.2), on a URL below the session's that the answer names in `Link`.
//!
//! `{"encodingId":"h"}` keeps to one of the publisher's renditions, `{}` leaves it to the way again.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::Server;
use super::http::{Problem, of_session, read, stopping};
use super::order::{Command, LayerError};
use super::workers::Gone;

/// The relation of the URL in `Link`.
pub(super) const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

const JSON: &str = "application/json";

/// What the viewer asks for. There is one video, so `mediaId` says nothing new.
#[derive(Deserialize)]
struct Wish {
    #[serde(default, rename = "encodingId")]
    encoding: Option<String>,
}

/// Takes a wish.
pub(super) async fn post(
    server: &Server,
    secret: &str,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read(&parts.headers, JSON, body).await?;
    let wish: Wish = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let (reply, answer) = oneshot::channel();
    let command = Command::Layer { secret: secret.to_owned(), rid: wish.encoding, reply };
    of_session(server, secret, command).await?;
    match answer.await.map_err(|_| stopping(Gone))? {
        Ok(()) => Ok(Response::new(Body::empty())),
        Err(error @ (LayerError::NoSession | LayerError::Unknown(_))) => {
            Err(Problem::new(StatusCode::NOT_FOUND, error.to_string()))
        }
    }
}
