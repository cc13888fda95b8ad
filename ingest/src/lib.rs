//! The node's edge towards people: everything that faces publishers and viewers, and the hub
//! between them.
//!
//! Listeners turn foreign media into [`hub::Writer`] calls or [`hub::Reader`] items into foreign
//! media. This crate knows nothing of orchestrators, trickle, tickets or devices.

#![forbid(unsafe_code)]

pub mod auth;
mod counters;
mod credentials;
pub mod file;
#[doc(hidden)]
pub mod fuzz;
pub mod half_open;
pub mod hls;
pub mod hls_pull;
pub mod http_push;
pub mod hub;
pub(crate) mod matroska;
pub mod mp4;
pub mod mpegts;
pub mod name;
mod paced;
pub mod record;
mod refuse;
pub mod remote;
pub mod rtmp;
pub mod rtp;
pub mod rtsp;
mod segment;
pub mod sessions;
pub mod srt;
pub mod views;
pub mod webrtc;

pub use hub::Hub;
pub use name::StreamName;
