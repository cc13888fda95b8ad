//! A client program that says what it sees as JSON lines: Chromium or aiortc.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::card::elapsed_ms;
use crate::programs::PATIENCE;

/// A picture that a client showed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Picture {
    /// The card's number; without meaning when `unreadable`.
    pub(crate) number: u16,
    /// The card's clock in milliseconds.
    pub(crate) clock: u32,
    pub(crate) inverted: bool,
    /// It was no card.
    pub(crate) unreadable: bool,
    /// The client's clock in milliseconds, on the card's scale.
    pub(crate) now: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Its RTP timestamp; Chromium only.
    pub(crate) rtp: Option<u32>,
    /// Mean red, green and blue of the lower left; Chromium only.
    pub(crate) left: [u32; 3],
    /// The same of the lower right.
    pub(crate) right: [u32; 3],
}

impl Picture {
    /// Milliseconds from drawing to showing.
    pub(crate) fn age_ms(&self) -> u32 {
        elapsed_ms(self.clock, self.now)
    }
}

/// What a client heard lately.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Heard {
    /// The loudest tone.
    pub(crate) hertz: f64,
    /// Root mean square, 1 is the loudest.
    pub(crate) level: f64,
}

#[derive(Default)]
struct Log {
    events: Mutex<Vec<Value>>,
    grown: Notify,
}

/// The running program. Dropping it kills it.
pub(crate) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    log: Arc<Log>,
}

impl Client {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = Arc::<Log>::default();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let writing = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(event) => writing.events.lock().push(event),
                    Err(_) => eprintln!("{line}"),
                }
                writing.grown.notify_waiters();
            }
            writing.events.lock().push(serde_json::json!({ "ended": true }));
            writing.grown.notify_waiters();
        });
        Self { input: child.stdin.take(), child, log }
    }

    /// Sends a command.
    pub(crate) async fn send(&mut self, command: Value) {
        let line = format!("{command}\n");
        self.input.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    }

    /// Waits until `wanted` finds what it looks for in everything said so far, which is locked
    /// meanwhile: `wanted` asks nothing else of this client.
    pub(crate) async fn until<T>(&self, what: &str, wanted: impl Fn(&[Value]) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut grown = std::pin::pin!(self.log.grown.notified());
            grown.as_mut().enable();
            let ended = {
                let events = self.log.events.lock();
                if let Some(found) = wanted(&events) {
                    return found;
                }
                events.last().is_some_and(|event| event["ended"] == true)
            };
            let in_time = tokio::time::timeout_at(end, grown).await.is_ok();
            if ended || !in_time {
                panic!("{what} never came; last words: {:?}", self.tail());
            }
        }
    }

    /// Everything but pictures, the last of it.
    fn tail(&self) -> Vec<Value> {
        let events = self.log.events.lock();
        let words = events.iter().filter(|event| event["pictures"].is_null());
        let mut words: Vec<Value> =
            words.filter(|event| event["sound"].is_null()).cloned().collect();
        words.drain(..words.len().saturating_sub(20));
        words
    }

    /// What `page` showed so far (`None`: a client without pages).
    pub(crate) fn pictures(&self, page: Option<&str>) -> Vec<Picture> {
        pictures(&self.log.events.lock(), page)
    }

    /// Waits until `page` has shown `count` different cards and gives all that it showed.
    pub(crate) async fn until_cards(&self, page: Option<&str>, count: usize) -> Vec<Picture> {
        let what = format!("{count} cards on {page:?}");
        self.until(&what, |events| {
            let pictures = pictures(events, page);
            let mut numbers: Vec<_> =
                pictures.iter().filter(|p| !p.unreadable).map(|p| p.number).collect();
            numbers.dedup();
            (numbers.len() >= count).then_some(pictures)
        })
        .await
    }

    /// Waits until `page` shows so many pictures, cards or not.
    pub(crate) async fn until_pictures(&self, page: Option<&str>, count: usize) -> Vec<Picture> {
        let what = format!("{count} pictures on {page:?}");
        self.until(&what, |events| {
            let pictures = pictures(events, page);
            (pictures.len() >= count).then_some(pictures)
        })
        .await
    }

    /// Waits until `page` has shown a picture such as `wanted` and gives all that it showed.
    pub(crate) async fn until_picture(
        &self,
        page: Option<&str>,
        what: &str,
        wanted: impl Fn(&Picture) -> bool,
    ) -> Vec<Picture> {
        self.until(what, |events| {
            let pictures = pictures(events, page);
            pictures.iter().any(&wanted).then_some(pictures)
        })
        .await
    }

    /// Waits until `page` plays a tone of about this many hertz.
    pub(crate) async fn until_tone(&self, page: Option<&str>, hertz: f64) -> Heard {
        let what = format!("a tone of {hertz} Hz on {page:?}");
        self.until(&what, |events| {
            let heard = events.iter().filter(|event| of(event, page));
            let mut heard = heard.filter_map(|event| Heard::deserialize(&event["sound"]).ok());
            heard.find(|h| (h.hertz - hertz).abs() < 20.0 && h.level > 0.01)
        })
        .await
    }

    /// Ends it and waits until it has ended.
    pub(crate) async fn finish(mut self) {
        drop(self.input.take());
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        assert!(ended.is_ok(), "the client does not end");
    }
}

fn of(event: &Value, page: Option<&str>) -> bool {
    page.is_none_or(|page| event["page"] == page)
}

/// The pictures among what was said.
pub(crate) fn pictures(events: &[Value], page: Option<&str>) -> Vec<Picture> {
    let events = events.iter().filter(|event| of(event, page));
    let lists = events.filter_map(|event| Vec::deserialize(&event["pictures"]).ok());
    lists.flatten().collect()
}

/// Asserts that all pictures are cards, and that their numbers never go back.
pub(crate) fn assert_in_order(pictures: &[Picture], inverted: bool) {
    for (index, picture) in pictures.iter().enumerate() {
        let around = &pictures[index.saturating_sub(1)..(index + 2).min(pictures.len())];
        assert!(
            !picture.unreadable,
            "picture {index} of {} is no card: {around:?}",
            pictures.len()
        );
        assert_eq!(picture.inverted, inverted, "{picture:?}");
    }
    for pair in pictures.windows(2) {
        // A client that looks twice at one picture sees its number twice.
        assert!(pair[1].number >= pair[0].number, "backwards: {pair:?}");
    }
}

/// The median and the worst of some figures, for printing.
pub(crate) fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures[((figures.len() - 1) as f64 * share).round() as usize];
    match figures.is_empty() {
        true => "nothing".into(),
        false => format!("median {:.0}, p95 {:.0}, worst {:.0}", at(0.5), at(0.95), at(1.0)),
    }
}

/// How busy the machine is, for printing beside figures.
pub(crate) fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("load {} on {cores} cores", load.split(' ').next().unwrap_or_default())
}
