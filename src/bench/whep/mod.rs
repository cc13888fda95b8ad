//! `millstream bench whep`: how many viewers one core of a gateway serves over WebRTC, beside the
//! least that sending the same bytes costs, and beside another server if one is named.
//!
//! The gateway is a child process on a core of its own. Sources (WHIP) and viewers (WHEP) are
//! light clients in this process on the other cores: ICE, DTLS, SRTP and reports are real, nothing
//! is decoded. After each round with the server comes one with the floor: a bare sender that
//! repeats to the same addresses what a viewer was seen to get.

mod crowd;
pub(super) mod floor;
mod measured;
mod picture;
pub(super) mod source;
mod viewer;

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use parking_lot::Mutex;
use tokio::process::Command;
use tokio::time::sleep;

use super::peer::{Identity, Wants};
use super::report::{Printer, Spread};
use super::rig::{self, Rig};
use super::usage;
use crowd::Crowd;
use floor::{Plan, Spent};
use measured::{Measured, Seen};
use source::Sources;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Whep {
    /// Viewers
    #[arg(long, value_name = "N", default_value_t = 1000)]
    viewers: usize,
    /// Streams that they share, each with a phase of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    streams: usize,
    /// Opus at 48 kbit/s beside the picture
    #[arg(long, value_enum, default_value_t = Audio::Both)]
    audio: Audio,
    /// Seconds of a round
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Rounds that count, after one that does not
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Viewers report each packet ten times a second (transport-wide feedback), or not
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    feedback: bool,
    /// Core of the gateway as `taskset` has it, `all` for no rule; the viewers get the others
    #[arg(long, value_name = "LIST", default_value = "0")]
    cores: String,
    /// Another server measured in turn, `http://127.0.0.1:9889`: streams at `/bench{n}/whip` and
    /// `/whep`; pin it to the gateway's core yourself
    #[arg(long, value_name = "URL", requires = "peer_pid")]
    peer: Option<String>,
    /// Its process
    #[arg(long, value_name = "PID", requires = "peer")]
    peer_pid: Option<u32>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Whether there is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Audio {
    /// Pictures alone.
    No,
    /// Both in one stream.
    Yes,
    /// One after the other.
    Both,
}

/// How long a new crowd gets frames before its memory is read, in seconds, if rounds are as long:
/// it has caught up by then.
const SETTLE_SECONDS: u64 = 5;

/// How long what a viewer gets is noted for the floor: a group of pictures.
const PATTERN: Duration = Duration::from_secs(2);

/// Between two rounds: what is under way arrives.
const BREATH: Duration = Duration::from_millis(300);

/// After a pause: the next key picture comes, and everybody is back.
const RESUME: Duration = Duration::from_millis(3000);

/// Above this share of its cores the generator may itself be what is slow.
const GENERATOR_SHARE_MAX: f64 = 0.8;

/// A server under measurement with everybody who uses it.
struct Target {
    name: &'static str,
    process: u32,
    sources: Sources,
    crowd: Crowd,
    measured: Arc<Mutex<Measured>>,
    rounds: Vec<Round>,
    memory_kib: f64,
}

/// One round with a server.
struct Round {
    cpu_s: f64,
    wall_s: f64,
    generator: f64,
    dropped: u64,
    seen: Seen,
    floor: Option<Spent>,
}

/// Runs it and prints.
pub(super) async fn run(whep: &Whep) -> Result<()> {
    ensure!(whep.viewers > 0 && whep.streams > 0 && whep.rounds > 0, "nothing to measure");
    let mut printer = Printer::new("whep", whep.json);
    let places = rig::step_aside(&whep.cores).await?;
    printer.say(&usage::machine());
    printer.say(&places);
    printer.with("machine", usage::machine());
    printer.with("places", places);
    printer.with("viewers", whep.viewers);
    printer.with("streams", whep.streams);
    printer.with("feedback", whep.feedback);
    let mut void = Vec::new();
    let kinds: &[bool] = match whep.audio {
        Audio::No => &[false],
        Audio::Yes => &[true],
        Audio::Both => &[false, true],
    };
    for &audio in kinds {
        printer.with("audio", audio);
        let words = if audio { "with Opus at 48 kbit/s" } else { "without sound" };
        printer.say(&format!(
            "\n{} viewers of {} streams, 640x360, 30 frames/s, 600 kbit/s, {words}",
            whep.viewers, whep.streams
        ));
        for target in measure(whep, audio, &printer).await? {
            void.extend(print(&printer, whep, &target));
        }
    }
    if !void.is_empty() {
        bail!("void: {}", void.join("; "));
    }
    Ok(())
}

async fn measure(whep: &Whep, audio: bool, printer: &Printer) -> Result<Vec<Target>> {
    let more = ["--set", "webrtc.workers=1", "--set", "webrtc.sessions_max=100000"];
    let rig = Rig::gateway_alone(&whep.cores, &more).await?;
    let node = rig.nodes.first().context("no gateway")?;
    printer.say(&format!("server: {}", node.line));
    let mut targets = vec![Target::new("millstream", rig.http()?, node.id()?, whep, audio).await?];
    if let (Some(peer), Some(process)) = (&whep.peer, whep.peer_pid) {
        let peer = peer.trim_end_matches('/');
        targets.push(Target::new("peer", peer, process, whep, audio).await?);
    }
    let first = targets.first().context("no target")?;
    let plan = first.plan().await?;
    let file = rig.dir().join("floor.json");
    std::fs::write(&file, serde_json::to_vec(&plan)?)?;
    targets.iter().for_each(|target| target.sources.pause(true));
    // The first round warms up; nobody counts it.
    for round in 0..=whep.rounds {
        for target in &mut targets {
            let mut measured = target.round(whep).await?;
            if target.name == "millstream" {
                sleep(BREATH).await;
                measured.floor = Some(bare(whep, &file, printer, round == 0).await?);
            }
            if round > 0 {
                target.rounds.push(measured);
            }
        }
    }
    Ok(targets)
}

impl Target {
    async fn new(
        name: &'static str,
        http: &str,
        process: u32,
        whep: &Whep,
        audio: bool,
    ) -> Result<Self> {
        let identity = Identity::generate()?;
        let measured = Arc::<Mutex<Measured>>::default();
        let noting = Arc::clone(&measured);
        let whip = format!("{http}/bench{{}}/whip");
        let sources = Sources::start(&whip, whep.streams, audio, &identity, noting).await?;
        sleep(BREATH).await;
        let wants = Wants { publish: None, audio, feedback: whep.feedback };
        let noting = Arc::clone(&measured);
        let url = format!("{http}/bench{{}}/whep");
        let mut crowd = Crowd::new(url, whep.streams, wants, identity, noting);
        // Memory is what the later ones add, so that the program itself is not in it.
        let some = (whep.viewers / 4).max(1);
        let settle = Duration::from_secs(whep.seconds.min(SETTLE_SECONDS));
        crowd.grow(some).await?;
        sleep(settle).await;
        let before = usage::memory(process)?.resident;
        crowd.grow(whep.viewers).await?;
        sleep(settle).await;
        let grown = usage::memory(process)?.resident - before;
        let memory_kib = grown * 1e6 / 1024.0 / (whep.viewers - some).max(1) as f64;
        Ok(Self { name, process, sources, crowd, measured, rounds: Vec::new(), memory_kib })
    }

    /// What the first viewer gets, for everybody.
    async fn plan(&self) -> Result<Plan> {
        let to = self.crowd.addresses();
        self.measured.lock().watch(*to.first().context("no viewer")?);
        sleep(PATTERN + BREATH).await;
        let sends = self.measured.lock().pattern();
        let sends: Vec<_> = sends
            .iter()
            .filter(|sent| sent.at < PATTERN)
            .map(|sent| (sent.at.as_micros() as u64, sent.bytes, sent.segment))
            .collect();
        ensure!(!sends.is_empty(), "the first viewer got nothing");
        Ok(Plan { period_us: PATTERN.as_micros() as u64, sends, to })
    }

    async fn round(&mut self, whep: &Whep) -> Result<Round> {
        self.sources.pause(false);
        sleep(RESUME).await;
        let own = std::process::id();
        let (cpu, generator) = (usage::cpu_seconds(self.process)?, usage::cpu_seconds(own)?);
        let (dropped, begun) = (self.crowd.dropped(), Instant::now());
        self.measured.lock().begin();
        sleep(Duration::from_secs(whep.seconds)).await;
        let seen = self.measured.lock().end();
        let wall_s = begun.elapsed().as_secs_f64();
        let cpu_s = usage::cpu_seconds(self.process)? - cpu;
        let generator = (usage::cpu_seconds(own)? - generator) / wall_s;
        self.sources.pause(true);
        let dropped = self.crowd.dropped() - dropped;
        Ok(Round { cpu_s, wall_s, generator, dropped, seen, floor: None })
    }
}

/// A round of the bare sender, on the core of the gateway.
async fn bare(whep: &Whep, plan: &std::path::Path, printer: &Printer, tell: bool) -> Result<Spent> {
    let program = std::env::current_exe().context("this program's own file")?;
    let program = program.display().to_string();
    let (plan, seconds) = (plan.display().to_string(), whep.seconds.to_string());
    let mut words = vec![&program[..], "bench", "whep-floor", &plan, "--seconds", &seconds];
    if rig::pins(&whep.cores) {
        words.splice(0..0, ["taskset", "-c", &whep.cores]);
    }
    if tell {
        printer.say(&format!("floor: {}", words.join(" ")));
    }
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("the bare sender")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the bare sender: {} {said}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Prints a server's figures; why they are void, if they are.
fn print(printer: &Printer, whep: &Whep, target: &Target) -> Option<String> {
    let rounds = &target.rounds;
    let spread = |value: &dyn Fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let viewers = whep.viewers as f64;
    let per_core = |round: &Round| viewers * round.wall_s / round.cpu_s.max(0.001);
    let gigabits = |round: &Round| round.seen.bytes as f64 * 8.0 / 1e9;
    let cpu_per_gigabit = |round: &Round| round.cpu_s / gigabits(round).max(1e-9);
    let floor_per_gigabit = |round: &Round| {
        round.floor.map_or(f64::NAN, |floor| floor.cpu_s / (floor.bytes as f64 * 8.0 / 1e9))
    };
    let ratio = |round: &Round| cpu_per_gigabit(round) / floor_per_gigabit(round);
    let row = |words: &str, key: &str, digits: usize, value: &dyn Fn(&Round) -> f64| {
        let (median, least, most) = spread(value);
        printer.say(&format!(
            "{words:<42}{median:>12.digits$}   ({least:.digits$} to {most:.digits$})"
        ));
        let factor = 10_f64.powi(digits as i32);
        let round = |value: f64| (value * factor).round() / factor;
        printer.object([
            ("server", target.name.into()),
            ("figure", key.into()),
            ("median", round(median).into()),
            ("least", round(least).into()),
            ("most", round(most).into()),
        ]);
    };
    printer.say(&format!(
        "\n{}: median of {} rounds of {} s",
        target.name,
        rounds.len(),
        whep.seconds
    ));
    row("viewers a core, by CPU seconds", "viewers_per_core", 0, &per_core);
    row("share of its core", "core_share", 3, &|round| round.cpu_s / round.wall_s);
    row("CPU seconds per gigabit delivered", "cpu_s_per_gbit", 4, &cpu_per_gigabit);
    if target.name == "millstream" {
        row("the floor's CPU seconds per gigabit", "floor_cpu_s_per_gbit", 4, &floor_per_gigabit);
        row("times the floor", "times_floor", 2, &ratio);
    }
    row("Mbit/s to a viewer", "mbit_per_s_viewer", 3, &|round| {
        gigabits(round) * 1000.0 / round.wall_s / viewers
    });
    row("packets a send", "packets_per_send", 2, &|round| {
        round.seen.packets as f64 / round.seen.sends.max(1) as f64
    });
    row("packets missing at viewers", "missing", 0, &|round| round.seen.missing as f64);
    row("the generator's share of a core", "generator_share", 3, &|round| round.generator);
    printer.say(&format!("{:<42}{:>12.1}", "KiB of memory a viewer", target.memory_kib));
    printer.object([
        ("server", target.name.into()),
        ("figure", "memory_kib_viewer".into()),
        ("median", ((target.memory_kib * 10.0).round() / 10.0).into()),
    ]);
    printer.columns("");
    let all = |of: &dyn Fn(&Seen) -> &Vec<f64>| {
        Spread::of(rounds.iter().flat_map(|round| of(&round.seen).iter().copied()).collect())
    };
    let key = |hop: &str| format!("{}.{hop}", target.name);
    let delay = all(&|seen| &seen.delays);
    printer.spread(&key("delay"), "last packet in to last packet out, read", delay);
    let last = all(&|seen| &seen.spreads);
    printer.spread(&key("last_viewer"), "first viewer to last viewer of a picture", last);
    void(target, whep)
}

/// Why a run says nothing about the server.
fn void(target: &Target, whep: &Whep) -> Option<String> {
    let mut reasons = Vec::new();
    let cores = usage::cores().saturating_sub(1).max(1) as f64;
    let share = target.rounds.iter().map(|round| round.generator / cores).fold(0.0, f64::max);
    if share > GENERATOR_SHARE_MAX {
        reasons.push(format!("the generator took {:.0} % of its cores", share * 100.0));
    }
    let dropped: u64 = target.rounds.iter().map(|round| round.dropped).sum();
    if dropped > 0 {
        reasons.push(format!("viewers were too slow for {dropped} datagrams"));
    }
    let floors = target.rounds.iter().filter_map(|round| round.floor);
    let refused: u64 = floors.map(|floor| floor.refused).sum();
    if refused > 0 {
        reasons.push(format!("the floor could not send {refused} times"));
    }
    let delays: usize = target.rounds.iter().map(|round| round.seen.delays.len()).sum();
    if delays == 0 {
        reasons.push("no picture came whole".into());
    }
    let audio = if whep.audio == Audio::No { "" } else { ", with or without sound" };
    (!reasons.is_empty()).then(|| format!("{}{audio}: {}", target.name, reasons.join(", ")))
}
