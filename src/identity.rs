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

use crate::acme::{self, ACME_TLS, Challenges, Facts};
use crate::config::Settings;

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
    /// Key and chain that an authority issued, which are shown if they are there.
    issued: PathBuf,
    /// Whether an authority is asked.
    asks: bool,
    chain: PathBuf,
    key: PathBuf,
    /// What an authority is shown that looks whether a name is this node's.
    challenges: Challenges,
    /// What the files held when [`Self::shown`] was read, or was tried to be.
    stamp: Mutex<Stamp>,
    shown: ArcSwap<CertifiedKey>,
}

/// Times and lengths of the files: issued, chain, key.
type Stamp = [Option<(SystemTime, u64)>; 3];

impl Certificate {
    /// Reads the files of the settings; where they name none, what an authority issued if one is
    /// asked, or else `cert.pem` and `key.pem` of the data directory, which are made for
    /// `webrtc.hosts` if they are not there.
    ///
    /// # Errors
    /// When the files are broken or cannot be written.
    pub fn load_or_make(dir: &DataDir, settings: &Settings) -> Result<Arc<Self>> {
        let Settings { tls, acme, webrtc, .. } = settings;
        let own = tls.certificate.as_os_str().is_empty();
        let (chain, key) = match own {
            true => (dir.join("cert.pem"), dir.join("key.pem")),
            false => (tls.certificate.clone(), tls.key.clone()),
        };
        if own && (!chain.exists() || !key.exists()) {
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
            names.extend(webrtc.hosts.iter().map(IpAddr::to_string));
            let made = rcgen::generate_simple_self_signed(names).context("no certificate")?;
            write_secret(&key, made.signing_key.serialize_pem().as_bytes())?;
            write_secret(&chain, made.cert.pem().as_bytes())?;
        }
        let (issued, asks) = (dir.join(acme::CERTIFICATE), own && acme.is_on());
        let known = stamp([&issued, &chain, &key]);
        let shown = match read(&issued, &issued) {
            Ok(shown) if asks => shown,
            Err(error) if asks && issued.exists() => {
                let error = format!("{error:#}");
                warn!(error, "the issued certificate cannot be used: another one is asked for");
                read(&chain, &key)?
            }
            _ => read(&chain, &key)?,
        };
        let (stamp, shown) = (Mutex::new(known), ArcSwap::from_pointee(shown));
        let challenges = Challenges::default();
        Ok(Arc::new(Self { issued, asks, chain, key, challenges, stamp, shown }))
    }

    /// What the certificate that is shown says of itself; `None` when it cannot be read.
    pub fn facts(&self) -> Option<Facts> {
        Facts::read(self.shown.load().cert.first()?).ok()
    }

    /// Where an authority's proofs are shown.
    pub fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Where key and chain from an authority are kept.
    pub fn issued(&self) -> &Path {
        &self.issued
    }

    /// Whether a key and a chain in PEM could be shown.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, text: &[u8]) -> Result<()> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .context("what was issued is no certificate")?;
        let key = PrivateKeyDer::from_pem_slice(text).context("there is no private key")?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider)
            .context("what was issued is for another key")?;
        Ok(())
    }

    /// A TLS configuration for a listener that speaks HTTP/2 and HTTP/1.1. It shows the certificate
    /// that is there at each handshake, and proofs to an authority that looks for them.
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
        if self.asks {
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        Ok(Arc::new(config))
    }

    /// Reads the files again if they are others than before; false when they are not.
    ///
    /// # Errors
    /// Files that cannot be used; the old certificate stays. Told once for the same files.
    pub fn reload(&self) -> Result<bool> {
        // Held to the end: who comes meanwhile finds the certificate read.
        let mut known = self.stamp.lock();
        let now = stamp([&self.issued, &self.chain, &self.key]);
        let before = std::mem::replace(&mut *known, now);
        let issued = self.asks && now[0].is_some();
        // A file that is being replaced may be away for a moment.
        if now == before || (!issued && now[1..].contains(&None)) {
            return Ok(false);
        }
        let (chain, key) = match issued {
            true => (&self.issued, &self.issued),
            false => (&self.chain, &self.key),
        };
        self.shown.store(Arc::new(read(chain, key)?));
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
                    info!("the certificate was read again")
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
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority asks for nothing else (RFC 8737 3), and nobody else asks for it.
        if hello.alpn().is_some_and(|mut names| names.next() == Some(ACME_TLS)) {
            return self.challenges.certificate(hello.server_name()?);
        }
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

fn stamp(files: [&Path; 3]) -> Stamp {
    files.map(|path| {
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
        let first = Certificate::load_or_make(&dir, &Settings::default()).unwrap();
        let second = Certificate::load_or_make(&dir, &Settings::default()).unwrap();
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
        let certificate = Certificate::load_or_make(&dir, &Settings::default()).unwrap();
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
    fn what_an_authority_issues_is_shown_at_once_and_after_a_restart() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let mut settings = Settings::default();
        settings.acme.domains = vec!["live.example".into()];
        let certificate = Certificate::load_or_make(&dir, &settings).unwrap();
        assert!(certificate.facts().unwrap().self_signed);
        let made = rcgen::generate_simple_self_signed(vec!["live.example".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["live.example".to_owned()]).unwrap();
        let text = made.signing_key.serialize_pem() + &made.cert.pem();
        assert!(certificate.check(text.as_bytes()).is_ok());
        let mixed = other.signing_key.serialize_pem() + &made.cert.pem();
        assert!(certificate.check(mixed.as_bytes()).is_err());
        assert!(certificate.check(made.cert.pem().as_bytes()).is_err(), "no key");
        write_secret(certificate.issued(), text.as_bytes()).unwrap();
        assert!(certificate.reload().unwrap());
        assert_eq!(certificate.facts().unwrap().names, ["live.example"]);
        let again = Certificate::load_or_make(&dir, &settings).unwrap();
        assert_eq!(again.shown.load().cert[0], *made.cert.der());
        let without = Certificate::load_or_make(&dir, &Settings::default()).unwrap();
        assert_ne!(without.shown.load().cert[0], *made.cert.der(), "no authority is asked");
        fs::write(certificate.issued(), "rubbish").unwrap();
        let broken = Certificate::load_or_make(&dir, &settings).unwrap();
        assert!(broken.facts().unwrap().self_signed, "the node starts all the same");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = DataDir::open(Path::new("/proc/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
