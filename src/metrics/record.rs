//! Figures of recordings and of their way to a store.

use dashboards::metrics::Exposition;

use crate::status::Parts;
use crate::upload::Uploads;

impl Parts {
    pub(super) fn record_metrics(&self, out: &mut Exposition) {
        let recorders = self.recordings.as_ref().map(|r| r.recorders()).unwrap_or_default();
        for recorder in recorders {
            let labels = [("stream", recorder.name.as_str())];
            for (name, help, value) in [
                ("millstream_record_bytes_total", "Bytes recorded", recorder.bytes),
                ("millstream_record_segments_total", "Segments begun", recorder.segments),
                (
                    "millstream_record_lost_packets_total",
                    "Packets that the disk did not take",
                    recorder.lost,
                ),
                (
                    "millstream_record_failed_writes_total",
                    "Times that the disk refused something",
                    recorder.failures,
                ),
            ] {
                out.counter(name, help, &labels, value as f64);
            }
            out.gauge(
                "millstream_record_failing_streams",
                "1 while a stream that should be recorded is not, or not whole",
                &labels,
                f64::from(u8::from(recorder.problem.is_some())),
            );
        }
    }

    pub(super) fn upload_metrics(&self, out: &mut Exposition) {
        let Some(status) = self.uploads.as_ref().map(Uploads::status) else { return };
        for (name, help, value) in [
            (
                "millstream_upload_segments_total",
                "Recorded segments that the store has taken",
                status.segments,
            ),
            ("millstream_upload_bytes_total", "Their bytes", status.bytes),
            (
                "millstream_upload_failed_segments_total",
                "Attempts to send a segment to the store that failed",
                status.failures,
            ),
            (
                "millstream_upload_lost_segments_total",
                "Segments that were gone before the store had them",
                status.lost,
            ),
        ] {
            out.counter(name, help, &[], value as f64);
        }
        let help = "Complete segments that the store does not have";
        out.gauge("millstream_upload_waiting_segments", help, &[], status.waiting as f64);
        let help = "Bytes of complete segments that the store does not have";
        out.gauge("millstream_upload_waiting_bytes", help, &[], status.waiting_bytes as f64);
    }
}
