//! WebRTC through the real socket, thread and routes. The other side is made of the same parts
//! ([`peer`]) where a test must do something wrong, else FFmpeg and aiortc.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests")]

#[path = "webrtc/caller.rs"]
mod caller;
#[path = "webrtc/channels.rs"]
mod channels;
#[path = "webrtc/clients.rs"]
mod clients;
#[path = "webrtc/codings.rs"]
mod codings;
#[path = "webrtc/harness.rs"]
mod harness;
#[path = "webrtc/http.rs"]
mod http_routes;
#[path = "../../tests/link/mod.rs"]
mod link;
#[path = "webrtc/peer.rs"]
mod peer;
#[path = "webrtc/publisher.rs"]
mod publisher;
#[path = "webrtc/pull.rs"]
mod pull;
#[path = "webrtc/security.rs"]
mod security;
#[path = "webrtc/server.rs"]
mod server;
#[path = "webrtc/simulcast.rs"]
mod simulcast;
#[path = "webrtc/tcp.rs"]
mod tcp;
#[path = "webrtc/viewer.rs"]
mod viewer;
#[path = "webrtc/workers.rs"]
mod workers;
