//! Media words and the frame engine: packets, frames, clock, graph, host nodes and MPEG-TS.
//!
//! This crate is pure Rust and does no input or output of its own. It knows nothing of sockets,
//! trickle, money or vendor libraries; those who do implement its traits ([`stage`]).

#![forbid(unsafe_code)]

pub mod aac;
pub mod annexb;
mod bits;
pub mod color;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod graph;
pub mod h264;
pub mod mpegts;
mod nodes;
pub mod opus;
pub mod packet;
pub mod run;
pub mod stage;
pub mod time;

pub use frame::{Frame, Size};
pub use packet::{Codec, Packet, TrackKind, Tracks};
pub use time::{Pts, Ticks};
