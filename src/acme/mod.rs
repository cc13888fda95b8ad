//! The node's certificate from a certificate authority (ACME, RFC 8555): asked for when there is
//! none, again when a third of its life is left, and after failures with growing waits.
//!
//! What comes is written to one file in the data directory, key and chain together, so that they
//! always fit each other; `identity::Certificate` reads it as it reads every changed certificate.
//! Until then, and while the authority cannot be reached, the old certificate stays in use.

mod challenges;
mod due;
mod http;
mod order;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use challenges::{ACME_TLS, Challenges};
pub use due::Facts;
pub use view::CertificateView;

use crate::config;
use crate::identity::{Certificate, DataDir, write_secret};

/// The file of key and chain in the data directory.
pub const CERTIFICATE: &str = "acme.pem";

/// The file of the account.
const ACCOUNT: &str = "acme-account.json";

/// The longest sleep: clocks are set, and machines are suspended.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Asks an authority for the node's certificate. Cloning shares it.
#[derive(Clone)]
pub struct Acme {
    shared: Arc<Shared>,
}

struct Shared {
    settings: config::Acme,
    certificate: Arc<Certificate>,
    account: PathBuf,
    state: Mutex<State>,
}

/// How it goes.
#[derive(Clone, Debug, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// What went wrong in the last of them.
    error: Option<String>,
    /// When the authority is asked next.
    next: Option<SystemTime>,
    failed: u64,
}

/// How it goes, for people.
#[derive(Clone, Debug, Serialize)]
pub struct AcmeStatus {
    /// Names that it asks for.
    pub domains: Vec<String>,
    /// Whom it asks.
    pub directory: String,
    /// `http-01` or `tls-alpn-01`.
    pub challenge: &'static str,
    /// Failures in a row.
    pub failures: u32,
    /// What went wrong in the last of them.
    pub error: Option<String>,
    /// When it asks next (RFC 3339); `null` while it is asking.
    pub next: Option<String>,
    /// Attempts that failed since the start.
    #[serde(skip)]
    pub failed: u64,
}

impl Acme {
    /// Asks nobody before [`Self::run`].
    pub fn new(settings: config::Acme, dir: &DataDir, certificate: Arc<Certificate>) -> Self {
        let (account, state) = (dir.join(ACCOUNT), Mutex::default());
        Self { shared: Arc::new(Shared { settings, certificate, account, state }) }
    }

    /// How it goes.
    pub fn status(&self) -> AcmeStatus {
        let Shared { settings, state, .. } = &*self.shared;
        let state = state.lock().clone();
        AcmeStatus {
            domains: settings.domains.clone(),
            directory: settings.directory.clone(),
            challenge: settings.challenge.as_str(),
            failures: state.failures,
            error: state.error,
            next: state.next.map(|at| humantime::format_rfc3339_seconds(at).to_string()),
            failed: state.failed,
        }
    }

    /// Asks whenever it is time, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        loop {
            self.until_due().await;
            self.shared.state.lock().next = None;
            let asked = self.ask().await;
            let first = Duration::from_secs(self.shared.settings.retry_seconds);
            let mut state = self.shared.state.lock();
            match asked {
                Ok(()) => {
                    (state.failures, state.error) = (0, None);
                    info!(domains = ?self.shared.settings.domains, "a certificate was issued");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    state.failures += 1;
                    state.failed += 1;
                    let wait = due::wait_after(state.failures, first, rand::random());
                    state.next = SystemTime::now().checked_add(wait);
                    warn!(error, again_in = ?wait, "no certificate came, the old one stays");
                    state.error = Some(error);
                }
            }
        }
    }

    /// Waits until the certificate that is there has to be renewed, or until a failed attempt may be
    /// made again.
    async fn until_due(&self) {
        loop {
            let now = SystemTime::now();
            let wait = {
                let mut state = self.shared.state.lock();
                if state.failures == 0 {
                    let shown = self.shared.certificate.facts();
                    let wait = due::wait(shown.as_ref(), &self.shared.settings.domains, now);
                    state.next = now.checked_add(wait);
                }
                let next = state.next.unwrap_or(now);
                next.duration_since(now).unwrap_or_default()
            };
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
    }

    async fn ask(&self) -> Result<()> {
        let Shared { settings, certificate, account, .. } = &*self.shared;
        info!(domains = ?settings.domains, directory = settings.directory, "a certificate is asked for");
        let text = order::certificate(settings, account, certificate.challenges()).await?;
        let certificate = Arc::clone(certificate);
        let taken = tokio::task::spawn_blocking(move || {
            certificate.check(text.as_bytes())?;
            write_secret(certificate.issued(), text.as_bytes())?;
            certificate.reload().map(drop)
        });
        taken.await??;
        let Shared { settings, certificate, .. } = &*self.shared;
        // Asking on and on would help nobody.
        let now = SystemTime::now();
        let wait = due::wait(certificate.facts().as_ref(), &settings.domains, now);
        ensure!(!wait.is_zero(), "what was issued is for other names or another time than now");
        Ok(())
    }
}
