//! The node: settings, roles, and the joining of all parts.
//!
//! [`run`] reads as the life of the program: settings, runtime, [`Node::start`], wait for a signal,
//! drain. The roles live in [`gateway`] and [`orchestrator`]; [`link`] is the one bridge between
//! packets and trickle.

#![forbid(unsafe_code)]

pub mod access;
pub mod acme;
pub mod admin;
mod always;
pub mod api;
pub mod bench;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
mod edge;
pub mod events;
#[doc(hidden)]
pub mod fuzz;
pub mod gateway;
pub mod graphs;
pub mod hops;
pub mod identity;
pub mod ladder;
pub mod link;
pub mod listen;
pub mod live;
mod logging;
mod messages;
mod metrics;
pub mod money;
mod node;
pub mod orchestrator;
pub mod pushes;
mod remote;
pub mod rpc;
pub mod signing;
pub mod snapshot;
pub mod sources;
pub mod status;
pub mod streams;
pub mod upload;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cli::{Cli, Command};
use config::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;
use trickle::Trust;

pub use node::{Addresses, Node};

/// Does what the command line asks for.
///
/// # Errors
/// What a person should read.
pub fn run(cli: Cli) -> Result<()> {
    // Two crates bring a TLS provider each; the process uses one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Config { action } => cli::config(&action),
        Command::Link { stream, seconds, action, base, common } => {
            cli::link(&stream, seconds, &action, base.as_deref(), &common)
        }
        Command::Doctor { json, common } => doctor::run(&common.load(&[], &[])?.current(), json),
        Command::Bench { what } => bench::run(what),
        Command::Up { roles, demo, common } => {
            let mut presets = vec![("pipeline.graph", "default")];
            if demo {
                presets.push(("streams.demo.source", "demo"));
            }
            let flags = roles.map(|roles| ("roles", roles));
            serve(common.load(&presets, flags.as_slice())?)
        }
        Command::Gateway { orchestrators, common } => {
            let mut flags = vec![("roles", "gateway".to_owned())];
            flags.extend(orchestrators.map(|list| ("gateway.orchestrators", list)));
            serve(common.load(&[], &flags)?)
        }
        Command::Orchestrator { common } => {
            serve(common.load(&[], &[("roles", "orchestrator".to_owned())])?)
        }
    }
}

/// Prints an error for a person: what, then why.
#[allow(clippy::print_stderr, reason = "the last word of the program")]
pub fn report(error: &anyhow::Error) {
    eprintln!("millstream: {error:#}");
}

fn serve(store: Store) -> Result<()> {
    let store = Arc::new(store);
    let settings = store.current().settings.clone();
    logging::start(&settings.log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let drain = Duration::from_secs(settings.drain_seconds);
    runtime.block_on(async {
        let signal = stop_signal()?;
        let node = Node::start_with(store, CancellationToken::new()).await?;
        node.announce();
        signal.await;
        info!(within = ?drain, "stopping");
        node.drain(drain).await;
        info!("stopped");
        Ok(())
    })
}

/// Lets this process have as many files open as the system allows it: each connection is one, and
/// many systems begin at 1,024.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

/// Resolves at SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Sleeps until then; for ever without a time.
pub(crate) async fn until(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// A client for services that people name: certificates are checked.
///
/// # Errors
/// When the system's certificates cannot be used.
pub fn http_client() -> Result<reqwest::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.build().context("cannot make an HTTP client")
}

/// The whole body of an answer, if it has at most `limit` bytes.
pub(crate) async fn read_body(
    mut answer: reqwest::Response,
    limit: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let fault = |error: reqwest::Error| error.without_url().to_string();
    while let Some(chunk) = answer.chunk().await.map_err(fault)? {
        if body.len() + chunk.len() > limit {
            return Err(format!("the answer has more than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A client for other nodes: they show self-signed certificates and prove who they are by
/// signatures, so the certificate is taken as it is.
///
/// # Errors
/// Never in practice.
pub fn peer_http_client() -> Result<reqwest::Client> {
    let tls = Trust::Anyone.client_config(&[b"h2", b"http/1.1"])?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .build()
        .context("cannot make an HTTP client for peers")
}
