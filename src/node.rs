//! A node: builds the chosen roles in order, runs them, drains them.
//!
//! This file is long because it is the one place where all parts are joined.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chain::{KeyFile, Signer};
use ingest::Hub;
use ingest::auth::SharedAccess;
use ingest::mpegts::Fanout;
use ingest::views::Views;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use url::Url;

use crate::access::NodeAccess;
use crate::access::tokens::Tokens;
use crate::acme::Acme;
use crate::bridge::Bridges;
use crate::config::{Role, Settings, Store};
use crate::edge::{self, Edge, cannot_bind};
use crate::events::{self, Events};
use crate::gateway::{self, Backend, Gateway};
use crate::graphs::{self, Graphs};
use crate::hops::Hops;
use crate::identity::{self, Certificate, DataDir};
use crate::ladder::Ladders;
use crate::listen::{self, Speaks};
use crate::messages::Steering;
use crate::money::Money;
use crate::orchestrator::{self, Orchestrator};
use crate::rpc::client::Peer;
use crate::snapshot::Snapshots;
use crate::status::Parts;
use crate::streams::StreamSettings;
use crate::{admin, live};

/// Where a node's listeners are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// RTMP.
    pub rtmp: Option<SocketAddr>,
    /// SRT.
    pub srt: Option<SocketAddr>,
    /// RTMPS.
    pub rtmps: Option<SocketAddr>,
    /// RTSP.
    pub rtsp: Option<SocketAddr>,
    /// RTSP in TLS.
    pub rtsps: Option<SocketAddr>,
    /// Pages, WHIP and WHEP.
    pub http: Option<SocketAddr>,
    /// WebRTC media.
    pub webrtc: Option<SocketAddr>,
    /// Recordings.
    pub playback: Option<SocketAddr>,
    /// Peers.
    pub orchestrator: Option<SocketAddr>,
    /// Console and API.
    pub admin: Option<SocketAddr>,
    /// Metrics and health.
    pub metrics: Option<SocketAddr>,
    /// The first one where only challenges of a certificate authority are answered.
    pub acme: Option<SocketAddr>,
}

/// A running node.
pub struct Node {
    settings: Settings,
    addresses: Addresses,
    parts: Parts,
    tls: Arc<rustls::ServerConfig>,
    tasks: TaskTracker,
    /// No new work.
    stop: CancellationToken,
    /// Listeners for people who look on; they stay until the end.
    close: CancellationToken,
}

impl Node {
    /// Builds and starts everything that the settings ask for.
    ///
    /// # Errors
    /// What keeps it from starting, naming the setting or the missing package.
    pub async fn start(settings: Settings, stop: CancellationToken) -> Result<Self> {
        Self::start_with(Arc::new(Store::of(&settings)?), stop).await
    }

    /// As [`Self::start`], with settings that may change while the node runs.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(store: Arc<Store>, stop: CancellationToken) -> Result<Self> {
        let mut settings = store.current().settings.clone();
        if settings.public {
            edge::open_to_all(&mut settings);
        }
        let data = DataDir::open(&settings.data_dir)?;
        let certificate = Certificate::load_or_make(&data, &settings)?;
        let versions = codecs::init()?;
        info!(gstreamer = versions.gstreamer, "codecs are ready");

        let orchestrates = settings.roles.contains(&Role::Orchestrator);
        let payee = match orchestrates {
            true => Some(key(&data, "orchestrator")?),
            false => None,
        };
        let paid = payee.as_ref().map(|key| (key.address(), settings.orchestrator.price.0));
        let money = Money::open(&data, &settings.payments, paid).await?;
        let registry = Arc::new(graphs::registry(&settings));
        let hops = Arc::new(Hops::new(settings.latency.trace));
        let hub = Hub::new(ingest::hub::Limits::default());
        let streams = StreamSettings::new(&settings).map_err(anyhow::Error::msg)?;
        let followed = streams.clone();
        store.follow(Box::new(move |settings| followed.prepare(settings)));
        let access = access(&settings, &data, &streams, &hub)?;
        let asked = access.clone();
        store.follow(Box::new(move |settings| asked.prepare(settings)));
        let mut node = Self {
            parts: Parts::new(hub, hops, registry, money, streams, access, Arc::clone(&store)),
            tls: certificate.server_config()?,
            addresses: Addresses::default(),
            tasks: TaskTracker::new(),
            close: CancellationToken::new(),
            settings,
            stop,
        };
        node.parts.certificate = Some(Arc::clone(&certificate));
        node.start_acme(&data, &certificate).await?;
        let (money, until) = (node.parts.money.clone(), node.close.clone());
        node.tasks.spawn(async move { money.run(until).await });
        if let Some(signer) = payee {
            node.start_orchestrator(signer).await?;
        }
        if node.settings.roles.contains(&Role::Gateway) {
            node.start_gateway(key(&data, "gateway")?).await?;
        }
        node.start_events()?;
        node.start_admin().await?;
        if let Some(acme) = node.parts.acme.clone() {
            node.tasks.spawn(acme.run(node.close.clone()));
        }
        let until = node.close.clone();
        node.tasks.spawn(async move {
            until.run_until_cancelled(store.watch()).await;
        });
        let until = node.close.clone();
        node.tasks.spawn(async move {
            until.run_until_cancelled(certificate.watch()).await;
        });
        Ok(node)
    }

    /// Prepares for a certificate authority, if the settings name one: it is answered on addresses of
    /// its own.
    async fn start_acme(&mut self, data: &DataDir, certificate: &Arc<Certificate>) -> Result<()> {
        let settings = &self.settings.acme;
        if !settings.is_on() {
            return Ok(());
        }
        for address in &settings.listen {
            let listener = bind("acme.listen", *address).await?;
            self.addresses.acme.get_or_insert(listener.local_addr()?);
            let router = certificate.challenges().router();
            self.serve(listener, Speaks::Both(self.tls.clone()), router);
        }
        // It asks when all listeners are there.
        self.parts.acme = Some(Acme::new(settings.clone(), data, Arc::clone(certificate)));
        Ok(())
    }

    /// The role that works, and its one listener for peers.
    async fn start_orchestrator(&mut self, signer: Arc<dyn Signer>) -> Result<()> {
        let listener = bind("orchestrator.listen", self.settings.orchestrator.listen).await?;
        let local = listener.local_addr()?;
        self.addresses.orchestrator = Some(local);
        let orchestrator = Orchestrator::new(orchestrator::Parts {
            service_uri: service_uri(&self.settings, local)?,
            settings: self.settings.orchestrator.clone(),
            signer,
            registry: Arc::clone(&self.parts.registry),
            money: self.parts.money.clone(),
            hops: Arc::clone(&self.parts.hops),
            shutdown: self.stop.clone(),
        });
        self.serve(listener, Speaks::Tls(self.tls.clone()), orchestrator.router());
        let (channels, until) = (orchestrator.trickle().clone(), self.close.clone());
        self.tasks.spawn(async move {
            until.run_until_cancelled(channels.maintain()).await;
        });
        self.parts.orchestrator = Some(orchestrator);
        Ok(())
    }

    /// The role that faces people: listeners, pages, and the sessions behind them.
    async fn start_gateway(&mut self, signer: Arc<dyn Signer>) -> Result<()> {
        let settings = self.settings.clone();
        let hub = self.parts.hub.clone();
        let access: SharedAccess = Arc::new(self.parts.access.clone());
        let bridges = Bridges::new(hub.clone());
        self.parts.bridges = Some(bridges.clone());
        let views: Arc<dyn Views> = Arc::new(bridges);
        let (streams, tasks) = (self.parts.streams.clone(), self.tasks.clone());
        let ladders = Ladders::new(hub.clone(), streams, tasks, self.stop.clone());
        self.parts.ladders = Some(ladders.clone());
        self.tasks.spawn(ladders.run());
        let mut edge = Edge {
            settings: settings.clone(),
            hub: hub.clone(),
            access: access.clone(),
            views: Arc::clone(&views),
            published: Arc::clone(&views),
            mpegts: Fanout::new(Arc::clone(&views), self.stop.clone()),
            streams: self.parts.streams.clone(),
            tls: self.tls.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        let (sources, pushes) = edge::remote::start(&mut edge, &self.parts.store)?;
        (self.parts.sources, self.parts.pushes) = (Some(sources), Some(pushes));
        (self.addresses.rtmp, self.addresses.rtmps) =
            edge::rtmp::start(&edge, &mut self.parts).await?;
        if settings.srt.enabled {
            let started = edge::srt::start(&edge)?;
            self.addresses.srt = Some(started.address);
            self.parts.srt = Some((started.connections, started.counters));
        }
        if settings.rtsp.enabled {
            let started = edge::rtsp::start(&edge).await?;
            (self.addresses.rtsp, self.addresses.rtsps) = (Some(started.address), started.tls);
            self.parts.rtsp = Some((started.sessions, started.counters));
        }
        let server = edge::webrtc::start(&edge)?;
        self.addresses.webrtc = Some(server.local_addr());
        self.parts.webrtc = Some(server.clone());
        self.parts.hls = settings.hls.enabled.then(|| edge::hls::start(&edge));
        let recordings = edge::record::start(&edge, Arc::clone(&self.parts.store));
        self.parts.uploads = edge::record::start_uploads(&edge, &recordings)?;
        self.parts.recordings = Some(recordings.clone());
        if settings.playback.enabled {
            let listener = bind("playback.listen", settings.playback.listen).await?;
            self.addresses.playback = Some(listener.local_addr()?);
            let router = edge::playback::router(&edge, recordings);
            self.serve(listener, Speaks::Both(self.tls.clone()), router);
        }

        self.parts.money.grant(signer.address()).await?;
        let streams = self.parts.streams.clone();
        let graphs = Graphs::load(&settings, streams, Arc::clone(&self.parts.registry))?;
        let gateway = Gateway::new(gateway::Parts {
            settings: settings.gateway.clone(),
            hub,
            views,
            signer,
            backends: backends(&settings, self.parts.orchestrator.as_ref())?,
            graphs: graphs.clone(),
            money: self.parts.money.clone(),
            registry: Arc::clone(&self.parts.registry),
            hops: Arc::clone(&self.parts.hops),
        });
        self.parts.gateway = Some(gateway.clone());
        server.answer_messages(Arc::new(Steering::new(gateway.clone())));
        self.follow_graphs(graphs, gateway.clone());
        let until = self.stop.clone();
        self.tasks.spawn(async move { gateway.run(until).await });

        let listener = bind("http.listen", settings.http.listen).await?;
        self.addresses.http = Some(listener.local_addr()?);
        let facts = dashboards::pages::NodeFacts {
            version: env!("CARGO_PKG_VERSION"),
            rtmp_port: self.addresses.rtmp.map(|address| address.port()),
            srt_port: self.addresses.srt.map(|address| address.port()),
            rtsp_port: self.addresses.rtsp.map(|address| address.port()),
            hls: self.parts.hls.is_some(),
            publish_needs_password: settings.auth.guards_publishing(),
            read_needs_password: settings.auth.guards_reading(),
        };
        let parts = self.parts.clone();
        let rest = live::router(parts.clone(), access.clone()).fallback_service(server.router());
        let rest = match &self.parts.hls {
            Some(hls) => hls.over(rest),
            None => rest,
        };
        let rest = edge::hls::publishers(&edge).over(rest);
        let recordings = parts.recordings.clone();
        let snapshots = Snapshots::new(parts.hub.clone(), access, recordings);
        let pages = dashboards::pages::edge(&facts, rest).merge(crate::status::edge_routes(parts));
        let mut router = snapshots.over(pages);
        if let Some(certificate) = self.parts.certificate.as_ref().filter(|_| settings.acme.is_on())
        {
            router = router.merge(certificate.challenges().router());
        }
        self.serve(listener, Speaks::Both(self.tls.clone()), router);
        Ok(())
    }

    /// Changed settings give running streams their graphs.
    fn follow_graphs(&self, graphs: Graphs, gateway: Gateway) {
        let (streams, stop) = (self.parts.streams.clone(), self.stop.clone());
        let runtime = tokio::runtime::Handle::current();
        self.parts.store.follow(Box::new(move |settings| {
            let (streams, graphs) = (streams.prepare(settings)?, graphs.prepare(settings)?);
            let (gateway, stop, runtime) = (gateway.clone(), stop.clone(), runtime.clone());
            let before = gateway.graphs_in_force();
            Ok(Box::new(move || {
                streams();
                graphs();
                let _runtime = runtime.enter();
                if !stop.is_cancelled() {
                    gateway.follow_settings(before, &stop);
                }
            }))
        }));
    }

    /// Webhooks, and what notices what they are told.
    fn start_events(&mut self) -> Result<()> {
        let settings = self.settings.events.clone();
        if settings.webhooks.is_empty() {
            return Ok(());
        }
        let client = crate::http_client()?;
        let events = Events::start(&settings, &client, &self.tasks, &self.close);
        self.parts.events = events.map_err(anyhow::Error::msg)?;
        let (parts, events) = (self.parts.clone(), self.parts.events.clone());
        let until = self.close.clone();
        self.tasks.spawn(async move {
            until.run_until_cancelled(events::watch::run(parts, events, settings.alerts)).await;
        });
        Ok(())
    }

    /// Console, API, metrics and health.
    async fn start_admin(&mut self) -> Result<()> {
        let listener = bind("admin.listen", self.settings.admin.listen).await?;
        self.addresses.admin = Some(listener.local_addr()?);
        self.parts.edge = self.addresses.http;
        let router = admin::router(self.parts.clone(), &self.settings.admin);
        self.serve(listener, Speaks::Http, router);
        let listener = bind("metrics.listen", self.settings.metrics.listen).await?;
        self.addresses.metrics = Some(listener.local_addr()?);
        let router = admin::metrics_router(self.parts.clone(), self.stop.clone());
        self.serve(listener, Speaks::Http, router);
        Ok(())
    }

    fn serve(&self, listener: TcpListener, speaks: Speaks, router: axum::Router) {
        let counters = Arc::clone(&self.parts.http);
        self.tasks.spawn(listen::serve(listener, speaks, router, counters, self.close.clone()));
    }

    /// Where its listeners are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What runs in it.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Says on standard output where to publish and watch.
    #[allow(clippy::print_stdout, reason = "the first thing that a person wants to know")]
    pub fn announce(&self) {
        let Addresses { rtmp, rtsp, srt, http, admin, orchestrator, metrics, .. } = self.addresses;
        let host = |address: SocketAddr| reachable(address).to_string();
        println!("\nMillstream {} is running.", env!("CARGO_PKG_VERSION"));
        if let Some(http) = http.map(host) {
            if self.settings.streams.contains_key("demo") {
                println!("  watch the test picture   http://{http}/demo-out/");
            }
            println!("  all streams              http://{http}/");
            if let Some(rtmp) = rtmp.map(host) {
                println!("  publish by RTMP          rtmp://{rtmp}/cam");
            }
            if let Some(srt) = srt.map(host) {
                println!("  publish by SRT           srt://{srt}?streamid=publish:cam");
            }
            if let Some(rtsp) = rtsp.map(host) {
                println!("  publish or play by RTSP  rtsp://{rtsp}/cam");
            }
            println!("  publish from a browser   http://{http}/cam/publish");
            println!("  and watch it             http://{http}/cam-out/");
        }
        if let Some(playback) = self.addresses.playback.map(host) {
            println!("  recordings               http://{playback}/list?path=");
        }
        if let Some(orchestrator) = orchestrator.map(host) {
            println!("  orchestrator for peers   https://{orchestrator}");
        }
        if let Some(admin) = admin.map(host) {
            println!("  console                  http://{admin}/");
        }
        if let Some(metrics) = metrics.map(host) {
            println!("  metrics                  http://{metrics}/metrics");
        }
        println!();
    }

    /// Lets sessions end, for so long at most, then closes everything.
    pub async fn drain(self, limit: Duration) {
        self.stop.cancel();
        self.tasks.close();
        let drained = async {
            if let Some(orchestrator) = &self.parts.orchestrator {
                orchestrator.drain().await;
            }
            self.close.cancel();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(limit, drained).await.is_err() {
            warn!("some sessions did not end in time");
            self.close.cancel();
        }
    }
}

/// Who may do what, with the secret for links and the tokens of the data directory.
fn access(
    settings: &Settings,
    data: &DataDir,
    streams: &StreamSettings,
    hub: &Hub,
) -> Result<NodeAccess> {
    let secret = identity::link_secret(data)?;
    let tokens = Tokens::open(data.join("tokens.json"))?;
    let client = crate::http_client()?;
    NodeAccess::new(&settings.auth, secret, tokens, streams.clone(), hub.clone(), client)
        .map_err(anyhow::Error::msg)
}

/// A key of the node by the role that it is for.
fn key(data: &DataDir, role: &str) -> Result<Arc<dyn Signer>> {
    Ok(Arc::new(KeyFile::open_or_create(&data.join(&format!("keys/{role}.key")))?))
}

/// The orchestrators of the settings; without any the one in this process.
fn backends(settings: &Settings, own: Option<&Orchestrator>) -> Result<Vec<Backend>> {
    if settings.gateway.orchestrators.is_empty() {
        return Ok(own.cloned().map(Backend::Local).into_iter().collect());
    }
    let http = crate::peer_http_client()?;
    let trickle = trickle::Client::new(&trickle::ClientConfig::default())?;
    let mut backends = Vec::new();
    for address in &settings.gateway.orchestrators {
        let peer = Peer::new(address, http.clone()).context("gateway.orchestrators")?;
        let same = own.filter(|own| own.service_uri() == peer.url());
        backends.push(match same {
            Some(own) => Backend::Local(own.clone()),
            None => Backend::remote(peer, trickle.clone()),
        });
    }
    Ok(backends)
}

/// How peers reach this node.
fn service_uri(settings: &Settings, local: SocketAddr) -> Result<Url> {
    let given = &settings.orchestrator.service_uri;
    let text = match given.is_empty() {
        true => format!("https://{}", reachable(local)),
        false => given.clone(),
    };
    let url = Url::parse(&text).with_context(|| format!("orchestrator.service_uri {text:?}"))?;
    ensure!(url.scheme() == "https", "orchestrator.service_uri {text:?} must be https");
    Ok(url)
}

/// An address that a program on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        false => address,
    }
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| cannot_bind(setting, address))
}
