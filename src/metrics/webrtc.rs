//! Figures of WebRTC: of all sessions together.

use std::sync::atomic::{AtomicU64, Ordering};

use dashboards::metrics::Exposition;
use ingest::webrtc::Counters;

/// Puts them all out.
pub(super) fn put(out: &mut Exposition, counters: &Counters) {
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
    let sessions = "WebRTC sessions now";
    let role = |role| [("role", role)];
    out.gauge(
        "millstream_webrtc_sessions",
        sessions,
        &role("publisher"),
        read(&counters.publishers),
    );
    out.gauge("millstream_webrtc_sessions", sessions, &role("viewer"), read(&counters.viewers));
    for (name, help, value) in [
        ("millstream_webrtc_sent_packets_total", "RTP packets sent", &counters.packets_sent),
        ("millstream_webrtc_sent_bytes_total", "RTP bytes sent", &counters.bytes_sent),
        (
            "millstream_webrtc_received_packets_total",
            "RTP packets received",
            &counters.packets_received,
        ),
        (
            "millstream_webrtc_lost_packets_total",
            "RTP packets of publishers that never came",
            &counters.packets_lost,
        ),
        (
            "millstream_webrtc_nacks_total",
            "Packets that viewers asked for again",
            &counters.nacks_received,
        ),
        (
            "millstream_webrtc_resent_packets_total",
            "RTP packets sent again",
            &counters.packets_resent,
        ),
        (
            "millstream_webrtc_key_frames_wanted_total",
            "Key frames that viewers asked for",
            &counters.plis_received,
        ),
        (
            "millstream_webrtc_dropped_packets_total",
            "RTP packets that the system did not take",
            &counters.packets_dropped,
        ),
        (
            "millstream_webrtc_skipped_frames_total",
            "Frames that slow viewers lost",
            &counters.frames_skipped,
        ),
        (
            "millstream_webrtc_thinned_frames_total",
            "Pictures left out for viewers whose way carries less than the stream has",
            &counters.frames_thinned,
        ),
        (
            "millstream_webrtc_sent_results_total",
            "Results of graphs sent on data channels",
            &counters.results_sent,
        ),
        (
            "millstream_webrtc_dropped_results_total",
            "Results of graphs that would have come too late",
            &counters.results_dropped,
        ),
    ] {
        out.counter(name, help, &[], read(value));
    }
    let egress = counters.write_to_sent.snapshot();
    let bounds: Vec<f64> = egress.buckets.iter().map(|(bound, _)| *bound).collect();
    let mut buckets: Vec<u64> = egress.buckets.iter().map(|(_, count)| *count).collect();
    buckets.push(egress.count - buckets.iter().sum::<u64>().min(egress.count));
    out.histogram(
        "millstream_webrtc_egress_seconds",
        "From the writing of a frame to its last packet to the last viewer",
        &[],
        &bounds,
        &buckets,
        egress.sum_seconds,
    );
}
