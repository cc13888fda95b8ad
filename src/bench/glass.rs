//! `millstream bench glass`: how old a picture is when it is seen, counted from the moment its last
//! byte came by RTMP. Seen is, for Chromium, when it says that the picture is displayed; the bare
//! receiver beside it shows what of that is the network's end and what the browser's.
//!
//! Chromium watches twice: as the product's player does, with sound, where it holds pictures back to
//! stay in step with its buffer of sound; and the picture alone, which shows what that costs.
//! It reads the number in each picture from its rendered pixels, so what is timed is what was
//! shown and not what was counted.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use pipeline::Size;
use tokio::time::sleep;

use super::chromium::{Browser, Shown, Told, Tools};
use super::clip::{self, Clip, GROUP};
use super::receiver::{self, Receiver};
use super::report::{Printer, Spread};
use super::rig::{self, Rig};
use super::{RATE, Road, usage};
use crate::hops::{Hop, Row};

/// The viewer.
const SCRIPT: &str = include_str!("glass.js");

/// How long Chromium watches before it counts: its jitter buffer finds its size.
const WARM_UP: Duration = Duration::from_secs(8);

/// Seconds of clip beyond the measured ones: start, twice Chromium's start and warm-up, end.
const SPARE_SECONDS: u32 = 80;

/// Runs it and prints the tables.
pub(super) async fn run(road: &Road) -> Result<()> {
    clip::need_ffmpeg().await?;
    let tools = Tools::find()?;
    let mut printer = Printer::new("glass", road.json);
    let places = rig::step_aside(&road.cores).await?;
    printer.say(&usage::machine());
    printer.say(&places);
    printer.with("machine", usage::machine());
    printer.with("places", places);
    printer.with("graph", road.graph.clone());
    for &size in &road.sizes {
        printer.with("size", size.to_string());
        measure(road, size, &tools, &printer).await?;
    }
    Ok(())
}

async fn measure(road: &Road, size: Size, tools: &Tools, printer: &Printer) -> Result<()> {
    let rig = Rig::start(road).await?;
    let clip = Clip::make(rig.dir(), size, 2 * road.seconds + SPARE_SECONDS, GROUP).await?;
    let mut push = clip.push(&rig.rtmp()?)?;
    rig.until_processed().await?;
    let bare = Receiver::attach(&rig.whep(true)?).await?;
    printer.say(&format!("\n{size} at {RATE} frames/s, graph {}, {} s", road.graph, road.seconds));
    for node in &rig.nodes {
        printer.say(&format!("  {}", node.line));
    }
    for (key, words, sound) in [("av", "with sound", true), ("video", "the picture alone", false)] {
        let browser = Browser::start(tools, &rig, SCRIPT, &rig.whep(true)?, sound, &[]).await?;
        sleep(WARM_UP).await;
        rig.trace().await?;
        let before = bare.pictures().len();
        sleep(Duration::from_secs(road.seconds.into())).await;
        let trace = rig.trace().await?;
        ensure!(push.try_wait()?.is_none(), "the generator ended early");
        let told = browser.end()?;
        printer.say(&format!("\nChromium {}, headless, {words}", told.version));
        print(printer, key, &trace, &bare.pictures()[before..], &told)?;
    }
    push.kill().await?;
    Ok(())
}

fn print(
    printer: &Printer,
    key: &str,
    trace: &[Row],
    bare: &[receiver::Picture],
    told: &Told,
) -> Result<()> {
    let arrivals = Arrivals::of(trace)?;
    let hub = trace.iter().filter(|row| row.hop == Hop::Road).map(|row| row.took_ns as f64 / 1e6);
    let bare = receiver::rows(bare, trace);
    let bare = bare.iter().filter_map(|row| arrivals.age_ms(row.pts, row.at_ns as f64 / 1e6));
    let seen: Vec<&Shown> =
        told.pictures(0).iter().filter(|p| arrivals.covers(p.read_ms)).collect();
    let unreadable = seen.iter().filter(|picture| picture.number.is_none()).count();
    let ages = |when: fn(&Shown) -> f64| {
        let known = seen.iter().filter_map(|p| arrivals.age_of_number(p.number?, when(p)));
        Spread::of(known.collect())
    };
    let name = |what: &str| format!("{key}_{what}");
    printer.columns("from the last RTMP byte");
    let hub = Spread::of(hub.collect());
    printer.spread(&name("hub"), "to the processed stream in the hub", hub);
    let bare = Spread::of(bare.collect());
    printer.spread(&name("bare"), "to the last packet at a bare receiver", bare);
    let shown = ages(|picture| picture.shown_ms);
    printer.spread(&name("shown"), "to the display in Chromium", shown);
    let read = ages(|picture| picture.read_ms);
    printer.spread(&name("read"), "to pixels read from Chromium's canvas", read);
    let (sent, shown) = (arrivals.count(), seen.len());
    let of = |kind: &str| told.buffers_ms.get(kind).copied().unwrap_or_default();
    let (video, audio) = (of("video"), of("audio"));
    printer.say(&format!(
        "{shown} of {sent} pictures shown, {unreadable} unreadable; \
         Chromium held pictures {video:.0} ms and sound {audio:.0} ms in its jitter buffers"
    ));
    printer.object([
        ("viewer", key.into()),
        ("sent_frames", sent.into()),
        ("shown_frames", shown.into()),
        ("unreadable_frames", unreadable.into()),
        ("video_jitter_buffer_ms", video.round().into()),
        ("audio_jitter_buffer_ms", audio.round().into()),
        ("chromium", told.version.clone().into()),
    ]);
    ensure!(!seen.is_empty(), "Chromium showed nothing");
    Ok(())
}

/// When each picture's last byte came by RTMP, in milliseconds of the system's clock.
struct Arrivals {
    by_pts: HashMap<i64, f64>,
    /// In order of arrival.
    times: Vec<f64>,
    /// By number within a group: a group begins with a key picture, and so did the trace's stream.
    by_place: HashMap<u32, Vec<f64>>,
}

impl Arrivals {
    fn of(trace: &[Row]) -> Result<Self> {
        let mut rows: Vec<&Row> = trace.iter().filter(|row| row.hop == Hop::Ingest).collect();
        rows.sort_by_key(|row| row.pts);
        ensure!(!rows.is_empty(), "no picture came in");
        let at = |row: &Row| (row.at_ns - row.took_ns) as f64 / 1e6;
        let mut by_place: HashMap<u32, Vec<f64>> = HashMap::new();
        for row in &rows {
            by_place.entry(place(row.pts)).or_default().push(at(row));
        }
        Ok(Self {
            by_pts: rows.iter().map(|row| (row.pts, at(row))).collect(),
            times: rows.iter().map(|row| at(row)).collect(),
            by_place,
        })
    }

    fn count(&self) -> usize {
        self.times.len()
    }

    /// Whether a moment lies within the trace.
    fn covers(&self, at_ms: f64) -> bool {
        let (first, last) = (self.times.first(), self.times.last());
        first.is_some_and(|first| at_ms >= *first) && last.is_some_and(|last| at_ms <= *last)
    }

    fn age_ms(&self, pts: i64, at_ms: f64) -> Option<f64> {
        self.by_pts.get(&pts).map(|arrived| at_ms - arrived)
    }

    /// The age of picture `number` at a moment. Pictures have the same place in each group of 2 s,
    /// so it is the newest that had come by then; more than 2 s would be taken for less.
    fn age_of_number(&self, number: u16, at_ms: f64) -> Option<f64> {
        let times = self.by_place.get(&(u32::from(number) % GROUP))?;
        let before = times.iter().filter(|time| **time <= at_ms);
        before.max_by(|a, b| a.total_cmp(b)).map(|arrived| at_ms - arrived)
    }
}

/// A picture's place in its group. RTMP's time stamps begin with the clip, in milliseconds.
fn place(pts: i64) -> u32 {
    let number = (pts * i64::from(RATE) + 45_000).div_euclid(90_000);
    number.rem_euclid(i64::from(GROUP)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_counts_from_the_picture_of_that_number() {
        let row = |number: i64| Row {
            // RTMP counts whole milliseconds.
            pts: number * 1000 / 30 * 90,
            hop: Hop::Ingest,
            at_ns: 1_000_000_000 + number as u64 * 33_000_000,
            took_ns: 1_000_000,
        };
        let arrivals = Arrivals::of(&(90..250).map(row).collect::<Vec<_>>()).unwrap();
        let came = |number: f64| 999.0 + number * 33.0;
        let age = arrivals.age_of_number(200, came(200.0) + 80.0).unwrap();
        assert!((age - 80.0).abs() < 1e-6, "{age}");
        assert!(arrivals.covers(came(200.0)) && !arrivals.covers(came(10.0)));
        assert_eq!(arrivals.age_of_number(95, came(91.0)), None, "not yet");
    }
}
