//! The gateway role: for each published stream that has a graph, a session that has it processed.

mod backend;
mod connection;
mod discover;
mod job;
mod output;
mod payer;
mod select;
mod session;
mod splice;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chain::Signer;
use ingest::hub::Event;
use ingest::views::Views;
use ingest::{Hub, StreamName};
use parking_lot::Mutex;
use payments::SenderCounters;
use pipeline::graph::{Prompt, PromptError, Registry};
use serde_json::Value;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info, info_span, warn};

use crate::config;
use crate::graphs::Graphs;
use crate::hops::Hops;
use crate::money::Money;

pub use backend::Backend;
pub use discover::Choice;
pub use select::Verdict;
pub use session::{Status, UpdateAnswer};

use discover::Discovery;
use session::{Command, Handle, Session};

/// How long the answer to a change of parameters is waited for.
const UPDATE_LIMIT: Duration = Duration::from_secs(1);

/// What the role needs from the node.
pub struct Parts {
    /// Settings.
    pub settings: config::Gateway,
    /// Where streams are.
    pub hub: Hub,
    /// Streams in the form that orchestrators take.
    pub views: Arc<dyn Views>,
    /// Who signs and pays.
    pub signer: Arc<dyn Signer>,
    /// Orchestrators to choose from.
    pub backends: Vec<Backend>,
    /// Which graph a stream gets.
    pub graphs: Graphs,
    /// Store and ledger.
    pub money: Money,
    /// Node classes of this process.
    pub registry: Arc<Registry>,
    /// Where frame times are noted.
    pub hops: Arc<Hops>,
}

/// What sessions share.
pub struct Shared {
    settings: config::Gateway,
    hub: Hub,
    views: Arc<dyn Views>,
    signer: Arc<dyn Signer>,
    discovery: Discovery,
    money: Money,
    /// Node classes of this process, where no orchestrator tells its own.
    registry: Arc<Registry>,
    hops: Arc<Hops>,
}

/// Why parameters were not passed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// No stream of this name is being processed.
    #[error("stream {0} is not being processed")]
    Unknown(StreamName),
    /// The graph is not right.
    #[error("{0}")]
    Prompt(PromptError),
}

/// The role. Cloning shares it.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    graphs: Graphs,
    sessions: Arc<Mutex<HashMap<StreamName, Arc<Handle>>>>,
    tasks: TaskTracker,
}

impl Gateway {
    /// A gateway without sessions.
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, hub, views, signer, backends, graphs, money, registry, hops } = parts;
        let limit = Duration::from_millis(settings.discovery_timeout_ms);
        let price_max = settings.price_max.0;
        let discovery = Discovery::new(backends, Arc::clone(&signer), price_max, limit);
        let shared = Shared { settings, hub, views, signer, discovery, money, registry, hops };
        let shared = Arc::new(shared);
        Self { shared, graphs, sessions: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Begins a session for each stream that comes, until `stop`; then waits for them to end.
    pub async fn run(&self, stop: CancellationToken) {
        let mut events = self.shared.hub.events();
        for stream in self.shared.hub.list() {
            self.begin(stream.name, &stop);
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Ok(Event::Online(name)) => self.begin(name, &stop),
                    Ok(Event::Offline(_)) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        for stream in self.shared.hub.list() {
                            self.begin(stream.name, &stop);
                        }
                    }
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn begin(&self, name: StreamName, stop: &CancellationToken) {
        if name.is_out() || name.is_derived() {
            return;
        }
        let Some(prompt) = self.graphs.of_stream(&name) else { return };
        let mut sessions = self.sessions.lock();
        if sessions.contains_key(&name) {
            return;
        }
        let (session, handle) = Session::new(Arc::clone(&self.shared), name.clone(), prompt);
        let handle = Arc::new(handle);
        sessions.insert(name.clone(), Arc::clone(&handle));
        drop(sessions);
        let span = info_span!("stream", stream = %name, request = session.request_id());
        let (this, stop) = (self.clone(), stop.clone());
        self.tasks.spawn(
            async move {
                session.run(stop.clone()).await;
                this.sessions.lock().remove(&name);
                // The same name may have come back while this session ended.
                if !stop.is_cancelled() && this.shared.hub.status(&name).is_some() {
                    this.begin(name, &stop);
                }
            }
            .instrument(span),
        );
    }

    /// Applies changed settings: streams that have a graph now get a session, running ones another
    /// graph. One whose graph was taken away goes on until its publisher leaves. `before` holds what
    /// the settings said of running streams.
    pub fn follow_settings(&self, before: Vec<(StreamName, Value)>, stop: &CancellationToken) {
        for (name, old) in before {
            let Some(new) = self.graphs.of_stream(&name).filter(|new| *new != old) else {
                continue;
            };
            let this = self.clone();
            self.tasks.spawn(async move {
                match this.update(&name, new).await {
                    Ok((_, answer)) => info!(stream = %name, ?answer, "its graph was changed"),
                    Err(error) => warn!(stream = %name, %error, "its graph stays as it was"),
                }
            });
        }
        self.shared.hub.list().into_iter().for_each(|stream| self.begin(stream.name, stop));
    }

    /// What the settings say now of the streams that run.
    pub fn graphs_in_force(&self) -> Vec<(StreamName, Value)> {
        let running = self.sessions.lock().keys().cloned().collect::<Vec<_>>();
        let graph = |name: StreamName| self.graphs.of_stream(&name).map(|graph| (name, graph));
        running.into_iter().filter_map(graph).collect()
    }

    /// Changes a stream's graph while it runs: it is in force from a frame on, or refused as a whole.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn update(
        &self,
        name: &StreamName,
        prompt: Value,
    ) -> Result<(String, UpdateAnswer), UpdateError> {
        let handle = self.sessions.lock().get(name).cloned();
        let handle = handle.ok_or_else(|| UpdateError::Unknown(name.clone()))?;
        let parsed = Prompt::parse(&prompt).map_err(UpdateError::Prompt)?;
        let registry = self.registry_of(&handle).await;
        let registry = registry.unwrap_or_else(|| Arc::clone(&self.shared.registry));
        pipeline::graph::validate(&parsed, &registry).map_err(UpdateError::Prompt)?;
        let update_id = format!("{:016x}", rand::random::<u64>());
        let (answer, answered) = oneshot::channel();
        let command = Command::Update { update_id: update_id.clone(), prompt, answer };
        if handle.commands.send(command).await.is_err() {
            return Err(UpdateError::Unknown(name.clone()));
        }
        let answer = match tokio::time::timeout(UPDATE_LIMIT, answered).await {
            Ok(Ok(answer)) => answer,
            _ => UpdateAnswer::Pending,
        };
        Ok((update_id, answer))
    }

    /// The node classes of the orchestrator in use, for validation.
    async fn registry_of(&self, handle: &Handle) -> Option<Arc<Registry>> {
        let url = handle.status().orchestrator?;
        self.shared.discovery.registry(&url).await
    }

    /// What all sessions paid since the start.
    pub fn paid(&self) -> SenderCounters {
        let running = self.list().into_iter().filter_map(|(_, status)| status.paying);
        running.fold(self.shared.money.paid_before(), |sum, next| crate::money::plus(&sum, &next))
    }

    /// A stream's session.
    pub fn status(&self, name: &StreamName) -> Option<Status> {
        self.sessions.lock().get(name).map(|handle| handle.status())
    }

    /// All sessions by stream.
    pub fn list(&self) -> Vec<(StreamName, Status)> {
        let sessions = self.sessions.lock();
        let mut list: Vec<_> =
            sessions.iter().map(|(name, handle)| (name.clone(), handle.status())).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }
}
