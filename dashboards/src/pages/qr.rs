//! A page's address as a QR code, so that a phone can open it.

use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use serde::Deserialize;

use super::policy;

/// The longest address in bytes; more would be too fine for a phone's camera.
const ADDRESS_BYTES_MAX: usize = 300;

/// Smallest side of the picture in pixels.
const SIDE_MIN: u32 = 200;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    address: String,
}

/// `GET /assets/qr.svg?address=http…`. The page asks, since only it knows under which address it
/// was reached.
pub(super) async fn serve(Query(Wanted { address }): Query<Wanted>) -> Response {
    let web = address.starts_with("http://") || address.starts_with("https://");
    if !web || address.len() > ADDRESS_BYTES_MAX {
        let text = "the address must be http or https and at most 300 bytes long\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let Ok(code) = QrCode::with_error_correction_level(&address, EcLevel::M) else {
        return (StatusCode::BAD_REQUEST, "the address does not fit a QR code\n").into_response();
    };
    let picture = code.render::<svg::Color<'_>>().min_dimensions(SIDE_MIN, SIDE_MIN).build();
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-cache")];
    let mut response = (headers, picture).into_response();
    policy::open(response.headers_mut());
    response
}
