//! Feeds every parser of outside bytes with seeded rubbish.
//!
//! Each crate that reads bytes from outside lists its parsers in `fuzz::TARGETS`. This test breaks
//! their seeds in the ways that networks and adversaries do and looks for a panic, an input that
//! takes longer than [`INPUT_TIME_MAX`], and memory that grows past [`MEMORY_GROWTH_MAX_MIB`]. A
//! failing input lies afterwards in `target/fuzz-failures/`. It measures no coverage: the seeds
//! must reach the depths.
//!
//! | variable | means |
//! | --- | --- |
//! | `MILLSTREAM_FUZZ_SECONDS` | seconds of a processor for each target, from a seed of chance; without it every run feeds the same inputs |
//! | `MILLSTREAM_FUZZ_SEED` | repeats a run: the same inputs in the same order |
//! | `MILLSTREAM_FUZZ_TARGET` | only targets whose name contains this |
//! | `MILLSTREAM_FUZZ_INPUT` | only this file, as it is |

#![allow(clippy::unwrap_used, reason = "all of this is tests, the support too")]

use std::any::Any;
use std::fmt::{self, Write as _};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Inputs for each target when nothing else is asked: always the same, so that a test run says
/// something of the change that was tested. `./x fuzz` looks for new ones.
const INPUTS: u64 = 100_000;

/// The seed of those.
const SEED: u64 = 2026;

/// An input that takes longer hangs its parser.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);

/// Growth of the process that no parser of bounded memory causes, in MiB.
const MEMORY_GROWTH_MAX_MIB: u64 = 1024;

/// How often running inputs are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// The largest input in bytes, unless a seed is larger.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a failing input that are printed; the file has all.
const PRINTED_BYTES_MAX: usize = 2048;

/// A parser of some crate; the crates' own `Target` types all look like this.
#[derive(Clone, Copy)]
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: &'static [&'static [u8]],
}

/// Every parser of the workspace.
fn targets() -> Vec<Target> {
    let mut all = Vec::new();
    macro_rules! gather {
        ($($name:ident),*) => {$(
            all.extend($name::fuzz::TARGETS.iter().map(|target| Target {
                name: target.name,
                run: target.run,
                seeds: target.seeds,
            }));
        )*};
    }
    gather!(pipeline, gpu, ingest, trickle, payments, chain, millstream);
    all
}

#[test]
fn no_parser_panics_hangs_or_grows_on_rubbish() {
    let wanted = std::env::var("MILLSTREAM_FUZZ_TARGET").unwrap_or_default();
    let mut targets = targets();
    assert!(targets.len() > 10, "the crates have lost their fuzz targets");
    targets.retain(|target| target.name.contains(&wanted));
    assert!(!targets.is_empty(), "no target's name contains {wanted:?}");
    let plan = Plan::from_environment();
    say(&format!(
        "fuzz: {} targets, {} each, MILLSTREAM_FUZZ_SEED={}",
        targets.len(),
        plan.each,
        plan.seed
    ));
    let failures = drive(targets, &plan, &failures_folder());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The harness itself: what it must find, it finds, and writes down what found it.
#[test]
fn a_planted_panic_and_a_planted_hang_are_found_and_kept() {
    fn panics(bytes: &[u8]) {
        assert!(bytes.len() < 5 || bytes[1] != 0xff, "planted");
    }
    fn hangs(bytes: &[u8]) {
        if bytes.first() == Some(&0xff) {
            thread::sleep(Duration::from_secs(3600));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        seed: 1,
        each: Much::Time(Duration::from_secs(60)),
        input: None,
        input_time_max: INPUT_TIME_MAX,
    };
    let planted = |name, run| vec![Target { name, run, seeds: &[b"harmless"] }];
    let found = drive(planted("planted-panic", panics), &plan, folder.path());
    assert!(found.len() == 1 && found[0].contains("planted-panic panicked: planted"), "{found:?}");
    let kept = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let input = fs::read(&kept).unwrap();
    assert!(input.len() >= 5 && input[1] == 0xff, "the file is the input: {input:?}");
    let again = Plan { input: Some(input), ..plan };
    let found = drive(planted("planted-panic", panics), &again, folder.path());
    assert_eq!(found.len(), 1, "the file alone finds it again");
    // Telling of a panic may take its time, so only this part has a short limit.
    let soon = Plan { input: None, input_time_max: Duration::from_millis(300), ..again };
    let found = drive(planted("planted-hang", hangs), &soon, folder.path());
    assert!(found.len() == 1 && found[0].contains("planted-hang hangs"), "{found:?}");
}

/// How much a target gets.
#[derive(Clone, Copy)]
enum Much {
    Inputs(u64),
    Time(Duration),
}

impl fmt::Display for Much {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inputs(count) => write!(f, "{count} inputs"),
            Self::Time(time) => write!(f, "{time:?}"),
        }
    }
}

/// What one call of the test does.
struct Plan {
    seed: u64,
    each: Much,
    input: Option<Vec<u8>>,
    input_time_max: Duration,
}

impl Plan {
    fn from_environment() -> Self {
        let number = |name| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        let (each, seed) = match number("MILLSTREAM_FUZZ_SECONDS") {
            Some(seconds) => (Much::Time(Duration::from_secs(seconds)), rand::random()),
            None => (Much::Inputs(INPUTS), SEED),
        };
        let input = std::env::var("MILLSTREAM_FUZZ_INPUT")
            .ok()
            .map(|path| fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")));
        Self {
            seed: number("MILLSTREAM_FUZZ_SEED").unwrap_or(seed),
            each,
            input,
            input_time_max: INPUT_TIME_MAX,
        }
    }
}

/// Targets that run at the same time.
fn lanes() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().min(8))
}

/// What a lane is doing, for the watch.
#[derive(Default)]
struct Running {
    target: &'static str,
    input: Vec<u8>,
    since: Option<Instant>,
}

type Slot = Arc<Mutex<Running>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs all targets and returns the failures, a text each.
fn drive(targets: Vec<Target>, plan: &Plan, folder: &Path) -> Vec<String> {
    let targets = Arc::new(targets);
    let next = Arc::new(AtomicUsize::new(0));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let (seed, each, only) = (plan.seed, plan.each, plan.input.clone());
    let mut lanes: Vec<(Slot, thread::JoinHandle<()>)> = Vec::new();
    for _ in 0..self::lanes().min(targets.len()) {
        let slot = Slot::default();
        let (targets, next, failures) = (targets.clone(), next.clone(), failures.clone());
        let (only, folder, watched) = (only.clone(), folder.to_owned(), slot.clone());
        let lane = move || {
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                let found = match &only {
                    Some(input) => attempt(*target, input, &watched),
                    None => fuzz(*target, seed, each, &watched),
                };
                if let Err((input, why)) = found {
                    let text =
                        keep(&folder, target.name, &input, &format!("panicked: {why}"), seed);
                    lock(&failures).push(text);
                }
            }
        };
        // Parsers get the stack that the node's own threads have.
        let thread = thread::Builder::new().stack_size(2 << 20).spawn(lane).unwrap();
        lanes.push((slot, thread));
    }
    let memory = resident_mib();
    while !lanes.iter().all(|(_, thread)| thread.is_finished()) {
        thread::sleep(WATCH_EVERY);
        let grown = resident_mib().saturating_sub(memory);
        for (slot, _) in &lanes {
            let running = lock(slot);
            let Some(time) = running.since.map(|since| since.elapsed()) else { continue };
            let why = if time > plan.input_time_max {
                format!("hangs: {time:.1?} and no end")
            } else if grown > MEMORY_GROWTH_MAX_MIB {
                format!("or a target beside it grew by {grown} MiB")
            } else {
                continue;
            };
            // A thread cannot be stopped from outside: it ends with the process.
            let text = keep(folder, running.target, &running.input, &why, seed);
            lock(&failures).push(text);
            return std::mem::take(&mut lock(&failures));
        }
    }
    std::mem::take(&mut lock(&failures))
}

type Found = Result<(), (Vec<u8>, String)>;

fn fuzz(target: Target, seed: u64, much: Much, slot: &Slot) -> Found {
    let mut hasher = DefaultHasher::new();
    target.name.hash(&mut hasher);
    let mut mutator = Mutator::new(target.seeds, seed ^ hasher.finish());
    let began = worked();
    for input in target.seeds {
        attempt(target, input, slot)?;
    }
    let mut inputs = 0_u64;
    while match much {
        Much::Inputs(count) => inputs < count,
        Much::Time(time) => worked() - began < time,
    } {
        let input = mutator.next();
        attempt(target, &input, slot)?;
        inputs += 1;
    }
    let took = (worked() - began).as_secs_f64();
    say(&format!("fuzz: {:28} {inputs:9} inputs in {took:.1} s", target.name));
    Ok(())
}

/// Time that this thread had a processor: a busy machine makes a run longer, not shallower.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs one input, seen by the watch meanwhile.
fn attempt(target: Target, input: &[u8], slot: &Slot) -> Found {
    {
        let mut running = lock(slot);
        running.target = target.name;
        input.clone_into(&mut running.input);
        running.since = Some(Instant::now());
    }
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    lock(slot).since = None;
    result.map_err(|panic| (input.to_owned(), words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}

/// Saves a failing input and says all that is needed to repeat it.
fn keep(folder: &Path, target: &str, input: &[u8], why: &str, seed: u64) -> String {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = folder.join(format!("{target}-{:016x}.bin", hasher.finish()));
    let saved = fs::create_dir_all(folder).and_then(|()| fs::write(&path, input));
    let mut hex = String::new();
    for byte in input.iter().take(PRINTED_BYTES_MAX) {
        let _ = write!(hex, "{byte:02x}");
    }
    let text = format!(
        "{target} {why}\n  MILLSTREAM_FUZZ_SEED={seed} MILLSTREAM_FUZZ_TARGET={target}\n  \
         MILLSTREAM_FUZZ_INPUT={} ({} bytes{})\n  {hex}",
        path.display(),
        input.len(),
        saved.err().map(|error| format!(", not saved: {error}")).unwrap_or_default()
    );
    say(&text);
    text
}

/// Beside the target folder, so that a run leaves nothing in the tree.
fn failures_folder() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary).join("fuzz-failures")
}

/// Prints past the capture of the test harness: a parser that overflows the stack takes captured
/// lines, and with them the seed, down with it.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Memory of this process in MiB; 0 where the system does not tell.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Makes inputs out of seeds.
struct Mutator {
    seeds: &'static [&'static [u8]],
    bytes_max: usize,
    chance: StdRng,
}

/// Values at which arithmetic breaks.
const INTERESTING: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX,
];

impl Mutator {
    fn new(seeds: &'static [&'static [u8]], seed: u64) -> Self {
        let longest = seeds.iter().map(|seed| seed.len()).max().unwrap_or(0);
        let bytes_max = INPUT_BYTES_MAX.max(longest + longest / 2);
        Self { seeds, bytes_max, chance: StdRng::seed_from_u64(seed) }
    }

    fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.seed();
        // Mostly a few changes, so that the depths are reached; at times many.
        let changes = 1 << self.chance.random_range(0..6);
        for _ in 0..self.chance.random_range(1..=changes) {
            self.change(&mut bytes);
            bytes.truncate(self.bytes_max);
        }
        bytes
    }

    fn seed(&mut self) -> Vec<u8> {
        if self.seeds.is_empty() || self.chance.random_ratio(1, 50) {
            let length = self.chance.random_range(0..256);
            return (0..length).map(|_| self.chance.random()).collect();
        }
        self.seeds[self.chance.random_range(0..self.seeds.len())].to_vec()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(self.chance.random());
            return;
        }
        let length = bytes.len();
        let at = self.chance.random_range(0..length);
        let end = (at + self.span(length)).min(length);
        match self.chance.random_range(0..11) {
            0 | 1 => bytes[at] ^= 1 << self.chance.random_range(0..8),
            2 => bytes[at] = self.chance.random(),
            3 => {
                let value = INTERESTING[self.chance.random_range(0..INTERESTING.len())];
                self.number(bytes, at, value);
            }
            // A length field: what really follows, give or take a little.
            4 => {
                let follows = (length - at) as u64;
                let value = follows.wrapping_add_signed(self.chance.random_range(-9..=9));
                self.number(bytes, at, value);
            }
            5 => bytes.truncate(at),
            6 => drop(bytes.drain(at..end)),
            7 => {
                let part = bytes[at..end].to_vec();
                let times = self.chance.random_range(1..=16);
                for _ in 0..times {
                    bytes.splice(end..end, part.iter().copied());
                    if bytes.len() > self.bytes_max {
                        break;
                    }
                }
            }
            // The head of this, the tail of another.
            8 => {
                let other = self.seed();
                let from = self.chance.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            9 => {
                let part: Vec<u8> = (0..self.span(32)).map(|_| self.chance.random()).collect();
                bytes.splice(at..at, part);
            }
            _ => bytes[at..end].fill([0, 0xff, b'0', b'/'][self.chance.random_range(0..4)]),
        }
    }

    /// A length that is small more often than large.
    fn span(&mut self, max: usize) -> usize {
        let limit = self.chance.random_range(1..=max.max(1));
        self.chance.random_range(1..=limit)
    }

    /// Writes `value` over 1, 2, 3, 4 or 8 bytes, in either order, as far as there is room.
    fn number(&mut self, bytes: &mut [u8], at: usize, value: u64) {
        let width = [1, 2, 3, 4, 8][self.chance.random_range(0..5)].min(bytes.len() - at);
        let room = &mut bytes[at..at + width];
        if self.chance.random() {
            room.copy_from_slice(&value.to_be_bytes()[8 - width..]);
        } else {
            room.copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }
}
