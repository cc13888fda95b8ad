//! RTMP over TLS, the RTMP client, many viewers and odd sources: against ffmpeg 5, FFmpeg 9,
//! GStreamer and our own server.

#![allow(clippy::unwrap_used)]

mod client;
mod crowd;
mod kit;
mod multitrack;
mod odd;
mod tls;
