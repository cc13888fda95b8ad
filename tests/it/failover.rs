//! The orchestrator in use is killed, again and again; the viewer must hardly see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::h264::Decoder;
use ingest::hub::{Item, Start};
use parking_lot::Mutex;
use pipeline::stage::Decoder as _;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use crate::card::Card;
use crate::client::{assert_in_order, load};
use crate::node::{Running, alone};
use crate::peer;
use crate::process::Process;
use crate::programs::PATIENCE;
use crate::push::{LIVE, Push, TONE};

/// The publisher's group of pictures is 2 s: kills are spread over it.
const GROUP_MS: u64 = 2000;

/// What a viewer gets, and when.
#[derive(Default)]
struct Seen {
    /// When each picture came, its time stamp, its card's number.
    pictures: Vec<(Instant, i64, u16)>,
    /// When each sound packet came, and its time stamp.
    sound: Vec<(Instant, i64)>,
}

/// Reads `cam-out` as WHEP viewers do, decoding each picture, until the stream ends.
async fn view(node: &Running, seen: Arc<Mutex<Seen>>) -> tokio::task::JoinHandle<()> {
    let mut reader = node.reader("cam-out", Start::LastKey).await;
    tokio::spawn(async move {
        let (mut decoder, mut frames) = (None, Vec::new());
        let mut tracks_seen = None;
        loop {
            match reader.next().await {
                Item::Tracks(tracks) => {
                    let video = tracks.video.clone().unwrap();
                    // A new decoder only where viewers would need one too.
                    if tracks_seen.as_ref() != Some(&video) {
                        decoder = Some(Decoder::with_threads(&video, 1).unwrap());
                        tracks_seen = Some(video);
                    }
                }
                Item::Packet(packet) if packet.kind.is_video() => {
                    let now = Instant::now();
                    decoder.as_mut().unwrap().decode(&packet, &mut frames).expect("it decodes");
                    for frame in frames.drain(..) {
                        let card = Card::read_frame(&frame);
                        let card = card.unwrap_or_else(|| panic!("no card at {}", frame.pts));
                        seen.lock().pictures.push((now, frame.pts.0, card.number));
                    }
                }
                Item::Packet(packet) => {
                    seen.lock().sound.push((Instant::now(), packet.pts.0));
                }
                Item::Lagged(count) => panic!("{count} packets lost"),
                Item::End => return,
            }
        }
    })
}

/// How many kills: `MILLSTREAM_TEST_KILLS`, else 5.
fn kills() -> u64 {
    std::env::var("MILLSTREAM_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// The longest gap between neighbours that overlaps with `from..to`.
fn longest_gap(times: &[Instant], from: Instant, to: Instant) -> Duration {
    let pairs = times.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_orchestrator_is_replaced_and_viewers_stay() {
    let _alone = alone().await;
    let seed = std::env::var("MILLSTREAM_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(1);
    println!("failover: seed {seed}");
    let mut chance = rand::rngs::StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let mut workers = Vec::new();
    for name in ["first", "second"] {
        workers.push((name, Process::start(&dir, name, "orchestrator").await));
    }
    let urls: Vec<_> =
        workers.iter().map(|(_, worker)| worker.url("orchestrator for peers")).collect();
    let ledger = dir.path().join("ledger.db").display().to_string();
    let node = Running::start(|settings| {
        settings.roles = vec![millstream::config::Role::Gateway];
        settings.gateway.orchestrators.clone_from(&urls);
        settings.payments.ledger = ledger;
    })
    .await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 30).await;
    let seen = Arc::<Mutex<Seen>>::default();
    let viewing = view(&node, Arc::clone(&seen)).await;
    let viewer = peer::watch(&node.http("cam-out/whep")).await;
    viewer.until_cards(None, 5).await;

    let in_use = || {
        let list = node.node.parts().gateway.as_ref().unwrap().list();
        list.first().and_then(|(_, status)| status.orchestrator.clone())
    };
    let count = kills();
    let mut freezes = Vec::new();
    for kill in 0..count {
        // Steady for a while, then at a moment within the group.
        let steady = 1000 + GROUP_MS * kill / count + chance.random_range(0..GROUP_MS / count);
        tokio::time::sleep(Duration::from_millis(steady)).await;
        let used = in_use().expect("one is in use");
        let place =
            urls.iter().position(|url| used.trim_end_matches('/') == url.trim_end_matches('/'));
        let place = place.unwrap_or_else(|| panic!("{used} is none of {urls:?}"));
        let killed = Instant::now();
        workers[place].1.kill().await;
        let before = seen.lock().pictures.len();
        let end = Instant::now() + PATIENCE;
        while seen.lock().pictures.len() < before + 15 || in_use().is_none_or(|now| now == used) {
            assert!(
                Instant::now() < end,
                "no picture after kill {kill}: {:#}",
                node.status().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let times: Vec<_> = seen.lock().pictures.iter().map(|(time, ..)| *time).collect();
        freezes.push(longest_gap(&times, killed, Instant::now()).as_millis());
        // The killed one comes back where it was.
        let name = workers[place].0;
        let address = urls[place].trim_start_matches("https://").trim_end_matches('/');
        let line = format!("orchestrator --set orchestrator.listen={address}");
        workers[place].1 = Process::start(&dir, name, &line).await;
    }

    let swaps = node.status().await["streams"][0]["processing"]["swaps"].clone();
    viewer.until_tone(None, f64::from(TONE)).await;
    let shown = viewer.pictures(None);
    let last = shown.last().unwrap().number;
    // The viewer's session is the one that it began with, and it still gets pictures.
    let goes_on = |pictures: &[crate::client::Picture]| pictures.last().unwrap().number > last + 10;
    let end = Instant::now() + PATIENCE;
    while !goes_on(&viewer.pictures(None)) {
        assert!(Instant::now() < end, "the viewer gets no more pictures");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_in_order(&viewer.pictures(None), false);
    viewer.finish().await;
    push.finish().await;
    tokio::time::timeout(PATIENCE, viewing).await.expect("the stream ends").unwrap();

    {
        let seen = seen.lock();
        for pair in seen.pictures.windows(2) {
            assert!(pair[1].1 > pair[0].1, "time goes back or repeats: {pair:?}");
            assert!(pair[1].2 > pair[0].2, "a card goes back or repeats: {pair:?}");
        }
        for pair in seen.sound.windows(2) {
            // AAC frames of 1024 samples: none is lost, however long the pictures stand still.
            let distance = pair[1].1 - pair[0].1;
            assert!((1..=2 * 1920).contains(&distance), "sound is lost: {pair:?}");
        }
        let times: Vec<_> = seen.sound.iter().map(|(time, _)| *time).collect();
        let silence = longest_gap(&times, times[0], times[times.len() - 1]);
        let mut sorted = freezes.clone();
        sorted.sort_unstable();
        println!(
            "failover: {count} kills, {swaps} swaps, freeze median {} ms, worst {} ms, each {freezes:?}; \
         longest gap of sound {} ms; {}",
            sorted[sorted.len() / 2],
            sorted[sorted.len() - 1],
            silence.as_millis(),
            load(),
        );
    }
    node.stop().await;
}
