//! What makes a node the same node after a restart: its data directory, keys and certificate.
//!
//! Everything here is made at the first start. Keys lie in a directory that only the node's user
//! can open; gateway and orchestrator keys are different ones.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A node's directory.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Opens or makes it, with mode 0700.
    ///
    /// # Errors
    /// When the system refuses; the message names the directory.
    pub fn open(path: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot open the data directory {}", path.display()))?;
        let probe = path.join(".writable");
        fs::write(&probe, b"")
            .and_then(|()| fs::remove_file(&probe))
            .with_context(|| format!("the data directory {} cannot be written", path.display()))?;
        Ok(Self(path))
    }

    /// A file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// The certificate that all TLS listeners of the node show. It proves nothing by itself: peers
/// prove who they are by signatures, browsers are asked by their user.
#[derive(Debug)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Reads `cert.pem` and `key.pem`, or makes a self-signed pair for `hosts`.
    ///
    /// # Errors
    /// When the files are broken or cannot be written.
    pub fn load_or_make(dir: &DataDir, hosts: &[IpAddr]) -> Result<Self> {
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        if !cert.exists() || !key.exists() {
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
            names.extend(hosts.iter().map(IpAddr::to_string));
            let made = rcgen::generate_simple_self_signed(names).context("no certificate")?;
            write_secret(&key, made.signing_key.serialize_pem().as_bytes())?;
            write_secret(&cert, made.cert.pem().as_bytes())?;
        }
        let chain = CertificateDer::pem_file_iter(&cert)
            .and_then(Iterator::collect)
            .with_context(|| format!("{} is no certificate", cert.display()))?;
        let key = PrivateKeyDer::from_pem_file(&key)
            .with_context(|| format!("{} is no private key", key.display()))?;
        Ok(Self { chain, key })
    }

    /// A TLS configuration for a listener that speaks HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When key and certificate do not go together.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .context("the certificate does not fit its key")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The secret that links are signed with, made at the first start.
///
/// # Errors
/// When it cannot be read or written.
pub fn link_secret(dir: &DataDir) -> Result<String> {
    let path = dir.join("link.key");
    if !path.exists() {
        write_secret(&path, hex::encode(rand::random::<[u8; 32]>()).as_bytes())?;
    }
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file that only the node's user can read, whole or not at all.
///
/// # Errors
/// The system's, naming the file.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_certificate_is_made_once_and_only_the_owner_can_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("node")).unwrap();
        let first = Certificate::load_or_make(&dir, &[]).unwrap();
        let second = Certificate::load_or_make(&dir, &[]).unwrap();
        assert_eq!(first.chain, second.chain);
        assert!(first.server_config().is_ok());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.join("key.pem")), 0o600);
        assert_eq!(mode(&parent.path().join("node")), 0o700);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = DataDir::open(Path::new("/proc/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
