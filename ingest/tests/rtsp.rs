//! The RTSP server with real clients: ffmpeg 5 and 9 and GStreamer; and with bad ones beside them.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "rtsp/client.rs"]
mod client;
#[path = "rtsp/ffmpeg.rs"]
mod ffmpeg;
#[path = "rtsp/gstreamer.rs"]
mod gstreamer;
#[path = "rtsp/harness.rs"]
mod harness;
#[path = "rtsp/remote.rs"]
mod remote;
#[path = "rtsp/rude.rs"]
mod rude;
