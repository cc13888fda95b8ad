//! The orchestrator role: says what it can and costs, takes live jobs, and serves their channels.
//!
//! One TLS listener carries gRPC, HTTP and trickle, as peers expect.
//!
//! This file is long because the face of the role and the start of a job hold one lock over
//! sessions.

mod admission;
mod channels;
mod grpc;
mod http;
mod report;
mod session;
mod till;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use chain::{Address, Signer};
use parking_lot::Mutex;
use payments::RecipientCounters;
use pipeline::Pts;
use pipeline::graph::{Prompt, PromptError, Registry};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info, info_span};
use url::Url;

use crate::config;
use crate::hops::Hops;
use crate::money::Money;
use crate::rpc::capabilities;
use crate::rpc::credentials::{self, CredentialError, Tokens};
use crate::rpc::live::{
    EngineStatus, JSON, MPEG_TS, PAYMENT, StartAnswer, StartRequest, TRICKLE_PATH,
};
use crate::rpc::net::{AuthToken, OrchestratorInfo, OrchestratorRequest, PriceInfo};

pub(crate) use channels::read_document;
pub(crate) use session::Session;
pub use session::Status;

use admission::Admission;
use channels::Channels;

/// Why a job is not taken. The texts are part of the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No room.
    #[error("insufficient capacity")]
    Full,
    /// The node is about to stop.
    #[error("OrchestratorBusy")]
    Stopping,
    /// The model is not run here.
    #[error("model {0:?} is not run here")]
    Model(String),
    /// The parameters hold no usable graph.
    #[error("{0}")]
    Prompt(PromptError),
    /// Credentials that do not hold.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// Channels cannot be made.
    #[error("no channels: {0}")]
    Channels(#[from] trickle::Refusal),
    /// This node wants to be paid and no way was agreed.
    #[error("Insufficient balance: this node takes a ticket per frame, the request offers none")]
    Unpaid,
    /// What was offered as payment cannot be taken.
    #[error("Insufficient balance: {0}")]
    Payment(#[from] payments::recipient::OpenRefusal),
    /// The frame part of the request is malformed, or of another sender.
    #[error("frame payment: {0}")]
    FrameTerms(String),
    /// The ledger cannot be asked.
    #[error("the ledger does not answer: {0}")]
    Ledger(#[from] payments::LedgerError),
}

/// Whose credentials were checked.
pub struct Caller {
    sender: Address,
    token: AuthToken,
}

/// What the role needs from the node.
pub struct Parts {
    /// Settings.
    pub settings: config::Orchestrator,
    /// How peers reach this node.
    pub service_uri: Url,
    /// Who signs and is paid.
    pub signer: Arc<dyn Signer>,
    /// Node classes that graphs may use.
    pub registry: Arc<Registry>,
    /// Store, ledger, and the recipient that is paid.
    pub money: Money,
    /// Where frame times are noted.
    pub hops: Arc<Hops>,
    /// The one signal to stop.
    pub shutdown: CancellationToken,
}

/// The role. Cloning shares it.
#[derive(Clone)]
pub struct Orchestrator {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    sessions_max: usize,
    tokens: Tokens,
    trickle: trickle::Server,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// What sessions counted that are no more.
    ended: Mutex<EngineStatus>,
    /// And what they earned.
    earned: Mutex<RecipientCounters>,
    tasks: TaskTracker,
}

impl Orchestrator {
    /// A role without sessions.
    pub fn new(parts: Parts) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let sessions_max = match parts.settings.sessions_max {
            0 => (2 * cores).max(4),
            given => given,
        };
        let inner = Inner {
            sessions_max,
            tokens: Tokens::new(),
            trickle: trickle::Server::new(trickle::Config::default()),
            sessions: Mutex::default(),
            ended: Mutex::default(),
            earned: Mutex::default(),
            tasks: TaskTracker::new(),
            parts,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Who is paid.
    pub fn address(&self) -> Address {
        self.inner.parts.signer.address()
    }

    /// How peers reach this node.
    pub fn service_uri(&self) -> &Url {
        &self.inner.parts.service_uri
    }

    /// The channels, for a gateway in the same process.
    pub fn trickle(&self) -> &trickle::Server {
        &self.inner.trickle
    }

    /// Node classes in ComfyUI's shape.
    pub fn object_info(&self) -> serde_json::Value {
        self.inner.parts.registry.object_info()
    }

    /// Running sessions.
    pub fn sessions(&self) -> Vec<Status> {
        let mut list: Vec<_> = self.inner.sessions.lock().values().map(|s| s.status()).collect();
        list.sort_by_key(|session| session.since_ms);
        list
    }

    /// Engine counters of all sessions since the start.
    pub fn totals(&self) -> EngineStatus {
        let sessions = self.inner.sessions.lock();
        let running = sessions.values().map(|session| session.status().engine);
        running.fold(*self.inner.ended.lock(), EngineStatus::plus)
    }

    /// Tickets and fees of all sessions since the start.
    pub fn earned(&self) -> RecipientCounters {
        let sessions = self.inner.sessions.lock();
        let running = sessions.values().filter_map(|session| session.admission().counters());
        running.fold(self.inner.earned.lock().clone(), |sum, next| plus(&sum, &next))
    }

    /// Free and taken places for live sessions.
    pub fn capacity(&self) -> (usize, usize) {
        let in_use = self.inner.sessions.lock().len();
        (self.inner.sessions_max.saturating_sub(in_use), in_use)
    }

    /// Answers a gateway that asks what this orchestrator can and costs.
    ///
    /// # Errors
    /// A signature that does not hold.
    pub fn info(&self, request: &OrchestratorRequest) -> Result<OrchestratorInfo, CredentialError> {
        credentials::check_orchestrator_request(request)?;
        let (free, in_use) = self.capacity();
        let price = self.inner.parts.settings.price.0;
        let id = format!("{:08x}", rand::random::<u32>());
        Ok(OrchestratorInfo {
            transcoder: self.inner.parts.service_uri.as_str().trim_end_matches('/').to_owned(),
            price_info: Some(PriceInfo {
                price_per_unit: price.wei() as i64,
                pixels_per_unit: price.pixels() as i64,
                ..Default::default()
            }),
            address: self.address().to_vec(),
            capabilities: Some(capabilities::offered(free as u32, in_use as u32)),
            auth_token: Some(self.inner.tokens.issue(id, SystemTime::now())),
            frame_offer: self.recipient().map(|r| r.offer().encode()).unwrap_or_default(),
            ..Default::default()
        })
    }

    /// Takes a live job whose credentials were checked.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        &self,
        caller: &Caller,
        request: StartRequest,
    ) -> Result<StartAnswer, StartError> {
        let inner = &self.inner;
        if inner.parts.shutdown.is_cancelled() {
            return Err(StartError::Stopping);
        }
        if request.model_id != capabilities::MODEL {
            return Err(StartError::Model(request.model_id));
        }
        let prompt = request.params.get("prompt").unwrap_or(&serde_json::Value::Null);
        let prompt = Prompt::parse(prompt).map_err(StartError::Prompt)?;
        pipeline::graph::validate(&prompt, &inner.parts.registry).map_err(StartError::Prompt)?;

        let manifest_id = format!("{:08x}", rand::random::<u32>());
        let channels = Channels::new(&manifest_id);
        let extras = request.millstream.clone().unwrap_or_default();
        let frame_rate = if extras.frame_rate > 0.0 { extras.frame_rate } else { 30.0 };
        let paid = self.open_account(caller, &manifest_id, request.frame.as_ref()).await?;
        let frame = paid.as_ref().map(|session| {
            let (pay, receipts) = (self.url(&channels.payment), self.url(&channels.receipts));
            payments::StartAnswer::new(pay, receipts, session.first_set())
        });
        let milli = (frame_rate * 1000.0) as u32;
        let rate = payments::FrameRate::from_milli(milli);
        let admission = Arc::new(Admission::new(extras.skip_until.map(Pts), rate, paid));
        let config = session::Config {
            manifest_id: manifest_id.clone(),
            request_id: request.gateway_request_id.clone(),
            channels: channels.clone(),
            prompt,
            frame_rate,
            registry: Arc::clone(&inner.parts.registry),
            admission,
            sender: caller.sender,
            store: inner.parts.money.store().clone(),
            hops: Arc::clone(&inner.parts.hops),
        };
        let session = Session::new(&config);
        {
            // Counted and taken under one lock, so that two requests never share the last place.
            let mut sessions = inner.sessions.lock();
            if sessions.len() >= inner.sessions_max {
                // A gateway that was killed comes back while its old sessions still wait for it.
                let stale = sessions.values().find(|session| session.is_stale(&caller.sender));
                let stale = stale.cloned().ok_or(StartError::Full)?;
                stale.end("its gateway began anew");
                sessions.remove(stale.manifest_id());
            }
            sessions.insert(manifest_id.clone(), Arc::clone(&session));
        }
        if let Err(refusal) = self.make_channels(&channels) {
            inner.sessions.lock().remove(&manifest_id);
            return Err(refusal.into());
        }
        let span = info_span!(
            parent: None,
            "job",
            session = %manifest_id,
            stream = %request.stream_id,
            request = %request.gateway_request_id,
            token = %caller.token.session_id,
        );
        let this = self.clone();
        let ended = manifest_id.clone();
        let names = channels.clone();
        inner.tasks.spawn(
            async move {
                info!("session began");
                session.clone().run(config, this.inner.trickle.clone()).await;
                for name in names.all() {
                    let _ = this.inner.trickle.close(name);
                }
                let mut sessions = this.inner.sessions.lock();
                sessions.remove(&ended);
                let mut sum = this.inner.ended.lock();
                *sum = sum.plus(session.status().engine);
                if let Some(counters) = session.admission().counters() {
                    let mut earned = this.inner.earned.lock();
                    *earned = plus(&earned, &counters);
                    // What an ended session still owes is no longer at risk: it is lost or paid.
                    earned.at_risk = payments::Wei::ZERO;
                }
            }
            .instrument(span),
        );
        Ok(StartAnswer {
            publish_url: self.url(&channels.input),
            subscribe_url: self.url(&channels.output),
            control_url: self.url(&channels.control),
            events_url: self.url(&channels.events),
            manifest_id,
            frame,
        })
    }

    /// The money side of a new session; `None` where the work costs nothing.
    async fn open_account(
        &self,
        caller: &Caller,
        manifest_id: &str,
        frame: Option<&payments::StartRequest>,
    ) -> Result<Option<payments::SessionRecipient>, StartError> {
        let Some(recipient) = self.recipient() else { return Ok(None) };
        let frame = frame.ok_or(StartError::Unpaid)?;
        let bad = |text: String| StartError::FrameTerms(text);
        if frame.sender != caller.sender {
            return Err(bad("it names another sender than the credentials".into()));
        }
        let size = frame.size().map_err(|error| bad(error.to_string()))?;
        self.inner.parts.money.ledger().refresh(&[caller.sender]).await?;
        let terms = payments::SessionTerms {
            session: payments::wire::start::session_id(manifest_id),
            sender: caller.sender,
            size,
            fps: frame.fps(),
        };
        Ok(Some(recipient.open(std::time::Instant::now(), terms)?))
    }

    /// Who is paid for the work; `None` when it costs nothing.
    fn recipient(&self) -> Option<&payments::Recipient> {
        let free = self.inner.parts.settings.price.0.wei() == 0;
        self.inner.parts.money.recipient().filter(|_| !free)
    }

    /// The address of a channel.
    fn url(&self, name: &str) -> String {
        let base = self.inner.parts.service_uri.as_str().trim_end_matches('/');
        format!("{base}{TRICKLE_PATH}/{name}")
    }

    /// Lets sessions end, then closes everything.
    pub async fn drain(&self) {
        let sessions: Vec<_> = self.inner.sessions.lock().values().cloned().collect();
        for session in sessions {
            session.end("the node stops");
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.trickle.close_all();
    }

    fn make_channels(&self, names: &Channels) -> Result<(), trickle::Refusal> {
        use trickle::Access;
        let make = |name: &str, mime, access| self.inner.trickle.create(name, mime, access);
        make(&names.input, MPEG_TS, Access::PUBLISH)?;
        make(&names.output, MPEG_TS, Access::SUBSCRIBE)?;
        make(&names.control, JSON, Access::PUBLISH)?;
        make(&names.events, JSON, Access::SUBSCRIBE)?;
        make(&names.payment, PAYMENT, Access::PUBLISH)?;
        make(&names.receipts, PAYMENT, Access::SUBSCRIBE)
    }

    /// Checks the credentials of a start request.
    ///
    /// # Errors
    /// The first that does not hold, in the network's order: payment, then segment.
    pub fn check_start(&self, payment: &str, segment: &str) -> Result<Caller, StartError> {
        let sender = credentials::read_sender(payment)?;
        let sender = sender.ok_or(StartError::Unpaid)?;
        let now = SystemTime::now();
        let tokens = &self.inner.tokens;
        let token = credentials::check_segment_header(segment, &sender, tokens, now)?;
        Ok(Caller { sender, token })
    }

    /// The routes of the one listener for peers.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone()).merge(grpc::router(self.clone()))
    }
}

/// Counters of two sessions together; fee and limit are those of the second.
fn plus(a: &RecipientCounters, b: &RecipientCounters) -> RecipientCounters {
    let (x, y) = (a.refused, b.refused);
    RecipientCounters {
        accepted: a.accepted + b.accepted,
        won: a.won + b.won,
        resent: a.resent + b.resent,
        refused: payments::recipient::RefusedCounts {
            unknown_set: x.unknown_set + y.unknown_set,
            sealed_set: x.sealed_set + y.sealed_set,
            nonce_range: x.nonce_range + y.nonce_range,
            repeated: x.repeated + y.repeated,
            rate: x.rate + y.rate,
            signature: x.signature + y.signature,
        },
        admitted: a.admitted + b.admitted,
        returned: a.returned + b.returned,
        dropped: a.dropped + b.dropped,
        waits: a.waits + b.waits,
        sets: a.sets + b.sets,
        debit: a.debit.saturating_add(b.debit),
        credit: a.credit.saturating_add(b.credit),
        at_risk: a.at_risk.saturating_add(b.at_risk),
        ..b.clone()
    }
}
