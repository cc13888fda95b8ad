//! An orchestrator as the gateway uses it: in this process, or elsewhere.
//!
//! Both follow the same rules and messages; in process the calls go straight to the handler and
//! the channels are shared memory.

use std::sync::Arc;
use std::time::Duration;

use chain::Signer;
use trickle::{PublisherOptions, Start, SubscriberOptions};

use crate::orchestrator::Orchestrator;
use crate::rpc::capabilities;
use crate::rpc::client::{CallError, Peer};
use crate::rpc::credentials;
use crate::rpc::live::{StartAnswer, StartRequest, TRICKLE_PATH};
use crate::rpc::net::OrchestratorInfo;

/// How long node classes may be waited for.
const OBJECT_INFO_LIMIT: Duration = Duration::from_secs(5);

/// One orchestrator.
#[derive(Clone)]
pub enum Backend {
    /// In this process.
    Local(Orchestrator),
    /// Elsewhere.
    Remote(Box<Remote>),
}

/// An orchestrator elsewhere.
#[derive(Clone)]
pub struct Remote {
    /// Its calls.
    pub(crate) peer: Peer,
    /// Its channels.
    pub(crate) trickle: trickle::Client,
}

impl Backend {
    /// An orchestrator elsewhere.
    pub(crate) fn remote(peer: Peer, trickle: trickle::Client) -> Self {
        Self::Remote(Box::new(Remote { peer, trickle }))
    }

    /// Where it is, also its name.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Local(orchestrator) => orchestrator.service_uri().as_str(),
            Self::Remote(remote) => remote.peer.url().as_str(),
        }
    }

    /// Asks who it is, what it can and what it costs.
    ///
    /// # Errors
    /// What the call meets.
    pub(crate) async fn info(
        &self,
        signer: &Arc<dyn Signer>,
        limit: Duration,
    ) -> Result<OrchestratorInfo, CallError> {
        let request = credentials::orchestrator_request(&**signer, capabilities::wanted());
        match self {
            Self::Local(orchestrator) => orchestrator.info(&request).map_err(refused),
            Self::Remote(remote) => remote.peer.info(request, limit).await,
        }
    }

    /// Starts a job with the token that it gave.
    ///
    /// # Errors
    /// What the call meets.
    pub(crate) async fn start(
        &self,
        signer: &Arc<dyn Signer>,
        info: &OrchestratorInfo,
        request: &StartRequest,
    ) -> Result<StartAnswer, CallError> {
        let token = info.auth_token.clone();
        let id = token.as_ref().map(|token| token.session_id.clone()).unwrap_or_default();
        let payment = credentials::sender_header(signer.address());
        let segment = credentials::segment_header(&**signer, &id, token);
        match self {
            Self::Local(orchestrator) => {
                let caller = orchestrator.check_start(&payment, &segment).map_err(refused)?;
                orchestrator.start(&caller, request.clone()).await.map_err(refused)
            }
            Self::Remote(remote) => remote.peer.start(request, &payment, &segment).await,
        }
    }

    /// Its node classes in ComfyUI's shape; `None` where it tells none.
    pub(crate) async fn object_info(&self) -> Option<serde_json::Value> {
        match self {
            Self::Local(orchestrator) => Some(orchestrator.object_info()),
            Self::Remote(remote) => remote.peer.object_info(OBJECT_INFO_LIMIT).await.ok(),
        }
    }

    /// Publishes to a channel that it named.
    ///
    /// # Errors
    /// When the address cannot be used, or the channel is gone.
    pub(crate) async fn publisher(
        &self,
        url: &str,
        mime: &str,
    ) -> anyhow::Result<trickle::Publisher> {
        Ok(match self {
            Self::Local(orchestrator) => {
                orchestrator.trickle().local_publisher(local_name(orchestrator, url)?)?
            }
            Self::Remote(remote) => {
                let options = PublisherOptions { mime: mime.to_owned(), ..Default::default() };
                remote.trickle.publisher(remote.peer.channel_url(url)?.as_str(), options).await?
            }
        })
    }

    /// Subscribes to a channel that it named, from its first segment on.
    ///
    /// # Errors
    /// When the address cannot be used, or the channel is gone.
    pub(crate) async fn subscriber(&self, url: &str) -> anyhow::Result<trickle::Subscriber> {
        let start = Start::At(0);
        Ok(match self {
            Self::Local(orchestrator) => {
                orchestrator.trickle().local_subscriber(local_name(orchestrator, url)?, start)?
            }
            Self::Remote(remote) => {
                let options = SubscriberOptions { start, ..Default::default() };
                remote.trickle.subscriber(remote.peer.channel_url(url)?.as_str(), options).await?
            }
        })
    }
}

fn refused(error: impl std::fmt::Display) -> CallError {
    CallError::Refused { status: 400, text: error.to_string() }
}

fn local_name<'a>(orchestrator: &Orchestrator, url: &'a str) -> anyhow::Result<&'a str> {
    let base = orchestrator.service_uri().as_str().trim_end_matches('/');
    url.strip_prefix(base)
        .and_then(|rest| rest.strip_prefix(TRICKLE_PATH))
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(|| anyhow::anyhow!("{url} is no channel of this node"))
}
