//! Stories of the whole node with real clients: ffmpeg, FFmpeg 9, Chromium and aiortc.
//!
//! Publishers send [`card`]s: pictures that carry their number and the time at which they were
//! drawn, as squares that survive coding. Clients read them back from what they show, so that the
//! order, the picture and the delay are known for each picture at each place.
//!
//! `./x test` installs the clients. A test that misses one fails and says so. Figures are printed
//! (`--nocapture`), never asserted: how fast a loaded machine is says nothing about the code.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a story that cannot go on fails; figures are printed"
)]

mod access;
mod acme;
mod always;
mod browser;
mod card;
mod client;
mod control;
mod failover;
mod firefox;
mod flood;
mod forward;
mod graphs;
mod hevc;
mod hls;
mod hooks;
mod http_push;
mod joined;
mod kinds;
#[path = "../link/mod.rs"]
mod link;
mod live;
mod node;
mod observe;
mod openapi;
mod pages;
mod peer;
mod play;
mod process;
mod programs;
mod publish;
mod push;
mod record;
mod reload;
mod renditions;
mod roles;
#[allow(dead_code, reason = "each test uses what it needs")]
#[path = "../../ingest/tests/webrtc/peer.rs"]
mod rtc_peer;
mod rtmp;
mod rtsp;
mod rude;
mod snapshot;
mod soak;
mod sources;
mod srt;
mod store;
mod visits;
mod webrtc;
