//! Playlists as text (RFC 8216bis). Every address in them ends in [`SESSION`], which is replaced by
//! what each player has to send back.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipeline::Ticks;

use super::segmenter::Format;
use super::window::{Segment, Window};

/// Stands where the query of a player's session goes; no address holds such a character.
pub(super) const SESSION: char = '\u{1}';

/// Target durations back from the end for which parts are listed (6.2.2 asks for three at most).
const PARTS_LISTED_TARGETS: u64 = 3;

/// Target durations that a delta update leaves untouched, at least (4.4.3.8).
const SKIP_TARGETS: u64 = 6;

/// How a media playlist is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) format: Format,
    /// With parts and all that belongs to them.
    pub(super) low_latency: bool,
    /// Without what the player knows already.
    pub(super) skip: bool,
    pub(super) source: Source,
}

/// What is known of the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It is there: what comes next can be promised.
    Live,
    /// It went, and may come back.
    Away,
    /// It is not waited for any more: nothing will come (4.4.3.4).
    Over,
}

/// The multivariant playlist of these [`variant`]s; players begin with the first.
pub(super) fn multivariant(variants: &[String]) -> String {
    let head = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n";
    [head].into_iter().chain(variants.iter().map(String::as_str)).collect()
}

/// A variant whose media playlist is at `media`.
pub(super) fn variant(window: &Window, media: &str) -> String {
    let (peak, mean) = window.bitrates();
    let mut out = format!("#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={mean}");
    if !window.facts.codecs.is_empty() {
        let _ = write!(out, ",CODECS=\"{}\"", window.facts.codecs);
    }
    if let Some(size) = window.facts.size {
        let _ = write!(out, ",RESOLUTION={}x{}", size.width, size.height);
    }
    if let Some(rate) = window.frame_rate() {
        let _ = write!(out, ",FRAME-RATE={rate:.3}");
    }
    let _ = writeln!(out, "\n{media}{SESSION}");
    out
}

/// How far the media playlist at `media` is, for a player that may go over to it (4.4.5.4).
pub(super) fn report(window: &Window, media: &str) -> Option<String> {
    let (open, parts) = window.edge();
    let (segment, part) = match parts.checked_sub(1) {
        Some(part) => (open, part),
        None => {
            let before = open.checked_sub(1)?;
            (before, window.segment(before)?.parts.len().checked_sub(1)?)
        }
    };
    let uri = format!("URI=\"{media}{SESSION}\"");
    Some(format!("#EXT-X-RENDITION-REPORT:{uri},LAST-MSN={segment},LAST-PART={part}\n"))
}

/// A media playlist of the muxer whose files begin with `prefix`.
pub(super) fn media(window: &Window, prefix: &str, wanted: Wanted) -> String {
    let mut out = String::with_capacity(4096);
    let version = if wanted.format == Format::Ts { 3 } else { 9 };
    let target = window.target_s;
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}");
    if wanted.low_latency {
        let part_target = seconds_up(window.part_target());
        let _ = writeln!(
            out,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={:.3},CAN-SKIP-UNTIL={}.0\n\
             #EXT-X-PART-INF:PART-TARGET={part_target:.3}",
            part_target * 3.0,
            target * SKIP_TARGETS
        );
    }
    let first = window.first_listed();
    let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{first}");
    if window.discontinuities_gone > 0 || wanted.format == Format::Fmp4 {
        let gone = window.discontinuities_gone;
        let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{gone}");
    }
    let skipped = match wanted.skip && wanted.low_latency {
        true => skippable(window),
        false => 0,
    };
    if skipped > 0 {
        let _ = writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
    }
    let name = Names { prefix, format: wanted.format };
    let mut init = window.listed().take(skipped).last().map_or(0, |segment| segment.init);
    let behind = |segment: &Segment| seconds_behind(window, segment);
    for segment in window.listed().skip(skipped) {
        name.head(&mut out, segment, &mut init);
        if wanted.low_latency && behind(segment) < PARTS_LISTED_TARGETS * target {
            name.parts(&mut out, segment);
        }
        let seconds = seconds(segment.duration);
        let _ = writeln!(out, "#EXTINF:{seconds:.5},\n{}", name.segment(segment.number));
    }
    if wanted.low_latency {
        if let Some(open) = &window.open {
            name.head(&mut out, open, &mut init);
            name.parts(&mut out, open);
        }
        if wanted.source == Source::Live {
            let hint = name.part(window.next_part);
            let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\"");
        }
    }
    if wanted.source == Source::Over {
        out.push_str("#EXT-X-ENDLIST\n");
    }
    out
}

/// Listed segments that lie before the skip boundary.
fn skippable(window: &Window) -> usize {
    let boundary = window.target_s * SKIP_TARGETS;
    window.listed().take_while(|segment| seconds_behind(window, segment) >= boundary).count()
}

/// Whole seconds from a segment's end to the end of the playlist.
fn seconds_behind(window: &Window, segment: &Segment) -> u64 {
    let newer = window.listed().chain(&window.open).filter(|s| s.number > segment.number);
    let ticks: i64 = newer.map(|segment| segment.duration.0).sum();
    (ticks / Ticks::SECOND.0).max(0) as u64
}

/// The addresses of a muxer's files.
struct Names<'a> {
    prefix: &'a str,
    format: Format,
}

impl Names<'_> {
    fn segment(&self, number: u64) -> String {
        let extension = match self.format {
            Format::Fmp4 => "mp4",
            Format::Ts => "ts",
        };
        format!("{}_seg{number}.{extension}{SESSION}", self.prefix)
    }

    fn part(&self, number: u64) -> String {
        format!("{}_part{number}.mp4{SESSION}", self.prefix)
    }

    /// What stands before a segment.
    fn head(&self, out: &mut String, segment: &Segment, init: &mut u32) {
        if segment.discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if segment.init != *init {
            *init = segment.init;
            let (prefix, number) = (self.prefix, segment.init);
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"{prefix}_init{number}.mp4{SESSION}\"");
        }
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date(segment.wall));
    }

    fn parts(&self, out: &mut String, segment: &Segment) {
        for part in &segment.parts {
            let seconds = seconds(part.duration);
            let uri = self.part(part.number);
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let _ = writeln!(out, "#EXT-X-PART:DURATION={seconds:.5},URI=\"{uri}\"{independent}");
        }
    }
}

fn seconds(ticks: Ticks) -> f64 {
    ticks.0 as f64 / Ticks::SECOND.0 as f64
}

/// Rounded up to a millisecond: no part may be longer than what is said.
fn seconds_up(ticks: Ticks) -> f64 {
    (ticks.0 as f64 / 90.0).ceil() / 1000.0
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn date(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date from a count of days (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = days as i64 + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let ms = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}
