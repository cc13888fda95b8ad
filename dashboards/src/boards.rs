//! The Grafana boards and the alert rules, and which metrics they lean on.
//!
//! The files are for people to load into Grafana and Prometheus; the program only knows them so
//! that a test can hold their expressions against the metrics that a node really shows.

use std::collections::BTreeSet;

use crate::metrics::PREFIX;

/// The Grafana boards: file name and JSON.
pub const GRAFANA: [(&str, &str); 4] = [
    ("overview.json", include_str!("../grafana/overview.json")),
    ("streams.json", include_str!("../grafana/streams.json")),
    ("edge.json", include_str!("../grafana/edge.json")),
    ("money.json", include_str!("../grafana/money.json")),
];

/// Rules for Prometheus.
pub const ALERTS: &str = include_str!("../alerts.yaml");

/// Endings that a histogram's family has in expressions.
const HISTOGRAM_ENDINGS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The families that boards and alert rules ask for.
pub fn board_metric_names() -> BTreeSet<String> {
    let boards = GRAFANA.iter().map(|(_, text)| *text);
    boards.chain([ALERTS]).flat_map(names_in).collect()
}

/// Every word of a text that looks like one of our metrics.
fn names_in(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with(PREFIX)).map(|word| {
        let ending = HISTOGRAM_ENDINGS.iter().find_map(|ending| word.strip_suffix(ending));
        ending.unwrap_or(word).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{self, NAMES};

    #[test]
    fn boards_and_alerts_ask_only_for_metrics_that_exist() {
        let asked = board_metric_names();
        assert!(asked.len() > 20, "{asked:?}");
        for name in &asked {
            assert!(NAMES.contains(&name.as_str()), "{name} is on a board and nowhere else");
        }
    }

    #[test]
    fn every_metric_is_on_a_board_and_has_a_unit() {
        let asked = board_metric_names();
        for name in NAMES {
            assert!(asked.contains(*name), "{name} is on no board");
            assert_eq!(metrics::check_name(name), Ok(()), "{name}");
        }
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn boards_are_whole_and_name_their_units() {
        let mut uids = BTreeSet::new();
        for (file, text) in GRAFANA {
            let board: serde_json::Value = serde_json::from_str(text).expect(file);
            assert!(uids.insert(board["uid"].as_str().expect(file).to_owned()), "{file}");
            let mut ids = BTreeSet::new();
            for panel in board["panels"].as_array().expect(file) {
                let title = panel["title"].as_str().expect(file);
                assert!(ids.insert(panel["id"].as_u64().expect(title)), "{file}: {title}");
                if panel["type"] == "row" {
                    continue;
                }
                assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{file}: {title}");
                for target in panel["targets"].as_array().expect(title) {
                    let expression = target["expr"].as_str().expect(title);
                    assert!(names_in(expression).next().is_some(), "{file}: {title}");
                    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
                        let count = |c| expression.matches(c).count();
                        assert_eq!(count(open), count(close), "{file}: {title}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_alert_says_when_how_bad_and_what_to_do() {
        let alerts = ALERTS.matches("- alert: ").count();
        assert!(alerts >= 8);
        for key in ["expr: ", "for: ", "severity: ", "summary: ", "description: "] {
            assert_eq!(ALERTS.matches(key).count(), alerts, "{key}");
        }
        assert!(!ALERTS.contains('\t'));
    }

    #[test]
    fn names_are_found_in_expressions() {
        let text = r#"rate(millstream_hop_seconds_bucket{hop="x"}[1m]) / millstream_streams"#;
        let found: Vec<_> = names_in(text).collect();
        assert_eq!(found, ["millstream_hop_seconds", "millstream_streams"]);
    }
}
