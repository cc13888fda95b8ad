//! The nodes under measurement: child processes of this program on loopback, each with a data
//! directory that goes with the run, free ports and traces of single frames.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::usage::{self, Memory};
use super::{Processes, Road};
use crate::hops::Row;

/// The stream that is pushed.
pub(super) const STREAM: &str = "bench";

/// How long a node may take until it runs, and a stream until it comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often is asked whether a stream is there.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Bytes of a log that are shown when a node fails.
const LOG_TAIL: usize = 2000;

/// One node process.
pub(super) struct Node {
    /// `gateway`, `orchestrator`, or `up` for both.
    pub(super) role: &'static str,
    /// The command line that it was started with.
    pub(super) line: String,
    child: Child,
    said: Vec<String>,
}

impl Node {
    /// Its process.
    pub(super) fn id(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("the {} ended", self.role))
    }

    /// CPU seconds so far.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.id()?)
    }

    /// Its memory now.
    pub(super) fn memory(&self) -> Result<Memory> {
        usage::memory(self.id()?)
    }

    /// The address that it announced on the line with `word`.
    fn url(&self, word: &str) -> Result<&str> {
        let line = self.said.iter().find(|line| line.contains(word));
        let url = line.and_then(|line| line.split_whitespace().last());
        url.with_context(|| format!("the {} announced no {word}", self.role))
    }
}

/// The nodes of a run. Dropping it kills them and removes their files.
pub(super) struct Rig {
    /// The gateway first.
    pub(super) nodes: Vec<Node>,
    client: reqwest::Client,
    scratch: Scratch,
}

impl Rig {
    /// Starts the nodes for this road.
    pub(super) async fn start(road: &Road) -> Result<Self> {
        let client = crate::http_client()?;
        let mut rig = Self { nodes: Vec::new(), client, scratch: Scratch::new()? };
        let graph = match Path::new(&road.graph).canonicalize() {
            Ok(path) if path.is_file() => path.display().to_string(),
            _ => road.graph.clone(),
        };
        let graph = format!("pipeline.graph={graph}");
        let set = ["--set", "latency.trace=true", "--set", &graph];
        match road.processes {
            Processes::Two => {
                let orchestrator = rig.spawn(&road.cores, "orchestrator", &set[..2]).await?;
                let url = orchestrator.url("orchestrator for peers")?.to_owned();
                let more = [&["--orchestrators", &url], &set[..]].concat();
                let gateway = rig.spawn(&road.cores, "gateway", &more).await?;
                rig.nodes.extend([gateway, orchestrator]);
            }
            Processes::One => {
                let node = rig.spawn(&road.cores, "up", &set).await?;
                rig.nodes.push(node);
            }
        }
        Ok(rig)
    }

    /// Starts a gateway alone, which hands streams on as they are.
    pub(super) async fn gateway_alone(cores: &str, more: &[&str]) -> Result<Self> {
        let client = crate::http_client()?;
        let mut rig = Self { nodes: Vec::new(), client, scratch: Scratch::new()? };
        let node = rig.spawn(cores, "gateway", more).await?;
        rig.nodes.push(node);
        Ok(rig)
    }

    async fn spawn(&self, cores: &str, role: &'static str, more: &[&str]) -> Result<Node> {
        let program = std::env::current_exe().context("this program's own file")?;
        let program = program.to_str().context("this program's path is no text")?;
        let dir = self.dir();
        let mut words: Vec<String> = Vec::new();
        if pins(cores) {
            words.extend(["taskset", "-c", cores].map(str::to_owned));
        }
        words.extend([program, role].map(str::to_owned));
        words.extend(["--data-dir".into(), dir.join(role).display().to_string()]);
        for section in [
            "rtmp",
            "rtmps",
            "rtsp",
            "rtsps",
            "srt",
            "http",
            "webrtc",
            "playback",
            "admin",
            "metrics",
            "orchestrator",
        ] {
            words.extend(["--set".into(), format!("{section}.listen=127.0.0.1:0")]);
        }
        words.extend(["--set", "rtsp.udp_listen=127.0.0.1:0"].map(str::to_owned));
        let ledger = dir.join("ledger.db");
        words.extend(["--set".into(), format!("payments.ledger={}", ledger.display())]);
        words.extend(more.iter().map(|word| (*word).to_owned()));

        let log = dir.join(format!("{role}.log"));
        let log_file = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", words[0]))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut said: Vec<String> = Vec::new();
        let announced = async {
            while let Ok(Some(line)) = lines.next_line().await {
                match (line.is_empty(), said.is_empty()) {
                    // The announcement begins and ends with an empty line.
                    (true, false) => return true,
                    (true, true) => {}
                    (false, _) => said.push(line),
                }
            }
            false
        };
        if !tokio::time::timeout(PATIENCE, announced).await.unwrap_or(false) {
            bail!("the {role} does not start:\n{}", tail(&log));
        }
        Ok(Node { role, line: words.join(" "), child, said })
    }

    /// Where files of the run lie.
    pub(super) fn dir(&self) -> &Path {
        &self.scratch.0
    }

    fn gateway(&self) -> Result<&Node> {
        self.nodes.first().context("no gateway")
    }

    /// Where to push the stream.
    pub(super) fn rtmp(&self) -> Result<String> {
        let cam = self.gateway()?.url("publish by RTMP")?;
        let base = cam.rsplit_once('/').map_or(cam, |(base, _)| base);
        Ok(format!("{base}/{STREAM}"))
    }

    /// Where to watch over WHEP: the processed stream, or what was pushed.
    pub(super) fn whep(&self, processed: bool) -> Result<String> {
        let suffix = if processed { "-out" } else { "" };
        Ok(format!("{}/{STREAM}{suffix}/whep", self.http()?))
    }

    /// Where streams are published and watched over HTTP.
    pub(super) fn http(&self) -> Result<&str> {
        Ok(self.gateway()?.url("all streams")?.trim_end_matches('/'))
    }

    async fn get(&self, node: &Node, path: &str) -> Result<reqwest::Response> {
        let base = node.url("console")?.trim_end_matches('/');
        let response = self.client.get(format!("{base}/{path}")).send().await?;
        Ok(response.error_for_status()?)
    }

    /// Waits until the processed stream has pictures.
    pub(super) async fn until_processed(&self) -> Result<()> {
        let name = format!("{STREAM}-out");
        let gateway = self.gateway()?;
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status: Value = self.get(gateway, "v1/status").await?.json().await?;
            let streams = status["streams"].as_array().cloned().unwrap_or_default();
            let found = streams.iter().find(|stream| stream["name"] == name.as_str());
            if found.is_some_and(|stream| stream["frames"].as_u64() > Some(0)) {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                let logs = self.nodes.iter().map(|node| self.log(node)).collect::<Vec<_>>();
                bail!("no processed picture came within {PATIENCE:?}\n{}", logs.join("\n"));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// What happened to frames since the last call, in all nodes.
    pub(super) async fn trace(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for node in &self.nodes {
            let more: Vec<Row> = self.get(node, "v1/trace").await?.json().await?;
            rows.extend(more);
        }
        Ok(rows)
    }

    /// What the running job has counted so far: numbers by name.
    pub(super) async fn job(&self) -> Result<BTreeMap<String, i64>> {
        let node = self.nodes.last().context("no orchestrator")?;
        let status: Value = self.get(node, "v1/status").await?.json().await?;
        let mut counted = BTreeMap::new();
        for part in ["engine", "money"] {
            let Some(fields) = status["jobs"][0][part].as_object() else { continue };
            let whole = fields.iter().filter_map(|(name, value)| Some((name, value.as_i64()?)));
            counted.extend(whole.map(|(name, value)| (format!("{part}.{name}"), value)));
        }
        Ok(counted)
    }

    fn log(&self, node: &Node) -> String {
        format!("{}:\n{}", node.role, tail(&self.dir().join(format!("{}.log", node.role))))
    }
}

/// Whether processes are bound to cores.
pub(super) fn pins(cores: &str) -> bool {
    let taskset = Path::new("/usr/bin/taskset").exists();
    cores != "all" && usage::cores() > 1 && taskset
}

/// Binds this process, and what it starts from now on, to the cores that the nodes do not get.
/// Gives them in words.
pub(super) async fn step_aside(cores: &str) -> Result<String> {
    if !pins(cores) {
        return Ok("all processes on all cores".into());
    }
    let taken: Vec<&str> = cores.split(',').collect();
    let all = (0..usage::cores()).map(|core| core.to_string());
    let rest: Vec<String> = all.filter(|core| !taken.contains(&core.as_str())).collect();
    if rest.is_empty() || cores.contains('-') {
        bail!("--cores {cores:?}: name single cores, and leave one to the generator");
    }
    let own = std::process::id().to_string();
    let rest = rest.join(",");
    let mut command = Command::new("taskset");
    command.args(["-a", "-p", "-c", &rest, &own]).stdout(Stdio::null());
    if !command.status().await?.success() {
        bail!("taskset cannot bind this process to cores {rest}");
    }
    Ok(format!("nodes on cores {cores}, generator and viewer on {rest}"))
}

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let name = format!("millstream-bench-{:08x}", rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL)..]).into_owned()
}
