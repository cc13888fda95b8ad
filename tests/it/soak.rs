//! Clients of every kind ([`crate::visits`]) come and go for a set time, beside a stream that stays.
//! When they have gone, tasks, files (sockets are files), threads and memory of the node are what they
//! were, the stream lost nothing, and of every kind somebody was served.
//!
//! `MILLSTREAM_SOAK_SECONDS` sets the time (`./x soak`: an hour); without it three rounds are made.
//! `MILLSTREAM_SOAK_SEED` repeats the visits of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::card::Card;
use crate::kinds::{Visit, Way};
use crate::programs::PATIENCE;
use crate::push::{LIVE, Push};
use crate::visits::Place;

/// Visits at a time. In a round each kind comes once, in an order of chance.
const AT_A_TIME: usize = 4;

/// Rounds where no time is set.
const ROUNDS_MIN: usize = 3;

/// The streams when nobody visits.
const STEADY: [&str; 2] = ["steady", "steady-out"];

/// How many tasks, files and threads more than at first are chance: a request that is being
/// answered, the runtime's threads for files.
const TASKS_MORE: f64 = 8.0;
const FILES_MORE: f64 = 6.0;
const THREADS_MORE: f64 = 10.0;

/// Growth of memory, in MiB, that an allocator with many threads needs until it has seen all sizes.
/// A leak shows in the long run: it grows with the visits, and this does not.
const MEMORY_MORE_MIB: f64 = 48.0;

/// An offer whose sender never comes: nobody checks, nobody shakes hands.
pub(crate) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\na=rtcp-mux\r\na=mid:0\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:\
    00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n";

/// The node in the quiet between two rounds.
#[derive(Clone, Copy, Debug)]
struct Calm {
    tasks: f64,
    files: f64,
    threads: f64,
    memory_mib: f64,
}

impl Calm {
    fn read(metrics: &str) -> Self {
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let line = line.unwrap_or_else(|| panic!("no {name} in the metrics"));
            line.trim().parse::<f64>().unwrap()
        };
        Self {
            tasks: value("millstream_tasks"),
            files: value("process_open_fds"),
            threads: value("process_threads"),
            memory_mib: value("process_resident_memory_bytes") / f64::from(1 << 20),
        }
    }

    /// Whether nothing but chance was added to `first`.
    fn is_like(&self, first: &Self) -> bool {
        self.tasks <= first.tasks + TASKS_MORE
            && self.files <= first.files + FILES_MORE
            && self.threads <= first.threads + THREADS_MORE
    }
}

impl fmt::Display for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tasks, files, threads, memory_mib } = self;
        write!(f, "{tasks} tasks, {files} files, {threads} threads, {memory_mib:.1} MiB")
    }
}

async fn calm(place: &Place) -> Calm {
    Calm::read(&place.get(&place.node.url("metrics")).await.expect("metrics"))
}

/// Waits until all that was published has gone.
async fn until_quiet(place: &Place) {
    let end = Instant::now() + PATIENCE;
    loop {
        let streams = place.streams().await;
        if streams == STEADY {
            return;
        }
        assert!(
            Instant::now() < end,
            "visitors' streams stay, or the steady one went: {streams:?}"
        );
        sleep(Duration::from_millis(250)).await;
    }
}

/// Waits until the node is as it was.
async fn until_like(place: &Place, first: &Calm) -> Calm {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = calm(place).await;
        if now.is_like(first) {
            return now;
        }
        assert!(Instant::now() < end, "visitors left something behind: {first} became {now}");
        sleep(Duration::from_millis(250)).await;
    }
}

/// The node when two looks, two seconds apart, show the same tasks and files.
async fn settled(place: &Place) -> Calm {
    let end = Instant::now() + PATIENCE;
    let mut before = calm(place).await;
    loop {
        sleep(Duration::from_secs(2)).await;
        let now = calm(place).await;
        if (now.tasks, now.files) == (before.tasks, before.files) || Instant::now() > end {
            return now;
        }
        before = now;
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_of_every_kind_leave_nothing_behind_and_a_stream_beside_them_untouched() {
    let _alone = crate::node::alone().await;
    let dir = TempDir::new().unwrap();
    let place = Place::open(&dir).await;
    let steady = Push::rtmp(Card::SMALL, LIVE, &place.url(Way::Rtmp, "steady"));
    let until_there = async {
        while place.get(&place.http("steady/index.m3u8")).await.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until_there).await.expect("the stream comes");

    let time = number("MILLSTREAM_SOAK_SECONDS").map(Duration::from_secs);
    let seed = number("MILLSTREAM_SOAK_SEED").unwrap_or(1);
    let (began, mut visits, mut calms) = (Instant::now(), 0, Vec::new());
    // How many came, and how many of them got what they came for.
    let mut kinds: BTreeMap<Visit, [u32; 2]> = BTreeMap::new();
    println!("soak: MILLSTREAM_SOAK_SEED={seed}");
    while calms.len() < ROUNDS_MIN || time.is_some_and(|time| began.elapsed() < time) {
        let chance = |number: u32| StdRng::seed_from_u64(seed ^ u64::from(number) << 16);
        let mut round = place.kinds();
        round.shuffle(&mut chance(visits));
        let (place, first) = (&place, visits);
        visits += round.len() as u32;
        let round = round.into_iter().zip(first..).map(|(kind, number)| async move {
            (kind, place.visit(number, kind, chance(number)).await)
        });
        let round = futures_util::stream::iter(round).buffer_unordered(AT_A_TIME);
        for (kind, served) in round.collect::<Vec<_>>().await {
            let [came, got] = kinds.entry(kind).or_default();
            *came += 1;
            *got += u32::from(served);
        }
        until_quiet(place).await;
        // What stays after the first round is what every later one needs too.
        let calm = match calms.first() {
            Some(first) => until_like(place, first).await,
            None => settled(place).await,
        };
        println!("soak: {visits:6} visits, {:6.0} s: {calm}", began.elapsed().as_secs_f64());
        calms.push(calm);
    }

    for (kind, [came, got]) in &kinds {
        println!("soak: {kind:?}: {got} of {came} were served");
    }
    let unserved: Vec<_> = kinds.iter().filter(|(_, [_, got])| *got == 0).collect();
    assert!(unserved.is_empty(), "nobody was served of {unserved:?}");
    let status = place.status().await;
    let lagged = status["streams"].as_array().unwrap().iter().filter_map(|s| s["lagged"].as_u64());
    assert_eq!(lagged.sum::<u64>(), 0, "{status}");
    steady.finish().await;
    let memory = |calms: &[Calm]| {
        let mut all: Vec<f64> = calms.iter().map(|calm| calm.memory_mib).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let third = calms.len().div_ceil(3);
    let (first, last) = (memory(&calms[..third]), memory(&calms[calms.len() - third..]));
    assert!(last < first + MEMORY_MORE_MIB, "{first:.1} MiB became {last:.1} MiB");
}
