//! Figures of SRT: of the listener, and of each connection while it lives.

use dashboards::metrics::Exposition;
use ingest::sessions::SessionStatus;
use ingest::srt::{Connections, CountersSnapshot, Statistics};

/// A figure of a connection: name, help, and how it is read.
type Figure = (&'static str, &'static str, fn(&Statistics) -> f64);

const GAUGES: [Figure; 7] = [
    ("millstream_srt_connection_rtt_seconds", "Smoothed round trip", |s| s.ms_rtt / 1000.0),
    ("millstream_srt_connection_receive_bits_per_second", "Rate of payloads received", |s| {
        s.mbps_receive_rate * 1e6
    }),
    ("millstream_srt_connection_send_bits_per_second", "Rate of payloads sent", |s| {
        s.mbps_send_rate * 1e6
    }),
    ("millstream_srt_connection_receive_buffer_packets", "Packets held back for lost ones", |s| {
        s.packets_receive_buf as f64
    }),
    ("millstream_srt_connection_send_buffer_packets", "Packets not acknowledged yet", |s| {
        s.packets_send_buf as f64
    }),
    ("millstream_srt_connection_receive_latency_seconds", "Agreed delay of what comes in", |s| {
        s.ms_receive_tsb_pd_delay as f64 / 1000.0
    }),
    ("millstream_srt_connection_send_latency_seconds", "Agreed delay of what goes out", |s| {
        s.ms_send_tsb_pd_delay as f64 / 1000.0
    }),
];

const COUNTERS: [Figure; 8] = [
    ("millstream_srt_connection_received_packets_total", "Packets received once", |s| {
        s.packets_received_unique as f64
    }),
    ("millstream_srt_connection_received_loss_packets_total", "Packets missed at first", |s| {
        s.packets_received_loss as f64
    }),
    ("millstream_srt_connection_received_again_packets_total", "Packets received again", |s| {
        s.packets_received_retrans as f64
    }),
    ("millstream_srt_connection_received_drop_packets_total", "Packets that never came", |s| {
        s.packets_received_drop as f64
    }),
    ("millstream_srt_connection_sent_packets_total", "Packets sent once", |s| {
        s.packets_sent_unique as f64
    }),
    ("millstream_srt_connection_sent_loss_packets_total", "Packets the peer missed", |s| {
        s.packets_send_loss as f64
    }),
    ("millstream_srt_connection_resent_packets_total", "Packets sent again", |s| {
        s.packets_retrans as f64
    }),
    ("millstream_srt_connection_sent_drop_packets_total", "Packets too late to be sent", |s| {
        s.packets_send_drop as f64
    }),
];

pub(super) fn put(out: &mut Exposition, connections: &Connections, all: &CountersSnapshot) {
    for (name, help, value) in [
        ("millstream_srt_connections_total", "SRT callers accepted", all.connections),
        ("millstream_srt_connections_refused_total", "SRT callers turned away", all.refused),
        ("millstream_srt_connections_failed_total", "SRT sessions ended by an error", all.failed),
        ("millstream_srt_received_bytes_total", "Bytes of SRT datagrams received", all.bytes_in),
        ("millstream_srt_sent_bytes_total", "Bytes of SRT datagrams sent", all.bytes_out),
        (
            "millstream_srt_ignored_datagrams_total",
            "Datagrams that were no SRT or for no session",
            all.ignored,
        ),
        (
            "millstream_srt_dropped_datagrams_total",
            "Datagrams that a session could not take in time",
            all.dropped,
        ),
        (
            "millstream_srt_lost_packets_total",
            "Packets of publishers that never came, of ended sessions",
            all.lost,
        ),
        (
            "millstream_srt_resent_packets_total",
            "Packets sent again to readers, of ended sessions",
            all.resent,
        ),
        (
            "millstream_srt_skipped_packets_total",
            "Packets of media that slow readers lost, of ended sessions",
            all.skipped,
        ),
    ] {
        out.counter(name, help, &[], value as f64);
    }
    let list = connections.list();
    for (name, help, read) in GAUGES {
        for (status, figures) in &list {
            labelled(status, |labels| out.gauge(name, help, labels, read(figures)));
        }
    }
    for (name, help, read) in COUNTERS {
        for (status, figures) in &list {
            labelled(status, |labels| out.counter(name, help, labels, read(figures)));
        }
    }
}

fn labelled(status: &SessionStatus, put: impl FnOnce(&[(&str, &str)])) {
    let stream = status.stream.as_ref().map_or("", |name| name.as_str());
    put(&[("id", &status.id), ("stream", stream), ("state", status.state.as_str())]);
}
