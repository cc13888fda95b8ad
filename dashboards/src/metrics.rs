//! Figures at one moment, in the form that Prometheus reads.
//!
//! The node gathers its figures when it is asked for them and writes them into an [`Exposition`]:
//! no registry is kept and no figure is counted twice. Families and text are those of the
//! `prometheus` crate. A name or label that Prometheus would refuse is a mistake of ours: a debug
//! assertion, and left out in release builds, so that the other figures stay readable.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prometheus::TextEncoder;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// The content type of [`Exposition::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What every name begins with.
pub const PREFIX: &str = "millstream_";

/// The longest name in bytes.
const NAME_BYTES_MAX: usize = 100;

/// Words of which every name has one: the unit of its value, or the thing that is counted.
const UNITS: [&str; 30] = [
    "bits",
    "bytes",
    "clients",
    "connections",
    "datagrams",
    "events",
    "frames",
    "info",
    "nacks",
    "packets",
    "pictures",
    "pixels",
    "ratio",
    "readers",
    "results",
    "receipts",
    "retries",
    "rounds",
    "seconds",
    "segments",
    "sessions",
    "streams",
    "swaps",
    "tasks",
    "tickets",
    "up",
    "viewers",
    "wei",
    "winners",
    "writes",
];

/// Every family that boards and alerts may lean on. A node shows those of the roles it runs.
pub const NAMES: &[&str] = &[
    "millstream_at_risk_wei",
    "millstream_bridge_busy_seconds_total",
    "millstream_bridge_dropped_frames_total",
    "millstream_bridge_frames_total",
    "millstream_bridge_lagged_packets_total",
    "millstream_bridge_readers",
    "millstream_bridge_received_frames_total",
    "millstream_bridge_streams",
    "millstream_certificate_failed_retries_total",
    "millstream_certificate_remaining_seconds",
    "millstream_fees_wei_total",
    "millstream_frames_dropped_total",
    "millstream_frames_processed_total",
    "millstream_gateway_delay_seconds",
    "millstream_gateway_pictures_refused_total",
    "millstream_gateway_pictures_total",
    "millstream_gateway_swaps_total",
    "millstream_half_open_connections_ended_total",
    "millstream_hop_seconds",
    "millstream_http_connections_refused_total",
    "millstream_http_connections_total",
    "millstream_info",
    "millstream_oldest_winner_seconds",
    "millstream_paid_wei_total",
    "millstream_push_bytes_total",
    "millstream_push_dropped_packets_total",
    "millstream_push_retries_total",
    "millstream_push_up",
    "millstream_record_bytes_total",
    "millstream_record_failed_writes_total",
    "millstream_record_failing_streams",
    "millstream_record_lost_packets_total",
    "millstream_record_segments_total",
    "millstream_rendition_busy_seconds_total",
    "millstream_rendition_frames_total",
    "millstream_rendition_up",
    "millstream_rtmp_connections_failed_total",
    "millstream_rtmp_connections_refused_total",
    "millstream_rtmp_connections_total",
    "millstream_rtmp_further_tracks_packets_total",
    "millstream_rtmp_jumped_packets_total",
    "millstream_rtmp_received_bytes_total",
    "millstream_rtmp_sent_bytes_total",
    "millstream_rtmp_unusable_packets_total",
    "millstream_rtsp_broken_packets_total",
    "millstream_rtsp_connections_failed_total",
    "millstream_rtsp_connections_refused_total",
    "millstream_rtsp_connections_total",
    "millstream_rtsp_dropped_packets_total",
    "millstream_rtsp_lagged_frames_total",
    "millstream_rtsp_received_bytes_total",
    "millstream_rtsp_sent_bytes_total",
    "millstream_sessions",
    "millstream_sessions_free",
    "millstream_source_retries_total",
    "millstream_source_up",
    "millstream_srt_connection_receive_bits_per_second",
    "millstream_srt_connection_receive_buffer_packets",
    "millstream_srt_connection_receive_latency_seconds",
    "millstream_srt_connection_received_again_packets_total",
    "millstream_srt_connection_received_drop_packets_total",
    "millstream_srt_connection_received_loss_packets_total",
    "millstream_srt_connection_received_packets_total",
    "millstream_srt_connection_resent_packets_total",
    "millstream_srt_connection_rtt_seconds",
    "millstream_srt_connection_send_bits_per_second",
    "millstream_srt_connection_send_buffer_packets",
    "millstream_srt_connection_send_latency_seconds",
    "millstream_srt_connection_sent_drop_packets_total",
    "millstream_srt_connection_sent_loss_packets_total",
    "millstream_srt_connection_sent_packets_total",
    "millstream_srt_connections_failed_total",
    "millstream_srt_connections_refused_total",
    "millstream_srt_connections_total",
    "millstream_srt_dropped_datagrams_total",
    "millstream_srt_ignored_datagrams_total",
    "millstream_srt_lost_packets_total",
    "millstream_srt_received_bytes_total",
    "millstream_srt_resent_packets_total",
    "millstream_srt_sent_bytes_total",
    "millstream_srt_skipped_packets_total",
    "millstream_stream_bytes_total",
    "millstream_stream_frames_total",
    "millstream_stream_lagged_packets_total",
    "millstream_stream_readers",
    "millstream_streams",
    "millstream_tasks",
    "millstream_tickets_accepted_total",
    "millstream_tickets_redeemed_total",
    "millstream_tickets_refused_total",
    "millstream_tickets_signed_total",
    "millstream_tickets_won_total",
    "millstream_upload_bytes_total",
    "millstream_upload_failed_segments_total",
    "millstream_upload_lost_segments_total",
    "millstream_upload_segments_total",
    "millstream_upload_waiting_bytes",
    "millstream_upload_waiting_segments",
    "millstream_uptime_seconds",
    "millstream_webhook_events_delivered_total",
    "millstream_webhook_events_dropped_total",
    "millstream_webhook_events_failed_total",
    "millstream_webrtc_dropped_packets_total",
    "millstream_webrtc_dropped_results_total",
    "millstream_webrtc_egress_seconds",
    "millstream_webrtc_key_frames_wanted_total",
    "millstream_webrtc_lost_packets_total",
    "millstream_webrtc_nacks_total",
    "millstream_webrtc_received_packets_total",
    "millstream_webrtc_resent_packets_total",
    "millstream_webrtc_sent_bytes_total",
    "millstream_webrtc_sent_packets_total",
    "millstream_webrtc_sent_results_total",
    "millstream_webrtc_sessions",
    "millstream_webrtc_skipped_frames_total",
    "millstream_webrtc_thinned_frames_total",
    "millstream_winners",
];

/// Why a text is not the name of one of our metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It does not begin with [`PREFIX`].
    #[error("the name does not begin with {PREFIX}")]
    Prefix,
    /// More than 100 bytes.
    #[error("the name has more than {NAME_BYTES_MAX} bytes")]
    Long,
    /// A character outside `a-z0-9_`, two underscores in a row, or one at the end.
    #[error("the name may hold only words of a-z and 0-9 joined by single underscores")]
    Form,
    /// No unit and nothing counted among its words.
    #[error("the name has no unit in it")]
    Unit,
}

/// Checks a metric's name: our prefix, the form, and a unit among its words.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let rest = name.strip_prefix(PREFIX).ok_or(NameError::Prefix)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::Long);
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !rest.split('_').all(|word| !word.is_empty() && word.chars().all(plain)) {
        return Err(NameError::Form);
    }
    if rest.split('_').any(|word| UNITS.contains(&word)) { Ok(()) } else { Err(NameError::Unit) }
}

/// Figures at one moment.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, MetricFamily>,
}

impl Exposition {
    /// No figures.
    pub fn new() -> Self {
        Self::default()
    }

    /// A figure that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        debug_assert!(name.ends_with("_total"), "the counter {name} does not end in _total");
        let mut counter = Counter::default();
        counter.set_value(value);
        self.add(MetricType::COUNTER, name, help, labels, |metric| metric.set_counter(counter));
    }

    /// A figure that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        self.add(MetricType::GAUGE, name, help, labels, |metric| metric.set_gauge(gauge));
    }

    /// A distribution: counts per bucket, of which there is one more than `bounds`, each of its
    /// own and not with those below it; and the sum of all values.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        buckets: &[u64],
        sum: f64,
    ) {
        debug_assert_eq!(buckets.len(), bounds.len() + 1, "{name} has one bucket above its bounds");
        let mut below = 0;
        let bucket = |(bound, count): (&f64, &u64)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(bounds.iter().zip(buckets).map(bucket).collect());
        histogram.set_sample_count(buckets.iter().sum());
        histogram.set_sample_sum(sum);
        self.add(MetricType::HISTOGRAM, name, help, labels, |m| m.set_histogram(histogram));
    }

    /// What the system says of this process, under the names that all Prometheus clients use:
    /// `process_resident_memory_bytes`, `process_open_fds`, `process_cpu_seconds_total` and others.
    pub fn process(&mut self) {
        for family in ProcessCollector::for_self().collect() {
            self.families.insert(family.name().to_owned(), family);
        }
    }

    fn add(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        set: impl FnOnce(&mut Metric),
    ) {
        if let Err(error) = check_name(name) {
            debug_assert!(false, "{name:?}: {error}");
            return;
        }
        let family = match self.families.entry(name.to_owned()) {
            Entry::Occupied(family) => family.into_mut(),
            Entry::Vacant(place) => {
                let mut family = MetricFamily::default();
                family.set_name(name.to_owned());
                family.set_help(help.to_owned());
                family.set_field_type(kind);
                place.insert(family)
            }
        };
        let labels_are_good = labels.iter().all(|(key, _)| {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            !key.is_empty() && key.chars().all(plain) && !matches!(*key, "le" | "quantile")
        });
        if family.get_field_type() != kind || !labels_are_good {
            debug_assert!(false, "{name} changes its kind or has a bad label: {labels:?}");
            return;
        }
        let pair = |(key, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*key).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        set(&mut metric);
        family.mut_metric().push(metric);
    }

    /// The names of the families, in order.
    pub fn names(&self) -> Vec<String> {
        self.families.keys().cloned().collect()
    }

    /// The text: families in the order of their names, whatever the order of the calls.
    pub fn render(&self) -> String {
        // A family whose only sample was refused has nothing to show.
        let families: Vec<_> =
            self.families.values().filter(|f| !f.get_metric().is_empty()).cloned().collect();
        let text = TextEncoder::new().encode_to_string(&families);
        debug_assert!(text.is_ok(), "{text:?}");
        text.unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
