//! What the node knows of itself: gathered from the parts as plain data, for the console, the API
//! and the metrics. Nothing here changes anything.

mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::get;
use ingest::record::Recordings;
use ingest::sessions::Sessions;
use ingest::{Hub, StreamName, hls, rtmp, rtsp, srt, webrtc};
use payments::{RecipientCounters, SenderCounters};
use pipeline::graph::Registry;
use serde::Serialize;

use crate::access::NodeAccess;
use crate::acme::{Acme, CertificateView};
use crate::bridge::{BridgeView, Bridges};
use crate::config::Store;
use crate::edge::srt::ConnectionView;
use crate::events::Events;
use crate::gateway::Gateway;
use crate::hops::{BOUNDS, Hop, Hops};
use crate::identity::Certificate;
use crate::ladder::Ladders;
use crate::listen;
use crate::money::{Money, MoneyStatus};
use crate::orchestrator::{self, Orchestrator};
use crate::pushes::{PushView, Pushes};
use crate::rpc::credentials::unix_millis;
use crate::sources::{SourceView, Sources};
use crate::streams::StreamSettings;
use crate::upload::{self, Uploads};

pub use stream::StreamView;

/// The parts of a node that have something to say. Cloning shares them.
#[derive(Clone)]
pub struct Parts {
    /// All streams.
    pub hub: Hub,
    /// The settings in force.
    pub store: Arc<Store>,
    /// Settings of single streams.
    pub streams: StreamSettings,
    /// Who may do what.
    pub access: NodeAccess,
    /// Who is told what happens.
    pub events: Events,
    /// Frame times.
    pub hops: Arc<Hops>,
    /// Node classes.
    pub registry: Arc<Registry>,
    /// The gateway role.
    pub gateway: Option<Gateway>,
    /// The orchestrator role.
    pub orchestrator: Option<Orchestrator>,
    /// Store and ledger.
    pub money: Money,
    /// Streams made playable.
    pub bridges: Option<Bridges>,
    /// The certificate of all TLS listeners.
    pub certificate: Option<Arc<Certificate>>,
    /// Who gets it from an authority.
    pub acme: Option<Acme>,
    /// Figures of all HTTP listeners.
    pub http: Arc<listen::Counters>,
    /// Renditions that are made.
    pub ladders: Option<Ladders>,
    /// RTMP connections.
    pub rtmp: Option<(Sessions, Arc<rtmp::Counters>)>,
    /// SRT connections.
    pub srt: Option<(srt::Connections, Arc<srt::Counters>)>,
    /// RTMPS connections. The counters are the same: both count in them.
    pub rtmps: Option<(Sessions, Arc<rtmp::Counters>)>,
    /// RTSP connections without and with TLS.
    pub rtsp: Option<([Sessions; 2], Arc<rtsp::Counters>)>,
    /// WebRTC sessions.
    pub webrtc: Option<webrtc::Server>,
    /// HLS players and muxers.
    pub hls: Option<hls::Server>,
    /// What is recorded.
    pub recordings: Option<Recordings>,
    /// What is recorded goes to a store.
    pub uploads: Option<Uploads>,
    /// Streams that are fetched.
    pub sources: Option<Sources>,
    /// Streams that are sent on.
    pub pushes: Option<Pushes>,
    /// Where the pages for viewers are.
    pub edge: Option<SocketAddr>,
    started: (Instant, SystemTime),
}

impl Parts {
    /// Parts without roles.
    pub fn new(
        hub: Hub,
        hops: Arc<Hops>,
        registry: Arc<Registry>,
        money: Money,
        streams: StreamSettings,
        access: NodeAccess,
        store: Arc<Store>,
    ) -> Self {
        Self {
            hub,
            store,
            streams,
            access,
            events: Events::default(),
            hops,
            registry,
            gateway: None,
            orchestrator: None,
            money,
            bridges: None,
            certificate: None,
            acme: None,
            http: Arc::default(),
            ladders: None,
            rtmp: None,
            srt: None,
            rtmps: None,
            rtsp: None,
            webrtc: None,
            hls: None,
            recordings: None,
            uploads: None,
            sources: None,
            pushes: None,
            edge: None,
            started: (Instant::now(), SystemTime::now()),
        }
    }

    /// Since when the node runs.
    pub fn uptime(&self) -> Duration {
        self.started.0.elapsed()
    }

    /// When the node was started.
    pub fn started(&self) -> SystemTime {
        self.started.1
    }

    /// Everything at this moment.
    pub async fn snapshot(&self) -> Snapshot {
        let streams = self.hub.list().into_iter().map(|status| self.stream(status)).collect();
        let money = self.money.status().await.ok();
        Snapshot {
            node: NodeStatus {
                version: env!("CARGO_PKG_VERSION"),
                commit: env!("MILLSTREAM_COMMIT"),
                started_ms: unix_millis(self.started.1),
                uptime_seconds: self.started.0.elapsed().as_secs(),
                gateway: self.gateway.is_some(),
                orchestrator: self.orchestrator.as_ref().map(|o| o.service_uri().to_string()),
                edge: self.edge,
            },
            streams,
            certificate: self.certificate(),
            uploads: self.uploads.as_ref().map(Uploads::status),
            srt: self.srt.as_ref().map(|(list, _)| ConnectionView::list(list)).unwrap_or_default(),
            sources: self.sources.as_ref().map(Sources::list).unwrap_or_default(),
            pushes: self.pushes.as_ref().map(Pushes::list).unwrap_or_default(),
            bridges: self.bridges.as_ref().map(Bridges::list).unwrap_or_default(),
            jobs: self.orchestrator.as_ref().map(Orchestrator::sessions).unwrap_or_default(),
            capacity: self.orchestrator.as_ref().map(Orchestrator::capacity),
            money,
            earned: self.orchestrator.as_ref().map(Orchestrator::earned),
            paid: self.gateway.as_ref().map(Gateway::paid),
            hops: Hop::ALL.into_iter().map(|hop| HopStatus::of(&self.hops, hop)).collect(),
        }
    }

    /// The certificate that TLS listeners show.
    pub fn certificate(&self) -> Option<CertificateView> {
        CertificateView::of(self.certificate.as_deref()?, self.acme.as_ref())
    }

    /// One stream as viewers and publishers may see it.
    pub fn edge_stream(&self, name: &StreamName) -> Option<StreamView> {
        self.hub.status(name).map(|status| self.stream(status).for_viewers())
    }
}

/// Everything at one moment.
#[derive(Serialize)]
pub struct Snapshot {
    node: NodeStatus,
    streams: Vec<StreamView>,
    certificate: Option<CertificateView>,
    /// The way of recordings to their store.
    uploads: Option<upload::Status>,
    /// SRT connections.
    srt: Vec<ConnectionView>,
    sources: Vec<SourceView>,
    pushes: Vec<PushView>,
    /// Forms of streams that are made for kinds of readers.
    bridges: Vec<BridgeView>,
    jobs: Vec<orchestrator::Status>,
    /// Free and taken places.
    capacity: Option<(usize, usize)>,
    /// Store and ledger.
    money: Option<MoneyStatus>,
    /// What the orchestrator's sessions counted, ended ones included.
    earned: Option<RecipientCounters>,
    /// What the gateway's sessions counted, ended ones included.
    paid: Option<SenderCounters>,
    hops: Vec<HopStatus>,
}

#[derive(Serialize)]
struct NodeStatus {
    version: &'static str,
    commit: &'static str,
    started_ms: u64,
    uptime_seconds: u64,
    gateway: bool,
    orchestrator: Option<String>,
    /// Where the pages for viewers are.
    edge: Option<SocketAddr>,
}

#[derive(Serialize)]
struct HopStatus {
    hop: &'static str,
    count: u64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    buckets: Vec<u64>,
    bounds_ms: Vec<f64>,
}

impl HopStatus {
    fn of(hops: &Hops, hop: Hop) -> Self {
        let snapshot = hops.snapshot(hop);
        let ms = |share| snapshot.quantile(share).map(|seconds| seconds * 1000.0);
        Self {
            hop: hop.name(),
            count: snapshot.count(),
            p50_ms: ms(0.5),
            p95_ms: ms(0.95),
            p99_ms: ms(0.99),
            buckets: snapshot.buckets.to_vec(),
            bounds_ms: BOUNDS.iter().map(|seconds| seconds * 1000.0).collect(),
        }
    }
}

/// What viewers and publishers may know: the streams, without addresses and money.
pub fn edge_routes(parts: Parts) -> Router {
    Router::new().route("/assets/streams.json", get(edge_streams)).with_state(parts)
}

async fn edge_streams(State(parts): State<Parts>) -> Json<Vec<StreamView>> {
    let streams = parts.hub.list().into_iter().map(|status| parts.stream(status).for_viewers());
    Json(streams.collect())
}
