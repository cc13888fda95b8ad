//! What browsers are told a page may do.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// A page, by what it may do.
#[derive(Clone, Copy)]
pub(super) enum Policy {
    /// Lists streams.
    Landing,
    /// Plays a stream; any page may embed it.
    Player,
    /// Uses camera, microphone and screen.
    Publish,
    /// Acts on the node; nobody may embed it. Shows players, which are of another port.
    Console,
}

impl Policy {
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        let (frames, ancestors) = match self {
            Self::Landing | Self::Publish => ("'none'", "'self'"),
            Self::Player => ("'none'", "*"),
            Self::Console => ("http: https:", "'none'"),
        };
        let policy = format!(
            "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
             media-src 'self' blob:; connect-src 'self'; object-src 'none'; frame-src {frames}; \
             base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
        );
        let permissions = match self {
            Self::Publish => "camera=(self), microphone=(self), display-capture=(self)",
            Self::Console => "camera=(), microphone=(), autoplay=*, fullscreen=*",
            Self::Landing | Self::Player => "camera=(), microphone=()",
        };
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        if matches!(self, Self::Console) {
            headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        }
        headers.insert(
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static(permissions),
        );
        // A page's address may hold credentials of its stream.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        no_sniff(headers);
    }
}

/// For files that pages of any origin may use: the module and what belongs to it.
pub(super) fn open(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    // Of use only when a picture is opened as a page of its own.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    );
    no_sniff(headers);
}

fn no_sniff(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
