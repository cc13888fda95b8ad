//! Figures of a connection, under the names that MediaMTX's API gives them.

use std::time::{Duration, Instant};

use serde::Serialize;

/// What a connection has counted since its start, and how it stands. `packetsReceivedAvgBelatedTime`
/// is left out: nothing here measures it. Units are in the names: `us`
/// and `ms` are times, `mbps` is 10^6 bits in a second; bytes are those of payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the API's, and say what they count")]
pub struct Statistics {
    pub packets_sent: u64,
    pub packets_received: u64,
    pub packets_sent_unique: u64,
    pub packets_received_unique: u64,
    /// Packets that the peer reported as lost.
    pub packets_send_loss: u64,
    /// Packets that were missing when a later one came.
    pub packets_received_loss: u64,
    pub packets_retrans: u64,
    pub packets_received_retrans: u64,
    #[serde(rename = "packetsSentACK")]
    pub packets_sent_ack: u64,
    #[serde(rename = "packetsReceivedACK")]
    pub packets_received_ack: u64,
    #[serde(rename = "packetsSentNAK")]
    pub packets_sent_nak: u64,
    #[serde(rename = "packetsReceivedNAK")]
    pub packets_received_nak: u64,
    #[serde(rename = "packetsSentKM")]
    pub packets_sent_km: u64,
    #[serde(rename = "packetsReceivedKM")]
    pub packets_received_km: u64,
    /// Time with something to be sent or acknowledged.
    pub us_snd_duration: u64,
    /// Packets that came when they were there already or given up.
    pub packets_received_belated: u64,
    /// Packets too late to be sent.
    pub packets_send_drop: u64,
    /// Packets that never came and were given up.
    pub packets_received_drop: u64,
    pub packets_received_undecrypt: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub bytes_sent_unique: u64,
    pub bytes_received_unique: u64,
    /// By the mean length of packets, as the lost ones' is not known.
    pub bytes_received_loss: u64,
    pub bytes_retrans: u64,
    pub bytes_received_retrans: u64,
    pub bytes_received_belated: u64,
    pub bytes_send_drop: u64,
    /// By the mean length of packets.
    pub bytes_received_drop: u64,
    pub bytes_received_undecrypt: u64,
    /// Between two packets, by the limit that is set; 0 without one.
    pub us_packets_send_period: f64,
    /// Packets that the peer has room for.
    pub packets_flow_window: u64,
    /// Packets sent and not acknowledged.
    pub packets_flight_size: u64,
    #[serde(rename = "msRTT")]
    pub ms_rtt: f64,
    pub mbps_send_rate: f64,
    pub mbps_receive_rate: f64,
    /// As the peer measures it, which a reader does; 0 where nobody said.
    pub mbps_link_capacity: f64,
    pub bytes_avail_send_buf: u64,
    pub bytes_avail_receive_buf: u64,
    /// The limit that is set; 0 is none.
    #[serde(rename = "mbpsMaxBW")]
    pub mbps_max_bw: f64,
    #[serde(rename = "byteMSS")]
    pub byte_mss: u64,
    pub packets_send_buf: u64,
    pub bytes_send_buf: u64,
    pub ms_send_buf: u64,
    /// The latency that both sides agreed on for what is sent.
    pub ms_send_tsb_pd_delay: u64,
    pub packets_receive_buf: u64,
    pub bytes_receive_buf: u64,
    pub ms_receive_buf: u64,
    /// The latency that both sides agreed on for what is received.
    pub ms_receive_tsb_pd_delay: u64,
    /// 0: what is missing is asked for at once.
    pub packets_reorder_tolerance: u64,
    /// Bytes sent again in 100 bytes sent.
    pub packets_send_loss_rate: f64,
    /// Bytes received again in 100 bytes received.
    pub packets_received_loss_rate: f64,
    /// Jumps of a reader that was too slow to the next key frame, in packets of media.
    pub outbound_frames_discarded: u64,
    /// Packets that make no sense, or not now; ours, not in MediaMTX.
    pub packets_ignored: u64,
}

/// Bytes in a second, over the last whole second.
pub(super) struct Rate {
    since: Instant,
    bytes: u64,
    per_second: f64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, per_second: 0.0 }
    }

    pub(super) fn add(&mut self, now: Instant, bytes: usize) {
        self.turn(now);
        self.bytes += bytes as u64;
    }

    pub(super) fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= Duration::from_secs(1) {
            self.per_second = self.bytes as f64 / passed.as_secs_f64();
            (self.since, self.bytes) = (now, 0);
        }
    }

    pub(super) fn bytes_per_second(&self) -> f64 {
        self.per_second
    }
}

/// A smoothed round trip (4.10): the mean and its deviation.
#[derive(Clone, Copy)]
pub(super) struct RoundTrip {
    pub(super) mean: Duration,
    pub(super) deviation: Duration,
    measured: bool,
}

impl Default for RoundTrip {
    fn default() -> Self {
        let [mean, deviation] = [100, 50].map(Duration::from_millis);
        Self { mean, deviation, measured: false }
    }
}

impl RoundTrip {
    pub(super) fn sample(&mut self, trip: Duration) {
        if std::mem::replace(&mut self.measured, true) {
            let off = self.mean.abs_diff(trip);
            self.deviation = (self.deviation * 3 + off) / 4;
            self.mean = (self.mean * 7 + trip) / 8;
        } else {
            (self.mean, self.deviation) = (trip, trip / 2);
        }
    }

    /// After so long an answer is not to be expected any more.
    pub(super) fn limit(&self) -> Duration {
        self.mean + self.deviation * 4
    }
}
