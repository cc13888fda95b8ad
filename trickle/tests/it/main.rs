//! Trickle over real sockets on loopback, and in process.

mod faults;
mod peers;
mod stories;
mod support;
mod wire;
