//! `millstream bench rtmp`: what it costs to send one stream to many RTMP players.
//!
//! The server is a gateway of ours on a core of its own. This process publishes synthetic pictures
//! of equal size, each with the time at which it left, and plays them with bare clients that read
//! and count. In alternation with it runs the floor ([`super::floor`]): a process that does nothing
//! but write the same bytes at the same pace to the same number of sockets.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::players::{self, Players};
use super::report::{Printer, Spread};
use super::rig::Scratch;
use super::usage;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Rtmp {
    /// Players; may be repeated
    #[arg(long = "players", value_name = "N", default_values_t = [1000, 4000],
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    players: Vec<u32>,
    /// Most milliseconds that pictures wait for the next ones to share a write: 0 is one write for
    /// each picture; may be repeated
    #[arg(long = "merge", value_name = "MS", default_values_t = [0, 40],
          value_parser = clap::value_parser!(u64).range(0..=MERGE_MS_MAX))]
    merge_ms: Vec<u64>,
    /// Bitrate of the stream
    #[arg(long, value_name = "KBIT/S", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(50..=50_000))]
    kbits: u32,
    /// Seconds that are measured in each run, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Runs that count, after one that is thrown away
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// The server's core as `taskset` has it, `all` for no rule; the players get the others
    #[arg(long, value_name = "CORE", default_value = "0")]
    core: String,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What a node takes for `rtmp.merge_ms`.
const MERGE_MS_MAX: u64 = 1000;

/// Pictures in a second.
pub(super) const RATE: u32 = 30;

/// From the last player's first picture to the measurement.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long a server may take until it runs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A generator that takes more of its cores measures itself.
const GENERATOR_SHARE_MAX: f64 = 0.8;

/// Less than this share of the pictures at the players makes a run void.
const DELIVERED_MIN: f64 = 0.98;

/// Runs it and prints it.
pub(super) async fn run(what: &Rtmp) -> Result<()> {
    let pinned = what.core != "all" && usage::cores() > 1;
    let own = std::process::id().to_string();
    if pinned {
        let all = (0..usage::cores()).map(|core| core.to_string());
        let rest: Vec<String> = all.filter(|core| *core != what.core).collect();
        let words = ["-a", "-p", "-c", &rest.join(","), &own];
        let mut taskset = Command::new("taskset");
        let bound = taskset.args(words).stdout(Stdio::null()).status().await;
        ensure!(bound.is_ok_and(|status| status.success()), "taskset cannot bind this process");
    }
    let most = what.players.iter().max().copied().unwrap_or_default();
    let limit = format!("--nofile={0}:{0}", files(most));
    let raised = Command::new("prlimit").args(["--pid", &own, &limit]).status().await;
    ensure!(raised.is_ok_and(|s| s.success()), "prlimit cannot allow {} files", files(most));
    let mut printer = Printer::new("rtmp", what.json);
    printer.say(&usage::machine());
    printer.say(&format!("{} kbit/s at {RATE} frames/s, no sound", what.kbits));
    let mut void = 0;
    for players in &what.players {
        for merge in &what.merge_ms {
            printer.with("players", *players);
            printer.with("merge_ms", *merge);
            void += compare(what, &printer, *players, *merge, pinned).await?;
        }
    }
    ensure!(void == 0, "{void} runs were void");
    Ok(())
}

/// Sockets, and what else a process has open.
fn files(players: u32) -> u32 {
    players + 500
}

/// Server and floor in alternation. Gives the number of void runs.
async fn compare(
    what: &Rtmp,
    printer: &Printer,
    players: u32,
    merge: u64,
    pinned: bool,
) -> Result<usize> {
    let mut all: [Vec<Measured>; 2] = Default::default();
    let mut lines = [String::new(), String::new()];
    let mut void = 0;
    for run in 0..=what.runs {
        for (index, kind) in [Kind::Server, Kind::Floor].into_iter().enumerate() {
            let (line, measured) = measure(what, kind, players, merge, pinned).await?;
            lines[index] = line;
            for reason in &measured.void {
                printer.say(&format!("void: {} run {run}: {reason}", kind.name()));
            }
            // The first run warms caches and the processor's clock.
            if run > 0 {
                void += usize::from(!measured.void.is_empty());
                all[index].push(measured);
            }
        }
    }
    let merging = match merge {
        0 => "one write a picture".to_owned(),
        _ => format!("at most {merge} ms of merging"),
    };
    printer.say(&format!("\n{players} players, {merging}"));
    for (index, kind) in [Kind::Server, Kind::Floor].into_iter().enumerate() {
        let runs = &all[index];
        let of = |pick: fn(&Measured) -> f64| middle(runs.iter().map(pick).collect());
        let (cpu, least, most) = of(|run| run.cpu);
        let (gbits, ..) = of(|run| run.gbits);
        let (memory, ..) = of(|run| run.memory_kib);
        let (p50, ..) = of(|run| run.p50_ms);
        let (p99, ..) = of(|run| run.p99_ms);
        let (ns, ..) = of(|run| run.ns_per_byte);
        let a_core = f64::from(players) / cpu.max(1e-9);
        let name = kind.name();
        printer.say(&format!("  {name}: {}", lines[index]));
        printer.say(&format!(
            "    {:.1} % of a core ({:.1} to {:.1}), {gbits:.2} Gbit/s, {ns:.3} ns a byte: {a_core:.0} \
             players a core; delay p50 {p50:.1} ms, p99 {p99:.1} ms; {memory:.1} KiB a player",
            cpu * 100.0,
            least * 100.0,
            most * 100.0,
        ));
        printer.object([
            ("what", name.into()),
            ("runs", runs.len().into()),
            ("cpu_share", cpu.into()),
            ("cpu_share_min", least.into()),
            ("cpu_share_max", most.into()),
            ("cpu_ns_per_byte", ns.into()),
            ("sent_gbit_per_s", gbits.into()),
            ("players_per_core", a_core.into()),
            ("delay_p50_ms", p50.into()),
            ("delay_p99_ms", p99.into()),
            ("memory_per_player_kib", memory.into()),
        ]);
    }
    Ok(void)
}

/// Median, least and most.
fn middle(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => (0.0, 0.0, 0.0),
        all => (all[all.len() / 2], all[0], all[all.len() - 1]),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Server,
    Floor,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Floor => "floor",
        }
    }
}

/// One run.
struct Measured {
    /// Cores that the sender took.
    cpu: f64,
    gbits: f64,
    ns_per_byte: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// What each player added to the sender's memory.
    memory_kib: f64,
    void: Vec<String>,
}

async fn measure(
    what: &Rtmp,
    kind: Kind,
    players: u32,
    merge: u64,
    pinned: bool,
) -> Result<(String, Measured)> {
    let sender = Sender::start(what, kind, players, merge, pinned).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = match kind {
        Kind::Server => {
            Some(players::publish(sender.address, what.kbits, Arc::clone(&stop)).await?)
        }
        Kind::Floor => None,
    };
    let empty = usage::memory(sender.id()?)?;
    let speaks = kind == Kind::Server;
    let crowd = Players::connect(sender.address, players, speaks).await?;
    sleep(WARM_UP).await;
    let full = usage::memory(sender.id()?)?;
    let (cpu, own) = (usage::cpu_seconds(sender.id()?)?, usage::cpu_seconds(std::process::id())?);
    let before = crowd.count();
    let began = Instant::now();
    crowd.note_delays(true);
    sleep(Duration::from_secs(what.seconds.into())).await;
    crowd.note_delays(false);
    let seconds = began.elapsed().as_secs_f64();
    let after = crowd.count();
    let cpu = (usage::cpu_seconds(sender.id()?)? - cpu) / seconds;
    let own = (usage::cpu_seconds(std::process::id())? - own) / seconds;
    let delays = Spread::of(crowd.delays_ms());
    stop.store(true, Ordering::Release);
    drop(crowd);
    if let Some(publisher) = publisher {
        publisher.abort();
    }
    let bytes = after.bytes - before.bytes;
    let due = f64::from(players) * f64::from(what.kbits) * 125.0 * seconds;
    let mut void = Vec::new();
    let cores = if pinned { usage::cores() - 1 } else { usage::cores() };
    if own > GENERATOR_SHARE_MAX * cores as f64 {
        void.push(format!("the players took {:.0} % of their cores", own / cores as f64 * 100.0));
    }
    if (bytes as f64) < due * DELIVERED_MIN {
        void.push(format!("{:.1} % of the bytes came", bytes as f64 / due * 100.0));
    }
    if delays.is_none() {
        void.push("no picture's time was read".into());
    }
    let measured = Measured {
        cpu,
        gbits: bytes as f64 * 8.0 / seconds / 1e9,
        ns_per_byte: cpu * seconds * 1e9 / (bytes as f64).max(1.0),
        p50_ms: delays.map_or(0.0, Spread::p50),
        p99_ms: delays.map_or(0.0, Spread::p99),
        memory_kib: (full.anonymous - empty.anonymous) * 1e6 / 1024.0 / f64::from(players),
        void,
    };
    Ok((sender.line.clone(), measured))
}

/// The process that sends.
struct Sender {
    child: Child,
    line: String,
    address: SocketAddr,
    _scratch: Scratch,
}

impl Sender {
    async fn start(
        what: &Rtmp,
        kind: Kind,
        players: u32,
        merge: u64,
        pinned: bool,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let program = std::env::current_exe().context("this program's own file")?;
        let program = program.to_str().context("this program's path is no text")?;
        let files = files(players);
        let mut words = vec!["prlimit".to_owned(), format!("--nofile={files}:{files}")];
        if pinned {
            words.extend(["taskset", "-c", &what.core].map(str::to_owned));
        }
        words.push(program.to_owned());
        match kind {
            Kind::Server => {
                words.extend(["gateway", "--data-dir"].map(str::to_owned));
                words.push(scratch.path().join("node").display().to_string());
                for section in ["rtmp", "rtmps", "http", "webrtc", "admin", "metrics"] {
                    words.extend(["--set".into(), format!("{section}.listen=127.0.0.1:0")]);
                }
                words.extend(["--set".into(), format!("rtmp.connections_max={}", players + 100)]);
                words.extend(["--set".into(), format!("rtmp.merge_ms={merge}")]);
                words.extend(["--set", "pipeline.graph=none"].map(str::to_owned));
            }
            Kind::Floor => {
                words.extend(["bench", "floor"].map(str::to_owned));
                words.extend(["--kbits".into(), what.kbits.to_string()]);
                words.extend(["--merge".into(), merge.to_string()]);
            }
        }
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", words[0]))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let announced = async {
            while let Ok(Some(line)) = lines.next_line().await {
                let Some(url) = line.split_whitespace().find(|word| word.starts_with("rtmp://"))
                else {
                    continue;
                };
                let host = url.trim_start_matches("rtmp://").split('/').next().unwrap_or_default();
                return host.parse::<SocketAddr>().ok();
            }
            None
        };
        let address = tokio::time::timeout(PATIENCE, announced).await;
        let Ok(Some(address)) = address else { bail!("{} does not start", kind.name()) };
        // What it says later is of no interest, but it must be able to say it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, line: words.join(" "), address, _scratch: scratch })
    }

    fn id(&self) -> Result<u32> {
        self.child.id().context("the sender ended")
    }
}
