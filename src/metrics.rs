//! The node's figures as Prometheus reads them; names carry their unit, amounts of wei are rounded.

mod certificate;
mod record;
mod srt;
mod webrtc;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use dashboards::metrics::Exposition;
use payments::store::WinnerState;

use crate::gateway::Gateway;
use crate::hops::{BOUNDS, Hop};
use crate::orchestrator::Orchestrator;
use crate::rpc::credentials::unix_millis;
use crate::status::Parts;

impl Parts {
    /// The node's figures as Prometheus reads them.
    pub async fn exposition(&self) -> Exposition {
        let mut out = Exposition::new();
        out.gauge(
            "millstream_info",
            "Version of the node; always 1",
            &[("version", env!("CARGO_PKG_VERSION")), ("commit", env!("MILLSTREAM_COMMIT"))],
            1.0,
        );
        let uptime = self.uptime().as_secs_f64();
        out.gauge("millstream_uptime_seconds", "Seconds since the node started", &[], uptime);
        out.process();
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        out.gauge(
            "millstream_tasks",
            "Tasks of the runtime that have not ended",
            &[],
            tasks as f64,
        );
        self.stream_metrics(&mut out);
        self.role_metrics(&mut out);
        self.edge_metrics(&mut out);
        self.record_metrics(&mut out);
        self.upload_metrics(&mut out);
        self.sources.iter().for_each(|sources| sources.metrics(&mut out));
        self.pushes.iter().for_each(|pushes| pushes.metrics(&mut out));
        self.bridges.iter().for_each(|bridges| bridges.metrics(&mut out));
        self.webhook_metrics(&mut out);
        self.money_metrics(&mut out).await;
        for hop in Hop::ALL {
            let snapshot = self.hops.snapshot(hop);
            out.histogram(
                "millstream_hop_seconds",
                "Time of a frame in each hop of the road",
                &[("hop", hop.name())],
                &BOUNDS,
                &snapshot.buckets,
                snapshot.sum_seconds,
            );
        }
        out
    }

    fn stream_metrics(&self, out: &mut Exposition) {
        let streams = self.hub.list();
        out.gauge("millstream_streams", "Streams in the hub", &[], streams.len() as f64);
        for stream in streams {
            let labels = [("stream", stream.name.as_str())];
            let counter = |out: &mut Exposition, name, help, value: u64| {
                out.counter(name, help, &labels, value as f64);
            };
            counter(out, "millstream_stream_bytes_total", "Coded bytes written", stream.bytes);
            counter(out, "millstream_stream_frames_total", "Pictures written", stream.frames);
            counter(
                out,
                "millstream_stream_lagged_packets_total",
                "Packets that slow readers lost",
                stream.lagged,
            );
            out.gauge("millstream_stream_readers", "Readers now", &labels, stream.readers as f64);
        }
        let ladders = self.ladders.as_ref().map(|ladders| ladders.list()).unwrap_or_default();
        for (stream, ladder) in ladders {
            for rung in &ladder.rungs {
                let labels = [("stream", stream.as_str()), ("rendition", rung.name.as_str())];
                let running = f64::from(u8::from(ladder.is_making()));
                let help = "Whether a rendition is being made";
                out.gauge("millstream_rendition_up", help, &labels, running);
                let (help, made) = ("Pictures of a rendition made", rung.pictures() as f64);
                out.counter("millstream_rendition_frames_total", help, &labels, made);
                let (help, busy) = ("Seconds of work for a rendition", rung.busy().as_secs_f64());
                out.counter("millstream_rendition_busy_seconds_total", help, &labels, busy);
            }
        }
    }

    fn webhook_metrics(&self, out: &mut Exposition) {
        for (index, (_, counters)) in self.events.counters().enumerate() {
            // URLs may hold secrets: the place in the settings names a webhook.
            let index = index.to_string();
            let labels = [("webhook", index.as_str())];
            let help = "Events that webhooks were told";
            let value = counters.delivered.load(Ordering::Relaxed);
            out.counter("millstream_webhook_events_delivered_total", help, &labels, value as f64);
            let help = "Attempts to tell a webhook that failed";
            let value = counters.failed.load(Ordering::Relaxed);
            out.counter("millstream_webhook_events_failed_total", help, &labels, value as f64);
            let help = "Events that no webhook was told: too many, or tried for too long";
            let value = counters.dropped.load(Ordering::Relaxed);
            out.counter("millstream_webhook_events_dropped_total", help, &labels, value as f64);
        }
    }

    fn role_metrics(&self, out: &mut Exposition) {
        if let Some(gateway) = &self.gateway {
            for (name, status) in gateway.list() {
                let labels = [("stream", name.as_str())];
                out.counter(
                    "millstream_gateway_pictures_total",
                    "Processed pictures that came back and were written",
                    &labels,
                    status.pictures as f64,
                );
                out.counter(
                    "millstream_gateway_pictures_refused_total",
                    "Processed pictures that were late, repeated or never sent",
                    &labels,
                    status.refused as f64,
                );
                out.counter(
                    "millstream_gateway_swaps_total",
                    "Times that another orchestrator took over",
                    &labels,
                    status.swaps as f64,
                );
                if let Some(delay) = status.delay_ms {
                    out.gauge(
                        "millstream_gateway_delay_seconds",
                        "Smoothed delay from source to processed picture",
                        &labels,
                        delay / 1000.0,
                    );
                }
            }
        }
        if let Some(orchestrator) = &self.orchestrator {
            let (free, in_use) = orchestrator.capacity();
            out.gauge("millstream_sessions", "Live jobs now", &[], in_use as f64);
            out.gauge("millstream_sessions_free", "Live jobs that could begin", &[], free as f64);
            let totals = orchestrator.totals();
            out.counter(
                "millstream_frames_processed_total",
                "Frames processed by the graph and sent back",
                &[],
                totals.processed as f64,
            );
            for (reason, value) in
                [("newer", totals.dropped), ("behind", totals.skipped), ("failed", totals.failed)]
            {
                out.counter(
                    "millstream_frames_dropped_total",
                    "Frames not processed: a newer one came, the decoder was behind, or they failed",
                    &[("reason", reason)],
                    value as f64,
                );
            }
        }
    }

    async fn money_metrics(&self, out: &mut Exposition) {
        if let Some(earned) = self.orchestrator.as_ref().map(Orchestrator::earned) {
            let tickets = |out: &mut Exposition, name, help, value: u64| {
                out.counter(name, help, &[], value as f64);
            };
            let accepted = "Tickets that were credited";
            tickets(out, "millstream_tickets_accepted_total", accepted, earned.accepted);
            tickets(out, "millstream_tickets_won_total", "Tickets that won", earned.won);
            let refused = earned.refused;
            for (reason, count) in [
                ("unknown_set", refused.unknown_set),
                ("sealed_set", refused.sealed_set),
                ("nonce_range", refused.nonce_range),
                ("repeated", refused.repeated),
                ("rate", refused.rate),
                ("signature", refused.signature),
            ] {
                out.counter(
                    "millstream_tickets_refused_total",
                    "Tickets that were refused",
                    &[("reason", reason)],
                    count as f64,
                );
            }
            out.counter(
                "millstream_fees_wei_total",
                "Fees credited, rounded to what a float holds; exact sums are in the API",
                &[],
                earned.credit.approximate(),
            );
            out.gauge(
                "millstream_at_risk_wei",
                "Fees of admitted frames that are not paid yet, rounded",
                &[],
                earned.at_risk.approximate(),
            );
        }
        if let Some(paid) = self.gateway.as_ref().map(Gateway::paid) {
            out.counter(
                "millstream_tickets_signed_total",
                "Tickets that this gateway signed",
                &[],
                paid.signed as f64,
            );
            out.counter(
                "millstream_paid_wei_total",
                "Wei of tickets that this gateway signed, rounded",
                &[],
                paid.released.approximate(),
            );
        }
        let Ok(counts) = self.money.store().winner_counts().await else { return };
        let redeemed = [WinnerState::Paid, WinnerState::Short];
        let redeemed = counts.iter().filter(|count| redeemed.contains(&count.state));
        out.counter(
            "millstream_tickets_redeemed_total",
            "Winning tickets that the ledger paid",
            &[],
            redeemed.map(|count| count.count).sum::<u64>() as f64,
        );
        if let Ok(oldest) = self.money.store().oldest_held_ms().await {
            let now = unix_millis(SystemTime::now());
            out.gauge(
                "millstream_oldest_winner_seconds",
                "Age of the oldest winning ticket that is not redeemed; 0 without one",
                &[],
                oldest.map_or(0.0, |stored| now.saturating_sub(stored) as f64 / 1000.0),
            );
        }
        for count in counts {
            out.gauge(
                "millstream_winners",
                "Winning tickets by state",
                &[("state", count.state.as_str())],
                count.count as f64,
            );
        }
    }

    fn rtsp_metrics(&self, out: &mut Exposition) {
        let Some((_, counters)) = &self.rtsp else { return };
        let rtsp = counters.snapshot();
        for (name, help, value) in [
            ("connections_total", "RTSP connections accepted", rtsp.connections),
            ("connections_refused_total", "RTSP clients turned away", rtsp.refused),
            ("connections_failed_total", "RTSP connections ended by an error", rtsp.failed),
            ("received_bytes_total", "Bytes from RTSP clients", rtsp.bytes_in),
            ("sent_bytes_total", "Bytes to RTSP clients", rtsp.bytes_out),
            ("broken_packets_total", "RTP packets of publishers passed over", rtsp.media_errors),
            (
                "dropped_packets_total",
                "Datagrams of strangers, and those that nobody took in time",
                rtsp.datagrams_dropped,
            ),
            ("lagged_frames_total", "Frames that slow RTSP readers lost", rtsp.lagged),
        ] {
            out.counter(&format!("millstream_rtsp_{name}"), help, &[], value as f64);
        }
    }

    /// How full the doors are: connections that came, and those that went for others.
    fn door_metrics(&self, out: &mut Exposition) {
        let http = &self.http;
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("connections_total", "HTTP connections accepted", &http.connections),
            ("connections_refused_total", "HTTP connections turned away", &http.refused),
        ] {
            out.counter(&format!("millstream_http_{name}"), help, &[], read(value) as f64);
        }
        let rtmp = self.rtmp.as_ref().or(self.rtmps.as_ref());
        let gave_way = [
            ("http", Some(read(&http.gave_way))),
            ("rtmp", rtmp.map(|(_, counters)| counters.snapshot().gave_way)),
            ("rtsp", self.rtsp.as_ref().map(|(_, counters)| counters.snapshot().gave_way)),
            ("webrtc", self.webrtc.as_ref().map(|server| read(&server.counters().gave_way))),
        ];
        for (protocol, count) in gave_way {
            let Some(count) = count else { continue };
            out.counter(
                "millstream_half_open_connections_ended_total",
                "Connections that had shown nothing yet, ended to make room for newcomers",
                &[("protocol", protocol)],
                count as f64,
            );
        }
    }

    fn edge_metrics(&self, out: &mut Exposition) {
        if let Some((_, counters)) = self.rtmp.as_ref().or(self.rtmps.as_ref()) {
            let rtmp = counters.snapshot();
            for (name, help, value) in [
                (
                    "millstream_rtmp_connections_total",
                    "RTMP connections accepted",
                    rtmp.connections,
                ),
                (
                    "millstream_rtmp_connections_refused_total",
                    "RTMP clients turned away",
                    rtmp.refused,
                ),
                (
                    "millstream_rtmp_connections_failed_total",
                    "RTMP connections ended by an error",
                    rtmp.failed,
                ),
                ("millstream_rtmp_received_bytes_total", "Bytes from RTMP clients", rtmp.bytes_in),
                ("millstream_rtmp_sent_bytes_total", "Bytes to RTMP clients", rtmp.bytes_out),
                (
                    "millstream_rtmp_unusable_packets_total",
                    "Media messages of RTMP publishers that could not be used",
                    rtmp.media_errors,
                ),
                (
                    "millstream_rtmp_jumped_packets_total",
                    "Jumps of RTMP publishers' clocks that were repaired",
                    rtmp.clock_jumps,
                ),
                (
                    "millstream_rtmp_further_tracks_packets_total",
                    "Media messages of RTMP publishers' further tracks that could not be used",
                    rtmp.further_tracks,
                ),
            ] {
                out.counter(name, help, &[], value as f64);
            }
        }
        if let Some((connections, counters)) = &self.srt {
            srt::put(out, connections, &counters.snapshot());
        }
        self.rtsp_metrics(out);
        self.door_metrics(out);
        if let Some(certificate) = self.certificate() {
            certificate::put(out, &certificate);
        }
        if let Some(server) = &self.webrtc {
            webrtc::put(out, &server.counters());
        }
    }
}
