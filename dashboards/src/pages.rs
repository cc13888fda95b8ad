//! The web pages.

use axum::Router;

/// Pages for viewers and publishers.
pub fn edge() -> Router {
    Router::new()
}

/// The operator's console.
pub fn console() -> Router {
    Router::new()
}
