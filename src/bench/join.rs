//! `millstream bench join`: how long a viewer who comes in the middle of a stream waits for the first
//! picture, and how far behind an earlier viewer of the same stream it is two seconds later.
//!
//! Chromium is both viewers, in pages of one browser, and the stream is the one that was pushed: its
//! publisher decides when key pictures come, so a viewer must begin with one that lies in the past and
//! catch up. Both read the numbers from rendered pixels; being behind is the time between the display
//! of one picture to the one and to the other.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use pipeline::Size;

use super::chromium::{Browser, Told, Tools, Viewer};
use super::clip::{self, Clip};
use super::report::{Printer, Spread};
use super::rig::{self, Rig};
use super::{Join, RATE, usage};

/// The viewers.
const SCRIPT: &str = include_str!("join.js");

/// When the distance is looked at, in milliseconds after a viewer's first picture: half a second about
/// the second second.
const BEHIND_FROM_MS: f64 = 1750.0;
const BEHIND_TO_MS: f64 = 2250.0;

/// Seconds for the start of Chromium, its warm-up and the end.
const SPARE_SECONDS: u32 = 60;

/// Runs it and prints the tables.
pub(super) async fn run(join: &Join) -> Result<()> {
    clip::need_ffmpeg().await?;
    let tools = Tools::find()?;
    let road = &join.road;
    let mut printer = Printer::new("join", road.json);
    let places = rig::step_aside(&road.cores).await?;
    printer.say(&usage::machine());
    printer.say(&places);
    printer.with("machine", usage::machine());
    printer.with("places", places);
    for &size in &road.sizes {
        printer.with("size", size.to_string());
        for &group in &join.group {
            printer.with("group_seconds", group);
            measure(join, size, group, &tools, &printer).await?;
        }
    }
    Ok(())
}

async fn measure(
    join: &Join,
    size: Size,
    group: u32,
    tools: &Tools,
    printer: &Printer,
) -> Result<()> {
    let rig = Rig::start(&join.road).await?;
    // Each join waits for its place in the group and is then watched for three seconds.
    let joins_take = join.joins * (2 * group + 6);
    let seconds = 2 * joins_take + SPARE_SECONDS;
    let clip = Clip::make(rig.dir(), size, seconds, group * RATE).await?;
    let mut push = clip.push(&rig.rtmp()?)?;
    rig.until_processed().await?;
    printer.say(&format!("\n{size} at {RATE} frames/s, a key picture each {group} s"));
    for (key, words, sound) in [("av", "with sound", true), ("video", "the picture alone", false)] {
        let more = [join.joins.to_string(), (group * 1000).to_string()];
        let whep = rig.whep(false)?;
        let browser = Browser::start(tools, &rig, SCRIPT, &whep, sound, &more).await?;
        let limit = Duration::from_secs(u64::from(joins_take + SPARE_SECONDS));
        browser.until_done(limit).await?;
        ensure!(push.try_wait()?.is_none(), "the generator ended early");
        let told = browser.end()?;
        printer.say(&format!("\nChromium {}, headless, {words}", told.version));
        print(printer, key, join.joins, &told)?;
    }
    push.kill().await?;
    Ok(())
}

fn print(printer: &Printer, key: &str, joins: u32, told: &Told) -> Result<()> {
    let early: HashMap<u16, f64> =
        told.pictures(0).iter().filter_map(|p| Some((p.number?, p.shown_ms))).collect();
    let late: Vec<&Viewer> = told.viewers.range(1..).map(|(_, viewer)| viewer).collect();
    ensure!(late.len() as u32 == joins, "{} of {joins} viewers saw a picture", late.len());
    let name = |what: &str| format!("{key}_{what}");
    printer.columns(&format!("of {joins} viewers"));
    let first = Spread::of(late.iter().filter_map(|viewer| first_ms(viewer)).collect());
    printer.spread(&name("first_picture"), "to the first picture", first);
    let behind = Spread::of(late.iter().filter_map(|viewer| behind_ms(viewer, &early)).collect());
    printer.spread(&name("behind"), "behind the early viewer, 2 s later", behind);
    let still = Spread::of(late.iter().map(|viewer| standstill_ms(viewer)).collect());
    printer.spread(&name("standstill"), "longest standstill meanwhile", still);
    Ok(())
}

/// From setting out to the display of the first picture.
fn first_ms(viewer: &Viewer) -> Option<f64> {
    viewer.pictures.first().map(|picture| picture.shown_ms - viewer.began_ms)
}

/// How much later than to the early viewer pictures are shown: the median of half a second.
fn behind_ms(viewer: &Viewer, early: &HashMap<u16, f64>) -> Option<f64> {
    let first = viewer.pictures.first()?.shown_ms;
    let looked = viewer
        .pictures
        .iter()
        .filter(|picture| (BEHIND_FROM_MS..BEHIND_TO_MS).contains(&(picture.shown_ms - first)));
    let behind = looked.filter_map(|p| Some(p.shown_ms - early.get(&p.number?)?));
    let mut behind: Vec<f64> = behind.collect();
    behind.sort_by(f64::total_cmp);
    behind.get(behind.len() / 2).copied()
}

/// The longest time without a new picture until then.
fn standstill_ms(viewer: &Viewer) -> f64 {
    let first = viewer.pictures.first().map_or(0.0, |picture| picture.shown_ms);
    let until = viewer.pictures.iter().filter(|p| p.shown_ms - first < BEHIND_TO_MS);
    let times: Vec<f64> = until.map(|picture| picture.shown_ms).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::chromium::Shown;
    use super::*;

    #[test]
    fn a_late_viewer_is_measured_against_the_same_pictures_of_the_early_one() {
        let shown =
            |number: u16, at: f64| Shown { number: Some(number), shown_ms: at, read_ms: at };
        let early = (0..200).map(|n| (n, 1000.0 + f64::from(n) * 33.0)).collect();
        // Begins 20 pictures back, shows them at twice the rate, and is then 40 ms behind.
        let mut pictures: Vec<Shown> =
            (0..40).map(|n| shown(n, 1660.0 + f64::from(n) * 16.5)).collect();
        pictures.extend((40..150).map(|n| shown(n, 1040.0 + f64::from(n) * 33.0)));
        let viewer = Viewer { began_ms: 1500.0, pictures };
        assert_eq!(first_ms(&viewer), Some(160.0));
        assert!((behind_ms(&viewer, &early).unwrap() - 40.0).abs() < 1e-6);
        let still = standstill_ms(&viewer);
        assert!((still - 56.5).abs() < 1e-6, "{still}");
    }
}
