//! What the fuzzer drives: each parser of bytes from peers, with inputs to begin from.

/// One parser under test.
pub struct Target {
    /// Unique in this crate.
    pub name: &'static str,
    /// Must end without a panic, in bounded time and memory, whatever the bytes.
    pub run: fn(&[u8]),
    /// Inputs that get far into the parser.
    pub seeds: &'static [&'static [u8]],
}

use crate::hls::fuzz as hls;
use crate::hls_pull::fuzz as hls_pull;
use crate::matroska::fuzz as matroska;
use crate::record::fuzz as record;
use crate::rtmp::fuzz as rtmp;
use crate::rtp::fuzz as rtp;
use crate::rtsp::fuzz as rtsp;
use crate::srt::fuzz as srt;
use crate::webrtc::fuzz as webrtc;

/// All of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "hls-request", run: hls::request, seeds: hls::REQUEST_SEEDS },
    Target { name: "record-request", run: record::request, seeds: record::REQUEST_SEEDS },
    Target { name: "hls-playlist", run: hls_pull::playlist, seeds: hls_pull::PLAYLIST_SEEDS },
    Target { name: "hls-segment", run: hls_pull::segment, seeds: hls_pull::SEGMENT_SEEDS },
    Target { name: "matroska-file", run: matroska::file, seeds: matroska::FILE_SEEDS },
    Target { name: "rtmp-handshake", run: rtmp::handshake, seeds: rtmp::HANDSHAKE_SEEDS },
    Target { name: "rtmp-session", run: rtmp::session, seeds: rtmp::SESSION_SEEDS },
    Target { name: "rtmp-call", run: rtmp::call, seeds: rtmp::CALL_SEEDS },
    Target { name: "rtmp-amf", run: rtmp::amf, seeds: rtmp::AMF_SEEDS },
    Target { name: "rtmp-media", run: rtmp::media, seeds: rtmp::MEDIA_SEEDS },
    Target { name: "rtp-header", run: rtp::header, seeds: rtp::HEADER_SEEDS },
    Target { name: "rtp-depacketise", run: rtp::depacketise, seeds: rtp::DEPACKETISE_SEEDS },
    Target { name: "rtcp", run: rtp::rtcp, seeds: rtp::RTCP_SEEDS },
    Target { name: "rtsp-session", run: rtsp::session, seeds: rtsp::SESSION_SEEDS },
    Target { name: "rtsp-media", run: rtsp::media, seeds: rtsp::MEDIA_SEEDS },
    Target { name: "rtsp-call", run: rtsp::call, seeds: rtsp::CALL_SEEDS },
    Target { name: "rtsp-headers", run: rtsp::headers, seeds: rtsp::HEADERS_SEEDS },
    Target { name: "srt-handshake", run: srt::handshake, seeds: srt::HANDSHAKE_SEEDS },
    Target { name: "srt-connection", run: srt::connection, seeds: srt::CONNECTION_SEEDS },
    Target { name: "srt-stream-id", run: srt::stream_id, seeds: srt::STREAM_ID_SEEDS },
    Target { name: "webrtc-offer", run: webrtc::offer, seeds: webrtc::OFFER_SEEDS },
    Target { name: "webrtc-answer", run: webrtc::answer, seeds: webrtc::ANSWER_SEEDS },
    Target { name: "webrtc-fragment", run: webrtc::fragment, seeds: webrtc::FRAGMENT_SEEDS },
    Target { name: "webrtc-datagram", run: webrtc::datagram, seeds: webrtc::DATAGRAM_SEEDS },
    Target { name: "webrtc-channels", run: webrtc::channels, seeds: webrtc::CHANNELS_SEEDS },
    Target { name: "webrtc-tcp", run: webrtc::tcp, seeds: webrtc::TCP_SEEDS },
    Target { name: "webrtc-path", run: webrtc::path, seeds: webrtc::PATH_SEEDS },
];

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn every_target_bears_its_seeds_and_broken_forms_of_them() {
        let mut chance = StdRng::seed_from_u64(7);
        for target in TARGETS {
            assert!(!target.seeds.is_empty(), "{}", target.name);
            for seed in target.seeds {
                (target.run)(seed);
                for _ in 0..500 {
                    let mut bytes = seed.to_vec();
                    for _ in 0..chance.random_range(1..6) {
                        let at = chance.random_range(0..bytes.len());
                        bytes[at] = chance.random();
                    }
                    bytes.truncate(chance.random_range(1..=bytes.len()));
                    (target.run)(&bytes);
                }
            }
        }
    }
}
