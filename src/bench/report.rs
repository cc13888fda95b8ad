//! Figures as a person or a program reads them.

use serde_json::{Map, Value};

/// The shape of some durations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// How many.
    pub(super) count: usize,
    pub(super) p50: f64,
    p95: f64,
    pub(super) p99: f64,
    max: f64,
}

impl Spread {
    /// The spread of durations in milliseconds; `None` without any.
    pub(super) fn of(mut ms: Vec<f64>) -> Option<Self> {
        ms.sort_by(f64::total_cmp);
        let max = *ms.last()?;
        // Nearest rank: the smallest value that so many are not above.
        let at = |share: f64| ms[((ms.len() as f64 * share).ceil() as usize).max(1) - 1];
        Some(Self { count: ms.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99), max })
    }
}

/// Prints lines, as text or as JSON.
pub(super) struct Printer {
    json: bool,
    /// Fields that every JSON line begins with.
    head: Map<String, Value>,
}

impl Printer {
    /// A printer of a measurement.
    pub(super) fn new(bench: &str, json: bool) -> Self {
        let mut head = Map::new();
        head.insert("bench".into(), bench.into());
        Self { json, head }
    }

    /// Every following JSON line has this field.
    pub(super) fn with(&mut self, key: &str, value: impl Into<Value>) {
        self.head.insert(key.into(), value.into());
    }

    /// A line for people.
    pub(super) fn say(&self, line: &str) {
        if !self.json {
            out(line);
        }
    }

    /// Heads of the columns of [`Self::spread`].
    pub(super) fn columns(&self, first: &str) {
        self.say(&format!(
            "{first:<42}{:>9}{:>9}{:>9}{:>9}",
            "p50 ms", "p95 ms", "p99 ms", "max ms"
        ));
    }

    /// A spread: `key` names it for programs, `words` for people.
    pub(super) fn spread(&self, key: &str, words: &str, spread: Option<Spread>) {
        let Some(Spread { count, p50, p95, p99, max }) = spread else {
            return self.say(&format!("{words:<42}{:>9}", "nothing"));
        };
        self.say(&format!("{words:<42}{p50:>9.2}{p95:>9.2}{p99:>9.2}{max:>9.2}"));
        let ms = |value: f64| Value::from((value * 1000.0).round() / 1000.0);
        self.object([
            ("hop", key.into()),
            ("count", count.into()),
            ("p50_ms", ms(p50)),
            ("p95_ms", ms(p95)),
            ("p99_ms", ms(p99)),
            ("max_ms", ms(max)),
        ]);
    }

    /// A line for programs.
    pub(super) fn object<const N: usize>(&self, fields: [(&str, Value); N]) {
        if self.json {
            let mut object = self.head.clone();
            object.extend(fields.map(|(key, value)| (key.to_owned(), value)));
            out(&Value::Object(object).to_string());
        }
    }
}

#[allow(clippy::print_stdout, reason = "printing is what the command is for")]
fn out(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((spread.p50, spread.p95, spread.p99, spread.max), (50.0, 95.0, 99.0, 100.0));
        let one = Spread::of(vec![7.0]).unwrap();
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
