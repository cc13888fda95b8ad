//! Always-available streams: players of every protocol stay while publishers come and go.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millstream::config::Stream;
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::card::Card;
use crate::client::pictures;
use crate::node::{Running, alone};
use crate::programs::{self, PATIENCE};
use crate::push::{DEFAULT, LIVE, Push};

/// The canvas before any publisher is the one of these cards.
const CARD: Card = Card::USUAL;

/// What ffmpeg shows: the number of each card, `None` for a picture that is none.
struct Player {
    what: &'static str,
    child: Child,
    seen: Arc<Mutex<Vec<Option<u16>>>>,
    reads: Option<JoinHandle<()>>,
}

impl Player {
    fn start(what: &'static str, program: PathBuf, input: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(["-hide_banner", "-loglevel", "error", "-nostdin"]).args(input);
        command.args(["-map", "0:v", "-fps_mode", "passthrough", "-s", "640x360"]);
        command.args(["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]);
        let logged = std::env::var_os("MILLSTREAM_TEST_LOG").is_some();
        command.stderr(if logged { Stdio::inherit() } else { Stdio::null() });
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pictures = child.stdout.take().unwrap();
        let seen = Arc::<Mutex<Vec<Option<u16>>>>::default();
        let told = Arc::clone(&seen);
        let reads = std::thread::spawn(move || {
            let mut luma = vec![0; CARD.width * CARD.height];
            while pictures.read_exact(&mut luma).is_ok() {
                let reading = CARD.read(|row| &luma[row * CARD.width..]);
                told.lock().push(reading.map(|reading| reading.number));
            }
        });
        Self { what, child, seen, reads: Some(reads) }
    }

    /// Waits until it has shown this of what came after the first `from` pictures.
    async fn until(
        &mut self,
        what: &str,
        from: usize,
        is: impl Fn(&[Option<u16>]) -> bool,
    ) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            {
                let seen = self.seen.lock();
                if seen.len() >= from && is(&seen[from..]) {
                    return seen.len();
                }
                let last: Vec<_> = seen.iter().rev().take(5).collect();
                let count = seen.len();
                assert!(Instant::now() < end, "{}: {what}: {count} pictures, {last:?}", self.what);
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} has ended before {what}", self.what);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reads.take().map(JoinHandle::join);
    }
}

/// Pictures without a card.
fn slates(seen: &[Option<u16>]) -> usize {
    seen.iter().filter(|card| card.is_none()).count()
}

fn cards(seen: &[Option<u16>]) -> usize {
    seen.len() - slates(seen)
}

/// A node whose stream `cam` is always there.
async fn always_available() -> Running {
    Running::start(|settings| {
        settings.pipeline.graph = "none".into();
        let cam = Stream { always_available: Some(true), ..Stream::default() };
        settings.streams.insert("cam".into(), cam);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_every_protocol_stay_while_publishers_come_and_go() {
    let _alone = alone().await;
    let node = always_available().await;
    let get = async |path: &str| node.client.get(node.admin(path)).send().await.unwrap();
    let path: Value = get("v3/paths/get/cam").await.json().await.unwrap();
    assert_eq!((&path["available"], &path["online"]), (&true.into(), &false.into()), "{path:#}");
    let none = node.client.get(node.http("other/index.m3u8")).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::NOT_FOUND, "only where the settings say so");

    // Cards that the browser has shown.
    let shown = |browser: &Browser| {
        let pictures = browser.client.pictures(Some("cam"));
        let mut numbers: Vec<_> =
            pictures.iter().filter(|picture| !picture.unreadable).map(|p| p.number).collect();
        numbers.dedup();
        numbers.len()
    };
    let ffmpeg = programs::ffmpeg;
    let srt = node.srt("read:cam");
    let hls = node.http("cam/index_ts.m3u8");
    let mut players = [
        Player::start("RTMP", ffmpeg(), &["-i", &node.rtmp("cam")]),
        Player::start("SRT", programs::ffmpeg_9(), &["-i", &srt]),
        Player::start("RTSP", ffmpeg(), &["-rtsp_transport", "tcp", "-i", &node.rtsp("cam")]),
        Player::start("HLS", ffmpeg(), &["-i", &hls]),
    ];
    let mut browser = Browser::start().await;
    browser.watch("cam", &node.http("cam/whep")).await;
    browser.client.until_pictures(Some("cam"), 5).await;
    let mut from = [0; 4];
    for (player, from) in players.iter_mut().zip(&mut from) {
        *from = player.until("the slate before", 0, |seen| slates(seen) > 5).await;
        assert_eq!(cards(&player.seen.lock()), 0, "{}", player.what);
    }

    for options in [LIVE, DEFAULT] {
        let push = Push::rtmp(CARD, &format!("{options} -ac 2"), &node.rtmp("cam"));
        for (player, from) in players.iter_mut().zip(&mut from) {
            *from = player.until("the publisher", *from, |seen| cards(seen) > 30).await;
        }
        browser.client.until_cards(Some("cam"), shown(&browser) + 20).await;
        push.finish().await;
        for (player, from) in players.iter_mut().zip(&mut from) {
            *from = player
                .until("the slate", *from, |seen| {
                    // Cards that were on their way, then slates.
                    seen.len() > 10 && cards(&seen[seen.len() - 5..]) == 0
                })
                .await;
        }
        let before = browser.client.pictures(Some("cam")).len();
        let after = browser.client.until_pictures(Some("cam"), before + 20).await;
        assert!(after[after.len() - 5..].iter().all(|picture| picture.unreadable));
    }
    for player in &players {
        let seen = player.seen.lock();
        let numbers: Vec<u16> = seen.iter().flatten().copied().collect();
        println!("{}: {} pictures, {} of them cards", player.what, seen.len(), numbers.len());
        // The second publisher begins with 0 again, and nothing else goes back.
        let back = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert_eq!(back, 1, "{}: {numbers:?}", player.what);
    }
    browser.client.finish().await;
    drop(players);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_latency_hls_player_stays_while_publishers_come_and_go() {
    let _alone = alone().await;
    let node = always_available().await;
    let mut browser = Browser::start().await;
    browser.ask("hls", "cam", json!({ "url": node.http("cam/index.m3u8") })).await;
    let low = browser.client.until("hls.js's playlist", |events| {
        events.iter().find_map(|event| event["low_latency"].as_bool())
    });
    assert!(low.await, "parts are offered");
    // The slate has no card.
    browser.client.until_pictures(Some("cam"), 10).await;

    let shows = async |what: &str, from: usize, slate: bool| {
        browser
            .client
            .until(what, |events| {
                let fatal = events.iter().find(|event| event["fatal"] == true);
                assert!(fatal.is_none(), "{what}: {fatal:?}");
                let shown = pictures(events, Some("cam"));
                let last = shown.get(from..)?.last_chunk::<10>()?;
                last.iter().all(|picture| picture.unreadable == slate).then_some(shown.len())
            })
            .await
    };
    let mut from = shows("the slate before", 0, true).await;
    for _ in 0..2 {
        let push = Push::rtmp(CARD, LIVE, &node.rtmp("cam"));
        from = shows("the publisher", from, false).await;
        push.finish().await;
        from = shows("the slate", from, true).await;
    }
    browser.close("cam").await;
    browser.client.finish().await;
    node.stop().await;
}
