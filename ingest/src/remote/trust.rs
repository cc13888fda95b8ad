//! Whose certificate is good: what the system trusts, a certificate authority of one's own, or one
//! certificate by its fingerprint. There is no "any".

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::ConfigVerifierExt as _;

/// SHA-256 of a certificate in DER, as `openssl x509 -fingerprint -sha256` shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads 64 hexadecimal digits, in any case, with or without colons.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose certificate is good.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Those that the system trusts.
    #[default]
    System,
    /// Those that these certificates in PEM vouch for.
    Authority(Arc<[u8]>),
    /// This one, whatever its name and dates say.
    Fingerprint(Fingerprint),
}

impl Trust {
    /// A TLS configuration that offers these protocols (ALPN).
    ///
    /// # Errors
    /// What is wrong with the authority's PEM, or with the system's store.
    pub fn client_config(&self, protocols: &[&[u8]]) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = match self {
            Self::System => {
                let _ = rustls::crypto::ring::default_provider().install_default();
                ClientConfig::with_platform_verifier().map_err(|error| error.to_string())?
            }
            Self::Authority(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| error.to_string())?;
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
                if roots.is_empty() {
                    return Err("the certificate authority's file holds no certificate".into());
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::Fingerprint(wanted) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned { wanted: *wanted, provider }))
                .with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// Takes one certificate.
#[derive(Debug)]
struct Pinned {
    wanted: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Fingerprint::of(certificate);
        if shown == self.wanted {
            return Ok(ServerCertVerified::assertion());
        }
        let wanted = self.wanted;
        Err(rustls::Error::General(format!("the certificate is {shown}, wanted is {wanted}")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_tools_write_them() {
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(Fingerprint::parse(&colons), Some(Fingerprint([0xAB; 32])));
        assert_eq!(Fingerprint::parse(&"ab".repeat(32)), Some(Fingerprint([0xAB; 32])));
        assert_eq!(Fingerprint::parse("ab"), None);
        assert_eq!(Fingerprint::parse(&"xy".repeat(32)), None);
    }

    #[test]
    fn only_the_certificate_of_the_fingerprint_is_taken() {
        let certificate = CertificateDer::from(vec![1, 2, 3]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let name = ServerName::try_from("example.org").unwrap();
        let check = |wanted| {
            let pinned = Pinned { wanted, provider: Arc::clone(&provider) };
            let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
            pinned.verify_server_cert(&certificate, &[], &name, &[], now).is_ok()
        };
        assert!(check(Fingerprint::of(&certificate)));
        assert!(!check(Fingerprint([0; 32])));
    }

    #[test]
    fn an_authority_without_certificates_is_refused() {
        assert!(Trust::Authority(Arc::from(&b"nothing"[..])).client_config(&[]).is_err());
    }
}
