//! Strangers, floods and junk: a live stream does not notice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ingest::auth::{Access, Grant, Refusal, Request};
use ingest::hub::Reader;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::node::{Node, PATIENCE, clip_of, pictures, run};
use crate::raw::{Raw, control, data, keys};

/// Connections of a flood.
const FLOOD: u32 = 1000;

/// Callers that share a port: processes have a limit of open files.
const SHARING: u32 = 100;

/// How long the live stream is, in seconds of 25 pictures.
const SECONDS: u32 = 8;

/// Kinds of control packets.
const NAK: u16 = 3;
const SHUTDOWN: u16 = 5;

/// A clip that is being published, and who reads it.
struct Live {
    reader: JoinHandle<usize>,
    push: JoinHandle<std::process::Output>,
    _dir: tempfile::TempDir,
}

impl Live {
    async fn start(node: &Node) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip.ts");
        clip_of(&path, SECONDS).await;
        let line = format!(
            "-v error -re -i {} -c copy -f mpegts srt://{}?streamid=publish:onair&linger=2",
            path.display(),
            node.addr
        );
        let push = tokio::spawn(async move { run("ffmpeg", &line).await });
        let reader: Reader = node.reader("onair").await;
        Self { reader: tokio::spawn(pictures(reader)), push, _dir: dir }
    }

    /// It comes to its end with all pictures.
    async fn untouched(self, node: &Node) {
        println!("the live stream still ran at the end: {}", !self.push.is_finished());
        // A flood would cost many; whether the last one came whole is what `links` looks at.
        let (count, all) = (self.reader.await.unwrap(), 25 * SECONDS as usize);
        assert!((all - 1..=all).contains(&count), "{count} pictures of {all}");
        assert!(self.push.await.unwrap().status.success());
        // What it lost is counted when its session is over.
        until(node, |streams| streams.iter().all(|stream| stream != "onair")).await;
        let counted = node.counters.snapshot();
        assert_eq!((counted.lost, counted.dropped), (0, 0), "{counted:?}");
    }
}

/// Waits until the sessions' streams are as wanted.
async fn until(node: &Node, wanted: impl Fn(&[String]) -> bool) {
    let streams = || -> Vec<String> {
        let sessions = node.connections.sessions().list();
        sessions.into_iter().map(|s| s.stream.map(|n| n.to_string()).unwrap_or_default()).collect()
    };
    let left = async {
        while !wanted(&streams()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("they go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_open_connections_leave_a_live_stream_untouched() {
    let node = Node::start(|config| {
        config.peer_timeout = Duration::from_secs(8);
        config.per_ip_max = 512;
    })
    .await;
    let live = Live::start(&node).await;
    // First requests, and nothing behind them: nothing is kept of them.
    let mut callers: Vec<Raw> = Vec::new();
    for id in 0..FLOOD {
        let mut caller = match callers.last() {
            Some(last) if id % SHARING != 0 => last.beside(1 + id),
            _ => Raw::new(node.addr, 1 + id).await,
        };
        caller.ask().await;
        caller.cookie().await;
        callers.push(caller);
    }
    assert_eq!(node.connections.sessions().list().len(), 1);
    // Half of them go on, get a session and say nothing in it; the others are one address too many.
    let (mut accepted, mut refused) = (0, 0);
    for (index, caller) in callers.iter_mut().enumerate() {
        caller.conclude(&format!("publish:flood{index}"), None).await;
        match caller.answer().await {
            0 => accepted += 1,
            // Too many sessions.
            1402 => refused += 1,
            code => panic!("refused with {code}"),
        }
    }
    assert!(accepted >= 511 && refused > 0, "{accepted} were accepted");
    live.untouched(&node).await;
    until(&node, <[String]>::is_empty).await;
    assert_eq!(node.hub.list().len(), 0);
    // And the door is open again.
    Raw::shake(node.addr, 5, "publish:later").await;
    node.stop().await;
}

/// Says yes to everybody, once it is told to answer at all.
struct Late(Semaphore);

impl Access for Late {
    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        Box::pin(async move {
            let _turn = self.0.acquire().await;
            Ok(Grant::of(&request))
        })
    }
}

/// A caller that has said all that it has to say.
async fn caller(node: &Node, id: u32, stream_id: &str) -> Raw {
    let mut caller = Raw::new(node.addr, id).await;
    caller.ask().await;
    caller.cookie().await;
    caller.conclude(stream_id, None).await;
    caller
}

/// The protocol's code for a full backlog, and that for too many sessions.
const BACKLOG: u32 = 1005;
const OVERLOAD: u32 = 1402;

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_wait_for_us_are_limited_and_the_next_one_is_told_so() {
    let door = Arc::new(Late(Semaphore::new(0)));
    let access = Arc::clone(&door);
    let node = Node::with_access(|config| config.handshakes_max = 2, access).await;
    let mut first = caller(&node, 1, "publish:first").await;
    let mut second = caller(&node, 2, "publish:second").await;
    let mut third = caller(&node, 3, "publish:third").await;
    assert_eq!(third.answer().await, BACKLOG);
    door.0.add_permits(1);
    assert_eq!((first.answer().await, second.answer().await), (0, 0));
    Raw::shake(node.addr, 4, "publish:fourth").await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_beyond_the_limit_are_refused_until_one_goes() {
    let node = Node::start(|config| config.sessions_max = 2).await;
    let first = Raw::shake(node.addr, 1, "publish:first").await;
    let _second = Raw::shake(node.addr, 2, "publish:second").await;
    assert_eq!(caller(&node, 3, "publish:third").await.answer().await, OVERLOAD);
    first.socket.send(&first.control(SHUTDOWN, 0, &[0; 4])).await.unwrap();
    let let_in = async {
        let mut id = 4;
        while caller(&node, id, "publish:third").await.answer().await != 0 {
            id += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, let_in).await.expect("there is room again");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passphrases_are_tried_a_few_times_and_then_wait() {
    let node = Node::start(|_| {}).await;
    let live = Live::start(&node).await;
    let mut codes = Vec::new();
    for id in 0..FLOOD / 4 {
        let mut caller = Raw::new(node.addr, 1 + id).await;
        caller.ask().await;
        caller.cookie().await;
        caller.conclude("publish:secret", Some(&keys())).await;
        codes.push(caller.answer().await);
    }
    let of = |code| codes.iter().filter(|given| **given == code).count();
    // Each try costs a millisecond of computing: ten each 10 s.
    let (wrong, too_many) = (of(1010), of(1402));
    assert_eq!(wrong + too_many, codes.len(), "{codes:?}");
    assert!((10..=30).contains(&wrong), "{wrong} tries");
    // Who needs no passphrase comes in.
    Raw::shake(node.addr, 9000, "publish:plain").await;
    live.untouched(&node).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_knows_a_session_can_neither_end_nor_feed_it() {
    let node = Node::start(|_| {}).await;
    let session = Raw::shake(node.addr, 1, "publish:cam").await;
    let stranger = Raw::new(node.addr, 1).await;
    stranger.socket.send(&control(SHUTDOWN, 0, session.session, &[0; 4])).await.unwrap();
    stranger.socket.send(&data(0x100, session.session, &[0x47; 188])).await.unwrap();
    // The session's own packet shows that what came before it was handled.
    session.socket.send(&data(0x100, session.session, &[0x47; 188])).await.unwrap();
    let received = async {
        loop {
            let figures = node.connections.list()[0].1;
            if figures.packets_received > 0 {
                return figures;
            }
            session.socket.send(&session.control(1, 0, &[0; 4])).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let figures = tokio::time::timeout(PATIENCE, received).await.expect("it is counted");
    assert_eq!((figures.packets_received, figures.packets_received_belated), (1, 0));
    assert!(node.counters.snapshot().ignored >= 2);
    session.socket.send(&session.control(SHUTDOWN, 0, &[0; 4])).await.unwrap();
    until(&node, <[String]>::is_empty).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_after_the_handshake_ends_at_most_its_own_session() {
    let node = Node::start(|config| {
        config.peer_timeout = PATIENCE;
        config.idle_timeout = PATIENCE;
    })
    .await;
    let live = Live::start(&node).await;
    let mut chance = StdRng::seed_from_u64(4);
    for id in 0..20 {
        let session = Raw::shake(node.addr, 100 + id, &format!("publish:junk{id}")).await;
        // Key material longer than there is room for, lists of losses that run over the end and
        // around the whole circle, ranges given up that do: what libsrt's faults were about.
        let long = session.control(0x7FFF, 0, &[0x12; 1400]);
        let around = session.control(NAK, 0, &[0x80, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0x80]);
        let given_up = session.control(7, 0, &[0, 0, 1, 0, 0x40, 0, 0, 0]);
        for packet in [long, around, given_up] {
            session.socket.send(&packet).await.unwrap();
        }
        for _ in 0..100 {
            let mut body = vec![0; chance.random_range(0..1400)];
            chance.fill(&mut body[..]);
            let kind = if chance.random_bool(0.2) { 0x7FFF } else { chance.random_range(0..10) };
            let mut packet = session.control(kind, chance.random(), &body);
            // The subtype: requests and answers about keys.
            packet[3] = chance.random_range(0..6);
            session.socket.send(&packet).await.unwrap();
        }
    }
    live.untouched(&node).await;
    // A panic would count.
    assert_eq!(node.counters.snapshot().failed, 0);
    node.stop().await;
}
