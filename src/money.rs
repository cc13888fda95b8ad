//! The money of a process: store of winners and budgets, the ledger that settles them, and the
//! loop that redeems. Rules are those of `payments`; here they meet files, keys and the clock.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chain::{Address, B256, Signer};
use parking_lot::Mutex;
use payments::store::WinnerState;
use payments::ticket::Signature;
use payments::wire::Resend;
use payments::{
    FaceValue, Ledger, LedgerConfig, PricePerPixel, RandSecret, Recipient, RecipientConfig,
    Redeemer, SenderCounters, Store, TicketSigner, Wei,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config;
use crate::identity::{self, DataDir};

/// How often held winners are looked at.
const REDEEM_EVERY: Duration = Duration::from_secs(5);

/// How often the money of others in a shared ledger is read again.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// Recipients whose unsettled tickets are kept for the next session with them.
const UNSETTLED_RECIPIENTS_MAX: usize = 256;

/// Store and ledger of a process. Cloning shares them.
#[derive(Clone)]
pub struct Money {
    inner: Arc<Inner>,
}

struct Inner {
    settings: config::Payments,
    store: Store,
    ledger: Ledger,
    recipient: Option<Recipient>,
    /// What gateway sessions paid that are no more.
    paid: Mutex<SenderCounters>,
    /// Tickets that no receipt settled, by recipient.
    unsettled: Mutex<HashMap<Address, Vec<Resend>>>,
}

/// Money at one moment, for console, API and metrics; sums are decimal wei.
#[derive(Clone, Debug, Serialize)]
pub struct MoneyStatus {
    /// The ledger's block and round.
    pub block: u64,
    /// The round.
    pub round: u64,
    /// Winners by state.
    pub winners: Vec<WinnerCount>,
    /// Wei that winners brought.
    pub redeemed_wei: String,
    /// Wei of winners not yet redeemed.
    pub held_wei: String,
    /// Senders' accounts on the ledger.
    pub accounts: Vec<AccountStatus>,
    /// Budget taken and not given back, in wei.
    pub budget_taken_wei: String,
    /// And its ceiling.
    pub budget_wei: String,
}

/// How many winners are in a state.
#[derive(Clone, Debug, Serialize)]
pub struct WinnerCount {
    /// The state.
    pub state: &'static str,
    /// How many.
    pub count: u64,
}

/// One sender's account.
#[derive(Clone, Debug, Serialize)]
pub struct AccountStatus {
    /// Who.
    pub address: String,
    /// Wei that any recipient may take.
    pub deposit_wei: String,
    /// Wei kept for all recipients in equal shares.
    pub reserve_wei: String,
}

impl Money {
    /// Opens store and ledger; both are made when they are not there. With `recipient` the process
    /// is paid, under a new epoch (durable point O1).
    ///
    /// # Errors
    /// A database that cannot be opened, or a secret that cannot be kept.
    pub async fn open(
        data: &DataDir,
        settings: &config::Payments,
        recipient: Option<(Address, PricePerPixel)>,
    ) -> Result<Self> {
        let own = format!("sqlite:{}", data.join("payments.sqlite").display());
        let store = Store::open(&own).await?;
        let ledger_store = match settings.ledger.as_str() {
            "" => store.clone(),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Store::open(url).await.context("payments.ledger")?
            }
            path => Store::open(&format!("sqlite:{path}"))
                .await
                .with_context(|| format!("payments.ledger {path:?}"))?,
        };
        let config = LedgerConfig {
            block_time: Duration::from_millis(settings.ledger_block_ms),
            round_length: settings.ledger_round_blocks,
            ..LedgerConfig::default()
        };
        let id = B256::from(rand::random::<[u8; 32]>());
        let ledger = Ledger::open(ledger_store, config, id, recover).await?;
        let recipient = match recipient {
            None => None,
            Some((address, price)) => {
                let secret = RandSecret::new(secret(&data.join("keys/tickets.secret"))?);
                let mut config = RecipientConfig::new(address, secret, price);
                config.quote.face_value = FaceValue::TimesFee(settings.win_one_in);
                let config = config.with_block_time(ledger.block_time());
                let epoch = store.next_epoch().await?;
                ledger.join(address).await?;
                Some(Recipient::new(config, epoch, ledger.view(), recover))
            }
        };
        let inner = Inner {
            settings: settings.clone(),
            store,
            ledger,
            recipient,
            paid: Mutex::default(),
            unsettled: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Gives a sender of this process its account on the ledger.
    ///
    /// # Errors
    /// The database.
    pub async fn grant(&self, sender: Address) -> Result<()> {
        let settings = &self.inner.settings;
        let (deposit, reserve) = (settings.ledger_deposit.0, settings.ledger_reserve.0);
        Ok(self.inner.ledger.grant(sender, deposit, reserve).await?)
    }

    /// Who is paid in this process, if anybody is.
    pub fn recipient(&self) -> Option<&Recipient> {
        self.inner.recipient.as_ref()
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    /// The store of winners and budgets.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Wei that this process's gateway may spend in all.
    pub fn budget(&self) -> Wei {
        self.inner.settings.budget.0
    }

    /// The largest face value that this process's gateway signs for.
    pub fn face_value_max(&self) -> Wei {
        self.inner.settings.face_value_max.0
    }

    /// Redeems winners and keeps the view of a shared ledger fresh, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let refresh = async {
            let mut ticks = tokio::time::interval(REFRESH_EVERY);
            loop {
                ticks.tick().await;
                if let Err(error) = self.inner.ledger.refresh_all().await {
                    error!(%error, "ledger");
                }
            }
        };
        let redeem = async {
            let Some(recipient) = self.inner.recipient.clone() else {
                return std::future::pending().await;
            };
            let (store, ledger) = (self.inner.store.clone(), self.inner.ledger.clone());
            let redeemer = Redeemer::new(store, ledger, recipient);
            if let Err(error) = redeemer.load_held().await {
                error!(%error, "held winners");
            }
            redeemer.run(REDEEM_EVERY, std::future::pending()).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = refresh => {}
            () = redeem => {}
        }
    }

    /// Takes out the tickets that a crash left unsettled with this recipient.
    pub fn take_unsettled(&self, recipient: Address) -> Vec<Resend> {
        self.inner.unsettled.lock().remove(&recipient).unwrap_or_default()
    }

    /// A paying session is over: what it counted, what it did not spend, what is unsettled.
    pub fn session_paid(&self, recipient: Address, counters: &SenderCounters, open: Vec<Resend>) {
        {
            let mut sum = self.inner.paid.lock();
            *sum = plus(&sum, counters);
        }
        if !open.is_empty() {
            let mut unsettled = self.inner.unsettled.lock();
            if unsettled.len() < UNSETTLED_RECIPIENTS_MAX || unsettled.contains_key(&recipient) {
                unsettled.insert(recipient, open);
            }
        }
        let (store, rest) = (self.inner.store.clone(), counters.budget_left);
        if rest > Wei::ZERO
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(error) = store.return_budget(rest).await {
                    error!(%error, "budget");
                }
            });
        }
    }

    /// What gateway sessions paid that are no more.
    pub fn paid_before(&self) -> SenderCounters {
        self.inner.paid.lock().clone()
    }

    /// Money at this moment.
    ///
    /// # Errors
    /// The database.
    pub async fn status(&self) -> Result<MoneyStatus> {
        let head = self.inner.ledger.head();
        let counts = self.inner.store.winner_counts().await?;
        let sum = |pick: &dyn Fn(&payments::store::StateCount) -> Wei| {
            counts.iter().fold(Wei::ZERO, |sum, count| sum.saturating_add(pick(count)))
        };
        let held = |count: &payments::store::StateCount| match count.state {
            WinnerState::Held => count.face_value,
            _ => Wei::ZERO,
        };
        Ok(MoneyStatus {
            block: head.block,
            round: head.round,
            winners: counts
                .iter()
                .map(|count| WinnerCount { state: count.state.as_str(), count: count.count })
                .collect(),
            redeemed_wei: sum(&|count| count.amount).to_string(),
            held_wei: sum(&held).to_string(),
            accounts: self
                .inner
                .ledger
                .accounts()
                .await?
                .into_iter()
                .map(|info| AccountStatus {
                    address: chain::checksum(&info.address),
                    deposit_wei: info.account.deposit.to_string(),
                    reserve_wei: info.account.reserve.to_string(),
                })
                .collect(),
            budget_taken_wei: self.inner.store.budget_taken().await?.to_string(),
            budget_wei: self.budget().to_string(),
        })
    }
}

/// Counters of two sessions together; limits are those of the second.
pub fn plus(a: &SenderCounters, b: &SenderCounters) -> SenderCounters {
    SenderCounters {
        signed: a.signed + b.signed,
        settled: a.settled + b.settled,
        refused: a.refused + b.refused,
        open: a.open + b.open,
        resent: a.resent + b.resent,
        frames_sent: a.frames_sent + b.frames_sent,
        frames_returned: a.frames_returned + b.frames_returned,
        frames_bad: a.frames_bad + b.frames_bad,
        frames_missing: a.frames_missing + b.frames_missing,
        held_back: a.held_back + b.held_back,
        released: a.released.saturating_add(b.released),
        earned: a.earned.saturating_add(b.earned),
        credited: a.credited.saturating_add(b.credited),
        debited: a.debited.saturating_add(b.debited),
        ..b.clone()
    }
}

/// The node's signer as tickets need it.
pub struct NodeSigner(pub Arc<dyn Signer>);

impl TicketSigner for NodeSigner {
    fn address(&self) -> Address {
        self.0.address()
    }

    fn sign(&self, digest: B256) -> Signature {
        self.0.sign_hash(digest)
    }
}

fn recover(digest: &B256, signature: &Signature) -> Option<Address> {
    chain::recover_hash(digest, signature).ok()
}

/// Thirty-two random bytes that are made once.
fn secret(path: &Path) -> Result<[u8; 32]> {
    if !path.exists() {
        identity::write_secret(path, &rand::random::<[u8; 32]>())?;
        info!(path = %path.display(), "secret of tickets made");
    }
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    match <[u8; 32]>::try_from(bytes) {
        Ok(secret) => Ok(secret),
        Err(_) => bail!("{} does not hold 32 bytes", path.display()),
    }
}
