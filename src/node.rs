//! A node: builds the chosen roles in order, runs them, drains them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chain::{KeyFile, Signer};
use ingest::auth::SharedAccess;
use ingest::{Hub, rtmp, webrtc};
use pipeline::graph::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use url::Url;

use crate::access::NodeAccess;
use crate::bridge::Bridges;
use crate::config::{Role, Settings};
use crate::gateway::{self, Backend, Gateway};
use crate::graphs::Graphs;
use crate::hops::Hops;
use crate::identity::{Certificate, DataDir};
use crate::listen::{self, Speaks};
use crate::money::Money;
use crate::orchestrator::{self, Orchestrator};
use crate::rpc::client::Peer;
use crate::status::Parts;
use crate::{admin, demo, live};

/// Where a node's listeners are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// RTMP.
    pub rtmp: Option<SocketAddr>,
    /// Pages, WHIP and WHEP.
    pub http: Option<SocketAddr>,
    /// WebRTC media.
    pub webrtc: Option<SocketAddr>,
    /// Peers.
    pub orchestrator: Option<SocketAddr>,
    /// Console and API.
    pub admin: Option<SocketAddr>,
    /// Metrics and health.
    pub metrics: Option<SocketAddr>,
}

/// A running node.
pub struct Node {
    settings: Settings,
    addresses: Addresses,
    parts: Parts,
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
    pub async fn start(mut settings: Settings, stop: CancellationToken) -> Result<Self> {
        if settings.public {
            open_to_all(&mut settings);
        }
        let close = CancellationToken::new();
        let tasks = TaskTracker::new();
        let data = DataDir::open(&settings.data_dir)?;
        let certificate = Certificate::load_or_make(&data, &settings.webrtc.hosts)?;
        let tls = certificate.server_config()?;
        let versions = codecs::init()?;
        info!(gstreamer = versions.gstreamer, "codecs are ready");

        let orchestrates = settings.roles.contains(&Role::Orchestrator);
        let orchestrator_key: Option<Arc<dyn Signer>> = match orchestrates {
            true => Some(Arc::new(KeyFile::open_or_create(&data.join("keys/orchestrator.key"))?)),
            false => None,
        };
        let paid = orchestrator_key.as_ref().map(|k| (k.address(), settings.orchestrator.price.0));
        let money = Money::open(&data, &settings.payments, paid).await?;
        let (running, until) = (money.clone(), close.clone());
        tasks.spawn(async move { running.run(until).await });

        let registry = Arc::new(registry(&settings));
        let hops = Arc::new(Hops::new(settings.latency.trace));
        let hub = Hub::new(ingest::hub::Limits::default());
        let mut addresses = Addresses::default();
        let mut parts = Parts::new(hub.clone(), Arc::clone(&hops), Arc::clone(&registry));

        parts.money = Some(money.clone());
        if let Some(signer) = orchestrator_key {
            let listener = bind("orchestrator.listen", settings.orchestrator.listen).await?;
            let local = listener.local_addr()?;
            addresses.orchestrator = Some(local);
            let orchestrator = Orchestrator::new(orchestrator::Parts {
                service_uri: service_uri(&settings, local)?,
                settings: settings.orchestrator.clone(),
                signer,
                registry: Arc::clone(&registry),
                money: money.clone(),
                hops: Arc::clone(&hops),
                shutdown: stop.clone(),
            });
            let router = orchestrator.router();
            tasks.spawn(listen::serve(listener, Speaks::Tls(tls.clone()), router, close.clone()));
            let channels = orchestrator.trickle().clone();
            let until = close.clone();
            tasks.spawn(async move {
                until.run_until_cancelled(channels.maintain()).await;
            });
            parts.orchestrator = Some(orchestrator);
        }

        if settings.roles.contains(&Role::Gateway) {
            let access: SharedAccess =
                Arc::new(NodeAccess::new(settings.auth.clone(), crate::http_client()?));
            let bridges = Bridges::new(hub.clone());
            parts.bridges = Some(bridges.clone());

            if settings.rtmp.enabled {
                let config = rtmp::Config {
                    addr: settings.rtmp.listen,
                    take_over: settings.rtmp.take_over,
                    idle_timeout: Duration::from_secs(settings.rtmp.read_timeout_seconds),
                    connections_max: settings.rtmp.connections_max,
                    ..rtmp::Config::default()
                };
                let counters = Arc::new(rtmp::Counters::default());
                let server =
                    rtmp::Server::bind(config, hub.clone(), access.clone(), counters.clone())
                        .await
                        .with_context(|| cannot_bind("rtmp.listen", settings.rtmp.listen))?;
                addresses.rtmp = Some(server.local_addr());
                parts.rtmp = Some((server.sessions(), counters));
                tasks.spawn(server.run(stop.clone()));
            }

            let config = webrtc::Config {
                udp: settings.webrtc.listen,
                advertised: settings.webrtc.hosts.iter().map(IpAddr::to_string).collect(),
                origins: settings.http.allow_origins.clone(),
                sessions_max: settings.webrtc.sessions_max,
                take_over: settings.rtmp.take_over,
                ..webrtc::Config::default()
            };
            let server =
                webrtc::Server::start(config, hub.clone(), access.clone(), Arc::new(bridges))
                    .with_context(|| cannot_bind("webrtc.listen", settings.webrtc.listen))?;
            addresses.webrtc = Some(server.local_addr());
            let listener = bind("http.listen", settings.http.listen).await?;
            addresses.http = Some(listener.local_addr()?);
            parts.edge = addresses.http;
            parts.webrtc = Some(server.clone());

            let signer: Arc<dyn Signer> =
                Arc::new(KeyFile::open_or_create(&data.join("keys/gateway.key"))?);
            money.grant(signer.address()).await?;
            let graphs = Arc::new(Graphs::load(&settings.pipeline, &settings.streams, &registry)?);
            let gateway = Gateway::new(gateway::Parts {
                settings: settings.gateway.clone(),
                hub: hub.clone(),
                signer,
                backends: backends(&settings, parts.orchestrator.as_ref())?,
                graphs,
                money: money.clone(),
                registry: Arc::clone(&registry),
                hops: Arc::clone(&hops),
            });
            let running = gateway.clone();
            let until = stop.clone();
            tasks.spawn(async move { running.run(until).await });
            parts.gateway = Some(gateway);
            let facts = dashboards::pages::NodeFacts {
                version: env!("CARGO_PKG_VERSION"),
                rtmp_port: addresses.rtmp.map(|address| address.port()),
                publish_needs_password: !settings.auth.publish_password.is_empty(),
                read_needs_password: !settings.auth.read_password.is_empty(),
            };
            let rest = live::router(parts.clone(), access).fallback_service(server.router());
            let streams = crate::status::edge_routes(parts.clone());
            let router = dashboards::pages::edge(&facts, rest).merge(streams);
            tasks.spawn(listen::serve(listener, Speaks::Both(tls), router, close.clone()));
            let until = stop.clone();
            tasks.spawn(server.run(async move { until.cancelled().await }));
        }

        let listener = bind("admin.listen", settings.admin.listen).await?;
        addresses.admin = Some(listener.local_addr()?);
        let router = admin::router(parts.clone(), &settings.admin);
        tasks.spawn(listen::serve(listener, Speaks::Http, router, close.clone()));
        let listener = bind("metrics.listen", settings.metrics.listen).await?;
        addresses.metrics = Some(listener.local_addr()?);
        let router = admin::metrics_router(parts.clone(), stop.clone());
        tasks.spawn(listen::serve(listener, Speaks::Http, router, close.clone()));

        for (name, stream) in &settings.streams {
            if stream.source.as_deref() == Some("demo") {
                let name = ingest::StreamName::parse(name)?;
                demo::start(&hub, name, &stop).context("the test picture")?;
            }
        }
        Ok(Self { settings, addresses, parts, tasks, stop, close })
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
        let Addresses { rtmp, http, admin, orchestrator, metrics, .. } = self.addresses;
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
            println!("  publish from a browser   http://{http}/cam/publish");
            println!("  and watch it             http://{http}/cam-out/");
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

/// Node classes that graphs may use: the host's, and those that run models.
fn registry(settings: &Settings) -> Registry {
    let mut registry = Registry::host();
    let given = &settings.pipeline.onnxruntime;
    let runtime = gpu::onnx::Runtime::open((!given.as_os_str().is_empty()).then_some(given));
    match &runtime {
        Ok(runtime) => info!(versions = ?runtime.versions(), "models can be run"),
        Err(error) => warn!(%error, "models cannot be run"),
    }
    let models = gpu::nodes::Models {
        dir: settings.pipeline.models_dir.clone(),
        ..gpu::nodes::Models::default()
    };
    gpu::nodes::register(&mut registry, runtime, models);
    registry
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
            None => Backend::Remote { peer, trickle: trickle.clone() },
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

/// `public`: what listens on loopback for people and peers listens on all addresses.
fn open_to_all(settings: &mut Settings) {
    let Settings { rtmp, http, webrtc, orchestrator, .. } = settings;
    for listen in [&mut rtmp.listen, &mut http.listen, &mut webrtc.listen, &mut orchestrator.listen]
    {
        if listen.ip().is_loopback() {
            listen.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
    }
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

fn cannot_bind(setting: &str, address: SocketAddr) -> String {
    format!("{setting}: cannot listen on {address}")
}
