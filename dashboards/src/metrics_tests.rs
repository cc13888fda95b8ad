//! The text is read back by a small parser of the format (Prometheus' "text-based format").

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A sample read back: its name, its labels and its value.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads a whole exposition; panics at what Prometheus would refuse.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    let (mut kinds, mut samples) = (BTreeMap::new(), Vec::new());
    let mut family = String::new();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has an end");
    // Not `lines`: a carriage return in a label's value is no end of a line.
    for line in text.strip_suffix('\n').into_iter().flat_map(|text| text.split('\n')) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(!kinds.contains_key(&family), "{family} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            if family != name {
                // A family without a help text.
                assert!(!kinds.contains_key(name), "{name} comes twice");
                family = name.to_owned();
            }
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            kinds.insert(name.to_owned(), kind.to_owned());
        } else {
            let sample = parse_sample(line);
            assert!(sample.name.starts_with(&family), "{line} is not of {family}");
            samples.push(sample);
        }
    }
    (kinds, samples)
}

fn parse_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").unwrap();
            let (mut value, mut chars) = (String::new(), after.char_indices());
            let end = loop {
                match chars.next().expect("a quote at the end") {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("unknown escape {c}"),
                    }),
                    (_, '\n') => panic!("a line break within a value"),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(key.to_owned(), value).is_none());
            rest = &after[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    Sample { name: name.to_owned(), labels, value }
}

#[test]
fn families_stay_together_whatever_the_order_of_the_calls() {
    let mut out = Exposition::new();
    out.gauge("millstream_streams", "Streams", &[], 2.0);
    out.counter("millstream_stream_bytes_total", "Bytes", &[("stream", "b")], 7.0);
    out.gauge("millstream_stream_readers", "Readers", &[("stream", "a")], 1.0);
    out.counter("millstream_stream_bytes_total", "Bytes", &[("stream", "a")], 8.5);
    let text = out.render();
    let (kinds, samples) = parse(&text);
    assert_eq!(kinds["millstream_stream_bytes_total"], "counter");
    assert_eq!(kinds["millstream_streams"], "gauge");
    assert_eq!(samples.len(), 4);
    assert_eq!(out.names(), kinds.keys().cloned().collect::<Vec<_>>());
    assert!(text.contains("millstream_stream_bytes_total{stream=\"a\"} 8.5\n"), "{text}");
}

#[test]
fn a_histogram_is_cumulative_and_ends_with_all() {
    let mut out = Exposition::new();
    let labels = [("hop", "graph")];
    out.histogram("millstream_hop_seconds", "Time", &labels, &[0.1, 0.5], &[2, 3, 4], 6.25);
    let (kinds, samples) = parse(&out.render());
    assert_eq!(kinds["millstream_hop_seconds"], "histogram");
    let bucket = |le: &str| {
        let mut found = samples.iter().filter(|s| s.labels.get("le").is_some_and(|l| l == le));
        found.next().unwrap().value
    };
    assert_eq!([bucket("0.1"), bucket("0.5"), bucket("+Inf")], [2.0, 5.0, 9.0]);
    let plain = |name: &str| samples.iter().find(|s| s.name == name).unwrap();
    assert_eq!(plain("millstream_hop_seconds_sum").value, 6.25);
    assert_eq!(plain("millstream_hop_seconds_count").value, 9.0);
    assert_eq!(plain("millstream_hop_seconds_count").labels["hop"], "graph");
}

#[test]
fn nothing_gives_an_empty_text() {
    assert_eq!(Exposition::new().render(), "");
}

#[test]
fn names_need_prefix_form_and_unit() {
    let cases = [
        ("millstream_frames_processed_total", Ok(())),
        ("millstream_at_risk_wei", Ok(())),
        ("frames_total", Err(NameError::Prefix)),
        ("millstream_Frames", Err(NameError::Form)),
        ("millstream_frames__x", Err(NameError::Form)),
        ("millstream_frames_", Err(NameError::Form)),
        ("millstream_", Err(NameError::Form)),
        ("millstream_delay", Err(NameError::Unit)),
    ];
    for (name, wanted) in cases {
        assert_eq!(check_name(name), wanted, "{name}");
    }
    assert_eq!(check_name(&format!("millstream_{}", "x".repeat(100))), Err(NameError::Long));
}

#[test]
#[should_panic(expected = "has no unit")]
fn a_bad_name_is_a_mistake_of_ours() {
    Exposition::new().gauge("millstream_delay", "", &[], 1.0);
}

#[test]
#[should_panic(expected = "changes its kind")]
fn a_family_has_one_kind() {
    let mut out = Exposition::new();
    out.gauge("millstream_frames_total", "", &[], 1.0);
    out.counter("millstream_frames_total", "", &[], 1.0);
}

proptest! {
    #[test]
    fn any_label_value_and_help_survives(
        values in prop::collection::vec(any::<String>(), 1..8),
        help in any::<String>(),
        figure in any::<f64>(),
    ) {
        let mut out = Exposition::new();
        for (index, value) in values.iter().enumerate() {
            let index = index.to_string();
            out.gauge("millstream_sessions", &help, &[("stream", value), ("index", &index)], figure);
        }
        let (kinds, samples) = parse(&out.render());
        prop_assert_eq!(kinds.len(), 1);
        prop_assert_eq!(samples.len(), values.len());
        for (sample, value) in samples.iter().zip(&values) {
            prop_assert_eq!(&sample.labels["stream"], value);
            prop_assert!(sample.value == figure || (sample.value.is_nan() && figure.is_nan()));
        }
    }

    #[test]
    fn histograms_keep_their_counts(
        counts in prop::collection::vec(0_u64..1 << 40, 1..20),
        sum in 0.0_f64..1e9,
    ) {
        let bounds: Vec<f64> = (1..counts.len()).map(|i| i as f64 / 7.0).collect();
        let mut out = Exposition::new();
        out.histogram("millstream_hop_seconds", "h", &[], &bounds, &counts, sum);
        let (_, samples) = parse(&out.render());
        let cumulative: Vec<f64> =
            samples.iter().filter(|s| s.labels.contains_key("le")).map(|s| s.value).collect();
        prop_assert_eq!(cumulative.len(), counts.len());
        prop_assert!(cumulative.is_sorted());
        prop_assert_eq!(cumulative[cumulative.len() - 1], counts.iter().sum::<u64>() as f64);
    }
}
