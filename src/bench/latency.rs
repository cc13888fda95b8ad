//! `millstream bench latency`: where each frame's time goes, from the last byte of its RTMP message
//! to its last WHEP packet, with what the nodes cost in CPU time and memory.
//!
//! Each node keeps a trace of its frames on the system's clock; here the rows of all nodes, and of
//! a bare viewer that notes when it read a frame's last packet, are joined by the frame's name, its
//! PTS. A frame counts when its whole road is known.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use pipeline::Size;
use tokio::time::sleep;

use super::clip::{self, Clip, GROUP};
use super::receiver::{self, Receiver};
use super::report::{Printer, Spread};
use super::rig::{self, Rig};
use super::usage::{self, Memory};
use super::{Processes, RATE, Road};
use crate::hops::{Hop, Row};

/// How long a node is left alone before its idle memory is read.
const IDLE: Duration = Duration::from_secs(5);

/// How long a stream runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(5);

/// Seconds of clip beyond the measured ones: start, warm-up, and an end that nobody sees.
const SPARE_SECONDS: u32 = 12;

/// Above this share of its core the generator may itself be what is slow.
const GENERATOR_SHARE_MAX: f64 = 0.8;

/// Runs it and prints the tables.
pub(super) async fn run(road: &Road) -> Result<()> {
    clip::need_ffmpeg().await?;
    let mut printer = Printer::new("latency", road.json);
    let places = rig::step_aside(&road.cores).await?;
    printer.say(&usage::machine());
    printer.say(&places);
    printer.with("machine", usage::machine());
    printer.with("places", places);
    printer.with("graph", road.graph.clone());
    printer.with("processes", if road.processes == Processes::Two { 2 } else { 1 });
    let mut void = Vec::new();
    for &size in &road.sizes {
        printer.with("size", size.to_string());
        let measured = measure(road, size).await?;
        print(&printer, road, size, &measured);
        void.extend(measured.void.iter().map(|reason| format!("{size}: {reason}")));
    }
    if !void.is_empty() {
        bail!("void: {}", void.join("; "));
    }
    Ok(())
}

/// What a run gave.
struct Measured {
    lines: Vec<String>,
    roles: Vec<&'static str>,
    idle: Vec<Memory>,
    busy: Vec<Memory>,
    /// CPU seconds per second of video, by node.
    cpu: Vec<f64>,
    generator: f64,
    viewer: f64,
    /// CPU seconds per second of everything else on the machine, and of other guests of its host.
    others: (f64, f64),
    roads: Vec<Passed>,
    sent: usize,
    received: usize,
    /// Pictures that went astray, by the last hop that saw them.
    lost: BTreeMap<&'static str, usize>,
    /// What the job counted meanwhile, where it counted something.
    job: BTreeMap<String, i64>,
    void: Vec<String>,
}

async fn measure(road: &Road, size: Size) -> Result<Measured> {
    let rig = Rig::start(road).await?;
    let clip = Clip::make(rig.dir(), size, road.seconds + SPARE_SECONDS, GROUP).await?;
    sleep(IDLE).await;
    let memory = || rig.nodes.iter().map(|node| node.memory()).collect::<Result<Vec<_>>>();
    let idle = memory()?;

    let mut push = clip.push(&rig.rtmp()?)?;
    rig.until_processed().await?;
    let receiver = Receiver::attach(&rig.whep(true)?).await?;
    sleep(WARM_UP).await;
    rig.trace().await?;
    let before = Spent::now(&rig, push.id())?;
    let job = rig.job().await?;
    let received = receiver.pictures().len();
    sleep(Duration::from_secs(road.seconds.into())).await;
    let spent = Spent::now(&rig, push.id())?.since(&before, f64::from(road.seconds));
    let received = receiver.pictures().len() - received;
    let mut rows = rig.trace().await?;
    let arrived = receiver::rows(&receiver.pictures(), &rows);
    rows.extend(arrived);
    let busy = memory()?;
    let job: BTreeMap<String, i64> = rig
        .job()
        .await?
        .into_iter()
        .map(|(name, now)| (name.clone(), now - job.get(&name).copied().unwrap_or_default()))
        .filter(|(_, more)| *more != 0)
        .collect();
    push.kill().await?;

    let frames = join(rows);
    let sent = frames.len();
    let mut void = Vec::new();
    if spent.generator > GENERATOR_SHARE_MAX {
        void.push(format!("the generator took {:.0} % of a core", spent.generator * 100.0));
    }
    let due = (road.seconds * RATE) as usize;
    if sent * 100 < due * 98 {
        void.push(format!("the generator sent {sent} of {due} pictures"));
    }
    Ok(Measured {
        lines: rig.nodes.iter().map(|node| node.line.clone()).collect(),
        roles: rig.nodes.iter().map(|node| node.role).collect(),
        idle,
        busy,
        cpu: spent.nodes,
        generator: spent.generator,
        viewer: spent.own,
        others: (spent.others, spent.stolen),
        lost: lost(&frames),
        job,
        roads: frames.values().filter_map(Passed::of).collect(),
        sent,
        received,
        void,
    })
}

/// CPU seconds at one moment, or per second between two.
struct Spent {
    nodes: Vec<f64>,
    generator: f64,
    own: f64,
    /// The whole machine at a moment; what is none of ours between two.
    others: f64,
    stolen: f64,
}

impl Spent {
    fn now(rig: &Rig, generator: Option<u32>) -> Result<Self> {
        let Some(generator) = generator else { bail!("the generator ended early") };
        let (others, stolen) = usage::machine_busy_seconds()?;
        Ok(Self {
            nodes: rig.nodes.iter().map(|node| node.cpu_seconds()).collect::<Result<_>>()?,
            generator: usage::cpu_seconds(generator)?,
            own: usage::cpu_seconds(std::process::id())?,
            others,
            stolen,
        })
    }

    fn since(&self, before: &Self, seconds: f64) -> Self {
        let per = |now: f64, before: f64| (now - before) / seconds;
        let nodes: Vec<f64> =
            self.nodes.iter().zip(&before.nodes).map(|(a, b)| per(*a, *b)).collect();
        let generator = per(self.generator, before.generator);
        let own = per(self.own, before.own);
        let ours = nodes.iter().sum::<f64>() + generator + own;
        Self {
            nodes,
            generator,
            own,
            others: (per(self.others, before.others) - ours).max(0.0),
            stolen: per(self.stolen, before.stolen),
        }
    }
}

/// The rows of one frame by hop.
pub(super) type Moments = [Option<Row>; Hop::ALL.len()];

/// Rows by frame; frames that were on their way when the trace began are left out.
pub(super) fn join(rows: Vec<Row>) -> BTreeMap<i64, Moments> {
    let mut frames: BTreeMap<i64, Moments> = BTreeMap::new();
    for row in rows {
        frames.entry(row.pts).or_default()[row.hop as usize].get_or_insert(row);
    }
    frames.retain(|_, moments| moments[Hop::Hub as usize].is_some());
    frames
}

/// Frames between the first and the last whole road that did not come through, by the last hop that
/// saw them. What lies outside was on its way when the trace began or ended.
fn lost(frames: &BTreeMap<i64, Moments>) -> BTreeMap<&'static str, usize> {
    let whole = |(_, moments): &(&i64, &Moments)| Passed::of(moments).is_some();
    let (first, last) = (frames.iter().find(whole), frames.iter().rev().find(whole));
    let mut lost = BTreeMap::new();
    let (Some((first, _)), Some((last, _))) = (first, last) else { return lost };
    for frame in frames.range(first..=last).filter(|frame| !whole(frame)) {
        let seen = Hop::ALL.into_iter().rev().find(|hop| frame.1[*hop as usize].is_some());
        *lost.entry(seen.map_or("nowhere", Hop::name)).or_default() += 1;
    }
    lost
}

/// Milliseconds of one frame at each part of its road.
#[derive(Debug, PartialEq)]
pub(super) struct Passed {
    ingest: f64,
    hub: f64,
    uplink: f64,
    queue: f64,
    decode: f64,
    wait: f64,
    graph: f64,
    encode: f64,
    downlink: f64,
    splice: f64,
    egress: f64,
    total: f64,
}

impl Passed {
    /// `None` unless the whole road is known.
    fn of(moments: &Moments) -> Option<Self> {
        let row = |hop: Hop| moments[hop as usize];
        let took = |hop: Hop| row(hop).map(|row| row.took_ns as f64 / 1e6);
        let ended = |hop: Hop| row(hop).map(|row| row.at_ns);
        let began = |hop: Hop| row(hop).map(|row| row.at_ns.saturating_sub(row.took_ns));
        // The other process may have it before the writer notes that it has written.
        let between = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
        let last = ended(Hop::Egress)?;
        Some(Self {
            ingest: took(Hop::Ingest)?,
            hub: took(Hop::Hub)?,
            uplink: between(ended(Hop::Hub)?, ended(Hop::Uplink)?),
            queue: took(Hop::Queue)?,
            decode: took(Hop::Decode)?,
            wait: took(Hop::Wait)?,
            graph: took(Hop::Graph)?,
            encode: took(Hop::Encode)?,
            downlink: between(ended(Hop::Encode)?, began(Hop::Splice)?),
            splice: took(Hop::Splice)?,
            egress: between(ended(Hop::Splice)?, last),
            total: between(began(Hop::Ingest)?, last),
        })
    }

    /// All that is not decode, graph and encode.
    fn rest(&self) -> f64 {
        self.total - self.decode - self.graph - self.encode
    }
}

/// What a picture took somewhere.
type Milliseconds = fn(&Passed) -> f64;

fn print(printer: &Printer, road: &Road, size: Size, measured: &Measured) {
    let Measured { roads, sent, received, .. } = measured;
    printer.say(&format!("\n{size} at {RATE} frames/s, graph {}, {} s", road.graph, road.seconds));
    for line in &measured.lines {
        printer.say(&format!("  {line}"));
    }
    printer.say("");
    let spread = |of: Milliseconds| Spread::of(roads.iter().map(of).collect());
    let hops: [(&str, &str, Milliseconds); 13] = [
        ("ingest", "ingest: last RTMP byte to the hub", |p| p.ingest),
        ("hub", "hub: to the way out, ticket told", |p| p.hub),
        ("uplink", "trickle to the orchestrator", |p| p.uplink),
        ("queue", "queue before the decoder, admission", |p| p.queue),
        ("decode", "decode", |p| p.decode),
        ("wait", "wait before the graph", |p| p.wait),
        ("graph", "graph", |p| p.graph),
        ("encode", "encode", |p| p.encode),
        ("downlink", "trickle back", |p| p.downlink),
        ("splice", "splice: to the hub", |p| p.splice),
        ("egress", "egress: to the last WHEP packet, read", |p| p.egress),
        ("total", "whole road", |p| p.total),
        ("rest", "all but decode, graph and encode", Passed::rest),
    ];
    printer.columns("hop");
    for (key, words, of) in hops {
        printer.spread(key, words, spread(of));
    }
    let astray: usize = measured.lost.values().sum();
    let places: Vec<String> =
        measured.lost.iter().map(|(hop, count)| format!("{count} after {hop}")).collect();
    printer.say(&format!(
        "\n{sent} pictures sent, {} with the whole road, {astray} lost{}{}; the viewer got {received}",
        roads.len(),
        if places.is_empty() { "" } else { ": " },
        places.join(", "),
    ));
    let job: Vec<String> =
        measured.job.iter().map(|(name, more)| format!("{name} {more:+}")).collect();
    printer.say(&format!("the job meanwhile: {}", job.join(", ")));
    printer.object([
        ("sent_frames", (*sent).into()),
        ("whole_road_frames", roads.len().into()),
        ("lost_frames", astray.into()),
        ("received_frames", (*received).into()),
    ]);
    costs(printer, measured);
    for reason in &measured.void {
        printer.say(&format!("VOID: {reason}"));
    }
}

fn costs(printer: &Printer, measured: &Measured) {
    let Measured { roles, idle, busy, cpu, generator, viewer, others, .. } = measured;
    printer.say(&format!(
        "{:<16}{:>22}{:>14}{:>14}{:>14}{:>12}",
        "process", "CPU s per s of video", "idle MB", "busy MB", "of it heap", "peak MB"
    ));
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let line = |role: &str, cpu: f64, idle: Memory, busy: Memory| {
        printer.say(&format!(
            "{role:<16}{cpu:>22.3}{:>14.1}{:>14.1}{:>14.1}{:>12.1}",
            idle.resident, busy.resident, busy.anonymous, busy.peak
        ));
        printer.object([
            ("process", role.into()),
            ("cpu_per_video_second_s", round(cpu).into()),
            ("idle_resident_mb", round(idle.resident).into()),
            ("idle_anonymous_mb", round(idle.anonymous).into()),
            ("busy_resident_mb", round(busy.resident).into()),
            ("busy_anonymous_mb", round(busy.anonymous).into()),
            ("peak_resident_mb", round(busy.peak).into()),
        ]);
    };
    let sum = |list: &[Memory]| list.iter().fold(Memory::default(), |sum, next| sum + *next);
    for (((role, cpu), idle), busy) in roles.iter().zip(cpu).zip(idle).zip(busy) {
        line(role, *cpu, *idle, *busy);
    }
    if roles.len() > 1 {
        line("together", cpu.iter().sum(), sum(idle), sum(busy));
    }
    printer.say(&format!(
        "generator {generator:.3}, viewer and this program {viewer:.3}, others on the machine {:.3}, \
         taken by its host {:.3} CPU s per s",
        others.0, others.1
    ));
    printer.object([
        ("generator_cpu_per_s", round(*generator).into()),
        ("viewer_cpu_per_s", round(*viewer).into()),
        ("others_cpu_per_s", round(others.0).into()),
        ("stolen_cpu_per_s", round(others.1).into()),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hop: Hop, at_ms: u64, took_ms: u64) -> Row {
        Row { pts: 3000, hop, at_ns: at_ms * 1_000_000, took_ns: took_ms * 1_000_000 }
    }

    #[test]
    fn the_parts_of_a_road_add_up_to_the_whole() {
        let rows = [
            (Hop::Ingest, 101, 1),
            (Hop::Hub, 103, 2),
            (Hop::Uplink, 106, 0),
            (Hop::Queue, 107, 1),
            (Hop::Decode, 112, 5),
            (Hop::Wait, 113, 1),
            (Hop::Graph, 120, 7),
            (Hop::Encode, 130, 10),
            (Hop::Downlink, 131, 0),
            (Hop::Splice, 135, 1),
            (Hop::Road, 135, 35),
            (Hop::Egress, 138, 3),
        ];
        let rows: Vec<Row> = rows.map(|(hop, at, took)| row(hop, at, took)).into();
        let frames = join(rows.clone());
        let passed = Passed::of(&frames[&3000]).unwrap();
        assert_eq!((passed.total, passed.rest()), (38.0, 16.0));
        assert_eq!((passed.uplink, passed.downlink, passed.egress), (3.0, 4.0, 3.0));

        let later = rows.iter().map(|row| Row { pts: 9000, ..*row });
        let one_missing = [rows.clone(), later.collect(), vec![Row { pts: 6000, ..rows[1] }]];
        assert_eq!(lost(&join(one_missing.concat())), BTreeMap::from([("hub", 1)]));

        let without = join(rows.iter().filter(|row| row.hop != Hop::Egress).copied().collect());
        assert_eq!((without.len(), Passed::of(&without[&3000])), (1, None), "it was sent only");
        let before = join(vec![row(Hop::Egress, 138, 3)]);
        assert!(before.is_empty(), "its begin lies before the trace");
    }
}
