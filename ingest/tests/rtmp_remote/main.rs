//! RTMP over TLS, and the RTMP client: against ffmpeg 5, FFmpeg 9, GStreamer and our own server.

#![allow(clippy::unwrap_used)]

mod client;
mod kit;
mod tls;
