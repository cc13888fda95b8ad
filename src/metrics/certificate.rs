//! Figures of the certificate, and of the authority that is asked for it.

use dashboards::metrics::Exposition;

use crate::acme::CertificateView;

/// Puts them out.
pub(super) fn put(out: &mut Exposition, certificate: &CertificateView) {
    out.gauge(
        "millstream_certificate_remaining_seconds",
        "Time until the certificate of the TLS listeners ends; negative when it has ended",
        &[],
        certificate.remaining_seconds as f64,
    );
    out.counter(
        "millstream_certificate_failed_retries_total",
        "Times that no certificate came from the certificate authority",
        &[],
        certificate.acme.as_ref().map_or(0, |acme| acme.failed) as f64,
    );
}
