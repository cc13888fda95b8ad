//! What a graph said about pictures, on its way to one viewer: a message for each picture that was
//! sent, with the RTP timestamp by which the viewer knows it.
//!
//! Data channels are reliable, so a bad way would turn results into history. Those that waited for
//! [`AGE_MAX`], or that find [`WAITING_MAX`] before them, are dropped and counted.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::Pts;

use crate::rtp::packet::RtpTime;

/// Results that wait: two seconds of 30 pictures each.
const WAITING_MAX: usize = 64;

/// A result that could not leave for so long is about a picture that was seen long ago.
const AGE_MAX: Duration = Duration::from_millis(500);

/// One viewer's results.
#[derive(Debug, Default)]
pub(crate) struct Results {
    waiting: VecDeque<Waiting>,
    dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    pts: Pts,
    time: RtpTime,
    /// A JSON object.
    document: Arc<str>,
}

impl Results {
    /// A picture that has results leaves with this timestamp.
    pub(crate) fn push(&mut self, now: Instant, pts: Pts, time: RtpTime, document: &Arc<str>) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(Waiting { since: now, pts, time, document: Arc::clone(document) });
    }

    /// Whether there is anything to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next message that is not too late.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<String> {
        loop {
            let Waiting { since, pts, time, document } = self.waiting.pop_front()?;
            if now.saturating_duration_since(since) > AGE_MAX {
                self.dropped += 1;
                continue;
            }
            let mut text = String::with_capacity(document.len() + 80);
            // Writing to a `String` cannot fail.
            let _ = write!(
                text,
                r#"{{"type":"results","pts":{},"rtp":{},"results":{document}}}"#,
                pts.0, time.0
            );
            return Some(text);
        }
    }

    /// Forgets all of them: nobody listens.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// How many were dropped since this was asked last.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// The results in a coded picture, if they are a JSON object: pictures may come from anybody.
pub(crate) fn of_picture(unit: &[u8]) -> Option<Arc<str>> {
    let text = pipeline::h264::results(unit)?;
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).ok()?;
    Some(serde_json::Value::Object(object).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(results: &mut Results, now: Instant, pts: i64) {
        results.push(now, Pts(pts), RtpTime(7), &r#"{"3":{"moving":0.5}}"#.into());
    }

    #[test]
    fn a_message_names_the_picture_by_both_clocks() {
        let (mut results, now) = (Results::default(), Instant::now());
        some(&mut results, now, 90_000);
        let text = results.pop(now).unwrap();
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "type": "results", "pts": 90_000, "rtp": 7, "results": { "3": { "moving": 0.5 } },
        });
        assert_eq!(message, expected);
        assert_eq!(results.pop(now), None);
    }

    #[test]
    fn what_is_late_or_too_much_is_dropped_and_counted() {
        let (mut results, now) = (Results::default(), Instant::now());
        for index in 0..70 {
            some(&mut results, now + Duration::from_millis(10 * index), index as i64);
        }
        assert_eq!(results.take_dropped(), 6);
        // The first that is still young enough.
        let text = results.pop(now + Duration::from_millis(800)).unwrap();
        assert!(text.contains(r#""pts":30,"#), "{text}");
        assert_eq!(results.take_dropped(), 24);
        results.clear();
        assert!(results.is_empty() && results.pop(now).is_none());
    }

    #[test]
    fn only_an_object_is_taken_from_a_picture_and_it_cannot_leave_its_place() {
        let with = |text| {
            let unit = pipeline::h264::with_results(&[0, 0, 0, 1, 0x41, 0x9a], text).unwrap();
            of_picture(&unit)
        };
        assert_eq!(with(r#"{ "1" : [2] }"#).as_deref(), Some(r#"{"1":[2]}"#));
        for text in ["", "[1]", "1},\"x\":{", r#"{"a":1},"rtp":0,"b":{"#, "{\"a\":1}}"] {
            assert_eq!(with(text), None, "{text}");
        }
    }
}
