//! Figures in the form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The content type of [`Exposition::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Figures at one moment.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: &'static str,
    help: String,
    lines: String,
}

impl Exposition {
    /// No figures.
    pub fn new() -> Self {
        Self::default()
    }

    /// A figure that only grows.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.sample("counter", name, name, help, labels, value);
    }

    /// A figure that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.sample("gauge", name, name, help, labels, value);
    }

    /// A distribution: counts per bucket (one more than bounds, not cumulative) and their sum.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        buckets: &[u64],
        sum: f64,
    ) {
        let mut seen = 0;
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(buckets) {
            seen += count;
            let with_bound: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            let bucket = format!("{name}_bucket");
            self.sample("histogram", name, &bucket, help, &with_bound, seen as f64);
        }
        self.sample("histogram", name, &format!("{name}_sum"), help, labels, sum);
        self.sample("histogram", name, &format!("{name}_count"), help, labels, seen as f64);
    }

    fn sample(
        &mut self,
        kind: &'static str,
        family: &str,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let family = self.families.entry(family.to_owned()).or_insert_with(|| Family {
            kind,
            help: help.to_owned(),
            lines: String::new(),
        });
        let escape = |text: &str| {
            text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
        };
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(family.lines, "{name}{labels} {value}");
    }

    /// The text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, Family { kind, help, lines }) in &self.families {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        }
        text
    }
}
