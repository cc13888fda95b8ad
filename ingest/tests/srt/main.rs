//! The SRT server through its socket: real programs publish and read, networks lose packets, and
//! strangers try what they should not.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is tests")]

mod ffmpeg;
#[path = "../../../tests/link/mod.rs"]
mod link;
mod links;
mod node;
mod peers;
mod raw;
mod remote;
mod rough;
