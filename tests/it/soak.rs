//! Clients of every kind come and go for a set time, beside a stream that stays: some end politely,
//! some are killed, some never say what they want. When they have gone, tasks, files, threads and
//! memory of the node are what they were, and the stream lost nothing.
//!
//! `MILLSTREAM_SOAK_SECONDS` sets the time (`./x soak`: an hour); without it three rounds are made.
//! `MILLSTREAM_SOAK_SEED` repeats the visits of a run.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Client;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::card::Card;
use crate::peer;
use crate::process::Process;
use crate::programs::{PATIENCE, ffmpeg};
use crate::push::{LIVE, Push};

/// Visits of a round, and how many of them at a time.
const VISITS: u32 = 24;
const AT_A_TIME: usize = 4;

/// Rounds where no time is set.
const ROUNDS_MIN: usize = 3;

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

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Visit {
    /// Publishes by RTMP until its clip ends.
    Publish,
    /// Publishes by RTMP and is killed.
    PublishKilled,
    /// Plays by RTMP for a moment.
    Play,
    /// Reads playlists and a segment.
    Hls,
    /// Watches by WHEP as aiortc does.
    Whep,
    /// Asks by WHEP and takes it back.
    WhepDeleted,
    /// Asks by WHEP and is not heard of again.
    WhepSilent,
    /// Connects to a port and says nothing, or rubbish.
    Rude,
}

/// By how often: starting a Python or a publisher costs more than the node's part.
const VISITS_OF_A_KIND: [Visit; 16] = [
    Visit::Publish,
    Visit::PublishKilled,
    Visit::PublishKilled,
    Visit::Play,
    Visit::Play,
    Visit::Hls,
    Visit::Hls,
    Visit::Hls,
    Visit::Whep,
    Visit::WhepDeleted,
    Visit::WhepDeleted,
    Visit::WhepSilent,
    Visit::Rude,
    Visit::Rude,
    Visit::Rude,
    Visit::Rude,
];

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

/// The node and what visitors need.
struct Place {
    node: Process,
    client: Client,
    clip: PathBuf,
    /// Where rude ones connect to.
    ports: Vec<SocketAddr>,
}

impl Place {
    fn rtmp(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.node.address("publish by RTMP"))
    }

    fn http(&self, path: &str) -> String {
        format!("{}{path}", self.node.url("all streams"))
    }

    async fn text(&self, url: &str) -> String {
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    async fn calm(&self) -> Calm {
        Calm::read(&self.text(&self.node.url("metrics")).await)
    }

    /// Waits until the node is as it was.
    async fn until_like(&self, first: &Calm) -> Calm {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.calm().await;
            if now.is_like(first) {
                return now;
            }
            assert!(Instant::now() < end, "visitors left something behind: {first} became {now}");
            sleep(Duration::from_millis(250)).await;
        }
    }

    fn ffmpeg(&self, words: &str) -> Child {
        let mut command = Command::new(ffmpeg());
        command.args(["-hide_banner", "-loglevel", "quiet", "-nostdin"]);
        command.args(words.split_whitespace()).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    async fn visit(&self, number: u32, kind: Visit, mut chance: StdRng) {
        let moment = Duration::from_millis(chance.random_range(50..1500));
        let clip = self.clip.display();
        let publish = format!("-re -i {clip} -c copy -f flv {}", self.rtmp(&format!("v{number}")));
        match kind {
            Visit::Publish => {
                let _ = self.ffmpeg(&publish).wait().await;
            }
            Visit::PublishKilled => {
                let mut child = self.ffmpeg(&publish);
                sleep(moment).await;
                let _ = child.kill().await;
            }
            Visit::Play => {
                let play = format!("-i {} -t 0.5 -c copy -f null -", self.rtmp("steady"));
                let _ = self.ffmpeg(&play).wait().await;
            }
            Visit::Hls => {
                let list = self.text(&self.http("steady/index.m3u8")).await;
                let media = list.lines().find(|line| !line.starts_with('#'));
                let media = media.unwrap_or_else(|| panic!("no playlist in {list:?}")).to_owned();
                let list = self.text(&self.http(&format!("steady/{media}"))).await;
                if let Some(part) = list.lines().rfind(|line| line.contains(".mp4")) {
                    let name = part.split('"').find(|word| word.contains(".mp4")).unwrap_or(part);
                    self.text(&self.http(&format!("steady/{name}"))).await;
                }
            }
            Visit::Whep => {
                let watcher = peer::watch(&self.http("steady/whep")).await;
                sleep(moment).await;
                // Every other one is killed.
                if number.is_multiple_of(2) {
                    watcher.finish().await;
                }
            }
            Visit::WhepDeleted | Visit::WhepSilent => {
                let post = self.client.post(self.http("steady/whep"));
                let post = post.header("content-type", "application/sdp").body(OFFER);
                let answer = post.send().await.unwrap();
                assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
                if matches!(kind, Visit::WhepDeleted) {
                    let location = answer.headers()["location"].to_str().unwrap().to_owned();
                    let session = answer.url().join(&location).unwrap();
                    sleep(moment / 8).await;
                    assert!(
                        self.client.delete(session).send().await.unwrap().status().is_success()
                    );
                }
            }
            Visit::Rude => {
                let port = self.ports[chance.random_range(0..self.ports.len())];
                let mut socket = TcpStream::connect(port).await.unwrap();
                let rubbish: Vec<u8> =
                    (0..chance.random_range(0..4096)).map(|_| chance.random()).collect();
                // It may be shown the door before it has said all.
                let _ = socket.write_all(&rubbish).await;
                sleep(moment).await;
            }
        }
    }
}

/// Two seconds of a small picture and a tone.
async fn clip(dir: &Path) -> PathBuf {
    let path = dir.join("visit.flv");
    let status = Command::new(ffmpeg())
        .args("-hide_banner -loglevel error -f lavfi -i testsrc2=size=160x90:rate=15".split(' '))
        .args("-f lavfi -i sine=frequency=440:sample_rate=48000 -t 2 -pix_fmt yuv420p".split(' '))
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 15 -c:a aac".split(' '))
        .arg(&path)
        .status();
    assert!(status.await.unwrap().success());
    path
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_of_every_kind_leave_nothing_behind_and_a_stream_beside_them_untouched() {
    let _alone = crate::node::alone().await;
    let dir = TempDir::new().unwrap();
    let line = "up --set hls.close_after_seconds=1 --set pipeline.graph=passthrough";
    let node = Process::start(&dir, "node", line).await;
    let ports = ["publish by RTMP", "all streams", "console", "metrics", "orchestrator for peers"];
    let ports = ports.map(|word| node.address(word).parse().unwrap()).to_vec();
    let clip = clip(dir.path()).await;
    let place = Place { node, client: millstream::http_client().unwrap(), clip, ports };
    let steady = Push::rtmp(Card::SMALL, LIVE, &place.rtmp("steady"));
    let until_there = async {
        while place.client.get(place.http("steady/index.m3u8")).send().await.unwrap().status()
            != 200
        {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until_there).await.expect("the stream comes");

    let time = number("MILLSTREAM_SOAK_SECONDS").map(Duration::from_secs);
    let seed = number("MILLSTREAM_SOAK_SEED").unwrap_or(1);
    let (began, mut visits, mut calms) = (Instant::now(), 0, Vec::new());
    println!("soak: MILLSTREAM_SOAK_SEED={seed}");
    while calms.len() < ROUNDS_MIN || time.is_some_and(|time| began.elapsed() < time) {
        let round = (visits..visits + VISITS).map(|number| {
            let mut chance = StdRng::seed_from_u64(seed ^ u64::from(number) << 16);
            let kind = VISITS_OF_A_KIND[chance.random_range(0..VISITS_OF_A_KIND.len())];
            place.visit(number, kind, chance)
        });
        futures_util::stream::iter(round).buffer_unordered(AT_A_TIME).for_each(async |()| {}).await;
        visits += VISITS;
        // What stays after the first round is what every later one needs too.
        let calm = match calms.first() {
            Some(first) => place.until_like(first).await,
            None => settled(&place).await,
        };
        println!("soak: {visits:6} visits, {:6.0} s: {calm}", began.elapsed().as_secs_f64());
        calms.push(calm);
    }

    let status = place.node.status().await;
    let streams: Vec<&str> = status["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|stream| stream["name"].as_str())
        .collect();
    assert_eq!(streams, ["steady", "steady-out"], "visitors' streams went with them");
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

/// The node when two looks, two seconds apart, show the same tasks and files.
async fn settled(place: &Place) -> Calm {
    let end = Instant::now() + PATIENCE;
    let mut before = place.calm().await;
    loop {
        sleep(Duration::from_secs(2)).await;
        let now = place.calm().await;
        if (now.tasks, now.files) == (before.tasks, before.files) || Instant::now() > end {
            return now;
        }
        before = now;
    }
}
