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
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use crate::config::Tls;

/// How often the certificate's files are looked at.
const CERTIFICATE_SPACING: Duration = Duration::from_secs(2);

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

/// The certificate that all TLS listeners of the node show. The one that the node makes proves
/// nothing by itself: peers prove who they are by signatures, browsers are asked by their user.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    /// What the files held when [`Self::shown`] was read, or was tried to be.
    stamp: Mutex<Stamp>,
    shown: ArcSwap<CertifiedKey>,
}

/// Times and lengths of both files.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Certificate {
    /// Reads the files of the settings; where they name none, `cert.pem` and `key.pem` of the data
    /// directory, which are made for `hosts` if they are not there.
    ///
    /// # Errors
    /// When the files are broken or cannot be written.
    pub fn load_or_make(dir: &DataDir, settings: &Tls, hosts: &[IpAddr]) -> Result<Arc<Self>> {
        let own = settings.certificate.as_os_str().is_empty();
        let (chain, key) = match own {
            true => (dir.join("cert.pem"), dir.join("key.pem")),
            false => (settings.certificate.clone(), settings.key.clone()),
        };
        if own && (!chain.exists() || !key.exists()) {
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
            names.extend(hosts.iter().map(IpAddr::to_string));
            let made = rcgen::generate_simple_self_signed(names).context("no certificate")?;
            write_secret(&key, made.signing_key.serialize_pem().as_bytes())?;
            write_secret(&chain, made.cert.pem().as_bytes())?;
        }
        let stamp = Mutex::new(stamp(&chain, &key));
        let shown = ArcSwap::from_pointee(read(&chain, &key)?);
        Ok(Arc::new(Self { chain, key, stamp, shown }))
    }

    /// A TLS configuration for a listener that speaks HTTP/2 and HTTP/1.1. It shows the certificate
    /// that is there at each handshake.
    ///
    /// # Errors
    /// Never in practice.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reads the files again if they are others than before; false when they are not.
    ///
    /// # Errors
    /// Files that cannot be used; the old certificate stays. Told once for the same files.
    pub fn reload(&self) -> Result<bool> {
        let now = stamp(&self.chain, &self.key);
        let before = std::mem::replace(&mut *self.stamp.lock(), now);
        // A file that is being replaced may be away for a moment.
        if now == before || now.contains(&None) {
            return Ok(false);
        }
        self.shown.store(Arc::new(read(&self.chain, &self.key)?));
        Ok(true)
    }

    /// Looks at the files now and then, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut rhythm = tokio::time::interval(CERTIFICATE_SPACING);
        loop {
            rhythm.tick().await;
            let certificate = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || certificate.reload()).await {
                Ok(Ok(true)) => {
                    info!(file = %self.chain.display(), "the certificate was read again")
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    let error = format!("{error:#}");
                    warn!(error, "the new certificate cannot be used, the old one stays");
                }
                Err(_) => return,
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load_full())
    }
}

/// A chain with its key, which must go together.
fn read(chain: &Path, key: &Path) -> Result<CertifiedKey> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .with_context(|| format!("{} is no certificate", chain.display()))?;
    ensure!(!certificates.is_empty(), "{} holds no certificate", chain.display());
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{} is no private key", key.display()))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(certificates, private, &provider).with_context(|| {
        format!("the certificate {} does not fit the key {}", chain.display(), key.display())
    })
}

fn stamp(chain: &Path, key: &Path) -> Stamp {
    [chain, key].map(|path| {
        let facts = fs::metadata(path).ok()?;
        Some((facts.modified().ok()?, facts.len()))
    })
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
        let first = Certificate::load_or_make(&dir, &Tls::default(), &[]).unwrap();
        let second = Certificate::load_or_make(&dir, &Tls::default(), &[]).unwrap();
        assert_eq!(first.shown.load().cert, second.shown.load().cert);
        assert!(first.server_config().is_ok());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.join("key.pem")), 0o600);
        assert_eq!(mode(&parent.path().join("node")), 0o700);
    }

    #[test]
    fn a_changed_certificate_is_shown_once_it_fits_its_key() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let certificate = Certificate::load_or_make(&dir, &Tls::default(), &[]).unwrap();
        let first = certificate.shown.load_full();
        assert!(!certificate.reload().unwrap(), "nothing changed");
        let made = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
        fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
        let error = certificate.reload().unwrap_err();
        assert!(format!("{error:#}").contains("does not fit the key"), "{error:#}");
        assert_eq!(certificate.shown.load().cert, first.cert, "the old one stays");
        assert!(!certificate.reload().unwrap(), "told once");
        fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        assert!(certificate.reload().unwrap());
        assert_eq!(certificate.shown.load().cert[0], *made.cert.der());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = DataDir::open(Path::new("/proc/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
