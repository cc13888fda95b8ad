//! `millstream bench rtmp`: what it costs to send one stream to many RTMP players, beside the least
//! that sending the same bytes costs.
//!
//! The server is a gateway on a core of its own; publisher and players are bare clients in this
//! process on the others. In turn with it runs the floor: a process that does nothing but write the
//! same bytes at the same pace to the same number of sockets, on the same core. Both are started
//! anew for each run.

mod client;
pub(super) mod floor;
mod mark;
mod players;
mod source;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::RATE;
use super::report::{Printer, Spread};
use super::rig::{self, Rig};
use super::usage;
use players::Players;
use source::Source;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Rtmp {
    /// Players; may be repeated
    #[arg(long = "players", value_name = "N", default_values_t = [1000, 4000],
          value_parser = clap::value_parser!(u32).range(1..=PLAYERS_MAX))]
    players: Vec<u32>,
    /// Most milliseconds that pictures wait for the next ones to share a write: 0 is one write for
    /// each picture; may be repeated
    #[arg(long = "merge", value_name = "MS", default_values_t = [0, 40],
          value_parser = clap::value_parser!(u64).range(0..=MERGE_MS_MAX))]
    merge_ms: Vec<u64>,
    /// Bitrate of the stream, without sound
    #[arg(long, value_name = "KBIT/S", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(50..=50_000))]
    kbits: u32,
    /// Seconds of a run
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Runs that count, after one that does not
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Core of the gateway as `taskset` has it, `all` for no rule; the players get the others
    #[arg(long, value_name = "LIST", default_value = "0")]
    cores: String,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Players of a run, at most.
const PLAYERS_MAX: i64 = 20_000;

/// Most milliseconds that a node takes for `rtmp.merge_ms`.
const MERGE_MS_MAX: u64 = 1000;

/// From the last player's first picture to the measurement: all have caught up by then.
const SETTLE: Duration = Duration::from_secs(3);

/// How long the floor may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Above this share of its cores the generator may itself be what is slow.
const GENERATOR_SHARE_MAX: f64 = 0.8;

/// Less than this share of the bytes at the players makes a run void.
const DELIVERED_MIN: f64 = 0.98;

/// A publisher that is later than this has made a gap.
const LATE_MAX: Duration = Duration::from_millis(1000 / RATE as u64);

/// Files that a process has open beside its players' sockets.
const OTHER_FILES: u32 = 500;

/// Runs it and prints.
pub(super) async fn run(what: &Rtmp) -> Result<()> {
    let places = rig::step_aside(&what.cores).await?;
    allow_files(what.players.iter().max().copied().unwrap_or_default() + OTHER_FILES).await?;
    let mut printer = Printer::new("rtmp", what.json);
    printer.say(&usage::machine());
    printer.say(&places);
    printer.with("machine", usage::machine());
    printer.with("places", places);
    printer.with("kbit_per_s", what.kbits);
    let mut void = Vec::new();
    for &players in &what.players {
        for &merge in &what.merge_ms {
            printer.with("players", players);
            printer.with("merge_ms", merge);
            let merging = match merge {
                0 => "one write a picture".to_owned(),
                _ => format!("at most {merge} ms of merging"),
            };
            let kbits = what.kbits;
            printer
                .say(&format!("\n{players} players, {RATE} frames/s, {kbits} kbit/s, {merging}"));
            void.extend(compare(what, &printer, players, merge).await?);
        }
    }
    if !void.is_empty() {
        bail!("void: {}", void.join("; "));
    }
    Ok(())
}

/// Lets this process, and those that it starts, have so many files open.
async fn allow_files(count: u32) -> Result<()> {
    let own = std::process::id().to_string();
    let limit = format!("--nofile={count}:{count}");
    let raised = Command::new("prlimit").args(["--pid", &own, &limit]).status().await;
    ensure!(raised.is_ok_and(|status| status.success()), "prlimit cannot allow {count} open files");
    Ok(())
}

/// Server and floor in alternation. Gives the reasons of void runs.
async fn compare(what: &Rtmp, printer: &Printer, players: u32, merge: u64) -> Result<Vec<String>> {
    let mut runs: [Vec<Measured>; 2] = Default::default();
    let mut void = Vec::new();
    for round in 0..=what.rounds {
        for (kind, runs) in Kind::BOTH.into_iter().zip(&mut runs) {
            let (line, measured) = measure(what, kind, players, merge).await?;
            // The first round warms up; nobody counts it.
            if round == 0 {
                printer.say(&format!("{}: {line}", kind.name()));
                continue;
            }
            let reasons = measured.void.iter();
            void.extend(reasons.map(|why| format!("{} in round {round}: {why}", kind.name())));
            runs.push(measured);
        }
    }
    let [server, floor] = &runs;
    for (kind, runs) in Kind::BOTH.into_iter().zip(&runs) {
        printer.say(&format!("\n{}: median of {} runs", kind.name(), runs.len()));
        let row = |words: &str, key: &str, digits: usize, values: Vec<f64>| {
            let (median, least, most) = middle(values);
            printer.say(&format!(
                "{words:<42}{median:>12.digits$}   ({least:.digits$} to {most:.digits$})"
            ));
            let factor = 10_f64.powi(digits as i32);
            let round = |value: f64| (value * factor).round() / factor;
            printer.object([
                ("server", kind.name().into()),
                ("figure", key.into()),
                ("median", round(median).into()),
                ("least", round(least).into()),
                ("most", round(most).into()),
            ]);
        };
        let all = |pick: fn(&Measured) -> f64| runs.iter().map(pick).collect::<Vec<_>>();
        let per_core = runs.iter().map(|run| f64::from(players) / run.cpu.max(1e-3)).collect();
        row("players a core, by CPU seconds", "players_per_core", 0, per_core);
        row("share of its core", "core_share", 3, all(|run| run.cpu));
        row("CPU seconds per gigabit delivered", "cpu_s_per_gbit", 4, all(Measured::per_gigabit));
        if kind == Kind::Server {
            let pairs = server.iter().zip(floor);
            let times = pairs.map(|(server, floor)| server.per_gigabit() / floor.per_gigabit());
            row("times the floor", "times_floor", 2, times.collect());
        }
        row("Gbit/s delivered", "gbit_per_s", 3, all(|run| run.gigabits / run.seconds));
        row("share of the bytes that came", "delivered_share", 4, all(|run| run.delivered));
        row("delay of a picture, median", "delay_p50_ms", 1, all(|run| run.p50_ms));
        row("delay of a picture, 99 in 100", "delay_p99_ms", 1, all(|run| run.p99_ms));
        row("KiB of memory a player", "memory_player_kib", 1, all(|run| run.memory_kib));
        row("the generator's share of its cores", "generator_share", 3, all(|run| run.generator));
    }
    Ok(void)
}

/// Median, least and most.
fn middle(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        all => (all[all.len() / 2], all[0], all[all.len() - 1]),
    }
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Server,
    Floor,
}

impl Kind {
    const BOTH: [Self; 2] = [Self::Server, Self::Floor];

    const fn name(self) -> &'static str {
        match self {
            Self::Server => "millstream",
            Self::Floor => "floor",
        }
    }
}

/// One run.
struct Measured {
    seconds: f64,
    /// Cores that the sender took.
    cpu: f64,
    gigabits: f64,
    /// Share of what was due.
    delivered: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// What each later player added to the sender's memory.
    memory_kib: f64,
    generator: f64,
    /// Why it says nothing about the sender.
    void: Vec<String>,
}

impl Measured {
    fn per_gigabit(&self) -> f64 {
        self.cpu * self.seconds / self.gigabits.max(1e-9)
    }
}

async fn measure(what: &Rtmp, kind: Kind, count: u32, merge: u64) -> Result<(String, Measured)> {
    let sender = Sender::start(what, kind, count, merge).await?;
    let own = std::process::id();
    let server = kind == Kind::Server;
    let source = server.then(|| Source::start(sender.address, what.kbits)).transpose()?;
    let mut players = Players::new(sender.address, what.kbits, server)?;
    // Memory is what the later ones add, so that the program itself is not in it.
    let some = (count / 4).max(1);
    players.grow(some).await?;
    sleep(SETTLE).await;
    let before = usage::memory(sender.process)?.anonymous;
    players.grow(count).await?;
    sleep(SETTLE).await;
    let grown = usage::memory(sender.process)?.anonymous - before;

    if let Some(source) = &source {
        source.take_lateness();
    }
    players.note_delays(true);
    let (cpu, busy) = (usage::cpu_seconds(sender.process)?, usage::cpu_seconds(own)?);
    let (bytes, begun) = (players.bytes(), Instant::now());
    sleep(Duration::from_secs(what.seconds.into())).await;
    let bytes = players.bytes() - bytes;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = (usage::cpu_seconds(sender.process)? - cpu) / seconds;
    let busy = (usage::cpu_seconds(own)? - busy) / seconds;
    players.note_delays(false);

    let late = source.as_ref().map_or(Duration::ZERO, Source::take_lateness);
    let delays = Spread::of(players.delays_ms());
    let cores = if rig::pins(&what.cores) { usage::cores() - 1 } else { usage::cores() };
    let due = f64::from(count) * (mark::picture_bytes(what.kbits) * RATE as usize) as f64 * seconds;
    let mut measured = Measured {
        seconds,
        cpu,
        gigabits: bytes as f64 * 8.0 / 1e9,
        delivered: bytes as f64 / due,
        p50_ms: delays.map_or(f64::NAN, |delays| delays.p50),
        p99_ms: delays.map_or(f64::NAN, |delays| delays.p99),
        memory_kib: grown * 1e6 / 1024.0 / f64::from((count - some).max(1)),
        generator: busy / cores as f64,
        void: Vec::new(),
    };
    measured.void = void(&measured, late, delays.is_some());
    Ok((sender.line.clone(), measured))
}

/// Why a run says nothing about the sender.
fn void(run: &Measured, late: Duration, delays: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if run.generator > GENERATOR_SHARE_MAX {
        reasons.push(format!("the generator took {:.0} % of its cores", run.generator * 100.0));
    }
    if run.delivered < DELIVERED_MIN {
        reasons.push(format!("only {:.1} % of the bytes came", run.delivered * 100.0));
    }
    if late > LATE_MAX {
        reasons.push(format!("the publisher was {} ms late", late.as_millis()));
    }
    if !delays {
        reasons.push("no picture's time was read".into());
    }
    reasons
}

/// The process that sends. Dropping it kills it.
struct Sender {
    process: u32,
    line: String,
    address: SocketAddr,
    _runs: Runs,
}

/// What keeps it running.
enum Runs {
    Gateway { _rig: Rig },
    Floor { _child: Box<Child> },
}

impl Sender {
    async fn start(what: &Rtmp, kind: Kind, players: u32, merge: u64) -> Result<Self> {
        match kind {
            Kind::Server => Self::gateway(what, players, merge).await,
            Kind::Floor => Self::floor(what, merge).await,
        }
    }

    async fn gateway(what: &Rtmp, players: u32, merge: u64) -> Result<Self> {
        let room = format!("rtmp.connections_max={}", players + 100);
        let merge = format!("rtmp.merge_ms={merge}");
        let more = ["--set", &room, "--set", &merge];
        let rig = Rig::gateway_alone(&what.cores, &more).await?;
        let url = rig.rtmp()?;
        let node = rig.nodes.first().context("no gateway")?;
        let (process, line, address) = (node.id()?, node.line.clone(), address(&url)?);
        Ok(Self { process, line, address, _runs: Runs::Gateway { _rig: rig } })
    }

    async fn floor(what: &Rtmp, merge: u64) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        let program = program.display().to_string();
        let (kbits, merge) = (what.kbits.to_string(), merge.to_string());
        let mut words = vec![&program[..], "bench", "rtmp-floor", "--kbits", &kbits];
        words.extend(["--merge", &merge]);
        if rig::pins(&what.cores) {
            words.splice(0..0, ["taskset", "-c", &what.cores]);
        }
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the floor")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let said = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let said = said.context("the floor does not start")??.context("the floor ended")?;
        let process = child.id().context("the floor ended")?;
        let (line, address) = (words.join(" "), address(&said)?);
        Ok(Self { process, line, address, _runs: Runs::Floor { _child: Box::new(child) } })
    }
}

/// Where an `rtmp://` URL leads.
fn address(url: &str) -> Result<SocketAddr> {
    let host = url.strip_prefix("rtmp://").and_then(|rest| rest.split('/').next());
    host.unwrap_or_default().parse().with_context(|| format!("{url:?} names no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_says_nothing_about_the_sender_is_void() {
        let run = |generator, delivered| Measured {
            seconds: 10.0,
            cpu: 0.5,
            gigabits: 1.0,
            delivered,
            p50_ms: 1.0,
            p99_ms: 2.0,
            memory_kib: 8.0,
            generator,
            void: Vec::new(),
        };
        let reasons = |run: &Measured| void(run, Duration::from_millis(5), true).len();
        assert_eq!(reasons(&run(0.79, 1.0)), 0);
        assert_eq!(reasons(&run(0.81, 1.0)), 1);
        assert_eq!(reasons(&run(0.5, 0.97)), 1);
        assert_eq!(void(&run(0.5, 1.0), Duration::from_millis(50), false).len(), 2);
    }

    #[test]
    fn the_middle_of_runs_is_one_of_them() {
        assert_eq!(middle(vec![3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert!(middle(Vec::new()).0.is_nan());
    }
}
