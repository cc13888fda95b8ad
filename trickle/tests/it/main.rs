//! Trickle over real sockets on loopback, and in process.

#![allow(clippy::unwrap_used, reason = "all of this is tests, the support too")]

mod faults;
mod peers;
mod stories;
mod support;
mod wire;
