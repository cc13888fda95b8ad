//! Media words and the frame engine: packets, frames, clock, graph, host nodes and MPEG-TS.
//!
//! This crate is pure Rust and does no input or output of its own. It knows nothing of sockets,
//! trickle, money or vendor libraries; those who do implement its traits ([`stage`]).

#![forbid(unsafe_code)]

pub mod aac;
pub mod annexb;
pub mod audio;
pub mod av1;
mod bits;
pub mod color;
pub mod flac;
pub mod fmp4;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod graph;
pub mod h264;
pub mod hevc;
pub mod mp3;
pub mod mpegts;
mod nodes;
pub mod opus;
pub mod orientation;
pub mod packet;
pub mod run;
pub mod stage;
pub mod time;
pub mod video;
pub mod vp8;
pub mod vp9;

pub use frame::{Frame, Size};
pub use nodes::lettering;
pub use packet::{Codec, Packet, TrackKind, Tracks};
pub use time::{Pts, Ticks};
